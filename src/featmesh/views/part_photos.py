"""Photos annotated with the object's parts: polygons in COCO form, or label images of a views file.

COCO form: ``images`` (``id``, ``file_name`` or ``path``, ``width``, ``height``), ``categories``
(``id``, ``name``; names that begin with ``_`` are no parts) and ``annotations`` (``image_id``,
``category_id``, ``segmentation``: polygons ``[x0, y0, x1, y1, ...]`` in pixels).
"""

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box
from featmesh.paths import safe_join

from .record import View, read_views

MOST = 254  # parts: label images have 8 bits, 0 is no part
MOST_IDS = 10_000_000


@dataclass(frozen=True, eq=False)
class Outline:
    """The polygons of one part in one photo; they may overlap and count once.

    Attributes:
        part: number of the part, from 1.
        polygons: corners, photo pixels.
    """

    part: int
    polygons: tuple[Float[np.ndarray, "n 2"], ...]

    @property
    def area(self) -> float:
        """Sum of the polygons' areas, square pixels."""
        return sum(_area(polygon) for polygon in self.polygons)


@dataclass(frozen=True, eq=False)
class PartPhoto:
    """A photo whose parts are known.

    Attributes:
        image: absolute path; the photo need not exist.
        id: number that the annotations call it by.
        height: of the photo, pixels.
        width: of the photo, pixels.
        names: of the parts; part k = 1, 2, ... is ``names[k - 1]``.
        box: (x0, y0, x1, y1) around the object where it is given, else around all its parts.
        outlines: of the parts in it; empty where there is a label image.
        label_image: absolute path of an 8-bit picture of part numbers, or None.
        camera: of the photo where it is known.
    """

    image: Path
    id: int
    height: int
    width: int
    names: tuple[str, ...]
    box: Box
    outlines: tuple[Outline, ...] = ()
    label_image: Path | None = None
    camera: Camera | None = None

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """Return the part number of each pixel, 0 for none; smaller parts lie over larger ones.

        Raises:
            DatasetError: E_PARTS where a label image is missing, of another size or holds numbers
                that are no part's.
        """
        if self.label_image is not None:
            return _read_labels(self.label_image, (self.height, self.width), len(self.names))
        return _drawn(self.outlines, (self.height, self.width))


def read_part_photos(
    path: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    ids: Collection[int] | None = None,
) -> list[PartPhoto]:
    """Return the photos of an annotation file that show parts, by id.

    Every record is checked before the first is returned; photos are not opened.

    Args:
        path: COCO JSON, or a views file (contracts 2) whose records have ``parts``. Paths in it are
            relative to its folder.
        names: of the parts; needed for a views file, where they say what 1, 2, ... are. Of COCO
            annotations the parts of these names alone are taken, in this order.
        ids: the photos wanted: image ids of COCO annotations, numbers of a views file's records
            (from 0); None for all.

    Raises:
        DatasetError: E_IO where the file cannot be read; E_PARTS, E_VIEWS naming file, record and
            key; E_DATA where no photo is left.
    """
    path = Path(path)
    document = _document(path)
    if isinstance(document, dict) and "annotations" in document:
        photos = _coco(path, document, names, ids)
    else:
        photos = _views(path, names, ids)
    if not photos:
        hint = "other --ids, or annotate some photos"
        raise _bad("E_DATA", f"parts {path}", "photos with parts", "none", hint)
    return photos


def parse_ids(text: str) -> frozenset[int]:
    """Return the numbers of ``"1:320"`` (both ends count) or ``"3,5,9:12"``.

    Raises:
        InputError: E_IDS.
    """
    found: set[int] = set()
    try:
        for piece in text.split(","):
            low, colon, high = piece.partition(":")
            span = range(int(low), int(high if colon else low) + 1)
            if not 0 < len(span) <= MOST_IDS:
                raise ValueError(piece)
            found |= set(span)
    except ValueError:
        found = set()
    if not found:
        raise InputError("E_IDS", f"ids: expected numbers, got {text[:80]!r}; try: 1:320 or 3,5,9")
    return frozenset(found)


