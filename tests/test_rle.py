import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from featmesh.errors import InputError
from featmesh.rle import decode, encode, encode_labels

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)
MASKS = arrays.arrays(bool, SHAPES)
LABELS = arrays.arrays(np.uint8, SHAPES, elements=st.integers(0, 4))


def mask(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        (("....", "....", "...."), "<"),  # 12 outside
        (("####", "####", "####"), "0<"),  # none outside, 12 inside
        (("#....", ".#...", "..#..", "...#.", "....#"), "0150000000"),  # 0 1 5, then no change
        ((".##.", ".#..", "##.#"), "254L"),  # 2 5 4 1: the last is 1 - 5 = -4
        (("." * 40,), "X1"),  # 40 = 8 + 32 * 1
        (("." * 16,), "`0"),  # 16 alone would be read as -16
        (("." * 15,), "?"),
    ],
)
def test_counts_worked_out_by_hand(rows: tuple[str, ...], counts: str) -> None:
    given_ = mask(*rows)
    told = encode(given_)
    assert told == {"size": list(given_.shape), "counts": counts}
    np.testing.assert_array_equal(decode(told), given_)


def test_a_large_rectangle_with_a_hole_has_the_counts_of_cocos_own_program() -> None:
    picture = np.zeros((30, 40), bool)
    picture[3:27, 5:20] = True
    picture[12:15, 10:12] = False
    assert encode(picture)["counts"] == "i4h0600000000AM33MM33<00000000000000eb0"


@given(MASKS)
def test_what_is_encoded_is_decoded(picture: np.ndarray) -> None:
    told = encode(picture)
    assert told["size"] == list(picture.shape) and told["counts"].isascii()
    np.testing.assert_array_equal(decode(told), picture)
    np.testing.assert_array_equal(decode(encode(picture.T)), picture.T)


@given(LABELS)
def test_labels_are_encoded_like_the_mask_of_each(labels: np.ndarray) -> None:
    assert encode_labels(labels, 5) == [encode(labels == k) for k in range(1, 6)]


def test_a_photo_of_12_megapixels_takes_a_moment() -> None:
    y, x = np.ogrid[:3000, :4000]
    picture = ((y - 1500) / 1100) ** 2 + ((x - 2000) / 1700) ** 2 < 1
    begin = time.process_time()
    told = encode(picture)
    assert time.process_time() - begin < 0.5  # 0.02 measured
    assert len(told["counts"]) < 20_000
    np.testing.assert_array_equal(decode(told), picture)


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([3, 4], ""),
        ([3, 4], ";"),  # 11 pixels
        ([3, 4], "0L"),  # -4 of them
        ([3, 4], "X"),  # a number without its end
        ([3, 4], "0<!"),
        ([3, 4], "é"),
        ([3, 4], "o" * 30 + "0"),
    ],
)
def test_what_is_no_mask_is_refused(size: list[int], counts: str) -> None:
    with pytest.raises(InputError) as caught:
        decode({"size": size, "counts": counts})
    assert caught.value.code == "E_RLE"


def test_a_list_of_counts_is_read_column_by_column() -> None:
    mask = decode({"size": [2, 3], "counts": [1, 2, 3]})
    assert mask.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [2, 3], "counts": [1, 2]},
        {"size": [2, 3], "counts": [1, -1, 6]},
        {"size": [2, 3], "counts": ["6"]},
        {"size": [2], "counts": [6]},
        {"counts": [6]},
    ],
)
def test_counts_that_are_none_are_refused(rle) -> None:
    with pytest.raises(InputError) as caught:
        decode(rle)
    assert caught.value.code == "E_RLE"
