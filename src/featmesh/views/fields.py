"""The values of one record of the views file, each checked by itself (contracts 2)."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from featmesh.geometry.crop import Box

ROTATION_TOLERANCE = 1e-4  # largest entry of |R^T R - I| in a file
T_UNITS = ("object", "metre")


class BadValue(Exception):
    """What is wrong with one value: what was expected of it and what to try."""

    def __init__(self, expected: str, hint: str, got: str | None = None) -> None:
        super().__init__(expected)
        self.expected, self.hint, self.got = expected, hint, got


def _is_number(value: Any) -> bool:
    # the comparison is false for NaN and exact for integers of any length
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def _number(expected: str, low: float = -np.inf) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if not _is_number(value) or value <= low:
            raise BadValue(expected, "correct it, or leave the key out")
        return float(value)

    return parse


def _vector(length: int, expected: str, low: float = -np.inf) -> Callable[[Any], list[float]]:
    def parse(value: Any) -> list[float]:
        good = isinstance(value, list) and len(value) == length and all(map(_is_number, value))
        if not good or any(v <= low for v in value):
            raise BadValue(expected, "correct it, or leave the key out")
        return [float(v) for v in value]

    return parse


def _matrix(value: Any) -> Float64[np.ndarray, "3 3"]:
    expected = "3 x 3 finite numbers, a list of rows"
    if not isinstance(value, list) or len(value) != 3:
        raise BadValue(expected, "correct it, or leave the key out")
    row = _vector(3, expected)
    return np.array([row(v) for v in value], dtype=np.float64)


def _rotation(value: Any) -> Float64[np.ndarray, "3 3"]:
    R = _matrix(value)
    off = float(np.abs(R.T @ R - np.eye(3)).max())
    if off > ROTATION_TOLERANCE:
        expected = f"a rotation, R^T R = I within {ROTATION_TOLERANCE:g}"
        hint = "write all digits; rows are camera axes"
        raise BadValue(expected, hint, f"a matrix that is off by {off:.3g}: {value!r}")
    if np.linalg.det(R) < 0:
        hint = "check the frames: two axes are swapped or one is flipped"
        raise BadValue("a proper rotation, det R = 1", hint, f"a reflection, det R = -1: {value!r}")
    return R


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**6:
        raise BadValue("a whole number of pixels, 1 or more", "the size of the photo as displayed")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadValue("a text", "correct it, or leave the key out")
    return value


def _category(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_-]*", value):
        hint = "a name like PASCAL3D+'s: car, aeroplane, diningtable"
        raise BadValue("a category, one lower-case word", hint)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValue("true or false", "no quotes around it")
    return value


def _level(value: Any) -> int:
    if not isinstance(value, int):
        raise BadValue(
            "a whole number", "0 visible, 1 partly, 2 largely hidden, 3 unknown, -1 none"
        )
    return int(value)


def _unit(value: Any) -> str:
    if value not in T_UNITS:
        raise BadValue(f"one of {', '.join(T_UNITS)}", "metre where t is in metres, else object")
    return value


def _box(value: Any) -> Box:
    x0, y0, x1, y1 = _vector(4, "four finite numbers x0, y0, x1, y1")(value)
    return (x0, y0, x1, y1)


def _lengths(value: Any) -> tuple[float, float, float]:
    l, h, w = _vector(3, "three lengths above 0, metres", low=0.0)(value)
    return (l, h, w)


# every key that means something; null counts as absent; all others go to `extras`
PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "image": _text,
    "width": _size,
    "height": _size,
    "category": _category,
    "no_object": _flag,
    "R": _rotation,
    "box": _box,
    "K": _matrix,
    "t": lambda value: np.array(_vector(3, "three finite numbers")(value), dtype=np.float64),
    "t_unit": _unit,
    "distance": _number("a number above 0, object units", low=0.0),
    "dimensions_lhw": _lengths,
    "azimuth": _number("a finite number of degrees"),
    "elevation": _number("a finite number of degrees"),
    "theta": _number("a finite number of degrees"),
    "f_over_image_width": _number("a number above 0", low=0.0),
    "mask": _text,
    "parts": _text,
    "occluded": _level,
    "truncated": _number("a share from 0 to 1, or -1"),
    "model_name": _text,
}
