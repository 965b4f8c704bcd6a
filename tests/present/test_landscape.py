"""The picture of a landscape: bright is low, ends are where they are, round the full turn."""

import numpy as np
import pytest

from featmesh.present.landscape import (
    END,
    LEFT,
    RAMP,
    SCALE,
    START,
    TOP,
    Landscape,
    curve,
    heat_colours,
    landscape_picture,
)


def sample() -> Landscape:
    """One valley at azimuth 350, elevation 10; the path crosses the front."""
    azimuths, elevations = np.radians(np.arange(0, 360, 10.0)), np.radians(np.arange(-30, 80, 10.0))
    a, e = np.meshgrid(azimuths, elevations)
    held = -np.cos(a - np.radians(350)) * np.cos(e - np.radians(10))
    path = np.radians([[20.0, 40.0], [5.0, 25.0], [350.0, 10.0]])
    starts = np.radians([[20.0, 40.0], [120.0, 0.0]])
    stages = ("adam", "adam", "polish")
    energy = np.array([-0.2, -0.6, -0.9])
    return Landscape(azimuths, elevations, held, held - 0.1, path, energy, stages, starts)


def at(landscape: Landscape, azimuth: float, elevation: float) -> tuple[int, int]:
    """Return row and column of a view in the picture."""
    high = np.degrees(landscape.elevations[-1]) + 5
    return round(TOP + (high - elevation) * SCALE), round(LEFT + azimuth * SCALE)


def test_ends_are_marked_where_they_are() -> None:
    picture = landscape_picture(sample())
    assert tuple(picture[at(sample(), 20, 40)]) == START
    assert tuple(picture[at(sample(), 350, 10)]) == END


def test_low_is_bright_and_the_path_leaves_no_line_across() -> None:
    picture = landscape_picture(sample(), "held").astype(int)
    row, low = at(sample(), 335, 10)
    far = at(sample(), 160, -20)
    assert picture[row, low].sum() > picture[far].sum() + 200
    # from azimuth 5 to 350 is 15 degrees across the front, not 345 the other way
    between = picture[at(sample(), 180, 17)[0], LEFT + 300 : LEFT + 600]
    assert (between < 250).any(-1).all()


def test_colours_end_at_the_ramp() -> None:
    shown = heat_colours(np.array([[0.0, -0.5, -1.0]]))
    assert tuple(shown[0, 0]) == RAMP[0] and tuple(shown[0, 2]) == RAMP[-1]
    assert tuple(heat_colours(np.zeros((1, 1)))[0, 0]) == RAMP[0]


def test_valleys_are_found_across_the_border() -> None:
    assert sample().valleys() == [(350.0, 10.0, pytest.approx(-1.1, abs=1e-5))]


def test_the_curve_tells_every_step() -> None:
    drawn = curve(sample())
    assert drawn.count("<circle") == 3 and "step 2 (polish): -0.9000" in drawn
    assert drawn.count("<path") == 2
