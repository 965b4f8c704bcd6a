"""Claims about fitted confidence: on outcomes of known odds it finds the odds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fixtures import background, car_model, car_views

from featmesh.draws import generator
from featmesh.inference.confidence import SIGNALS
from featmesh.inference.focal import Profile
from featmesh.learn.calibration import (
    Outcome,
    cross_fitted,
    fit_calibration,
    fit_focal,
    focal_figures,
    outcome,
    outcomes,
    reliability_figures,
)
from featmesh.learn.correspondence import sample_of
from featmesh.photo.read import read_photo


def drawn(count: int, seed: int) -> tuple[list[Outcome], np.ndarray]:
    """Outcomes whose odds are known: logit 4 a - 1, error e^(b - 3); every tenth has no object."""
    rng = generator(seed, "outcomes")
    x = rng.normal(size=(count, len(SIGNALS)))
    p = 1 / (1 + np.exp(1 - 4 * x[:, 0]))
    right = rng.uniform(size=count) < p
    near = np.minimum(np.exp(0.5 * x[:, 1] - 3 + 0.3 * rng.normal(size=count)), 0.5)
    errors = np.where(right, near, rng.uniform(0.6, math.pi, count))
    known = []
    for k in range(count):
        empty = not right[k] and k % 2 == 0
        values = dict(zip(SIGNALS, x[k].tolist(), strict=True))
        known.append(
            Outcome(
                values, math.nan if empty else float(errors[k]), "" if empty else f"car {k % 7}"
            )
        )
    return known, p


def test_the_probability_is_the_odds():
    known, p = drawn(3000, 0)
    fitted = fit_calibration(known)
    told = np.array([fitted.confidence(k.signals) for k in known])
    assert np.abs(told - p).max() < 0.12
    assert np.abs(told - p).mean() < 0.02


def test_the_interval_holds_nine_of_ten_errors_it_was_not_fitted_on():
    fitted = fit_calibration(drawn(3000, 0)[0])
    other = [k for k in drawn(3000, 1)[0] if k.name]
    inside = [k.error <= fitted.interval(k.signals) for k in other]
    assert 0.87 < np.mean(inside) < 0.93


def test_one_in_four_hundred_right_answers_may_be_refused():
    known, _ = drawn(6000, 0)
    fitted = fit_calibration(known)
    right = [fitted.refuses(k.signals) for k in known if k.error < math.radians(30)]
    assert np.mean(right) == pytest.approx(0.0025, abs=0.001)


def test_no_more_is_refused_than_pictures_without_ask_for():
    """Where nothing resembles a picture without, an odd object has room to be less sure."""
    known = [
        replace(k, signals=k.signals | {"score": k.signals["score"] + 30.0 * bool(k.name)})
        for k in drawn(3000, 0)[0]
    ]
    fitted = fit_calibration(known)
    told = {True: [], False: []}
    for k in known:
        told[bool(k.name)].append(fitted.presence(k.signals))
    assert fitted.no_object_below < 0.3 * min(told[True])
    assert np.mean(np.array(told[False]) < fitted.no_object_below) == pytest.approx(0.95, abs=0.01)


def test_a_doubtful_pose_of_an_object_that_is_there_is_not_refused():
    """Score tells an object from none, the second signal right from wrong."""
    rng = generator(0, "there")
    known = []
    for k in range(2000):
        there, right = k % 2 == 0, k % 4 == 0
        seen = rng.normal(size=len(SIGNALS)) + np.r_[6.0 * there, 4.0 * right, [0.0] * 5]
        error = math.nan if not there else 0.1 if right else 2.0
        values = dict(zip(SIGNALS, seen.tolist(), strict=True))
        known.append(Outcome(values, error, f"car {k % 7}" if there else ""))
    fitted = fit_calibration(known)
    wrong = [k for k in known if k.error > math.radians(30)]
    assert np.mean([fitted.confidence(k.signals) for k in wrong]) < 0.1
    assert np.mean([fitted.refuses(k.signals) for k in wrong]) < 0.1
    old = replace(fitted, there=None)  # a model folder written before
    assert old.presence(wrong[0].signals) == old.confidence(wrong[0].signals)
    figures = cross_fitted(known)
    assert figures["refused_without"] > 0.9 and figures["refused_right"] < 0.02


def test_what_the_gist_says_counts_where_the_model_has_one():
    known = drawn(3000, 0)[0]
    rng = generator(0, "gist")
    seen = [
        replace(
            k, signals={**k.signals, "presence": 4.0 * bool(k.name) + rng.normal(), "view": 0.0}
        )
        for k in known
    ]
    fitted, plain = fit_calibration(seen), fit_calibration(known)
    assert fitted.signals == (*SIGNALS, "presence", "view") and plain.signals == SIGNALS
    there = np.array([bool(k.name) for k in known])
    sure, less = (
        np.array([c.confidence(k.signals) for k in rows])
        for c, rows in ((fitted, seen), (plain, known))
    )
    assert sure[~there].mean() < less[~there].mean() - 0.05
    partly = [*seen[:-1], known[-1]]  # not all of them know it
    assert fit_calibration(partly).signals == SIGNALS


def test_cross_fitting_reports_what_is_true_of_others():
    figures = cross_fitted(drawn(3000, 0)[0])
    assert figures["auroc_right"] > 0.85
    assert 0.87 < figures["coverage"] < 0.93
    assert figures["count"] == sum(bool(k.name) for k in drawn(3000, 0)[0])
    # photos without are among the wrong ones, so that cars are right more often than told
    assert figures["ece"] < 0.2


def test_a_perfect_forecast_has_no_calibration_error():
    sure = np.array([0.0, 0.0, 1.0, 1.0])
    errors = np.array([3.0, 3.0, 0.1, 0.1])
    told = reliability_figures(sure, errors + 0.1, errors)
    assert told["ece"] == 0 and told["auroc_right"] == 1 and told["coverage"] == 1


def test_with_few_outcomes_nothing_is_fitted():
    assert fit_calibration(drawn(60, 0)[0]) is None
    assert fit_calibration([k for k in drawn(500, 0)[0] if k.error < 0.5]) is None
    assert cross_fitted(drawn(60, 0)[0]) == {}


def test_held_out_views_are_looked_at_bare_and_hidden(tmp_path):
    model = car_model()
    views = car_views(tmp_path, 2, (192, 256))
    samples = [sample_of(view, model.template) for view in views]
    pictures = [background((120, 160), k) for k in range(3)]
    known = outcomes(model, samples, pictures)
    assert len(known) == 2 * 4 + 3
    bare = [known[0], known[4]]
    assert all(k.error < math.radians(5) for k in bare)
    assert sum(math.isnan(k.error) for k in known) == 3
    assert known == outcomes(model, samples, pictures)
    alone = outcome(model, pictures[0], (0.0, 0.0, 160.0, 120.0))
    assert alone.name == "" and math.isnan(alone.error)


def test_turns_that_look_alike_are_right(tmp_path):
    model, (view, *_) = car_model(), car_views(tmp_path, 1, (192, 256))
    sample = sample_of(view, model.template)
    half = sample.R @ np.diag([-1.0, -1.0, 1.0])  # about the upright axis
    photo = read_photo(sample.image).pixels
    plain = outcome(model, photo, sample.box, half, "car")
    twofold = replace(model, extra=model.extra | {"symmetry": 2})
    alike = outcome(twofold, photo, sample.box, half, "car")
    assert plain.error > math.radians(170) and alike.error < math.radians(10)


def of_lens(count: int, seed: int, spread: float) -> list[Outcome]:
    """Outcomes whose true focal lengths are spread so far about the valley of their profile."""
    rng = generator(seed, "lens")
    z = np.linspace(-3, 3, 61)
    valley = Profile(z, 0.5 * z**2, np.exp(z))
    values = dict.fromkeys(SIGNALS, 0.0)
    true = np.exp(spread * rng.normal(size=count))
    return [Outcome(values, 0.1, f"car {k % 7}", valley, float(d)) for k, d in enumerate(true)]


def test_nine_of_ten_focal_lengths_lie_in_the_interval_of_others():
    heat = fit_focal([k.focal for k in of_lens(2000, 0, 0.4)])
    assert heat == pytest.approx(0.4**2, rel=0.15)
    told = focal_figures([k.focal for k in of_lens(2000, 1, 0.4)], heat)
    assert 0.88 < told["coverage"] < 0.92 and told["count"] == 2000
    assert told["above"] + told["below"] == pytest.approx(1 - told["coverage"])
    assert told["median_high_over_low"] == pytest.approx(math.exp(2 * 1.645 * 0.4), rel=0.1)


def test_a_focal_length_is_calibrated_only_where_distances_are_known():
    known = drawn(1200, 0)[0]
    assert fit_calibration(known).focal is None
    seen = [
        replace(k, profile=lens.profile, distance=lens.distance)
        for k, lens in zip(known, of_lens(1200, 0, 0.4), strict=True)
    ]
    assert fit_calibration(seen).focal == pytest.approx(0.4**2, rel=0.15)
    assert 0.87 < cross_fitted(seen)["focal_coverage"] < 0.93
    assert replace(known[0], profile=seen[0].profile).focal is None
    assert fit_focal([k.focal for k in seen[:30]]) is None


def test_a_photo_of_known_distance_keeps_its_profile(tmp_path):
    model, (view, *_) = car_model(), car_views(tmp_path, 1, (192, 256))
    sample = sample_of(view, model.template)
    photo = read_photo(sample.image).pixels
    assert outcome(model, photo, sample.box, sample.R, "car").focal is None
    profile, at = outcome(model, photo, sample.box, sample.R, "car", 2.0).focal
    assert profile.log_focal[0] <= at <= profile.log_focal[-1]
