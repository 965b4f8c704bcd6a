"""HEIF pictures (HEIC), as phones take them: opened where the package pi-heif is installed.

HEIF tells by properties of its own how a picture is turned and cut, and libheif obeys them: what it
hands over is as displayed, and the EXIF orientation must not be applied again.
"""

import importlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from PIL import ImageFile

from .files import refusal

FORMAT = "HEIF"  # Pillow's name
PACKAGES = ("pi_heif", "pillow_heif")  # one code base; the second one's wheels carry an encoder too
BYTES_PER_PIXEL = 4  # of a file; what is larger than that for each pixel allowed is no photo
_NESTS = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # boxes on the way to the sizes; bytes to pass over
_MOST_BOXES = 20_000
_Box = tuple[bytes, int, int]  # kind, begin and end of its content in the file


def open_heif(file: BinaryIO, name: str, max_pixels: int) -> ImageFile.ImageFile:
    """Return the primary picture of a HEIF file, not yet decoded.

    The whole file is read into memory; libheif decodes no picture larger than its header states.

    Args:
        file: opened, at any place.
        name: of the file, for the messages.
        max_pixels: larger pictures, as coded and not only as displayed, are refused.

    Raises:
        InputError: E_IMG_FORMAT where no package can read it, E_IMG_TOO_LARGE.
        Exception: whatever libheif says of a broken file.
    """
    opener = _opener(name)
    size, limit = os.fstat(file.fileno()).st_size, BYTES_PER_PIXEL * max_pixels
    if size > limit:
        raise _too_large(f"at most {limit} bytes", f"{size} in {name!r}")
    for width, height in _coded_sizes(file, size):
        if width * height > max_pixels:
            got = f"{width}x{height} = {width * height} px in {name!r}"
            raise _too_large(f"at most {max_pixels} px", got)
    file.seek(0)
    return opener(file, name)


def _opener(name: str) -> type[ImageFile.ImageFile]:
    """Return Pillow's class for HEIF; used as it is, not registered: Pillow is everybody's."""
    for package in PACKAGES:
        try:
            return importlib.import_module(package).HeifImageFile
        except ImportError:
            continue
    raise refusal(
        "E_IMG_FORMAT",
        "read_photo",
        "a picture that can be read here",
        f"HEIC (HEIF) without the package pi-heif, in {name!r}",
        "pip install 'featmesh[heic]', or convert it to JPEG",
    )


def _coded_sizes(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Yield (width, height) of every picture and tile of the file, as coded."""
    for count, (kind, begin, end) in enumerate(_boxes(file, 0, size)):
        if count > _MOST_BOXES:
            raise ValueError(f"more than {_MOST_BOXES} boxes")
        if kind == b"ispe" and end - begin >= 12:
            file.seek(begin + 4)  # after version and flags
            yield (int.from_bytes(file.read(4), "big"), int.from_bytes(file.read(4), "big"))


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[_Box]:
    """Yield the boxes of a part of the file and those nested in them (ISO/IEC 14496-12, 4.2)."""
    while begin + 8 <= end:
        file.seek(begin)
        length, kind, head = int.from_bytes(file.read(4), "big"), file.read(4), 8
        if length == 1:
            length, head = int.from_bytes(file.read(8), "big"), 16
        stop = begin + length if length else end
        if length and length < head:
            return  # nonsense; libheif will say so
        yield kind, begin + head, min(stop, end)
        if kind in _NESTS:
            yield from _boxes(file, begin + head + _NESTS[kind], min(stop, end))
        begin = stop


def _too_large(expected: str, got: str) -> Exception:
    hint = "resize it; in Python max_pixels can be raised"
    return refusal("E_IMG_TOO_LARGE", "read_photo", expected, got, hint)
