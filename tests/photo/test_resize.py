"""Crops show what the virtual camera sees, anti-aliased, and say what lies outside the photo."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import colours
from PIL import Image

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.photo.photo import GREY, Photo
from featmesh.photo.resize import camera_of_resized, resample, resize, squeezed

LONG = 50_000.0  # focal length at which a crop is all but a shift and a scale


def noise(height, width):
    return generator(0, "noise").integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width):
    small = noise(max(2, height // 20), max(2, width // 20))
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def gradient(height, width):
    """Red rises by 200 over the width, green over the height."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return (
        np.stack([20 + 200 * x / width, 20 + 200 * y / height, 0 * x], -1).round().astype("uint8")
    )


def flat_crop(height, width, box, size):
    """A crop that shows exactly `box`, through a long lens."""
    camera = Camera(LONG, LONG, width / 2, height / 2, height, width)
    return camera, Crop.from_box(camera, box, size, fill=1.0)


# ---- resize


@pytest.mark.parametrize("size", [(37, 50), (100, 150), (10, 300), (1, 1), (240, 7)])
def test_resize_agrees_with_pillow(size):
    picture = smooth(100, 150)
    expected = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.abs(resize(picture, *size).astype(int) - np.asarray(expected)).max() <= 1


def test_resize_takes_views_and_read_only_arrays():
    picture = smooth(100, 150)
    frozen = picture.copy()
    frozen.setflags(write=False)
    assert np.array_equal(resize(frozen, 30, 40), resize(picture, 30, 40))
    mirrored = resize(picture[:, ::-1], 30, 40)
    assert np.abs(mirrored.astype(int) - resize(picture, 30, 40)[:, ::-1]).max() <= 1


def test_camera_of_resized_sees_the_same_points():
    camera = Camera(800.0, 820.0, 300.0, 260.0, 480, 640)
    half = camera_of_resized(camera, 120, 320)
    points = torch.randn(20, 3, dtype=torch.float64) + torch.tensor([0.0, 0.0, 5.0])
    expected = camera.project(points)[0] * torch.tensor([0.5, 0.25])
    assert torch.allclose(half.project(points)[0], expected)
    assert (half.height, half.width) == (120, 320)
    assert camera_of_resized(camera, 60, 80) == camera.scale(1 / 8)


# ---- resample


def test_identity_crop_gives_the_photo_back():
    picture = noise(48, 64)
    camera = Camera.assumed(48, 64)
    crop = Crop.from_box(camera, (0.0, 0.0, 64.0, 48.0), (48, 64), fill=1.0)
    pixels, valid = resample(Photo.from_array(picture, camera), crop)
    assert pixels.dtype == np.uint8 and valid.dtype == bool and valid.all()
    assert np.array_equal(pixels, picture)


@pytest.mark.parametrize("box", [(10.0, 5.0, 42.0, 29.0), (20.0, 20.0, 64.0, 48.0)])
def test_whole_pixel_crop_copies_pixels(box):
    picture = noise(48, 64)
    x0, y0, x1, y1 = (int(v) for v in box)
    camera, crop = flat_crop(48, 64, box, (y1 - y0, x1 - x0))
    pixels, valid = resample(Photo.from_array(picture, camera), crop)
    inner = (slice(1, -1), slice(1, -1))
    expected = picture[y0:y1, x0:x1][inner].astype(int)
    assert np.abs(pixels[inner] - expected).max() <= 2 and valid[inner].all()


@settings(max_examples=25, deadline=None)
@given(
    cx=st.floats(100, 500),
    cy=st.floats(100, 300),
    side=st.floats(40, 300),
    focal=st.floats(300, 3000),
)
def test_gradient_is_sampled_where_the_camera_looks(cx, cy, side, focal):
    height, width = 400, 600
    camera = Camera(focal, focal, width / 2, height / 2, height, width)
    box = (cx - side / 2, cy - side / 3, cx + side / 2, cy + side / 3)
    crop = Crop.from_box(camera, box, (48, 72))
    pixels, valid = resample(Photo.from_array(gradient(height, width), camera), crop)
    points = crop.pixel_map().numpy()
    expected = 20 + 200 * points / np.array([width, height])
    # the ramp ends at the photo's border, so keep away from it by what the filter reaches
    reach = 2 + 2 * side / 48
    inner = ((points > reach) & (points < np.array([width, height]) - reach)).all(-1)
    assert inner.any() and valid[inner].all()
    assert np.abs(pixels[..., :2] - expected)[inner].max() <= 1.5


