"""Angles between rotations up to pi, and the rotation nearest to a matrix."""

import math

import pytest
import torch

from featmesh.geometry.pose import so3_exp
from featmesh.geometry.rotations import geodesic_angle, procrustes


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-9, math.pi])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_angle_turned_by(angle, dtype):
    axis = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    R = so3_exp(axis * angle).to(dtype)
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    assert float(geodesic_angle(torch.eye(3, dtype=dtype), R)) == pytest.approx(
        angle, abs=tolerance
    )


def test_one_against_many():
    angles = torch.linspace(0, 3, 7, dtype=torch.float64)
    Rs = so3_exp(angles[:, None] * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    one = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(geodesic_angle(one, Rs), angles)
    assert geodesic_angle(Rs[:, None], Rs[None]).shape == (7, 7)


@pytest.mark.parametrize("batch", [(), (2,), (1, 3)])
def test_procrustes_is_proper_and_nearest(batch):
    rng = torch.Generator().manual_seed(0)
    M = torch.randn(*batch, 3, 3, generator=rng, dtype=torch.float64)
    R = procrustes(M)
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(R @ R.transpose(-1, -2), eye.expand_as(R), atol=1e-12)
    assert torch.allclose(torch.det(R), torch.ones(batch, dtype=torch.float64))
    best = (R - M).square().sum((-1, -2))
    for _ in range(50):
        nudge = so3_exp(0.1 * torch.randn(*batch, 3, generator=rng, dtype=torch.float64))
        assert bool(((nudge @ R - M).square().sum((-1, -2)) >= best).all())


def test_procrustes_keeps_a_rotation():
    R = so3_exp(torch.tensor([0.3, -2.0, 0.5], dtype=torch.float64))
    assert torch.allclose(procrustes(R), R) and torch.allclose(procrustes(3 * R), R)
