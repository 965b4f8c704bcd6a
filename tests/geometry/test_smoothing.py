"""Smoothing on SO(3): exact on steady motion, less noise on a noisy one, no lag from two sides."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featmesh.draws import generator
from featmesh.geometry.pose import Pose, so3_exp
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.smoothing import Motion, moved, offset, smooth_poses

STEP = torch.tensor([0.05, -0.08, 0.03, 0.004, -0.003, 0.01], dtype=torch.float64)
START = Pose(
    so3_exp(torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)),
    torch.tensor([0.3, -0.2, 3.0], dtype=torch.float64),
)


def steady(count: int) -> list[Pose]:
    """A pose that turns about one axis of the camera and moves at one speed."""
    poses = [START]
    for _ in range(count - 1):
        poses.append(moved(poses[-1], STEP))
    return poses


def noisy(poses: list[Pose], degrees: float, seed: int = 0) -> list[Pose]:
    rng = generator(seed, "noise")
    sizes = torch.tensor([math.radians(degrees)] * 3 + [0.002, 0.002, 0.02], dtype=torch.float64)
    return [moved(p, torch.from_numpy(rng.normal(size=6)) * sizes) for p in poses]


def errors(found: list[Pose], true: list[Pose]) -> list[float]:
    return [math.degrees(float(geodesic_angle(a.R, b.R))) for a, b in zip(found, true, strict=True)]


def filtered(poses: list[Pose], smoothing: float) -> list[Pose]:
    motion, found = Motion.at(poses[0]), [poses[0]]
    for pose in poses[1:]:
        motion = motion.corrected(pose, smoothing)
        found.append(motion.pose)
    return found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1.7, 1.7), min_size=6, max_size=6), st.sampled_from([1.0, 1e-7]))
def test_a_step_leads_from_one_pose_to_the_other(values: list[float], size: float) -> None:
    step = size * torch.tensor(values, dtype=torch.float64)
    end = moved(START, step)
    assert torch.allclose(offset(START, end), step, atol=1e-9)
    again = moved(START, offset(START, end))
    assert torch.allclose(again.R, end.R, atol=1e-9) and torch.allclose(again.t, end.t, atol=1e-9)


def test_a_steady_motion_is_left_as_it_is_and_predicted() -> None:
    poses = steady(20)
    assert max(errors(filtered(poses, 0.6), poses)) < 1e-5
    motion = Motion.at(poses[0])
    for pose in poses[1:-1]:
        motion = motion.corrected(pose, 0.6)
    assert errors([motion.predicted()], [poses[-1]])[0] < 1e-5
    assert motion.count == 19


def test_without_smoothing_the_measured_pose_comes_back() -> None:
    poses = noisy(steady(12), 5)
    assert max(errors(filtered(poses, 0.0), poses)) < 1e-5


def test_the_filter_takes_noise_away_and_the_two_sided_pass_takes_more() -> None:
    true = steady(60)
    measured = noisy(true, 3)
    both = smooth_poses(measured, range(60), [1.0] * 60, 3.0)
    answers = (measured, filtered(measured, 0.7), both)
    raw, causal, two = (sum(errors(answer, true)) / 60 for answer in answers)
    assert causal < 0.8 * raw and two < 0.6 * raw


def test_two_sides_have_no_lag_and_gaps_do_not_matter() -> None:
    true = steady(30)
    frames = [k for k in range(30) if k not in (9, 10, 11)]
    kept = [true[k] for k in frames]
    assert max(errors(smooth_poses(kept, frames, [1.0] * 27, 2.0), kept)) < 0.05


def test_an_outlier_is_pulled_back_and_harms_its_neighbours_little() -> None:
    true = steady(30)
    measured = noisy(true, 0.5)
    measured[15] = moved(true[15], torch.tensor([0.9, 0, 0, 0, 0, 0], dtype=torch.float64))
    found = errors(smooth_poses(measured, range(30), [1.0] * 30, 2.0), true)
    assert found[15] < 6 and max(found[:15] + found[16:]) < 4


def test_little_trust_counts_little() -> None:
    turned = moved(START, torch.tensor([0.5, 0, 0, 0, 0, 0], dtype=torch.float64))
    motion = Motion.at(START)
    for _ in range(5):
        motion = motion.corrected(START, 0.5)
    heard, ignored = (motion.corrected(turned, 0.5, trust).pose for trust in (1.0, 0.1))
    assert errors([ignored], [START])[0] < 0.2 * errors([heard], [START])[0]


def test_unseen_motion_slows_down() -> None:
    motion = Motion(START, STEP)
    for _ in range(40):
        motion = motion.coasted()
    assert float(motion.speed.norm()) < 1e-5
    assert errors([motion.pose], [START])[0] < 4 * math.degrees(float(STEP[:3].norm()))


@pytest.mark.parametrize(("count", "width"), [(2, 2.0), (10, 0.0)])
def test_what_cannot_be_smoothed_comes_back(count: int, width: float) -> None:
    poses = steady(count)
    assert smooth_poses(poses, range(count), [1.0] * count, width) == poses
