"""How far a photo determines the focal length: how the energy rises along it (ours).

A longer lens farther away draws nearly the same picture: only the strength of perspective tells.
So the pose is fitted again at several fixed focal lengths, and what the energy rises by is weighed
against one number, in which the calibration puts how far energies can be trusted. The energies hold
the prior on the lens: where the photo says nothing, the interval is as wide as that.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

SHARE = 0.9  # of the true focal lengths that an interval is to hold
_FINE = 400  # places at which the profile is integrated


@dataclass(frozen=True, eq=False)
class Profile:
    """The best explanations of a photo with the focal length held, shortest first.

    Attributes:
        log_focal: logarithm of the focal length over the one that was found, which is among them.
        energy: of each, priors included; lower is better.
        distance: of the camera from the object's centre, in diagonals of the object's own box.
    """

    log_focal: Float64[np.ndarray, " n"]
    energy: Float64[np.ndarray, " n"]
    distance: Float64[np.ndarray, " n"]

    def interval(self, heat: float) -> tuple[float, float]:
        """Return what 90 % of the true values lie between, as ``log_focal``; 0 is inside.

        Args:
            heat: energy that makes a focal length e times less likely (of a calibration).
        """
        fine = np.linspace(self.log_focal[0], self.log_focal[-1], _FINE)
        energy = np.interp(fine, self.log_focal, self.energy)
        likely = np.cumsum(np.exp((energy.min() - energy) / heat))
        tail = (1 - SHARE) / 2
        low, high = np.interp((tail, 1 - tail), likely / likely[-1], fine)
        return min(float(low), 0.0), max(float(high), 0.0)

    def at_distance(self, distance: float) -> float:
        """Return the ``log_focal`` with which the camera stands so many diagonals away.

        Beyond the profile's ends it is that of the end.
        """
        rising = np.maximum.accumulate(np.log(self.distance))
        return float(np.interp(np.log(distance), rising, self.log_focal))
