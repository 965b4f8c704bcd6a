import sys

import pytest
import torch
from scenes import CAMERA, car, cube_sphere, look, place, random_poses, rng, shown

from featmesh.errors import BackendUnavailable, InputError
from featmesh.geometry.camera import Camera
from featmesh.render import rasterize as module
from featmesh.render.rasterize import BACKENDS, available_backends, rasterize
from featmesh.render.shade import interpolate


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_loop(backend):
    vertices, faces = car(8)
    points = place(vertices, random_poses(5, 0))
    whole = rasterize(points, faces, CAMERA, backend)
    for i in range(5):
        one = rasterize(points[i : i + 1], faces, CAMERA, backend)
        for name in ("face_id", "bary", "depth"):
            assert torch.equal(getattr(whole, name)[i], getattr(one, name)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_permuting_vertices_changes_nothing(backend):
    vertices, faces = car(10)
    points, _, _ = shown(vertices, faces, look(0.7, 0.3))
    order = torch.randperm(len(vertices), generator=rng(0))
    place = torch.argsort(order)
    a = rasterize(points, faces, CAMERA, backend)
    b = rasterize(points[:, order], place[faces], CAMERA, backend)
    assert torch.equal(a.face_id, b.face_id)
    assert torch.equal(a.depth, b.depth)


@pytest.mark.parametrize("backend", BACKENDS)
def test_permuting_faces_renames_them_and_changes_no_picture(backend):
    vertices, faces = car(10)
    for seed in range(3):
        points = place(vertices, random_poses(2, seed))
        order = torch.randperm(len(faces), generator=rng(seed))
        a = rasterize(points, faces, CAMERA, backend)
        b = rasterize(points, faces[order], CAMERA, backend)
        assert torch.equal(a.covered, b.covered)
        renamed = torch.where(b.covered, order[b.face_id.clamp_min(0)], -1)
        same = renamed == a.face_id
        assert same.double().mean() > 0.9995  # the others: a centre exactly on an edge
        image, permuted = (interpolate(points, f, g) for f, g in ((faces, a), (faces[order], b)))
        assert torch.equal(image[same], permuted[same])
        assert (image - permuted).abs().max() < 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_turning_the_corners_of_a_face_changes_no_picture(backend):
    vertices, faces = car(10)
    points, _, _ = shown(vertices, faces, look(2.0, 0.2, 0.1))
    a = rasterize(points, faces, CAMERA, backend)
    b = rasterize(points, faces.roll(1, 1), CAMERA, backend)
    same = a.face_id == b.face_id
    assert same.double().mean() > 0.9995
    torch.testing.assert_close(a.depth[same], b.depth[same])
    torch.testing.assert_close(a.bary[same], b.bary.roll(-1, -1)[same])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_surface_has_no_hole_to_its_far_side(backend):
    vertices, faces = car(14)
    points = place(vertices, random_poses(6, 4))
    culled = rasterize(points, faces, CAMERA, backend)
    both = rasterize(points, faces, CAMERA, backend, cull=False)
    assert torch.equal(culled.covered, both.covered)
    assert (culled.face_id == both.face_id).double().mean() > 0.999


@pytest.mark.parametrize("backend", BACKENDS)
def test_depth_of_a_plane_is_that_of_the_rays(backend):
    corners = torch.tensor([[-22.0, -22, 0], [22, -22, 0], [-22, 22, 0], [22, 22, 0]]).double()
    faces = torch.tensor([[0, 1, 2], [3, 2, 1]])
    pose = look(0.4, 0.9, 0.2, 30.0)
    found = rasterize(pose.apply(corners)[None], faces, CAMERA, backend)
    assert found.covered.all()
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(112) + 0.5, indexing="ij")
    rays = CAMERA.unproject(torch.stack([x, y], -1).double())
    normal = pose.R[:, 2]
    depth = (normal @ pose.t) / (rays @ normal)
    # only on the shared diagonal may the rounding of the coverage move a centre
    close = (found.depth[0] - depth).abs() < 1e-9
    assert close.double().mean() > 0.99
    torch.testing.assert_close(found.depth[0], depth, rtol=0.01, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_depth_of_a_sphere_is_that_of_the_rays(backend):
    sphere, faces = cube_sphere(40)
    centre = torch.tensor([0.3, -0.2, 6.0], dtype=torch.float64)
    found = rasterize((sphere + centre)[None], faces, CAMERA, backend)
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(112) + 0.5, indexing="ij")
    rays = CAMERA.unproject(torch.stack([x, y], -1).double())
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - 1
    inside = b**2 - a * c
    assert (found.covered[0] != (inside > 0)).sum() < 20  # flat faces lie inside the sphere
    middle = inside > 0.2 * inside.max()
    expected = (b - inside.clamp_min(0).sqrt()) / a
    assert (found.depth[0] - expected)[middle].abs().max() < 2e-3
    assert torch.isinf(found.depth[~found.covered]).all()


