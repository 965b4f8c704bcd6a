"""Follow one object through a video; writes OUT/track.jsonl, a line a frame, and an overlay.

The video is a folder of frames, a list of them, an animated GIF, or a film (with featmesh[video]).
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from featmesh.inference.config import EstimateConfig
from featmesh.inference.track_config import TrackConfig

from . import exits

if TYPE_CHECKING:
    from featmesh.apps.track import TrackSummary


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh track``."""

    frames: tyro.conf.Positional[tuple[Path, ...]]
    """A folder of pictures, pictures in order, a GIF, or a film (MP4, MOV, MKV, WebM)."""
    model: str = "car"
    """Name of a bundled model, or a model folder."""
    box: tuple[float, float, float, float] | None = None
    """X0 Y0 X1 Y1 of the object in the first frame, pixels; default: the clearest object."""
    focal_px: float | None = None
    """Focal length in pixels."""
    fov: float | None = None
    """Horizontal field of view in degrees."""
    camera: Path | None = None
    """Camera file: {"K": [[..]], "width": .., "height": ..}."""
    out: Path = Path("results/track")
    """Folder to write to."""
    smooth: Literal["causal", "both", "none"] = "causal"
    """Smooth each pose by those before it; by those before and after it, at the end; or not."""
    overlay: Literal["auto", "mp4", "gif", "none"] = "auto"
    """The object drawn over the frames; auto: MP4 where the package av is there, else GIF."""
    fps: float | None = None
    """Frames a second of the overlay; default: the video's, 25 for pictures."""
    pattern: str = "*"
    """Which files of a folder, as *.jpg."""
    allow_truncated: bool = False
    """Use what can be read of truncated frames."""
    json: bool = False
    """Print the summary as JSON."""
    config: Annotated[TrackConfig, tyro.conf.arg(name="")] = field(default_factory=TrackConfig)
    """How the object is followed."""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """How it is found, and found again."""


def run(arguments: Arguments) -> int:
    """Follow the object; 0 unless it was in no frame."""
    a = arguments
    if sum(value is not None for value in (a.focal_px, a.fov, a.camera)) > 1:
        raise exits.UsageError(
            "E_CAMERA: track: expected one of --focal-px, --fov, --camera, got several; "
            "try: keep the one you trust most"
        )
    from featmesh.apps.photos import Request, asked_models
    from featmesh.apps.track import TrackRequest, run_track

    each = Request(a.box, a.focal_px, a.fov, a.camera, "pose", a.search, a.allow_truncated)
    request = TrackRequest(
        each, a.config, a.smooth, overlay=a.overlay, fps=a.fps, pattern=a.pattern
    )
    models = asked_models(a.model)
    if len(models) > 1:
        got = f"{len(models)}"
        raise exits.UsageError(f"E_MODEL: track: expected one model, got {got}; try: --model car")
    summary = run_track(models[0], a.frames, a.out, request)
    if a.json:
        sys.stdout.write(json.dumps(summary.to_json(), indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(_lines(summary))
    return exits.FAILED if summary.how.get("lost", 0) == summary.frames else 0


def _lines(summary: "TrackSummary") -> str:
    """Return the summary as a few lines."""
    counts = ", ".join(f"{count} {how}" for how, count in summary.how.items())
    codes = ", ".join(f"{count} {code}" for code, count in summary.codes.items())
    median = summary.frame_seconds
    speed = "" if median is None else f"{1000 * median:.0f} ms a tracked frame, "
    rows = {
        "frames": f"{summary.frames}: {counts}" + (f"; {codes}" if codes else ""),
        "tracks": str(summary.tracks),
        "time": f"{speed}{summary.seconds:.1f} s in all",
        "written": ", ".join(str(summary.out / name) for name in summary.files),
    }
    return "".join(f"{name:<9}{told}\n" for name, told in rows.items())
