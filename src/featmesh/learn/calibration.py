"""How sure may a model be? Confidence and intervals fitted on photos it was not trained on (ours).

Each held-out photo is looked at as it is and behind occluders of every level; pictures without the
object are looked at too, and no pose in them is right. What is reported of the fit is cross-fitted
over the objects' model names (contracts 6): nobody judges himself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from featmesh.evaluate.metrics import (
    auroc,
    calibration_error,
    checked_symmetry,
    rank_correlation,
    symmetric_error,
)
from featmesh.geometry.crop import Box
from featmesh.geometry.viewpoint import ray_rotation
from featmesh.inference.confidence import OF_GIST, SIGNALS
from featmesh.inference.estimator import estimate
from featmesh.inference.focal import SHARE, Profile
from featmesh.model.calibration import Calibration
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.progress import track
from featmesh.views.occlude import LEVELS, occlude

from .correspondence import Sample

RIGHT = math.radians(30)
REFUSED = 0.0025  # share of the right answers that may be refused, and no more than
MISSED = 0.05  # of the pictures without the object need not be
FEWEST = 40  # outcomes of each kind; with fewer nothing is fitted
RIDGE = 1e-3
FOLDS = 5
HEATS = (1e-4, 1.0)  # energies between which that of a focal length is sought
HALVINGS = 16  # to a thousandth of it
SMALLEST = 1e-4  # scale of a signal that is always the same
DIGITS = 6
Pixels = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class Outcome:
    """One estimate whose truth is known.

    Attributes:
        signals: by name (:data:`featmesh.inference.confidence.SIGNALS`, and ``OF_GIST``).
        error: of the rotation, radians; nan in a photo without the object.
        name: of the object, empty in a photo without it.
        profile: of the focal length; None where the camera was known, or there is no object.
        distance: true one, in diagonals of the object's own box; nan where it is not known.
    """

    signals: dict[str, float]
    error: float
    name: str
    profile: Profile | None = field(default=None, compare=False)
    distance: float = math.nan

    @property
    def focal(self) -> tuple[Profile, float] | None:
        """The profile, and where in it the truth lies; None where either is unknown.

        What a cut-out photo says of its lens is the strength of perspective: the truth is the focal
        length with which the camera stands as far away as it did.
        """
        if self.profile is None or not self.distance > 0:
            return None
        return self.profile, self.profile.at_distance(self.distance)


def outcomes(
    model: CategoryModel, held_out: Sequence[Sample], pictures: Sequence[Pixels], seed: int = 0
) -> list[Outcome]:
    """Return what comes of the held-out views, bare and behind occluders, and of other pictures.

    Args:
        model: trained model.
        held_out: views whose model names were not trained on.
        pictures: without the object; parts of them are the occluders too.
        seed: of the occluders.
    """
    found = []
    for number, sample in enumerate(track(held_out, len(held_out), "confidence: held-out views")):
        photo = read_photo(sample.image).pixels
        shown = [photo]
        shown += [occlude(photo, sample.box, k, seed, number, pictures)[0] for k in LEVELS]
        found += [outcome(model, p, sample.box, sample.R, sample.name) for p in shown]
    for picture in track(pictures, len(pictures), "confidence: pictures without"):
        whole = (0.0, 0.0, float(picture.shape[1]), float(picture.shape[0]))
        found.append(outcome(model, picture, whole))
    return found


def outcome(
    model: CategoryModel,
    pixels: Pixels,
    box: Box | None,
    R: Float[np.ndarray, "3 3"] | None = None,
    name: str = "",
    distance: float | None = None,
) -> Outcome:
    """Return what comes of one photo; turns that look alike, as the model states, are right.

    Args:
        model: trained model.
        pixels: of the photo.
        box: of the object, None to find it.
        R: true rotation, seen along the ray to the object's centre; None where there is no object.
        name: of the object.
        distance: true one of the camera, diagonals of the object's box; None where it is unknown.
    """
    bare = replace(model, calibration=None, threshold=None)
    e = estimate(bare, Photo(np.ascontiguousarray(pixels)), box)
    if R is None:
        return Outcome(e.signals, math.nan, "")
    if e.cam_from_obj is None:
        return Outcome(e.signals, math.pi, name)
    pose = e.cam_from_obj
    seen = (ray_rotation(pose.t) @ pose.R).numpy()
    alike = checked_symmetry(model.extra.get("symmetry", 1))
    error = symmetric_error(seen, R, alike)
    if distance is None:
        return Outcome(e.signals, error, name)
    return Outcome(e.signals, error, name, e.profile, distance)


def fit_calibration(known: Sequence[Outcome]) -> Calibration | None:
    """Return the calibration that fits the outcomes; None where there are too few of a kind."""
    names = (*SIGNALS, *(n for n in OF_GIST if all(n in k.signals for k in known)))
    x, errors = _arrays(known, names)
    right = errors < RIGHT  # False for nan
    if min(right.sum(), (~right).sum()) < FEWEST:
        return None
    centre, scale = x.mean(0), np.maximum(x.std(0), SMALLEST)
    z = (x - centre) / scale
    there = ~np.isnan(errors)
    fitted = Calibration(
        names,
        _rounded(centre),
        _rounded(scale),
        _rounded(_logistic(z, right)),
        _rounded(_quantile(z[there], np.log(np.maximum(errors[there], 1e-3)))),
        there=_rounded(_logistic(z, there)) if (~there).sum() >= FEWEST else None,
        focal=fit_focal([pair for pair in (k.focal for k in known) if pair is not None]),
    )
    sure = np.array([fitted.presence(k.signals) for k in known])
    below = float(np.quantile(sure[right], REFUSED))
    if fitted.there is not None:
        below = min(below, float(np.quantile(sure[~there], 1 - MISSED)))
    return replace(fitted, no_object_below=round(below, DIGITS))


def fit_focal(known: Sequence[tuple[Profile, float]]) -> float | None:
    """Return the energy by which 90 % of the true focal lengths lie in their interval.

    Args:
        known: profiles, each with the truth as its ``log_focal``.

    None where there are too few.
    """
    if len(known) < FEWEST:
        return None
    low, high = HEATS
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        enough = focal_figures(known, middle)["coverage"] >= SHARE
        low, high = (low, middle) if enough else (middle, high)
    return round(high, DIGITS)


def focal_figures(known: Sequence[tuple[Profile, float]], heat: float) -> dict[str, Any]:
    """Return how good the intervals of the focal length are.

    Share that hold the truth, that lie above and below it, median of high over low, and the
    median factor by which the estimates are off.
    """
    ends = np.array([profile.interval(heat) for profile, _ in known])
    truth = np.array([at for _, at in known])
    above, below = truth < ends[:, 0], truth > ends[:, 1]
    return {
        "count": len(known),
        "coverage": float((~above & ~below).mean()),
        "above": float(above.mean()),
        "below": float(below.mean()),
        "median_high_over_low": float(np.exp(np.median(ends[:, 1] - ends[:, 0]))),
        "median_factor_off": float(np.exp(np.median(np.abs(truth)))),
    }


def cross_fitted(known: Sequence[Outcome], folds: int = FOLDS) -> dict[str, Any]:
    """Return how good a calibration is on objects it was not fitted on.

    Of photos with the object: calibration error, AUROC of right against wrong, share of errors
    inside their interval, rank correlation of interval and error; the AUROC of photos with the
    object against those without; and the shares of photos without, and of right answers, that are
    refused. Where distances are known, the share of focal lengths inside their interval too.
    """
    names = sorted({k.name for k in known if k.name})
    fold = {name: i % folds for i, name in enumerate(names)}
    of = [fold.get(k.name, i % folds) for i, k in enumerate(known)]
    sure, width = np.full(len(known), np.nan), np.full(len(known), np.nan)
    refused, held = np.zeros(len(known), bool), list[bool]()
    for f in range(folds):
        fitted = fit_calibration([k for k, own in zip(known, of, strict=True) if own != f])
        if fitted is None:
            return {}
        for i, k in enumerate(known):
            if of[i] == f:
                sure[i], width[i] = fitted.confidence(k.signals), fitted.interval(k.signals)
                refused[i] = fitted.refuses(k.signals)
                if fitted.focal is not None and k.focal is not None:
                    held.append(focal_figures([k.focal], fitted.focal)["coverage"] == 1)
    errors = np.array([k.error for k in known])
    figures = reliability_figures(sure, width, errors)
    figures["refused_without"] = float(refused[np.isnan(errors)].mean())
    figures["refused_right"] = float(refused[errors < RIGHT].mean())
    return figures | ({"focal_coverage": float(np.mean(held))} if held else {})


def reliability_figures(
    confidence: Float[np.ndarray, " n"],
    interval: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
) -> dict[str, Any]:
    """Return the figures of confidences and intervals; errors (radians) nan without the object."""
    there = ~np.isnan(errors)
    right, wide = errors[there] < RIGHT, interval[there]
    return {
        "count": int(there.sum()),
        "right": float(right.mean()),
        "ece": calibration_error(confidence[there], right),
        "auroc_right": auroc(confidence[there], right),
        "auroc_there": auroc(confidence, there),
        "coverage": float((errors[there] <= wide).mean()),
        "rank_correlation": rank_correlation(wide, errors[there]),
        "median_interval_deg": math.degrees(float(np.median(wide))),
    }


def _arrays(known: Sequence[Outcome], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = [[k.signals[name] for name in names] for k in known]
    return np.array(rows, dtype=np.float64), np.array([k.error for k in known])


def _logistic(z: Float[np.ndarray, "n k"], y: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " k1"]:
    """Return weights and bias of a ridge logistic regression, by Newton steps."""
    rows = np.c_[z, np.ones(len(z))]
    ridge = np.r_[np.full(z.shape[1], RIDGE * len(z)), 1e-9]
    w = np.zeros(rows.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(rows @ w, -50, 50)))
        slope = rows.T @ (p - y) + ridge * w
        step = np.linalg.solve((rows * (p * (1 - p))[:, None]).T @ rows + np.diag(ridge), slope)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w


def _quantile(z: Float[np.ndarray, "n k"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " k1"]:
    """Return weights and bias of a line that 90 % stay below: least squares, then raised."""
    rows = np.c_[z, np.ones(len(z))]
    ridge = np.diag(np.r_[np.full(z.shape[1], RIDGE * len(z)), 0.0])
    w = np.linalg.solve(rows.T @ rows + ridge, rows.T @ y)
    w[-1] += np.quantile(y - rows @ w, SHARE)
    return w


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(v), DIGITS) for v in values)