def _document(path: Path) -> Any:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such file"
        raise _bad("E_IO", f"parts {path}", "a JSON file", kind, "--photos FILE")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        hint = "check its permissions"
        raise _bad("E_IO", f"parts {path}", "a readable file", str(error), hint) from error
    except (ValueError, RecursionError) as error:
        raise _bad(
            "E_PARTS", f"parts {path}", "JSON", str(error)[:160], "export it again"
        ) from error


def _coco(
    path: Path, document: dict[str, Any], wanted: Sequence[str] | None, ids: Collection[int] | None
) -> list[PartPhoto]:
    parts, names = _categories(path, document, wanted)
    outlines: dict[int, list[Outline]] = {}
    images = _images(path, document)
    for number, row in enumerate(_rows(path, document, "annotations")):
        who = f"parts {path} annotations[{number}]"
        image, category = _whole(who, row, "image_id"), _whole(who, row, "category_id")
        if image not in images:
            raise _bad("E_PARTS", who, "the id of an image", f"image_id {image}", "add the image")
        if category not in parts:
            hint = "add the category"
            raise _bad("E_PARTS", who, "the id of a category", f"category_id {category}", hint)
        part = parts[category]
        if part and (ids is None or image in ids):
            outlines.setdefault(image, []).append(Outline(part, _polygons(who, row)))
    return [
        _photo(path, number, images[image], image, names, outlines[image])
        for number, image in enumerate(images)
        if image in outlines
    ]


def _photo(
    path: Path,
    number: int,
    row: Mapping[str, Any],
    image: int,
    names: tuple[str, ...],
    outlines: list[Outline],
) -> PartPhoto:
    who = f"parts {path} images[{number}]"
    width, height = _whole(who, row, "width"), _whole(who, row, "height")
    if min(width, height) < 1:
        raise _bad("E_PARTS", who, "a size in pixels", f"{width}x{height}", "measure the photo")
    name = row.get("path") or row.get("file_name")
    try:
        file = safe_join(path.parent, str(name or ""))
    except InputError as error:
        hint = "a relative path that stays in the file's folder"
        raise _bad("E_PARTS", who, "the path of a photo", repr(name), hint) from error
    box = _box([corner for o in outlines for corner in o.polygons], height, width)
    if box is None:
        hint = "draw the parts again, or leave the photo out"
        raise _bad("E_PARTS", who, "parts inside the photo", "none", hint)
    return PartPhoto(file, image, height, width, names, box, tuple(outlines))


