"""The views file: labelled photos, one record = one object in one photo (contracts 2)."""

import json
import os
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from PIL import Image

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, check_box
from featmesh.paths import safe_join, write_whole

from .fields import PARSERS, BadValue

SCHEMA = 1  # the newest views file this version reads, and the one it writes
ORIENTATION = 0x0112  # the EXIF tag; 5 and above turn the photo by a quarter


@dataclass(frozen=True, eq=False)
class View:
    """One object in one photo, as its record of the views file says; absent values are None.

    Attributes:
        image: absolute path of the photo; it need not exist.
        width: of the photo as displayed, pixels.
        height: of the photo as displayed, pixels.
        category: the object's category; of a negative, the category that is not there.
        no_object: the photo does not show the category.
        R: rotation of ``cam_from_obj``; with K in the camera of the whole photo, without K for a
            camera whose axis goes through the box centre.
        box: (x0, y0, x1, y1), photo pixels, as in the file.
        K: intrinsic matrix of the whole photo, pixels.
        t: translation of ``cam_from_obj`` in ``t_unit``.
        t_unit: ``"object"`` or ``"metre"``.
        distance: camera to object centre, object units.
        dimensions_lhw: size along object y, z, x, metres.
        azimuth: along the ray to the object's centre, degrees as in the file; R wins.
        elevation: degrees, likewise.
        theta: in-plane rotation, degrees, likewise.
        f_over_image_width: focal length over the width of the uncropped photo.
        mask: absolute path of a label image, 0 = not the object.
        parts: absolute path of a label image of parts.
        occluded: level, 0 visible, 1 partly, 2 largely hidden, 3 unknown, -1 not given.
        truncated: share outside the photo, -1 not given.
        model_name: which model of the category.
        extras: what else the record holds, unchecked.
        index: number of the record in its file, from 0.
        image_name: the photo's path as written in the file.
    """

    image: Path
    width: int
    height: int
    category: str
    no_object: bool = False
    R: Float64[np.ndarray, "3 3"] | None = None
    box: Box | None = None
    K: Float64[np.ndarray, "3 3"] | None = None
    t: Float64[np.ndarray, " 3"] | None = None
    t_unit: str | None = None
    distance: float | None = None
    dimensions_lhw: tuple[float, float, float] | None = None
    azimuth: float | None = None
    elevation: float | None = None
    theta: float | None = None
    f_over_image_width: float | None = None
    mask: Path | None = None
    parts: Path | None = None
    occluded: int | None = None
    truncated: float | None = None
    model_name: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    index: int = 0
    image_name: str | None = None

    @property
    def camera(self) -> Camera | None:
        """The camera of the whole photo where K is known."""
        if self.K is None:
            return None
        return Camera.from_K(torch.from_numpy(self.K), (self.height, self.width))

    @property
    def box_or_image(self) -> Box:
        """The box; the whole image where the record has none."""
        return self.box or (0.0, 0.0, float(self.width), float(self.height))


def read_views(
    path: str | os.PathLike[str],
    categories: Collection[str] | None = None,
    need_R: bool = False,
    sizes: bool = True,
) -> list[View]:
    """Return the views of a file; every record is checked before the first is returned.

    A photo that is missing or broken is not this function's business: training counts and skips it,
    ``evaluate`` counts it as no pose.

    Args:
        path: a JSON list of records, or ``{"schema": 1, "views": [...]}``; paths in it are
            relative to its folder.
        categories: the only categories allowed; None allows any.
        need_R: refuse a record that has no rotation and is no negative.
        sizes: compare width and height with the headers of the photos that can be opened.

    Raises:
        DatasetError: E_IO where the file cannot be read; E_VIEWS naming file, record (counted
            from 0) and key.
    """
    path = Path(path)
    views = [parse_view(path, index, record) for index, record in enumerate(raw_records(path))]
    for view in views:
        if categories is not None and view.category not in categories:
            known = f"one of {', '.join(sorted(categories))}"
            hint = "a model of that category, or leave the record out"
            raise _fault(path, view.index, "category", known, view.category, hint)
        if need_R and view.R is None and not view.no_object:
            hint = 'label the photo, or mark it "no_object": true'
            raise _fault(path, view.index, "R", "a rotation", "no such key", hint)
    if sizes:
        _check_sizes(path, views)
    return views


def write_views(path: str | os.PathLike[str], views: Sequence[View]) -> None:
    """Write a views file of schema 1 that :func:`read_views` reads back; whole or not at all.

    Raises:
        DatasetError: E_VIEWS where a photo, mask or part image lies outside the file's folder, or
            an extra value cannot be written as JSON.
    """
    path = Path(path)
    lines = []
    for number, view in enumerate(views):
        record = _record(path, number, view)
        try:
            line = json.dumps(record, ensure_ascii=False, allow_nan=False)
            line.encode()  # half a surrogate pair, which JSON can spell, is no text
            lines.append(line)
        except (TypeError, ValueError) as error:
            hint = f"drop it ({error})"
            raise _fault(
                path, number, "extras", "JSON values, finite", view.extras, hint
            ) from error
    body = ",\n".join(lines)
    write_whole(path, f'{{"schema": {SCHEMA}, "views": [\n{body}\n]}}\n')


def _fault(path: Path, index: int, key: str, expected: str, got: Any, hint: str) -> DatasetError:
    shown = got if isinstance(got, str) else repr(got)
    shown = shown if len(shown) <= 160 else shown[:157] + "..."
    return DatasetError(
        "E_VIEWS",
        f"views {path} record {index} key {key!r}: expected {expected}, got {shown}, try: {hint}",
    )


