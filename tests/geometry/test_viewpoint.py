"""Claims about the benchmark's angles: golden values of spec 6.4, the poles, the flip rule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose, so3_log
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.viewpoint import (
    Viewpoint,
    angles_from_rotation,
    ray_rotation,
    rotation_from_angles,
)

D = torch.float64
CAMERA = Camera(3000.0, 3000.0, 400.0, 320.0, 640, 800)
POINTS = torch.tensor(
    [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1], [0.2, -0.3, 0.15]], dtype=D
)
# (azimuth, elevation, theta in degrees, distance), rows of R, pixels of POINTS
GOLDEN = [
    (
        (0, 0, 0, 5),
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[400, 320], [460, 320], [400, 320], [400, 260], [527.6596, 224.2553]],
    ),
    (
        (90, 0, 0, 5),
        [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],
        [[400, 320], [400, 320], [460, 320], [400, 260], [212.5, 226.25]],
    ),
    (
        (30, 20, 10, 5),
        [
            [0.882564, 0.44097, -0.163176],
            [0.018028, -0.378522, -0.925417],
            [-0.469846, 0.813798, -0.34202],
        ],
        [
            [400, 320],
            [453.4562, 321.092],
            [426.0344, 297.6524],
            [390.142, 264.0926],
            [412.848, 305.9128],
        ],
    ),
    (
        (210, -15, -25, 3.5),
        [
            [-0.839576, -0.358427, 0.408218],
            [-0.248713, -0.414452, -0.875426],
            [0.482963, -0.836516, 0.258819],
        ],
        [
            [400, 320],
            [329.0158, 298.9719],
            [368.5255, 283.6057],
            [434.7333, 245.5143],
            [400.6526, 276.2156],
        ],
    ),
]
degrees = st.tuples(st.floats(0, 359.99), st.floats(-89, 89), st.floats(-179, 179))


def viewpoint(azimuth, elevation, theta=0.0, distance=5.0):
    return Viewpoint(
        math.radians(azimuth), math.radians(elevation), math.radians(theta), float(distance)
    )


def in_degrees(R):
    return angles_from_rotation(R).rad2deg().tolist()


def turned(a, b):
    """The smaller angle between two directions of the compass, degrees."""
    return abs((a - b + 180) % 360 - 180)


@pytest.mark.parametrize(("angles", "rows", "pixels"), GOLDEN)
def test_golden_poses(angles, rows, pixels):
    pose = viewpoint(*angles).to_pose()
    torch.testing.assert_close(pose.R, torch.tensor(rows, dtype=D), atol=6e-7, rtol=0)
    assert pose.t.tolist() == [0, 0, angles[3]]
    found = CAMERA.project(pose.apply(POINTS))[0]
    torch.testing.assert_close(found, torch.tensor(pixels, dtype=D), atol=6e-5, rtol=0)


@given(degrees)
def test_the_camera_stands_where_the_formula_says(angles):
    """C = d (cos e sin a, -cos e cos a, sin e), spec 2.2."""
    a, e, _ = (math.radians(v) for v in angles)
    pose = viewpoint(*angles, distance=2.5).to_pose()
    centre = pose.inverse().apply(torch.zeros(1, 3, dtype=D))[0]
    wanted = [math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)]
    torch.testing.assert_close(centre, 2.5 * torch.tensor(wanted, dtype=D), atol=1e-12, rtol=0)


@given(degrees)
def test_angles_come_back(angles):
    found = Viewpoint.from_pose(viewpoint(*angles, distance=3.25).to_pose())
    assert turned(math.degrees(found.azimuth), angles[0]) < 1e-9
    assert math.degrees(found.elevation) == pytest.approx(angles[1], abs=1e-9)
    assert math.degrees(found.theta) == pytest.approx(angles[2], abs=1e-9)
    assert found.distance == pytest.approx(3.25)
    assert 0 <= found.azimuth < 2 * math.pi


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, 270.0])
@pytest.mark.parametrize("elevation", [-89.9, -45.0, 0.0, 89.9])
@pytest.mark.parametrize("theta", [0.0, 90.0, -90.0])
def test_right_angles_and_steep_views_come_back(azimuth, elevation, theta):
    found = in_degrees(viewpoint(azimuth, elevation, theta).to_pose().R)
    assert turned(found[0], azimuth) < 1e-9
    assert found[1:] == [pytest.approx(elevation, abs=1e-9), pytest.approx(theta, abs=1e-9)]


def test_exactly_behind_is_180_degrees():
    R = torch.tensor([[-1, 0, 0], [0, 0, -1], [0, -1, 0]], dtype=D)
    assert in_degrees(R) == [180.0, 0.0, pytest.approx(0.0, abs=1e-12)]


@pytest.mark.parametrize("azimuth", [-1e-17, -1e-12, 0.0, 1e-17, 2 * math.pi])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_full_turn_is_none(azimuth, dtype):
    R = rotation_from_angles(*torch.tensor([azimuth, 0.1, 0.0], dtype=dtype).unbind(0))
    assert 0 <= float(angles_from_rotation(R)[0]) < float(torch.tensor(2 * math.pi, dtype=dtype))


@pytest.mark.parametrize("elevation", [90.0, -90.0])
@pytest.mark.parametrize("azimuth", [0.0, 40.0, 180.0, 300.0])
@pytest.mark.parametrize("theta", [0.0, 25.0])
def test_straight_above_and_below_the_rotation_comes_back(azimuth, elevation, theta):
    R = viewpoint(azimuth, elevation, theta).to_pose().R
    angles = angles_from_rotation(R)
    assert float(angles[2]) == pytest.approx(0, abs=1e-9)
    again = rotation_from_angles(*angles.unbind(-1))
    assert float(geodesic_angle(R, again)) < 1e-7


@given(degrees, st.floats(100, 700))
def test_mirrored_photo(angles, px):
    """(a, e, theta, px) -> (-a, e, -theta, W - px) with the shape mirrored in x."""
    a, e, theta = angles
    camera = Camera(1000.0, 1000.0, px, 320.0, 640, 800)
    mirrored = Camera(1000.0, 1000.0, 800 - px, 320.0, 640, 800)
    seen = camera.project(viewpoint(a, e, theta).to_pose().apply(POINTS))[0]
    other = POINTS * torch.tensor([-1.0, 1.0, 1.0], dtype=D)
    flipped = mirrored.project(viewpoint(-a, e, -theta).to_pose().apply(other))[0]
    torch.testing.assert_close(flipped[:, 0], 800 - seen[:, 0], atol=1e-9, rtol=0)
    torch.testing.assert_close(flipped[:, 1], seen[:, 1], atol=1e-9, rtol=0)


@given(degrees, degrees)
def test_batches_are_single_rotations_side_by_side(one, two):
    both = torch.tensor([one, two], dtype=D).deg2rad()
    R = rotation_from_angles(*both.unbind(-1))
    for row, angles in zip(R, (one, two), strict=True):
        torch.testing.assert_close(row, viewpoint(*angles).to_pose().R)
    torch.testing.assert_close(angles_from_rotation(R)[1], angles_from_rotation(R[1]))


rays = st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 3)).map(
    lambda r: torch.tensor(r, dtype=D)
)


@given(rays.filter(lambda r: float(r.norm()) > 0.1 and float(r[2] / r.norm()) > -0.99))
def test_ray_rotation_is_the_smallest_that_takes_the_ray_to_z(ray):
    Q = ray_rotation(ray)
    r = ray / ray.norm()
    z = torch.tensor([0.0, 0.0, 1.0], dtype=D)
    torch.testing.assert_close(Q @ r, z, atol=1e-12, rtol=0)
    torch.testing.assert_close(Q @ Q.T, torch.eye(3, dtype=D), atol=1e-12, rtol=0)
    assert float(torch.linalg.det(Q)) > 0
    # no rotation does it with less than the angle between them
    between = math.atan2(float(torch.linalg.cross(r, z).norm()), float(r[2]))
    assert float(so3_log(Q).norm()) == pytest.approx(between, abs=1e-7)


def test_ray_rotation_of_the_axis_is_nothing():
    z = torch.tensor([[0.0, 0.0, 2.0], [1e-9, 0.0, 1.0]], dtype=D)
    torch.testing.assert_close(ray_rotation(z)[0], torch.eye(3, dtype=D), atol=0, rtol=0)
    torch.testing.assert_close(ray_rotation(z)[1], torch.eye(3, dtype=D), atol=2e-9, rtol=0)


@given(degrees, rays.filter(lambda r: float(r[2]) > 0.3))
def test_the_viewpoint_is_that_along_the_ray_to_the_object(angles, t):
    """Turning the camera about its own centre changes neither angles nor distance but theta."""
    a, e, _ = angles
    upright = viewpoint(a, e, distance=float(t.norm())).to_pose()
    turned_away = Pose(ray_rotation(t).T, torch.zeros(3, dtype=D)) @ upright
    torch.testing.assert_close(turned_away.t, t, atol=1e-12, rtol=0)
    found = Viewpoint.from_pose(turned_away)
    assert turned(math.degrees(found.azimuth), a) < 1e-7
    assert math.degrees(found.elevation) == pytest.approx(e, abs=1e-9)
    assert found.theta == pytest.approx(0, abs=1e-9)
    assert found.distance == pytest.approx(float(t.norm()))
