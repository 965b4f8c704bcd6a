"""Every pixel format to 8-bit RGB, with nothing clipped, blackened or guessed."""

import math
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from featmesh.errors import InputError

from .files import refusal
from .photo import GREY

_MIN_SAMPLE, _MAX_SAMPLE, _BITS, _PHOTOMETRIC = 340, 341, 258, 262  # TIFF tags

Pixels = UInt8[np.ndarray, "h w 3"]
Alpha = UInt8[np.ndarray, "h w"]
Span = tuple[float, float]


def value_span(image: Image.Image, name: str) -> Span | None:
    """Return the values of black and of white; None for 8-bit pixels. Nothing is decoded.

    Args:
        image: an opened picture.
        name: of the file, for the message.

    Raises:
        InputError: E_IMG_RANGE where the file does not say what its numbers mean.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        white = 2.0 ** tags.get(_BITS, (16,))[0] - 1
        return (white, 0.0) if tags.get(_PHOTOMETRIC) == 0 else (0.0, white)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 0.0, 65535.0
    if image.mode not in ("F", "I"):
        return None
    low, high = (_first_number(tags.get(tag)) for tag in (_MIN_SAMPLE, _MAX_SAMPLE))
    if math.isfinite(low) and math.isfinite(high) and low < high:
        return low, high
    kind = "floating-point" if image.mode == "F" else "32-bit"
    raise refusal(
        "E_IMG_RANGE",
        "read_photo",
        "8- or 16-bit pixels, or a TIFF that declares SMinSampleValue and SMaxSampleValue",
        f"{kind} pixels without a declared range in {name!r}",
        "save it as an 8- or 16-bit PNG",
    )


def _first_number(tag: Any) -> float:
    try:
        return float(tag[0])
    except (TypeError, ValueError, LookupError, OverflowError):
        return math.nan


def to_rgb(image: Image.Image, span: Span | None, name: str) -> tuple[Pixels, Alpha | None]:
    """Return (RGB, opacity or None where all is opaque); transparent pixels lie on grey.

    Args:
        image: a decoded picture.
        span: what :func:`value_span` said of it.
        name: of the file, for the messages.

    Raises:
        InputError: E_NONFINITE, E_IMG_RANGE (values outside the declared range), or E_IMG_FORMAT
            for a colour space that cannot be converted.
    """
    if span is not None:
        return _grey_to_rgb(image, span, name)
    try:
        if not image.has_transparency_data:
            return np.array(image.convert("RGB")), None
        layer = image.convert("RGBA")
    except ValueError as error:
        raise refusal(
            "E_IMG_FORMAT",
            "read_photo",
            "grey, RGB, palette or CMYK pixels",
            f"{image.mode} pixels in {name!r} ({error})",
            "save it as an RGB PNG or JPEG",
        ) from None
    opacity = layer.getchannel("A")
    canvas = Image.new("RGB", layer.size, GREY)
    canvas.paste(layer, mask=opacity)
    opaque = opacity.getextrema() == (255, 255)
    return np.array(canvas), None if opaque else np.array(opacity)


def _grey_to_rgb(image: Image.Image, span: Span, name: str) -> tuple[Pixels, Alpha | None]:
    values = np.asarray(image)
    _check_values(values, span, name)
    black, white = span
    # float32 is exact for 16 bits
    exact: np.ndarray = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    grey = np.rint((exact - black) * (255 / (white - black))).astype(np.uint8)
    clear = image.info.get("transparency")
    mask = values == clear if isinstance(clear, int) else None
    pixels = np.repeat(grey[..., None], 3, axis=2)
    if mask is None or not mask.any():
        return pixels, None
    pixels[mask] = GREY
    return pixels, np.where(mask, 0, 255).astype(np.uint8)


def _check_values(values: np.ndarray, span: Span, name: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(
            "E_NONFINITE",
            f"read_photo: expected finite pixels, got NaN or infinite values in {name!r}; "
            "try: the picture before it was processed",
        )
    least, most = float(values.min()), float(values.max())
    if least < min(span) or most > max(span):
        raise refusal(
            "E_IMG_RANGE",
            "read_photo",
            f"values in [{min(span):g}, {max(span):g}], as the file declares",
            f"values in [{least:g}, {most:g}] in {name!r}",
            "save it as an 8- or 16-bit PNG",
        )
