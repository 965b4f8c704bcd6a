"""Faults 4 to 7 and 13: every pixel format comes to 8-bit RGB, nothing clipped or blackened."""

import numpy as np
import pytest
from pictures import chunk, colours, encode, png, save, write
from PIL import Image, TiffImagePlugin

from featmesh.errors import InputError
from featmesh.photo.convert import to_rgb
from featmesh.photo.photo import GREY
from featmesh.photo.read import read_photo


def ramp(height=20, width=256):
    return np.tile(np.arange(width, dtype=np.uint8), (height, 1))


def grey_is(photo, expected):
    assert all(np.array_equal(photo.pixels[..., c], expected) for c in range(3))


# ---- 4: CMYK


def test_cmyk_jpeg_looks_like_its_rgb_twin(tmp_path):
    picture = Image.fromarray(colours(64, 96))
    rgb = read_photo(save(tmp_path, "rgb.jpg", picture, quality=95))
    cmyk = read_photo(save(tmp_path, "cmyk.jpg", picture.convert("CMYK"), quality=95))
    difference = np.abs(rgb.pixels.astype(int) - cmyk.pixels)
    assert difference.mean() < 4 and np.percentile(difference, 99) < 30


# ---- 5: 16 bits


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_equals_its_8_bit_twin(tmp_path, suffix):
    path = save(tmp_path, f"p.{suffix}", ramp().astype(np.uint16) * 257)
    grey_is(read_photo(path), ramp())


