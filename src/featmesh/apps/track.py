"""A video in; out a line a frame, ``track.jsonl``, and the object drawn over it (film or GIF)."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from featmesh.errors import BackendUnavailable, FeatmeshError
from featmesh.inference.result import result_json
from featmesh.inference.track import TrackedFrame, Tracker, smoothed
from featmesh.inference.track_config import TrackConfig
from featmesh.photo.photo import Photo
from featmesh.present.overlay import overlay
from featmesh.progress import Stream
from featmesh.progress import track as shown

from .photos import Request, camera_of
from .track_frames import Film, film_library, open_film

ROWS, FILM, GIF = "track.jsonl", "overlay.mp4", "overlay.gif"
GIF_SIDE = 480  # longest side of the GIF, pixels
GIF_FPS = 50.0  # viewers show faster ones slowly
COLOURS = {"tracked": (90, 220, 120), "lost": (255, 80, 80)}
FOUND_ANEW = (255, 196, 40)

Smooth = Literal["causal", "both", "none"]
Overlay = Literal["auto", "mp4", "gif", "none"]


@dataclass(frozen=True)
class TrackRequest:
    """What is asked of a video.

    Attributes:
        each: box in the first frame, camera and search of every frame.
        config: how the object is followed.
        smooth: ``causal``, each frame from those before it; ``both``, from those after it too, once
            all are done; ``none``.
        width: of ``both``, standard deviation of the weights, frames.
        overlay: ``auto`` is an MP4 where ``av`` is there, else a GIF.
        fps: frames a second; None: what the video says.
        pattern: which files of a folder.
    """

    each: Request = field(default_factory=Request)
    config: TrackConfig = field(default_factory=TrackConfig)
    smooth: Smooth = "causal"
    width: float = 2.0
    overlay: Overlay = "auto"
    fps: float | None = None
    pattern: str = "*"


@dataclass(frozen=True)
class TrackSummary:
    """What came of a video.

    Attributes:
        out: folder of the files.
        files: that were written.
        frames: how many there were.
        how: how many of each kind: started, tracked, restarted, lost.
        codes: how many frames of each error code.
        tracks: how many tracks.
        seconds: of the whole run.
        frame_seconds: median of the tracked frames, the method alone.
    """

    out: Path
    files: tuple[str, ...]
    frames: int
    how: dict[str, int]
    codes: dict[str, int]
    tracks: int
    seconds: float
    frame_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        told = vars(self) | {"out": str(self.out), "files": list(self.files)}
        median = None if self.frame_seconds is None else round(self.frame_seconds, 4)
        return told | {"seconds": round(self.seconds, 2), "frame_seconds": median}


def run_track(
    model: tuple[str, Any],
    paths: Sequence[Path],
    out: Path,
    request: TrackRequest | None = None,
    stream: Stream | None = None,
) -> TrackSummary:
    """Follow one object through a video and write what was found into a folder.

    Args:
        model: its name and itself.
        paths: see :func:`featmesh.apps.track_frames.open_film`.
        out: made where it is missing; its ``track.jsonl`` and overlay are written anew.
        request: what is asked.
        stream: where progress is shown; default is the standard error output.

    Raises:
        InputError: as :func:`featmesh.track`, E_IO where nothing can be written.
        BackendUnavailable: E_BACKEND for a film without ``av``.
    """
    asked, start = request or TrackRequest(), time.monotonic()
    film = open_film(paths, asked.pattern, asked.fps, asked.each.allow_truncated)
    out.mkdir(parents=True, exist_ok=True)
    for name in (ROWS, FILM, GIF):
        (out / name).unlink(missing_ok=True)
    seen = _seen(model[1], film, asked)
    done = shown(seen, film.count, "track", stream)
    if asked.smooth == "both":
        done = _again(film, smoothed([_light(frame) for _, _, frame in done], asked.width))
    how, codes, tracks, spent = Counter[str](), Counter[str](), set[int | None](), list[float]()
    with (
        (out / ROWS).open("w", encoding="utf-8", newline="\n") as rows,
        _canvas(out, asked.overlay, film.fps) as canvas,
    ):
        for name, photo, frame in done:
            rows.write(json.dumps(_row(name, photo, frame, model), allow_nan=False) + "\n")
            rows.flush()
            if photo is not None:
                canvas.add(captioned(overlay(photo, frame.estimate), frame))
            how[frame.how] += 1
            codes.update([frame.estimate.code] if frame.estimate.code else [])
            tracks.add(frame.track)
            if frame.how == "tracked":
                spent.append(sum(frame.estimate.seconds.values()))
    files = tuple(n for n in (ROWS, FILM, GIF) if (out / n).exists())
    median = float(np.median(spent)) if spent else None
    told = (dict(how), dict(codes), len(tracks - {None}))
    return TrackSummary(out, files, how.total(), *told, time.monotonic() - start, median)


Seen = tuple[str, Photo | None, TrackedFrame]


def _seen(model: Any, film: Film, asked: TrackRequest) -> Iterator[Seen]:
    """Yield name, picture and result of each frame; one that cannot be read has no picture."""
    tracker, box = None, asked.each.box
    config = replace(asked.config, smoothing=0.0) if asked.smooth == "none" else asked.config
    for name, photo in film.frames():
        if tracker is None:
            camera = None if isinstance(photo, FeatmeshError) else camera_of(asked.each, photo)
            tracker = Tracker(model, camera, config, asked.each.search)
        if isinstance(photo, FeatmeshError):
            yield name, None, tracker.skip(photo)
            continue
        yield name, photo, tracker.see(photo, box)
        box = None


def _light(frame: TrackedFrame) -> TrackedFrame:
    """Return the frame without its maps, of which a long video would fill the memory."""
    return replace(frame, estimate=replace(frame.estimate, maps=None))


def _again(film: Film, frames: Sequence[TrackedFrame]) -> Iterator[Seen]:
    """Yield the pictures of a video once more, with what has become of each."""
    for (name, photo), frame in zip(film.frames(), frames, strict=False):
        yield name, None if isinstance(photo, FeatmeshError) else photo, frame


def _row(
    name: str, photo: Photo | None, frame: TrackedFrame, model: tuple[str, Any]
) -> dict[str, Any]:
    """Return the line of a frame: what ``result.json`` has, and how it was tracked."""
    whole = result_json(name, photo, model[0], model[1].hash, [frame.estimate])
    return frame.to_json() | whole


def captioned(picture: UInt8[np.ndarray, "h w 3"], frame: TrackedFrame) -> Image.Image:
    """Return a picture with frame number, how it was tracked and how sure, in its corner."""
    image, sure = Image.fromarray(picture), frame.estimate.confidence
    words = f"{frame.frame}  {frame.how}"
    words += f"  {sure:.0%}" if sure is not None and frame.estimate.has_pose else ""
    size = max(11, image.height // 28)
    font, draw = ImageFont.load_default(size), ImageDraw.Draw(image, "RGBA")
    left, top, right, bottom = draw.textbbox((size // 2, size // 2), words, font=font)
    edge = size // 3
    draw.rectangle((left - edge, top - edge, right + edge, bottom + edge), fill=(0, 0, 0, 150))
    colour = COLOURS.get(frame.how, FOUND_ANEW)
    draw.text((size // 2, size // 2), words, font=font, fill=colour)
    return image


class Canvas:
    """Takes no pictures; those that do are made from it."""

    def add(self, picture: Image.Image) -> None:
        """Take the next picture."""

    def close(self) -> None:
        """Write what there is to be written."""

    def __enter__(self) -> "Canvas":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()  # after an interruption too: what is there can be looked at


class GifCanvas(Canvas):
    """An animated GIF, at most 480 pixels wide or high; needs nothing but Pillow."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.pictures = path, list[Image.Image]()
        self.pause = max(1000 / fps, 1000 / GIF_FPS)

    def add(self, picture: Image.Image) -> None:
        """Take the next picture."""
        small = picture.copy()
        small.thumbnail((GIF_SIDE, GIF_SIDE), Image.Resampling.BOX)
        self.pictures.append(small.quantize(128, Image.Quantize.FASTOCTREE))

    def close(self) -> None:
        """Write the file."""
        if self.pictures:
            first, *rest = self.pictures
            told: dict[str, Any] = {"duration": round(self.pause), "loop": 0}
            first.save(self.path, "GIF", save_all=True, append_images=rest, **told)