def test_fragments_equal_those_of_ray_casting():
    vertices, faces = car(5)
    points, _, camera = shown(vertices, faces, look(0.8, 0.35))
    found = rasterize(points, faces, camera)
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(112) + 0.5, indexing="ij")
    rays = camera.unproject(torch.stack([x, y], -1).double()).reshape(-1, 1, 3)
    a, b, c = points[0][faces].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    depth = (normal * a).sum(-1) / (rays * normal).sum(-1)
    hit = depth[..., None] * rays
    inside = torch.ones_like(depth, dtype=torch.bool)
    for p, q in ((a, b), (b, c), (c, a)):
        inside &= (torch.linalg.cross((q - p).expand_as(hit), hit - p) * normal).sum(-1) >= 0
    inside &= (normal * a).sum(-1) < 0
    depth = torch.where(inside, depth, torch.inf)
    nearest, face = depth.min(1)
    same = found.face_id.reshape(-1) == torch.where(nearest.isinf(), -1, face)
    assert same.double().mean() > 0.998
    both = same & nearest.isfinite()
    torch.testing.assert_close(found.depth.reshape(-1)[both], nearest[both])
    torch.testing.assert_close(
        interpolate(points, faces, found).reshape(-1, 3)[both],
        (rays[:, 0] * nearest[:, None])[both],
    )


def test_gradients_reach_the_points_through_bary_and_depth():
    vertices, faces = car(5)
    points = shown(vertices, faces, look(0.8, 0.35))[0].float().requires_grad_()
    found = rasterize(points, faces, CAMERA)
    (found.bary[..., 0].sum() + found.depth[found.covered].sum()).backward()
    assert points.grad.isfinite().all()
    assert points.grad.abs().sum() > 0


def test_half_precision_is_computed_in_float32():
    vertices, faces = car(5)
    points = shown(vertices, faces, look(0.8, 0.35))[0].half()
    found = rasterize(points, faces, CAMERA)
    assert found.depth.dtype == torch.float32
    assert torch.equal(found.face_id, rasterize(points.float(), faces, CAMERA).face_id)


def test_an_unknown_backend_is_refused_with_the_choices():
    with pytest.raises(InputError) as fault:
        rasterize(torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]]), CAMERA, "numbra")
    assert fault.value.code == "E_BACKEND"
    for part in ("auto", "numba", "torch", "'numbra'"):
        assert part in str(fault.value)


@pytest.mark.parametrize("index", [3, -1, 2**40])
def test_a_face_of_no_vertex_is_refused_with_its_number(index):
    faces = torch.tensor([[0, 1, 2], [0, 1, index]])
    with pytest.raises(InputError, match=r"0 \.\. 2.*face 1") as fault:
        rasterize(torch.zeros(1, 3, 3), faces, CAMERA)
    assert fault.value.code == "E_MESH_INDEX"


def test_a_broken_numba_leaves_torch(monkeypatch):
    vertices, faces = car(5)
    points = shown(vertices, faces, look(0.8, 0.35))[0]
    expected = rasterize(points, faces, CAMERA)
    assert available_backends() == ("numba", "torch")
    monkeypatch.setitem(sys.modules, "featmesh.render.kernels", None)
    monkeypatch.delattr("featmesh.render.kernels", raising=False)
    module._numba_fault.cache_clear()
    try:
        assert available_backends() == ("torch",)
        assert torch.equal(rasterize(points, faces, CAMERA).face_id, expected.face_id)
        with pytest.raises(BackendUnavailable, match="backend='torch'") as fault:
            rasterize(points, faces, CAMERA, "numba")
        assert fault.value.code == "E_BACKEND"
    finally:
        module._numba_fault.cache_clear()


def test_points_on_another_device_are_not_for_numba():
    with pytest.raises(BackendUnavailable, match="meta"):
        rasterize(torch.zeros(1, 3, 3, device="meta"), torch.tensor([[0, 1, 2]]), CAMERA, "numba")


def test_no_faces_give_an_empty_picture():
    camera = Camera(50.0, 50.0, 4.0, 3.0, 6, 8)
    found = rasterize(torch.zeros(2, 0, 3), torch.zeros(0, 3, dtype=torch.int64), camera)
    assert found.face_id.shape == (2, 6, 8)
    assert (found.face_id == -1).all()
    assert found.depth.isinf().all()
