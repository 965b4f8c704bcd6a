"""KITTI object detection: boxes in metres seen by the left colour camera.

A label's location is the centre of the box's **bottom** in the frame of the rectified grey camera
(x right, y down, z forward); its box has length along x, and ``rotation_y`` turns it about y. The
colour camera stands beside: P2 = K [I | offset].
"""

import math
from pathlib import Path

import numpy as np
import torch

from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.views.record import View

from .common import (
    Notes,
    category_name,
    check_split,
    metric_view,
    photo_of,
    photo_size,
    read_names,
    read_rows,
    unreadable,
    usable_box,
)
from .layouts import located

NAME = "kitti"
NO_OBJECTS = ("DontCare", "Misc")
# columns: where our x (own left), y (back), z (up) point in KITTI's object frame at rotation_y 0
KITTI_FROM_OBJECT = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
FIELDS = 15  # of a label line


def read_kitti(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of KITTI's training photos, R and t (box centre, metres) with K.

    ``occluded`` and ``truncated`` are KITTI's own; ``extras["difficulty"]`` is easy, moderate or
    hard where the benchmark counts the object (box height, occlusion, truncation).

    Args:
        root: the folder with ``training``.
        split: name of a list in ``ImageSets``; None: every labelled photo.
        category: car, van, truck, pedestrian, person_sitting, cyclist or tram; None: all.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
    """
    notes = notes or Notes()
    folder = located(NAME, root)
    lists = folder / "ImageSets"
    check_split(NAME, split, sorted(path.stem for path in lists.glob("*.txt")))
    labels = folder / "training" / "label_2"
    names = sorted(p.stem for p in labels.glob("*.txt"))
    if split is not None:
        names = read_names(lists / f"{split}.txt")
    views: list[View] = []
    for name in names:
        image = photo_of(folder / "training" / "image_2", name)
        size = None if image is None else photo_size(image)
        if image is None or size is None or not (labels / f"{name}.txt").is_file():
            notes.skip("photos that are missing, do not open or have no label")
            continue
        camera, offset = read_calibration(folder / "training" / "calib" / f"{name}.txt", size)
        for row in read_rows(labels / f"{name}.txt"):
            views += _views(image, camera, offset, row, category, notes)
    return views


def read_calibration(path: Path, size: tuple[int, int]) -> tuple[Camera, np.ndarray]:
    """Return the left colour camera and where the grey camera's origin lies in its frame, metres.

    Args:
        path: a file of ``calib``.
        size: (height, width) of the photo.

    Raises:
        DatasetError: E_DATA where it has no usable P2.
    """
    rows = {row[0]: row[1:] for row in read_rows(path)}
    try:
        P = np.array([float(v) for v in rows["P2:"]]).reshape(3, 4)
        camera = Camera.from_K(torch.from_numpy(P[:, :3]), size)
    except (KeyError, ValueError) as error:  # InputError is a ValueError
        raise unreadable(path, "a calibration with 12 numbers P2", error) from error
    return camera, np.linalg.solve(P[:, :3], P[:, 3])


def _views(
    image: Path,
    camera: Camera,
    offset: np.ndarray,
    row: list[str],
    category: str | None,
    notes: Notes,
) -> list[View]:
    try:
        numbers = [float(v) for v in row[1:FIELDS]]
        truncated, occluded, _, *rest = numbers
        box, (h, w, l), location, turn = rest[:4], rest[4:7], rest[7:10], rest[10]
    except (ValueError, IndexError) as error:
        raise unreadable(image, "label lines of 15 fields", " ".join(row)) from error
    kind = category_name(row[0])
    if row[0] in NO_OBJECTS or category not in (None, kind):
        return []
    inside = usable_box(box, (camera.height, camera.width))
    if min(h, w, l) <= 0 or inside is None:
        notes.skip("objects without a usable box")
        return []
    c, s = math.cos(turn), math.sin(turn)
    R = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]) @ KITTI_FROM_OBJECT
    t = np.array(location) - [0.0, h / 2, 0.0] + offset
    pose = Pose(torch.from_numpy(R), torch.from_numpy(t))
    if t[2] <= 0:
        notes.skip("objects behind the camera")
        return []
    hard = _difficulty(inside[3] - inside[1], int(occluded), truncated)
    more = {"box": inside, "occluded": int(occluded), "truncated": truncated}
    extras = {} if hard is None else {"difficulty": hard}
    return [metric_view(image, kind, camera, pose, (l, h, w), extras=extras, **more)]


def _difficulty(height: float, occluded: int, truncated: float) -> str | None:
    """Return the level at which the benchmark counts an object (KITTI's devkit readme)."""
    limits = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}
    for name, (low, most, share) in limits.items():
        if height >= low and 0 <= occluded <= most and 0 <= truncated <= share:
            return name
    return None
