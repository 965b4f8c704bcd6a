"""The poses in ``predictions.jsonl``, checked, each with the record it belongs to."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from featmesh.errors import DatasetError
from featmesh.evaluate.predict import WITH_POSE, Row
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.views.record import View, read_views

PROPER = 1e-3  # how far R may be from a rotation


@dataclass(frozen=True, eq=False)
class Posed:
    """A prediction that claims a pose.

    Attributes:
        view: the record it belongs to.
        row: of ``predictions.jsonl``.
        cam_from_obj: in the camera of the whole photo, unit of ``unit``.
        unit: ``object`` or ``metre``.
        camera: of the whole photo: the one the pose was found with, the record's, or assumed.
    """

    view: View
    row: Row
    cam_from_obj: Pose
    unit: str
    camera: Camera


@dataclass(frozen=True, eq=False)
class Poses:
    """What a file of predictions holds.

    Attributes:
        views: all records, also those without a pose.
        posed: those with one, in the file's order.
        left_out: how many rows were left out, by reason.
        notes: what was assumed.
    """

    views: tuple[View, ...]
    posed: tuple[Posed, ...]
    left_out: Counter[str]
    notes: list[str]


def read_poses(predictions: Path, views: Path) -> Poses:
    """Return the poses of ``predictions.jsonl`` with the records they belong to.

    Args:
        predictions: as ``featmesh evaluate`` writes it.
        views: the views file it was made from.

    Raises:
        DatasetError: E_IO, E_VIEWS; E_DATA where a line is no row; E_RUN where a row belongs to
            none of the records.
    """
    records = read_views(views)
    known = {view.index: view for view in records}
    found = Poses(tuple(records), (), Counter(), [])
    posed, assumed = [], 0
    for number, row in enumerate(_rows(predictions), 1):
        index = row.get("index")
        view = known.pop(index, None) if isinstance(index, int) else None
        if view is None or row.get("image") not in (None, view.image_name, view.image.name):
            raise DatasetError(
                "E_RUN",
                f"export poses: expected predictions of the {len(records)} records of {views}, "
                f"each once, got {index!r} ({row.get('image')!r}) in line {number}; "
                "try: the views file they were made from",
            )
        if row.get("status") not in WITH_POSE or row.get("R") is None or row.get("t") is None:
            found.left_out[f"status {row.get('status', 'missing')}"] += 1
            continue
        assumed += row.get("K") is None and view.K is None
        posed.append(_posed(predictions, number, view, row))
    if assumed:
        found.notes.append(
            f"{assumed} without a known camera: f = 1.15 x the longer side, centred, is assumed"
        )
    return Poses(found.views, tuple(posed), found.left_out, found.notes)


def _rows(path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            "E_IO", f"export poses: expected {path.name} of evaluate, got {error}; try: its path"
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _bad(path, number, "JSON", str(error)) from error
        if not isinstance(row, dict):
            raise _bad(path, number, "an object", type(row).__name__)
        rows.append(row)
    return rows


def _posed(path: Path, number: int, view: View, row: Row) -> Posed:
    try:
        R = torch.tensor(row["R"], dtype=torch.float64).reshape(3, 3)
        t = torch.tensor(row["t"], dtype=torch.float64).reshape(3)
        K = None if row.get("K") is None else torch.tensor(row["K"], dtype=torch.float64)
        size = (view.height, view.width)
        own = view.camera or Camera.assumed(*size)
        camera = own if K is None else Camera.from_K(K.reshape(3, 3), size)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _bad(path, number, "R (3 x 3), t (3) and K (3 x 3)", str(error)) from error
    off = float((R @ R.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if not (off <= PROPER and float(torch.linalg.det(R)) > 0 and bool(t.isfinite().all())):
        raise _bad(path, number, "a rotation R and a finite t", f"{R.tolist()}, {t.tolist()}")
    if row.get("t_unit") not in ("object", "metre"):
        raise _bad(path, number, "t_unit object or metre", repr(row.get("t_unit")))
    return Posed(view, row, Pose(R, t), row["t_unit"], camera)


def _bad(path: Path, number: int, expected: str, got: str) -> DatasetError:
    said = " ".join(got.split())[:200]
    return DatasetError(
        "E_DATA",
        f"export poses: expected {expected} in line {number} of {path.name}, got {said}; "
        "try: featmesh evaluate again",
    )
