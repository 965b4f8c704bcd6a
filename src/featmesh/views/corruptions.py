"""The 19 common corruptions of photos at five severities, seeded (Hendrycks and Dietterich 2019).

Kinds and constants are ImageNet-C's; the code is ours. What differs: lengths grow with the picture,
frost is drawn, glass gathers pixels instead of swapping them one by one, and elastic bends the
picture without the affine part, which would turn the object and not its label (so that the
strengths 1 and 2, mostly affine there, are ours).
"""

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from featmesh.draws import generator
from featmesh.errors import InputError

from .weather import (
    Level,
    Picture,
    coarse,
    convolved,
    enlarged,
    fog,
    frost,
    smeared,
    snow,
    softened,
    spatter,
)

SIDE = 224  # pixels along a picture of ImageNet-C, in which its lengths are given
SEVERITIES = (1, 2, 3, 4, 5)
Draws = np.random.Generator


class Corruption(NamedTuple):
    """A kind of corruption.

    Attributes:
        group: noise, blur, weather or digital.
        make: the picture (0 to 1), draws, pixels for one of a 224 x 224 picture, constants of the
            severity -> the corrupted picture, which may leave 0 to 1.
        levels: constants of the severities 1 to 5.
        drawn: whether another seed gives another picture.
    """

    group: str
    make: Callable[[Picture, Draws, float, Level], Picture]
    levels: tuple[Level, Level, Level, Level, Level]
    drawn: bool = True


