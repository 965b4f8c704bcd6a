import numpy as np
import pytest
import torch
from scenes import CAMERA, car, place, random_poses, triangle_soup

from featmesh.render import reference
from featmesh.render.kernels import coverage
from featmesh.render.rasterize import _project
from featmesh.render.reference import coverage_reference


def _both(points_cam, faces, camera, cull=True):
    screen = _project(points_cam, camera)
    size = (camera.height, camera.width)
    fast = coverage(screen.numpy(), faces.int().numpy(), *size, cull)
    slow = coverage_reference(screen, faces, *size, cull)
    assert slow.dtype == torch.int32
    return fast, slow.numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [6, 20])
def test_face_ids_of_both_backends_are_identical_on_a_mesh(dtype, n):
    vertices, faces = car(n)
    for seed in range(4):
        points = place(vertices, random_poses(4, seed)).to(dtype)
        fast, slow = _both(points, faces, CAMERA)
        assert (fast >= 0).mean() > 0.1
        assert np.array_equal(fast, slow)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cull", [True, False])
def test_face_ids_of_both_backends_are_identical_on_random_triangles(dtype, cull):
    for seed in range(12):
        points, faces = triangle_soup(60 * (seed + 1), seed)
        fast, slow = _both(points.to(dtype), faces, CAMERA, cull)
        assert np.array_equal(fast, slow)


def test_face_ids_of_both_backends_are_identical_on_large_maps():
    vertices, faces = car(20)
    camera = CAMERA.scale(3.75)  # 300 x 420
    for distance in (1.0, 0.4):  # the second: the camera inside the surface, faces at its plane
        points = place(vertices, random_poses(2, 9)) * torch.tensor([1, 1, distance]).double()
        points[..., 2] -= 1 - distance
        fast, slow = _both(points, faces, camera)
        assert (fast >= 0).any()
        assert np.array_equal(fast, slow)
    points, faces = triangle_soup(300, 77)
    assert np.array_equal(*_both(points, faces, camera))


def test_vertices_that_are_no_numbers_drop_the_same_faces():
    vertices, faces = car(6)
    points = place(vertices, random_poses(2, 1))
    points[0, ::17] = torch.nan
    points[1, ::23, 2] = torch.tensor([0.0, -1.0, torch.inf, 1e-45, 1e-12]).repeat(20)[
        : len(points[1, ::23])
    ]
    fast, slow = _both(points, faces, CAMERA)
    assert np.array_equal(fast, slow)
    assert not np.isin(fast[0], (faces % 17 == 0).any(1).nonzero().numpy()).any()


def test_cutting_the_work_into_blocks_changes_nothing(monkeypatch):
    vertices, faces = car(8)
    screen = _project(place(vertices, random_poses(3, 2)), CAMERA)
    whole = coverage_reference(screen, faces, 80, 112)
    monkeypatch.setattr(reference, "_BLOCK", 500)
    assert torch.equal(coverage_reference(screen, faces, 80, 112), whole)


def test_no_faces_and_no_visible_faces_give_an_empty_picture():
    screen = torch.ones(2, 3, 3)
    for faces in (torch.zeros(0, 3, dtype=torch.int64), torch.tensor([[0, 1, 2]])):
        assert (coverage_reference(screen, faces, 4, 5) == -1).all()
        assert (coverage(screen.numpy(), faces.int().numpy(), 4, 5) == -1).all()