def test_16_bit_is_rounded_not_cut(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    photo = read_photo(save(tmp_path, "p.png", values))
    assert np.abs(photo.pixels[..., 0] * 257.0 - values).max() <= 128.5


def test_16_bit_pgm(tmp_path):
    rows = (ramp().astype(">u2") * 257).astype(">u2").tobytes()
    grey_is(read_photo(write(tmp_path, "p.pgm", b"P5 256 20 65535\n" + rows)), ramp())


def test_16_bit_colour_and_grey_with_alpha(tmp_path):
    values = (colours().astype(np.uint32) * 257).astype(">u2")
    path = write(tmp_path, "p.png", png(60, 40, 16, 2, rows=[row.tobytes() for row in values]))
    assert np.array_equal(read_photo(path).pixels, colours())
    both = np.stack([ramp(), np.full_like(ramp(), 255)], -1).astype(np.uint32) * 257
    rows = [row.astype(">u2").tobytes() for row in both]
    grey_is(read_photo(write(tmp_path, "la.png", png(256, 20, 16, 4, rows=rows))), ramp())


def test_16_bit_white_is_zero(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    values = (255 - ramp().astype(np.uint16)) * 257
    grey_is(read_photo(save(tmp_path, "p.tif", values, tiffinfo=tags)), ramp())


def test_16_bit_transparent_grey_value(tmp_path):
    rows = [(ramp()[0].astype(np.uint32) * 257).astype(">u2").tobytes()] * 20
    data = png(256, 20, 16, 0, rows=rows, before=[chunk(b"tRNS", (7 * 257).to_bytes(2, "big"))])
    photo = read_photo(write(tmp_path, "p.png", data))
    assert photo.alpha is not None and np.array_equal(photo.alpha == 0, ramp() == 7)
    assert tuple(photo.pixels[0, 7]) == GREY


# ---- 6, 13: floats, 32-bit integers, NaN


def declared(low, high):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[340], tags[341] = low, high
    return {"tiffinfo": tags}


@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_floats_without_a_range_are_refused(tmp_path, scale):
    path = save(tmp_path, "p.tif", ramp().astype(np.float32) * np.float32(scale))
    with pytest.raises(
        InputError, match="floating-point pixels without a declared range"
    ) as caught:
        read_photo(path)
    assert caught.value.code == "E_IMG_RANGE" and "16-bit PNG" in str(caught.value)


def test_32_bit_integers_without_a_range_are_refused(tmp_path):
    with pytest.raises(InputError, match="32-bit") as caught:
        read_photo(save(tmp_path, "p.tif", ramp().astype(np.int32)))
    assert caught.value.code == "E_IMG_RANGE"


def test_floats_with_a_declared_range(tmp_path):
    values = ramp().astype(np.float32) / 255 * 4 - 1
    path = save(tmp_path, "p.tif", values, **declared(-1.0, 3.0))
    grey_is(read_photo(path), ramp())


def test_a_declared_range_of_nonsense_is_none(tmp_path):
    for low, high in ((3.0, -1.0), (0.0, np.inf), (np.nan, 1.0)):
        path = save(tmp_path, "p.tif", ramp().astype(np.float32), **declared(low, high))
        with pytest.raises(InputError, match="without a declared range"):
            read_photo(path)


def test_floats_beyond_their_range_are_refused_not_clipped(tmp_path):
    path = save(tmp_path, "p.tif", ramp().astype(np.float32), **declared(0.0, 1.0))
    with pytest.raises(InputError, match=r"values in \[0, 1\].*got values in \[0, 255\]") as caught:
        read_photo(path)
    assert caught.value.code == "E_IMG_RANGE"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_pixels_are_refused(tmp_path, bad):
    values = ramp().astype(np.float32)
    values[3, 3] = bad
    with pytest.raises(InputError) as caught:
        read_photo(save(tmp_path, "p.tif", values, **declared(0.0, 255.0)))
    assert caught.value.code == "E_NONFINITE"


# ---- 7: palettes, transparency, few bits, animation


def test_grey_and_1_bit(tmp_path):
    grey_is(read_photo(save(tmp_path, "l.png", ramp())), ramp())
    photo = read_photo(save(tmp_path, "b.png", Image.fromarray(ramp() > 99)))
    grey_is(photo, np.where(ramp() > 99, 255, 0))


def test_palette(tmp_path):
    image = Image.fromarray(colours()).quantize(256)
    photo = read_photo(save(tmp_path, "p.png", image))
    assert np.array_equal(photo.pixels, np.asarray(image.convert("RGB"))) and photo.alpha is None


def half_clear(mode):
    image = Image.new("RGBA", (60, 40), (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (0, 0, 30, 40))
    return image.convert(mode)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P bytes", "P index", "RGB key"])
def test_transparent_red_is_grey_not_red(tmp_path, kind):
    if kind == "P bytes":
        image, options = Image.new("P", (60, 40), 1), {"transparency": b"\0\xff"}
        image.putpalette([255, 0, 0, 255, 0, 0])
        image.paste(0, (0, 0, 30, 40))
    elif kind == "P index":
        image, options = Image.new("P", (60, 40), 1), {"transparency": 0}
        image.putpalette([255, 0, 0, 255, 0, 0])
        image.paste(0, (0, 0, 30, 40))
    elif kind == "RGB key":
        image, options = half_clear("RGB"), {"transparency": (9, 9, 9)}
        image.paste((9, 9, 9), (0, 0, 30, 40))
    else:
        image, options = half_clear(kind), {}
    photo = read_photo(save(tmp_path, "p.png", image, **options))
    assert (photo.pixels[:, :30] == GREY).all()
    solid = (76, 76, 76) if kind == "LA" else (255, 0, 0)
    assert (photo.pixels[:, 30:] == solid).all()
    assert photo.alpha is not None
    assert (photo.alpha[:, :30] == 0).all() and (photo.alpha[:, 30:] == 255).all()


def test_half_opaque_is_mixed(tmp_path):
    image = Image.new("RGBA", (60, 40), (255, 0, 0, 128))
    photo = read_photo(save(tmp_path, "p.png", image))
    expected = np.array([255, 0, 0]) * 128 / 255 + np.array(GREY) * 127 / 255
    assert np.abs(photo.pixels - expected).max() <= 1 and (photo.alpha == 128).all()


def test_an_opaque_alpha_channel_is_no_mask(tmp_path):
    assert read_photo(save(tmp_path, "p.png", half_clear("RGB").convert("RGBA"))).alpha is None


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_gives_the_first_frame_and_a_warning(tmp_path, kind):
    frames = [Image.fromarray(colours()), Image.new("RGB", (60, 40), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    photo = read_photo(write(tmp_path, "p", data))
    assert np.abs(photo.pixels.astype(int) - colours()).mean() < 6
    assert len(photo.warnings) == 1 and "first one" in photo.warnings[0]


def test_colour_space_without_a_conversion_is_refused():
    with pytest.raises(InputError, match=r"La pixels in 'p\.tif'") as caught:
        to_rgb(Image.new("La", (60, 40)), None, "p.tif")
    assert caught.value.code == "E_IMG_FORMAT"
