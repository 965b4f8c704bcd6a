"""From what an estimate says about itself to a probability, and an interval, that can be relied on.

Three linear models of a few signals, fitted on photos that were not trained on: torch-free numbers
that stand in ``model.json`` (fit: :mod:`featmesh.learn.calibration`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from featmesh.errors import CheckpointError

WIDEST = math.pi  # radians


@dataclass(frozen=True)
class Calibration:
    """How sure a model may be.

    Attributes:
        signals: names of what is looked at (:data:`featmesh.inference.confidence.SIGNALS`,
            and ``OF_GIST`` of a model that knows the gist).
        centre: taken off each signal.
        scale: each signal is then divided by it.
        right: weights, and last the bias, of the logit that the rotation is less than 30 degrees
            off.
        width: the same of the logarithm of the rotation error, radians, that 90 % stay below.
        uncertain_below: probability below which an answer is ``uncertain``.
        no_object_below: probability of an object, or where that was not fitted of being right,
            below which it is ``no_object``.
        focal: energy that makes a focal length e times less likely, by which the interval of an
            unknown one is told (:mod:`featmesh.inference.focal`); None: no interval.
        there: as ``right``, of the logit that there is an object; None where that was not fitted.
    """

    signals: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    right: tuple[float, ...]
    width: tuple[float, ...]
    uncertain_below: float = 0.8
    no_object_below: float = 0.0
    focal: float | None = None
    there: tuple[float, ...] | None = None

    def checked(self) -> "Calibration":
        """Return this calibration, or raise E_CKPT_CONFIG where its parts do not fit."""
        n = len(self.signals)
        there = self.right if self.there is None else self.there
        parts = (self.centre, self.scale, self.right, self.width, there)
        lengths = [len(v) for v in parts]
        numbers = [x for v in parts for x in v]
        fits = lengths == [n, n, *[n + 1] * 3] and all(map(math.isfinite, numbers))
        if not fits or not (self.focal is None or 0 < self.focal < math.inf):
            raise CheckpointError(
                "E_CKPT_CONFIG",
                f"calibration: expected {n} finite numbers and biases and no focal or one above 0, "
                f"got lengths {lengths}, focal {self.focal}; try: fetch the model folder again",
            )
        return self

    def confidence(self, signals: Mapping[str, float]) -> float:
        """Return the probability that the rotation is less than 30 degrees off."""
        return _probability(self._linear(self.right, signals))

    def presence(self, signals: Mapping[str, float]) -> float:
        """Return the probability of an object being there; where not fitted, of being right.

        A pose behind a large occluder is doubtful long before the object is.
        """
        if self.there is None:
            return self.confidence(signals)
        return _probability(self._linear(self.there, signals))

    def refuses(self, signals: Mapping[str, float]) -> bool:
        """Return whether an answer is ``no_object``."""
        return self.presence(signals) < self.no_object_below

    def interval(self, signals: Mapping[str, float]) -> float:
        """Return the rotation error, radians, that 90 % of such estimates stay below."""
        return min(math.exp(min(self._linear(self.width, signals), 10.0)), WIDEST)

    def _linear(self, weights: tuple[float, ...], signals: Mapping[str, float]) -> float:
        total = weights[-1]
        for name, centre, scale, weight in zip(
            self.signals, self.centre, self.scale, weights[:-1], strict=True
        ):
            total += weight * (signals[name] - centre) / scale
        return total


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-max(min(logit, 50.0), -50.0)))
