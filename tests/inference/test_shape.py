"""Claims about the shape stage: it finds the shape, keeps the pose, and never ends worse."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import CELLS, look, nudged, shaped_cells, shaped_model

from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.config import ShapeConfig
from featmesh.inference.refine import fit_shape, render_and_compare
from featmesh.model.category import finer

from .test_refine import starts

CODES = [(1.5, 0.0, 0.0), (0.0, -1.5, 0.5), (-1.0, 1.0, 1.5), (1.2, -1.2, -1.0)]
POSE = look(40, 12, 3, 2.0)
# exact features: outlines lie where they are; size and distance cannot be told apart: no stretch
FREE = ShapeConfig(edge=0.0, prior_weight=1e-4, proportions=False)


def fitted(code, config=FREE, pose=POSE, noise=0.3, on_step=None):
    cells = shaped_cells(torch.tensor(code), pose, noise)
    found = render_and_compare(cells, shaped_model(), starts(nudged(pose, 8)))
    return found, fit_shape(cells, shaped_model(), found, False, config, on_step)


def surface_error(refined, code):
    """Mean distance of corresponding vertices, both in their own camera."""
    model, latent = shaped_model(), torch.from_numpy(refined.latent)
    got = model.mesh(latent).vertices * torch.from_numpy(np.exp(refined.log_stretch[0]))
    return float((got - model.mesh(torch.tensor(code)).vertices).norm(dim=1).mean())


def moved_by(code):
    """Mean distance of the shape's vertices to the mean shape's."""
    model = shaped_model()
    moved = model.mesh(torch.tensor(code)).vertices - model.template.vertices
    return float(moved.norm(dim=1).mean())


@pytest.mark.parametrize("code", CODES)
def test_the_shape_is_recovered_with_the_pose(code):
    found, shaped = fitted(code)
    assert surface_error(shaped, code) < 0.5 * moved_by(code)
    angle = geodesic_angle(torch.from_numpy(shaped.R[0]), POSE.R)
    assert math.degrees(float(angle)) < 3
    assert shaped.score[0] > found.score[0] - 0.01


def test_the_mean_shape_stays_the_mean():
    _, shaped = fitted((0.0, 0.0, 0.0))
    assert np.abs(shaped.latent).max() < 0.3


def test_only_the_first_pose_goes_on():
    cells = shaped_cells(torch.tensor(CODES[0]), POSE)
    poses = starts(nudged(POSE, 8), look(220, 12, 3, 2.0))
    found = render_and_compare(cells, shaped_model(), poses)
    shaped = fit_shape(cells, shaped_model(), found, False, FREE)
    assert len(shaped.R) == 2 and np.array_equal(shaped.R[1], found.R[1])


def test_a_fit_that_is_no_better_is_not_kept():
    """One wild step of the optimiser and no polish: the pose stays as it was, the latent 0."""
    config = ShapeConfig(lr=30.0, steps=1, polish=0, latent_prior=1e-3)
    found, shaped = fitted((0.0, 0.0, 0.0), config)
    assert not shaped.latent.any()
    assert np.array_equal(shaped.R, found.R) and np.array_equal(shaped.t, found.t)


def test_observers_see_the_latents_of_every_step():
    seen = []
    _, shaped = fitted(CODES[0], on_step=seen.append)
    assert {s.stage for s in seen} == {"shape-adam", "shape-polish"}
    assert [s.step for s in seen] == list(range(len(seen)))
    assert all(s.latent.shape == (1, 3) and s.log_stretch.shape == (1, 3) for s in seen)
    assert min(s.energy[0] for s in seen) == pytest.approx(shaped.energy[0])


def test_an_occluder_does_not_bend_the_shape():
    """A third of the picture shows clutter: with no price on it the rest says what the shape is."""
    cells = shaped_cells(torch.tensor(CODES[0]), POSE, 0.3)
    width = cells.features.shape[1]
    cells.features[:, : width // 3] = shaped_model().clutter[0]
    cells.clutter[:, : width // 3] = 1.0
    found = render_and_compare(cells, shaped_model(), starts(nudged(POSE, 8)))
    shaped = fit_shape(cells, shaped_model(), found, False, replace(FREE, price=0.0))
    assert surface_error(shaped, CODES[0]) < 0.75 * moved_by(CODES[0])


def test_a_finer_map_lies_where_the_coarse_one_does():
    cells = shaped_cells(torch.zeros(3), POSE)
    fine = finer(cells, 2)
    assert fine.features.shape == (2 * CELLS.height, 2 * CELLS.width, cells.features.shape[2])
    assert torch.allclose(fine.features.norm(dim=-1), torch.ones(()), atol=1e-5)
    inner = slice(1, -1)  # between two cells' centres lies their mean
    between = (cells.clutter[:, :-1] + cells.clutter[:, 1:]) / 2
    halfway = (fine.clutter[:, 1:-2:2] + fine.clutter[:, 2::2][:, : between.shape[1]]) / 2
    rows = (halfway[0::2] + halfway[1::2]) / 2
    assert torch.allclose(rows[inner].mean(), between[inner].mean(), atol=0.01)
    corner = fine.camera.unproject(torch.tensor([2.0, 4.0], dtype=torch.float64))
    same = cells.camera.unproject(torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert torch.allclose(corner, same)
    assert finer(cells, 1) is cells
