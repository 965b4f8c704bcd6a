"""Claims about which way is up, and along which axis CADs face."""

import pytest
import torch
from views.cad_samples import blocks, chair

from featmesh.apps.new_category_cads import whole_mesh
from featmesh.apps.new_category_frame import firmness, looks_sideways, unlikeness, upright

from .nose_cads import SIZES, nosed


def meshes():
    return [whole_mesh(nosed(*size)) for size in SIZES] + [whole_mesh(chair())]


def lying(mesh):
    """The mesh as a file with up +y and front +z has it."""
    return mesh.with_vertices(mesh.vertices[:, [0, 2, 1]] * torch.tensor([1.0, 1.0, -1.0]))


def test_up_is_told_from_front_in_either_frame():
    standing = upright(meshes())
    assert standing.axis == "z" and standing.is_sure
    fallen = upright([lying(m) for m in meshes()])
    assert fallen.axis == "y" and fallen.is_sure


def test_a_cube_says_nothing():
    cube = whole_mesh(blocks(((0, 0, 0), (1, 1, 1))))
    assert not upright([cube]).is_sure
    assert not upright([]).is_sure


def test_firmness_is_the_border_s_distance_over_the_height():
    box = whole_mesh(blocks(((0, 0, 0), (2, 2, 1))))
    points = box.vertices.numpy()
    assert firmness(points, points, 2) == pytest.approx(2.0)  # 1 aside, half the height
    assert firmness(points, points, 0) == pytest.approx(0.5)
    ball = points[:1] * 0 + [[0, 0, 0], [0, 0, 1.0]]
    assert firmness(ball, ball, 2) == 0


def test_unlikeness_is_zero_of_mirror_images():
    points = whole_mesh(nosed(*SIZES[0])).vertices.numpy()
    assert unlikeness(points, 0) == pytest.approx(0, abs=1e-9)
    assert unlikeness(points, 1) > 0.02


def test_cads_that_face_sideways_are_seen():
    assert not looks_sideways(meshes())
    turned = [m.with_vertices(m.vertices[:, [1, 0, 2]]) for m in meshes()]
    assert looks_sideways(turned)
    assert not looks_sideways([])
