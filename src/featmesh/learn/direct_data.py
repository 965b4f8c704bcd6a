"""Crops and the rotations in them: what the conventional networks are trained on (ours).

They are the crops that a category model would see in the same step: drawn from the same photos by
the same keys, turned, squeezed, hidden and recoloured alike (:mod:`featmesh.learn.augment`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featmesh.draws import generator

from .augment import TrainCrop, draw_crop
from .config import STILL, TrainConfig
from .correspondence import Sample
from .data import TrainData, draw_crops


@dataclass(frozen=True)
class TurnedCrops:
    """What one step sees.

    Attributes:
        pixels: 0..255.
        R: how the object in each crop is turned, seen along the ray to its centre.
    """

    pixels: Float[Tensor, "b 3 h w"]
    R: Float[Tensor, "b 3 3"]

    @classmethod
    def of(cls, pixels: Sequence[np.ndarray], R: Sequence[np.ndarray | None]) -> "TurnedCrops":
        """Return crops (h, w, 3), bytes, and their rotations as a batch."""
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
        known = [r for r in R if r is not None]  # only crops of a frozen trunk know none
        return cls(stacked, torch.from_numpy(np.stack(known)).float())


def drawn_crops(data: TrainData, config: TrainConfig, step: int) -> TurnedCrops:
    """Return the crops of a step: those of :func:`featmesh.learn.data.draw_batch`."""
    drawn = [generator(config.seed, "train", step, k) for k in range(config.batch)]
    return _together(draw_crops(data, config, drawn))


def still_crops(
    samples: Sequence[Sample], data: TrainData, config: TrainConfig, first: int
) -> TurnedCrops:
    """Return up to a batch of unvaried crops, the samples from ``first`` on."""
    size = (config.model.crop_height, config.model.crop_width)
    crops = []
    for k, sample in enumerate(samples[first : first + config.batch]):
        rng = generator(config.seed, "validate", 0, first + k)
        crops.append(draw_crop(sample, size, data.scenery, STILL, rng))
    return _together(crops)


def _together(crops: Sequence[TrainCrop]) -> TurnedCrops:
    return TurnedCrops.of([c.pixels for c in crops], [c.R for c in crops])
