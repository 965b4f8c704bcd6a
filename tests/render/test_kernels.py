import numba
import numpy as np
import pytest
import torch
from scenes import CAMERA, car, place, random_poses, rng

from featmesh.render.kernels import compiled, cover_one, coverage
from featmesh.render.rasterize import BACKENDS, _project, rasterize

SQUARE = np.array([[[1, 1, 1], [9, 1, 1], [1, 9, 1], [9, 9, 1]]], np.float32)
OUTWARD = np.array([[0, 2, 1], [1, 2, 3]], np.int32)


def test_a_square_covers_the_pixels_whose_centres_it_contains():
    face_id = coverage(SQUARE, OUTWARD, 10, 10)
    assert face_id.dtype == np.int32
    expected = np.full((10, 10), -1)
    for y in range(1, 9):
        for x in range(1, 9):
            expected[y, x] = 0 if x + y + 1 <= 10 - 1 else 1
    assert np.array_equal(face_id[0] >= 0, expected >= 0)
    inner = np.abs(np.add.outer(np.arange(10), np.arange(10)) - 9) > 0  # off the diagonal edge
    assert np.array_equal(face_id[0][inner], expected[inner])


def test_ties_go_to_the_smaller_face_whatever_the_order():
    twice = np.concatenate([OUTWARD, OUTWARD])
    assert coverage(SQUARE, twice, 10, 10).max() == 1
    assert coverage(SQUARE, OUTWARD[::-1].copy(), 10, 10)[0, 4, 5] == 0  # on the diagonal


def test_the_nearer_face_wins():
    points = np.concatenate([SQUARE, SQUARE], 1)
    points[0, 4:, 2] = 2  # larger 1/z
    assert coverage(points, np.concatenate([OUTWARD, OUTWARD + 4]), 10, 10)[0, 2, 2] == 2


def test_faces_seen_from_behind_are_left_out_only_when_culled():
    inward = OUTWARD[:, [0, 2, 1]].copy()
    assert (coverage(SQUARE, inward, 10, 10, True) == -1).all()
    assert (coverage(SQUARE, inward, 10, 10, False) >= 0).sum() == 64


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_vertex_behind_the_camera_drops_its_faces_only(bad):
    points = SQUARE.copy()
    points[0, 3, 2] = bad
    assert set(np.unique(coverage(points, OUTWARD, 10, 10))) == {-1, 0}


@pytest.mark.parametrize("far", [2.0**21, np.nan, np.inf, -np.inf])
def test_a_vertex_beyond_the_guard_band_drops_its_faces_only(far):
    points = SQUARE.copy()
    points[0, 3, 0] = far
    assert set(np.unique(coverage(points, OUTWARD, 10, 10))) == {-1, 0}


def test_faces_up_to_the_guard_band_do_not_overflow():
    edge = 2.0**20
    points = np.array([[[-edge, -edge, 1], [-edge, edge, 1], [edge, 0, 1]]], np.float32)
    assert (coverage(points, np.array([[0, 1, 2]], np.int32), 300, 300) == 0).all()


def test_cover_one_gives_the_same_from_inside_another_kernel():
    vertices, faces = car(8)
    screen = _project(place(vertices, random_poses(1, 3)), CAMERA).numpy()
    face_id = np.zeros((CAMERA.height, CAMERA.width), np.int32)
    inverse_z = np.zeros((CAMERA.height, CAMERA.width), np.float32)

    @compiled
    def outer(points, faces, face_id, inverse_z):
        cover_one(points, faces, True, face_id, inverse_z)

    outer(screen[0], faces.int().numpy(), face_id, inverse_z)
    expected = coverage(screen, faces.int().numpy(), *face_id.shape)
    assert np.array_equal(face_id, expected[0])
    depth = rasterize(place(vertices, random_poses(1, 3)), faces, CAMERA).depth[0].numpy()
    seen = face_id >= 0
    assert (inverse_z[~seen] == 0).all()
    # the z-buffer sees the corners at 1/256 pixel, the shading does not
    assert np.abs(1 / inverse_z[seen] - depth[seen]).max() < 5e-3


def test_a_kernel_called_by_a_fast_one_still_rounds_as_written():
    draw = np.random.default_rng(0)
    points = np.concatenate([draw.random((40, 2)) * 24, draw.random((40, 1)) + 0.5], 1)
    points = points.astype(np.float32)
    faces = draw.integers(0, 40, (60, 3))  # 64 bits: compiled for this caller, and nobody before

    @numba.njit(fastmath=True)
    def fast(points, faces, face_id, inverse_depth):
        cover_one(points, faces, False, face_id, inverse_depth)

    size = (24, 24)
    quick, plain = ((np.zeros(size, np.int32), np.zeros(size, np.float32)) for _ in range(2))
    fast(points, faces, *quick)
    cover_one.py_func(points, faces, False, *plain)
    assert np.unique(plain[0]).size > 10
    assert np.array_equal(quick[0], plain[0])
    assert np.array_equal(quick[1], plain[1])


def _grid(n: int, first: float, step: float, jitter: float, seed: int) -> tuple:
    rows, columns = torch.meshgrid(torch.arange(n + 1), torch.arange(n + 1), indexing="ij")
    u = torch.stack([columns, rows], -1).reshape(-1, 2).double() * step + first
    u = u + jitter * torch.randn(u.shape, generator=rng(seed), dtype=torch.float64)
    i = (torch.arange(n)[:, None] * (n + 1) + torch.arange(n)).reshape(-1)
    lower = torch.stack([i, i + 1, i + n + 1], 1)
    upper = torch.stack([i + n + 2, i + n + 1, i + 1], 1)
    return u, torch.cat([lower, upper])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edges_through_pixel_centres_leave_no_holes(backend, dtype):
    """The grids of float edge tests' holes: 81-183 of 874,800 pixels there, none here."""
    pixels = 0
    for k in range(60):
        step = (0.5, 1.0, 2.0, 3.0, 1.5, 5.0)[k % 6]
        first = 1.5 + (0 if k % 2 else 1e-5 * (k - 30))
        u, faces = _grid(int(60 / step), first, step, 1e-6 if k % 3 else 0.0, k)
        z = torch.full((len(u), 1), 5.0, dtype=torch.float64)
        if k % 5 == 0:
            z = z + 0.3 * torch.rand(z.shape, generator=rng(k, 1), dtype=torch.float64)
        camera = CAMERA.crop(24.0, 8.0, 64, 64)
        points = camera.unproject(u) * z
        found = rasterize(points.to(dtype)[None], faces, camera, backend, cull=False)
        inner = found.covered[0, 4:58, 4:58]
        pixels += inner.numel()
        assert inner.all()
    assert pixels > 170_000
