"""The robustness suite: every condition predicted, kept, and told in figures; killed runs go on.

One small file a condition holds its predictions, keyed by all that they depend on; figures are made
anew each time, with the labels as they are now. Ours; the conditions' sources stand with them.
"""

import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from featmesh import __version__
from featmesh.config import config_to_dict
from featmesh.errors import CheckpointError, DatasetError, InputError
from featmesh.files import read_json, sha256_of, write_json_atomic
from featmesh.inference.result import Estimate
from featmesh.paths import write_whole
from featmesh.photo.read import read_photo
from featmesh.progress import Stream, track
from featmesh.views.record import View

from .conditions import Condition, Scene, conditions_of, labelled, under
from .metrics import checked_symmetry
from .predict import Row, predict
from .suite_config import SuiteConfig
from .suite_table import SuiteTable, suite_figures, table_of
from .suite_text import markdown

SCHEMA = 1
SUITE, TEXT, KEPT_FOLDER = "suite.json", "suite.md", "conditions"
KEPT = ("index", "image", "status", "code", "score", "confidence", "R", "K", "seconds")


@dataclass(frozen=True, eq=False)
class Subject:
    """What a suite measures.

    Attributes:
        model: its ``category`` and ``hash`` name the run; without a hash nothing is kept.
        estimate: ``estimate(model, photo, box=..., camera=...) -> Estimate``.
        settings: what else the estimates depend on (the estimator's configuration), JSON values.
        locate: give the estimator no box.
    """

    model: Any
    estimate: Callable[..., Estimate]
    settings: Mapping[str, Any] = field(default_factory=dict)
    locate: bool = False


@dataclass(frozen=True, eq=False)
class SuiteResult:
    """What a suite found.

    Attributes:
        figures: what stands in ``suite.json``.
        table: the single errors.
        scene: what the photos were made with.
    """

    figures: dict[str, Any]
    table: SuiteTable
    scene: Scene


def run_suite(
    subject: Subject,
    views: Sequence[View],
    out_dir: str | Path,
    config: SuiteConfig | None = None,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]] = (),
    stream: Stream | None = None,
) -> SuiteResult:
    """Measure a model under every condition; write ``suite.json`` and ``suite.md``.

    Negatives are left out. A condition that an earlier run finished with the same model, settings,
    photos and seed is read from ``OUT/conditions``; one that was killed half-way goes on.

    Args:
        subject: the model and how it estimates.
        views: labelled photos.
        out_dir: made where it is missing.
        config: which conditions; by default :class:`SuiteConfig`.
        pictures: without the object; occluders are cut from them, else they are grey noise.
        stream: where progress is shown; default is the standard error output.

    Raises:
        DatasetError: E_VIEWS where no record has an object with R.
        InputError: E_CONFIG for a condition that does not exist.
        CheckpointError: E_CKPT_CONFIG where the model states a symmetry there is none of.
    """
    start = time.perf_counter()
    config = config or SuiteConfig()
    symmetry = checked_symmetry((getattr(subject.model, "extra", None) or {}).get("symmetry", 1))
    views = _chosen(views, config)
    conditions, void = conditions_of(config, views)
    scene = Scene(config.seed, tuple(pictures))
    card = _card(subject, views, scene)
    folder = Path(out_dir) / KEPT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for condition in track(conditions, len(conditions), "suite", stream):
        rows[condition] = _rows(subject, views, condition, scene, (folder, card))
    table = table_of(views, rows, symmetry)
    figures = {
        "schema": SCHEMA,
        "suite": "robustness",
        **card,
        "config": config_to_dict(config),
        "symmetry": symmetry,
        "left_out": void,
        **suite_figures(table, config),
    }
    figures["timing"]["wall"] = round(time.perf_counter() - start, 2)
    write_json_atomic(Path(out_dir) / SUITE, figures)
    write_whole(Path(out_dir) / TEXT, markdown(figures))
    return SuiteResult(figures, table, scene)


