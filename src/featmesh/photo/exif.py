"""What EXIF tells of a photo: how to turn it for display, and its focal length (contracts 1)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera

_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x920A, 0xA405
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # inch, cm, mm, micrometre
_FILM_DIAGONAL = math.hypot(36, 24)  # mm

# stored pixels (rows, columns, ...) -> displayed pixels, by the EXIF orientation
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def displayed(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Return the array (rows, columns, ...) turned and mirrored as it is to be shown."""
    return np.ascontiguousarray(_TURNS[orientation](stored))


def read_exif(
    image: Image.Image, as_displayed: bool = False
) -> tuple[int, Camera | None, tuple[str, ...]]:
    """Return (orientation 1 to 8, camera of the displayed photo or None, warnings).

    Args:
        image: a decoded picture. Decoders that turn it themselves (TIFF) have by then removed the
            orientation.
        as_displayed: whether the picture is turned already, whatever its EXIF data say.

    The camera has the principal point in the centre and square pixels. Broken EXIF data are no
    reason to refuse a photo: they are passed over with a warning.
    """
    orientation, camera, notes = 1, None, []
    try:
        exif = image.getexif()
        orientation = 1 if as_displayed else exif.get(_ORIENTATION, 1)
        if not isinstance(orientation, int) or orientation not in _TURNS:
            notes.append(f"EXIF orientation {orientation!r:.40} is none of 1 to 8 and is ignored")
            orientation = 1
        camera = _camera(exif.get_ifd(_EXIF_IFD), image.height, image.width, orientation)
    except InputError as error:
        notes.append(f"EXIF focal length not used: {error}")
    except Exception as error:  # anything at all may stand in there
        notes.append(f"EXIF data cannot be read and are ignored ({type(error).__name__})")
    return orientation, camera, tuple(notes)


def _camera(tags: Mapping[int, Any], height: int, width: int, orientation: int) -> Camera | None:
    f = _focal_pixels(tags, height, width)
    if f is None:
        return None
    recorded = (tags.get(_PIXEL_X), tags.get(_PIXEL_Y))
    # either way round: software that turns a photo leaves the recorded size, and f stays true
    if recorded not in ((width, height), (height, width)):
        raise InputError(
            "E_CAMERA",
            f"read_photo: expected EXIF of a {width}x{height} picture, got a recorded size of "
            f"{recorded[0]}x{recorded[1]} (cropped or resized since); try: the photo as taken",
        )
    if orientation >= 5:
        height, width = width, height
    return Camera(f, f, width / 2, height / 2, height, width).checked()


def _focal_pixels(tags: Mapping[int, Any], height: int, width: int) -> float | None:
    film = _positive(tags.get(_FOCAL_LENGTH_35MM))
    if film:  # same field of view over the diagonal of a 36 x 24 mm frame
        return film * math.hypot(height, width) / _FILM_DIAGONAL
    focal, per_unit = _positive(tags.get(_FOCAL_LENGTH)), _positive(tags.get(_PLANE_X_RESOLUTION))
    unit = _UNIT_MM.get(tags.get(_PLANE_UNIT, 2))
    return focal * per_unit / unit if focal and per_unit and unit else None


def _positive(value: Any) -> float | None:
    number = float(value) if value is not None else 0.0
    return number if math.isfinite(number) and number > 0 else None
