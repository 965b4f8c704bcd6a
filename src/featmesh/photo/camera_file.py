"""Reading ``K.json``, the camera of one photo: ``{"K": [[..]], "width": , "height": }``."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera

from .files import open_regular, refusal
from .photo import check_size

_MAX_BYTES = 1_000_000
_WHO, _FORM = "read_camera_file", '{"K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "width", "height"}'


def read_camera_file(path: str | Path, size: tuple[int, int]) -> Camera:
    """Return the camera of a photo from its ``K.json`` (contracts 1).

    Args:
        path: of the file.
        size: (height, width) of the photo as displayed, pixels; the file's must be equal.

    Raises:
        InputError: E_IO, or E_CAMERA naming the entry and what was expected.
    """
    name = os.fspath(path)
    with open_regular(path, _WHO) as file:
        text = file.read(_MAX_BYTES + 1)
    record = _parse(text, name)
    for key in ("K", "width", "height"):
        if key not in record:
            raise _bad(f"the key {key!r}", f"{sorted(record)!r:.200} in {name!r}")
    K = _matrix(record["K"], name)
    height, width = (_side(record[key], key, name) for key in ("height", "width"))
    try:
        camera = Camera.from_K(K, (height, width))
    except InputError as error:
        raise InputError(error.code, f"{error.args[0]} (in {name!r})") from None
    check_size(camera, *size, who=f"{_WHO}({name!r})")
    return camera


def _parse(text: bytes, name: str) -> dict[str, Any]:
    if len(text) > _MAX_BYTES:
        raise _bad(f"at most {_MAX_BYTES} bytes", f"more in {name!r}")
    try:
        record = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _bad(_FORM, f"no JSON in {name!r} ({error})") from None
    if not isinstance(record, dict):
        raise _bad(_FORM, f"a {type(record).__name__} in {name!r}")
    return record


def _matrix(rows: Any, name: str) -> torch.Tensor:
    square = isinstance(rows, list) and len(rows) == 3
    if not square or not all(isinstance(row, list) and len(row) == 3 for row in rows):
        raise _bad("K as three rows of three numbers", f"{rows!r:.200} in {name!r}")
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            # JSON integers have no bound; float64 has
            if not _is_number(entry) or abs(entry) > 1e300:
                raise _bad(f"a number as K[{i},{j}]", f"{entry!r:.40} in {name!r}")
    return torch.tensor(rows, dtype=torch.float64)


def _side(value: Any, key: str, name: str) -> int:
    if not _is_number(value) or value != value // 1 or not 0 < value < 1e6:
        raise _bad(f"{key} as a whole number of pixels", f"{value!r:.40} in {name!r}")
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bad(expected: str, got: str) -> InputError:
    return refusal("E_CAMERA", _WHO, expected, got, f"write {_FORM}")
