"""Claims about render-and-compare: it finds the pose, and never ends worse than it began."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import car_model, cells_of, look, nudged

from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.template import stretch
from featmesh.inference.config import RefineConfig, nemo_config
from featmesh.inference.descent import NEAREST
from featmesh.inference.energy import Comparison
from featmesh.inference.energy_numba import FusedEnergy
from featmesh.inference.refine import render_and_compare
from featmesh.inference.scan import Starts

VIEWS = [look(20, 5, 0, 1.9), look(75, 15, 5, 2.2), look(140, 25, -8, 1.9), look(185, 2, 0, 1.7)]
VIEWS += [look(230, 10, 10, 2.5), look(290, 35, 0, 2.0), look(345, -5, 3, 1.8)]


def starts(*poses, log_zoom=0.0):
    n = len(poses)
    return Starts(
        torch.stack([p.R for p in poses]).numpy(),
        torch.stack([p.t for p in poses]).numpy(),
        np.full(n, log_zoom),
        np.zeros(n),
    )


def degrees(R, pose):
    return math.degrees(float(geodesic_angle(torch.from_numpy(R), pose.R)))


def energy_at(cells, start, form="cosine"):
    model = car_model()
    comparison = Comparison(cells, model.template, model.texture, form)
    return FusedEnergy(comparison).evaluate(start.R, start.t, start.log_zoom).energy


def test_the_pose_is_recovered_from_15_degrees_off():
    errors = []
    for k, pose in enumerate(VIEWS):
        cells = cells_of(pose, noise=0.5, seed=k)
        found = render_and_compare(cells, car_model(), starts(nudged(pose, 15, k)))
        errors.append(degrees(found.R[0], pose))
        assert found.t[0, 2] == pytest.approx(float(pose.t[2]), rel=0.03)
        assert torch.equal(found.pose.R, torch.from_numpy(found.R[0]))
    assert np.median(errors) < 1 and max(errors) < 3, errors


@pytest.mark.parametrize(
    "config",
    [
        RefineConfig(),
        RefineConfig(form="l2"),
        RefineConfig(form="truncated"),
        RefineConfig(optimiser="descent"),
        RefineConfig(lr=2.0, steps=15),  # far too large steps
        RefineConfig(steps=0, polish=3),
        nemo_config().refine,
    ],
    ids=["default", "l2", "truncated", "descent", "wild", "polish only", "nemo"],
)
@pytest.mark.parametrize("free_zoom", [False, True])
def test_no_start_ends_higher_than_it_began(config, free_zoom):
    pose = VIEWS[1]
    cells = cells_of(pose, noise=0.5)
    # one that is near, one far off, one the wrong way round
    start = starts(nudged(pose, 12, 1), nudged(pose, 45, 2), nudged(pose, 178, 3, 0.2))
    found = render_and_compare(cells, car_model(), start, free_zoom, config)
    before, after = np.sort(energy_at(cells, start, config.form)), np.sort(found.energy)
    assert after.shape == (3,) and bool((after <= before + 1e-12).all())
    assert after[0] < before[0] - 0.005
    assert bool((np.diff(found.energy) >= 0).all())
    assert bool(np.isfinite(found.R).all() and np.isfinite(found.t).all())
    assert float(found.t[:, 2].min()) >= NEAREST


@pytest.mark.parametrize(
    "config",
    [RefineConfig(form="l2"), RefineConfig(form="truncated"), nemo_config().refine],
    ids=["l2", "truncated", "nemo"],
)
def test_the_other_forms_find_the_pose_of_an_unhidden_object(config):
    errors = []
    for k, pose in enumerate(VIEWS[:4]):
        cells = cells_of(pose, noise=0.3, seed=k)
        found = render_and_compare(cells, car_model(), starts(nudged(pose, 10, k)), False, config)
        errors.append(degrees(found.R[0], pose))
    assert np.median(errors) < 2, errors


def test_an_occluder_is_left_to_clutter():
    """Half of the object is covered by background features: the rest says where it is."""
    pose = VIEWS[1]
    cells = cells_of(pose, noise=0.3)
    plain = cells_of(look(0, 0, 0, 500.0), noise=0.3)  # nothing but background
    hidden = torch.zeros_like(cells.valid)
    hidden[:, 21:] = True
    cells = replace(
        cells,
        features=torch.where(hidden[..., None], plain.features, cells.features),
        clutter=torch.where(hidden, plain.clutter, cells.clutter),
    )
    found = render_and_compare(cells, car_model(), starts(nudged(pose, 10, 5)))
    assert degrees(found.R[0], pose) < 2
    assert 0.25 < float(found.visible[0]) < 0.75


def test_together_is_one_by_one():
    pose = VIEWS[2]
    cells = cells_of(pose, noise=0.5)
    config = RefineConfig(steps=45, keep=3)
    poses = [nudged(pose, 5 + 10 * k, k) for k in range(3)]
    together = render_and_compare(cells, car_model(), starts(*poses), True, config)
    alone = [render_and_compare(cells, car_model(), starts(p), True, config) for p in poses]
    alone.sort(key=lambda r: r.energy[0])
    for name in ("R", "t", "log_zoom", "energy", "score", "evidence", "visible"):
        rows = np.concatenate([getattr(r, name) for r in alone])
        np.testing.assert_allclose(getattr(together, name), rows, rtol=1e-9, atol=1e-9)


def test_the_order_of_the_starts_does_not_matter():
    pose = VIEWS[3]
    cells = cells_of(pose, noise=0.5)
    poses = [nudged(pose, 8 * (k + 1), k) for k in range(5)]
    one = render_and_compare(cells, car_model(), starts(*poses))
    two = render_and_compare(cells, car_model(), starts(*poses[::-1]))
    np.testing.assert_allclose(one.energy, two.energy, atol=1e-12)
    np.testing.assert_allclose(one.R[0], two.R[0], atol=1e-9)


@pytest.mark.parametrize("off", [0.75, 1.3])
def test_with_a_free_focal_length_the_rotation_is_still_right(off):
    """The lens is taken for shorter or longer than it is, and the car for as much nearer."""
    for azimuth in (35, 150, 250, 300):
        pose = look(azimuth, 12, 0, 1.2)
        cells = cells_of(pose, noise=0.1)
        begin = replace(nudged(pose, 6, 4, 0.0), t=pose.t * off)
        start = starts(begin, log_zoom=math.log(off))
        free, fixed = (render_and_compare(cells, car_model(), start, f) for f in (True, False))
        assert fixed.log_zoom[0] == start.log_zoom[0]
        assert abs(free.log_zoom[0]) < 0.4
        assert energy_at(cells, free)[0] < energy_at(cells, start)[0]
        assert degrees(free.R[0], pose) < 7


def test_an_observer_sees_every_step():
    pose = VIEWS[0]
    cells = cells_of(pose, noise=0.3)
    seen = []
    config = RefineConfig(steps=30, keep=2, polish=4)
    start = starts(*(nudged(pose, 8 + k, k) for k in range(6)))
    found = render_and_compare(cells, car_model(), start, False, config, seen.append)
    assert [s.step for s in seen] == list(range(len(seen)))
    stages = [s.stage for s in seen]
    assert stages == ["adam"] * 31 + ["polish"] * 5
    assert [len(s.energy) for s in seen] == [6] * 3 + [3] * 4 + [2] * 29  # a half, then two
    np.testing.assert_array_equal(seen[0].R, start.R)
    np.testing.assert_allclose(seen[0].energy, energy_at(cells, start), atol=1e-12)
    assert min(float(s.energy.min()) for s in seen) == pytest.approx(found.energy[0], abs=1e-12)
    quiet = render_and_compare(cells, car_model(), start, False, config)
    np.testing.assert_array_equal(quiet.R, found.R)  # watching changes nothing


@pytest.mark.parametrize("proportions", [True, False])
def test_scores_are_those_of_the_pose(proportions):
    pose = VIEWS[1]
    cells = cells_of(pose, noise=0.3)
    config = RefineConfig(proportions=proportions)
    start = starts(nudged(pose, 5, 1), nudged(pose, 60, 2))
    found = render_and_compare(cells, car_model(), start, False, config)
    comparison = Comparison(cells, car_model().template, car_model().texture)
    last = FusedEnergy(comparison).evaluate(
        found.R, found.t, found.log_zoom, found.log_stretch if proportions else None
    )
    np.testing.assert_allclose(found.score, last.score)
    np.testing.assert_allclose(found.evidence, last.evidence)
    assert found.evidence[0] > 0.3
    if proportions:  # a prior holds them, and the car is as the template is
        assert bool((found.energy >= last.energy - 1e-12).all())
        assert float(np.abs(found.log_stretch[0]).max()) < 0.05
    else:
        np.testing.assert_allclose(found.energy, last.energy)
        assert not found.log_stretch.any()


def test_the_models_own_prior_says_how_far_proportions_go():
    # a van: the same object, a fifth higher
    pose, model = VIEWS[1], car_model()
    higher = torch.tensor([1.0, 1.0, 1.2], dtype=torch.float64)
    van = replace(model, template=stretch(model.template, higher))
    cells = cells_of(pose, noise=0.3, model=van)
    found = {}
    for spread in (0.02, 0.3):
        wide = replace(model.config, stretch_prior=(0.06, 0.03, spread))
        own = render_and_compare(cells, replace(model, config=wide), starts(nudged(pose, 8, 1)))
        found[spread] = float(np.exp(own.log_stretch[0, 2] - own.log_stretch[0, 1]))
    assert found[0.02] < 1.02 < 1.08 < found[0.3] < 1.22, found
