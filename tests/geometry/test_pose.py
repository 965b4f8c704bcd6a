"""Claims about SE(3): group axioms, exponential and logarithm near 0 and near pi, gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featmesh.geometry.pose import Pose, hat, so3_exp, so3_log

D = torch.float64
EYE = torch.eye(3, dtype=D)
number = st.floats(-1, 1, allow_subnormal=False)
vector = st.tuples(number, number, number).map(lambda v: torch.tensor(v, dtype=D))
# rotation angles: anything, hardly any, almost a half turn
angle = st.one_of(
    st.floats(0, math.pi),
    st.sampled_from([0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-4, 1.1e-4]),
    st.sampled_from([0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3]).map(lambda d: math.pi - d),
)
axis = vector.filter(lambda v: float(v.norm()) > 1e-2).map(lambda v: v / v.norm())
twist_free = st.builds(lambda n, a, t: torch.cat([n * a, 3 * t]), axis, angle, vector)
pose = twist_free.map(Pose.exp)


def same(a: Pose, b: Pose, tolerance=1e-12):
    torch.testing.assert_close(a.as_matrix(), b.as_matrix(), atol=tolerance, rtol=0)


@given(vector, vector)
def test_hat_is_the_cross_product(w, x):
    torch.testing.assert_close(hat(w) @ x, torch.linalg.cross(w, x), atol=1e-15, rtol=0)


@given(axis, angle)
def test_exp_is_a_rotation_by_the_angle_about_the_axis(n, a):
    R = so3_exp(n * a)
    torch.testing.assert_close(R @ R.T, EYE, atol=1e-12, rtol=0)
    assert float(torch.linalg.det(R)) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(R @ n, n, atol=1e-12, rtol=0)
    across = torch.linalg.cross(n, EYE[int(n.abs().argmin())])
    across = across / across.norm()
    assert float(across @ R @ across) == pytest.approx(math.cos(a), abs=1e-12)
    assert float(torch.linalg.cross(n, across) @ R @ across) == pytest.approx(
        math.sin(a), abs=1e-12
    )


@settings(max_examples=200)
@given(axis, angle)
def test_log_undoes_exp(n, a):
    w = so3_log(so3_exp(n * a))
    assert float(w.norm()) == pytest.approx(a, abs=2e-8)
    torch.testing.assert_close(so3_exp(w), so3_exp(n * a), atol=2e-8, rtol=0)
    if a < math.pi - 1e-6:  # at a half turn both signs of the axis are right
        torch.testing.assert_close(w, n * a, atol=2e-8, rtol=0)


@pytest.mark.parametrize("k", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_half_turns_about_the_axes(k, sign):
    R = 2 * torch.outer(EYE[k], EYE[k]) - EYE
    w = so3_log(R)
    assert float(w.norm()) == pytest.approx(math.pi, abs=1e-12)
    torch.testing.assert_close(so3_exp(w), R, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        so3_exp(sign * math.pi * EYE[k]), R, atol=1e-12, rtol=0
    )  # known by hand


def test_a_quarter_turn_about_z_takes_x_to_y():
    R = so3_exp(torch.tensor([0.0, 0.0, math.pi / 2], dtype=D))
    torch.testing.assert_close(R @ EYE[0], EYE[1], atol=1e-15, rtol=0)


@given(pose, pose, pose)
def test_group_axioms(a, b, c):
    one = Pose.identity()
    same(a @ one, a)
    same(one @ a, a)
    same(a @ a.inverse(), one)
    same(a.inverse() @ a, one)
    same((a @ b) @ c, a @ (b @ c))
    same((a @ b).inverse(), b.inverse() @ a.inverse())


@given(pose, pose)
def test_a_product_applies_the_right_one_first(a, b):
    points = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0]], dtype=D)
    torch.testing.assert_close((a @ b).apply(points), a.apply(b.apply(points)), atol=1e-12, rtol=0)
    torch.testing.assert_close(a.inverse().apply(a.apply(points)), points, atol=1e-12, rtol=0)


@given(twist_free)
def test_pose_log_undoes_exp(twist):
    same(Pose.exp(Pose.exp(twist).log()), Pose.exp(twist), 2e-8)
    same(Pose.from_matrix(Pose.exp(twist).as_matrix()), Pose.exp(twist), 0)


@given(pose, twist_free)
def test_update_turns_about_the_objects_centre_and_shifts_it(start, twist):
    moved = start.update(twist)
    centre = torch.zeros(1, 3, dtype=D)
    torch.testing.assert_close(moved.apply(centre)[0], start.t + twist[3:], atol=1e-12, rtol=0)
    torch.testing.assert_close(
        moved.R, so3_exp(twist[:3]) @ start.R, atol=1e-12, rtol=0
    )  # camera axes
    same(start.update(torch.zeros(6, dtype=D)), start)


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_are_single_poses_side_by_side(batch, dtype):
    twists = torch.arange(6 * math.prod(batch), dtype=dtype).reshape(*batch, 6).sin()
    other = twists.flip(-1)
    points = torch.arange(12, dtype=dtype).reshape(4, 3).cos().expand(*batch, 4, 3)
    whole = Pose.exp(twists) @ Pose.exp(other).inverse()
    moved = whole.update(other).apply(points)
    assert whole.R.dtype == moved.dtype == dtype
    for i in np.ndindex(*batch):
        alone = Pose.exp(twists[i]) @ Pose.exp(other[i]).inverse()
        torch.testing.assert_close(whole.as_matrix()[i], alone.as_matrix())
        torch.testing.assert_close(whole.log()[i], alone.log())
        torch.testing.assert_close(moved[i], alone.update(other[i]).apply(points[i]))


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-4, 1.001e-4, 1.0, 3.0])
def test_gradients_of_exp(size):
    w = (torch.tensor([0.6, -0.48, 0.64], dtype=D) * size).requires_grad_()
    assert torch.autograd.gradcheck(so3_exp, w, atol=1e-7)


@pytest.mark.parametrize("size", [0.0, 1e-4, 1.0, 3.0])
def test_gradients_of_log_of_exp_are_the_identity(size):
    w = (torch.tensor([0.6, -0.48, 0.64], dtype=D) * size).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda v: so3_log(so3_exp(v)), w)
    torch.testing.assert_close(jacobian, EYE, atol=1e-6, rtol=0)


def test_gradients_of_update_at_zero():
    points = torch.tensor([[0.1, -0.2, 0.3], [0.5, 0.4, -0.6]], dtype=D)
    start = Pose.exp(torch.tensor([0.3, 1.9, 0.4, 0.1, 0.2, 3.0], dtype=D))
    twist = torch.zeros(6, dtype=D, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: start.update(d).apply(points), twist)
