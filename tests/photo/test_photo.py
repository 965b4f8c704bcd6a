"""A Photo holds what it says, and texts say what was handed in instead."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from pictures import colours

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.photo.photo import Photo, check_pixels, describe, expect_photo


def test_from_array():
    photo = Photo.from_array(colours(40, 60))
    assert (photo.height, photo.width) == (40, 60)
    assert photo.camera is None and photo.camera_source == "assumed"
    assert photo.camera_or_assumed == Camera.assumed(40, 60)


def test_given_camera():
    camera = Camera.assumed(40, 60)
    for photo in (
        Photo.from_array(colours(), camera),
        Photo.from_array(colours()).with_camera(camera),
    ):
        assert photo.camera is camera and photo.camera_source == "given"
        assert photo.camera_or_assumed is camera


def test_pixels_can_be_handed_to_torch():
    frozen = colours()
    frozen.setflags(write=False)
    for pixels in (frozen, colours()[:, ::-1], colours()[::2, ::2]):
        photo = Photo.from_array(pixels)
        assert np.array_equal(torch.from_numpy(photo.pixels).numpy(), pixels)


@pytest.mark.parametrize(
    "pixels, code, words",
    [
        (np.zeros((3, 480, 640), np.float32), "E_IMG_FORMAT", "a float32 array of shape (3, 480,"),
        (np.zeros((480, 640), np.uint8), "E_IMG_FORMAT", "a uint8 array of shape (480, 640)"),
        (np.zeros((3, 480, 640), np.uint8), "E_IMG_FORMAT", "R, G, B as last axis"),
        (np.zeros((48, 64, 4), np.uint8), "E_IMG_FORMAT", "(48, 64, 4)"),
        (np.full((48, 64, 3), np.nan), "E_NONFINITE", "NaN"),
        (np.full((48, 64, 3), np.inf), "E_NONFINITE", "infinite"),
        (np.zeros((15, 64, 3), np.uint8), "E_IMG_TOO_SMALL", "at least 16 px"),
        (np.zeros((0, 0, 3), np.uint8), "E_IMG_TOO_SMALL", "(0, 0, 3)"),
        ([[1, 2, 3]], "E_IMG_FORMAT", "a list"),
        (None, "E_IMG_FORMAT", "got None"),
        (torch.zeros(48, 64, 3), "E_IMG_FORMAT", "a float32 Tensor of shape (48, 64, 3)"),
    ],
)
def test_other_arrays_are_refused(pixels, code, words):
    with pytest.raises(InputError) as caught:
        Photo.from_array(pixels)
    assert caught.value.code == code and words in str(caught.value)
    assert "Photo.from_array(): expected" in str(caught.value)


def test_expect_photo_gives_the_documented_text():
    photo = Photo.from_array(colours())
    assert expect_photo(photo, "estimate()") is photo
    with pytest.raises(InputError) as caught:
        expect_photo(np.zeros((3, 480, 640), np.float32), "estimate()")
    assert caught.value.args[0] == (
        "estimate(): expected a Photo (pixels uint8 (H, W, 3)), got a float32 array of shape "
        "(3, 480, 640); use featmesh.read_photo"
    )
    with pytest.raises(InputError, match=r"got 'street.jpg'; use featmesh\.read_photo"):
        expect_photo("street.jpg", "estimate()")


def test_a_camera_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"60x40 photo .* got one of 61x40") as caught:
        Photo.from_array(colours(), Camera.assumed(40, 61))
    assert caught.value.code == "E_CAMERA"


@pytest.mark.parametrize("source, camera", [("assumed", Camera.assumed(40, 60)), ("given", None)])
def test_the_source_fits_the_camera(source, camera):
    with pytest.raises(InputError, match="camera_source"):
        Photo(colours(), camera, source)


def test_describe_and_check_pixels_are_quiet_on_good_pixels():
    check_pixels(colours(), "f()")
    assert describe(3) == "an int" and describe(torch.zeros(2)) == "a float32 Tensor of shape (2,)"


def test_photo_needs_no_numba_scipy_or_trimesh():
    code = (
        "import sys, featmesh.photo.read, featmesh.photo.resize, featmesh.photo.camera_file; "
        "sys.exit(','.join({'numba', 'scipy', 'trimesh', 'tyro'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