def shown(
    subject: Subject, view: View, condition: Condition, scene: Scene
) -> tuple[UInt8[np.ndarray, "h w 3"], Estimate]:
    """Return a photo under a condition and its estimate, as the suite made them.

    Raises:
        InputError: where the photo cannot be read.
    """
    from featmesh.photo.photo import Photo

    pixels, moved = under(read_photo(view.image).pixels, view, condition, scene)
    box = None if subject.locate else moved.box_or_image
    photo = Photo.from_array(pixels)
    return pixels, subject.estimate(subject.model, photo, box=box, camera=moved.camera)


def _chosen(views: Sequence[View], config: SuiteConfig) -> list[View]:
    """Return the records to be measured, evenly over the file."""
    labels = [view for view in views if view.R is not None and not view.no_object]
    if not labels:
        raise DatasetError(
            "E_VIEWS",
            f"suite: expected records with an object and its R, got none of {len(views)}; "
            "try: a labelled views file",
        )
    count = min(config.photos or len(labels), len(labels))
    return [labels[k] for k in np.linspace(0, len(labels) - 1, count).round().astype(int)]


def _card(subject: Subject, views: Sequence[View], scene: Scene) -> dict[str, Any]:
    """Return what the predictions under any condition depend on; labels are left out."""
    photos: dict[Path, str | None] = {}
    asked = []
    for view in views:
        for path in (view.image, view.mask):
            if path is not None and path not in photos:
                photos[path] = _digest(path)
        K = None if view.K is None else view.K.tolist()
        files = [photos[view.image], photos[view.mask] if view.mask else None]
        asked.append([view.index, view.width, view.height, view.category, view.box, K, *files])
    pictures = hashlib.sha256()
    for picture in scene.pictures:
        pictures.update(f"{picture.shape}".encode() + picture.tobytes())
    model = subject.model
    return {
        "featmesh": __version__,
        "model": {"name": getattr(model, "category", None), "hash": getattr(model, "hash", None)},
        "views": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        "pictures": pictures.hexdigest() if scene.pictures else None,
        "seed": scene.seed,
        "locate": subject.locate,
        "settings": dict(subject.settings),
    }


def _digest(path: Path) -> str | None:
    with suppress(InputError):
        return sha256_of(path)
    return None


def _rows(
    subject: Subject,
    views: Sequence[View],
    condition: Condition,
    scene: Scene,
    kept: tuple[Path, dict[str, Any]],
) -> list[Row]:
    """Return the predictions under one condition: those kept, or new ones, which are kept."""
    folder, card = kept
    known = bool(card["model"]["hash"])  # a model without a hash could be any
    card = {**card, "condition": asdict(condition)}
    key = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()[:16]
    path, part = folder / f"{condition.slug}-{key}.json", folder / f"{condition.slug}-{key}.part"
    if known and path.exists():
        with suppress(CheckpointError):  # a broken file is made anew
            content = read_json(path)
            if content.get("card") == json.loads(json.dumps(card)):
                return list(content["rows"])
    if not known:
        shutil.rmtree(part, ignore_errors=True)
    photos = part / "photos"
    shutil.rmtree(photos, ignore_errors=True)
    photos.mkdir(parents=True)
    changed = [_stored(view, condition, scene, photos) for view in views]
    found = predict(
        subject.model,
        changed,
        part,
        subject.estimate,
        subject.locate,
        {"suite": key},
        io.StringIO(),
    )
    rows = [{name: row[name] for name in KEPT if name in row} for row in found]
    write_json_atomic(path, {"schema": SCHEMA, "card": card, "rows": rows})
    shutil.rmtree(part)
    return rows


def _stored(view: View, condition: Condition, scene: Scene, folder: Path) -> View:
    """Write the photo under a condition; one that cannot be read stays, and fails by itself."""
    name = view.image_name or view.image.name
    try:
        pixels = read_photo(view.image).pixels
        if pixels.shape[:2] != (view.height, view.width):
            return replace(view, image_name=name)
        changed, moved = under(pixels, view, condition, scene)
    except InputError:
        return replace(labelled(view, condition), image_name=name)
    path = folder / f"{view.index:06d}.png"
    Image.fromarray(changed).save(path, compress_level=1)
    return replace(moved, image=path, image_name=name)
