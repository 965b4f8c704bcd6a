"""The frames of a video: pictures in a folder or a list, an animation, a film (with ``av``)."""

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featmesh.errors import BackendUnavailable, FeatmeshError, InputError
from featmesh.photo.files import open_regular
from featmesh.photo.listed import PICTURES
from featmesh.photo.photo import Photo
from featmesh.photo.read import MAX_PIXELS, read_photo
from featmesh.photo.sniff import SNIFF_BYTES, sniff

FILMS = {"MP4 or QuickTime video": "mov", "Matroska or WebM video": "matroska"}
ANIMATED = ("GIF", "WEBP", "PNG")
FPS = 25.0  # of pictures, which do not say

Frame = tuple[str, Photo | FeatmeshError]


@dataclass(frozen=True)
class Film:
    """Frames that can be gone through, more than once.

    Attributes:
        fps: frames a second.
        count: how many there should be; a film may be wrong about itself.
        frames: begins anew at each call; name of each frame, and the frame or why there is none.
    """

    fps: float
    count: int
    frames: Callable[[], Iterator[Frame]]


def open_film(
    paths: Sequence[Path], pattern: str = "*", fps: float | None = None, truncated: bool = False
) -> Film:
    """Return the frames of a folder, of a list of pictures, of an animation or of a film.

    Args:
        paths: pictures in order; or one folder, whose pictures are taken in the order of their
            names, numbers as numbers; or one GIF, animated PNG or WebP; or one MP4, MOV, MKV, WebM.
        pattern: which files of a folder.
        fps: frames a second; None: what the file says, 25 for pictures.
        truncated: use what can be read of truncated pictures.

    Raises:
        InputError: E_IO where there is nothing, E_IMG_FORMAT where it cannot be read, E_CONFIG for
            a rate that makes no sense.
        BackendUnavailable: E_BACKEND for a film without the package ``av``.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise _bad("E_CONFIG", "a rate above 0 and up to 1000 frames/s", f"{fps}", "25")
    if len(paths) == 1 and not paths[0].is_dir():
        with open_regular(paths[0], "track") as file:
            kind = sniff(file.read(SNIFF_BYTES))
        if kind in FILMS:
            return _film(paths[0], FILMS[kind], fps)
        if kind in ANIMATED and (animation := _animation(paths[0], fps)):
            return animation
    names = _listed(paths[0], pattern) if len(paths) == 1 and paths[0].is_dir() else list(paths)
    if not names:
        where = f"none in {paths[0]}" if paths else "none"
        raise _bad("E_IO", "pictures", where, "a folder of frames, a GIF or an MP4")

    def pictures() -> Iterator[Frame]:
        for name in names:
            try:
                yield str(name), read_photo(name, allow_truncated=truncated)
            except FeatmeshError as error:
                yield str(name), error

    return Film(fps or FPS, len(names), pictures)


def _listed(folder: Path, pattern: str) -> list[Path]:
    """Return the pictures of a folder, frame2 before frame10."""

    def key(path: Path) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", path.name)
        return [(int(p.isdecimal()), int(p) if p.isdecimal() else 0, p) for p in parts]

    found = (p for p in folder.glob(pattern) if p.is_file() and p.suffix.lower() in PICTURES)
    return sorted(found, key=key)


def _animation(path: Path, fps: float | None) -> Film | None:
    """Return the frames of an animated picture; None for a still one."""
    read_photo(path)  # refuses by the header what is too large or broken
    with Image.open(path) as image:
        count, pause = getattr(image, "n_frames", 1), float(image.info.get("duration", 0) or 0)
    if count < 2:
        return None

    def frames() -> Iterator[Frame]:
        with Image.open(path) as image:
            for k in range(count):
                try:
                    image.seek(k)
                    pixels = np.asarray(_flat(image))
                except (OSError, ValueError, EOFError, SyntaxError) as error:
                    yield (
                        str(path),
                        _bad("E_IMG_TRUNCATED", f"frame {k} of {path}", f"{error}", "export it"),
                    )
                    return
                yield str(path), Photo.from_array(pixels)

    return Film(fps or (1000 / pause if pause > 0 else FPS), count, frames)


def _flat(image: Image.Image) -> Image.Image:
    """Return a frame without transparency."""
    seen = image.convert("RGBA")
    ground = Image.new("RGBA", seen.size, (124, 116, 104, 255))
    return Image.alpha_composite(ground, seen).convert("RGB")


def _film(path: Path, container: str, fps: float | None) -> Film:
    """Return the frames of a film; the container is told, so that no playlist is followed."""
    av = film_library("to read films")
    try:
        with open_regular(path, "track") as file, av.open(file, format=container) as film:
            stream = film.streams.video[0]
            size, rate = (stream.width, stream.height), stream.average_rate or Fraction(25)
            count = stream.frames or round((film.duration or 0) * rate / 1_000_000)
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise _bad("E_IMG_FORMAT", f"a film in {path}", f"{error}", "convert it to MP4") from error
    if size[0] * size[1] > MAX_PIXELS:
        raise _bad("E_IMG_TOO_LARGE", f"up to {MAX_PIXELS} px", f"{size}", "a smaller film")

    def frames() -> Iterator[Frame]:
        with open_regular(path, "track") as file, av.open(file, format=container) as film:
            stream = film.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for frame in film.decode(stream):
                    turns = round(getattr(frame, "rotation", 0) / 90)
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
                    yield str(path), Photo.from_array(np.ascontiguousarray(pixels))
            except av.error.FFmpegError as error:
                hint = "download or export it again"
                yield (
                    str(path),
                    _bad("E_IMG_TRUNCATED", f"a whole film in {path}", f"{error}", hint),
                )

    return Film(fps or float(rate), max(count, 1), frames)


def film_library(why: str) -> Any:
    """Return the package ``av``.

    Args:
        why: what it is wanted for, e.g. ``"to read films"``.

    Raises:
        BackendUnavailable: E_BACKEND where it is missing or broken.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise BackendUnavailable(
            "E_BACKEND",
            f"track: expected the package av {why}, got {error}; "
            "try: pip install 'featmesh[video]', or a folder of frames and --overlay gif",
        ) from error


def _bad(code: str, expected: str, got: str, hint: str) -> InputError:
    return InputError(code, f"track: expected {expected}, got {got}; try: {hint}")
