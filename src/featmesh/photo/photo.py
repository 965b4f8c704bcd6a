"""Pixels as displayed, and the camera that took them: what every estimate begins with."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera

CameraSource = Literal["given", "exif", "assumed"]

GREY = (124, 116, 104)  # mean colour of photos: behind transparency and outside the photo
MIN_SIDE = 16  # pixels; below that there is nothing to estimate from


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as displayed: EXIF rotation applied, 8-bit RGB, transparency laid on grey.

    Attributes:
        pixels: RGB.
        camera: of these pixels, or None where nothing is known of it.
        camera_source: ``"given"``, ``"exif"``, or ``"assumed"`` exactly where ``camera`` is None.
        alpha: opacity, 0 to 255; None where every pixel is opaque.
        warnings: what a person should know of how the file was read.

    Raises:
        InputError: E_CAMERA where the camera is not one of this photo.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    camera: Camera | None = None
    camera_source: CameraSource = "assumed"
    alpha: UInt8[np.ndarray, "h w"] | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.camera is None) != (self.camera_source == "assumed"):
            raise InputError(
                "E_CAMERA",
                f"Photo: expected camera_source 'assumed' exactly where camera is None, "
                f"got {self.camera_source!r} and {self.camera}; try: Photo.from_array",
            )
        if self.camera is not None:
            check_size(self.camera, self.height, self.width, "Photo")

    @classmethod
    def from_array(cls, pixels: Any, camera: Camera | None = None) -> "Photo":
        """Return the photo of an array that is already as displayed.

        Args:
            pixels: uint8 (H, W, 3) RGB, both sides at least 16.
            camera: of these pixels, where known.

        Raises:
            InputError: E_IMG_FORMAT (type or shape), E_NONFINITE, E_IMG_TOO_SMALL, E_CAMERA.
        """
        check_pixels(pixels, "Photo.from_array()")
        # torch warns on arrays that cannot be written to
        own = np.require(pixels, requirements=["C", "W"])
        return cls(own, camera, "assumed" if camera is None else "given")

    def with_camera(self, camera: Camera) -> "Photo":
        """Return the photo with the camera the user gave.

        Raises:
            InputError: E_CAMERA where its size is not the photo's.
        """
        return replace(self, camera=camera, camera_source="given")

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def whole(self) -> tuple[float, float, float, float]:
        """The box of all of it: (x0, y0, x1, y1), pixels."""
        return (0.0, 0.0, float(self.width), float(self.height))

    @property
    def camera_or_assumed(self) -> Camera:
        """The camera, or the one taken where none is known (contracts 1)."""
        return self.camera or Camera.assumed(self.height, self.width)


def expect_photo(thing: Any, who: str) -> Photo:
    """Return ``thing`` if it is a Photo.

    Args:
        thing: what a user handed in as a photo.
        who: the complaining function, e.g. ``"estimate()"``.

    Raises:
        InputError: E_IMG_FORMAT saying what it is instead.
    """
    if isinstance(thing, Photo):
        return thing
    raise InputError(
        "E_IMG_FORMAT",
        f"{who}: expected a Photo (pixels uint8 (H, W, 3)), got {describe(thing)}; "
        "use featmesh.read_photo",
    )


def check_pixels(pixels: Any, who: str) -> None:
    """Raise unless ``pixels`` is a uint8 array (H, W, 3) with sides of at least 16.

    Raises:
        InputError: E_NONFINITE, E_IMG_FORMAT or E_IMG_TOO_SMALL.
    """
    expected, got = f"{who}: expected pixels uint8 (H, W, 3)", describe(pixels)
    if (
        isinstance(pixels, np.ndarray)
        and pixels.dtype.kind == "f"
        and not np.isfinite(pixels).all()
    ):
        raise InputError(
            "E_NONFINITE",
            f"{expected}, got {got} with NaN or infinite values; try: check its origin",
        )
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise InputError("E_IMG_FORMAT", f"{expected}, got {got}; use featmesh.read_photo")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(
            "E_IMG_FORMAT", f"{expected}, got {got}; try: rows, columns, then R, G, B as last axis"
        )
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise InputError(
            "E_IMG_TOO_SMALL",
            f"{who}: expected sides of at least {MIN_SIDE} px, got {got}; try: a larger photo",
        )


def check_size(camera: Camera, height: int, width: int, who: str) -> None:
    """Raise E_CAMERA unless the camera belongs to pictures of this size, in pixels."""
    if (camera.height, camera.width) != (height, width):
        raise InputError(
            "E_CAMERA",
            f"{who}: expected the camera of a {width}x{height} photo (width x height, as "
            f"displayed), got one of {camera.width}x{camera.height}; try: the K of this photo, "
            "or Camera.scale",
        )


def describe(thing: Any) -> str:
    """Return what ``thing`` is, for an error message: its type, and dtype and shape if it has."""
    shape, dtype = getattr(thing, "shape", None), getattr(thing, "dtype", None)
    if shape is None or dtype is None:
        return f"{thing!r:.80}" if isinstance(thing, str | None) else _with_a(type(thing).__name__)
    kind = "array" if isinstance(thing, np.ndarray) else type(thing).__name__
    return f"{_with_a(str(dtype).rpartition('.')[2])} {kind} of shape {tuple(shape)}"


def _with_a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeioAEIO" else f"a {noun}"
