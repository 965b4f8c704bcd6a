"""Resampling of pixels in step with the camera, always anti-aliased."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, Crop

from .photo import GREY, Photo, check_size

# A triangle filter as wide as the pitch of the crop's pixels has variance pitch^2 / 6. Shrinking
# by pitch / sqrt 2, then interpolating, adds up to that; below sqrt 2 a 3-tap filter makes up.
_ROOT = math.sqrt(2)


def resize(
    pixels: UInt8[np.ndarray, "h w 3"], height: int, width: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return the picture at another size; anti-aliased where it shrinks (triangle filter).

    Args:
        pixels: RGB.
        height: of the result, pixels.
        width: of the result, pixels.
    """
    # on bytes torch agrees with Pillow's bilinear to 1 of 255, and takes a quarter of the time
    picture = _tensor(pixels).permute(2, 0, 1)[None]
    small = interpolate(
        picture, (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return small[0].permute(1, 2, 0).contiguous().numpy()


def squeezed(
    pixels: UInt8[np.ndarray, "h w 3"], box: Box, size: tuple[int, int]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return the part of a picture in a box, squeezed to a size; clipped first.

    Args:
        pixels: RGB.
        box: (x0, y0, x1, y1); rounded and clipped to the picture.
        size: (height, width) of the result.
    """
    height, width = pixels.shape[:2]
    x0, x1 = (min(max(round(x), 0), width) for x in (box[0], box[2]))
    y0, y1 = (min(max(round(y), 0), height) for y in (box[1], box[3]))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)  # a pixel is left of a box outside
    return resize(np.ascontiguousarray(pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]), *size)


def camera_of_resized(camera: Camera, height: int, width: int) -> Camera:
    """Return the camera of the picture that :func:`resize` makes; the two axes scale apart."""
    x, y = width / camera.width, height / camera.height
    return Camera(camera.fx * x, camera.fy * y, camera.cx * x, camera.cy * y, height, width)


def resample(
    photo: Photo, crop: Crop
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Return the crop as its virtual camera sees it, and which of its pixels lie in the photo.

    Args:
        photo: of which the crop's ``photo_camera`` is the camera.
        crop: where to look, and how large the result is.

    Only the part of the photo that is seen is touched: it is shrunk to about the crop's resolution
    first, then interpolated. Pixels outside the photo are grey (124, 116, 104).

    Raises:
        InputError: E_CAMERA where the crop belongs to a photo of another size.
    """
    check_size(crop.photo_camera, photo.height, photo.width, "resample()")
    points = crop.pixel_map()
    inside = _inside(points, photo.height, photo.width)
    if not bool(inside.any()):
        blank = np.full((*inside.shape, 3), GREY, dtype=np.uint8)
        return blank, np.zeros(tuple(inside.shape), dtype=bool)
    pitch = _pitch(points, inside)
    part, box = _shrunk(photo.pixels, points[inside], pitch)
    source = _tensor(part).float()
    for axis, step in ((1, pitch[0]), (0, pitch[1])):
        if 1 < step < _ROOT:
            source = _soften(source, axis, (step * step - 1) / 12)
    pixels = _sample(source, box, points)
    valid = inside.numpy()
    pixels[~valid] = GREY
    return pixels, valid


def _tensor(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[Tensor, "h w 3"]:
    # torch takes neither read-only arrays nor mirrored views
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))


def _inside(points: Float[Tensor, "h w 2"], height: int, width: int) -> Bool[Tensor, "h w"]:
    x, y = points.unbind(-1)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def _pitch(points: Float[Tensor, "h w 2"], inside: Bool[Tensor, "h w"]) -> tuple[float, float]:
    """Return the distance between crop pixels in photo pixels, along x and y of the photo."""
    here = points[:-1:4, :-1:4]  # every fourth pixel tells enough
    steps = torch.stack([points[:-1:4, 1::4] - here, points[1::4, :-1:4] - here])
    seen = inside[:-1:4, :-1:4] & inside[:-1:4, 1::4] & inside[1::4, :-1:4]
    if not bool(seen.any()):
        return 1.0, 1.0
    x, y = steps[:, seen].norm(dim=0).median(0).values.tolist()
    return x, y


def _shrunk(
    pixels: UInt8[np.ndarray, "h w 3"], points: Float[Tensor, "n 2"], pitch: tuple[float, float]
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], tuple[int, int, int, int]]:
    """Return the seen part of the photo, shrunk, and the box (x0, y0, x1, y1) that it is of."""
    factors = [max(1.0, step / _ROOT) for step in pitch]
    low, high = zip(
        *([float(v) for v in side.aminmax()] for side in points.unbind(-1)), strict=True
    )
    sides = (pixels.shape[1], pixels.shape[0])
    begin = [max(0, math.floor(low[k] - 2 * factors[k])) for k in (0, 1)]
    end = [min(sides[k], math.ceil(high[k] + 2 * factors[k])) for k in (0, 1)]
    part = pixels[begin[1] : end[1], begin[0] : end[0]]
    width, height = (max(1, round((end[k] - begin[k]) / factors[k])) for k in (0, 1))
    if (height, width) != part.shape[:2]:
        part = resize(part, height, width)
    return part, (begin[0], begin[1], end[0], end[1])


def _soften(source: Float[Tensor, "h2 w2 3"], axis: int, weight: float) -> Float[Tensor, "h2 w2 3"]:
    """Return the picture filtered by (weight, 1 - 2 weight, weight) along an axis."""
    n = source.shape[axis]
    before = torch.cat([source.narrow(axis, 0, 1), source.narrow(axis, 0, n - 1)], axis)
    after = torch.cat([source.narrow(axis, 1, n - 1), source.narrow(axis, n - 1, 1)], axis)
    return source * (1 - 2 * weight) + (before + after) * weight


def _sample(
    source: Float[Tensor, "h2 w2 3"],
    box: tuple[int, int, int, int],
    points: Float[Tensor, "h w 2"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Return bilinear samples at photo points of a picture that covers ``box`` of the photo."""
    begin = torch.tensor(box[:2], dtype=torch.float64)
    extent = torch.tensor(box[2:], dtype=torch.float64) - begin
    grid = ((points - begin) * (2 / extent) - 1).float()
    values = source.permute(2, 0, 1)
    sampled = grid_sample(values[None], grid[None], padding_mode="border", align_corners=False)
    return sampled[0].permute(1, 2, 0).add(0.5).clamp(0, 255).byte().numpy().copy()
