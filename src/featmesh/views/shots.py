"""Draws the camera of a rendered view: direction, lens, place in the photo, size, stretch.

Used by :mod:`featmesh.views.generate` only. Ours.
"""

import math

import numpy as np

from featmesh.errors import DatasetError

from .generate_config import GenerateConfig
from .picture import Shot
from .scene import Scene

ATTEMPTS = 60  # draws of a camera until one shows the object as configured


def draw_shot(rng: np.random.Generator, scene: Scene, config: GenerateConfig) -> Shot:
    """Return a camera that shows the object as configured."""
    small = rng.uniform() < config.share_small
    truncated = not small and rng.uniform() < config.share_truncated
    for _ in range(ATTEMPTS):
        shot = _attempt(rng, scene, config, small, truncated)
        if shot is not None:
            return shot
    raise DatasetError(
        "E_VIEWS",
        f"render-views: expected a camera that shows the object, got none in {ATTEMPTS} draws; "
        "try: a wider range of distance, focal or span",
    )


def _attempt(
    rng: np.random.Generator, scene: Scene, config: GenerateConfig, small: bool, truncated: bool
) -> Shot | None:
    width = int(rng.integers(config.width[0], config.width[1] + 1))
    height = round(width / rng.choice(config.aspects))
    azimuth = math.radians(rng.uniform(0, 360))
    wide = rng.uniform() < config.share_wide
    elevation = rng.uniform(*config.elevation_wide) if wide else rng.normal(*config.elevation)
    angles = (azimuth, math.radians(elevation), math.radians(rng.normal(0, config.theta)))
    distance = float(np.exp(rng.uniform(*np.log(config.distance))))
    span = rng.uniform(*config.span) * (1.4 if truncated else 1.0)
    stretch = 1 + rng.uniform(-config.stretch, config.stretch, 3)
    stretch /= np.linalg.norm(stretch * np.ptp(scene.vertices, axis=0))
    hull = scene.hull * stretch
    looked = Shot.towards(angles, distance, (0.0, 0.0), 1.0, (height, width))
    _, size = looked.box(hull)
    focal = min(span * width / size[0], (1.5 if truncated else 0.95) * height / size[1])
    if small and rng.uniform() < 0.5:  # a small object in a large photo
        focal *= min(1.0, _small_height(rng, config) / (focal * size[1]))
        small = False
    low, high = (limit * max(height, width) for limit in config.focal)
    if focal < low:  # no such lens: step back and keep the size
        low *= rng.uniform(1, 2)
        distance, focal = distance * low / focal, low
    if focal > high or distance > 1.5 * config.distance[1]:
        return None
    box = np.array([size[0], size[1]]) * focal
    centre = _draw_centre(rng, box, (height, width), truncated)
    shot = Shot.towards(angles, distance, centre, focal, (height, width)).fitted(hull, centre)
    if small:  # a small photo
        factor = min(1.0, _small_height(rng, config) / shot.box(hull)[1][1])
        shot = shot.scaled(max(factor, 48 / min(height, width)))
    shot = shot.stretched(stretch)
    return shot if shot.shows(hull, truncated) else None


def _small_height(rng: np.random.Generator, config: GenerateConfig) -> float:
    return float(np.exp(rng.uniform(*np.log(config.small))))


def _draw_centre(
    rng: np.random.Generator, box: np.ndarray, size: tuple[int, int], truncated: bool
) -> tuple[float, float]:
    """Return where the middle of the object's box goes, pixels."""
    sides = np.array([size[1], size[0]], float)
    room = np.maximum(0.0, sides - box - 4)
    centre = sides / 2 + rng.uniform(-0.5, 0.5, 2) * room
    if truncated:
        axis = 0 if rng.uniform() < 0.75 else 1
        outside = rng.uniform(0.05, 0.45) * box[axis]
        edge = box[axis] / 2 - outside
        centre[axis] = edge if rng.uniform() < 0.5 else sides[axis] - edge
    return float(centre[0]), float(centre[1])
