"""Claims about the compiled energy where the surface moves: latents and outlines."""

import numpy as np
import pytest
import torch

from featmesh.inference.energy import Comparison, energy, visible_faces
from featmesh.inference.energy_kernels import POSE, Surface
from featmesh.inference.energy_numba import JUMP, FusedEnergy
from featmesh.model.category import FeatureMap, finer
from featmesh.render.edges import edge_gradient
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate

from .test_energy import CAMERA, MESH, NEARBY, batch, comparison, pose, smooth_texture, unit

LATENTS = 5
COSTS = ((0.0, 0.0), (0.1, 0.25))


def directions():
    """Smooth displacements of the vertices, one a latent."""
    rng = np.random.default_rng(3)
    waves = MESH.vertices.numpy() @ rng.normal(size=(3, LATENTS)) * 5
    axes = rng.normal(size=(LATENTS, 3))
    return 0.03 * np.sin(waves).T[:, :, None] * axes[:, None]


BASIS = directions()


def surface(latent):
    return Surface(
        (MESH.vertices.numpy() + np.tensordot(latent, BASIS, 1))[None], BASIS[None].copy()
    )


def priced(price, edge, clutter=0.35):
    task = comparison("cosine", clutter=clutter)
    return Comparison(task.cells, MESH, task.texture, price=price, edge=edge)


@pytest.mark.parametrize("twist", NEARBY)
@pytest.mark.parametrize(("price", "edge"), COSTS)
def test_gradient_to_the_latents_is_that_of_the_oracle(twist, price, edge):
    task, at = priced(price, edge), pose(twist)
    latent = torch.tensor([0.3, -0.5, 0.2, 0.8, -0.1], dtype=torch.float64, requires_grad=True)
    offset = torch.tensordot(latent, torch.from_numpy(BASIS), 1)
    stretch = torch.tensor([0.05, -0.02, 0.1], dtype=torch.float64)
    zoom = torch.tensor(0.1, dtype=torch.float64)
    face_id = visible_faces(task, at, zoom, stretch, offset)
    oracle = energy(task, at, zoom, face_id, stretch, offset)
    (gradient,) = torch.autograd.grad(oracle, latent)
    R, t = batch([at])
    known = surface(latent.detach().numpy())
    step = FusedEnergy(task).evaluate(R, t, np.array([0.1]), stretch.numpy()[None], known)
    assert step.energy[0] == pytest.approx(oracle.item(), abs=1e-5)
    assert np.linalg.norm(step.gradient[0, POSE:] - gradient.numpy()) < 1e-3 * gradient.norm()
    spectrum = np.linalg.eigvalsh(step.curvature[0])
    assert spectrum.min() > -1e-6 * spectrum.max()


def test_latents_that_stretch_move_like_the_stretch():
    """A direction along x by the vertex's own x is what log stretch x does."""
    basis = np.zeros((3, *MESH.vertices.shape))
    for k in range(3):
        basis[k, :, k] = MESH.vertices.numpy()[:, k]
    R, t = batch([pose(NEARBY[1])])
    step = FusedEnergy(priced(0.1, 0.2), outline=True).evaluate(
        R, t, surface=Surface(MESH.vertices.numpy()[None], basis[None])
    )
    g, A = step.gradient[0], step.curvature[0]
    assert np.allclose(g[7:10], g[10:], rtol=1e-3, atol=1e-7)
    assert np.allclose(A[7:10, 7:10], A[10:, 10:], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("twist", NEARBY)
def test_pull_of_outlines_is_that_of_the_edge_gradient(twist):
    """The kernel's share of moving outlines equals render/edges on the same cells."""
    task, at = priced(0.1, 0.25), pose(twist)
    latent = torch.zeros(LATENTS, dtype=torch.float64, requires_grad=True)
    vertices = MESH.vertices + torch.tensordot(latent, torch.from_numpy(BASIS), 1)
    points = at.apply(vertices)[None]
    fragments = rasterize(points.detach(), MESH.faces, CAMERA)
    rendered = interpolate(task.texture.double(), MESH.faces, fragments)[0].reshape(-1, 16)
    features = task.cells.features.double().reshape(-1, 16)
    c, valid = task.cells.clutter.double().reshape(-1), task.cells.valid.reshape(-1)
    covered = (fragments.face_id >= 0).reshape(-1)

    def cost(source, target):
        s = (rendered[source] * features[target]).sum(-1)
        full = c[target].clamp_min(0) - torch.maximum(s - 0.25, c[target] - 0.1)
        return torch.where(covered[source] & valid[target], full, torch.zeros_like(full))

    pulled = edge_gradient(points, MESH.faces, fragments, CAMERA, cost, JUMP)
    (wanted,) = torch.autograd.grad(pulled / valid.sum(), latent)
    R, t = batch([at])
    known = surface(np.zeros(LATENTS))
    with_it, without = (
        FusedEnergy(task, outline=on).evaluate(R, t, surface=known).gradient[0, POSE:]
        for on in (True, False)
    )
    assert np.linalg.norm(with_it - without - wanted.numpy()) < 0.02 * wanted.norm()
    assert wanted.norm() > 0


def smooth_map(seed):
    """A smooth feature map: a supersampled energy then has a slope to compare with."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: CAMERA.height, : CAMERA.width] / 10.0
    waves = rng.normal(size=(2, 16))
    values = np.sin(x[..., None] * waves[0] + y[..., None] * waves[1] + rng.uniform(0, 6, 16))
    shape = (CAMERA.height, CAMERA.width)
    features = unit(torch.from_numpy(values)).float()
    return FeatureMap(features, torch.full(shape, 0.1), torch.ones(shape) > 0, CAMERA)


@pytest.mark.parametrize("seed", [1, 2])
def test_gradient_to_the_latents_is_that_of_a_supersampled_energy(seed):
    """The object covers 10 cells: outlines need four samples a cell; seven times finer is true."""
    cells, cosines = smooth_map(seed), []
    energies = [
        FusedEnergy(
            Comparison(finer(cells, n), MESH, smooth_texture(), price=0.1, edge=0.2), outline=True
        )
        for n in (4, 28)
    ]
    for twist in NEARBY:
        R, t = batch([pose(twist)])
        got = energies[0].evaluate(R, t, surface=surface(np.zeros(LATENTS))).gradient[0, POSE:]
        ends = [
            [energies[1].evaluate(R, t, surface=surface(s * e)).energy[0] for s in (-0.2, 0.2)]
            for e in np.eye(LATENTS)
        ]
        wanted = np.diff(ends)[:, 0]
        cosines.append(float(got @ wanted / np.linalg.norm(got) / np.linalg.norm(wanted)))
    assert np.mean(cosines) > 0.97 and min(cosines) > 0.95
