"""nuScenes: boxes in metres seen by six cameras, from the tables of the devkit.

Boxes are given in the world: centre, size (width, length, height) and a quaternion w x y z; a box
has x forward, y left, z up. ``ego_pose`` is world_from_car, ``calibrated_sensor`` car_from_camera
with OpenCV axes. There are no 2D boxes: ours is that of the projected corners, clipped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.paths import safe_join
from featmesh.views.record import View

from .common import Notes, category_name, check_split, metric_view, read_json_file, unreadable
from .layouts import located, misplaced

NAME = "nuscenes"
NEAREST = 0.1  # metres: a box with a corner nearer than that, or behind, has no outline
MOST_TRUNCATED = 0.95  # share of the projected box outside the photo, above it nothing is left
# columns: where our x (own left), y (back), z (up) point in a nuScenes box
BOX_FROM_OBJECT = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
# share of the object that is seen, summed over the cameras, to the views file's `occluded`
VISIBILITY = {"1": 2, "2": 1, "3": 1, "4": 0}

Table = dict[str, dict[str, Any]]  # rows by token


def read_nuscenes(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of nuScenes' key frames, R and t (box centre, metres) with K.

    ``occluded``: 0 where more than 80 % are seen, 1 above 40 %, 2 below. ``truncated``: share of
    the projected box outside the photo.

    Args:
        root: the folder with ``samples`` and the tables' folder.
        split: the tables' folder, such as ``v1.0-mini``; None: the only one there is.
        category: car, truck, bus, motorbike, bicycle, pedestrian, trailer ...; None: all.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
        InputError: E_PATH where a photo's path leaves the folder.
    """
    notes = notes or Notes()
    folder = located(NAME, root)
    versions = sorted(p.parent.name for p in folder.glob("v1.0-*/sample_annotation.json"))
    check_split(NAME, split, versions)
    if split is None and len(versions) > 1:
        raise misplaced(NAME, str(folder), f"{', '.join(versions)}: choose one with --split")
    tables = folder / (split or versions[0])
    try:
        return _read(folder, tables, category, notes)
    except (KeyError, TypeError) as error:
        raise unreadable(tables, "the tables of the devkit, complete", error) from error


def box_category(name: str) -> str:
    """Return the views file's name of a category: ``vehicle.bus.rigid`` is a bus."""
    words = name.split(".")
    return category_name(words[1] if len(words) > 1 else words[0])


def _read(folder: Path, tables: Path, category: str | None, notes: Notes) -> list[View]:
    kinds = {token: row["name"] for token, row in _table(tables, "category").items()}
    instances = _table(tables, "instance")
    egos, sensors = _table(tables, "ego_pose"), _table(tables, "calibrated_sensor")
    objects: dict[str, list[dict[str, Any]]] = {}
    for row in _table(tables, "sample_annotation").values():
        objects.setdefault(row["sample_token"], []).append(row)
    views: list[View] = []
    for shot in _table(tables, "sample_data").values():
        sensor = sensors[shot["calibrated_sensor_token"]]
        if not shot["is_key_frame"] or not sensor["camera_intrinsic"]:
            continue  # a lidar or radar sweep, or a frame without labels
        image = safe_join(folder, shot["filename"])
        size = (int(shot["height"]), int(shot["width"]))
        K = torch.tensor(sensor["camera_intrinsic"], dtype=torch.float64)
        camera = Camera.from_K(K, size)
        camera_from_world = (_pose(egos[shot["ego_pose_token"]]) @ _pose(sensor)).inverse()
        for row in objects.get(shot["sample_token"], []):
            name = kinds[instances[row["instance_token"]]["category_token"]]
            if category is None or category_name(category) == box_category(name):
                views += _views(image, camera, camera_from_world, row, name, notes)
    return views


def _table(folder: Path, name: str) -> Table:
    rows = read_json_file(folder / f"{name}.json")
    return {row["token"]: row for row in rows}


def _pose(row: dict[str, Any]) -> Pose:
    """Return the transform of a row's rotation (w x y z) and translation."""
    R = torch.from_numpy(quaternion_matrix(row["rotation"]))
    return Pose(R, torch.tensor(row["translation"], dtype=torch.float64))


def quaternion_matrix(wxyz: Sequence[Any]) -> Float64[np.ndarray, "3 3"]:
    """Return the rotation of a quaternion w, x, y, z, which need not be of length 1.

    Raises:
        InputError: E_NONFINITE of four zeros.
    """
    w, x, y, z = (float(v) for v in wxyz)
    square = w * w + x * x + y * y + z * z
    if not 0 < square < np.inf:
        raise InputError(
            "E_NONFINITE", f"quaternion: expected a length above 0, got {wxyz}; try: normalise it"
        )
    s = 2 / square
    return np.array(
        [
            [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
            [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
            [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
        ]
    )


def _views(
    image: Path,
    camera: Camera,
    camera_from_world: Pose,
    row: dict[str, Any],
    name: str,
    notes: Notes,
) -> list[View]:
    width, length, height = (float(v) for v in row["size"])
    box_pose = camera_from_world @ _pose(row)
    pose = Pose(box_pose.R @ torch.from_numpy(BOX_FROM_OBJECT), box_pose.t)
    corners = torch.cartesian_prod(*(torch.tensor([-0.5, 0.5], dtype=torch.float64),) * 3)
    seen = pose.apply(corners * torch.tensor([width, length, height], dtype=torch.float64))
    if float(pose.t[2]) <= 0:
        return []  # most boxes of a moment lie behind a camera
    if float(seen[:, 2].min()) < NEAREST:
        notes.skip("objects that reach behind the camera")
        return []
    points, _ = camera.project(seen)
    low, high = points.min(0).values, points.max(0).values
    limit = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    first, last = low.clamp_min(0).minimum(limit), high.clamp_min(0).minimum(limit)
    truncated = 1 - float((last - first).prod() / (high - low).prod())
    if truncated > MOST_TRUNCATED or float((last - first).min()) < 1:
        return []
    x0, y0, x1, y1 = (*first.tolist(), *last.tolist())
    level = VISIBILITY.get(str(row.get("visibility_token", "")), -1)
    extras = {"nuscenes_category": name, "annotation": row["token"]}
    more = {"box": (x0, y0, x1, y1), "occluded": level, "truncated": round(truncated, 4)}
    lhw = (length, height, width)
    return [metric_view(image, box_category(name), camera, pose, lhw, extras=extras, **more)]
