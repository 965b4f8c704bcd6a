"""Photos in, result folders out: the loop behind ``featmesh estimate`` and ``featmesh demo``."""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featmesh.errors import CheckpointError, FeatmeshError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box
from featmesh.inference.config import EstimateConfig
from featmesh.inference.result import Estimate, result_json
from featmesh.model.labels import Labels
from featmesh.photo.camera_file import read_camera_file
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.progress import patience, track
from featmesh.stopwatch import Stopwatch

from .result_files import Found, with_files, write

MANY = 5  # photos, of which a log is told how far they are
SLOW = "estimate: at work; a first photo takes longer, for compiling (once) and tables of views"
NO_SHAPES = "the model has no shape space: segmented with its mean shape"
NO_LABELS = "the model has no part labels: no parts; try: --labels FILE"
RESERVED = {  # names that Windows gives to devices, whatever follows a dot
    *("con", "prn", "aux", "nul"),
    *(f"{device}{k}" for device in ("com", "lpt") for k in range(1, 10)),
}
log = logging.getLogger(__name__)


@runtime_checkable
class Model(Protocol):
    """What the loop itself needs of a category model."""

    category: str
    hash: str
    labels: Labels | None

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
        task: what to estimate; ``shape`` is the pose and then the object's own shape, ``segment``
            also writes depth and surface coordinates. Masks and parts come with every task.
        search: settings of the method.
        allow_truncated: use what can be read of a truncated photo.
        every: every object of the category, front to back, not the clearest one alone; no box then.
    """

    box: Box | None = None
    focal_px: float | None = None
    fov: float | None = None
    camera_file: Path | None = None
    task: Literal["pose", "shape", "segment"] = "pose"
    search: EstimateConfig = field(default_factory=EstimateConfig)
    allow_truncated: bool = False
    every: bool = False


@dataclass(frozen=True)
class PhotoResult:
    """What came of one photo: its folder, an estimate an object, the ``result.json`` document."""

    path: Path
    folder: Path
    estimates: tuple[Estimate, ...]
    document: dict[str, Any]

    @property
    def estimate(self) -> Estimate:
        """The estimate of the first object."""
        return self.estimates[0]


def asked_models(told: str, labels: Path | None = None) -> list[tuple[str, Any]]:
    """Return the models that are asked for, each with its name.

    Args:
        told: name of a bundled model or a folder; several, joined by commas; ``any``: one of each
            bundled category.
        labels: file with parts of the surface of the one model, in place of its own.

    Raises:
        CheckpointError: as :func:`featmesh.load`.
    """
    from featmesh.model.checkpoint import bundled_categories, load_all
    from featmesh.model.labels import read_labels

    every = bundled_categories() if told == "any" else []
    names = [told] if Path(told).exists() else every or told.split(",")
    models = load_all(names)
    if labels is not None:
        models = [replace(m, labels=read_labels(labels, m.template)) for m in models]
    return [(Path(name).name, model) for name, model in zip(names, models, strict=True)]


def estimate_photos(
    models: Sequence[tuple[str, Model]],
    paths: Sequence[Path],
    out: Path,
    request: Request,
    keep: bool = True,
) -> list[PhotoResult]:
    """Estimate each photo and write its folder; a photo that cannot be used stops no other.

    Args:
        models: the name of each and itself; of several, the one that explains a photo best.
        paths: photos.
        out: folder of the result folders.
        request: the same for each photo; ``every`` goes with one model.
        keep: hand back masks and feature maps too, which are as large as the photos; no: they are
            let go of once they are written.

    Raises:
        CheckpointError: E_CKPT_PART where the task is ``shape`` and a model has no shape space.
    """
    categories = [category for _, category in models]
    warnings = [_lacking(c, request) for c in categories]  # else every photo would be to blame
    results: list[PhotoResult] = []
    pairs = list(zip(paths, folders(paths, out), strict=True))
    watched = len(pairs) >= (2 if sys.stderr.isatty() else MANY)
    for path, folder in track(pairs, len(pairs), "estimate") if watched else pairs:
        with patience(SLOW) if not (watched or results) else nullcontext():
            photo, estimates, number = _estimate(categories, path, request)
        name, category = models[number]
        if estimates[0].has_pose:
            told = (*estimates[0].warnings, *warnings[number])
            estimates = (replace(estimates[0], warnings=told), *estimates[1:])
        found = Found(photo, estimates, category.labels, request.task == "segment")
        document = with_files(result_json(path, photo, name, category.hash, estimates), found)
        write(folder, found, document)
        if not keep:
            estimates = tuple(replace(e, maps=None, segmentation=None) for e in estimates)
        results.append(PhotoResult(path, folder, estimates, document))
    return results


def _lacking(model: Model, request: Request) -> tuple[str, ...]:
    """Return warnings about what the model lacks for the task; E_CKPT_PART where it cannot do."""
    if request.task == "pose":
        return ()
    try:
        model.shape_space("estimate")
        warnings: tuple[str, ...] = ()
    except CheckpointError:
        if request.task == "shape":
            raise
        warnings = (NO_SHAPES,)
    return (*warnings, NO_LABELS) if request.task == "segment" and not model.labels else warnings


def folders(paths: Sequence[Path], out: Path) -> list[Path]:
    """Return the result folder of each photo: its stem; equal stems get -2, -3."""
    taken: set[str] = set()
    chosen = []
    for path in paths:
        stem = path.stem.strip(". ") or "photo"  # never the folder above
        if stem.partition(".")[0].strip().casefold() in RESERVED:
            stem = f"photo-{stem}"
        names = (stem if k == 1 else f"{stem}-{k}" for k in range(1, len(paths) + 2))
        name = next(n for n in names if n.casefold() not in taken)
        taken.add(name.casefold())
        chosen.append(out / name)
    return chosen


def _estimate(
    models: Sequence[Any], path: Path, request: Request
) -> tuple[Photo | None, tuple[Estimate, ...], int]:
    """Return the photo, if it can be read, its estimates and the number of the model they are of.

    What is wrong with the photo is a value.
    """
    photo, asked = None, ",".join(model.category for model in models)
    try:
        photo = read_photo(path, allow_truncated=request.allow_truncated)
        camera = camera_of(request, photo)
        return photo, *look_for(models, photo, camera, request)
    except FeatmeshError as error:
        return photo, (Estimate.refused(asked, error),), 0
    except (RuntimeError, ArithmeticError, ValueError, IndexError, MemoryError) as error:
        log.debug("estimate of %s failed", path, exc_info=True)
        fault = InputError(
            "E_INTERNAL",
            f"estimate(): expected a result, got {type(error).__name__} ({error}); "
            "try: report it together with the photo",
        )
        return photo, (Estimate.refused(asked, fault),), 0


def look_for(
    models: Sequence[Any], photo: Photo, camera: Camera | None, request: Request
) -> tuple[tuple[Estimate, ...], int]:
    """Return the estimates of a photo, with their segmentations, and the number of their model."""
    if len(models) > 1:
        from featmesh.inference.classify import classify

        told = classify(models, photo, request.box, camera, request.search, request.task)
        return (_segmented(models[told.number], photo, told.estimate),), told.number
    (model,) = models
    if request.every:
        from featmesh.inference.several import find_all

        several = find_all(model, photo, camera, request.task, request.search)
        return tuple(several) or (Estimate("no_object", model.category),), 0
    from featmesh.inference.estimator import estimate

    found = estimate(model, photo, request.box, camera, request.task, request.search)
    return (_segmented(model, photo, found),), 0


def _segmented(model: Any, photo: Photo, found: Estimate) -> Estimate:
    """Return the estimate with its segmentation, where it has a pose."""
    from featmesh.inference.segment import segment

    if found.segmentation is not None or not found.has_pose:
        return found
    clock = Stopwatch()
    with clock("segment"):
        segmentation = segment(model, photo, found)
    return replace(found, segmentation=segmentation, seconds=found.seconds | clock.seconds)


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


def show(results: Sequence[PhotoResult]) -> None:
    """Print the estimates as a table, and the shapes, where there are any, as another."""
    classified = any(e.rivals for result in results for e in result.estimates)
    table = Table(box=None, pad_edge=False)
    table.add_column("photo", overflow="fold")  # never cut: alike names differ at their ends
    for heading in ["category"] * classified + ["status"]:
        table.add_column(heading, no_wrap=True)
    for heading in ("azimuth", "elevation", "in-plane", "distance", "sure", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        for cells, found in zip(_rows(result), result.estimates, strict=True):
            unasked = found.status == "bad_input"  # its category names all models
            kind = ["" if unasked else escape(found.category)] if classified else []
            table.add_row(cells[0], *kind, *cells[1:])
    console = Console()
    console.print(table)
    if any(e.shape for result in results for e in result.estimates):
        console.print(_sizes(results))
    for out in dict.fromkeys(result.folder.parent for result in results):
        console.print(f"a folder for each photo in {escape(str(out))}", soft_wrap=True)


def _rows(result: PhotoResult) -> Iterator[list[str]]:
    """Yield the cells of each object; what belongs to the photo stands in its first row."""
    spent = _cell(sum(result.document["seconds"].values()) or None, ".2f")
    for k, (row, found) in enumerate(
        zip(result.document["objects"], result.estimates, strict=True)
    ):
        keys = ("azimuth", "elevation", "theta", "distance")
        pose = [row[key] if found.has_pose else None for key in keys]
        numbers = [*(_cell(v, ".1f", "°") for v in pose[:3]), _cell(pose[3], ".2f")]
        name, seconds = (escape(result.path.name), spent) if k == 0 else ("", "")
        sure = _cell(row["confidence"], ".0%")
        yield [name, row.get("code", row["status"]), *numbers, sure, seconds]


def faults(results: Sequence[PhotoResult]) -> list[str]:
    """Return a line for each photo that could not be used: its code, and what to try."""
    bad = [(r.path, e) for r in results for e in r.estimates if e.status == "bad_input"]
    return [f"{path}: {estimate.message}" for path, estimate in bad]


def _sizes(results: Sequence[PhotoResult]) -> Table:
    """Return the table of the shapes."""
    table = Table(box=None, pad_edge=False)
    table.add_column("photo", overflow="fold")
    table.add_column("unit", no_wrap=True)
    for heading in ("length", "width", "height", "latent norm"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("shape")
    for name, shape in [(r.path.name, e.shape) for r in results for e in r.estimates]:
        if shape is not None:
            digits = ".2f" if shape.unit == "metre" else ".3f"
            size = [format(value, digits) for value in shape.dimensions]
            norm = f"{math.hypot(*shape.latent.tolist()):.2f}"
            kept = "fitted" if shape.accepted else "mean (fitting it explained no more)"
            table.add_row(escape(name), shape.unit, *size, norm, kept)
    return table


def _cell(value: float | None, style: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{style}}{unit}"
