"""Pix3D: furniture with pose, mask and CAD (spec 3.6).

Frames, from its README and its Blender script (``xingyuansun/pix3d``): a model has +x to the left,
+y up and +z inward as one looks at its front, so its front is -z and its own left -x. The camera
stands at the origin, turned half about y from Blender's, so camera space has +x left, +y up, +z
forward; the sensor is 32 mm wide.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.errors import FeatmeshError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import read_mesh
from featmesh.geometry.pose import Pose
from featmesh.paths import safe_join
from featmesh.views.record import View

from .common import (
    Notes,
    angles,
    category_name,
    check_split,
    photo_size,
    read_json_file,
    unreadable,
    usable_box,
)
from .layouts import located

NAME = "pix3d"
SENSOR = 32.0  # width, millimetres
CAMERA_FROM_PIX3D = np.diag([-1.0, -1.0, 1.0])
# columns: where our x (own left), y (back), z (up) point in a Pix3D model
PIX3D_FROM_OBJECT = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])

Bounds = tuple[Float64[np.ndarray, " 3"], float]  # centre of the model's box, its diagonal


def read_pix3d(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of Pix3D, R in the camera of the whole photo.

    ``t`` is in object units (the model's box diagonal) where the model's file is there; else it is
    left out, and with it the distance. ``occluded``: 0, 1 slightly, 2 occluded. The benchmark's
    protocol takes the untruncated, unoccluded chairs: ``extras["truncated"]`` is false there and
    ``occluded`` 0.

    Args:
        root: the folder ``pix3d``, or the one it lies in.
        split: None; Pix3D has no official one.
        category: bed, bookcase, chair, desk, misc, sofa, table, tool or wardrobe; None: all.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
        InputError: E_PATH where a path leaves the folder.
    """
    notes = notes or Notes()
    check_split(NAME, split)
    folder = located(NAME, root)
    records = read_json_file(folder / "pix3d.json")
    if not isinstance(records, list):
        raise unreadable(folder / "pix3d.json", "a list of records", type(records).__name__)
    models: dict[str, Bounds | None] = {}
    views: list[View] = []
    for number, record in enumerate(records):
        try:
            if category is None or category_name(record["category"]) == category_name(category):
                views += _views(folder, number, record, models, notes)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, FeatmeshError):
                raise
            path = folder / "pix3d.json"
            raise unreadable(path, f"record {number} complete", error) from error
    return views


def _views(
    folder: Path,
    number: int,
    record: dict[str, Any],
    models: dict[str, Bounds | None],
    notes: Notes,
) -> list[View]:
    image, mask = safe_join(folder, record["img"]), safe_join(folder, record["mask"])
    width, height = (int(v) for v in record["img_size"])
    size = photo_size(image, (height, width))
    if not image.is_file() or size is None:
        notes.skip("photos that are missing or of another size than stated")
        return []
    focal = float(record["focal_length"]) * width / SENSOR
    try:
        camera = Camera(focal, focal, width / 2, height / 2, height, width).checked()
    except InputError:
        notes.skip("objects with a focal length no lens has")
        return []
    bounds = _bounds(folder, record["model"], models)
    pose = _pose(np.array(record["rot_mat"]), np.array(record["trans_mat"]), bounds)
    known = bounds is not None
    occluded = 2 if _true(record["occluded"]) else int(_true(record.get("slightly_occluded")))
    view = View(
        image=image,
        height=height,
        width=width,
        category=category_name(record["category"]),
        R=pose.R.numpy(),
        box=usable_box(record["bbox"], size),
        K=camera.K.numpy(),
        t=pose.t.numpy() if known else None,
        t_unit="object" if known else None,
        distance=float(pose.t.norm()) if known else None,
        mask=mask if mask.is_file() else None,
        occluded=occluded,
        model_name=Path(record["model"]).parent.name or None,
        extras={"truncated": _true(record["truncated"]), "record": number},
        **angles(pose),
    )
    return [view]


def _pose(
    rotation: Float64[np.ndarray, "3 3"], shift: Float64[np.ndarray, " 3"], bounds: Bounds | None
) -> Pose:
    """Return ``cam_from_obj`` of the model's box centre, in box diagonals where they are known.

    Without the model t is that of its origin, in its own unit, which still tells the ray.
    """
    R = CAMERA_FROM_PIX3D @ rotation @ PIX3D_FROM_OBJECT
    centre, unit = bounds or (np.zeros(3), 1.0)
    t = CAMERA_FROM_PIX3D @ (rotation @ centre + shift) / unit
    return Pose(torch.from_numpy(R), torch.from_numpy(t))


def _bounds(folder: Path, name: str, models: dict[str, Bounds | None]) -> Bounds | None:
    """Return the box of a model's file, None where it is not there or does not open."""
    if name not in models:
        path = safe_join(folder, name)
        models[name] = None
        if path.is_file():
            try:
                vertices = read_mesh(path, checked=False).vertices.numpy()
            except FeatmeshError:
                return None
            low, high = vertices.min(0), vertices.max(0)
            models[name] = ((low + high) / 2, float(np.linalg.norm(high - low)))
    return models[name]


def _true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"
