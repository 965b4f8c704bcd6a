"""What lies behind a rendered object (picture, road, shadow), and what lens and sensor do to it.

Used by :mod:`featmesh.views.generate` only. Ours.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from featmesh.errors import DatasetError
from featmesh.photo.read import read_photo

from .picture import Shot
from .scene import Scene

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
PICTURE_SIDE = 800  # pixels of the longer side a background picture is kept with


def backdrop(
    rng: np.random.Generator,
    shot: Shot,
    scene: Scene,
    backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    shares: tuple[float, float, float],
    ground: str = "road",
) -> Float32[np.ndarray, "h w 3"]:
    """Return the picture behind the object, display RGB in 0..1.

    Args:
        rng: generator of this view.
        shot: the camera.
        scene: the object, for its shadow.
        backgrounds: pictures to cut from; a colour gradient where there are none.
        shares: of photos with a painted ground, with a shadow, and in the sky.
        ground: what is painted: road, floor or water.
    """
    if shares[2] > 0 and rng.uniform() < shares[2]:
        return _sky(rng, shot)
    behind = _picture(rng, shot, backgrounds)
    floor = scene.vertices[:, 2].min() * shot.stretch[2]
    if shot.eye[2] > floor + 0.02:  # seen from below the ground there is no ground
        if rng.uniform() < shares[0]:
            _ground(rng, behind, shot, floor, ground)
        if rng.uniform() < shares[1]:
            behind *= 1 - _shadow(rng, shot, scene, floor)[..., None]
    return behind


def _picture(
    rng: np.random.Generator, shot: Shot, backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]]
) -> Float32[np.ndarray, "h w 3"]:
    from PIL import Image

    h, w = shot.height, shot.width
    if not len(backgrounds) or rng.uniform() < 0.06:
        top, bottom = rng.uniform(0.2, 1.0, 3), rng.uniform(0.1, 0.8, 3)
        ramp = np.linspace(0, 1, h)[:, None, None]
        return np.broadcast_to(top * (1 - ramp) + bottom * ramp, (h, w, 3)).astype(np.float32)
    image = Image.fromarray(backgrounds[int(rng.integers(len(backgrounds)))])
    scale = max(w / image.width, h / image.height) * rng.uniform(1, 2)
    cut_w, cut_h = min(image.width, w / scale), min(image.height, h / scale)
    x, y = rng.uniform(0, image.width - cut_w), rng.uniform(0, image.height - cut_h)
    if rng.uniform() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    box = (x, y, x + cut_w, y + cut_h)
    resized = image.resize((w, h), Image.Resampling.BICUBIC, box=box)
    return (np.asarray(resized) / 255).astype(np.float32)


def _sky(rng: np.random.Generator, shot: Shot) -> Float32[np.ndarray, "h w 3"]:
    """Return a clear, cloudy or grey sky, brighter below."""
    from scipy.ndimage import gaussian_filter

    h, w = shot.height, shot.width
    blue = np.array([0.35, 0.55, 0.85]) * rng.uniform(0.5, 1.15) + rng.normal(0, 0.04, 3)
    pale = rng.uniform(0.6, 0.98) * (1 + rng.normal(0, 0.03, 3))
    cover = rng.uniform(0, 1) if rng.uniform() < 0.6 else 0.0
    ramp = np.linspace(0, rng.uniform(0.1, 0.7), h)[:, None, None]
    clouds = np.zeros((h, w))
    for size in (0.02, 0.06, 0.2):
        noise = gaussian_filter(rng.standard_normal((h, w)), (size * h, 1.7 * size * w))
        clouds += noise / max(float(noise.std()), 1e-9) * size
    clouds = np.clip(clouds / max(float(clouds.std()), 1e-9) + 3 * cover - 2, 0, 1)[..., None]
    amount = np.clip(ramp + clouds, 0, 1)
    return (blue * (1 - amount) + pale * amount).clip(0, 1).astype(np.float32)


def _ground(
    rng: np.random.Generator,
    behind: Float32[np.ndarray, "h w 3"],
    shot: Shot,
    floor: float,
    kind: str,
) -> None:
    """Paint the ground below the horizon, in place; over a road or water sometimes a plain sky."""
    y, x = np.mgrid[: shot.height, : shot.width] + 0.5
    rays = np.stack([(x - shot.principal[0]), (y - shot.principal[1])], -1) / shot.focal
    rays = np.concatenate([rays, np.ones_like(rays[..., :1])], -1) @ shot.R
    down = -rays[..., 2]
    below = down > 1e-3
    far = (shot.eye[2] - floor) / np.where(below, down, 1.0)
    ground = shot.eye[:2] + rays[..., :2] * far[..., None]
    tone = rng.uniform(0.15, 0.75) * (1 + rng.normal(0, 0.04, 3))
    if kind == "water":
        tone = tone * rng.uniform((0.5, 0.7, 0.8), (0.9, 1.0, 1.2))
    elif kind == "floor":
        tone = tone * (1.15, rng.uniform(0.85, 1.1), rng.uniform(0.55, 1.1))
    waves = np.zeros(far.shape)
    for _ in range(4):
        wave = rng.normal(0, rng.choice([1.0, 4.0, 12.0]), 2)
        waves += np.sin(ground @ wave + rng.uniform(0, 6.3)) / 4
    near = np.exp(-np.maximum(far, 0) / 12)
    texture = 1 + (rng.uniform(0.02, 0.12) * waves + rng.normal(0, 0.05, far.shape)) * near
    line = rng.uniform(0.6, 1.5)
    if kind == "floor":
        texture = texture * _boards(rng, ground)
    elif kind == "road" and rng.uniform() < 0.4:  # a marking along or across the object
        axis, width = int(rng.integers(2)), rng.uniform(0.01, 0.04)
        texture = np.where(np.abs(ground[..., axis] - line) < width, 1.8, texture)
    haze = rng.uniform(0.5, 0.9)
    if kind == "floor":
        haze, near = 0.0, np.ones_like(near)
        below = below & (far < rng.uniform(1.5, 6))  # then comes a wall
    colour = tone * texture[..., None] * near[..., None] + haze * (1 - near[..., None])
    if kind != "floor" and rng.uniform() < 0.3:
        up = np.clip(-down / np.linalg.norm(rays, axis=-1), 0, 1)[..., None]
        sky = np.array([0.55, 0.7, 0.95]) * rng.uniform(0.7, 1.05)
        behind[:] = haze * (1 - up) + sky * up
    behind[below] = colour[below]
    behind.clip(0, 1, out=behind)


def _boards(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Return how bright a floor of boards, of tiles or without a pattern is at its points."""
    kind = rng.uniform()
    if kind < 0.4:
        return np.ones(ground.shape[:2])
    turn = rng.uniform(0, np.pi)
    along = ground @ np.array([np.cos(turn), np.sin(turn)]) / rng.uniform(0.08, 0.5)
    across = ground @ np.array([-np.sin(turn), np.cos(turn)]) / rng.uniform(0.08, 0.5)
    tone = rng.uniform(0.7, 1.2, 64)
    seam = np.mod(along, 1) < 0.04
    if kind < 0.7:
        seam |= np.mod(across, 1) < 0.04
    cell = np.floor(along) + 7 * np.floor(across) * (kind < 0.7)
    return np.where(seam, 0.6, tone[np.mod(cell, 64).astype(int)] if kind > 0.55 else 1.0)


