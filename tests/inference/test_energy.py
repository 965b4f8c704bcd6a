"""Claims about the energies: the compiled kernel is the oracle, and the oracle is the formulas."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose, so3_exp
from featmesh.inference.energy import (
    FORMS,
    Comparison,
    cell_energy,
    energy,
    gain_from_scores,
    render_features,
    visible_faces,
)
from featmesh.inference.energy_numba import FusedEnergy

CAMERA = Camera(95.0, 88.0, 21.5, 13.0, 28, 42)
CHANNELS = 16


@dataclass(frozen=True)
class Cells:
    features: torch.Tensor
    clutter: torch.Tensor
    valid: torch.Tensor
    camera: Camera


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def bumpy_ellipsoid(rows=20, columns=30):
    """A closed mesh without symmetry, wound counter-clockwise seen from outside."""
    polar = torch.linspace(0, math.pi, rows + 1, dtype=torch.float64)[1:-1, None]
    around = torch.arange(columns, dtype=torch.float64)[None] * (2 * math.pi / columns)
    radius = 1 + 0.15 * torch.sin(2 * around + 3 * polar) * torch.sin(polar)
    axes = torch.tensor([0.22, 0.42, 0.18], dtype=torch.float64)
    ring = torch.stack(
        [polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos() * around.cos() ** 0],
        -1,
    )
    body = (ring * radius[..., None] * axes).reshape(-1, 3)
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64) * axes
    index = torch.arange(len(body)).reshape(rows - 1, columns)
    here, right = index, index.roll(-1, 1)
    below, across = here[1:], right[1:]
    top, bottom = len(body), len(body) + 1
    faces = [
        torch.stack([here[:-1], below, across], -1).reshape(-1, 3),
        torch.stack([here[:-1], across, right[:-1]], -1).reshape(-1, 3),
        torch.stack([torch.full_like(here[0], top), here[0], right[0]], -1),
        torch.stack([torch.full_like(here[0], bottom), right[-1], here[-1]], -1),
    ]
    return Mesh(torch.cat([body, poles]), torch.cat(faces))


MESH = bumpy_ellipsoid()


def smooth_texture(seed=0):
    rng = generator(seed, "texture", 0, 0)
    waves = torch.from_numpy(rng.normal(size=(3, CHANNELS)) * 6)
    phase = torch.from_numpy(rng.uniform(0, 2 * math.pi, CHANNELS))
    return unit(torch.sin(MESH.vertices @ waves + phase)).float()


def pose(twist=(0.0,) * 6):
    start = Pose(
        so3_exp(torch.tensor([0.3, 1.9, 0.4], dtype=torch.float64)),
        torch.tensor([0.12, -0.05, 3.2], dtype=torch.float64),
    )
    return start.update(torch.tensor(twist, dtype=torch.float64))


NEARBY = (
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.11, -0.07, 0.05, 0.02, -0.01, 0.2),
    (-0.3, 0.5, 0.2, -0.03, 0.04, -0.3),
)


def comparison(form="cosine", noise=0.25, clutter=0.35, seed=0):
    """Features of the mesh at ``pose()`` with noise, a band of cells outside the photo."""
    rng = generator(seed, "cells", 0, 0)
    texture = smooth_texture()
    shape = (CAMERA.height, CAMERA.width)
    blank = Cells(torch.zeros(*shape, CHANNELS), torch.zeros(shape), torch.ones(shape) > 0, CAMERA)
    rendered, covered = render_features(Comparison(blank, MESH, texture), pose())
    background = torch.from_numpy(rng.normal(size=rendered.shape))
    mixed = torch.where(covered[..., None], rendered, background)
    mixed = mixed + noise * torch.from_numpy(rng.normal(size=rendered.shape))
    scores = clutter + 0.2 * torch.from_numpy(rng.normal(size=shape))
    valid = torch.ones(shape) > 0
    valid[:, 28:] = False
    return Comparison(
        Cells(unit(mixed).float(), scores.float(), valid, CAMERA), MESH, texture, form
    )


def batch(poses):
    return np.stack([p.R.numpy() for p in poses]), np.stack([p.t.numpy() for p in poses])


def evaluate(fused, p, log_zoom=None):
    R, t = batch([p])
    return fused.evaluate(R, t, None if log_zoom is None else np.array([log_zoom]))


def at(parameters, start, face_id, what):
    """Return ``what(pose, log_zoom, face_id, log_stretch)`` ten parameters away from a start."""
    pose, zoom = start[0].update(parameters[:6]), start[1] + parameters[6]
    return what(pose, zoom, face_id, parameters[7:])


CASES = [(form, twist, zoom) for form in FORMS for twist in NEARBY for zoom in (0.0, 0.15)]


@pytest.mark.parametrize(("form", "twist", "zoom"), CASES)
def test_energy_and_gradient_are_those_of_the_oracle(form, twist, zoom):
    task = comparison(form)
    start = (pose(twist), torch.tensor(zoom, dtype=torch.float64))
    face_id = visible_faces(task, *start)
    parameters = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    oracle = at(parameters, start, face_id, lambda *where: energy(task, *where))
    (gradient,) = torch.autograd.grad(oracle, parameters)
    step = evaluate(FusedEnergy(task), start[0], zoom)
    assert step.energy[0] == pytest.approx(oracle.item(), abs=1e-5)
    assert np.linalg.norm(step.gradient[0] - gradient.numpy()) < 1e-3 * gradient.norm()
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("twist", NEARBY)
def test_curvature_of_the_squared_form_is_its_gauss_newton_matrix(twist):
    task = comparison("truncated")
    start = (pose(twist), torch.tensor(0.1, dtype=torch.float64))
    face_id = visible_faces(task, *start)
    rendered, covered = render_features(task, *start, face_id)
    features = task.cells.features.double()
    square = rendered.square().sum(-1) - 2 * (rendered * features).sum(-1) + 1
    active = covered & task.cells.valid & (square < 2 - 2 * task.cells.clutter.double())

    def residuals(parameters):
        return at(parameters, start, face_id, lambda *w: render_features(task, *w)[0][active])

    steps = 1e-6 * torch.eye(10, dtype=torch.float64)
    columns = [(residuals(d) - residuals(-d)).flatten() / 2e-6 for d in steps]
    jacobian = torch.stack(columns, -1)
    wanted = 2 * jacobian.T @ jacobian / task.cells.valid.sum()
    got = evaluate(FusedEnergy(task), start[0], 0.1).curvature[0]
    assert np.linalg.norm(got - wanted.numpy()) < 1e-3 * wanted.norm()
    assert np.array_equal(got, got.T)
    # growing evenly while moving away changes nothing: one direction has no curvature
    eigenvalues = np.linalg.eigvalsh(got)
    assert eigenvalues[0] == pytest.approx(0, abs=1e-5 * eigenvalues[-1])
    assert eigenvalues[1] > 0


def test_cosine_form_takes_half_the_squared_curvature_where_both_choose_the_object():
    squared, cosine = (comparison(form, clutter=-2.0) for form in ("truncated", "cosine"))
    step = [evaluate(FusedEnergy(task), pose(NEARBY[1])) for task in (squared, cosine)]
    np.testing.assert_allclose(step[0].curvature, 2 * step[1].curvature, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_looking_scores_up_is_multiplying_channels(form):
    task = comparison(form)
    scores = torch.einsum("hwc,vc->hwv", task.cells.features, task.texture)
    tables = (FusedEnergy(task, scores), FusedEnergy(task))
    one, other = (evaluate(fused, pose(NEARBY[1]), 0.1) for fused in tables)
    for name in ("energy", "gradient", "curvature", "score", "evidence"):
        scale = np.abs(getattr(one, name)).max()
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5 * scale)


def test_score_matrix_gives_the_scores_of_the_rendered_map():
    """The identity of spec 6.1b, on the oracle."""
    task = comparison()
    rendered, covered = render_features(task, pose(NEARBY[1]))
    wanted = (rendered * task.cells.features.double()).sum(-1) - task.cells.clutter.double()
    got = FusedEnergy(task).score_map(pose(NEARBY[1]))
    seen = covered & task.cells.valid
    assert np.array_equal(~np.isnan(got), seen.numpy())
    np.testing.assert_allclose(got[seen], wanted[seen], atol=1e-5)


def test_reported_scores_are_means_of_the_score_map():
    fused = FusedEnergy(comparison())
    step, gap = evaluate(fused, pose(NEARBY[2])), fused.score_map(pose(NEARBY[2]))
    covered, visible = ~np.isnan(gap), fused.visible(pose(NEARBY[2]))
    assert step.covered[0] == covered.sum()
    assert step.visible[0] == visible.sum()
    assert 0 < step.visible[0] < step.covered[0]
    assert step.score[0] == pytest.approx(gap[visible].mean(), abs=1e-6)
    assert step.evidence[0] == pytest.approx(np.maximum(gap[covered], 0).mean(), abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_its_members_one_by_one(form):
    fused = FusedEnergy(comparison(form))
    poses, zooms = [pose(twist) for twist in NEARBY], np.array([0.0, 0.1, -0.2])
    together = fused.evaluate(*batch(poses), zooms)
    for b, (p, zoom) in enumerate(zip(poses, zooms, strict=True)):
        alone = evaluate(fused, p, zoom)
        for name, values in vars(alone).items():
            assert np.array_equal(values[0], getattr(together, name)[b]), name


@pytest.mark.parametrize("form", FORMS)
def test_cells_outside_the_photo_have_no_influence(form):
    task = comparison(form)
    rng = generator(1, "other", 0, 0)
    outside = ~task.cells.valid
    features, clutter = task.cells.features.clone(), task.cells.clutter.clone()
    features[outside] = unit(
        torch.from_numpy(rng.normal(size=(int(outside.sum()), CHANNELS)))
    ).float()
    clutter[outside] = -0.9
    other = replace(task, cells=replace(task.cells, features=features, clutter=clutter))
    assert visible_faces(task, pose(NEARBY[1]))[outside].max() >= 0
    one, two = (evaluate(FusedEnergy(c), pose(NEARBY[1])) for c in (task, other))
    for name, values in vars(one).items():
        assert np.array_equal(values, getattr(two, name)), name


@pytest.mark.parametrize("form", ["cosine", "truncated"])
def test_clutter_that_explains_everything_leaves_nothing_to_gain(form):
    step = evaluate(FusedEnergy(comparison(form, clutter=9.0)), pose())
    assert step.energy[0] == 0
    assert not step.gradient.any()
    assert not step.curvature.any()
    assert step.visible[0] == 0
    assert step.score[0] == 0
    assert step.evidence[0] == 0


@pytest.mark.parametrize("form", FORMS)
def test_energy_falls_towards_the_true_pose(form):
    fused = FusedEnergy(comparison(form, noise=0.05))
    for twist in NEARBY[1:]:
        line = [pose(tuple(k * w for w in twist)) for k in (1.0, 0.5, 0.25, 0.0)]
        assert np.all(np.diff(fused.evaluate(*batch(line)).energy) < 0)


@pytest.mark.parametrize("form", ["truncated", "l2"])
def test_gauss_newton_steps_find_the_true_pose(form):
    """Not promised for ``cosine``: longer rendered features pull it away from the truth."""
    task = comparison(form, noise=0.02)
    whole = torch.ones_like(task.cells.valid)
    fused = FusedEnergy(replace(task, cells=replace(task.cells, valid=whole)))
    found = pose((0.04, -0.03, 0.05, 0.01, -0.01, 0.03))
    for _ in range(15):
        step = evaluate(fused, found)
        twist = -np.linalg.solve(step.curvature[0, :6, :6], step.gradient[0, :6])
        found = found.update(torch.from_numpy(0.7 * twist))
    trace = (found.inverse().R @ pose().R).diagonal().sum()
    assert trace > 1 + 2 * math.cos(math.radians(0.5))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "t",
    [
        (0.0, 0.0, -3.0),
        (50.0, 0.0, 3.0),
        (math.nan, 0.0, 3.0),
        (0.0, 0.0, math.inf),
        (math.inf, -math.inf, math.inf),
        (math.nan, math.nan, math.nan),
    ],
    ids=str,
)
def test_an_object_out_of_sight_counts_nothing(form, t):
    away = Pose(pose().R, torch.tensor(t, dtype=torch.float64))
    fused = FusedEnergy(comparison(form))
    step = evaluate(fused, away)
    assert step.covered[0] == 0
    assert step.energy[0] == 0
    assert not step.gradient.any()
    assert not fused.visible(away).any()


def test_golden_reconstruction_loss():
    """Spec 6.4."""
    s = torch.tensor([[0.9, 0.1, 0.0], [0.5, -0.2, 0.0]])
    c = torch.tensor([[0.2, 0.3, 0.1], [0.6, 0.4, -0.1]])
    assert 1 - gain_from_scores(s, c).item() == pytest.approx(0.866667, abs=1e-6)


def test_cosine_energy_is_the_reconstruction_loss_up_to_a_constant():
    task = comparison()
    task = replace(task, cells=replace(task.cells, valid=torch.ones_like(task.cells.valid)))
    c = task.cells.clutter.double()
    rendered, _ = render_features(task, pose(NEARBY[1]))
    loss = 1 - gain_from_scores((rendered * task.cells.features.double()).sum(-1), c)
    constant = 1 + c.mean() - c.clamp_min(0).mean()
    assert energy(task, pose(NEARBY[1])) + constant == pytest.approx(loss.item(), abs=1e-12)


def test_cell_energies_by_hand():
    cells = Cells(
        torch.zeros(1, 2, CHANNELS), torch.tensor([[0.5, -0.25]]), torch.ones(1, 2) > 0, CAMERA
    )
    s, n = torch.tensor([[0.75, 0.5]]), torch.tensor([[0.75, 1.0]])
    wanted = {"cosine": [-0.25, -0.5], "truncated": [-0.75, -1.5], "l2": [0.0, 0.75]}
    for form in FORMS:
        task = Comparison(cells, MESH, smooth_texture(), form, background_cost=0.25)
        assert cell_energy(task, s, n).tolist() == [wanted[form]]


def test_a_wrong_form_lists_the_right_ones():
    task = comparison()
    object.__setattr__(task, "form", "l1")
    with pytest.raises(InputError, match=r"E_CONFIG.*cosine, truncated, l2, got 'l1'"):
        task.__post_init__()


def test_a_texture_of_another_mesh_is_refused():
    with pytest.raises(InputError, match=r"E_SHAPE.*expected texture of shape \(572, 16\)"):
        replace(comparison(), texture=smooth_texture()[:-1])
