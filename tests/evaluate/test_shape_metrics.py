"""Claims about shape metrics: spheres and boxes whose answers are known in closed form."""

import math

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.evaluate.shape_metrics import chamfer, dimensions, f_score, flipped_faces, volume_iou
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import cuboid

D = torch.float64


def sphere_points(radius, n, purpose):
    points = torch.from_numpy(generator(0, purpose).standard_normal((n, 3)))
    return radius * points / points.norm(dim=1, keepdim=True)


def sphere(radius):
    mesh = cuboid((1.0, 1.0, 1.0), (24, 24, 24))
    return mesh.with_vertices(radius * mesh.vertices / mesh.vertices.norm(dim=1, keepdim=True))


def box(size, middle=(0.0, 0.0, 0.0)):
    mesh = cuboid(size, (2, 3, 2))
    return mesh.with_vertices(mesh.vertices + torch.tensor(middle, dtype=D))


def opened(mesh):
    """The mesh without its floor, each third face doubled and turned, unwelded."""
    low = mesh.vertices[:, 2].min()
    faces = mesh.faces[(mesh.corners[:, :, 2] > low + 1e-9).any(1)]
    corners = mesh.vertices[torch.cat([faces, faces[::3].flip(1)])].reshape(-1, 3)
    return Mesh(corners, torch.arange(len(corners)).reshape(-1, 3))


def test_chamfer_of_points_by_hand():
    a = torch.tensor([[0.0, 0, 0], [1, 0, 0]], dtype=D)
    b = torch.tensor([[0.0, 3, 0]], dtype=D)
    assert chamfer(a, b) == pytest.approx(((3 + math.sqrt(10)) / 2 + 3) / 2)
    assert chamfer(b, a) == pytest.approx(chamfer(a, b))
    assert chamfer(a, a) == 0
    assert chamfer(a.float(), b.float()) == pytest.approx(chamfer(a, b))


def test_chamfer_of_spheres_is_the_difference_of_their_radii():
    a, b = sphere_points(0.5, 10_000, "a"), sphere_points(0.42, 10_000, "b")
    assert chamfer(a, b) == pytest.approx(0.08, rel=0.02)


def test_two_draws_of_one_surface_are_half_a_spacing_apart():
    a, b = sphere_points(0.5, 10_000, "a"), sphere_points(0.5, 10_000, "b")
    assert chamfer(a, b) == pytest.approx(0.5 * math.sqrt(math.pi / 10_000), rel=0.03)


def test_f_score_by_hand():
    a = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0]], dtype=D)
    b = torch.tensor([[0.05, 0, 0], [1.2, 0, 0]], dtype=D)
    # nearer than 0.1: one of four, one of two
    assert f_score(a, b, 0.1) == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    assert f_score(b, a, 0.1) == pytest.approx(f_score(a, b, 0.1))
    assert f_score(a, a, 1e-9) == 1
    assert f_score(a, b + 100, 0.1) == 0


def test_f_score_of_spheres_jumps_at_the_difference_of_their_radii():
    a, b = sphere_points(0.5, 10_000, "a"), sphere_points(0.42, 10_000, "b")
    assert f_score(a, b, 0.0799) == 0
    assert f_score(a, b, 0.12) > 0.99


@pytest.mark.parametrize("metric", [chamfer, lambda a, b: f_score(a, b, 0.01)])
def test_points_that_are_none_or_not_finite(metric):
    good = torch.zeros(4, 3, dtype=D)
    bad = torch.tensor([[0.0, 0, 0], [math.nan, 0, 0]], dtype=D)
    for pair in ((good, good[:0]), (good[:0], good)):
        with pytest.raises(InputError, match=r"\(\): expected points, got none; try: ") as raised:
            metric(*pair)
        assert raised.value.code == "E_MESH_EMPTY"
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(InputError, match=r"expected finite points.*at 1; try: ") as raised:
            metric(*pair)
        assert raised.value.code == "E_NONFINITE"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 4.5])
def test_volume_iou_of_nested_spheres(scale):
    assert volume_iou(sphere(0.5 * scale), sphere(0.4 * scale)) == pytest.approx(0.8**3, abs=0.01)


@pytest.mark.parametrize("change", [lambda m: m, opened])
def test_volume_iou_of_shifted_boxes(change):
    a, b = box((0.4, 0.8, 0.4)), box((0.4, 0.8, 0.4), (0.0, 0.2, 0.0))
    assert volume_iou(change(a), b) == pytest.approx(0.6, abs=0.015)
    assert volume_iou(b, change(a)) == pytest.approx(0.6, abs=0.015)


def test_volume_iou_of_one_solid_and_of_none_in_common():
    solid, far = box((0.4, 0.8, 0.3)), box((0.2, 0.2, 0.2), (2.0, 0, 0))
    assert volume_iou(solid, solid) == pytest.approx(1, abs=0.01)
    assert volume_iou(opened(solid), solid) == pytest.approx(1, abs=0.02)
    assert volume_iou(solid, far) == 0


def test_hidden_parts_do_not_count_for_volume_iou():
    outside, motor = box((0.4, 0.8, 0.3)), box((0.1, 0.2, 0.1))
    faces = torch.cat([outside.faces, motor.faces + len(outside.vertices)])
    both = Mesh(torch.cat([outside.vertices, motor.vertices]), faces)
    assert volume_iou(outside, both) == pytest.approx(1, abs=0.01)


def test_volume_iou_repeats_without_a_generator():
    a, b = sphere(0.5), box((0.7, 0.7, 0.7))
    assert volume_iou(a, b) == volume_iou(a, b)


def test_volume_iou_wants_meshes():
    none = Mesh(torch.zeros(0, 3, dtype=D), torch.zeros(0, 3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"volume_iou\(\)") as raised:
        volume_iou(sphere(0.5), none)
    assert raised.value.code == "E_MESH_EMPTY"


def test_dimensions_are_length_width_height():
    mesh = box((0.4, 0.8, 0.3), (5, 6, 7))
    assert dimensions(mesh) == pytest.approx((0.8, 0.4, 0.3))
    stray = Mesh(torch.cat([mesh.vertices, torch.full((1, 3), 99.0, dtype=D)]), mesh.faces)
    np.testing.assert_allclose(dimensions(stray), dimensions(mesh))


def test_faces_turned_over_are_counted():
    mesh = box((0.4, 0.8, 0.3))
    assert flipped_faces(mesh, mesh) == 0
    assert flipped_faces(mesh, Mesh(mesh.vertices, mesh.faces.flip(1))) == 1
