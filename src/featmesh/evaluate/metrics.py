"""What counts as good: errors of poses, overlaps, separation of two kinds (spec 4.1)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from featmesh.errors import CheckpointError, InputError
from featmesh.geometry.crop import box_iou  # noqa: F401  a metric, which locate needs too
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle

NO_POSE = math.pi  # radians: the error of an estimate without a pose (contracts 3)
Symmetry = int | Literal["any"]  # how many turns about the object's +z look alike; 1: none does
THRESHOLDS = {"acc_30": math.pi / 6, "acc_10": math.pi / 18, "acc_5": math.pi / 36}  # radians


@dataclass(frozen=True)
class PoseSummary:
    """Rotation errors of a set of records, every record counted.

    Attributes:
        count: number of records.
        failed: how many of them have no pose; each is an error of pi.
        acc_30: share of errors below 30 degrees (pi/6); NaN where nothing is counted.
        acc_10: share of errors below 10 degrees (pi/18).
        acc_5: share of errors below 5 degrees (pi/36).
        median: median error, radians.
    """

    count: int
    failed: int
    acc_30: float
    acc_10: float
    acc_5: float
    median: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures for a file: the median in degrees, null where nothing is counted."""
        shares = {name: getattr(self, name) for name in THRESHOLDS}
        figures = {**shares, "median_deg": math.degrees(self.median)}
        known = {name: None if math.isnan(value) else value for name, value in figures.items()}
        return {"count": self.count, "failed": self.failed, **known}


def rotation_error(
    R1: Float[np.ndarray, "*#batch 3 3"], R2: Float[np.ndarray, "*#batch 3 3"]
) -> Float[np.ndarray, "*batch"]:
    """Return the angle between rotations, radians in [0, pi]; symmetric in its arguments."""
    angle = geodesic_angle(torch.as_tensor(R1), torch.as_tensor(R2))
    return np.asarray(angle.numpy())


def checked_symmetry(stated: Any) -> Symmetry:
    """Return the symmetry that a model states.

    Raises:
        CheckpointError: E_CKPT_CONFIG where it is none.
    """
    if stated == "any" or (type(stated) is int and stated >= 1):
        return stated
    raise CheckpointError(
        "E_CKPT_CONFIG",
        "evaluate: expected the model's symmetry to be a number of turns from 1 on or 'any', "
        f"got {stated!r}; try: mend its model.json",
    )


def symmetric_error(
    found: Float[np.ndarray, "3 3"], true: Float[np.ndarray, "3 3"], symmetry: Symmetry
) -> float:
    """Return the smallest rotation error (radians) over the turns about +z that look alike.

    No official figure: it stands beside :func:`rotation_error`, under a name of its own (ours).

    Args:
        found: ``cam_from_obj`` of the estimate.
        true: of the label.
        symmetry: number of such turns in a circle, or ``any``: then only the axis counts.
    """
    if symmetry == "any":
        between = float(found[:, 2] @ true[:, 2])
        return float(np.arctan2(np.linalg.norm(np.cross(found[:, 2], true[:, 2])), between))
    angle = 2 * np.pi * np.arange(int(symmetry)) / int(symmetry)
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    rows = [[np.cos(angle), -np.sin(angle), zero], [np.sin(angle), np.cos(angle), zero]]
    turns = np.moveaxis(np.array([*rows, [zero, zero, one]]), 2, 0)
    return float(np.min(rotation_error(found[None], true @ turns)))


def accuracy_at(errors: Float[np.ndarray, " n"], threshold: float) -> float:
    """Return the share of errors strictly below the threshold (same unit); NaN counts as above.

    Of no errors at all the share is NaN.
    """
    return float(np.mean(errors < threshold)) if len(errors) else math.nan


def median_error(errors: Float[np.ndarray, " n"]) -> float:
    """Return the median of rotation errors (radians), NaN counted as pi; of none it is NaN."""
    return float(np.median(_counted(errors))) if len(errors) else math.nan


def pose_summary(errors: Float[np.ndarray, " n"]) -> PoseSummary:
    """Return the figures of rotation errors in radians; NaN stands for no pose."""
    accuracies = {name: accuracy_at(errors, limit) for name, limit in THRESHOLDS.items()}
    failed = int(np.isnan(errors).sum())
    return PoseSummary(len(errors), failed, median=median_error(errors), **accuracies)


def add_error(pose1: Pose, pose2: Pose, vertices_obj: Float[Tensor, "v 3"]) -> float:
    """Return the mean distance of the vertices under two poses (ADD), in the unit of t.

    The vertices are in the same unit as t: scale them first where t is in metres.
    """
    points = vertices_obj.double()
    both = [Pose(pose.R.double(), pose.t.double()).apply(points) for pose in (pose1, pose2)]
    return float((both[0] - both[1]).norm(dim=-1).mean())


def add_symmetric_error(pose1: Pose, pose2: Pose, vertices_obj: Float[Tensor, "v 3"]) -> float:
    """Return ADD-S: of each vertex under the first pose the nearest under the second, mean.

    For objects that look the same from several sides. Unit of t, as in :func:`add_error`.
    """
    points = vertices_obj.double()
    both = [Pose(pose.R.double(), pose.t.double()).apply(points) for pose in (pose1, pose2)]
    nearest = [torch.cdist(part, both[1]).min(1).values for part in both[0].split(1024)]
    return float(torch.cat(nearest).mean())


def translation_error(pose1: Pose, pose2: Pose) -> float:
    """Return the distance between the object's centres under two poses, in the unit of t."""
    return float((pose1.t.double() - pose2.t.double()).norm())


def mask_iou(mask1: Bool[np.ndarray, "h w"], mask2: Bool[np.ndarray, "h w"]) -> float:
    """Return the overlap of two masks over their union; two empty masks agree: 1 (spec 4.1)."""
    union = np.count_nonzero(mask1 | mask2)
    return np.count_nonzero(mask1 & mask2) / union if union else 1.0


def auroc(scores: Real[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Return the chance that a positive scores above a negative, ties counted half.

    NaN where there is no positive or no negative.

    Raises:
        InputError: E_NONFINITE where a score is NaN (infinite scores are ranked).
    """
    if np.isnan(scores).any():
        raise InputError(
            "E_NONFINITE",
            "auroc: expected scores without NaN, "
            f"got {int(np.isnan(scores).sum())} of {len(scores)}; try: leave those out",
        )
    ranks = _ranks(scores)
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return math.nan
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def calibration_error(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], bins: int = 10
) -> float:
    """Return the expected calibration error: |confidence - accuracy| of equal bins, weighted.

    NaN of no answers.
    """
    if not len(right):
        return math.nan
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    total = np.bincount(place, weights=confidence, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    return float(np.abs(total - hits).sum() / len(right))


def rank_correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Return Spearman's correlation: that of the ranks, ties sharing theirs."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1]) if len(a) > 1 else math.nan


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _counted(errors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.where(np.isnan(errors), NO_POSE, errors)
