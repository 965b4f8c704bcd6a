"""The outline of projected meshes: where it runs, and that its flux is the slope of areas."""

import math

import pytest
import torch
from scenes import CAMERA, car, cube_sphere, look

from featmesh.render.outline import Outline, mesh_edges, outline
from featmesh.render.rasterize import rasterize
from featmesh.render.reference import coverage_reference

FINE = 4


def outline_of(vertices, faces, pose, camera=CAMERA):
    points = pose.apply(vertices)
    pixels, _ = camera.project(points)
    covered = rasterize(points[None].detach(), faces, camera.scale(float(FINE))).covered[0]
    return outline(pixels, faces, mesh_edges(faces), covered, FINE), covered


def test_a_closed_mesh_has_three_edges_for_two_faces():
    _, faces = cube_sphere(4)
    edges = mesh_edges(faces)
    assert len(edges.ends) == 3 * len(faces) // 2
    assert (edges.sides >= 0).all()
    for side in edges.sides.T:
        shared = (faces[side][:, :, None] == edges.ends[:, None]).any(1)
        assert shared.all()


def test_a_border_has_one_face():
    edges = mesh_edges(torch.tensor([[0, 2, 1], [1, 2, 3]]))
    inner = (edges.sides >= 0).all(1)
    assert edges.ends[inner].tolist() == [[1, 2]]
    assert int((edges.sides[:, 1] == -1).sum()) == 4


def test_the_outline_of_a_sphere_is_a_circle():
    vertices, faces = cube_sphere(24)
    found, _ = outline_of(vertices * 0.3, faces, look(0.4, 0.3, 0.1, 2.4))
    # the tangent cone of a sphere of radius r at distance d has the slope r / sqrt(d^2 - r^2)
    radius = 190 * 0.3 / math.sqrt(2.4**2 - 0.3**2)
    centre = torch.tensor([56.0, 40.0]).double()
    away = (found.pixels - centre).norm(dim=1)
    assert (away - radius).abs().max() < 0.25
    # a circle is twice its diameter wide, seen along u, and as much along v
    assert len(found.pixels) * found.length == pytest.approx(8 * radius, rel=0.01)
    outwards = ((found.pixels - centre) / away[:, None] * found.normal).sum(1)
    assert outwards.min() > -0.05 and found.length * outwards.sum() == pytest.approx(
        2 * math.pi * radius, rel=0.01
    )


def test_nothing_inside_the_silhouette_belongs_to_it():
    """A car from the front: its cabin's and arches' own contours lie before its body."""
    vertices, faces = car(16)
    found, covered = outline_of(vertices, faces, look(0.3, 0.35, 0.0, 2.2))
    inside = torch.nn.functional.avg_pool2d(covered[None].float(), 9, 1, 4)[0]
    x, y = (found.pixels * FINE).long().unbind(1)
    assert inside[y, x].max() < 0.95  # a disc about each point reaches outside
    assert len(found.pixels) > 200


@pytest.mark.parametrize("case", range(4))
def test_the_flux_of_one_is_the_slope_of_the_area(case):
    vertices, faces = car(16)
    pose = look(0.5 + 1.4 * case, 0.1 + 0.1 * case, 0.1, 2.3)
    ways = torch.eye(3, dtype=torch.float64)
    stretch = torch.ones(3, dtype=torch.float64, requires_grad=True)
    found, _ = outline_of(vertices * stretch, faces, pose)
    (slope,) = torch.autograd.grad(found.flux(torch.ones(80, 112)), stretch)

    def area(factors):
        pixels, _ = CAMERA.scale(16.0).project(pose.apply(vertices * factors))
        screen = torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1).float()[None]
        return float((coverage_reference(screen, faces, 1280, 1792) >= 0).sum()) / 16**2

    step = 0.01
    wanted = [(area(1 + step * w) - area(1 - step * w)) / (2 * step) for w in ways]
    wanted = torch.tensor(wanted).double()
    assert (slope - wanted).norm() < 0.03 * wanted.norm()


def test_the_flux_is_zero_and_moves_both_ends_of_an_edge():
    """A square of two faces: where its sides go, its area goes; a corner moves half a side."""
    points = torch.tensor([[2.0, 2], [10, 2], [2, 10], [10, 10]]).double().requires_grad_()
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])  # y points down: seen from outside
    covered = torch.zeros(12 * FINE, 12 * FINE, dtype=torch.bool)
    covered[2 * FINE : 10 * FINE, 2 * FINE : 10 * FINE] = True
    found = outline(points, faces, mesh_edges(faces), covered, FINE)
    term = found.flux(torch.ones(12, 12))
    assert term.item() == 0
    term.backward()
    wanted = torch.tensor([[-4.0, -4], [4, -4], [-4, 4], [4, 4]]).double()
    torch.testing.assert_close(points.grad, wanted, atol=0.05, rtol=0)


def test_outside_the_picture_there_is_no_outline():
    vertices, faces = car(8)
    found, _ = outline_of(vertices, faces, look(0.5, 0.3, 0.0, 0.9))
    assert (found.pixels > -0.5).all() and (found.pixels[:, 0] < 112.5).all()
    points = torch.tensor([[-9.0, -9], [-5, -9], [-9, -2]]).double()
    faces = torch.tensor([[0, 2, 1]])
    nothing = outline(points, faces, mesh_edges(faces), torch.zeros(8, 8, dtype=torch.bool))
    assert isinstance(nothing, Outline) and len(nothing.pixels) == 0
    assert float(nothing.flux(torch.ones(8, 8))) == 0
