"""Occluders hide what their level says, and the same key gives the same occluders."""

import numpy as np
import pytest

from featmesh.errors import InputError
from featmesh.views.occlude import LEVELS, occlude

PHOTO = np.full((120, 200, 3), 250, np.uint8)
PICTURES = [np.full((30, 40, 3), k, np.uint8) for k in (20, 90)]


def disc():
    y, x = np.mgrid[:120, :200]
    return ((x - 90) / 60) ** 2 + ((y - 60) / 35) ** 2 < 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("thing", [disc(), (30.0, 25.0, 150.0, 95.0), (2.0, 2.0, 190.0, 112.0)])
def test_shares_of_object_and_context_lie_in_the_level(level, thing):
    if isinstance(thing, tuple):
        x0, y0, x1, y1 = (int(a) for a in thing)
        mask = np.zeros((120, 200), bool)
        mask[y0:y1, x0:x1] = True
    else:
        mask = thing
    (low, high), (context_low, context_high) = LEVELS[level]
    for index in range(12):
        _, hidden = occlude(PHOTO, thing, level, 3, index, PICTURES)
        assert low <= (hidden & mask).sum() / mask.sum() <= high
        assert context_low <= (hidden & ~mask).sum() / (~mask).sum() <= context_high


def test_only_hidden_pixels_change_and_show_the_pictures():
    pixels, hidden = occlude(PHOTO, disc(), "L2", 0, 5, PICTURES)
    np.testing.assert_array_equal(pixels[~hidden], PHOTO[~hidden])
    assert set(np.unique(pixels[hidden])) <= {20, 90}
    assert (PHOTO == 250).all()


def test_without_pictures_occluders_are_grey():
    pixels, hidden = occlude(PHOTO, disc(), "L1", 0, 0, [])
    assert (pixels[hidden] != 250).any()


def test_the_key_decides():
    first = occlude(PHOTO, disc(), "L1", 1, 2, PICTURES)
    occlude(PHOTO, disc(), "L3", 9, 9, PICTURES)
    again = occlude(PHOTO, disc(), "L1", 1, 2, PICTURES)
    other = occlude(PHOTO, disc(), "L1", 1, 3, PICTURES)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


def test_wrong_level_and_empty_object_are_named():
    with pytest.raises(InputError, match=r"E_LEVEL: occlude: .*L1, L2, L3.*got 'L9'"):
        occlude(PHOTO, disc(), "L9", 0, 0, PICTURES)
    with pytest.raises(InputError, match=r"E_BOX: .*200 x 120"):
        occlude(PHOTO, (300.0, 10.0, 320.0, 20.0), "L1", 0, 0, PICTURES)
