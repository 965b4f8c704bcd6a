"""Claims about fitting a code to surface points: what made the points is found again."""

import pytest
import torch
from fixtures import car_mesh

from featmesh.draws import generator
from featmesh.evaluate.shape_metrics import chamfer
from featmesh.learn.shape_fit import Samples, fit_latent
from featmesh.model.config import DeformationConfig
from featmesh.model.deformation import build_deformation


def stretches(kind):
    """Codes that make a car longer, wider and higher."""
    template = car_mesh()
    torch.manual_seed(0)
    config = DeformationConfig(kind=kind, latents=3, width=32, layers=2, frequencies=2)
    deformation = build_deformation(config, template)
    scales = torch.tensor([[0.0, 0.06, 0.0], [0.05, 0.0, 0.0], [0.0, 0.0, 0.07]])
    deformation.begin(scales[:, None] * deformation.place)
    return template, deformation


@pytest.mark.parametrize("kind", ["pca", "field", "gcn"])
def test_the_code_that_made_the_points_is_found(kind):
    template, deformation = stretches(kind)
    code = torch.tensor([1.2, -0.8, 0.6])
    with torch.no_grad():
        vertices = template.vertices + deformation(code[None])[0].double()
    points = template.with_vertices(vertices).sample_surface(4000, generator(0, "points"))
    found = fit_latent(deformation, template, points)
    assert float((found - code).abs().max()) < 0.1
    assert chamfer(points, template.sample_surface(4000, generator(1, "points"))) > 0.012


def test_the_prior_draws_to_the_template():
    template, deformation = stretches("pca")
    stretched = template.vertices * torch.tensor([1.0, 1.1, 1.0])
    points = template.with_vertices(stretched).sample_surface(3000, generator(0, "points"))
    near, far = (fit_latent(deformation, template, points, prior) for prior in (1e-2, 1e-6))
    assert float(near.norm()) < 0.7 * float(far.norm())
    assert float(far[0]) == pytest.approx(0.1 / 0.06, abs=0.1)


def test_samples_lie_on_the_surface_and_follow_it():
    template = car_mesh()
    samples = Samples.draw(template, 2000, generator(0, "samples"))
    points, normals = samples.of(template.vertices), samples.normals(template.vertices)
    first = template.vertices[samples.corners[:, 0]]
    assert float(((points - first) * normals).sum(1).abs().max()) < 1e-12
    moved = samples.of(torch.stack([template.vertices, 2 * template.vertices + 1]))
    torch.testing.assert_close(moved[1], 2 * moved[0] + 1)
    area = template.face_normals.norm(dim=1)
    high = template.corners[:, :, 2].mean(1) > 0
    share = float((points[:, 2] > 0).double().mean())
    assert share == pytest.approx(float(area[high].sum() / area.sum()), abs=0.06)
