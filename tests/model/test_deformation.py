"""Claims about shape spaces: 0 is the template, halves are mirror images, slopes are right."""

import math
import time

import numpy as np
import pytest
import torch
from fixtures import car_mesh

from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import cuboid, mirror_index
from featmesh.model.config import DeformationConfig
from featmesh.model.deformation import DEFORMATIONS, build_deformation, fourier

KINDS = tuple(DEFORMATIONS)
FLIP = torch.tensor([-1.0, 1.0, 1.0])


def learned(kind, template, symmetric=True, channels=None, **sizes):
    """A deformation whose every parameter is random: it moves the template by some hundredths."""
    torch.manual_seed(0)
    config = DeformationConfig(kind=kind, symmetric=symmetric, **{"latents": 5, **sizes})
    deformation = build_deformation(config, template, channels)
    for parameter in deformation.parameters():
        torch.nn.init.normal_(parameter, std=0.1 if kind != "pca" else 0.02)
    return deformation


def lopsided():
    """A mesh that is no mirror image of itself."""
    box = cuboid((0.4, 0.8, 0.3), (4, 5, 3))
    x, y, z = box.vertices.unbind(1)
    return box.with_vertices(torch.stack([x + 0.1 * y * z, y, z + 0.2 * x], 1))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_learned_moves_nothing(kind):
    deformation = build_deformation(DeformationConfig(kind=kind, latents=5), car_mesh())
    moved = deformation(torch.randn(3, 5))
    assert moved.shape == (3, len(car_mesh().vertices), 3)
    assert not moved.any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_0_is_the_template_to_the_last_bit(kind):
    deformation = learned(kind, car_mesh())
    for rows in (1, 2, 7):
        codes = torch.randn(rows, 5)
        codes[rows // 2] = 0
        moved = deformation(codes)
        assert not moved[rows // 2].any()
        if rows > 1:
            assert float(moved[0].detach().norm(dim=1).mean()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_0_has_a_gradient(kind):
    deformation = learned(kind, car_mesh())
    code = torch.zeros(1, 5, requires_grad=True)
    weights = torch.randn(len(car_mesh().vertices), 3)
    (deformation(code)[0] * weights).sum().backward()
    expected = (deformation.jacobian(torch.zeros(5)) * weights).sum((1, 2))
    torch.testing.assert_close(code.grad[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_left_and_right_are_mirror_images_to_the_last_bit(kind):
    template = car_mesh()
    moved = learned(kind, template)(torch.randn(2, 5))
    assert torch.equal(moved[:, mirror_index(template)], moved * FLIP)


@pytest.mark.parametrize("kind", KINDS)
def test_left_and_right_may_differ(kind):
    template = car_mesh()
    moved = learned(kind, template, symmetric=False)(torch.randn(1, 5))
    assert not torch.allclose(moved[:, mirror_index(template)], moved * FLIP, atol=1e-3)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", [car_mesh(), lopsided()], ids=["car", "lopsided"])
def test_jacobian_is_what_autograd_says(kind, symmetric, template):
    deformation = learned(kind, template, symmetric).double()
    code = torch.randn(5, dtype=torch.float64)
    found = deformation.jacobian(code)
    assert found.shape == (5, len(template.vertices), 3)
    assert float(found.abs().max()) > 1e-3
    asked = code[None].clone().requires_grad_()
    moved = deformation(asked)[0]
    for _ in range(6):
        weights = torch.randn(moved.shape, dtype=torch.float64)
        expected = torch.autograd.grad(moved, asked, weights, retain_graph=True)[0][0]
        torch.testing.assert_close((found * weights).sum((1, 2)), expected, rtol=1e-9, atol=1e-11)


def test_jacobian_of_a_field_is_fast():
    template = cuboid((0.4, 0.8, 0.3), (12, 28, 10))
    assert len(template.vertices) == 1474
    deformation = build_deformation(DeformationConfig(), template)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        deformation.jacobian(torch.randn(16))
        spent.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    assert min(spent) < 0.06


def test_half_of_a_symmetric_template_is_computed():
    template = car_mesh()
    middle = int((template.vertices[:, 0] == 0).sum())
    deformation = build_deformation(DeformationConfig(), template)
    assert len(deformation.place) == (len(template.vertices) + middle) // 2
    assert len(build_deformation(DeformationConfig(), lopsided()).place) == len(lopsided().vertices)


@pytest.mark.parametrize("kind", KINDS)
def test_other_codes_for_the_same_shapes(kind):
    deformation = learned(kind, car_mesh()).double()
    matrix, code = torch.randn(5, 5).double(), torch.randn(2, 5).double()
    before = deformation(code @ matrix.T)
    deformation.recode(matrix)
    torch.testing.assert_close(deformation(code), before)


@pytest.mark.parametrize("kind", KINDS)
def test_only_weights_are_saved(kind):
    deformation = learned(kind, car_mesh())
    other = build_deformation(deformation.config, car_mesh())
    state = deformation.state_dict()
    assert set(state) == {name for name, _ in deformation.named_parameters()}
    other.load_state_dict(state)
    code = torch.randn(1, 5)
    assert torch.equal(other(code), deformation(code))


def test_linear_is_linear():
    deformation = learned("pca", car_mesh())
    a, b = torch.randn(2, 1, 5)
    torch.testing.assert_close(deformation(a + 2 * b), deformation(a) + 2 * deformation(b))


def test_a_field_can_stretch_the_template():
    """The affine output: a scale that is the same everywhere is a stretch along the axes."""
    template = car_mesh()
    deformation = build_deformation(DeformationConfig(latents=1, layers=1, width=1), template)
    for parameter in deformation.parameters():
        torch.nn.init.zeros_(parameter)
    deformation.codes.data.fill_(1.0)
    deformation.last.data[0, :3, 0] = torch.tensor([0.1, 0.2, 0.3])
    silu = 2 / (1 + math.exp(-2))
    expected = template.vertices.float() * torch.tensor([0.1, 0.2, 0.3]) * silu
    torch.testing.assert_close(deformation(torch.tensor([[2.0]]))[0].detach(), expected)


def test_a_graph_averages_over_neighbours():
    template = car_mesh()
    deformation = learned("gcn", template, symmetric=False)
    neighbours = {v for face in template.faces.tolist() for v in face if 7 in face} - {7}
    expected = template.vertices[sorted(neighbours)].mean(0).float()
    mean = torch.sparse.mm(deformation.mean, template.vertices.float())
    torch.testing.assert_close(mean[7], expected)
    ones = torch.ones(len(template.vertices), 1)
    torch.testing.assert_close(torch.sparse.mm(deformation.mean, ones), ones)


def test_the_graph_of_a_symmetric_mesh_is_folded():
    """Half the graph gives what the whole graph gives: symmetric inputs stay symmetric."""
    template = car_mesh()
    half = learned("gcn", template).double()
    whole = learned("gcn", Mesh(template.vertices, template.faces), symmetric=False)
    whole.double().load_state_dict(half.state_dict())
    whole.waves, whole.place = half.waves[half.index], half.place[half.index]
    whole.sign = half.sign
    codes = torch.randn(2, 5, dtype=torch.float64)
    torch.testing.assert_close(half(codes), whole(codes), rtol=1e-6, atol=1e-7)


def test_texture_of_a_graph_network():
    template = car_mesh()
    deformation = learned("gcn", template, channels=24)
    texture = deformation.texture()
    assert texture.shape == (len(template.vertices), 24)
    torch.testing.assert_close(texture.norm(dim=1), torch.ones(len(texture)))
    # left and right may look different though they move alike
    mirror = mirror_index(template)
    assert float((texture - texture[mirror]).detach().norm(dim=1).median()) > 1e-3
    texture.sum().backward()
    assert all(layer.weight.grad.any() for layer in deformation.own)
    with pytest.raises(ValueError, match="second head"):
        learned("gcn", template).texture()


def test_fourier_features_tell_places_apart():
    places = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))).float()
    waves = fourier(places, 6)
    assert waves.shape == (50, 3 + 2 * 3 * 6)
    torch.testing.assert_close(waves[:, 3], (math.pi * places[:, 0]).sin())
    apart = torch.cdist(waves, waves) + 10 * torch.eye(50)
    assert float(apart.min()) > 0.1
