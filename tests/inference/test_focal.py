"""Claims about the interval of an unknown focal length: a near object determines it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fixtures import box_of, car_model, cells_of, look, photo_of

from featmesh.errors import CheckpointError
from featmesh.geometry.camera import Camera
from featmesh.inference.confidence import SIGNALS
from featmesh.inference.estimator import estimate
from featmesh.inference.focal import Profile
from featmesh.inference.refine import focal_profile, render_and_compare
from featmesh.inference.scan import Starts
from featmesh.model.calibration import Calibration

HEAT = 0.01  # the weight of the priors: then the interval of a prior is that of a normal variable
PRIOR = 1.645 * 0.6  # half of what 90 % of the focal lengths lie between, without a photo


def valley(width: float, places: int = 121) -> Profile:
    """A profile whose likelihood at HEAT is normal with this standard deviation."""
    z = np.linspace(-3, 3, places)
    return Profile(z, 0.5 * HEAT * (z / width) ** 2, 2 * np.exp(z))


def profile_of(distance: float) -> tuple[Profile, float]:
    """The profile of a view from so far away, and where in it the truth lies."""
    pose = look(35, 12, 0, distance)
    cells, zero = cells_of(pose, noise=0.3), np.zeros(1)
    start = Starts(pose.R[None].double().numpy(), pose.t[None].double().numpy(), zero, zero)
    found = render_and_compare(cells, car_model(), start, free_zoom=True)
    return focal_profile(cells, car_model(), found), -float(found.log_zoom[0])


@pytest.mark.parametrize("width", [0.1, 0.4])
def test_the_interval_of_a_normal_likelihood_holds_nine_tenths_of_it(width):
    low, high = valley(width).interval(HEAT)
    assert high == pytest.approx(1.645 * width, rel=0.05)
    assert low == pytest.approx(-high, abs=0.02)
    hotter = valley(width).interval(4 * HEAT)
    assert hotter[1] - hotter[0] == pytest.approx(2 * (high - low), rel=0.05)


def test_the_interval_holds_what_was_found_even_where_the_rest_is_likelier():
    z = np.linspace(0, 3, 61)
    low, high = Profile(z, 0.5 * HEAT * ((z - 2) / 0.1) ** 2, np.exp(z)).interval(HEAT)
    assert low == 0 and 2 < high < 2.4


def test_a_distance_stands_for_a_focal_length():
    profile = valley(1.0)
    assert profile.at_distance(2 * math.e) == pytest.approx(1, abs=1e-6)
    assert profile.at_distance(1e9) == 3 and profile.at_distance(1e-9) == -3


def test_a_near_object_determines_the_lens_and_a_far_one_does_not():
    (near, at), (far, _) = profile_of(1.1), profile_of(9.0)
    low, high = near.interval(HEAT)
    assert low <= at <= high and high - low < 0.6 * 2 * PRIOR
    wide = far.interval(HEAT)
    assert wide[1] - wide[0] > 0.8 * 2 * PRIOR
    assert (np.diff(far.log_focal) > 0).all() and (np.diff(far.distance) > 0).all()
    assert far.energy.min() >= far.energy[np.abs(far.log_focal).argmin()] - 1e-3


def calibrated(**changes):
    n = len(SIGNALS)
    plain = Calibration(SIGNALS, (0.0,) * n, (1.0,) * n, (0.0,) * n + (3.0,), (0.0,) * (n + 1))
    return replace(car_model(), calibration=replace(plain, **changes).checked())


def test_an_estimate_tells_the_interval_only_of_a_lens_it_estimated():
    pose, camera = look(35, 12, 0, 1.6), Camera(330.0, 330.0, 160.0, 120.0, 240, 320)
    photo, box = photo_of(pose, camera), box_of(pose, camera)
    model = calibrated(focal=HEAT)
    found = estimate(model, photo, box)
    low, high = found.focal_interval
    assert low <= found.camera.fx <= high and low < 330 < high
    assert found.to_json()["focal_interval"] == [round(low, 1), round(high, 1)]
    assert found.seconds["focal"] >= 0
    known = estimate(model, photo, box, camera)
    assert known.focal_interval is None and known.profile is None
    assert known.to_json()["focal_interval"] is None and "focal" not in known.seconds
    before = estimate(calibrated(), photo, box)  # a calibration from before there were intervals
    assert before.focal_interval is None and before.profile is None
    bare = estimate(car_model(), photo, box)  # it may be about to be calibrated
    assert bare.focal_interval is None and bare.profile is not None


@pytest.mark.parametrize("focal", [0.0, -1.0, math.nan, math.inf])
def test_an_energy_that_is_none_is_refused(focal):
    with pytest.raises(CheckpointError, match="E_CKPT_CONFIG"):
        calibrated(focal=focal)
