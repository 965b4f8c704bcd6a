"""Snow, frost, fog and spatter over a photo, and the filters that corruptions share.

Formulas and constants of snow, fog and spatter are those of ImageNet-C (Hendrycks and Dietterich
2019); its frost is pasted from photos of windows, ours is drawn. Pictures are RGB from 0 to 1 here,
``scale`` is how many of their pixels make one of a 224 x 224 picture.
"""

import math

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

Picture = Float[np.ndarray, "h w 3"]
Level = tuple[int | float, ...]  # constants of a severity

WATER, MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)
ICE = (0.86, 0.93, 1.0)
DEEPEST = 20.0  # pixels of a 224 x 224 picture: drops are shaded that far from their border
MUD_EDGE = 0.8  # of a blurred spot of mud; what is thinner is not seen
LEAST_WET = 0.99  # share of the picture that stays dry at most


def enlarged(
    field: Float[np.ndarray, "_ _"],
    shape: tuple[int, ...],
    by: Image.Resampling = Image.Resampling.BICUBIC,
) -> Float32[np.ndarray, "h w"]:
    """Return a field at another size (height, width)."""
    small = Image.fromarray(np.asarray(field, np.float32))
    size = (int(shape[1]), int(shape[0]))
    return np.asarray(small if small.size == size else small.resize(size, by))


def coarse(shape: tuple[int, ...], pitch: float) -> tuple[int, int]:
    """Return (height, width) of a grid of points ``pitch`` pixels apart; at least 2 x 2."""
    return max(2, math.ceil(shape[0] / pitch)), max(2, math.ceil(shape[1] / pitch))