def _categories(
    path: Path, document: dict[str, Any], wanted: Sequence[str] | None
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the part number of each category id (0: none), and the parts' names."""
    found: dict[int, str] = {}
    for number, row in enumerate(_rows(path, document, "categories")):
        who = f"parts {path} categories[{number}]"
        key, name = _whole(who, row, "id"), row.get("name")
        if not isinstance(name, str) or not name:
            raise _bad("E_PARTS", who, "a name", repr(name), "name the part")
        if key in found or name in found.values():
            raise _bad("E_PARTS", who, "ids and names that differ", f"{key} {name!r}", "rename it")
        found[key] = name
    every = [found[key] for key in sorted(found) if not found[key].startswith("_")]
    names = tuple(every if wanted is None else wanted)
    unknown = [name for name in names if name not in every]
    if unknown:
        hint = f"one of {', '.join(every)}"
        raise _bad("E_PARTS", f"parts {path}", "names of categories", ", ".join(unknown), hint)
    _check_names(path, names)
    numbers = {name: k for k, name in enumerate(names, 1)}
    return {key: numbers.get(name, 0) for key, name in found.items()}, names


def _images(path: Path, document: dict[str, Any]) -> dict[int, Mapping[str, Any]]:
    images: dict[int, Mapping[str, Any]] = {}
    for number, row in enumerate(_rows(path, document, "images")):
        who = f"parts {path} images[{number}]"
        key = _whole(who, row, "id")
        if key in images:
            raise _bad("E_PARTS", who, "ids that differ", f"{key} twice", "number the images anew")
        images[key] = row
    return images


def _rows(path: Path, document: dict[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = document.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        hint = "an annotation file in COCO form"
        raise _bad("E_PARTS", f"parts {path}", f"a list {key!r} of objects", _kind(rows), hint)
    return rows


def _whole(who: str, row: Mapping[str, Any], key: str) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad("E_PARTS", who, f"a whole number {key!r}", repr(value)[:80], "export it again")
    return value


def _polygons(who: str, row: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Return the polygons of an annotation; run-length masks are refused."""
    given = row.get("segmentation")
    if not isinstance(given, list) or not given:
        hint = "export polygons, not run lengths"
        raise _bad("E_PARTS", who, "polygons [[x0, y0, x1, y1, ...], ...]", _kind(given), hint)
    found = []
    for polygon in given:
        fits = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        numbers = fits and all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
            for v in polygon
        )
        if not numbers:
            got = repr(polygon)[:80]
            raise _bad("E_PARTS", who, "at least 3 pairs of finite numbers", got, "draw it again")
        found.append(np.asarray(polygon, dtype=np.float64).reshape(-1, 2))
    return tuple(found)


def _views(path: Path, names: Sequence[str] | None, ids: Collection[int] | None) -> list[PartPhoto]:
    views = read_views(path)
    if names is None:
        hint = "name the parts 1, 2, ... in their order"
        raise _bad("E_PARTS", f"parts {path}", "names for a views file", "none", hint)
    _check_names(path, names)
    chosen = [v for v in views if v.parts is not None and (ids is None or v.index in ids)]
    return [found for view in chosen if (found := _of_view(view, tuple(names))) is not None]


def _of_view(view: View, names: tuple[str, ...]) -> PartPhoto | None:
    """Return the photo of a record; None where its label image shows no part."""
    size, box = (view.height, view.width), view.box
    if view.parts is None:
        return None
    if box is None:
        rows, columns = np.nonzero(_read_labels(view.parts, size, len(names)))
        if not len(rows):
            return None
        low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return PartPhoto(
        view.image, view.index, *size, names, box, label_image=view.parts, camera=view.camera
    )


def _drawn(outlines: Sequence[Outline], size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """Return the label image of outlines, small parts drawn last."""
    canvas = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    for outline in sorted(outlines, key=lambda o: -o.area):
        for polygon in outline.polygons:
            # Pillow counts from the centre of the first pixel, we from its corner
            draw.polygon([(x - 0.5, y - 0.5) for x, y in polygon.tolist()], fill=outline.part)
    return np.asarray(canvas).copy()


def _read_labels(path: Path, size: tuple[int, int], parts: int) -> UInt8[np.ndarray, "h w"]:
    who = f"parts {path.name}"
    try:
        with Image.open(path) as image:
            mode, labels = image.mode, np.asarray(image)
    except Exception as error:  # a decoder on a hostile file raises anything
        got = f"{type(error).__name__} ({error})"[:160]
        raise _bad("E_PARTS", who, "a label image", got, "an 8-bit PNG") from error
    if mode not in ("L", "P") or labels.shape != size:
        got = f"{mode}, {'x'.join(map(str, labels.shape[::-1]))}"
        raise _bad("E_PARTS", who, f"8 bits, {size[1]}x{size[0]}", got, "write it again")
    if int(labels.max(initial=0)) > parts:
        hint = "name every part"
        raise _bad("E_PARTS", who, f"numbers up to {parts}", f"{int(labels.max())}", hint)
    return labels.astype(np.uint8)


def _box(polygons: list[np.ndarray], height: int, width: int) -> Box | None:
    corners = np.concatenate(polygons).clip(0, [width, height])
    (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
    return (x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def _area(polygon: Float[np.ndarray, "n 2"]) -> float:
    x, y = polygon.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not 0 < len(names) <= MOST or len(set(names)) != len(names):
        got = f"{len(names)}, {len(set(names))} of them different"
        raise _bad("E_PARTS", f"parts {path}", f"1 to {MOST} names that differ", got, "rename them")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]}"


def _bad(code: str, who: str, expected: str, got: str, hint: str) -> DatasetError:
    return DatasetError(code, f"{who}: expected {expected}, got {got}, try: {hint}")
