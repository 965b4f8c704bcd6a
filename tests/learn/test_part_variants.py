"""Claims about variants of annotated photos: the labels stay with the pixels."""

import numpy as np
import pytest

from featmesh.draws import generator
from featmesh.learn.part_variants import GRID, PixelParts, looked_up, turned, varied

MIRROR = np.array([0, 2, 1, 3])
SIZE = (96, 144)


def photo(number: int = 1) -> PixelParts:
    """A photo whose colours say the part: left, right and a middle one below."""
    parts = np.zeros((120, 200), np.uint8)
    parts[30:60, 40:100], parts[30:60, 100:160], parts[60:90, 40:160] = 1, 2, 3
    pixels = np.repeat(60 * parts[..., None], 3, 2).astype(np.uint8)
    nothing = np.zeros(parts.shape, bool)
    return PixelParts(number, pixels, parts, (40.0, 30.0, 160.0, 90.0), nothing)


def test_a_variant_is_the_same_for_the_same_key() -> None:
    one, same, other = (varied(photo(), SIZE, MIRROR, (), 0, k) for k in (3, 3, 4))
    assert np.array_equal(one.pixels, same.pixels) and np.array_equal(one.visible, same.visible)
    assert not np.array_equal(one.pixels, other.pixels)
    assert one.pixels.shape == (*SIZE, 3)
    assert one.visible.shape == (SIZE[0] // GRID, SIZE[1] // GRID)


@pytest.mark.parametrize("variant", range(6))
def test_every_second_variant_is_behind_occluders(variant: int) -> None:
    made = varied(photo(), SIZE, MIRROR, (), 0, variant)
    hidden = (made.whole > 0) & (made.visible == 0)
    assert bool(hidden.any()) == bool((1 + variant) % 2)
    assert np.array_equal(made.visible[~hidden], made.whole[~hidden])
    assert set(np.unique(made.whole)) <= {0, 1, 2, 3} and (made.whole > 0).mean() > 0.15


def test_labels_turn_with_the_pixels() -> None:
    for k in range(5):
        made = turned(photo(), generator(k, "test"))
        far = np.abs(made.pixels[..., 0].astype(int) - 60 * made.parts) > 30
        assert far.mean() < 0.03  # only where one colour fades into the next
        assert (made.parts != photo().parts).any()


def test_left_stays_left() -> None:
    seen = set()
    for k in range(8):
        whole = varied(photo(), SIZE, MIRROR, (), 0, k).whole
        columns = [np.nonzero(whole == part)[1].mean() for part in (1, 2)]
        seen.add(columns[0] < columns[1])
    assert seen == {True}  # a mirrored photo's left part is a right one's mirror image


def test_outside_the_photo_is_no_part() -> None:
    labels = np.ones((4, 6), np.uint8)
    at = np.array([[[-0.1, 1.0], [5.9, 3.9], [6.0, 1.0], [0.0, 4.0]]])
    assert looked_up(labels, at).tolist() == [[0, 1, 0, 0]]
