"""Evaluation in two loops: predictions into a file, then figures from the file (contracts 3).

The first loop may be killed and started again; the second takes a moment and may be repeated, with
corrected labels for instance.
"""

import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64

from featmesh import __version__
from featmesh.errors import DatasetError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.viewpoint import ray_rotation
from featmesh.inference.result import Estimate
from featmesh.paths import write_whole
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.progress import Stream, track
from featmesh.views.record import View

from .metrics import (
    Symmetry,
    auroc,
    box_iou,
    checked_symmetry,
    pose_summary,
    rotation_error,
    symmetric_error,
)

SCHEMA = 1
PREDICTIONS, METRICS, RUN = "predictions.jsonl", "metrics.json", "run.json"
WITH_POSE = ("ok", "uncertain")  # states whose pose counts; another state claims none
KEPT = ("box", "R", "t", "t_unit", "score", "confidence", "status", "code", "message")

Row = dict[str, Any]


def evaluate(
    model: Any,
    views: Sequence[View],
    out_dir: str | os.PathLike[str],
    estimate: Callable[..., Estimate] | None = None,
    locate: bool = False,
    settings: Mapping[str, Any] | None = None,
    stream: Stream | None = None,
) -> dict[str, Any]:
    """Predict every view, score the predictions, write and return ``metrics.json``.

    Arguments and errors are those of :func:`predict`; every positive needs its R. Where the model
    states a symmetry, the figures up to it stand beside the official ones.

    Raises:
        CheckpointError: E_CKPT_CONFIG where it states none that there is.
    """
    _need_rotations(views)
    symmetry = checked_symmetry((getattr(model, "extra", None) or {}).get("symmetry", 1))
    rows = predict(model, views, out_dir, estimate, locate, settings, stream)
    metrics = {"schema": SCHEMA, **_run_card(model, views, locate, settings)}
    metrics |= score_predictions(views, rows, symmetry)
    text = json.dumps(metrics, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(Path(out_dir) / METRICS, text + "\n")
    return metrics


def predict(
    model: Any,
    views: Sequence[View],
    out_dir: str | os.PathLike[str],
    estimate: Callable[..., Estimate] | None = None,
    locate: bool = False,
    settings: Mapping[str, Any] | None = None,
    stream: Stream | None = None,
) -> list[Row]:
    """Estimate every view; write one row each to ``OUT/predictions.jsonl``, in the views' order.

    A photo that cannot be used gives a row with status ``bad_input`` and its code and stops no
    other. Rows that an earlier, killed run of the same model on the same views finished are kept;
    ``OUT/run.json`` says which run they belong to.

    Args:
        model: handed to ``estimate``; its ``category`` and ``hash`` name the run.
        views: one a row.
        out_dir: made where it is missing.
        estimate: ``estimate(model, photo, box=..., camera=...) -> Estimate``; by default
            ``featmesh.estimate``. The camera is the record's, or None where it has no K.
        locate: give the estimator no box; otherwise it gets the record's, or the whole image.
        settings: what else the predictions depend on (the estimator's configuration), JSON values.
        stream: where progress is shown; default is the standard error output.

    Raises:
        DatasetError: E_RUN where the folder holds predictions of another run.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    estimate = estimate or _default_estimate()
    run = json.dumps(_run_card(model, views, locate, settings), indent=1)
    rows = _finished(out, views, run)
    write_whole(out / RUN, run + "\n")
    photos = _LastPhoto()
    todo = views[len(rows) :]
    with (out / PREDICTIONS).open("ab") as file:
        for view in track(todo, len(todo), "evaluate", stream):
            line = json.dumps(_row(model, view, photos, estimate, locate), allow_nan=False)
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            rows.append(json.loads(line))
    return rows


def score_predictions(
    views: Sequence[View], rows: Sequence[Row], symmetry: Symmetry = 1
) -> dict[str, Any]:
    """Return the figures of predictions, as they stand in ``metrics.json``; angles in degrees.

    Every record counts: a positive without a pose, or without a row, is an error of 180 degrees.
    Negatives stand in ``refusal`` and nowhere else; one is refused where the status is
    ``no_object``.

    Args:
        views: the records.
        rows: predictions of them, as :func:`predict` gives them.
        symmetry: where turns look alike, ``symmetric`` holds the figures of errors up to these.

    Raises:
        DatasetError: E_VIEWS where a positive has no R or an index occurs twice; E_RUN where a row
            belongs to none of the views.
    """
    _need_rotations(views)
    paired = _paired(views, rows)
    positives = [(view, row) for view, row in paired if not view.no_object]
    seconds = [row["seconds"] for row in rows if row.get("seconds") is not None]
    return {
        "count": len(views),
        **_pose_figures(positives),
        **_up_to(symmetry, positives),
        "status": dict(Counter(row.get("status", "missing") for _, row in paired)),
        "codes": dict(Counter(row["code"] for _, row in paired if row.get("code"))),
        "refusal": _refusal(paired),
        "box_iou": _overlap(positives),
        "seconds": {
            "median": float(np.median(seconds)) if seconds else None,
            "total": float(np.sum(seconds)),
        },
    }


def _up_to(symmetry: Symmetry, positives: Sequence[tuple[View, Row]]) -> dict[str, Any]:
    """Return the figures that stand beside the official ones; none where no turns look alike."""
    if symmetry == 1:
        return {}
    return {"symmetric": {"symmetry": symmetry, **_pose_figures(positives, symmetry)}}


def _pose_figures(positives: Sequence[tuple[View, Row]], symmetry: Symmetry = 1) -> dict[str, Any]:
    """Return the figures of rotation errors: of all, by category, by how much is hidden."""
    errors = np.array([_error(view, row, symmetry) for view, row in positives], dtype=np.float64)
    by_category = _grouped([view.category for view, _ in positives], errors)
    return {
        "pose": pose_summary(errors).to_json(),
        "categories": by_category,
        "category_mean": _category_mean(by_category),
        "occluded": _grouped([view.occluded for view, _ in positives], errors),
    }


class _LastPhoto:
    """Reads photos, keeping the last: records of one photo mostly follow each other."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.photo: Photo | None = None

    def read(self, path: Path) -> Photo:
        if self.photo is None or path != self.path:
            self.path, self.photo = None, None  # free the last before decoding the next
            self.photo = read_photo(path)
            self.path = path
        return self.photo


def _default_estimate() -> Callable[..., Estimate]:
    from featmesh.inference.estimator import estimate

    return estimate


def _row(
    model: Any,
    view: View,
    photos: _LastPhoto,
    estimate: Callable[..., Estimate],
    locate: bool,
) -> Row:
    """Return the row of one view; only what is wrong with the input becomes a status."""
    start = time.perf_counter()
    try:
        photo = photos.read(view.image)
        _same_size(view, photo)
        box = None if locate else view.box_or_image
        found = estimate(model, photo, box=box, camera=view.camera)
    except InputError as error:
        found = Estimate.refused(view.category, error)
    told = found.to_json()
    row = {"index": view.index, "image": view.image_name or view.image.name}
    row |= {key: told[key] for key in KEPT if key in told}
    # an assumed camera's K says how strong the perspective is, not where the rays go
    camera = found.camera if found.camera_source != "assumed" else None
    row["K"] = None if camera is None else camera.K.tolist()
    row["seconds"] = round(time.perf_counter() - start, 4)
    return row


def _same_size(view: View, photo: Photo) -> None:
    if (photo.width, photo.height) != (view.width, view.height):
        raise InputError(
            "E_VIEWS",
            f"views record {view.index}: expected a {view.width}x{view.height} photo, got "
            f"{photo.width}x{photo.height}; try: was the photo resized or turned?",
        )


def _run_card(
    model: Any, views: Sequence[View], locate: bool, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what the predictions depend on; labels that only scoring needs are left out."""
    asked = [
        [
            view.index,
            view.image_name or view.image.name,
            view.width,
            view.height,
            view.category,
            view.box,
            None if view.K is None else view.K.tolist(),
        ]
        for view in views
    ]
    return {
        "featmesh": __version__,
        "model": {
            "name": getattr(model, "category", None),
            "hash": getattr(model, "hash", None),
        },
        "views": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        "locate": locate,
        "settings": dict(settings or {}),
    }


def _finished(out: Path, views: Sequence[View], run: str) -> list[Row]:
    """Return the rows an earlier run finished; a last line that a kill cut off is removed."""
    file = out / PREDICTIONS
    content = file.read_bytes() if file.exists() else b""
    whole, _, cut = content.rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    card = out / RUN
    try:
        rows = [json.loads(line) for line in lines]
        before = json.loads(card.read_text(encoding="utf-8")) if card.exists() else None
    except ValueError as error:
        raise _other_run(out, f"broken lines ({error})") from error
    now = json.loads(run)
    if rows and before != now:
        changed = [key for key in now if (before or {}).get(key) != now[key]]
        raise _other_run(out, f"predictions of another run ({', '.join(changed)} differ)")
    if rows and now["model"]["hash"] is None:
        raise _other_run(out, "predictions of a model without a hash, which could be any")
    asked = [view.index for view in views[: len(rows)]]
    if [row.get("index") for row in rows] != asked:
        raise _other_run(out, "rows of other records")
    if cut:
        os.truncate(file, len(content) - len(cut))
    return rows


def _other_run(out: Path, got: str) -> DatasetError:
    return DatasetError(
        "E_RUN",
        f"evaluate: expected {out} to be empty or to hold an earlier part of this run, got {got}; "
        f"try: another --out, or delete {PREDICTIONS} and {RUN} there",
    )


def _need_rotations(views: Sequence[View]) -> None:
    for view in views:
        if view.R is None and not view.no_object:
            raise DatasetError(
                "E_VIEWS",
                f"views record {view.index} key 'R': expected a rotation to score against, got "
                'none, try: label it, or mark it "no_object": true',
            )


def _paired(views: Sequence[View], rows: Sequence[Row]) -> list[tuple[View, Row]]:
    """Return each view with its row, an empty one where it has none."""
    found = {row["index"]: row for row in rows}
    known = {view.index for view in views}
    if len(known) < len(views) or len(found) < len(rows):
        raise DatasetError(
            "E_VIEWS",
            "evaluate: expected each record once, got an index twice; try: one views file a run",
        )
    if foreign := sorted(set(found) - known):
        raise DatasetError(
            "E_RUN",
            f"evaluate: expected predictions of these {len(views)} records, got one of record "
            f"{foreign[0]}; try: the views file the predictions were made from",
        )
    return [(view, found.get(view.index, {})) for view in views]


def _error(view: View, row: Row, symmetry: Symmetry) -> float:
    """Return the rotation error, up to turns that look alike, radians; NaN of a row without pose.

    Without K the record's R belongs to a camera looking at the centre of the true box, so the
    predicted R is first turned into that camera, ``Q R`` (contracts 1, 2).
    """
    if row.get("status") not in WITH_POSE or row.get("R") is None or view.R is None:
        return math.nan
    R = np.array(row["R"], dtype=np.float64)
    if R.shape != (3, 3) or not np.isfinite(R).all():
        return math.nan
    if view.K is None:
        R = _to_box_centre(view, row) @ R
    return (
        float(rotation_error(R, view.R)) if symmetry == 1 else symmetric_error(R, view.R, symmetry)
    )


def _to_box_centre(view: View, row: Row) -> Float64[np.ndarray, "3 3"]:
    """Return Q of the ray through the box centre under the camera the estimate used."""
    camera = Camera.assumed(view.height, view.width)
    if row.get("K") is not None:
        K = torch.tensor(row["K"], dtype=torch.float64)
        camera = Camera.from_K(K, (view.height, view.width))
    x0, y0, x1, y1 = view.box_or_image
    centre = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2], dtype=torch.float64)
    return ray_rotation(camera.unproject(centre)).numpy()


def _grouped(labels: Sequence[Any], errors: Float[np.ndarray, " n"]) -> dict[str, Any]:
    """Return one summary a label, None left out."""
    kinds = sorted({label for label in labels if label is not None})
    chosen = {str(kind): np.array([label == kind for label in labels]) for kind in kinds}
    return {kind: pose_summary(errors[mask]).to_json() for kind, mask in chosen.items()}


def _category_mean(by_category: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean over categories, each weighing the same (spec 4.1)."""
    names = ("acc_30", "acc_10", "acc_5", "median_deg")
    rows = list(by_category.values())
    return {name: float(np.mean([row[name] for row in rows])) for name in names} if rows else {}


def _refusal(paired: Sequence[tuple[View, Row]]) -> dict[str, Any]:
    """Return how well negatives are told from positives."""
    refused: tuple[list[bool], list[bool]] = ([], [])
    for view, row in paired:
        refused[view.no_object].append(row.get("status") == "no_object")
    positives, negatives = refused
    return {
        "negatives": len(negatives),
        "refused": sum(negatives),
        "refused_share": float(np.mean(negatives)) if negatives else None,
        "positives_refused": sum(positives),
        "auroc_score": _separation(paired, "score"),
        "auroc_confidence": _separation(paired, "confidence"),
    }


def _separation(paired: Sequence[tuple[View, Row]], key: str) -> float | None:
    """Return the AUROC of a figure; nothing found ranks lowest, unusable photos are left out."""
    known = [(view, row) for view, row in paired if row.get("status", "bad_input") != "bad_input"]
    if all(row.get(key) is None for _, row in known):
        return None
    values = [-math.inf if row.get(key) is None else row[key] for _, row in known]
    share = auroc(np.array(values), np.array([not view.no_object for view, _ in known]))
    return None if math.isnan(share) else share


def _overlap(positives: Sequence[tuple[View, Row]]) -> dict[str, Any]:
    """Return the median overlap of predicted and true boxes, 0 where none is predicted."""
    shares = [
        box_iou(tuple(row["box"]), view.box_or_image) if row.get("box") else 0.0
        for view, row in positives
    ]
    return {"count": len(shares), "median": float(np.median(shares)) if shares else None}
