import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featmesh.inference.result import Estimate
from featmesh.present.overlay import feature_rgb, heat_limit, heat_map, overlay

from .samples import found, grey_photo, seen


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((90, 120), (180, 240)), ((600, 800), (600, 800)), ((900, 3000), (300, 1000))],
)
def test_the_longer_side_is_at_most_1000(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    photo = grey_photo(*size)
    assert overlay(photo, found(photo)).shape == (*drawn, 3)


def test_without_a_pose_the_photo_comes_back() -> None:
    assert (overlay(grey_photo(), Estimate("no_object", "car")) == 128).all()
    refused = replace(found(grey_photo()), status="no_object")
    assert (overlay(grey_photo(), refused) == 128).all()


def test_only_the_object_and_its_surroundings_are_drawn_on() -> None:
    photo = grey_photo(600, 800)
    estimate = found(photo)
    x0, y0, x1, y1 = estimate.box or (0, 0, 0, 0)
    changed = (overlay(photo, estimate) != 128).any(-1)
    margin_x, margin_y = (x1 - x0) / 2, (y1 - y0) / 2
    rows, columns = np.nonzero(changed)
    assert columns.min() > x0 - margin_x and columns.max() < x1 + margin_x
    assert rows.min() > y0 - margin_y and rows.max() < y1 + margin_y
    assert changed[int((y0 + y1) / 2), int((x0 + x1) / 2)]


def test_the_front_arrow_lies_on_the_side_of_the_front() -> None:
    photo = grey_photo(600, 800)
    for azimuth, side in ((math.pi / 2, -1), (-math.pi / 2, 1)):  # seen from its left: front left
        picture = overlay(photo, found(photo, seen(azimuth, 0.5))).astype(int)
        yellow = (picture[..., 0] > 200) & (picture[..., 1] > 150) & (picture[..., 2] < 110)
        columns = np.nonzero(yellow)[1]
        assert len(columns) > 100
        assert side * (columns.mean() - 400) > 50


def test_drawing_survives_an_object_around_the_camera() -> None:
    photo = grey_photo()
    assert overlay(photo, found(photo, seen(distance=0.05))).dtype == np.uint8


def test_equal_features_have_equal_colours_and_others_do_not() -> None:
    features = np.zeros((2, 6, 4), dtype=np.float32)
    features[0, :, 0], features[1, :, 1] = 1, 1
    colours = feature_rgb(features)
    assert (colours[0] == colours[0, 0]).all() and (colours[1] == colours[1, 0]).all()
    assert (colours[0, 0] != colours[1, 0]).any()


def test_feature_colours_do_not_depend_on_the_order_of_cells() -> None:
    rows = np.random.default_rng(1).standard_normal((40, 7)).astype(np.float32)
    order = np.random.default_rng(2).permutation(40)
    straight = feature_rgb(rows.reshape(5, 8, 7)).reshape(40, 3).astype(int)
    mixed = feature_rgb(rows[order].reshape(5, 8, 7)).reshape(40, 3).astype(int)
    assert np.abs(straight[order] - mixed).max() <= 1


def test_cells_without_a_finite_feature_are_grey() -> None:
    features = np.random.default_rng(1).standard_normal((3, 3, 2)).astype(np.float32)
    features[0, 0] = np.nan
    assert (feature_rgb(features)[0, 0] == 128).all()
    assert (feature_rgb(np.full((2, 2, 3), np.nan, dtype=np.float32)) == 128).all()


def test_heat_is_red_for_the_object_blue_for_clutter_grey_outside() -> None:
    picture = heat_map(np.array([[0.5, -0.5, 0.0, np.nan]], dtype=np.float32), 0.5)[0].astype(int)
    assert picture[0, 0] > picture[0, 2] and picture[1, 2] > picture[1, 0]
    assert picture[2].min() > 240 and len(set(picture[3].tolist())) == 1


@settings(max_examples=30, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2))
def test_more_score_is_never_less_red(a: float, b: float) -> None:
    low, high = sorted((a, b))
    picture = heat_map(np.array([[low, high]], dtype=np.float32), 1.0)[0].astype(int)
    assert picture[1, 0] - picture[1, 2] >= picture[0, 0] - picture[0, 2]


def test_the_limit_is_positive_whatever_the_scores() -> None:
    assert heat_limit(np.full((2, 2), np.nan, dtype=np.float32)) == 1.0
    assert heat_limit(np.zeros((2, 2), dtype=np.float32)) > 0
    assert heat_limit(np.array([[-0.5, 0.5]], dtype=np.float32)) == pytest.approx(0.5)
