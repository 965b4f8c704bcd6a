"""PASCAL3D+ as the lineage prepares it: one crop and one npz an object (spec 2.3).

The npz tells angles in radians, the principal point and the box in pixels of the original photo,
boxes as rows before columns, and how the crop was made: resized by ``resize_rate``, padded, cut.
"""

from pathlib import Path
from typing import Any

import numpy as np

from featmesh.geometry.conventions import VIEWPORT, Pascal3D
from featmesh.geometry.crop import Box
from featmesh.views.record import View

from .common import Notes, check_split, pascal_view, photo_of, photo_size, unreadable, usable_box
from .keypoints import KEYPOINTS
from .layouts import located, misplaced

NAME = "pascal3d-prepared"
VISIBLE = 1


def read_prepared(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of prepared crops; their photos are the crops.

    K is the exact camera of the crop: the original's focal length times ``resize_rate``, its
    principal point moved along; t = (0, 0, distance) with the original's distance. The lineage
    keeps the focal length of 3000 and divides the distance instead, which is the same only for a
    flat object (spec 2.2); R is the same in both.

    Args:
        root: a folder with ``train`` and ``val``, one of these, or npz files with photos beside.
        split: ``train`` or ``val``; None: all.
        category: folder of the category; it must be given where the files lie in none.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
    """
    notes = notes or Notes()
    check_split(NAME, split)
    folder = located(NAME, root)
    views: list[View] = []
    for label, photos, kind in _files(folder, split, category):
        image = photo_of(photos, label.stem)
        if image is None:
            notes.skip("annotations without a photo")
            continue
        views += _views(label, image, kind, notes)
    return views


def _files(folder: Path, split: str | None, category: str | None) -> list[tuple[Path, Path, str]]:
    """Return each npz with the folder of its photo and its category."""
    if any(folder.glob("*.npz")):
        if category is None:
            raise misplaced(NAME, str(folder), "npz files in no category's folder, no --category")
        return [(path, folder, category) for path in sorted(folder.glob("*.npz"))]
    tops = [folder / split] if split and (folder / split).is_dir() else [folder]
    if tops == [folder] and not (folder / "annotations").is_dir():
        tops = sorted(p.parent for p in folder.glob("*/annotations"))
    found = []
    for top in tops:
        for label in sorted(top.glob(f"annotations/{category or '*'}/*.npz")):
            kind = label.parent.name.partition("FGL")[0]
            found.append((label, top / "images" / label.parent.name, kind))
    return found


def _views(path: Path, image: Path, category: str, notes: Notes) -> list[View]:
    size = photo_size(image)
    try:
        with np.load(path, allow_pickle=False) as stored:
            # what only unpickling could read is passed over
            known = {key: stored[key] for key in stored.files if _plain(stored, key)}
        label, box, places = _read(known)
    except Exception as error:  # zip and npy readers on a damaged file raise anything
        raise unreadable(path, "a prepared PASCAL3D+ annotation", error) from error
    if size is None:
        notes.skip("crops that do not open")
    elif not label.distance > 0:
        notes.skip("objects with a coarse viewpoint only (distance 0)")
    elif (inside := usable_box(box, size)) is None:
        notes.skip("objects whose box misses the photo")
    else:
        names = KEYPOINTS.get(category, ())
        points = dict(zip(names, places, strict=True)) if len(names) == len(places) else {}
        extras: dict[str, Any] = {"cad_index": int(known["cad_index"]), "name": str(known["name"])}
        if seen := {name: place for name, place in points.items() if place}:
            extras["keypoints"] = seen
        return [pascal_view(image, size, category, label, inside, extras=extras)]
    return []


def _plain(stored: Any, key: str) -> bool:
    try:
        return stored[key].dtype != object
    except ValueError:  # an object array
        return False


def _read(known: dict[str, np.ndarray]) -> tuple[Pascal3D, Box, list[list[float]]]:
    """Return viewpoint and box in the crop's pixels, and its key points, [] where hidden."""
    rate = float(known["resize_rate"])
    top, left = _padding(known)
    y0, _, x0 = (float(v) for v in known["box"][:3])
    shift = np.array([left - x0, top - y0])
    px, py = (rate * known["principal"] + shift).tolist()
    u0, v0, u1, v1 = (rate * known["bbox"].reshape(2, 2) + shift).ravel().tolist()
    # with a new principal point stands the new distance, without one the original's
    distance = float(known["distance"]) * (rate if "px" in known else 1.0)
    a, e, theta = (float(np.degrees(known[key])) for key in ("azimuth", "elevation", "theta"))
    viewport = float(known.get("viewport", VIEWPORT))
    focal = float(known.get("focal", 1.0)) * rate
    label = Pascal3D(a, e, theta, distance, px, py, focal, viewport)
    places: list[list[float]] = []
    if "cropped_kp_list" in known and "visible" in known:
        pairs = zip(known["cropped_kp_list"].tolist(), known["visible"].tolist(), strict=True)
        places = [[x, y] if seen == VISIBLE else [] for (y, x), seen in pairs]
    return label, (u0, v0, u1, v1), places


def _padding(known: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return the rows added above and the columns added on the left."""
    if "padding_params" in known:
        flat = known["padding_params"]
        return float(flat[0]), float(flat[2])
    return float(known["padding"][0][0]), float(known["padding"][1][0])
