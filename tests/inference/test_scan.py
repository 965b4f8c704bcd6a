"""Claims about the coarse search: looked-up scores are the real ones, and the right pose wins."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import CELLS, CHANNELS, car_mesh, car_model, cells_of, look
from torch.nn import functional

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.config import ScanConfig
from featmesh.inference.scan import build_table, gain_matrix, place, rotation_grid, scan
from featmesh.inference.tables import pose_table
from featmesh.model.category import FeatureMap
from featmesh.render.rasterize import rasterize

SMALL = ScanConfig(
    azimuths=8,
    elevations=(0.0, 20.0),
    thetas=(0.0,),
    distances=(2.2, 6.0),
    scales=(1.0,),
    pool=1,
    starts=32,
    apart=0.0,
)
SIZE = (28, 42)


@pytest.fixture(scope="module")
def small_table():
    return build_table(car_mesh(), SIZE, SMALL)


def random_cells(seed=0, valid=None):
    rng = generator(seed, "cells")
    features = functional.normalize(torch.from_numpy(rng.normal(size=(*SIZE, CHANNELS))), dim=-1)
    clutter = torch.from_numpy(rng.uniform(-0.3, 0.3, SIZE)).float()
    valid = torch.ones(SIZE, dtype=torch.bool) if valid is None else valid
    return FeatureMap(features.float(), clutter, valid, CELLS)


def direct_score(cells, R, t, log_zoom):
    """Render the pose, take each cell's nearest corner of the face seen, and sum its gains."""
    model = car_model()
    mesh, camera = model.template, cells.camera.zoom(math.exp(log_zoom))
    points = mesh.vertices @ torch.from_numpy(R).T + torch.from_numpy(t)
    face = rasterize(points[None], mesh.faces, camera, backend="torch").face_id[0]
    pixels, _ = camera.project(points)
    total = 0.0
    for y, x in (face >= 0).nonzero().tolist():
        if not cells.valid[y, x]:
            continue
        corners = mesh.faces[face[y, x]]
        middle = torch.tensor([x + 0.5, y + 0.5], dtype=torch.float64)
        nearest = corners[(pixels[corners] - middle).norm(dim=1).argmin()]
        s = float(cells.features[y, x] @ model.texture[nearest])
        c = float(cells.clutter[y, x])
        total += max(s, c) - max(0.0, c)
    return total / int(cells.valid.sum())


@pytest.mark.parametrize("half", [False, True], ids=["whole photo", "half of it outside"])
def test_looked_up_scores_are_those_of_rendering(small_table, half):
    valid = torch.ones(SIZE, dtype=torch.bool)
    valid[:, 21 if half else 42 :] = False
    cells = random_cells(valid=valid)
    found = scan(cells, car_model(), small_table, SMALL, False)
    assert len(found.R) == 32
    for k in range(0, 32, 3):
        wanted = direct_score(cells, found.R[k], found.t[k], found.log_zoom[k])
        assert found.score[k] == pytest.approx(wanted, abs=1e-4)
    assert bool((np.diff(found.score) <= 0).all())


def test_the_table_lays_each_pose_into_the_crop_as_a_box_is(small_table):
    vertices = car_mesh().vertices.numpy()
    for R, t, focal in zip(small_table.R, small_table.t, small_table.focal, strict=True):
        points = vertices @ R.T + t
        flat = points[:, :2] / points[:, 2:] * focal + [21, 14]
        low, high = flat.min(0), flat.max(0)
        np.testing.assert_allclose((low + high) / 2, [21, 14], atol=0.1)
        assert max((high - low) / [42, 28]) == pytest.approx(FILL, rel=2e-2)


def test_place_is_exact_for_a_point_symmetric_shape():
    t, focal = place(
        np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.1, 0], [0, -0.1, 0]]), np.eye(3), 2.0, SIZE
    )
    np.testing.assert_allclose(t, [0, 0, 2], atol=1e-12)
    assert focal == pytest.approx(42 / 0.5)


def test_the_grid_is_every_combination():
    R = torch.from_numpy(rotation_grid(4, (0.0, 30.0), (-10.0, 10.0)))
    assert len(R) == 16
    wanted = [look(a, e, h).R for a in (0, 90, 180, 270) for e in (0, 30) for h in (-10, 10)]
    torch.testing.assert_close(R, torch.stack(wanted), atol=1e-12, rtol=0)


def into_crop(azimuth, elevation, theta, distance):
    """The pose and camera of cells in which the car lies as its box is laid into a crop."""
    R = look(azimuth, elevation, theta).R
    t, focal = place(car_mesh().vertices.numpy(), R.numpy(), distance, SIZE)
    pose = replace(look(0), R=R, t=torch.from_numpy(t))
    return pose, Camera(FILL * focal, FILL * focal, 21.0, 14.0, 28, 42)


