"""Photos of car_parts with a part for each pixel, occluders in front of them, and what counts.

Part k = 1..18 is ``NAMES[k - 1]``, 0 is no part: the numbers of the label images of featmesh.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import CAR_BACKGROUNDS, pixels_of

from featmesh.learn.part_variants import PixelParts as PartPhoto
from featmesh.learn.part_variants import behind as hidden_behind
from featmesh.views.occlude import LEVELS
from featmesh.views.part_photos import read_part_photos

NAMES = (
    "back_bumper", "back_glass", "back_left_door", "back_left_light", "back_right_door",
    "back_right_light", "front_bumper", "front_glass", "front_left_door", "front_left_light",
    "front_right_door", "front_right_light", "hood", "left_mirror", "right_mirror", "tailgate",
    "trunk", "wheel",
)  # fmt: skip
CLASSES = len(NAMES) + 1
SIZE = (512, 512)
WITHOUT = "L0"  # occluders
STEPS = (WITHOUT, *LEVELS)


def read_parts(data: Path, numbers: range) -> list[PartPhoto]:
    """Return the photos whose ids are given."""
    photos = read_part_photos(data / "car_parts/train/annotations.json", NAMES, numbers)
    nothing = np.zeros(SIZE, bool)
    return [PartPhoto(p.id, pixels_of(p.image), p.labels(), p.box, nothing) for p in photos]


def first_half(data: Path) -> list[np.ndarray]:
    """Return background pictures without a car, of the half to train with (contracts 6)."""
    pictures = sorted((data / "backgrounds").glob("*.jpg"))
    kept = pictures[: len(pictures) // 2]
    return [pixels_of(path) for path in kept if int(path.stem[-4:]) not in CAR_BACKGROUNDS]


def behind(
    photos: Sequence[PartPhoto], level: str, seed: int, pictures: Sequence[np.ndarray]
) -> list[PartPhoto]:
    """Return the photos with occluders of a level in front of the box of their parts."""
    if level == WITHOUT:
        return list(photos)
    return [hidden_behind(photo, level, seed, pictures) for photo in photos]


def counts(truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Return how many pixels of each class (rows: truth) got each answer (columns)."""
    pairs = truth.astype(np.int64).reshape(-1) * CLASSES + answer.reshape(-1)
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def scores(total: np.ndarray) -> dict[str, Any]:
    """Return the IoU of each part, their mean, and the share of part pixels with the right part.

    Args:
        total: the counts of all photos together. Pixels of no part count against a part that
            claims them; a part pixel that is called no part is wrong.
    """
    right = np.diag(total)[1:].astype(float)
    either = total[1:].sum(1) + total[:, 1:].sum(0) - right
    shares = np.divide(right, either, out=np.full(len(right), np.nan), where=either > 0)
    return {
        "miou": float(np.nanmean(shares)) if (either > 0).any() else float("nan"),
        "accuracy": float(right.sum() / max(1, total[1:].sum())),
        "iou": dict(zip(NAMES, shares.tolist(), strict=True)),
    }
