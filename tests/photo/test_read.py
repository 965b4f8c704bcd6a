"""Faults 1, 2 and 8 to 14 of photo files: refused with a stable code, before memory is spent."""

import io
import os
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import bomb_png, chunk, colours, encode, png, save, write
from PIL import Image

from featmesh.errors import FeatmeshError, InputError
from featmesh.photo.read import read_photo

KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000"]


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        read_photo(path, **options)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_reads_each_kind_as_rgb(tmp_path, kind):
    data = encode(Image.fromarray(colours()), kind)
    photo = read_photo(write(tmp_path, "p", data))  # without a suffix: the content counts
    assert photo.pixels.shape == (40, 60, 3) and photo.pixels.dtype == np.uint8
    assert np.abs(photo.pixels.astype(int) - colours()).mean() < 6
    assert photo.camera is None and photo.camera_source == "assumed"
    assert photo.alpha is None and photo.warnings == ()
    assert photo.pixels.flags.writeable  # torch warns otherwise


# ---- 1: truncated


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_truncated_file_is_refused(tmp_path, kind, share):
    data = encode(Image.fromarray(colours(120, 160)), kind)
    error = refused(write(tmp_path, "cut.img", data[: int(len(data) * share)]))
    assert error.code == "E_IMG_TRUNCATED"
    assert "cut.img" in str(error) and "try:" in str(error)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_truncated_jpeg_is_read_on_demand_and_marked(tmp_path, options):
    picture = colours(120, 160)
    data = encode(Image.fromarray(picture), "JPEG", quality=90, **options)
    photo = read_photo(write(tmp_path, "cut.jpg", data[: len(data) * 2 // 3]), allow_truncated=True)
    assert photo.pixels.shape == picture.shape
    assert len(photo.warnings) == 1 and "cut off" in photo.warnings[0]
    assert np.abs(photo.pixels[:30].astype(int) - picture[:30]).mean() < 25


def test_truncated_png_keeps_the_rows_it_has(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    data = encode(Image.fromarray(picture), "PNG")
    photo = read_photo(write(tmp_path, "cut.png", data[: len(data) // 2]), allow_truncated=True)
    assert np.array_equal(photo.pixels[:50], picture[:50]) and "cut off" in photo.warnings[0]


def test_truncated_with_nothing_in_it_is_refused_all_the_same(tmp_path):
    data = encode(Image.fromarray(colours(120, 160)), "WEBP")
    path = write(tmp_path, "cut.webp", data[: len(data) // 2])
    assert refused(path, allow_truncated=True).code == "E_IMG_TRUNCATED"


def test_allowing_truncation_changes_nothing_for_a_whole_file(tmp_path):
    path = save(tmp_path, "whole.png", colours())
    photo = read_photo(path, allow_truncated=True)
    assert np.array_equal(photo.pixels, colours()) and photo.warnings == ()


# ---- 2: no picture


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"\n <HTML><head></head></HTML>", "HTML"),
        (b"hello, I am a photo\n", "plain text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"%PDF-1.7\n", "PDF"),
        (b'{"photo": 1}', "JSON"),
        (b"PK\x03\x04....", "zip"),
        (b"\x80\x04\x95....", "pickle"),
        (bytes(range(128, 256)), "unknown binary data"),
    ],
)
def test_no_picture_names_what_it_looks_like(tmp_path, data, words):
    error = refused(write(tmp_path, "photo.jpg", data))
    assert error.code == "E_IMG_FORMAT"
    assert f"looks like {words}" in str(error) or words in str(error)
    assert str(error).startswith("E_IMG_FORMAT: read_photo: expected a picture (JPEG, PNG,")


def test_postscript_never_reaches_a_decoder(tmp_path):
    path = write(tmp_path, "p.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n")
    assert refused(path).code == "E_IMG_FORMAT"


# ---- 8: small and long


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (15, 100), (100, 15)])
def test_sides_below_16_are_refused(tmp_path, size):
    error = refused(save(tmp_path, "p.png", Image.new("RGB", size)))
    assert error.code == "E_IMG_TOO_SMALL"
    assert f"{size[0]}x{size[1]}" in str(error) and "16 px" in str(error)


def test_long_and_narrow_is_read(tmp_path):
    assert read_photo(save(tmp_path, "p.png", Image.new("RGB", (4000, 16)))).width == 4000


# ---- 9, 10: bombs


@pytest.mark.parametrize("side", [12_000, 20_000])
def test_bomb_is_refused_by_its_header(tmp_path, side):
    path = write(tmp_path, "bomb.png", bomb_png(side))
    refused(path)  # imports of plug-ins are not the bomb's
    tracemalloc.start()
    begin = time.perf_counter()
    error = refused(path)
    seconds, peak = time.perf_counter() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.code == "E_IMG_TOO_LARGE"
    assert str(side * side) in str(error) and "at most 50000000 px" in str(error)
    assert peak < 5e6 and seconds < 2


def test_the_pixel_limit_is_an_argument(tmp_path):
    path = save(tmp_path, "p.png", colours(40, 60))
    assert refused(path, max_pixels=2399).code == "E_IMG_TOO_LARGE"
    assert read_photo(path, max_pixels=2400).height == 40


# ---- 11: text, profile and EXIF bombs


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_text_bomb_is_refused(tmp_path, kind, place):
    bomb = zlib.compress(bytes(20_000_000), 9)
    lead = b"Comment\0\1\0\0\0" if kind == b"iTXt" else b"Comment\0\0"
    rows = [bytes(60 * 3)] * 40
    path = write(tmp_path, "p.png", png(60, 40, rows=rows, **{place: [chunk(kind, lead + bomb)]}))
    tracemalloc.start()
    try:
        photo = read_photo(path)  # a decoder may also leave the chunk aside
    except InputError as error:
        assert error.code == "E_IMG_FORMAT" and "p.png" in str(error)
    else:
        assert kind != b"zTXt" and photo.height == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


# ---- 12: no file


def test_missing_file_names_the_path(tmp_path):
    error = refused(tmp_path / "nowhere.jpg")
    assert error.code == "E_IO" and "nowhere.jpg" in str(error) and "No such file" in str(error)


def test_directory(tmp_path):
    error = refused(tmp_path)
    assert error.code == "E_IO" and "a directory" in str(error)


def test_fifo_never_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    found = []
    thread = threading.Thread(target=lambda: found.append(refused(tmp_path / "pipe.jpg")))
    thread.daemon = True
    thread.start()
    thread.join(20)
    assert found and found[0].code == "E_IO" and "a FIFO" in str(found[0])


@pytest.mark.parametrize("url", ["http://host/p.jpg", "https://host/p.jpg", "file:///etc/passwd"])
@pytest.mark.parametrize("kind", [str, Path])
def test_url_is_no_path(url, kind):
    error = refused(kind(url))
    assert error.code == "E_IO" and "download it first" in str(error)


def test_no_permission(tmp_path):
    path = save(tmp_path, "p.png", colours())
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root reads everything
    try:
        error = refused(path)
    finally:
        os.seteuid(user)
    assert error.code == "E_IO" and "Permission denied" in str(error)


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000, ""])
def test_impossible_names(tmp_path, name):
    assert refused(f"{tmp_path}/{name}").code == "E_IO"


@pytest.mark.parametrize("name", ["mit Leerzeichen.png", "größe 写真.png", "n" * 240 + ".png"])
def test_unusual_names_are_read(tmp_path, name):
    assert read_photo(save(tmp_path, name, colours())).width == 60


# ---- everything else that can stand in a file


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    keep=st.floats(0, 1),
    allow=st.booleans(),
)
def test_damaged_files_give_a_photo_or_a_code(tmp_path_factory, kind, edits, keep, allow):
    data = bytearray(encode(Image.fromarray(colours(32, 48)), kind))
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    path = write(tmp_path_factory.mktemp("d"), "p", bytes(data[: int(keep * len(data))]))
    try:
        photo = read_photo(path, allow_truncated=allow)
    except FeatmeshError as error:
        assert error.code.startswith(("E_IMG_", "E_NONFINITE"))
    else:
        assert photo.pixels.dtype == np.uint8 and min(photo.height, photo.width) >= 16


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_code(tmp_path_factory, data):
    error = refused(write(tmp_path_factory.mktemp("d"), "p", data))
    assert error.code.startswith("E_IMG_")


def test_reading_twice_gives_the_same_bytes(tmp_path):
    path = save(tmp_path, "p.jpg", colours())
    assert read_photo(path).pixels.tobytes() == read_photo(str(path)).pixels.tobytes()


def test_reads_in_threads(tmp_path):
    path = save(tmp_path, "p.png", colours())
    found = []
    work = [threading.Thread(target=lambda: found.append(read_photo(path))) for _ in range(8)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(found) == 8 and all(np.array_equal(p.pixels, colours()) for p in found)


def test_kinds_the_decoder_knows_but_we_do_not_open(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(colours()).save(buffer, "PCX")
    assert refused(write(tmp_path, "p.pcx", buffer.getvalue())).code == "E_IMG_FORMAT"


def test_a_kind_this_pillow_lacks_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, "p.webp", colours())
    monkeypatch.delitem(Image.OPEN, "WEBP")
    error = refused(path)
    assert error.code == "E_IMG_FORMAT" and "WEBP, which this Pillow cannot read" in str(error)
