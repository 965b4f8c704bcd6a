"""Metrics with known answers; the pose errors are the golden values of spec 6.4."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featmesh.errors import CheckpointError, InputError
from featmesh.evaluate.metrics import (
    accuracy_at,
    add_error,
    auroc,
    box_iou,
    checked_symmetry,
    mask_iou,
    median_error,
    pose_summary,
    rotation_error,
    symmetric_error,
)
from featmesh.geometry.pose import Pose, so3_exp
from featmesh.geometry.viewpoint import rotation_from_angles

DEGREE = math.pi / 180


def turned(*angles):
    radians = torch.tensor(angles, dtype=torch.float64) * DEGREE
    return rotation_from_angles(*radians.unbind(-1)).numpy()


@pytest.mark.parametrize(
    ("first", "second", "degrees"),
    [
        ((0, 0, 0), (30, 0, 0), 30),
        ((0, 0, 0), (0, 30, 0), 30),
        ((0, 0, 0), (0, 0, 30), 30),
        ((30, 20, 10), (50, 5, -10), 34.49894),
        ((0, 0, 0), (180, 0, 0), 180),
        ((10, 60, 0), (40, 60, 0), 30),
    ],
)
def test_golden_pose_errors(first, second, degrees):
    error = rotation_error(turned(*first), turned(*second))
    assert error / DEGREE == pytest.approx(degrees, abs=5e-6)


def test_thirty_degrees_is_pi_over_six_and_not_below_it():
    R = so3_exp(torch.tensor([0.0, 0.0, math.pi / 6], dtype=torch.float64)).numpy()
    error = rotation_error(np.eye(3), R)
    assert float(error) == pytest.approx(math.pi / 6, abs=1e-15)
    assert accuracy_at(np.array([math.pi / 6]), math.pi / 6) == 0.0


vectors = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@given(vectors, vectors, st.sampled_from([0.0, 1e-12, 1e-7, 1e-3, 1.0, 3.0, math.pi - 1e-7]))
def test_the_error_is_the_angle_turned_by_and_symmetric(axis, base, angle):
    unit = torch.tensor(axis, dtype=torch.float64)
    turn = so3_exp(unit / unit.norm() * angle).numpy()
    R = so3_exp(torch.tensor(base, dtype=torch.float64)).numpy()
    error = rotation_error(R, R @ turn)
    assert float(error) == pytest.approx(angle, abs=2e-15 + 1e-8 * angle)
    assert float(rotation_error(R @ turn, R)) == pytest.approx(float(error), abs=1e-14)


def test_errors_of_a_batch_are_those_of_its_members():
    Rs = np.stack([turned(a, 5, 0) for a in (0, 10, 200)])
    errors = rotation_error(Rs, np.eye(3))
    assert errors.shape == (3,)
    assert errors.tolist() == [float(rotation_error(R, np.eye(3))) for R in Rs]


def test_errors_up_to_turns_that_look_alike():
    def about(axis, degrees):
        vector = torch.zeros(3, dtype=torch.float64)
        vector[axis] = degrees * DEGREE
        return so3_exp(vector).numpy()

    true = about(0, 70) @ about(1, 20)
    found = true @ about(2, 100)
    asked = {1: 100.0, 2: 80.0, 4: 10.0, "any": 0.0}
    for symmetry, degrees in asked.items():
        assert symmetric_error(found, true, symmetry) / DEGREE == pytest.approx(degrees, abs=1e-5)
    tilted = true @ about(0, 12) @ about(2, 33)
    assert symmetric_error(tilted, true, "any") / DEGREE == pytest.approx(12.0, abs=1e-5)
    assert symmetric_error(tilted, true, 1) == rotation_error(tilted, true)


def test_a_symmetry_is_a_number_of_turns_or_any():
    assert [checked_symmetry(value) for value in (1, 4, "any")] == [1, 4, "any"]
    for wrong in (0, -2, True, 2.0, "all", None):
        with pytest.raises(CheckpointError, match="E_CKPT_CONFIG: evaluate: expected the model's"):
            checked_symmetry(wrong)


def test_summary_of_perfect_and_of_one_wrong_in_five():
    perfect = pose_summary(np.zeros(5))
    assert (perfect.acc_30, perfect.acc_10, perfect.acc_5, perfect.median) == (1, 1, 1, 0)
    errors = np.array([1, 4, 7, 20, 90]) * DEGREE
    found = pose_summary(errors)
    assert (found.acc_30, found.acc_10, found.acc_5) == (0.8, 0.6, 0.4)
    assert found.to_json()["median_deg"] == pytest.approx(7)
    assert (found.count, found.failed) == (5, 0)


def test_no_pose_counts_as_180_degrees():
    errors = np.array([2, math.nan, math.nan]) * DEGREE
    found = pose_summary(errors)
    assert (found.count, found.failed) == (3, 2) and found.acc_30 == pytest.approx(1 / 3)
    assert found.median == math.pi == median_error(errors)


def test_nothing_counted_is_null_and_not_zero():
    found = pose_summary(np.zeros(0))
    assert math.isnan(found.median) and found.to_json() == {
        "count": 0,
        "failed": 0,
        "acc_30": None,
        "acc_10": None,
        "acc_5": None,
        "median_deg": None,
    }


def test_add_of_a_shift_and_of_a_half_turn():
    vertices = torch.tensor([[0.5, 0, 0], [-0.5, 0, 0], [0, 0, 3.0]])
    one = Pose.identity()
    shifted = Pose(one.R, torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64))
    assert add_error(one, shifted, vertices) == pytest.approx(5)
    half = Pose.exp(torch.tensor([0, 0, math.pi, 0, 0, 0], dtype=torch.float64))
    assert add_error(one, half, vertices) == pytest.approx(2 / 3)


def test_box_iou():
    assert box_iou((0.0, 0.0, 2.0, 2.0), (0.0, 0.0, 2.0, 2.0)) == 1
    assert box_iou((0.0, 0.0, 2.0, 2.0), (1.0, 0.0, 3.0, 2.0)) == pytest.approx(1 / 3)
    assert box_iou((0.0, 0.0, 1.0, 1.0), (2.0, 2.0, 3.0, 3.0)) == 0
    assert box_iou((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0)) == 0


def test_mask_iou():
    left, top = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert mask_iou(left, top) == 1
    left[:, :2], top[:2] = True, True
    assert mask_iou(left, left) == 1 and mask_iou(left, top) == pytest.approx(4 / 12)
    assert mask_iou(left, ~left) == 0


def test_auroc_with_known_answers():
    positive = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.8, 0.2, 0.1]), positive) == 1
    assert auroc(np.array([0.1, 0.2, 0.8, 0.9]), positive) == 0
    assert auroc(np.array([0.5, 0.5, 0.5, 0.5]), positive) == 0.5
    assert auroc(np.array([0.9, 0.3, 0.5, -math.inf]), positive) == 0.75
    assert math.isnan(auroc(np.array([1.0]), np.array([True])))
    with pytest.raises(InputError, match="without NaN, got 1 of 2"):
        auroc(np.array([math.nan, 1.0]), np.array([True, False]))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(drawn):
    scores = np.array([float(s) for s, _ in drawn])
    positive = np.array([p for _, p in drawn])
    gaps = scores[positive][:, None] - scores[~positive][None]
    if gaps.size:
        expected = np.mean((gaps > 0) + 0.5 * (gaps == 0))
        assert auroc(scores, positive) == pytest.approx(expected)
