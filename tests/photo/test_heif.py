"""HEIC and AVIF: turned once, limits by the header, and an error that names the package."""

import importlib
import io
import struct
import tracemalloc

import numpy as np
import pytest
from pictures import STORED, colours, encode, exif, write
from PIL import Image

from featmesh.errors import InputError
from featmesh.photo import heif
from featmesh.photo.read import read_photo

writer = pytest.importorskip("pillow_heif")  # writes them too; pi_heif only reads
Image.init()  # older ones than 11.3 have no AVIF
AVIF = pytest.mark.skipif("AVIF" not in Image.SAVE, reason="this Pillow has no AVIF")


def heic(pixels, mode="RGB", **options):
    """The bytes of a HEIC file whose stored pixels are these, as exactly as the codec can."""
    file = io.BytesIO()
    picture = writer.from_bytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    picture.save(file, quality=-1, chroma=444, **options)
    return file.getvalue()


def several(*pictures, primary):
    file = io.BytesIO()
    images = [Image.fromarray(p) for p in pictures]
    held = writer.from_pillow(images[0])
    for image in images[1:]:
        held.add_from_pillow(image)
    held.save(file, quality=-1, chroma=444, primary_index=primary)
    return file.getvalue()


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        read_photo(path, **options)
    return caught.value


@pytest.fixture(params=["pi_heif", "pillow_heif"])
def package(request, monkeypatch):
    """Each of the packages that can read, alone."""
    pytest.importorskip(request.param)
    monkeypatch.setattr(heif, "PACKAGES", (request.param,))


def test_heic_is_read_without_a_suffix_and_pillow_is_left_as_it_was(tmp_path, package):
    Image.init()
    known = set(Image.OPEN)
    photo = read_photo(write(tmp_path, "p", heic(colours())))
    assert np.abs(photo.pixels.astype(int) - colours()).max() <= 2
    assert photo.camera is None and photo.warnings == () and photo.alpha is None
    assert set(Image.OPEN) == known


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_turned_once(tmp_path, package, orientation):
    # the writer sets irot and imir, and leaves the orientation in the EXIF data, as phones do
    stored = np.ascontiguousarray(STORED[orientation](colours()))
    tags = exif(orientation, size=(stored.shape[1], stored.shape[0]), film=36).tobytes()
    data = heic(stored, exif=tags)
    assert (b"irot" in data or b"imir" in data) == (orientation != 1)
    photo = read_photo(write(tmp_path, "p.heic", data))
    assert np.abs(photo.pixels.astype(int) - colours()).max() <= 2
    assert photo.camera_source == "exif" and photo.warnings == ()
    assert photo.camera.fx == pytest.approx(60) and photo.camera.width == 60


def test_exif_orientation_alone_turns_no_heic(tmp_path, package):
    data = heic(colours(), exif=exif(6, size=(60, 40), film=36).tobytes())
    data = data.replace(b"irot", b"free")  # the turn is no longer in the file's own properties
    photo = read_photo(write(tmp_path, "p.heic", data))
    assert (photo.height, photo.width) == (40, 60)


def test_a_focal_length_of_another_size_is_not_used(tmp_path, package):
    data = heic(colours(), exif=exif(size=(120, 80), film=36).tobytes())
    photo = read_photo(write(tmp_path, "p.heic", data))
    assert photo.camera is None and "60x40" in photo.warnings[0]


def test_ten_bits_and_grey(tmp_path, package):
    wide = colours().astype("<u2") * 257
    photo = read_photo(write(tmp_path, "p.heic", heic(wide, "RGB;16")))
    assert np.abs(photo.pixels.astype(int) - colours()).max() <= 3
    grey = read_photo(write(tmp_path, "g.heic", heic(wide[..., 0].copy(), "L;16")))
    assert np.abs(grey.pixels[..., 1].astype(int) - colours()[..., 0]).max() <= 3


def test_transparency_lies_on_grey(tmp_path, package):
    layer = np.dstack([colours(), np.full((40, 60), 255, np.uint8)])
    layer[:20, :, 3] = 0
    photo = read_photo(write(tmp_path, "p.heic", heic(layer, "RGBA")))
    assert (photo.pixels[5, 30] == (124, 116, 104)).all()
    assert photo.alpha is not None and photo.alpha[5, 30] == 0 and photo.alpha[30, 30] == 255


def test_of_several_pictures_the_primary_one_is_taken(tmp_path, package):
    data = several(255 - colours(), colours(), 255 - colours(), primary=1)
    photo = read_photo(write(tmp_path, "p.heic", data))
    assert np.abs(photo.pixels.astype(int) - colours()).max() <= 2
    assert photo.warnings == ("the file holds several pictures: the primary one is used",)


