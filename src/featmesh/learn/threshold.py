"""The score below which the answer is "no object", fixed on the training side (first form)."""

from collections.abc import Sequence

import numpy as np

from featmesh.inference.estimator import estimate
from featmesh.model.category import CategoryModel
from featmesh.photo.read import read_photo

from .correspondence import Sample

REFUSED = 0.01  # share of the held-out objects that may be refused


def refusal_threshold(model: CategoryModel, held_out: Sequence[Sample]) -> float | None:
    """Return the score that refuses at most 1 % of views kept out of training; None without any.

    Args:
        model: trained model, threshold not set.
        held_out: views whose model names were not trained on.
    """
    if not held_out:
        return None
    scores = [estimate(model, read_photo(s.image), s.box).score for s in held_out]
    return threshold_of(np.array(scores))


def threshold_of(scores: np.ndarray) -> float:
    """Return a threshold a little below the lowest 1 % of the objects' scores.

    With few objects the 1 % quantile is their minimum; a margin of a tenth of the distance between
    minimum and median stands for those not seen.
    """
    low = float(np.quantile(scores, REFUSED))
    return low - 0.1 * (float(np.median(scores)) - low)