class FilmCanvas(Canvas):
    """An MP4 (H.264, which every browser plays)."""

    def __init__(self, path: Path, fps: float) -> None:
        self.av = film_library("to write films")
        self.film = self.av.open(str(path), "w")
        codec = "libx264" if "libx264" in self.av.codecs_available else "mpeg4"
        self.stream: Any = None  # made with the first picture, whose size it has
        self.size = (0, 0)
        self.codec, self.rate = codec, round(fps * 1000)

    def add(self, picture: Image.Image) -> None:
        """Take the next picture; all get the size of the first, even as the format has it."""
        if self.stream is None:
            self.size = (picture.width // 2 * 2, picture.height // 2 * 2)
            self.stream = self.film.add_stream(self.codec, rate=Fraction(self.rate, 1000))
            self.stream.width, self.stream.height = self.size
            self.stream.pix_fmt = "yuv420p"
        near = max(abs(a - b) for a, b in zip(picture.size, self.size, strict=True)) <= 1
        fitting = picture.crop((0, 0, *self.size)) if near else picture.resize(self.size)
        frame = self.av.VideoFrame.from_ndarray(np.asarray(fitting), format="rgb24")
        self.film.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write the file."""
        if self.stream is not None:
            self.film.mux(self.stream.encode())
        self.film.close()


def _canvas(out: Path, kind: Overlay, fps: float) -> Canvas:
    """Return what the overlay is drawn on."""
    if kind == "none":
        return Canvas()
    if kind == "gif":
        return GifCanvas(out / GIF, fps)
    try:
        return FilmCanvas(out / FILM, fps)
    except BackendUnavailable:
        if kind == "mp4":
            raise
        return GifCanvas(out / GIF, fps)
