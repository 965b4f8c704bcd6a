"""Occluded PASCAL3D+: occluders pasted on test photos, the pose of the original (spec 3.2)."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from featmesh.views.record import View

from .common import Notes, check_split, photo_of, unreadable
from .layouts import LAYOUTS, located, misplaced
from .pascal3d import read_pascal3d
from .pascal_record import first_object, read_record, record_views

NAME = "occluded-pascal3d"
SHOWN = 10  # of 255: above it the stored mask is the object
LEVELS = {"L1": "FGL1_BGL1", "L2": "FGL2_BGL2", "L3": "FGL3_BGL3"}
HIDDEN = {"L1": 1, "L2": 2, "L3": 2}  # the views file's `occluded`: partly, largely


def read_occluded(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of Occluded PASCAL3D+; frames are PASCAL3D+'s, the pose is the original's.

    ``extras["occlusion"]`` is the share of the object's pixels that the occluders hide. Where
    ``notes`` has a folder for them, ``mask`` is what is visible of the object, and
    ``extras["amodal_mask"]``, ``extras["occluder_mask"]`` are file names in that folder's folder.

    Args:
        root: the folder with ``images`` and ``annotations``. PASCAL3D+ itself must lie in it or
            beside it: the poses come from there.
        split: ``L0`` (PASCAL3D+ ``val`` itself), ``L1`` to ``L3``; None: L1 to L3.
        category: one of the twelve; None: all there are.
        notes: told what was left out, and where to write masks.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
    """
    notes = notes or Notes()
    check_split(NAME, split)
    folder = located(NAME, root)
    poses = _originals(folder)
    if split == "L0":
        return read_pascal3d(poses, "val", category, notes)
    views: list[View] = []
    for level in LEVELS if split is None else (split,):
        for place in sorted((folder / "annotations").glob(f"{category or '*'}{LEVELS[level]}")):
            found = re.fullmatch(r"([a-z]+)FGL\d_BGL\d", place.name)
            for label in sorted(place.glob("*.npz")) if found else []:
                views += _views(folder, label, poses, level, notes)
    return views


def _originals(folder: Path) -> Path:
    usual = LAYOUTS["pascal3d"].folder
    for place in (folder / usual, folder.parent / usual, folder.parent):
        if (place / "Annotations").is_dir():
            return place
    raise misplaced(NAME, str(folder), f"no {usual} in it or beside it")


def _views(folder: Path, label: Path, poses: Path, level: str, notes: Notes) -> list[View]:
    category = label.parent.name.partition("FGL")[0]
    image = photo_of(folder / "images" / label.parent.name, label.stem)
    original = poses / "Annotations" / f"{category}_imagenet" / f"{label.stem}.mat"
    if image is None or not original.is_file():
        notes.skip("annotations without a photo or an original annotation")
        return []
    record = read_record(original)
    views = record_views(image, record, first_object(record, category), notes, level=level)
    if not views:
        return []
    amodal, hidden = _masks(label)
    if amodal.shape != (views[0].height, views[0].width) or amodal.shape != hidden.shape:
        notes.skip("photos whose masks have another size")
        return []
    extras: dict[str, Any] = dict(views[0].extras)
    covered = float((amodal & hidden).sum()) / max(float(amodal.sum()), 1.0)
    extras["occlusion"] = round(covered, 4)
    name = f"{label.parent.name}/{label.stem}"
    for kind, mask in (("amodal", amodal), ("occluder", hidden)):
        path = notes.save_mask(f"{name}_{kind}", mask)
        if path is not None and notes.masks is not None:
            extras[f"{kind}_mask"] = path.relative_to(notes.masks.parent).as_posix()
    visible = notes.save_mask(name, amodal & ~hidden)
    return [replace(views[0], extras=extras, mask=visible, occluded=HIDDEN[level])]


def _masks(path: Path) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Return the object's whole mask and that of the occluders; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["mask"].squeeze() > SHOWN, stored["occluder_mask"].squeeze() > 0
    except Exception as error:  # zip and npy readers on a damaged file raise anything
        raise unreadable(path, "an npz with mask and occluder_mask", error) from error