def _shadow(
    rng: np.random.Generator, shot: Shot, scene: Scene, floor: float
) -> Float32[np.ndarray, "h w"]:
    """Return how much of the light the object's shadow takes from the ground, 0..1."""
    from scipy.ndimage import gaussian_filter

    vertices = scene.hull * shot.stretch
    size = shot.box(vertices)[1].min()
    lean = rng.normal(0, 0.5, 2)
    soft = _cast(shot, vertices, floor, lean)
    contact = _cast(shot, vertices, floor, np.zeros(2))
    wide = gaussian_filter(soft, rng.uniform(0.01, 0.08) * size) * rng.uniform(0.0, 0.65)
    close = gaussian_filter(contact, rng.uniform(0.015, 0.05) * size) * rng.uniform(0.35, 0.85)
    return np.maximum(wide, close).astype(np.float32)


def _cast(shot: Shot, vertices: np.ndarray, floor: float, lean: np.ndarray) -> np.ndarray:
    """Return the pixels of the convex shadow; ``lean``: its shift per unit of height."""
    from PIL import Image, ImageDraw
    from scipy.spatial import ConvexHull

    flat = vertices[:, :2] + (vertices[:, 2:] - floor) * lean
    if not lean.any():
        flat = flat * (0.97, 0.97)
    flat = flat[ConvexHull(flat).vertices]
    points = shot.points(np.concatenate([flat, np.full((len(flat), 1), floor)], 1))
    image = Image.new("L", (shot.width, shot.height))
    if points[:, 2].min() > 0.02:
        outline = [(float(x), float(y)) for x, y in shot.project(points)]
        ImageDraw.Draw(image).polygon(outline, fill=255)
    return np.asarray(image, np.float32) / 255


