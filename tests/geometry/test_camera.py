"""Claims about the pinhole camera: what it refuses, and that pixels and camera stay in step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera

D = torch.float64
CAMERA = Camera(500.0, 480.0, 310.0, 250.0, 480, 640)
K = CAMERA.K

points_in_front = st.lists(
    st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 20)), min_size=1, max_size=5
).map(lambda rows: torch.tensor(rows, dtype=D))
pixels = st.lists(st.tuples(st.floats(-100, 800), st.floats(-100, 800)), min_size=1).map(
    lambda rows: torch.tensor(rows, dtype=D)
)


def changed(i, j, value):
    wrong = K.clone()
    wrong[i, j] = value
    return wrong


@pytest.mark.parametrize(
    ("i", "j", "value", "words"),
    [
        (0, 0, math.nan, "a finite fx, got nan"),
        (1, 2, math.inf, "a finite cy, got inf"),
        (2, 2, math.nan, r"a finite K\[2,2\]"),
        (0, 1, 3.0, "K without skew, last row 0 0 1"),
        (1, 0, 0.1, "K without skew"),
        (2, 1, 1.0, "last row 0 0 1"),
        (2, 2, 2.0, r"K\[2,2\] = 1, got 2.0; try: divide K by its last entry"),
        (0, 0, -500.0, "fx between .* got -500"),
        (0, 0, 28.0, r"fx between .* longer side \(640 px\), got 28; try: .* not millimetres"),
        (1, 1, 1e6, "fy between"),
        (0, 2, -641.0, r"cx within one picture of the picture \(side 640 px\), got -641"),
        (1, 2, 961.0, r"cy within .* \(side 480 px\), got 961"),
    ],
)
def test_no_such_lens(i, j, value, words):
    with pytest.raises(InputError, match=f"E_CAMERA: camera: expected .*{words}") as raised:
        Camera.from_K(changed(i, j, value), (480, 640))
    assert raised.value.code == "E_CAMERA"
    assert "; try: " in str(raised.value)


@pytest.mark.parametrize("horizontal", [0.0, math.pi, -1.0, math.nan])
def test_no_such_field_of_view(horizontal):
    with pytest.raises(InputError, match=r"inside \(0, 180\) degrees, got .*on the command line"):
        Camera.from_fov(horizontal, (480, 640))


def test_a_field_of_view_spans_the_picture_from_left_to_right():
    camera = Camera.from_fov(math.radians(60), (480, 640))
    assert camera.fx == camera.fy == pytest.approx(320 * math.sqrt(3))
    edges = torch.tensor([[0.0, 240.0], [640.0, 240.0]], dtype=D)
    left, right = camera.unproject(edges)
    assert math.degrees(math.atan2(right[0], right[2]) - math.atan2(left[0], left[2])) == (
        pytest.approx(60)
    )


def test_the_assumed_camera_is_that_of_the_contract():
    camera = Camera.assumed(600, 400)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (690.0, 690.0, 200.0, 300.0)
    assert (camera.height, camera.width) == (600, 400)


def test_K_comes_back():
    assert Camera.from_K(K, (480, 640)) == CAMERA
    torch.testing.assert_close(Camera.from_K(K, (480, 640)).K, K, atol=0, rtol=0)
    assert CAMERA.checked() is CAMERA


@given(points_in_front)
def test_projection_is_K_times_the_point(points):
    found, in_front = CAMERA.project(points)
    wanted = points @ K.T
    torch.testing.assert_close(found, wanted[:, :2] / wanted[:, 2:], atol=1e-9, rtol=1e-12)
    assert bool(in_front.all())


@given(pixels)
def test_unproject_undoes_project(points_pix):
    rays = CAMERA.unproject(points_pix)
    assert bool((rays[:, 2] == 1).all())
    torch.testing.assert_close(CAMERA.project(3.7 * rays)[0], points_pix, atol=1e-9, rtol=0)


def test_points_behind_and_beside_the_camera_are_told():
    points = torch.tensor([[0.1, 0.1, 2.0], [0.1, 0.1, -2.0], [0.1, 0.1, 0.0]], dtype=D)
    found, in_front = CAMERA.project(points)
    assert in_front.tolist() == [True, False, False]
    assert bool(found.isfinite().all())


@given(points_in_front, st.sampled_from([0.125, 0.5, 2.0, 1 / 3]))
def test_projecting_then_scaling_is_the_scaled_camera(points, factor):
    wanted = CAMERA.project(points)[0] * factor
    torch.testing.assert_close(CAMERA.scale(factor).project(points)[0], wanted, atol=1e-8, rtol=0)


@given(points_in_front, st.floats(-50, 300), st.floats(-50, 300))
def test_projecting_then_cutting_is_the_cut_camera(points, x0, y0):
    cut = CAMERA.crop(x0, y0, 100, 120)
    assert (cut.height, cut.width) == (100, 120)
    wanted = CAMERA.project(points)[0] - torch.tensor([x0, y0], dtype=D)
    torch.testing.assert_close(cut.project(points)[0], wanted, atol=1e-9, rtol=0)


@given(points_in_front, st.floats(0.3, 3))
def test_zoom_magnifies_about_the_principal_point(points, factor):
    centre = torch.tensor([CAMERA.cx, CAMERA.cy], dtype=D)
    wanted = (CAMERA.project(points)[0] - centre) * factor + centre
    torch.testing.assert_close(CAMERA.zoom(factor).project(points)[0], wanted, atol=1e-8, rtol=0)


def test_cell_j_of_a_stride_8_map_is_centred_on_pixel_8j_plus_4():
    cells = CAMERA.scale(1 / 8)
    assert (cells.height, cells.width) == (60, 80)
    j = torch.arange(60, dtype=D)
    centres_in_cells = torch.stack([j + 0.5, j + 0.5], -1)
    centres_in_pixels = torch.stack([8 * j + 4, 8 * j + 4], -1)
    torch.testing.assert_close(
        cells.unproject(centres_in_cells), CAMERA.unproject(centres_in_pixels), atol=1e-12, rtol=0
    )


def test_scaling_down_and_up_comes_back():
    assert CAMERA.scale(1 / 8).scale(8.0) == CAMERA
    assert CAMERA.crop(10.0, 20.0, 100, 120).crop(-10.0, -20.0, 480, 640) == CAMERA
    assert CAMERA.zoom(2.0).zoom(0.5) == CAMERA