VIEWS = [(3, 5, 0, 2.0), (47, 14, 4, 3.0), (95, 22, -5, 2.4), (181, -4, 0, 4.0), (303, 33, 6, 6.0)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("known", [True, False])
def test_the_neighbourhood_of_the_true_pose_wins(view, known):
    config = ScanConfig()
    pose, camera = into_crop(*view)
    cells = cells_of(pose, camera, noise=0.6, seed=view[0])
    found = scan(cells, car_model(), pose_table(car_model(), config), config, known)
    angle = math.degrees(float(geodesic_angle(torch.from_numpy(found.R[0]), pose.R)))
    assert angle < 14  # grid steps: 10, 12 to 19, and 14 degrees
    if known:
        assert found.t[0, 2] == pytest.approx(float(pose.t[2]), rel=0.25)


@pytest.mark.parametrize("known", [True, False])
def test_starts_lie_apart(known):
    config = ScanConfig()
    table = pose_table(car_model(), config)
    found = scan(random_cells(), car_model(), table, config, known)
    R = torch.from_numpy(found.R)
    assert len(R) == config.starts
    angles = geodesic_angle(R[:, None], R[None]) + 10 * torch.eye(len(R))
    assert math.degrees(float(angles.min())) >= config.apart - 1e-6
    assert bool((np.diff(found.score) <= 0).all())


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_with_a_known_camera_the_size_in_the_map_is_kept(small_table, factor):
    """Farther by as much as the lens is longer; the focal length is not part of the answer."""
    camera = CELLS.zoom(factor)
    cells = replace(random_cells(), camera=camera)
    found = scan(cells, car_model(), small_table, replace(SMALL, starts=8), True)
    assert found.log_zoom.tolist() == [0.0] * 8
    for R, t in zip(found.R, found.t, strict=True):
        centre = t[:2] / t[2] * camera.fx
        same = [k for k in range(len(small_table.R)) if np.allclose(small_table.R[k], R)]
        sizes = [small_table.focal[k] / small_table.t[k, 2] for k in same]
        assert min(abs(camera.fx / t[2] / s - 1) for s in sizes) < 1e-6
        assert np.abs(centre).max() < 12


def test_with_a_known_camera_the_nearest_perspective_is_taken(small_table):
    for distance in (2.2, 6.0):
        focal = float(np.median(small_table.focal[np.isclose(small_table.t[:, 2], distance)]))
        cells = replace(random_cells(), camera=CELLS.zoom(focal / CELLS.fx))
        found = scan(cells, car_model(), small_table, replace(SMALL, starts=8), True)
        near = np.abs(np.log(found.t[:, 2] / distance))
        assert np.median(near) < 0.3


def test_random_starts_belong_to_their_seed(small_table):
    def drawn(seed):
        config = replace(SMALL, start="random", seed=seed, starts=6)
        return scan(random_cells(), car_model(), small_table, config, False)

    one, again, other = drawn(0), drawn(0), drawn(1)
    assert np.array_equal(one.R, again.R) and np.array_equal(one.t, again.t)
    assert not np.array_equal(one.R, other.R)
    assert len(one.R) == 6


def test_cells_outside_the_photo_gain_nothing():
    valid = torch.ones(SIZE, dtype=torch.bool)
    valid[:14] = False
    whole, part = random_cells(), random_cells(valid=valid)
    model = car_model()
    one, two = (gain_matrix(c, model.texture, 1) for c in (whole, part))
    assert bool((two[: 14 * 42] == 0).all())
    np.testing.assert_array_equal(two[14 * 42 :], one[14 * 42 :])
    assert gain_matrix(part, model.texture, 2).shape == (14 * 21, len(model.texture))


def test_pooling_averages_the_cells_inside_the_photo():
    valid = torch.ones(SIZE, dtype=torch.bool)
    valid[0, 0] = False
    cells = random_cells(valid=valid)
    model = car_model()
    gain = gain_matrix(cells, model.texture, 2)[0]  # the block of the corner: three cells
    inside = [(0, 1), (1, 0), (1, 1)]
    mean = torch.stack([cells.features[p] for p in inside]).mean(0)
    c = torch.stack([cells.clutter[p] for p in inside]).mean()
    wanted = (torch.maximum(model.texture @ mean, c) - c.clamp_min(0)) * 3 / 4
    np.testing.assert_allclose(gain, wanted.numpy(), atol=1e-6)
