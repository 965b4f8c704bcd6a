"""The pose that made the pixels is found again, whatever it is."""

import math

import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pnp import pnp
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.viewpoint import Viewpoint

CAMERA = Camera(500.0, 480.0, 300.0, 210.0, 400, 640)


def scene(seed: int, count: int, flat: bool = False) -> tuple[torch.Tensor, Pose]:
    """Points of an object of diagonal 1, and a pose before the camera."""
    rng = generator(seed, "pnp")
    points = torch.from_numpy(rng.uniform(-0.5, 0.5, (count, 3)) * [0.4, 0.9, 0.3])
    if flat:
        points[:, 0] = 0.2
    angles = (rng.uniform(0, 2 * math.pi), rng.uniform(-1.2, 1.2), rng.uniform(-3, 3))
    pose = Viewpoint(*angles, rng.uniform(1.2, 5)).to_pose()
    return points, Pose(pose.R, pose.t + torch.from_numpy(rng.uniform(-0.3, 0.3, 3)))


@pytest.mark.parametrize("count", [4, 5, 8])
def test_the_pose_is_found_again(count: int) -> None:
    for seed in range(3):
        points, pose = scene(seed, count)
        pixels, _ = CAMERA.project(pose.apply(points))
        fits = pnp(points, pixels, CAMERA)
        assert fits[0].rms < 1e-4
        # four points may have two exact answers; it is one of them
        assert min(float(geodesic_angle(f.pose.R, pose.R)) for f in fits if f.rms < 0.05) < 1e-4
        assert [f.rms for f in fits] == sorted(f.rms for f in fits)


def test_points_of_a_plane_do() -> None:
    for seed in range(2):
        points, pose = scene(seed, 5, flat=True)
        pixels, _ = CAMERA.project(pose.apply(points))
        best = pnp(points, pixels, CAMERA)[0].pose
        assert float(geodesic_angle(best.R, pose.R)) < 1e-3
        assert torch.allclose(best.t, pose.t, atol=1e-3)


def test_clicks_that_are_a_little_off_move_the_pose_a_little() -> None:
    points, pose = scene(3, 8)
    pixels, _ = CAMERA.project(pose.apply(points))
    off = torch.from_numpy(generator(1, "clicks").normal(0, 1.0, (8, 2)))
    fit = pnp(points, pixels + off, CAMERA)[0]
    assert fit.rms < 2 and float(geodesic_angle(fit.pose.R, pose.R)) < math.radians(6)
    seen = CAMERA.project(fit.pose.apply(points))[0] - pixels - off
    assert fit.rms == pytest.approx(float(seen.square().sum(1).mean().sqrt()))


def test_points_that_say_too_little_are_refused() -> None:
    points, pose = scene(0, 5)
    pixels, _ = CAMERA.project(pose.apply(points))
    with pytest.raises(InputError, match=r"E_KEYPOINTS.*4 or more"):
        pnp(points[:3], pixels[:3], CAMERA)
    with pytest.raises(InputError, match=r"E_KEYPOINTS.*on a line"):
        pnp(torch.outer(torch.arange(5.0), torch.ones(3)), pixels, CAMERA)
    with pytest.raises(InputError, match=r"E_KEYPOINTS.*finite"):
        pnp(points, pixels * math.nan, CAMERA)
