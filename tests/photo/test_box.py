"""Fault 46: a box is clipped with a flag or refused with its numbers and the photo's size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import STORED, colours, exif, save

from featmesh.errors import InputError
from featmesh.geometry.crop import Crop, check_box
from featmesh.photo.read import read_photo
from featmesh.photo.resize import resample

side = st.integers(16, 5000)
edge = st.floats(-1e4, 1e4)


@given(st.tuples(edge, edge, edge, edge), side, side)
def test_any_box_is_clipped_or_refused(box, height, width):
    try:
        (x0, y0, x1, y1), changed = check_box(box, height, width)
    except InputError as error:
        assert error.code == "E_BOX"
        assert f"{width}x{height}" in str(error) and str(box) in str(error)
        seen = min(box[2], width) - max(box[0], 0), min(box[3], height) - max(box[1], 0)
        assert min(seen) < 1  # at least a pixel of every other box lies in the photo
    else:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert changed == ((x0, y0, x1, y1) != box)
        again, still = check_box((x0, y0, x1, y1), height, width)
        assert again == (x0, y0, x1, y1) and not still


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_box_that_is_not_finite(k, value):
    box = [1.0, 1.0, 30.0, 30.0]
    box[k] = value
    with pytest.raises(InputError, match="four finite numbers") as caught:
        check_box(tuple(box), 40, 60)
    assert caught.value.code == "E_BOX"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_means_displayed_pixels_in_every_orientation(tmp_path, orientation):
    pixels = np.ascontiguousarray(STORED[orientation](colours(40, 60)))
    photo = read_photo(save(tmp_path, "p.png", pixels, exif=exif(orientation)))
    box, changed = check_box((40.0, 5.0, 70.0, 35.0), photo.height, photo.width)
    assert changed and box == (40.0, 5.0, 60.0, 35.0)
    seen, valid = resample(photo, Crop.from_box(photo.camera_or_assumed, box, (30, 20), fill=1.0))
    assert valid[15, 10] and np.abs(seen[15, 10].astype(int) - colours(40, 60)[20, 50]).max() < 8