def raw_records(path: Path) -> list[Any]:
    """Return the records of a views file as they stand in it, none of them checked.

    Raises:
        DatasetError: E_IO where the file cannot be read, E_VIEWS where it is no list of records.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such file"
        raise DatasetError(
            "E_IO", f"views {path}: expected a JSON file, got {kind}, try: --views FILE"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        hint = "check its permissions"
        raise DatasetError(
            "E_IO", f"views {path}: expected a readable file, got {error}, try: {hint}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, "JSON", str(error), "write it again") from error
    if isinstance(data, dict):
        schema = data.get("schema")
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
            raise _unreadable(path, f'"schema": {SCHEMA}', repr(schema), 'add "schema" and "views"')
        if schema > SCHEMA:
            hint = "a newer featmesh"
            got = f"{schema}: the file is newer than this featmesh"
            raise _unreadable(path, f"schema {SCHEMA}", got, hint)
        data = data.get("views")
    if not isinstance(data, list) or not data:
        got = type(data).__name__ if not isinstance(data, list) else "an empty list"
        hint = '[{"image": ...}, ...] or {"schema": 1, "views": [...]}'
        raise _unreadable(path, "a list of at least one record", got, hint)
    return data


def _unreadable(path: Path, expected: str, got: str, hint: str) -> DatasetError:
    return DatasetError(
        "E_VIEWS", f"views {path}: expected {expected}, got {got[:200]}, try: {hint}"
    )


def parse_view(path: Path, index: int, record: Any) -> View:
    """Return the view that one record of a views file describes, checked.

    Args:
        path: of the file; what the record names lies below its folder.
        index: number of the record in it, from 0.
        record: as :func:`raw_records` gives it.

    Raises:
        DatasetError: E_VIEWS naming file, record and key.
    """
    if not isinstance(record, dict):
        hint = '{"image": ..., "width": ..., "height": ..., "category": ...}'
        raise _fault(path, index, "*", "an object with keys", record, hint)
    values: dict[str, Any] = {}
    key = ""
    try:
        for key in ("image", "width", "height", "category"):
            if record.get(key) is None:
                raise BadValue(f"a record with the key {key!r}", "add it", "no such key")
        for key, parse in PARSERS.items():
            if record.get(key) is not None:
                values[key] = parse(record[key])
        for key in ("image", "mask", "parts"):
            if key in values:
                values[key] = _inside(path.parent, values[key])
        if "t" in values and "t_unit" not in values:
            key = "t_unit"
            raise BadValue("the unit of t, 'object' or 'metre'", "add it", "no such key")
        size = (values["height"], values["width"])
        if "box" in values:
            key = "box"
            _as_fault(lambda: check_box(values["box"], *size))
        if "K" in values:
            key = "K"
            _as_fault(lambda: Camera.from_K(torch.from_numpy(values["K"]), size))
    except BadValue as bad:
        got = record.get(key) if bad.got is None else bad.got
        raise _fault(path, index, key, bad.expected, got, bad.hint) from None
    extras = {name: value for name, value in record.items() if name not in PARSERS}
    return View(**values, extras=extras, index=index, image_name=record["image"])


def _as_fault(check: Callable[[], Any]) -> None:
    """Run another module's check; its complaint becomes one about this key."""
    try:
        check()
    except InputError as error:
        said = error.args[0].partition("expected ")[2] or error.args[0]
        expected, _, hint = said.partition("; try: ")
        expected, _, got = expected.rpartition(", got ")
        raise BadValue(expected, hint, got) from None


def _inside(folder: Path, name: str) -> Path:
    try:
        return safe_join(folder, name)
    except InputError as error:
        hint = error.args[0].rpartition("try: ")[2]
        raise BadValue("a relative path that stays in the file's folder", hint) from None


def _record(path: Path, number: int, view: View) -> dict[str, Any]:
    """Return the JSON object of a view, paths relative to the folder of ``path``."""
    record: dict[str, Any] = {}
    root = path.parent.resolve()
    for key in PARSERS:
        value = getattr(view, key)
        if value is None or (key == "no_object" and not value):
            continue
        if isinstance(value, Path):
            if not value.resolve().is_relative_to(root):
                hint = "write the views file above its photos"
                raise _fault(path, number, key, f"a path inside {root}", str(value), hint)
            value = value.resolve().relative_to(root).as_posix()
        record[key] = value.tolist() if isinstance(value, np.ndarray) else value
    return record | {key: value for key, value in view.extras.items() if key not in PARSERS}


def _check_sizes(path: Path, views: Sequence[View]) -> None:
    """Refuse a record whose photo has another size; photos that do not open are passed over."""
    found: dict[Path, tuple[int, int] | None] = {}
    for view in views:
        if view.image not in found:
            found[view.image] = displayed_size(view.image)
        size = found[view.image]
        if size is not None and size != (view.width, view.height):
            key = "width" if size[0] != view.width else "height"
            expected = f"the size of {view.image_name}, {size[0]}x{size[1]} as displayed"
            got = f"{view.width}x{view.height}"
            raise _fault(path, view.index, key, expected, got, "was the photo resized or turned?")


def displayed_size(photo: Path) -> tuple[int, int] | None:
    """Return (width, height) after the EXIF rotation, from the header alone; None if unreadable."""
    if not photo.is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(photo) as image:
                width, height = image.size
                turned = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever a hostile header raises: read_photo says it with its code
        return None
    return (height, width) if turned in (5, 6, 7, 8) else (width, height)
