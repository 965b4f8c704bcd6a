"""The score below which the answer is "no object", fixed on the training side (first form)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from featmesh.inference.estimator import estimate
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.views.occlude import LEVELS, occlude

from .correspondence import Sample

REFUSED = 0.01  # share of the held-out objects that may be refused


def refusal_threshold(
    model: CategoryModel,
    held_out: Sequence[Sample],
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    seed: int = 0,
) -> float | None:
    """Return the score that refuses at most 1 % of objects, hidden ones too; None without views.

    Args:
        model: trained model.
        held_out: views whose model names were not trained on.
        pictures: without the object; each view is looked at as it is and behind parts of them.
        seed: of the occluders.
    """
    if not held_out:
        return None
    model = replace(model, threshold=None)
    scores = []
    for number, sample in enumerate(held_out):
        photo = read_photo(sample.image)
        pixels = [photo.pixels]
        for level in LEVELS:
            hidden = occlude(photo.pixels, sample.box, level, seed, number, pictures)[0]
            pixels.append(np.ascontiguousarray(hidden))
        scores += [estimate(model, Photo(p), sample.box).score for p in pixels]
    return float(np.quantile(np.nan_to_num(scores), REFUSED))
