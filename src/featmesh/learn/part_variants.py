"""Annotated photos in other light, mirrored, turned, shifted and behind occluders (ours).

Every draw is keyed by the photo's number and the variant's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageFilter

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL, Box, Crop
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample
from featmesh.views.occlude import LEVELS, occlude

GRID = 2  # crop pixels per label that is trained on
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class PixelParts:
    """A photo and the part of each of its pixels.

    Attributes:
        number: of the photo.
        pixels: its colours.
        parts: part of each pixel by the annotation, in front of it or not; 0 for none.
        box: (x0, y0, x1, y1) of all parts together, hidden ones too, pixels.
        hidden: pixels behind an occluder.
    """

    number: int
    pixels: UInt8[np.ndarray, "h w 3"]
    parts: UInt8[np.ndarray, "h w"]
    box: Box
    hidden: Bool[np.ndarray, "h w"]

    @property
    def visible(self) -> UInt8[np.ndarray, "h w"]:
        """The part of each pixel, 0 where an occluder hides it."""
        return np.where(self.hidden, 0, self.parts).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Variant:
    """A crop as the network will see it, and the parts in it every ``GRID`` pixels.

    Attributes:
        pixels: the crop.
        visible: parts that are seen.
        whole: parts behind an occluder too.
    """

    pixels: UInt8[np.ndarray, "y x 3"]
    visible: UInt8[np.ndarray, "p q"]
    whole: UInt8[np.ndarray, "p q"]


def crop_of(photo: PixelParts, box: Box, size: Size, fill: float = FILL) -> Crop:
    """Return the crop that the estimator would make of a box, the camera unknown."""
    return Crop.from_box(Camera.assumed(*photo.parts.shape), box, size, fill)


def varied(
    photo: PixelParts,
    size: Size,
    mirror: Int[np.ndarray, " n1"],
    occluders: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    seed: int,
    variant: int,
) -> Variant:
    """Return a crop: mirrored, hidden (every second one), turned, shifted, recoloured.

    Args:
        photo: the photo.
        size: height and width of the crop.
        mirror: of each part, what it becomes in a mirror.
        occluders: pictures without the object; none: occluders are grey noise.
        seed: key of the draws, with the photo's number and the variant's.
        variant: number of the variant.
    """
    rng = generator(seed, "part_head", variant, photo.number)
    if rng.random() < 0.5:
        photo = mirrored(photo, mirror)
    if (photo.number + variant) % 2:
        level = list(LEVELS)[int(rng.integers(len(LEVELS)))]
        photo = behind(photo, level, seed + 1000 * (variant + 1), occluders)
    if rng.random() < 0.5:
        photo = turned(photo, rng)
    x0, y0, x1, y1 = photo.box
    dx, dy = rng.uniform(-0.08, 0.08, 2) * (x1 - x0, y1 - y0)
    wide, high = np.exp(rng.normal(0, 0.06, 2)) * (x1 - x0, y1 - y0) / 2
    x, y = (x0 + x1) / 2 + dx, (y0 + y1) / 2 + dy
    box = (x - wide, y - high, x + wide, y + high)
    crop = crop_of(photo, box, size, rng.uniform(0.65, 0.95))
    pixels, _ = resample(Photo.from_array(photo.pixels), crop)
    at = crop.pixel_map()[GRID // 2 :: GRID, GRID // 2 :: GRID].numpy()
    labels = (looked_up(kind, at) for kind in (photo.visible, photo.parts))
    return Variant(recoloured(pixels, rng), *labels)


def behind(
    photo: PixelParts, level: str, seed: int, occluders: Sequence[UInt8[np.ndarray, "_ _ 3"]]
) -> PixelParts:
    """Return the photo with occluders of a level in front of its box."""
    pixels, hidden = occlude(photo.pixels, photo.box, level, seed, photo.number, occluders)
    return replace(photo, pixels=pixels, hidden=hidden)


def mirrored(photo: PixelParts, mirror: Int[np.ndarray, " n1"]) -> PixelParts:
    """Return the mirror image: left parts become right ones."""
    x0, y0, x1, y1 = photo.box
    width = photo.parts.shape[1]
    return replace(
        photo,
        pixels=np.ascontiguousarray(photo.pixels[:, ::-1]),
        parts=mirror.astype(np.uint8)[photo.parts[:, ::-1]],
        box=(width - x1, y0, width - x0, y1),
        hidden=photo.hidden[:, ::-1],
    )


def turned(photo: PixelParts, rng: np.random.Generator) -> PixelParts:
    """Return the photo turned by a few degrees and squeezed, about the middle of the box."""
    angle, squeeze = np.deg2rad(rng.normal(0, 4)), np.exp(rng.normal(0, 0.1))
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]) @ np.diag([squeeze, 1 / squeeze])  # result to photo
    x0, y0, x1, y1 = photo.box
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    data = np.concatenate([matrix, (middle - matrix @ middle)[:, None]], 1).reshape(-1)

    def moved(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
        image, affine = Image.fromarray(picture), Image.Transform.AFFINE
        return np.array(image.transform(image.size, affine, tuple(data), how))

    nearest = Image.Resampling.NEAREST
    return replace(
        photo,
        pixels=moved(photo.pixels, Image.Resampling.BILINEAR),
        parts=moved(photo.parts, nearest),
        hidden=moved(photo.hidden.astype(np.uint8), nearest) > 0,
    )


def recoloured(
    pixels: UInt8[np.ndarray, "y x 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "y x 3"]:
    """Return the crop in another light: gain, cast, gamma, saturation, blur, noise."""
    x = pixels.astype(np.float32) / 255
    if rng.random() < 0.8:
        gain = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
        x = x * gain.astype(np.float32) + np.float32(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.5:
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * np.float32(rng.uniform(0, 1.5))
    if rng.random() < 0.4:
        x = np.clip(x, 0, 1) ** np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.3:
        noise = rng.standard_normal(x.shape, dtype=np.float32)
        x = x + np.float32(rng.uniform(0.01, 0.05)) * noise
    image = Image.fromarray((np.clip(x, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.5))))
    return np.array(image)


def looked_up(
    labels: UInt8[np.ndarray, "h w"], at: Float[np.ndarray, "p q 2"]
) -> UInt8[np.ndarray, "p q"]:
    """Return the labels at places x, y of the photo; 0 outside it."""
    x, y = np.floor(at[..., 0]).astype(int), np.floor(at[..., 1]).astype(int)
    ok = (x >= 0) & (y >= 0) & (x < labels.shape[1]) & (y < labels.shape[0])
    out = np.zeros(ok.shape, np.uint8)
    out[ok] = labels[y[ok], x[ok]]
    return out
