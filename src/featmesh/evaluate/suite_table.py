"""The outcome of a suite as arrays, and the figures of it: shares, intervals, bins (ours)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Integer

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.viewpoint import angles_from_rotation, ray_rotation
from featmesh.views.corruptions import CORRUPTIONS
from featmesh.views.record import View

from .conditions import Condition, labelled
from .metrics import (
    THRESHOLDS,
    Symmetry,
    auroc,
    calibration_error,
    pose_summary,
    rotation_error,
    symmetric_error,
)
from .predict import WITH_POSE
from .suite_config import SuiteConfig

FLIPPED = math.radians(135.0)  # azimuth errors above it take the front for the back
BIN = 30.0  # degrees of azimuth; the first bin is centred on the front
RIGHT = THRESHOLDS["acc_30"]
LOW, HIGH = 0.025, 0.975  # quantiles of the intervals
POOLS: dict[str, tuple[str, ...]] = {  # kinds of conditions whose photos are taken together
    "clean": ("clean",),
    "occlusion": ("occlusion",),
    "corruption": ("corruption",),
    "all": ("clean", "occlusion", "corruption", "resolution", "rotation", "context"),
}

Shares = Float64[np.ndarray, " draws"]


@dataclass(frozen=True, eq=False)
class SuiteTable:
    """One row a condition, one column a record.

    Attributes:
        views: the records, unchanged.
        conditions: what was done to the photos.
        errors: rotation errors, radians, up to turns that look alike; NaN without a pose.
        azimuth: true azimuth of the records along the ray of the box, radians.
        turned: azimuth errors, radians in [0, pi]; NaN without a pose.
        confidence: NaN where there is none.
        seconds: of the estimates.
    """

    views: Sequence[View]
    conditions: Sequence[Condition]
    errors: Float64[np.ndarray, "c n"]
    azimuth: Float64[np.ndarray, " n"]
    turned: Float64[np.ndarray, "c n"]
    confidence: Float64[np.ndarray, "c n"]
    seconds: Float64[np.ndarray, "c n"]

    def of(self, *kinds: str) -> Integer[np.ndarray, " m"]:
        """Return the numbers of the conditions of some kinds."""
        found = [k for k, one in enumerate(self.conditions) if one.kind in kinds]
        return np.array(found, dtype=np.int64)


def table_of(
    views: Sequence[View],
    rows: Mapping[Condition, Sequence[Mapping[str, Any]]],
    symmetry: Symmetry = 1,
) -> SuiteTable:
    """Return the table of predictions.

    Args:
        views: the records, each with R, whose photos were changed.
        rows: predictions of them under each condition, in the views' order.
        symmetry: turns about +z that look alike.
    """
    shape = (len(rows), len(views))
    errors, turned, sure, seconds = (np.full(shape, np.nan) for _ in range(4))
    azimuth = np.zeros(len(views))
    for c, (condition, found) in enumerate(rows.items()):
        for n, (view, row) in enumerate(zip(views, found, strict=True)):
            true, seen = rotations(labelled(view, condition), row)
            azimuth[n] = _azimuth(true)
            sure[c, n] = _number(row.get("confidence"))
            seconds[c, n] = _number(row.get("seconds"))
            if seen is None:
                continue
            straight = symmetry == 1
            error = (
                rotation_error(seen, true) if straight else symmetric_error(seen, true, symmetry)
            )
            errors[c, n] = float(error)
            turned[c, n] = abs(math.remainder(_azimuth(seen) - azimuth[n], 2 * math.pi))
    return SuiteTable(views, tuple(rows), errors, azimuth, turned, sure, seconds)


def rotations(
    view: View, row: Mapping[str, Any]
) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 3"] | None]:
    """Return true and predicted rotation along the ray of the box; None without a pose.

    Without K the record's R is along that ray already; the predicted one is turned to it by the
    camera the estimate used (contracts 2), the assumed one where the row names none.
    """
    camera = view.camera
    if camera is None and row.get("K") is not None:
        K = torch.tensor(row["K"], dtype=torch.float64)
        camera = Camera.from_K(K, (view.height, view.width))
    camera = camera or Camera.assumed(view.height, view.width)
    x0, y0, x1, y1 = view.box_or_image
    centre = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2], dtype=torch.float64)
    Q = ray_rotation(camera.unproject(centre)).numpy()
    true = np.asarray(view.R, dtype=np.float64)
    true = true if view.K is None else Q @ true
    found = np.array(row["R"] if row.get("R") is not None else np.nan, dtype=np.float64)
    good = row.get("status") in WITH_POSE and found.shape == (3, 3) and np.isfinite(found).all()
    return true, Q @ found if good else None


def suite_figures(table: SuiteTable, config: SuiteConfig) -> dict[str, Any]:
    """Return the figures of a table, as they stand in ``suite.json``; angles in degrees.

    Intervals: 95 % of the percentile bootstrap over records; all conditions are resampled alike,
    so that ratios to clean are paired.
    """
    draws = _draws(len(table.views), config)
    rows = [_condition(table, c, draws) for c in range(len(table.conditions))]
    return {
        "count": len(table.views),
        "conditions": rows,
        "corruption": _corruptions(table, draws),
        "azimuth": _azimuths(table),
        "unseen": _unseen(table, config),
        "front_back": {name: _share_flipped(table.turned[k]) for name, k in _pools(table)},
        "calibration": {name: _calibration(table, k) for name, k in _pools(table)},
        "timing": _timing(table),
    }


def _draws(count: int, config: SuiteConfig) -> Integer[np.ndarray, "draws n"]:
    rng = generator(config.seed, "suite bootstrap")
    return rng.integers(0, count, (config.resamples, count))


def _pools(table: SuiteTable) -> list[tuple[str, np.ndarray]]:
    found = [(name, table.of(*kinds)) for name, kinds in POOLS.items()]
    return [(name, k) for name, k in found if len(k)]


def _condition(table: SuiteTable, c: int, draws: Integer[np.ndarray, "draws n"]) -> dict[str, Any]:
    """Return the figures of one condition."""
    condition, errors = table.conditions[c], table.errors[c]
    counted = np.where(np.isnan(errors), math.pi, errors)
    medians = np.degrees(np.median(counted[draws], axis=1))
    intervals = {name: _interval(_hits(errors, name, draws)) for name in ("acc_30", "acc_10")}
    return {
        "name": condition.name,
        "kind": condition.kind,
        "what": condition.what,
        "severity": condition.severity,
        **pose_summary(errors).to_json(),
        "interval": {**intervals, "median_deg": _interval(medians)},
        "front_back": _share_flipped(table.turned[c]),
        "seconds_median": _known(float(np.nanmedian(table.seconds[c]))),
    }


def _hits(
    errors: Float64[np.ndarray, " n"], name: str, draws: Integer[np.ndarray, "draws n"]
) -> Shares:
    """Return the share of right poses of each resample."""
    return (errors < THRESHOLDS[name])[draws].mean(1)


def _interval(values: Shares) -> list[float] | None:
    good = values[np.isfinite(values)]
    return [float(np.quantile(good, q)) for q in (LOW, HIGH)] if len(good) else None


def _corruptions(
    table: SuiteTable, draws: Integer[np.ndarray, "draws n"]
) -> dict[str, dict[str, Any]]:
    """Return the mean over corruptions, by severity and group, alone and relative to clean."""
    told: dict[str, dict[str, Any]] = {}
    of_all = table.of("corruption").tolist()
    severities = sorted({table.conditions[c].severity or 0 for c in of_all})
    for severity in severities:
        chosen = [c for c in of_all if table.conditions[c].severity == severity]
        groups: dict[str, list[int]] = {}
        for c in chosen:
            groups.setdefault(CORRUPTIONS[table.conditions[c].what].group, []).append(c)
        told[str(severity)] = {
            **_mean(table, chosen, draws),
            "groups": {name: _mean(table, found, draws) for name, found in groups.items()},
        }
    return told


def _mean(
    table: SuiteTable, chosen: Sequence[int], draws: Integer[np.ndarray, "draws n"]
) -> dict[str, Any]:
    """Return the mean of some conditions, each weighing the same, with its ratio to clean."""
    told: dict[str, Any] = {"conditions": len(chosen)}
    (clean,) = table.of("clean")
    for name in ("acc_30", "acc_10"):
        right = (table.errors < THRESHOLDS[name]).astype(np.float64)
        photos, base = right[list(chosen)].mean(0), right[clean]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = photos[draws].mean(1) / base[draws].mean(1)
        mean, whole = float(photos.mean()), float(base.mean())
        told[name] = mean
        told[f"relative_{name}"] = mean / whole if whole else None
        told[f"interval_{name}"] = _interval(photos[draws].mean(1))
        told[f"interval_relative_{name}"] = _interval(ratio)
    return told


def _azimuths(table: SuiteTable) -> list[dict[str, Any]]:
    """Return errors by true azimuth: one bin each 30 degrees, the first one centred on 0."""
    place = np.floor(np.degrees(table.azimuth) / BIN + 0.5).astype(int) % round(360 / BIN)
    told = []
    for k in range(round(360 / BIN)):
        inside = place == k
        pools = {name: _pool(table, chosen, inside) for name, chosen in _pools(table)}
        told.append({"azimuth": k * BIN, "count": int(inside.sum()), **pools})
    return told


def _pool(table: SuiteTable, chosen: np.ndarray, inside: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    errors, turned = table.errors[chosen][:, inside], table.turned[chosen][:, inside]
    flipped = _share_flipped(turned) if inside.any() else None
    return {**pose_summary(errors.ravel()).to_json(), "front_back": flipped}


def _unseen(table: SuiteTable, config: SuiteConfig) -> dict[str, Any]:
    """Return the figures of clean photos whose azimuth the model was, or was not, trained on."""
    if not config.unseen:
        return {}
    degrees = np.degrees(table.azimuth)
    spans = [(degrees - low) % 360 <= (high - low) % 360 for low, high in config.unseen]
    unseen = np.any(spans, axis=0)
    (clean,) = table.of("clean")
    return {
        "ranges": [list(span) for span in config.unseen],
        "seen": pose_summary(table.errors[clean][~unseen]).to_json(),
        "unseen": pose_summary(table.errors[clean][unseen]).to_json(),
    }


def _share_flipped(turned: Float64[np.ndarray, "*any"]) -> float:
    """Return the share of estimates (none without a pose) that take the front for the back."""
    return float(np.mean(turned > FLIPPED))


def _calibration(table: SuiteTable, chosen: np.ndarray) -> dict[str, Any] | None:
    """Return how often each tenth of confidence is right; None for an uncalibrated model."""
    sure, right = table.confidence[chosen].ravel(), (table.errors[chosen] < RIGHT).ravel()
    known = np.isfinite(sure)
    if not known.any():
        return None
    sure, right = sure[known], right[known]
    place = np.minimum((sure * 10).astype(int), 9)
    bins = [
        {
            "low": k / 10,
            "high": (k + 1) / 10,
            "count": int((place == k).sum()),
            "confidence": float(sure[place == k].mean()),
            "right": float(right[place == k].mean()),
        }
        for k in range(10)
        if (place == k).any()
    ]
    return {
        "count": len(sure),
        "ece": calibration_error(sure, right),
        "auroc_right": _known(auroc(sure, right)),
        "bins": bins,
    }


def _timing(table: SuiteTable) -> dict[str, Any]:
    """Return seconds of the estimates, whether made now or kept from an earlier run."""
    known = table.seconds[np.isfinite(table.seconds)]
    return {
        "estimates": len(known),
        "median": _known(float(np.median(known))) if len(known) else None,
        "p90": _known(float(np.quantile(known, 0.9))) if len(known) else None,
        "total": float(known.sum()),
    }


def _azimuth(R: Float64[np.ndarray, "3 3"]) -> float:
    return float(angles_from_rotation(torch.from_numpy(np.ascontiguousarray(R)))[0])


def _number(value: float | int | None) -> float:
    return math.nan if value is None else float(value)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
