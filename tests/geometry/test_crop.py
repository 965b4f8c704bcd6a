"""Claims about the virtual camera: it looks at the box, and what it sees goes back to the photo."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL, Crop, check_box
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint

D = torch.float64
PHOTO = Camera(520.0, 500.0, 300.0, 260.0, 480, 640)
SIZE = (224, 336)


def tensor(*rows):
    return torch.tensor(rows, dtype=D)


def homography(crop):
    """Crop pixels -> photo pixels, K Q^T K_v^-1, written out as the textbook has it."""
    return crop.photo_camera.K @ crop.Q.T @ torch.linalg.inv(crop.camera.K)


def mapped(H, points):
    flat = torch.cat([points, torch.ones_like(points[..., :1])], -1) @ H.T
    return flat[..., :2] / flat[..., 2:]


boxes = st.tuples(st.floats(0, 560), st.floats(0, 400), st.floats(8, 400), st.floats(8, 300)).map(
    lambda b: (b[0], b[1], min(b[0] + b[2], 640.0), min(b[1] + b[3], 480.0))
)
cameras = st.builds(
    lambda f, g, x, y: Camera(f, f * g, x, y, 480, 640),
    st.floats(250, 3000),
    st.floats(0.9, 1.1),
    st.floats(100, 540),
    st.floats(100, 380),
)
poses = st.tuples(*[st.floats(-1, 1)] * 6).map(
    lambda v: Pose.exp(torch.tensor([3 * v[0], 3 * v[1], 3 * v[2], v[3], v[4], 3 + v[5]], dtype=D))
)


@given(cameras, boxes)
def test_the_box_centre_is_the_middle_of_the_crop(camera, box):
    crop = Crop.from_box(camera, box, SIZE)
    middle = tensor([SIZE[1] / 2, SIZE[0] / 2])
    centre = tensor([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    torch.testing.assert_close(mapped(homography(crop), middle), centre, atol=1e-8, rtol=0)
    assert (crop.camera.cx, crop.camera.cy) == (SIZE[1] / 2, SIZE[0] / 2)
    assert (crop.camera.height, crop.camera.width) == SIZE
    assert crop.camera.fx == crop.camera.fy
    assert crop.photo_camera is camera and crop.box == box


@pytest.mark.parametrize("box", [(280.0, 250.0, 320.0, 270.0), (290.0, 200.0, 310.0, 320.0)])
def test_the_box_spans_fill_of_the_tighter_side(box):
    """At the principal point the crop is a plain magnification, known by hand."""
    camera = Camera(500.0, 500.0, 300.0, 260.0, 480, 640)
    crop = Crop.from_box(camera, box, SIZE)
    back = torch.linalg.inv(homography(crop))
    corners = mapped(back, tensor([box[0], box[1]], [box[2], box[3]]))
    share = (corners[1] - corners[0]) / tensor(SIZE[1], SIZE[0])
    assert float(share.max()) == pytest.approx(FILL)
    torch.testing.assert_close(crop.Q, torch.eye(3, dtype=D), atol=1e-12, rtol=0)
    assert Crop.from_box(camera, box, SIZE, 0.4).camera.fx == pytest.approx(crop.camera.fx / 2)


@settings(max_examples=20)
@given(cameras, boxes)
def test_pixel_map_is_the_homography_at_pixel_centres(camera, box):
    crop = Crop.from_box(camera, box, (32, 48))
    found = crop.pixel_map()
    assert found.shape == (32, 48, 2)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    centres = torch.stack([x, y], -1).double() + 0.5
    torch.testing.assert_close(found, mapped(homography(crop), centres), atol=1e-6, rtol=1e-9)


def test_pixels_that_look_backwards_lie_nowhere():
    wide = Camera(60.0, 60.0, 320.0, 240.0, 480, 640)
    found = Crop.from_box(wide, (560.0, 0.0, 640.0, 480.0), SIZE, 0.05).pixel_map()
    assert bool(found.isfinite().all())
    assert bool((found == -1e6).any())


@given(cameras, boxes, poses)
def test_a_pose_goes_to_the_photo_and_comes_back(camera, box, pose):
    crop = Crop.from_box(camera, box, SIZE)
    for there, back in ((crop.to_photo, crop.from_photo), (crop.from_photo, crop.to_photo)):
        again = back(there(pose))
        torch.testing.assert_close(again.as_matrix(), pose.as_matrix(), atol=1e-12, rtol=0)
    assert float(crop.to_photo(pose).t.norm()) == pytest.approx(float(pose.t.norm()))


@given(cameras, boxes, poses)
def test_what_the_crop_sees_is_what_the_photo_sees(camera, box, in_crop):
    """Project in the crop and map to the photo, or go to the photo and project there."""
    points = tensor([0, 0, 0], [0.2, 0, 0], [0, 0.4, 0], [0, 0, 0.15], [-0.2, -0.4, 0.1])
    crop = Crop.from_box(camera, box, SIZE)
    seen, in_front = crop.camera.project(in_crop.apply(points))
    wanted, before = camera.project(crop.to_photo(in_crop).apply(points))
    use = in_front & before
    # far outside the photo pixels are large and so are their roundings
    torch.testing.assert_close(
        mapped(homography(crop), seen)[use], wanted[use], atol=1e-5, rtol=1e-8
    )


def test_an_object_at_the_box_centre_lies_on_the_crops_axis():
    box = (500.0, 40.0, 620.0, 100.0)
    crop = Crop.from_box(PHOTO, box, SIZE)
    ray = PHOTO.unproject(tensor([560.0, 70.0]))[0]
    upright = Viewpoint(0.7, 0.2, 0.0, 4.0).to_pose()
    in_photo = Pose(crop.Q.T @ upright.R, 4.0 * ray / ray.norm())
    there = crop.from_photo(in_photo)
    torch.testing.assert_close(there.t, tensor(0.0, 0.0, 4.0), atol=1e-12, rtol=0)
    torch.testing.assert_close(there.R, upright.R, atol=1e-12, rtol=0)
    assert math.degrees(Viewpoint.from_pose(in_photo).azimuth) == pytest.approx(
        math.degrees(0.7)
    )  # the angles are the same, seen along the ray
    assert float((in_photo.R - upright.R).norm()) > 0.3  # a missing Q would be seen


def test_single_precision_stays_single():
    crop = Crop.from_box(PHOTO, (500.0, 40.0, 620.0, 100.0), SIZE)
    pose = Pose.identity(torch.float32)
    assert crop.to_photo(pose).R.dtype == crop.from_photo(pose).t.dtype == torch.float32


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((0.0, 0.0, 640.0, 480.0), (0.0, 0.0, 640.0, 480.0)),
        ((-20.0, 10.0, 100.0, 50.0), (0.0, 10.0, 100.0, 50.0)),
        ((600.0, 400.0, 700.0, 500.0), (600.0, 400.0, 640.0, 480.0)),
        ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_a_box_is_clipped_to_the_photo(box, kept):
    assert check_box(box, 480, 640) == (kept, box != kept)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((10.0, 10.0, math.nan, 20.0), "four finite numbers"),
        ((10.0, 10.0, math.inf, 20.0), "four finite numbers"),
        ((20.0, 10.0, 10.0, 20.0), "x0 < x1 and y0 < y1, got .* in a 640x480 photo"),
        ((10.0, 10.0, 10.0, 20.0), "x0 < x1"),
        ((700.0, 10.0, 800.0, 20.0), "a box inside the 640x480 photo"),
        ((-50.0, 10.0, 0.0, 20.0), "a box inside"),  # touches the edge from outside
        ((10.0, 10.0, 10.5, 20.0), "a box inside"),  # less than a pixel
    ],
)
def test_a_box_that_cannot_be(box, words):
    with pytest.raises(InputError, match=f"E_BOX: box: expected {words}.*; try: give x0 y0") as got:
        check_box(box, 480, 640)
    assert got.value.code == "E_BOX"
