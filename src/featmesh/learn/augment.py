"""A training crop: the photo cut, turned, coarsened, recoloured and half hidden, anchors in step.

Every draw comes from the generator handed in; the same generator gives the same crop (contracts 7).
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageFilter, ImageOps

from featmesh.errors import DatasetError
from featmesh.photo.photo import GREY

from .config import AugmentConfig
from .correspondence import Sample


@dataclass(frozen=True)
class TrainCrop:
    """One crop of a batch.

    Attributes:
        pixels: uint8 (H, W, 3).
        anchors: float32 (V, 2), crop pixels; mirrored crops carry mirrored anchors.
        visible: bool (V,), seen, inside the crop and not behind an occluder.
        background: bool (H / 8, W / 8), cells that do not show the object.
        R: (3, 3), how the object in it is turned, seen along the ray to its centre; None where
            nobody asks (crops kept of a frozen trunk).
    """

    pixels: np.ndarray
    anchors: np.ndarray
    visible: np.ndarray
    background: np.ndarray
    R: np.ndarray | None = None


@dataclass(frozen=True)
class Scenery:
    """Pictures without the object (context, occluders) and the template's mirror permutation."""

    pictures: tuple[np.ndarray, ...]
    mirror: np.ndarray


def draw_crop(
    sample: Sample,
    size: tuple[int, int],
    scenery: Scenery,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> TrainCrop:
    """Return a varied crop of a labelled photo.

    Args:
        sample: the labelled photo.
        size: (height, width) of the crop, pixels.
        scenery: pictures without the object.
        config: how far to vary.
        rng: draws everything.

    Raises:
        DatasetError: E_DATA naming a photo or mask that cannot be read.
    """
    photo = _upright(sample.image, "RGB")
    mask = _upright(sample.mask, "L") if sample.mask else None
    shape = photo.size
    flip = rng.random() < 0.5
    matrix = _placement(sample.box, size, config, rng, flip)
    photo, matrix_photo = _coarser_source(photo, matrix)
    pixels, inside = _warp(photo, matrix_photo, size)
    outline = _outline(sample, mask, shape[0], matrix, size)
    anchors = sample.anchors @ matrix[:2, :2].T + matrix[:2, 2]
    visible = sample.visible.copy()
    if mask is not None:
        visible &= _mask_at(np.asarray(mask), sample.anchors)
    if flip:
        anchors, visible = anchors[scenery.mirror], visible[scenery.mirror]
    height_on_crop = (sample.box[3] - sample.box[1]) * abs(np.linalg.det(matrix[:2, :2])) ** 0.5
    if rng.random() < config.context:
        pixels = np.where(inside[..., None], pixels, _cover(scenery.pictures, size, rng))
    object_cells = outline
    if rng.random() < config.occlude:
        pixels, hidden = _occlude(pixels, anchors[visible], scenery.pictures, rng)
        visible &= ~_mask_at(hidden, anchors)
        object_cells &= ~hidden[4::8, 4::8]
    pixels = _coarsen(pixels, height_on_crop, config, rng)
    pixels = _recolour(pixels, rng)
    visible &= (anchors >= 0).all(1) & (anchors[:, 0] < size[1]) & (anchors[:, 1] < size[0])
    R = turned(sample.R, matrix[:2, :2])
    return TrainCrop(pixels, anchors.astype(np.float32), visible, ~object_cells, R)


def turned(
    R: Float64[np.ndarray, "3 3"], linear: Float64[np.ndarray, "2 2"]
) -> Float64[np.ndarray, "3 3"]:
    """Return the rotation of the object in a picture whose pixels a linear map has moved (ours).

    A turn in the plane and a mirror (of an object whose halves mirror each other in x) are exact.
    A squeeze is taken as one of the object, along the axes of the picture before the turn: that
    leaves the nearest rotation as it is. As a change of the object's height alone it would be one
    of elevation by asin(k sin e) - e as well: 1.2 degrees at e = 15 degrees for k = 1.08.

    Args:
        R: before, seen along the ray to the object's centre.
        linear: where it takes steps of one pixel; not singular.
    """
    U, _, Vt = np.linalg.svd(linear)
    inplane = np.eye(3)
    inplane[:2, :2] = U @ Vt  # polar decomposition: a turn, mirrored or not, after a squeeze
    mirror = np.diag([np.sign(np.linalg.det(linear)), 1.0, 1.0])
    return inplane @ R @ mirror


def _upright(path: Path, mode: Literal["RGB", "L"]) -> Image.Image:
    """Return a picture as displayed: labels belong to that."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert(mode)
    except Exception as error:  # decoders of broken files raise anything
        raise DatasetError(
            "E_DATA",
            f"train: expected a picture that can be read, got {path} ({error}); "
            "try: repair it, or leave its record out",
        ) from error


def _outline(
    sample: Sample,
    mask: Image.Image | None,
    width: int,
    matrix: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Return which cells of the crop show some of the object: by its mask, or the template's."""
    if mask is None:
        source = Image.fromarray(sample.inside.astype(np.uint8) * 255)
        shrink = source.width / width
    else:
        shrink = 128 / max(mask.size)
        small = (max(1, round(mask.width * shrink)), max(1, round(mask.height * shrink)))
        source = mask.resize(small, Image.Resampling.BOX)
    back = np.diag([shrink, shrink, 1.0]) @ np.linalg.inv(matrix) @ np.diag([8.0, 8.0, 1.0])
    cells = (size[1] // 8, size[0] // 8)
    affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(source.transform(cells, affine, tuple(back[:2].reshape(-1)), bilinear)) > 60


def _placement(
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
    flip: bool,
) -> np.ndarray:
    """Return the 3x3 matrix photo pixels -> crop pixels of a random placement of the box."""
    wide, high = max(box[2] - box[0], 1.0), max(box[3] - box[1], 1.0)
    # most crops look like the ones at test time; the rest widens the range of scales
    if rng.random() < 0.6:
        fill = rng.uniform(0.66, 0.9)
    else:
        fill = np.exp(rng.uniform(np.log(config.fill_low), np.log(config.fill_high)))
    scale = fill * min(size[1] / wide, size[0] / high)
    squeeze = np.exp(rng.normal(0, config.aspect) / 2)
    angle = rng.normal(0, config.rotate) if rng.random() < 0.6 else 0.0
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]]) @ np.diag([scale * squeeze, scale / squeeze])
    if flip:
        turn = turn @ np.diag([-1.0, 1.0])
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    shift = rng.uniform(-config.shift, config.shift, 2) * scale * np.array([wide, high])
    target = np.array([size[1] / 2, size[0] / 2]) + shift
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, target - turn @ centre
    return matrix


