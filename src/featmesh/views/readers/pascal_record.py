"""Annotations of PASCAL3D+ and its relatives: the MATLAB struct ``record`` (spec 3.1).

Angles are degrees. Pixels are kept as the file has them. They count from 1 at the centre of the
first pixel, half a pixel from our corner; the benchmark's own readers do not correct that either,
and so its crops come out the same.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featmesh.geometry.conventions import VIEWPORT, Pascal3D
from featmesh.views.record import View

from .common import Notes, category_name, pascal_view, photo_size, unreadable, usable_box

VISIBLE = 1  # status of a key point that is seen


@dataclass(frozen=True)
class PascalObject:
    """One object of an annotation.

    Attributes:
        number: its place in the record, from 0.
        category: as views files spell it.
        label: viewpoint, degrees and pixels; None where the object has none.
        coarse: azimuth or elevation is a coarse one.
        bbox: (x0, y0, x1, y1), pixels.
        cad_index: of the CAD the annotator aligned, from 1; None where it is not told.
        flags: which of truncated, occluded, difficult are set.
        keypoints: visible ones by name, pixels.
    """

    number: int
    category: str
    label: Pascal3D | None
    coarse: bool
    bbox: tuple[float, ...]
    cad_index: int | None
    flags: tuple[str, ...]
    keypoints: dict[str, list[float]]


@dataclass(frozen=True)
class PascalRecord:
    """The annotation of one photo.

    Attributes:
        size: (height, width) of the photo the labels belong to, or None.
        objects: in the file's order, those without a viewpoint too.
    """

    size: tuple[int, int] | None
    objects: tuple[PascalObject, ...]


def read_record(path: Path, viewport: float = VIEWPORT) -> PascalRecord:
    """Return the annotation of a ``.mat`` file.

    Args:
        path: of the file.
        viewport: pixels per unit focal length where the file does not tell.

    Raises:
        DatasetError: E_DATA where it cannot be read or holds no record.
    """
    from scipy.io import loadmat

    try:
        record = loadmat(path, squeeze_me=True, struct_as_record=False)["record"]
        size = _numbers(getattr(record, "imgsize", None))
        objects = np.atleast_1d(record.objects)
        found = tuple(_object(k, one, viewport) for k, one in enumerate(objects))
    except Exception as error:  # scipy's parser on a damaged file raises anything
        raise unreadable(path, "a PASCAL3D+ annotation, struct record", error) from error
    return PascalRecord((int(size[1]), int(size[0])) if len(size) >= 2 else None, found)


def record_views(
    image: Path, record: PascalRecord, wanted: list[PascalObject], notes: Notes, **more: Any
) -> list[View]:
    """Return the views of some objects of a photo; those without a usable pose are noted.

    Args:
        image: the photo.
        record: its annotation.
        wanted: which of its objects.
        notes: told what was left out.
        more: further extras of every view.
    """
    size = photo_size(image, record.size)
    views = []
    for one in wanted:
        if one.label is None:
            notes.skip("objects without a viewpoint")
        elif not one.label.distance > 0:
            notes.skip("objects with a coarse viewpoint only (distance 0)")
        elif size is None:
            notes.skip("objects in photos of another size than annotated")
        elif (box := usable_box(one.bbox, size)) is None:
            notes.skip("objects whose box misses the photo")
        else:
            view = pascal_view(
                image,
                size,
                one.category,
                one.label,
                box,
                occluded=int("occluded" in one.flags),
                extras=_extras(one) | more,
            )
            views.append(view)
    return views


def _extras(one: PascalObject) -> dict[str, Any]:
    told: dict[str, Any] = {"cad_index": one.cad_index, "flags": list(one.flags)}
    told |= {"keypoints": one.keypoints, "coarse": one.coarse}
    return {"object": one.number} | {key: value for key, value in told.items() if value}


def first_object(record: PascalRecord, category: str) -> list[PascalObject]:
    """Return what the benchmark takes of a photo: its first object, if it is of the category."""
    first = record.objects[0] if record.objects else None
    return [first] if first is not None and first.category == category else []


def _object(number: int, one: Any, viewport: float) -> PascalObject:
    label, coarse = _label(getattr(one, "viewpoint", None), viewport)
    anchors = getattr(one, "anchors", None)
    points = {}
    for name in getattr(anchors, "_fieldnames", []):
        point = getattr(anchors, name)
        status = _numbers(getattr(point, "status", None))
        place = _numbers(getattr(point, "location", None))
        if len(status) and status[0] == VISIBLE and len(place) == 2:
            points[name] = place
    index = _numbers(getattr(one, "cad_index", None))
    names = ("truncated", "occluded", "difficult")
    flags = tuple(n for n in names if any(_numbers(getattr(one, n, None))))
    return PascalObject(
        number,
        category_name(str(getattr(one, "class"))),
        label,
        coarse,
        tuple(_numbers(getattr(one, "bbox", None))),
        int(index[0]) if index else None,
        flags,
        points,
    )


def _label(point: Any, viewport: float) -> tuple[Pascal3D | None, bool]:
    """Return the viewpoint and whether it is coarse; an empty array is how none looks."""

    def value(name: str) -> float | None:
        found = _numbers(getattr(point, name, None))
        return found[0] if found else None

    fine = (value("azimuth"), value("elevation"))
    azimuth = value("azimuth_coarse") if fine[0] is None else fine[0]
    elevation = value("elevation_coarse") if fine[1] is None else fine[1]
    told = [azimuth, elevation, *(value(name) for name in ("theta", "distance", "px", "py"))]
    numbers = [v for v in told if v is not None and np.isfinite(v)]
    if len(numbers) < len(told):
        return None, False
    a, e, theta, distance, px, py = numbers
    focal, own = value("focal") or 1.0, value("viewport") or viewport
    return Pascal3D(a, e, theta, distance, px, py, focal, own), None in fine


def _numbers(value: Any) -> list[float]:
    """Return the numbers of a field, whatever nesting it came in; none where it is empty."""
    if value is None:
        return []
    flat = np.asarray(value)
    if flat.dtype == object:
        return [number for item in flat.ravel() for number in _numbers(item)]
    return [float(v) for v in flat.ravel()] if flat.dtype.kind in "fiub" else []
