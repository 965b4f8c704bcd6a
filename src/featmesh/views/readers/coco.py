"""COCO instances: masks (polygons or run lengths) and boxes [x, y, width, height]; no poses."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from featmesh import rle
from featmesh.paths import safe_join
from featmesh.views.record import View

from .common import (
    Notes,
    category_name,
    check_split,
    photo_size,
    read_json_file,
    unreadable,
    usable_box,
)
from .layouts import located, misplaced

NAME = "coco"


def read_coco(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of COCO's instances; they have masks and boxes and no R.

    Crowds (``iscrowd``) are left out. Masks need a folder in ``notes``.

    Args:
        root: the folder with ``annotations`` and the photos' folders.
        split: ``val2017`` of ``annotations/instances_val2017.json``; None: the only one.
        category: PASCAL3D+'s or COCO's name; None: all.
        notes: told what was left out, and where to write masks.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
        InputError: E_RLE, E_PATH.
    """
    notes = notes or Notes()
    folder = located(NAME, root)
    files = sorted((folder / "annotations").glob("instances_*.json"))
    known = [path.stem.removeprefix("instances_") for path in files]
    check_split(NAME, split, known)
    if split is None and len(known) > 1:
        raise misplaced(NAME, str(folder), f"{', '.join(known)}: choose one with --split")
    part = split or known[0]
    path = folder / "annotations" / f"instances_{part}.json"
    document = read_json_file(path)
    try:
        kinds = {row["id"]: category_name(row["name"]) for row in document["categories"]}
        images = {row["id"]: row for row in document["images"]}
        wanted = None if category is None else category_name(category)
        views = []
        for row in document["annotations"]:
            if wanted in (None, kinds[row["category_id"]]):
                kind = kinds[row["category_id"]]
                views += _views(folder, part, images[row["image_id"]], row, kind, notes)
    except (KeyError, TypeError) as error:
        raise unreadable(path, "COCO's images, categories, annotations", error) from error
    return views


def mask_of(segmentation: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the mask of an annotation: polygons in pixels, or run lengths.

    Args:
        segmentation: a list of polygons ``[x0, y0, x1, y1, ...]``, or ``{"size", "counts"}``.
        size: (height, width) of the photo.

    Raises:
        InputError: E_RLE.
    """
    if isinstance(segmentation, dict):
        return rle.decode(segmentation)
    mask = np.zeros(size, bool)
    for polygon in segmentation:
        mask |= _filled(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), size)
    return mask


def _filled(corners: Float64[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose centre lies inside a polygon (an odd number of edges to the left)."""
    height, width = size
    x0, y0 = corners.T[:, :, None]
    x1, y1 = np.roll(corners, -1, axis=0).T[:, :, None]
    centres = np.arange(height) + 0.5
    crossed = (y0 <= centres) != (y1 <= centres)
    edge, row = np.nonzero(crossed)
    along = (centres[row] - y0[edge, 0]) / (y1 - y0)[edge, 0]
    where = x0[edge, 0] + along * (x1 - x0)[edge, 0]
    crossings = np.zeros((height, width + 1), np.int32)
    np.add.at(crossings, (row, np.ceil(where - 0.5).clip(0, width).astype(int)), 1)
    return np.cumsum(crossings, axis=1)[:, :width] % 2 == 1


def _views(
    folder: Path, part: str, photo: dict[str, Any], row: dict[str, Any], kind: str, notes: Notes
) -> list[View]:
    image = safe_join(folder, f"{part}/{photo['file_name']}")
    size = photo_size(image, (int(photo["height"]), int(photo["width"])))
    x, y, width, height = (float(v) for v in row["bbox"])
    if row.get("iscrowd"):
        notes.skip("crowds")
    elif not image.is_file() or size is None:
        notes.skip("photos that are missing or of another size than stated")
    elif (box := usable_box((x, y, x + width, y + height), size)) is None:
        notes.skip("objects without a usable box")
    else:
        mask = None
        if notes.masks is not None:
            mask = mask_of(row["segmentation"], size)
            if mask.shape != size:
                notes.skip("objects whose mask has another size than the photo")
                return []
        path = None if mask is None else notes.save_mask(f"{part}_{row['id']}", mask)
        extras = {"annotation": row["id"]}
        return [View(image, size[1], size[0], kind, box=box, mask=path, extras=extras)]
    return []
