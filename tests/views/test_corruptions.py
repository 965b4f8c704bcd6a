"""Every corruption at every severity, on pictures made here."""

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.views.corruptions import CORRUPTIONS, SEVERITIES, corrupt, scale_of

GROUPS = {"noise": 4, "blur": 5, "weather": 4, "digital": 6}
# brightened and darkened at once, so that their strength shows in the structure alone
STRUCTURE = ("frost", "fog")


def made(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    """A picture: soft colours, and sharp rectangles with stripes."""
    rng = generator(seed, "picture")
    soft = gaussian_filter(rng.uniform(0, 1, (height, width, 3)), (6, 6, 0)) * 6 - 2.5
    across = np.arange(width)[None, :, None]
    for _ in range(6):
        y, x = rng.integers(0, height), rng.integers(0, width)
        h, w = rng.integers(10, 50, 2)
        part = soft[y : y + h, x : x + w]
        part[:] = rng.uniform(0.2, 0.8, 3) + 0.1 * np.sin(across[:, x : x + w] / 2)
    return (np.clip(0.1 + 0.8 * soft, 0, 1) * 255).astype(np.uint8)


PICTURES = [made(k) for k in range(5)]


def edges(pixels: np.ndarray) -> np.ndarray:
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    return np.concatenate([np.diff(grey, axis=axis).ravel() for axis in (0, 1)])


def distance(name: str, corrupted: np.ndarray, photo: np.ndarray) -> float:
    if name in STRUCTURE:
        return 1 - float(np.corrcoef(edges(corrupted), edges(photo))[0, 1])
    return float(np.abs(corrupted.astype(float) - photo).mean())


def test_there_are_the_nineteen_in_four_groups() -> None:
    found = [kind.group for kind in CORRUPTIONS.values()]
    assert {group: found.count(group) for group in found} == GROUPS
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_stronger_is_farther_from_the_photo(name: str) -> None:
    far = []
    for severity in SEVERITIES:
        changed = [corrupt(photo, name, severity, 0, k) for k, photo in enumerate(PICTURES)]
        for photo, found in zip(PICTURES, changed, strict=True):
            assert found.shape == photo.shape and found.dtype == np.uint8
            assert (found != photo).any()
        pairs = zip(changed, PICTURES, strict=True)
        far.append(np.mean([distance(name, found, photo) for found, photo in pairs]))
    assert (np.diff(far) > 0).all(), far


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_key_decides(name: str) -> None:
    photo = PICTURES[0].copy()
    first = corrupt(photo, name, 3, 1, 2)
    corrupt(photo, "snow", 5, 7, 7)
    np.testing.assert_array_equal(corrupt(photo, name, 3, 1, 2), first)
    for other in (corrupt(photo, name, 3, 2, 2), corrupt(photo, name, 3, 1, 3)):
        assert (other != first).any() == CORRUPTIONS[name].drawn
    np.testing.assert_array_equal(photo, PICTURES[0])


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(16, 21), (23, 73), (200, 31)])
def test_any_size_will_do(name: str, size: tuple[int, int]) -> None:
    photo = made(9, *size)
    for severity in (1, 4):
        found = corrupt(photo, name, severity)
        assert found.shape == photo.shape and (found != photo).any()


def test_a_black_and_a_grey_picture_stay_in_range() -> None:
    for value in (0, 128, 255):
        flat = np.full((40, 50, 3), value, np.uint8)
        for name in CORRUPTIONS:
            assert corrupt(flat, name, 5).dtype == np.uint8
    bright = corrupt(np.zeros((40, 50, 3), np.uint8), "brightness", 5)
    assert (bright == 128).all()


@pytest.mark.parametrize("name", ["brightness", "saturate"])
def test_hue_stays(name: str) -> None:
    photo = np.full((20, 20, 3), (120, 90, 60), np.uint8)
    r, g, b = (int(v) for v in corrupt(photo, name, 2)[0, 0])
    assert abs((g - b) / (r - b) - 0.5) < 0.1
    value, saturation = max(r, g, b) / 255, 1 - min(r, g, b) / max(r, g, b)
    expected = (120 / 255 + 0.2, 0.5) if name == "brightness" else (120 / 255, 0.05)
    assert (value, saturation) == pytest.approx(expected, abs=0.01)


def test_blur_keeps_the_object_in_its_place() -> None:
    photo = np.zeros((81, 81, 3), np.uint8)
    photo[36:45, 36:45] = 250
    for name in ("gaussian_blur", "defocus_blur", "motion_blur", "glass_blur", "zoom_blur"):
        mass = corrupt(photo, name, 5, 3).sum(-1).astype(float)
        centre = [(mass.sum(1 - axis) @ np.arange(81)) / mass.sum() for axis in (0, 1)]
        assert centre == pytest.approx([40, 40], abs=1.0), name


def test_lengths_grow_with_the_picture() -> None:
    assert scale_of(100.0, 50.0) == 1 and scale_of(448.0, 448.0) == 2
    photo = made(3, 448, 448)
    for name in ("gaussian_blur", "motion_blur", "pixelate"):
        near, far = (corrupt(photo, name, 3, scale=scale) for scale in (1.0, 2.0))
        assert distance(name, near, photo) < distance(name, far, photo)
        np.testing.assert_array_equal(corrupt(photo, name, 3), far)


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match=r"E_LEVEL: corrupt: .*elastic.*got 'rain'"):
        corrupt(PICTURES[0], "rain", 1)
    with pytest.raises(InputError, match=r"E_LEVEL: corrupt: .*1 to 5, got 6; try: 3"):
        corrupt(PICTURES[0], "fog", 6)


def test_a_photo_takes_no_time() -> None:
    photo = made(1, 300, 400)
    for name in CORRUPTIONS:
        corrupt(photo, name, 5)
        start = time.process_time()
        corrupt(photo, name, 5)
        assert time.process_time() - start < 0.2, name