def corrupt(
    pixels: UInt8[np.ndarray, "h w 3"],
    name: str,
    severity: int,
    seed: int = 0,
    index: int = 0,
    scale: float | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a corrupted copy of a photo, of the same size.

    Noise and JPEG act on single pixels; other lengths are ``scale`` times those of ImageNet-C.

    Args:
        pixels: the photo, any size.
        name: one of :data:`CORRUPTIONS`.
        severity: 1 to 5; the key of the draws is the same at all of them.
        seed: with ``name`` and ``index`` the key of every draw.
        index: number of the photo.
        scale: pixels that make one of a 224 x 224 picture, see :func:`scale_of`; by default that
            of the whole photo.

    Raises:
        InputError: E_LEVEL (no such corruption or severity).
    """
    if name not in CORRUPTIONS:
        expected = f"one of {{{', '.join(CORRUPTIONS)}}}"
        raise InputError("E_LEVEL", f"corrupt: expected {expected}, got {name!r}; try: fog")
    if severity not in SEVERITIES:
        expected = "a severity from 1 to 5"
        raise InputError("E_LEVEL", f"corrupt: expected {expected}, got {severity!r}; try: 3")
    kind = CORRUPTIONS[name]
    rng = generator(seed, f"corrupt {name}", 0, index)
    if scale is None:
        scale = scale_of(float(pixels.shape[1]), float(pixels.shape[0]))
    x = pixels.astype(np.float32) / 255
    return _bytes(kind.make(x, rng, scale, kind.levels[severity - 1]))


def scale_of(width: float, height: float) -> float:
    """Return how many pixels of a picture or a box make one of ImageNet-C's; at least 1."""
    return max(1.0, math.sqrt(width * height) / SIDE)


def _bytes(x: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _image(x: Picture) -> Image.Image:
    return Image.fromarray(_bytes(x))


def _array(image: Image.Image) -> Picture:
    return np.asarray(image, np.float32) / 255


def _gaussian_noise(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    return x + level[0] * rng.standard_normal(x.shape, np.float32)


def _shot_noise(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    return rng.poisson(x * level[0]) / level[0]


def _impulse_noise(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    hit, white = rng.random(x.shape) < level[0], rng.random(x.shape) < 0.5
    return np.where(hit, white.astype(np.float32), x)


def _speckle_noise(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    return x + level[0] * x * rng.standard_normal(x.shape, np.float32)


def _gaussian_blur(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    return softened(x, level[0] * scale)


def _defocus_blur(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    radius, soft = level[0] * scale, level[1] * scale
    reach = np.arange(-math.ceil(radius) - 2, math.ceil(radius) + 3)
    disc = softened((np.hypot(reach[:, None], reach) <= radius).astype(np.float64), soft)
    return convolved(x, disc / disc.sum())


def _glass_blur(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    sigma, reach, rounds = level[0] * scale, round(level[1] * scale), int(level[2])
    height, width = x.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    x = softened(x, sigma)
    for _ in range(rounds):
        dy, dx = rng.integers(-reach, reach + 1, (2, height, width))
        x = x[np.clip(rows + dy, 0, height - 1), np.clip(columns + dx, 0, width - 1)]
    return softened(x, sigma)


def _motion_blur(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    return smeared(x, math.radians(rng.uniform(-45, 45)), level[0] * scale, level[1] * scale)


def _zoom_blur(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    image, factors = _image(x), np.arange(1, level[0], level[1] / scale)
    total = x.copy()
    for factor in factors:
        w, h = image.width / factor, image.height / factor
        left, top = (image.width - w) / 2, (image.height - h) / 2
        box = (left, top, left + w, top + h)
        total += _array(image.resize(image.size, Image.Resampling.BILINEAR, box))
    return total / (len(factors) + 1)


def _brightness(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    """Raise the value of HSV: hue and saturation stay, black becomes grey."""
    value = x.max(-1, keepdims=True)
    raised = np.minimum(value + level[0], 1)
    return np.where(value > 0, x / np.maximum(value, 1e-6), 1) * raised


def _contrast(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    mean = x.mean((0, 1))
    return (x - mean) * level[0] + mean


def _saturate(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    """Change the saturation of HSV; grey has the hue 0 there, red."""
    value, least = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
    saturation = (value - least) / np.maximum(value, 1e-6)
    wanted = np.clip(saturation * level[0] + level[1], 0, 1)
    chroma = np.maximum(value - least, 1e-6)
    away = np.where(saturation > 0, (value - x) / chroma, np.array([0.0, 1.0, 1.0]))
    return value * (1 - wanted * away)


def _jpeg(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    buffer = io.BytesIO()
    _image(x).save(buffer, "JPEG", quality=int(level[0]))
    return _array(Image.open(buffer))


def _pixelate(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    image, rate = _image(x), level[0] / scale
    size = (max(1, round(image.width * rate)), max(1, round(image.height * rate)))
    small = image.resize(size, Image.Resampling.BOX)
    return _array(small.resize(image.size, Image.Resampling.NEAREST))


def _elastic(x: Picture, rng: Draws, scale: float, level: Level) -> Picture:
    from scipy.ndimage import map_coordinates

    strength, sigma = level
    grid = coarse(x.shape, scale)
    moves = [softened(rng.uniform(-1, 1, grid), sigma) for _ in range(2)]
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]].astype(np.float32)
    at = [
        place + strength * scale * enlarged(move, x.shape)
        for place, move in zip((rows, columns), moves, strict=True)
    ]
    return np.stack([map_coordinates(x[..., c], at, order=1, mode="reflect") for c in range(3)], -1)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(
        "noise", _gaussian_noise, ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,))
    ),
    "shot_noise": Corruption("noise", _shot_noise, ((60,), (25,), (12,), (5,), (3,))),
    "impulse_noise": Corruption(
        "noise", _impulse_noise, ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,))
    ),
    "speckle_noise": Corruption(
        "noise", _speckle_noise, ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,))
    ),
    "gaussian_blur": Corruption("blur", _gaussian_blur, ((1,), (2,), (3,), (4,), (6,)), False),
    # radius, softness
    "defocus_blur": Corruption(
        "blur", _defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), False
    ),
    # sigma, reach, rounds
    "glass_blur": Corruption(
        "blur", _glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    ),
    # radius, sigma
    "motion_blur": Corruption(
        "blur", _motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    ),
    # largest factor (not reached), step
    "zoom_blur": Corruption(
        "blur",
        _zoom_blur,
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        False,
    ),
    # mean, spread, size, threshold, radius and sigma of the smear, share of the photo
    "snow": Corruption(
        "weather",
        snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    # share of the photo, of the ice
    "frost": Corruption(
        "weather", frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
    ),
    # amount, decay
    "fog": Corruption("weather", fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    # mean, spread, sigma, threshold; strength of water or sigma of mud; whether it is mud
    "spatter": Corruption(
        "weather",
        spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    ),
    "brightness": Corruption(
        "digital", _brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)), False
    ),
    "contrast": Corruption("digital", _contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)), False),
    # factor, offset
    "saturate": Corruption(
        "digital", _saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), False
    ),
    "jpeg": Corruption("digital", _jpeg, ((25,), (18,), (15,), (10,), (7,)), False),
    "pixelate": Corruption("digital", _pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)), False),
    # strength and sigma, pixels; about .3, .6, .8, 1.1 and 2 pixels of displacement
    "elastic": Corruption(
        "digital", _elastic, ((5, 2.44), (8.5, 2.44), (12.2, 2.44), (17.1, 2.44), (29.3, 2.44))
    ),
}
