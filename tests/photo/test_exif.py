"""Fault 3 and contracts 1: turned once, and a focal length only where it belongs to the pixels."""

import math

import numpy as np
import pytest
from pictures import STORED, chunk, colours, exif, png, save, write
from PIL import Image, ImageOps

from featmesh.photo.read import read_photo


def stored(folder, orientation, suffix="png", **tags):
    pixels = np.ascontiguousarray(STORED[orientation](colours(40, 60)))
    tags.setdefault("size", (pixels.shape[1], pixels.shape[0]))
    data = exif(orientation, film=28, **tags).tobytes()  # TIFF would lose the sub-folder otherwise
    return save(folder, f"{orientation}.{suffix}", pixels, exif=data)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_give_one_photo(tmp_path, suffix, orientation):
    plain = read_photo(stored(tmp_path, 1, suffix))
    photo = read_photo(stored(tmp_path, orientation, suffix))
    assert (photo.height, photo.width) == (40, 60)
    if suffix == "webp":  # lossy: the blocks lie elsewhere after a turn
        assert np.abs(photo.pixels.astype(int) - colours()).mean() < 12
    else:
        assert np.array_equal(photo.pixels, colours())
    assert photo.camera == plain.camera and photo.camera is not None
    assert photo.camera_source == "exif" and photo.warnings == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_mask_turns_with_the_pixels(tmp_path, orientation):
    layer = np.dstack([colours(), np.where(colours()[..., 2] > 99, 0, 255).astype(np.uint8)])
    turned = np.ascontiguousarray(STORED[orientation](layer))
    photo = read_photo(save(tmp_path, "p.png", turned, exif=exif(orientation)))
    assert np.array_equal(photo.alpha, layer[..., 3])


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_is_ignored_with_a_warning(tmp_path, value):
    photo = read_photo(save(tmp_path, "p.png", colours(), exif=exif(value)))
    assert np.array_equal(photo.pixels, colours())
    assert len(photo.warnings) == 1 and str(value) in photo.warnings[0]


def test_film_focal_length(tmp_path):
    # 36 mm on a 36 x 24 frame: f is the width of a 3:2 picture
    path = save(tmp_path, "p.jpg", colours(40, 60), exif=exif(size=(60, 40), film=36))
    camera = read_photo(path).camera
    assert camera.fx == camera.fy == pytest.approx(60)
    assert (camera.cx, camera.cy, camera.height, camera.width) == (30, 20, 40, 60)


def test_film_focal_length_is_of_the_diagonal(tmp_path):
    path = save(tmp_path, "p.jpg", colours(48, 64), exif=exif(size=(64, 48), film=26))
    assert read_photo(path).camera.fx == pytest.approx(26 * 80 / math.hypot(36, 24))


@pytest.mark.parametrize("unit, mm", [(2, 25.4), (3, 10.0), (4, 1.0)])
def test_focal_plane_resolution(tmp_path, unit, mm):
    # 8 mm on a sensor of 6 mm width, 60 pixels: f = 80 pixels
    tags = exif(size=(60, 40), focal=8.0, plane=(60 / 6 * mm, unit))
    camera = read_photo(save(tmp_path, "p.jpg", colours(40, 60), exif=tags)).camera
    assert camera.fx == pytest.approx(80, rel=1e-3)


def test_millimetres_alone_say_nothing(tmp_path):
    tags = exif(size=(60, 40), focal=8.0)
    photo = read_photo(save(tmp_path, "p.jpg", colours(40, 60), exif=tags))
    assert photo.camera is None and photo.camera_source == "assumed" and photo.warnings == ()


@pytest.mark.parametrize("size", [(120, 80), (60, 41), None])
def test_focal_length_of_another_size_is_not_used(tmp_path, size):
    photo = read_photo(save(tmp_path, "p.jpg", colours(40, 60), exif=exif(size=size, film=36)))
    assert photo.camera is None and photo.camera_source == "assumed"
    assert len(photo.warnings) == 1 and "60x40" in photo.warnings[0]


def test_size_recorded_the_other_way_round_is_the_same_photo_turned(tmp_path):
    path = save(tmp_path, "p.jpg", colours(60, 40), exif=exif(size=(60, 40), film=36))
    assert read_photo(path).camera.fx == pytest.approx(60)


@pytest.mark.parametrize("film", [1, 60000])
def test_a_focal_length_no_lens_has_is_not_used(tmp_path, film):
    photo = read_photo(
        save(tmp_path, "p.jpg", colours(40, 60), exif=exif(size=(60, 40), film=film))
    )
    assert photo.camera is None and "EXIF focal length not used" in photo.warnings[0]


def test_unknown_focal_length_zero(tmp_path):
    photo = read_photo(save(tmp_path, "p.jpg", colours(40, 60), exif=exif(size=(60, 40), film=0)))
    assert photo.camera is None and photo.warnings == ()


LOOP = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x69\x87\x04\0\x01\0\0\0\x08\0\0\0" + b"\x08\0\0\0"


@pytest.mark.parametrize("data", [b"", b"II*\0", b"junk" * 50, b"II*\0\xff\xff\xff\xff", LOOP])
def test_broken_exif_never_costs_the_photo(tmp_path, data):
    path = save(tmp_path, "p.jpg", colours(40, 60), exif=b"Exif\0\0" + data)
    photo = read_photo(path)
    assert photo.pixels.shape == (40, 60, 3) and photo.camera is None


def test_exif_behind_the_pixels_counts(tmp_path):
    # PNG allows its EXIF chunk after the pixels; a reader of the header alone misses it
    rows = [row.tobytes() for row in np.ascontiguousarray(STORED[6](colours()))]
    tags = exif(6).tobytes().removeprefix(b"Exif\0\0")
    data = png(40, 60, rows=rows, after=[chunk(b"eXIf", tags)])
    assert np.array_equal(read_photo(write(tmp_path, "p.png", data)).pixels, colours())


def test_the_tables_agree_with_pillow():
    for orientation, turn in STORED.items():
        image = Image.fromarray(np.ascontiguousarray(turn(colours())))
        image.getexif()[0x0112] = orientation
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), colours())
