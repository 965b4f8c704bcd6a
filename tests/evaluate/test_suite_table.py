"""Figures of a suite from predictions made by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from featmesh.evaluate.conditions import Condition
from featmesh.evaluate.predict import score_predictions
from featmesh.evaluate.suite_config import SuiteConfig
from featmesh.evaluate.suite_table import rotations, suite_figures, table_of
from featmesh.evaluate.suite_text import markdown
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.views.record import View

COUNT = 24
CLEAN = Condition("clean", "L0")
K = np.array([[90.0, 0.0, 40.0], [0.0, 90.0, 33.0], [0.0, 0.0, 1.0]])


def R_of(azimuth: float) -> np.ndarray:
    angles = torch.tensor([azimuth, 8.0, 3.0], dtype=torch.float64).deg2rad()
    return rotation_from_angles(*angles.unbind(0)).numpy()


VIEWS = [
    View(Path(f"{k}.png"), 80, 60, "car", R=R_of(15.0 * k), index=k, image_name=f"{k}.png")
    for k in range(COUNT)
]


def row(view: View, off: float = 0.0, confidence: float | None = 0.9, **changes) -> dict:
    found = R_of(15.0 * view.index + off)
    told = {"index": view.index, "status": "ok", "R": found.tolist(), "seconds": 0.5}
    return told | {"confidence": confidence, "K": None} | changes


def made(**changes) -> tuple:
    """Clean: half 5, half 20 degrees off; severity 1 alike; fog 3 half flipped, snow 3 lost."""
    near = [row(v, 5.0 if v.index % 2 else 20.0) for v in VIEWS]
    flipped = [row(v, 180.0 * (v.index % 2), 0.5 - 0.4 * (v.index % 2)) for v in VIEWS]
    lost = [row(v, R=None, status="no_object", confidence=0.0) for v in VIEWS]
    rows = {
        CLEAN: near,
        Condition("corruption", "fog", 1): near,
        Condition("corruption", "snow", 1): near,
        Condition("corruption", "fog", 3): flipped,
        Condition("corruption", "snow", 3): lost,
    }
    table = table_of(VIEWS, rows)
    config = SuiteConfig(**({"resamples": 100} | changes))
    return table, suite_figures(table, config)


def test_figures_of_conditions_are_known() -> None:
    _, figures = made()
    clean, _, _, fog, snow = figures["conditions"]
    assert (clean["acc_30"], clean["acc_10"], clean["front_back"]) == (1.0, 0.5, 0.0)
    assert (fog["acc_30"], fog["front_back"]) == (0.5, 0.5)
    assert (snow["acc_30"], snow["failed"], snow["median_deg"]) == (0.0, COUNT, 180.0)
    assert clean["interval"]["acc_30"] == [1.0, 1.0]
    low, high = fog["interval"]["acc_30"]
    assert low < 0.5 < high and 0.2 < high - low < 0.6
    assert fog["name"] == "fog 3" and fog["seconds_median"] == 0.5


def test_the_mean_of_corruptions_stands_beside_clean() -> None:
    _, figures = made()
    mild, hard = figures["corruption"]["1"], figures["corruption"]["3"]
    assert mild["relative_acc_30"] == 1 and mild["interval_relative_acc_10"] == [1.0, 1.0]
    assert hard["acc_30"] == pytest.approx(0.25) and hard["conditions"] == 2
    assert hard["relative_acc_10"] == pytest.approx(0.5)
    assert hard["groups"]["weather"]["acc_30"] == hard["acc_30"]


def test_errors_stand_in_their_azimuth_bin() -> None:
    _, figures = made()
    assert [one["azimuth"] for one in figures["azimuth"]] == [30.0 * k for k in range(12)]
    assert sum(one["count"] for one in figures["azimuth"]) == COUNT
    bins = {one["azimuth"]: one for one in figures["azimuth"]}
    assert bins[90.0]["clean"]["acc_30"] == 1 and 0 < bins[90.0]["corruption"]["front_back"] < 0.5


def test_azimuths_not_trained_on_are_told_apart() -> None:
    table, figures = made(unseen=((350.0, 10.0), (80.0, 100.0)))
    found = figures["unseen"]
    assert (found["unseen"]["count"], found["seen"]["count"]) == (2, COUNT - 2)
    assert made()[1]["unseen"] == {}
    np.testing.assert_allclose(np.degrees(table.azimuth)[5], 75.0, atol=1e-6)


def test_calibration_knows_which_were_right() -> None:
    _, figures = made()
    assert figures["calibration"]["clean"]["ece"] == pytest.approx(0.1)
    (sure,) = figures["calibration"]["clean"]["bins"]
    assert (sure["low"], sure["right"], sure["count"]) == (0.9, 1.0, COUNT)
    assert figures["calibration"]["corruption"]["auroc_right"] == 1.0
    rows = {CLEAN: [row(v, confidence=None) for v in VIEWS]}
    bare = suite_figures(table_of(VIEWS, rows), SuiteConfig(resamples=10))
    assert bare["calibration"]["clean"] is None and bare["corruption"] == {}


def test_the_seed_decides_the_intervals() -> None:
    assert made()[1] == made()[1]
    assert made()[1]["conditions"] != made(seed=1)[1]["conditions"]


def test_symmetric_objects_are_forgiven() -> None:
    rows = {CLEAN: [row(v, 180.0) for v in VIEWS]}
    assert table_of(VIEWS, rows).errors.min() > 3
    assert table_of(VIEWS, rows, 2).errors.max() < 1e-6
    assert table_of(VIEWS, rows, "any").errors.max() < 1e-6


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("camera", [None, K.tolist()])
def test_errors_are_those_of_metrics_json(known: bool, camera: list | None) -> None:
    place = {"K": K} if known else {}
    box = (50.0, 5.0, 78.0, 30.0)
    view = View(Path("a.png"), 80, 60, "car", R=R_of(70.0), box=box, **place)
    found = row(view, 33.0, K=camera)
    table = table_of([view], {CLEAN: [found]})
    official = score_predictions([view], [found])["pose"]["median_deg"]
    assert math.degrees(table.errors[0, 0]) == pytest.approx(official, abs=1e-6)
    true, seen = rotations(view, row(view, status="no_object"))
    assert seen is None and true.shape == (3, 3)


def test_the_text_tells_the_figures() -> None:
    _, figures = made(unseen=((350.0, 10.0),))
    told = {
        "model": {"name": "car", "hash": "0123456789abcdef"},
        "featmesh": "9.9",
        "seed": 3,
        "symmetry": 2,
        "left_out": ["context removed"],
        "pictures": None,
    }
    text = markdown(figures | told)
    for shown in (
        "# Robustness: car",
        "24 records, model 0123456789ab, featmesh 9.9, seed 3.",
        "symmetry (2)",
        "cannot show it: context removed",
        "grey noise",
        "| clean | 100.0 (100.0 to 100.0) | 50.0 (",
        "| fog | 100.0 | 50.0 |",
        "| snow | 100.0 | 0.0 |",
        "| **relative to clean** | 100.0 (100.0 to 100.0) | 25.0 (",
        "| unseen | 1 |",
        "0.500 s each",
    ):
        assert shown in text, shown
