"""Guarded reading of photos: refused by header before memory is spent (reliability 1 to 14)."""

import io
import os
import re
import threading
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

from featmesh.errors import InputError

from .convert import to_rgb, value_span
from .exif import displayed, read_exif
from .files import open_regular, refusal
from .heif import FORMAT as HEIF
from .heif import open_heif
from .photo import MIN_SIDE, Photo
from .sniff import READABLE, SNIFF_BYTES, sniff

MAX_PIXELS = 50_000_000
_START_OF_SCAN, _END_OF_JPEG = b"\xff\xda", b"\xff\xd9"
_QUIET = threading.Lock()  # catch_warnings changes the whole process


def read_photo(
    path: str | Path, max_pixels: int = MAX_PIXELS, allow_truncated: bool = False
) -> Photo:
    """Return the photo of an image file as displayed: 8-bit RGB, EXIF rotation applied.

    Args:
        path: of a local JPEG, PNG, WebP, TIFF, GIF, BMP, PNM, JPEG 2000, AVIF or (with the package
            pi-heif) HEIC file.
        max_pixels: larger pictures are refused by their header, before any pixel is decoded.
            Pillow's own limit of 179 million stands above it.
        allow_truncated: take what a cut-off file holds, black below, with a warning.

    The camera is the one EXIF records, where it records it for a picture of this size. Of an
    animation the first frame is taken, of a HEIC with several pictures the primary one, with a
    warning.

    Raises:
        InputError: E_IO, E_IMG_FORMAT, E_IMG_TOO_LARGE, E_IMG_TOO_SMALL, E_IMG_RANGE,
            E_IMG_TRUNCATED or E_NONFINITE (reliability 2).
    """
    name = os.fspath(path)
    with open_regular(path, "read_photo") as file:
        image = _open(file, _picture_kind(file, name), name, max_pixels)
        _check_size(image.width, image.height, name, max_pixels)
        span = value_span(image, name)
        image, notes = _decode(image, file, name, allow_truncated)
        _check_size(image.width, image.height, name, max_pixels)  # a decoder may know better
        pixels, alpha = to_rgb(image, span, name)
        orientation, camera, exif_notes = read_exif(image, as_displayed=image.format == HEIF)
        notes += [*exif_notes, *_frame_notes(image)]
    return Photo(
        displayed(pixels, orientation),
        camera,
        "assumed" if camera is None else "exif",
        None if alpha is None else displayed(alpha, orientation),
        tuple(notes),
    )


def _picture_kind(file: BinaryIO, name: str) -> str:
    kind = sniff(file.read(SNIFF_BYTES))
    if kind not in READABLE:
        raise refusal(
            "E_IMG_FORMAT",
            "read_photo",
            f"a picture ({', '.join(READABLE)})",
            f"{name!r}, which looks like {kind}",
            "convert it to JPEG or PNG" if kind[0].isupper() else "download or export it again",
        )
    return kind


def _open(file: BinaryIO, kind: str, name: str, max_pixels: int) -> ImageFile.ImageFile:
    file.seek(0)
    Image.init()
    if kind not in (*Image.OPEN, HEIF):
        hint = "convert it to JPEG or PNG, or update Pillow"
        got = f"{kind}, which this Pillow cannot read, in {name!r}"
        raise refusal("E_IMG_FORMAT", "read_photo", "a known kind of picture", got, hint)
    try:
        if kind == HEIF:
            return open_heif(file, name, max_pixels)
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # above 89 Mpx Pillow warns; the limit here is ours
            return Image.open(file, formats=[kind])
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        raise _too_large(f"{count.group() if count else 'far more'} px", name, max_pixels) from None
    except Exception as error:  # decoders of hostile files raise anything
        raise _broken(error, kind, name) from error


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(f"{width}x{height} = {width * height} px", name, max_pixels)
    if min(width, height) < MIN_SIDE:
        raise refusal(
            "E_IMG_TOO_SMALL",
            "read_photo",
            f"sides of at least {MIN_SIDE} px",
            f"{width}x{height} in {name!r}",
            "a larger photo",
        )


def _decode(
    image: ImageFile.ImageFile, file: BinaryIO, name: str, allow_truncated: bool
) -> tuple[ImageFile.ImageFile, list[str]]:
    kind = image.format or "picture"
    try:
        image.load()
    except Exception as error:  # decoders of hostile files raise anything
        refused = _broken(error, kind, name)
        if not allow_truncated or refused.code != "E_IMG_TRUNCATED":
            raise refused from error
        rest = _salvage(image, file)
        if rest is None:
            raise refused from error
        return rest, [
            f"the file is cut off or damaged ({error}): the missing part is black or grey"
        ]
    return image, []


def _salvage(image: ImageFile.ImageFile, file: BinaryIO) -> ImageFile.ImageFile | None:
    """Return what could be decoded of a broken picture; None where that is nothing.

    Pillow's switch for this is global to the process; these two ways are not.
    """
    try:
        if image.format in ("JPEG", "MPO"):
            file.seek(0)
            data = file.read()
            if image.info.get("progressive"):  # of an unfinished scan the decoder makes nothing
                data = data[: data.rfind(_START_OF_SCAN)]
            image = Image.open(io.BytesIO(data + _END_OF_JPEG), formats=["JPEG"])
        else:
            image.tile = []  # nothing left to decode: the rows so far are the picture
        image.load()
    except Exception:  # decoders of hostile files raise anything
        return None
    return image if image.getbbox() else None


def _frame_notes(image: Image.Image) -> list[str]:
    """Say that other frames are left out; the second picture of an MPO is a thumbnail or depth."""
    try:
        many = image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception:  # looking for a second frame in a broken file
        many = False
    if not many:
        return []
    if image.format == HEIF:
        return ["the file holds several pictures: the primary one is used"]
    return ["the file holds several frames or pages: the first one is used"]


def _too_large(got: str, name: str, max_pixels: int) -> InputError:
    return refusal(
        "E_IMG_TOO_LARGE",
        "read_photo",
        f"at most {max_pixels} px",
        f"{got} in {name!r}",
        "resize it; in Python max_pixels can be raised",
    )


def _broken(error: Exception, kind: str, name: str) -> InputError:
    if isinstance(error, OSError) and error.errno is not None:
        return refusal(
            "E_IO", "read_photo", "a file that can be read", f"{name!r} ({error})", "again"
        )
    # ValueError: text and profile bombs, nonsense in the header; of libheif also a file cut off
    if "Unsupported" in str(error) if kind == HEIF else isinstance(error, ValueError):
        got = f"{name!r}, which looks like {kind}, but: {error}"
        return refusal("E_IMG_FORMAT", "read_photo", "a sound picture", got, "save it again")
    got = f"{name!r}, which begins as {kind} but is cut off or damaged ({error})"
    hint = "copy or download it again, or allow truncated photos"
    return refusal("E_IMG_TRUNCATED", "read_photo", "a whole picture", got, hint)
