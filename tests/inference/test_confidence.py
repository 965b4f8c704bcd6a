"""Claims about how sure an estimate is: signals, calibrated probability, interval, status."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, car_model, cells_of, look, picture

from featmesh.errors import CheckpointError
from featmesh.geometry.camera import Camera
from featmesh.inference.confidence import OF_GIST, SIGNALS, signals
from featmesh.inference.energy import Comparison
from featmesh.inference.energy_numba import FusedEnergy
from featmesh.inference.estimator import estimate
from featmesh.inference.refine import Refined
from featmesh.model.calibration import Calibration
from featmesh.model.gist import AZIMUTHS, ELEVATIONS, Gist
from featmesh.photo.photo import Photo

CAMERA = Camera(600.0, 600.0, 160.0, 120.0, 240, 320)
POSE = aside(look(60, 14, 0, 2.6), CAMERA, (165, 125))
WEIGHTS = (0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # evidence alone counts


@lru_cache
def signals_of(kind: str) -> dict[str, float]:
    return estimate(car_model(), photo(kind), box_of(POSE, CAMERA), CAMERA).signals


def photo(kind: str) -> Photo:
    pixels = picture(POSE, CAMERA).copy()
    bare = background(pixels.shape[:2], 9)
    if kind == "half":
        pixels[:, :165] = bare[:, :165]
    return Photo.from_array(bare if kind == "none" else pixels)


def calibration(**changes) -> Calibration:
    plain = Calibration(
        SIGNALS, (0.0,) * 7, (1.0,) * 7, (*WEIGHTS, -2.0), (0.0, -3.0, *[0.0] * 5, 0.0), 0.5, 0.2
    )
    return replace(plain, **changes)


def test_signals_tell_a_clear_object_from_a_hidden_one_from_none():
    clear, half, none = (signals_of(kind) for kind in ("clear", "half", "none"))
    assert set(clear) == set(SIGNALS)
    assert all(math.isfinite(v) for s in (clear, half, none) for v in s.values())
    for name in ("evidence", "visible", "gain"):
        assert clear[name] > half[name] > none[name]
    assert clear["spread"] < half["spread"] < none["spread"]
    assert clear["overlap"] > 0.9


def test_a_gist_adds_what_it_says_of_category_and_view():
    cells = cells_of(look(60, 14, 0, 2.6))
    right, wrong = (look(a, 14, 0, 2.6) for a in (60, 240))
    around = torch.full((AZIMUTHS,), -30.0)
    around[int(60 / 360 * AZIMUTHS)] = 0.0
    gist = Gist(1.5, around.log_softmax(0), torch.zeros(ELEVATIONS[2]).log_softmax(0))

    def told(pose, gist):
        R, t = pose.R[None].double().numpy(), pose.t[None].double().numpy()
        one = np.ones(1)
        found = Refined(R, t, 0 * one, np.zeros((1, 3)), -one, one, one, one)
        energy = FusedEnergy(Comparison(cells, car_model().mesh(), car_model().texture))
        step = energy.evaluate(R, t, 0 * one)
        return signals(found, step, np.ones(10), 100, (0.0, 0.0, 9.0, 9.0), None, gist)

    assert set(told(right, None)) == set(SIGNALS)
    assert set(told(right, gist)) == {*SIGNALS, *OF_GIST}
    assert told(right, gist)["presence"] == 1.5
    assert told(right, gist)["view"] > told(wrong, gist)["view"] + 3


def test_confidence_and_interval_follow_the_calibration():
    model = replace(car_model(), calibration=calibration())
    e = estimate(model, photo("clear"), box_of(POSE, CAMERA), CAMERA)
    evidence = signals_of("clear")["evidence"]
    assert e.confidence == pytest.approx(1 / (1 + math.exp(2 - 8 * evidence)))
    assert e.rotation_interval == pytest.approx(math.exp(-3 * evidence))
    row = e.to_json()
    assert row["confidence"] == pytest.approx(e.confidence, abs=1e-4)
    assert row["rotation_interval"] == pytest.approx(math.degrees(e.rotation_interval), abs=0.01)


def test_the_status_says_how_far_the_answer_can_be_relied_on():
    box = box_of(POSE, CAMERA)
    model = replace(car_model(), calibration=calibration())
    assert estimate(model, photo("clear"), box, CAMERA).status == "ok"
    doubtful = replace(car_model(), calibration=calibration(uncertain_below=0.9999))
    unsure = estimate(doubtful, photo("clear"), box, CAMERA)
    assert unsure.status == "uncertain" and unsure.has_pose
    none = estimate(model, photo("none"), box, CAMERA)
    assert none.status == "no_object" and none.cam_from_obj is None
    assert none.confidence < 0.2 and none.rotation_interval is None
    sure_of_it = (*[0.0] * 7, 9.0)
    there = replace(car_model(), calibration=calibration(there=sure_of_it))
    doubted = estimate(there, photo("none"), box, CAMERA)
    assert doubted.status == "uncertain" and doubted.confidence == none.confidence


def test_the_interval_is_never_wider_than_half_a_turn():
    wide = calibration(width=(*[0.0] * 7, 50.0))
    assert wide.interval(signals_of("none")) == math.pi
    assert 0 <= calibration(right=(*[0.0] * 7, -1e9)).confidence(signals_of("none")) < 1e-9


@pytest.mark.parametrize(
    "changes",
    [{"centre": (0.0,)}, {"right": (0.0,) * 7}, {"scale": (math.nan,) * 7}, {"there": (0.0,)}],
)
def test_parts_that_do_not_fit_are_refused(changes):
    with pytest.raises(CheckpointError, match="E_CKPT_CONFIG"):
        calibration(**changes).checked()


def test_without_a_calibration_nothing_is_claimed():
    e = estimate(car_model(), photo("clear"), box_of(POSE, CAMERA), CAMERA)
    assert e.confidence is None and e.rotation_interval is None and e.status == "ok"
    assert np.isfinite(list(e.signals.values())).all()