@pytest.mark.parametrize("factor", [1.2, 1.5, 2.0, 3.0, 4.3, 8.0])
def test_shrinking_is_antialiased_like_pillow(factor):
    height, width, size = 480, 640, (48, 64)
    x0, y0 = 100.3, 50.7
    box = (x0, y0, min(x0 + 64 * factor, 640.0), min(y0 + 48 * factor, 480.0))
    box = (x0, y0, x0 + (box[2] - x0), y0 + (box[2] - x0) * 0.75)
    for picture, limit in ((smooth(height, width), 3.0), (noise(height, width), 16.0)):
        camera, crop = flat_crop(height, width, box, size)
        pixels, _ = resample(Photo.from_array(picture, camera), crop)
        expected = np.asarray(
            Image.fromarray(picture).resize((64, 48), Image.Resampling.BILINEAR, box=box), float
        )
        assert np.sqrt(((pixels - expected) ** 2).mean()) < limit
        # as much contrast is left as there: neither aliased nor blurred away
        assert pixels.std() / expected.std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("factor", [4, 8])
def test_fine_checks_become_even_grey(factor):
    y, x = np.mgrid[0:400, 0:600]
    picture = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, 2)
    camera, crop = flat_crop(400, 600, (30.0, 30.0, 430.0, 330.0), (300 // factor, 400 // factor))
    pixels, _ = resample(Photo.from_array(picture, camera), crop)
    assert np.abs(pixels[2:-2, 2:-2].astype(int) - 127).max() <= 3


def test_outside_of_the_photo_is_grey_and_invalid():
    picture = np.full((100, 150, 3), 250, np.uint8)
    camera, crop = flat_crop(100, 150, (-60.0, -50.0, 60.0, 50.0), (50, 60))
    pixels, valid = resample(Photo.from_array(picture, camera), crop)
    expected = np.zeros((50, 60), bool)
    expected[25:, 30:] = True
    assert np.array_equal(valid, expected)
    assert (pixels[~valid] == GREY).all() and (pixels[valid] == 250).all()


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(-300, 400),
    y=st.floats(-200, 300),
    side=st.floats(2, 400),
    focal=st.floats(60, 2000),
)
def test_valid_is_where_the_pixel_lies_in_the_photo(x, y, side, focal):
    camera = Camera(focal, focal, 75.0, 50.0, 100, 150)
    crop = Crop.from_box(camera, (x, y, x + side, y + side), (24, 32))
    pixels, valid = resample(Photo.from_array(np.full((100, 150, 3), 9, np.uint8), camera), crop)
    points = crop.pixel_map().numpy()
    assert np.array_equal(valid, ((points >= 0) & (points < [150, 100])).all(-1))
    assert (pixels[valid] == 9).all() and (pixels[~valid] == GREY).all()


def test_crop_that_sees_nothing_of_the_photo():
    camera, crop = flat_crop(100, 150, (-500.0, 0.0, -400.0, 100.0), (24, 32))
    pixels, valid = resample(Photo.from_array(colours(100, 150), camera), crop)
    assert not valid.any() and (pixels == GREY).all()


def test_crop_of_one_pixel():
    camera, crop = flat_crop(100, 150, (10.0, 10.0, 20.0, 20.0), (1, 1))
    assert resample(Photo.from_array(colours(100, 150), camera), crop)[1].all()


def test_crop_of_another_photo_is_refused():
    _, crop = flat_crop(100, 150, (0.0, 0.0, 50.0, 50.0), (24, 32))
    with pytest.raises(InputError, match=r"resample\(\): .* 60x40 .* got one of 150x100") as caught:
        resample(Photo.from_array(colours(40, 60)), crop)
    assert caught.value.code == "E_CAMERA"


def test_only_the_seen_region_of_a_large_photo_is_touched():
    picture = np.zeros((3000, 4000, 3), np.uint8)  # 36 MB
    camera = Camera.assumed(3000, 4000)
    crop = Crop.from_box(camera, (1000.0, 1000.0, 1400.0, 1300.0), (224, 336))
    photo = Photo.from_array(picture, camera)
    tracemalloc.start()  # counts numpy's memory
    resample(photo, crop)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_resampling_twice_gives_the_same_bytes():
    camera, crop = flat_crop(100, 150, (10.2, 10.7, 90.0, 80.0), (24, 32))
    photo = Photo.from_array(noise(100, 150), camera)
    assert resample(photo, crop)[0].tobytes() == resample(photo, crop)[0].tobytes()


def test_a_box_is_squeezed_to_the_crop():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:50] = 255
    assert (squeezed(picture, (20.2, 9.8, 50.0, 30.0), (64, 96)) == 255).all()
    assert squeezed(picture, (-50.0, -9.0, 99.0, 99.0), (64, 96)).shape == (64, 96, 3)
    assert squeezed(picture, (70.0, 50.0, 99.0, 99.0), (64, 96)).max() == 0  # outside