def _coarser_source(photo: Image.Image, matrix: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Return the photo reduced where the crop would skip pixels, and the matrix that fits it."""
    scale = abs(np.linalg.det(matrix[:2, :2])) ** 0.5
    factor = int(1 / scale)
    if factor < 2:
        return photo, matrix
    return photo.reduce(factor), matrix @ np.diag([factor, factor, 1.0])


def _warp(
    photo: Image.Image, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop's pixels, and which of them lie inside the photo."""
    back = np.linalg.inv(matrix)
    data = tuple(back[:2].reshape(-1))
    shape = (size[1], size[0])
    pixels = photo.transform(
        shape, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=GREY
    )
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    x = back[0, 0] * xs + back[0, 1] * ys + back[0, 2]
    y = back[1, 0] * xs + back[1, 1] * ys + back[1, 2]
    inside = (x >= 0) & (y >= 0) & (x < photo.width) & (y < photo.height)
    return np.asarray(pixels), inside


def _mask_at(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return whether the mask is set at each point; points outside it count as not set."""
    x, y = np.floor(points[:, 0]).astype(int), np.floor(points[:, 1]).astype(int)
    ok = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    out = np.zeros(len(points), dtype=bool)
    out[ok] = mask[y[ok], x[ok]] > 0
    return out


def _cover(
    pictures: tuple[np.ndarray, ...], size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Return a random part of a random picture, as large as the crop."""
    picture = pictures[rng.integers(len(pictures))]
    grow = max(size[0] / picture.shape[0], size[1] / picture.shape[1]) * rng.uniform(1.0, 1.8)
    wide, high = size[1] / grow, size[0] / grow
    x0 = rng.uniform(0, max(picture.shape[1] - wide, 1e-6))
    y0 = rng.uniform(0, max(picture.shape[0] - high, 1e-6))
    part = Image.fromarray(picture).resize(
        (size[1], size[0]),
        Image.Resampling.BILINEAR,
        box=(x0, y0, min(x0 + wide, picture.shape[1]), min(y0 + high, picture.shape[0])),
    )
    return np.asarray(part)


def _occlude(
    pixels: np.ndarray,
    seen: np.ndarray,
    pictures: tuple[np.ndarray, ...],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop with 1-4 occluders laid over the object, and where they are."""
    height, width = pixels.shape[:2]
    hidden = np.zeros((height, width), dtype=bool)
    if len(seen) < 3:
        return pixels, hidden
    low, high = seen.min(0), seen.max(0)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(int(rng.integers(1, 5))):
        centre = rng.uniform(low, high)
        half = rng.uniform(0.08, 0.36, 2) * (high - low)
        dx, dy = (xs - centre[0]) / max(half[0], 2), (ys - centre[1]) / max(half[1], 2)
        tilt = rng.uniform(-0.6, 0.6)
        dx, dy = dx + tilt * dy, dy - tilt * dx
        dx, dy = np.abs(dx), np.abs(dy)
        for _ in range(int(rng.integers(4))):  # diamond, ellipse, rounded box, box
            dx, dy = dx * dx, dy * dy
        hidden |= dx + dy < 1
    return np.where(hidden[..., None], _cover(pictures, (height, width), rng), pixels), hidden


def _coarsen(
    pixels: np.ndarray, object_height: float, config: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Return the crop as a camera with few pixels, a soft lens or hard compression sees it."""
    image = Image.fromarray(pixels)
    if rng.random() < config.coarse:
        lowest = min(1.0, config.coarsest / max(object_height, 1.0))
        factor = np.exp(rng.uniform(np.log(lowest), 0.0))
        small = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
        how = (Image.Resampling.BOX, Image.Resampling.BILINEAR)[int(rng.integers(2))]
        image = image.resize(small, how)
        image = _compress(image, rng, 0.3).resize(
            (pixels.shape[1], pixels.shape[0]), Image.Resampling.BILINEAR
        )
    elif rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.8))))
    return np.asarray(_compress(image, rng, 0.15))


def _compress(image: Image.Image, rng: np.random.Generator, share: float) -> Image.Image:
    if rng.random() >= share:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(25, 90)))
    return Image.open(buffer).convert("RGB")


def _recolour(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop under another light: gain, gamma, colour cast, saturation, noise."""
    x = pixels.astype(np.float32) / 255
    if rng.random() < 0.8:
        gain = rng.uniform(0.7, 1.3) * rng.uniform(0.88, 1.12, 3)
        x = x * gain.astype(np.float32) + np.float32(rng.uniform(-0.1, 0.1))
    grey = x.mean(2, keepdims=True)
    if rng.random() < 0.5:
        low = 0.0 if rng.random() < 0.3 else 0.4
        x = grey + (x - grey) * np.float32(rng.uniform(low, 1.5))
    if rng.random() < 0.3:
        x = np.roll(x, int(rng.integers(1, 3)), axis=2)
    if rng.random() < 0.4:
        x = np.clip(x, 0, 1) ** np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.3:
        strength = np.float32(rng.uniform(0.01, 0.06))
        x = x + strength * rng.standard_normal(x.shape, dtype=np.float32)
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)