@pytest.mark.parametrize("allow", [False, True])
def test_a_cut_off_heic_is_refused(tmp_path, package, allow):
    data = heic(colours())
    for share in (0.02, 0.1, 0.3, 0.6, 0.99):
        path = write(tmp_path, "cut.heic", data[: int(len(data) * share)])
        error = refused(path, allow_truncated=allow)
        assert error.code == "E_IMG_TRUNCATED" and "cut.heic" in str(error)


def with_size(data, width, height):
    """The file, whose header states another size of the coded picture."""
    k = data.index(b"ispe") + 8
    return data[:k] + struct.pack(">II", width, height) + data[k + 8 :]


def test_a_heic_bomb_is_refused_by_its_header(tmp_path, package):
    # a crop box is behind the coded size: displayed, it would be 60 x 40
    data = heic(colours())
    assert b"clap" in data
    path = write(tmp_path, "bomb.heic", with_size(data, 30_000, 30_000))
    refused(path)  # imports are not the bomb's
    tracemalloc.start()
    error = refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.code == "E_IMG_TOO_LARGE" and "30000x30000" in str(error) and peak < 5e6


def test_a_heic_larger_than_its_header_says_is_refused(tmp_path, package):
    data = heic(np.zeros((512, 512, 3), np.uint8))
    error = refused(write(tmp_path, "p.heic", with_size(data, 64, 64)))
    assert error.code == "E_IMG_TRUNCATED" and "limit" in str(error)


def test_limits_of_a_heic(tmp_path, package):
    path = write(tmp_path, "p.heic", heic(colours()))
    assert refused(path, max_pixels=2000).code == "E_IMG_TOO_LARGE"
    large = write(tmp_path, "l.heic", heic(colours()) + bytes(2_000_000))  # not read at all
    assert refused(large, max_pixels=400_000).code == "E_IMG_TOO_LARGE"
    small = write(tmp_path, "s.heic", heic(colours(10, 60)))
    assert refused(small).code == "E_IMG_TOO_SMALL"


def test_a_damaged_heic_gives_a_photo_or_a_code(tmp_path, package):
    whole = heic(colours())
    for edit in range(40):
        data, random = bytearray(whole), np.random.default_rng(edit)
        for place in random.integers(0, 700 if edit % 2 else len(data), 6):
            data[place] = random.integers(0, 256)
        try:
            photo = read_photo(write(tmp_path, "p.heic", bytes(data)))
        except InputError as error:
            assert error.code.startswith("E_IMG_")
        else:
            assert min(photo.height, photo.width) >= 16


def test_boxes_without_end_are_no_way_to_hang(tmp_path, package):
    head = heic(colours())[:28]
    many = write(tmp_path, "many.heic", head + struct.pack(">I4s", 8, b"free") * 30_000)
    assert refused(many).code.startswith("E_IMG_")
    nested = b"".join(struct.pack(">I4sI", 0, b"meta", 0) for _ in range(5_000))
    assert refused(write(tmp_path, "deep.heic", head + nested)).code.startswith("E_IMG_")


def test_without_the_package_the_error_names_it(tmp_path, monkeypatch):
    def nothing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", nothing)
    error = refused(write(tmp_path, "p.heic", heic(colours())))
    assert error.code == "E_IMG_FORMAT" and "pip install 'featmesh[heic]'" in str(error)
    assert "p.heic" in str(error)


@AVIF
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_once(tmp_path, orientation):
    stored = np.ascontiguousarray(STORED[orientation](colours()))
    tags = exif(orientation, size=(stored.shape[1], stored.shape[0]), film=36).tobytes()
    data = encode(Image.fromarray(stored), "AVIF", quality=100, subsampling="4:4:4", exif=tags)
    photo = read_photo(write(tmp_path, "p.avif", data))
    assert np.abs(photo.pixels.astype(int) - colours()).mean() < 3
    assert photo.camera is not None and photo.camera.width == 60


@AVIF
@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_an_avif_of_a_general_brand_is_known_by_its_others(tmp_path, brand):
    data = encode(Image.fromarray(colours()), "AVIF", quality=100)
    assert data[8:12] == b"avif" and b"avif" in data[16:40]
    photo = read_photo(write(tmp_path, "p.heif", data[:8] + brand + data[12:]))
    assert np.abs(photo.pixels.astype(int) - colours()).mean() < 6


@AVIF
def test_limits_of_an_avif(tmp_path):
    data = encode(Image.fromarray(colours(120, 160)), "AVIF")
    assert refused(write(tmp_path, "p.avif", data), max_pixels=10_000).code == "E_IMG_TOO_LARGE"
    assert refused(write(tmp_path, "c.avif", data[: len(data) // 2])).code == "E_IMG_TRUNCATED"