def degrade(
    rng: np.random.Generator, pixels: UInt8[np.ndarray, "h w 3"]
) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
    """Return the photo as a camera would store it, and the JPEG quality to write it with."""
    from scipy.ndimage import gaussian_filter, uniform_filter1d

    image = pixels.astype(np.float32) / 255
    kind = rng.uniform()
    if kind < 0.45:
        sigma = rng.uniform(0.2, 1.1)
        image = gaussian_filter(image, (sigma, sigma, 0))
    elif kind < 0.55:
        length = int(rng.integers(2, max(3, pixels.shape[1] // 50)))
        image = uniform_filter1d(image, length, axis=int(rng.integers(2)))
    balance = 1 + rng.normal(0, 0.05, 3)
    contrast, middle = rng.uniform(0.75, 1.2), float(image.mean())
    image = np.clip(image * balance, 0, 1) ** rng.uniform(0.75, 1.35)
    image = (image - middle) * contrast + middle + rng.normal(0, 0.04)
    if rng.uniform() < 0.08:
        image = np.broadcast_to(image.mean(2, keepdims=True), image.shape)
    if rng.uniform() < 0.6:
        noise = rng.standard_normal(image.shape, np.float32)
        image = image + rng.uniform(0.002, 0.04) * noise
    stored = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return stored, int(rng.integers(40, 96))


@lru_cache(maxsize=8)
def read_backgrounds(
    folder: str | Path,
    first_half: bool = True,
    leave_out: tuple[int, ...] = (),
    second_half: bool = False,
) -> tuple[UInt8[np.ndarray, "_ _ 3"], ...]:
    """Return the pictures of a folder by name, without those whose number is left out.

    Args:
        folder: holds JPEG, PNG or WebP files; with ``leave_out`` their names end in ``_NNNN``.
        first_half: only the first half by name; the second is kept for evaluation (contracts 6).
        leave_out: numbers in the file names of pictures that show the category.
        second_half: the other half instead, for evaluation.

    Raises:
        DatasetError: E_IO (no picture there).
        InputError: as :func:`featmesh.photo.read.read_photo`.
    """
    from PIL import Image

    paths = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in PICTURES)
    if second_half:
        paths = paths[len(paths) // 2 :]
    elif first_half:
        paths = paths[: len(paths) // 2]
    kept = [p for p in paths if not leave_out or _number(p) not in leave_out]
    if not kept:
        raise DatasetError(
            "E_IO",
            f"render-views: expected pictures ({' '.join(PICTURES)}) in {folder}, got none; "
            "try: another folder",
        )
    pictures = []
    for path in kept:
        pixels = read_photo(path).pixels
        if max(pixels.shape[:2]) > PICTURE_SIDE:  # a view is never larger; memory is kept
            image = Image.fromarray(pixels)
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            pixels = np.array(image)
        pictures.append(pixels)
    return tuple(pictures)


def _number(path: Path) -> int:
    """Return the number at the end of a file's name; -1 where there is none."""
    digits = path.stem.rsplit("_", 1)[-1]
    return int(digits) if digits.isdecimal() else -1
