"""The filters and clouds that corruptions are made of."""

import math

import numpy as np
import pytest

from featmesh.draws import generator
from featmesh.views.weather import coarse, convolved, enlarged, plasma, smeared, softened


def dot(side: int = 41) -> np.ndarray:
    picture = np.zeros((side, side, 1))
    picture[side // 2, side // 2] = 1
    return picture


def spread_along(picture: np.ndarray, angle: float) -> float:
    """The standard deviation of a spot along a direction, radians from the row axis."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] - picture.shape[0] // 2
    along = x * math.cos(angle) + y * math.sin(angle)
    mass = picture[..., 0]
    return math.sqrt((mass * along**2).sum() / mass.sum())


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, -0.7])
def test_a_smear_lies_along_its_line_about_the_point(angle: float) -> None:
    found = smeared(dot(), angle, 8.0, 6.0)
    assert found.sum() == pytest.approx(1, abs=1e-6)
    assert spread_along(found, angle) > 3.0
    assert spread_along(found, angle + math.pi / 2) < 0.6
    y, x = np.mgrid[:41, :41] - 20
    centre = [(found[..., 0] * axis).sum() for axis in (x, y)]
    assert centre == pytest.approx([0, 0], abs=1e-6)


def test_filters_keep_a_flat_picture() -> None:
    flat = np.full((30, 44, 3), 0.4)
    kernel = np.ones((9, 9)) / 81
    for found in (convolved(flat, kernel), softened(flat, 3.0), smeared(flat, 1.0, 10.0, 5.0)):
        np.testing.assert_allclose(found, flat, atol=1e-9)


def test_clouds_are_rougher_with_a_smaller_decay() -> None:
    rough = []
    for decay in (2.0, 1.4):
        clouds = plasma(generator(0, "clouds"), (60, 90), decay)
        assert clouds.shape == (60, 90) and clouds.min() == 0 and clouds.max() == 1
        rough.append(np.abs(np.diff(clouds, axis=1)).mean())
    assert rough[1] > 1.5 * rough[0]


def test_grids_are_enlarged_to_the_picture() -> None:
    assert coarse((60, 91), 3.0) == (20, 31) and coarse((3, 2), 9.0) == (2, 2)
    ramp = np.linspace(0, 1, 8)[None].repeat(4, 0)
    found = enlarged(ramp, (16, 32))
    assert found.shape == (16, 32) and np.diff(found[8]).min() > -1e-6
