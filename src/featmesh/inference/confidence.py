"""What an estimate knows about its own reliability: the signals that confidence is made of (ours).

They are read off the pose stage: how well the object explains the photo, how much better than in
the next basin, how sharp the basin is, and whether the object fills the box that was looked at. A
model that knows the gist of crops adds what that says of the category and of the pose's view.
"""

import math

import numpy as np
import torch

from featmesh.geometry.crop import Box, box_iou
from featmesh.model.gist import Gist

from .energy_numba import Step
from .refine import Refined

BASIN = math.radians(25)  # poses farther apart lie in different basins
SIGNALS = ("score", "evidence", "visible", "gain", "lead", "spread", "overlap")
OF_GIST = ("presence", "view")  # further ones, of models that know it
FLAT = 1e-3  # added to the curvature: of a basin without any the spread is large, not infinite


def signals(
    refined: Refined,
    step: Step,
    prior: np.ndarray,
    cells: int,
    box: Box,
    drawn: Box | None,
    gist: Gist | None = None,
) -> dict[str, float]:
    """Return the signals of the best pose.

    ``score`` and ``evidence``: object over clutter, mean of its visible and of all its cells;
    ``visible``: share of its cells; ``gain`` and ``lead``: energy and evidence better than the best
    pose of another basin; ``spread``: logarithm of the rotation's standard deviation, radians, by
    the Gauss-Newton matrix; ``overlap``: of the drawn object's box with the box looked at;
    ``presence``: logit of the category being there, ``view``: log probability of the pose's view
    less that of the likeliest, both by the gist.

    Args:
        refined: the poses of the pose stage, best first.
        step: energy and curvature of the best one.
        prior: diagonal of the priors' curvature, pose to stretches.
        cells: inside the photo.
        box: that was looked at, photo pixels.
        drawn: of the projected object, None where it misses the photo.
        gist: of the crop, None of a model that has none.
    """
    others = [k for k in range(1, len(refined.R)) if _angle(refined, k) > BASIN]
    energy = min((float(refined.energy[k]) for k in others), default=0.0)
    evidence = max((float(refined.evidence[k]) for k in others), default=0.0)
    covariance = np.linalg.inv(
        (step.curvature[0] + np.diag(prior)) * cells + FLAT * np.eye(len(prior))
    )
    told = {
        "score": float(refined.score[0]),
        "evidence": float(refined.evidence[0]),
        "visible": float(refined.visible[0]),
        "gain": energy - float(refined.energy[0]),
        "lead": float(refined.evidence[0]) - evidence,
        "spread": 0.5 * math.log(float(np.trace(covariance[:3, :3]))),
        "overlap": 0.0 if drawn is None else box_iou(drawn, box),
    }
    if gist is None:
        return told
    view = gist.log_view(torch.from_numpy(refined.R[:1]))
    return told | {"presence": gist.presence, "view": float(view[0])}


def _angle(refined: Refined, k: int) -> float:
    """Return the angle between the best rotation and another one, radians."""
    cosine = (float((refined.R[0] * refined.R[k]).sum()) - 1) / 2
    return math.acos(max(-1.0, min(1.0, cosine)))
