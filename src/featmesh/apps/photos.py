"""Photos in, result folders out: the loop behind ``featmesh estimate`` and ``featmesh demo``."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featmesh.errors import FeatmeshError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box
from featmesh.inference.config import EstimateConfig
from featmesh.inference.describe import Estimate, result_json
from featmesh.paths import write_whole
from featmesh.photo.camera_file import read_camera_file
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.present.html import write_html
from featmesh.present.meshfile import write_glb
from featmesh.present.overlay import overlay

SHAPE_FILE = "shape.glb"
log = logging.getLogger(__name__)


@runtime_checkable
class Model(Protocol):
    """What the loop itself needs of a category model."""

    category: str
    hash: str

    def shape_space(self, who: str) -> Any:
        """Return the shape space, or raise E_CKPT_PART."""


@dataclass(frozen=True)
class Request:
    """What is asked of each photo.

    Attributes:
        box: of the object, pixels of the displayed photo.
        focal_px: focal length, pixels.
        fov: horizontal field of view, degrees.
        camera_file: JSON with K, width, height.
        task: what to estimate; ``shape`` is the pose and then the object's own shape.
        search: settings of the method.
        allow_truncated: use what can be read of a truncated photo.
    """

    box: Box | None = None
    focal_px: float | None = None
    fov: float | None = None
    camera_file: Path | None = None
    task: Literal["pose", "shape"] = "pose"
    search: EstimateConfig = field(default_factory=EstimateConfig)
    allow_truncated: bool = False


@dataclass(frozen=True)
class PhotoResult:
    """What came of one photo: its folder, the estimate, and the ``result.json`` document."""

    path: Path
    folder: Path
    estimate: Estimate
    document: dict[str, Any]


def estimate_photos(
    model: tuple[str, Model], paths: Sequence[Path], out: Path, request: Request
) -> list[PhotoResult]:
    """Estimate each photo and write its folder; a photo that cannot be used stops no other.

    Args:
        model: its name and itself.
        paths: photos.
        out: folder of the result folders.
        request: the same for each photo.

    Raises:
        CheckpointError: E_CKPT_PART where the task is ``shape`` and the model has no shape space.
    """
    name, category = model
    if request.task == "shape":  # else every photo would be to blame
        category.shape_space("estimate")
    results = []
    for path, folder in zip(paths, folders(paths, out), strict=True):
        photo, estimate = _estimate(category, path, request)
        document = result_json(path, photo, name, category.hash, [estimate])
        if estimate.shape is not None:
            document["objects"][0]["shape"]["file"] = SHAPE_FILE
        write(folder, photo, estimate, document)
        results.append(PhotoResult(path, folder, estimate, document))
    return results


def folders(paths: Sequence[Path], out: Path) -> list[Path]:
    """Return the result folder of each photo: its stem; equal stems get -2, -3."""
    taken: set[str] = set()
    chosen = []
    for path in paths:
        stem = path.stem.strip(". ") or "photo"  # never the folder above
        names = (stem if k == 1 else f"{stem}-{k}" for k in range(1, len(paths) + 2))
        name = next(n for n in names if n.casefold() not in taken)
        taken.add(name.casefold())
        chosen.append(out / name)
    return chosen


def _estimate(model: Any, path: Path, request: Request) -> tuple[Photo | None, Estimate]:
    """Return the photo, if it can be read, and its estimate; what is wrong with it is a value."""
    from featmesh.inference.estimator import estimate

    photo = None
    try:
        photo = read_photo(path, allow_truncated=request.allow_truncated)
        camera = camera_of(request, photo)
        return photo, estimate(model, photo, request.box, camera, request.task, request.search)
    except FeatmeshError as error:
        return photo, Estimate.refused(model.category, error)
    except (RuntimeError, ArithmeticError, ValueError, IndexError, MemoryError) as error:
        log.debug("estimate of %s failed", path, exc_info=True)
        fault = InputError(
            "E_INTERNAL",
            f"estimate(): expected a result, got {type(error).__name__} ({error}); "
            "try: report it together with the photo",
        )
        return photo, Estimate.refused(model.category, fault)


def camera_of(request: Request, photo: Photo) -> Camera | None:
    """Return the camera that the request gives the photo, None where it gives none.

    Raises:
        InputError: E_CAMERA where no lens is like that, or the file is of another picture size.
    """
    size = (photo.height, photo.width)
    if request.focal_px is not None:
        f = request.focal_px
        return Camera(f, f, size[1] / 2, size[0] / 2, *size).checked()
    if request.fov is not None:
        return Camera.from_fov(math.radians(request.fov), size)
    return read_camera_file(request.camera_file, size) if request.camera_file else None


def write(folder: Path, photo: Photo | None, estimate: Estimate, document: dict[str, Any]) -> None:
    """Write ``result.json``, for a usable photo ``overlay.png`` and ``result.html``, and the shape.

    The shape, ``shape.glb``, is the object's own surface in the unit of t.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in ("overlay.png", "result.html", SHAPE_FILE):  # of an earlier run
        (folder / stale).unlink(missing_ok=True)
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(folder / "result.json", text)
    if photo is not None and estimate.status != "bad_input":
        Image.fromarray(overlay(photo, estimate)).save(folder / "overlay.png")
        write_html(folder / "result.html", photo, estimate, document)
    if estimate.shape is not None:
        write_glb(folder / SHAPE_FILE, estimate.shape.mesh, estimate.shape.unit)


def show(results: Sequence[PhotoResult]) -> None:
    """Print the estimates as a table, and the shapes, where there are any, as another."""
    table = Table("photo", "status")
    for heading in ("azimuth", "elevation", "in-plane", "distance", "score", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("written to", overflow="fold")
    for result in results:
        row = result.document["objects"][0]
        keys = ("azimuth", "elevation", "theta", "distance")
        pose = [row[key] if result.estimate.has_pose else None for key in keys]
        spent = _cell(sum(result.document["seconds"].values()) or None, ".2f")
        numbers = [*(_cell(v, ".1f", "°") for v in pose[:3]), _cell(pose[3], ".2f")]
        numbers += [_cell(row["score"], ".3f"), spent]
        names = escape(result.path.name), escape(str(result.folder))
        table.add_row(names[0], row.get("code", row["status"]), *numbers, names[1])
    console = Console()
    console.print(table)
    if any(result.estimate.shape for result in results):
        console.print(_sizes(results))


def faults(results: Sequence[PhotoResult]) -> list[str]:
    """Return a line for each photo that could not be used: its code, and what to try."""
    return [f"{r.path}: {r.estimate.message}" for r in results if r.estimate.status == "bad_input"]


def _sizes(results: Sequence[PhotoResult]) -> Table:
    """Return the table of the shapes."""
    table = Table("photo", "unit")
    for heading in ("length", "width", "height", "latent norm"):
        table.add_column(heading, justify="right")
    table.add_column("shape")
    for result in results:
        shape = result.estimate.shape
        if shape is not None:
            digits = ".2f" if shape.unit == "metre" else ".3f"
            size = [format(value, digits) for value in shape.dimensions]
            norm = f"{math.hypot(*shape.latent.tolist()):.2f}"
            kept = "fitted" if shape.accepted else "mean (fitting it explained no more)"
            table.add_row(escape(result.path.name), shape.unit, *size, norm, kept)
    return table


def _cell(value: float | None, style: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{style}}{unit}"