def softened(x: Float[np.ndarray, "h w *c"], sigma: float) -> Float[np.ndarray, "h w *c"]:
    """Return a picture or a field blurred by a Gaussian of ``sigma`` pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (sigma, sigma, 0)[: x.ndim], mode="nearest")


def convolved(
    x: Float[np.ndarray, "h w c"], kernel: Float[np.ndarray, "k k"]
) -> Float[np.ndarray, "h w c"]:
    """Return a picture filtered by a kernel of odd size, mirrored at the border."""
    from scipy.signal import fftconvolve

    r = kernel.shape[0] // 2
    padded = np.pad(x, ((r, r), (r, r), (0, 0)), "symmetric")
    return fftconvolve(padded, kernel[..., None], "valid", axes=(0, 1))


def smeared(
    x: Float[np.ndarray, "h w c"], angle: float, radius: float, sigma: float
) -> Float[np.ndarray, "h w c"]:
    """Return a picture smeared along a line, fading to one end as a camera's jerk does.

    The weights are ImageMagick's, half a Gaussian over twice the radius; here their mean is 0, so
    that the object stays where its labels say.

    Args:
        x: the picture.
        angle: of the line, radians from the row axis.
        radius: half the length, pixels.
        sigma: of the Gaussian, pixels.
    """
    along = np.arange(2 * math.ceil(radius) + 1, dtype=np.float64)
    weight = np.exp(-((along / sigma) ** 2) / 2)
    along -= (along * weight).sum() / weight.sum()
    reach = math.ceil(float(np.abs(along).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    at = np.stack([along * math.sin(angle), along * math.cos(angle)]) + reach
    low = np.floor(at).astype(int)
    part = at - low
    for dy in (0, 1):  # each point is shared by the four cells about it
        for dx in (0, 1):
            share = (part[0] if dy else 1 - part[0]) * (part[1] if dx else 1 - part[1])
            np.add.at(kernel, (low[0] + dy, low[1] + dx), weight * share)
    return convolved(x, kernel / kernel.sum())


def plasma(
    rng: np.random.Generator, shape: tuple[int, ...], decay: float
) -> Float32[np.ndarray, "h w"]:
    """Return clouds from 0 to 1: octaves of noise, each ``decay`` squared weaker than the last.

    ImageNet-C's clouds fall off so, too; theirs come from midpoint displacement.

    Args:
        rng: draws them.
        shape: (height, width), pixels.
        decay: the larger, the smoother.
    """
    side = max(shape[0], shape[1])
    total = np.zeros((side, side), np.float32)
    for k in range(max(1, math.ceil(math.log2(side)))):
        grid = rng.uniform(-1, 1, (2**k + 1, 2**k + 1))
        total += decay ** (-2 * k) * enlarged(grid, total.shape)
    cut = total[: shape[0], : shape[1]]
    return (cut - cut.min()) / max(float(np.ptp(cut)), 1e-6)


def snow(x: Picture, rng: np.random.Generator, scale: float, level: Level) -> Picture:
    """Return a whitened picture behind flakes that a long exposure smears downwards."""
    mean, spread, size, threshold, radius, sigma, share = level
    angle = math.radians(rng.uniform(45, 135))  # first, so that it is that of all severities
    flakes = rng.normal(mean, spread, coarse(x.shape, size * scale))
    flakes = enlarged(flakes, x.shape, Image.Resampling.BILINEAR)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)[..., None]
    flakes = smeared(flakes, angle, radius * scale, sigma * scale)
    grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    white = share * x + (1 - share) * np.maximum(x, 1.5 * grey + 0.5)
    return white + flakes + flakes[::-1, ::-1]


def fog(x: Picture, rng: np.random.Generator, scale: float, level: Level) -> Picture:
    """Return the picture under clouds, darkened so that its brightest stays as bright."""
    amount, decay = level
    clouds = enlarged(plasma(rng, coarse(x.shape, scale), float(decay)), x.shape)[..., None]
    bright = float(x.max())
    return (x + amount * clouds) * bright / max(bright + amount, 1e-6)


def frost(x: Picture, rng: np.random.Generator, scale: float, level: Level) -> Picture:
    """Return the picture behind ice: needles in a few directions on a cover of changing depth."""
    keep, amount = level
    shape = coarse(x.shape, scale)
    cover = plasma(rng, shape, 1.5)
    needles = np.zeros(shape)
    for angle in rng.uniform(0, math.pi, 4):
        seeds = (rng.random(shape) < 0.02).astype(np.float64)[..., None]
        lines = smeared(seeds, angle, 14.0, 9.0)[..., 0]
        needles = np.maximum(needles, lines / max(float(np.quantile(lines, 0.98)), 1e-6))
    grain = 1 - np.abs(2 * plasma(rng, shape, 1.2) - 1)
    depth = np.clip(0.15 + 1.1 * cover, 0, 1)
    ice = depth * (0.5 + 0.45 * np.clip(needles, 0, 1) + 0.25 * grain)
    ice = np.clip(enlarged(ice, x.shape), 0, 1)[..., None]
    return keep * x + amount * ice * np.array(ICE)


def spatter(x: Picture, rng: np.random.Generator, scale: float, level: Level) -> Picture:
    """Return the picture behind drops of water, or behind mud; drops are shaded by their slope."""
    mean, spread, sigma, threshold, strength, muddy = level
    field = softened(rng.standard_normal(coarse(x.shape, scale)), float(sigma))
    field = (field - field.mean()) / max(float(field.std()), 1e-6)
    # as wide as a Gaussian of sigma leaves it, but in small pictures too
    liquid = mean + spread / (2 * math.sqrt(math.pi) * sigma) * enlarged(field, x.shape)
    wet = liquid > min(threshold, float(np.quantile(liquid, LEAST_WET)))
    if muddy:
        mud = softened(wet.astype(np.float64), strength * scale)
        edge = min(MUD_EDGE, float(np.quantile(mud, LEAST_WET)))
        mud = np.where(mud < edge, 0, mud)[..., None]
        return x * (1 - mud) + mud * np.array(MUD)
    drops = np.where(wet, liquid * _shading(wet, scale), 0.0)
    return x + strength * (drops / max(float(drops.max()), 1e-6))[..., None] * np.array(WATER)


def _shading(wet: np.ndarray, scale: float) -> Float[np.ndarray, "h w"]:
    """Return how bright drops are: their height rises inwards, light comes from above left."""
    from scipy.ndimage import distance_transform_edt

    height = np.minimum(distance_transform_edt(wet) / scale, DEEPEST)
    rise = np.gradient(softened(height, scale))
    return np.clip(0.25 + scale * 0.4 * (rise[0] + rise[1]), 0.05, 1)
