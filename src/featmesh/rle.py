"""Masks as run lengths: COCO's, compressed to text or as a list; from the format's description.

A mask is read column by column. Its runs are counted, pixels outside first (0 of them where the
first pixel lies inside). From the fourth count on the difference to the count two before is kept.
Numbers are cut into 5 bits a character, low ones first, in two's complement: 32 says that more
follow, and 48 makes the character printable.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from featmesh.errors import InputError

BITS, MORE, FIRST = 5, 32, 48  # of a character: bits of the number, the mark, the smallest one
LONGEST = 12  # characters of a number: 60 bits


class Rle(TypedDict):
    """A mask in COCO's words.

    Attributes:
        size: height, width.
        counts: the runs.
    """

    size: list[int]
    counts: str


def encode(mask: Bool[np.ndarray, "h w"]) -> Rle:
    """Return a mask as COCO run lengths."""
    return encode_labels(mask.view(np.uint8), 1)[0]


def encode_labels(labels: UInt8[np.ndarray, "h w"], count: int) -> list[Rle]:
    """Return the masks of the labels 1 to ``count``, all from one look at the picture."""
    height, width = labels.shape
    total = height * width
    rows, columns = np.divmod(np.flatnonzero(labels[1:] != labels[:-1]), width)
    above = np.concatenate([[0], labels[-1, :-1]])  # a column goes on where the last one ended
    fresh = np.flatnonzero(labels[0] != above)
    starts = np.sort(np.concatenate([columns * height + rows + 1, fresh * height]))
    found = labels[starts % height, starts // height]
    ends = np.append(starts[1:], total)
    return [
        {
            "size": [height, width],
            "counts": _text(_counts(starts[found == k], ends[found == k], total)),
        }
        for k in range(1, count + 1)
    ]


def _counts(
    starts: Int64[np.ndarray, " n"], ends: Int64[np.ndarray, " n"], total: int
) -> Int64[np.ndarray, " k"]:
    """Return the counts of runs that never touch: outside, inside, outside, ..."""
    borders = np.stack([starts, ends], 1).reshape(-1)
    counts = np.diff(borders, prepend=0, append=total)
    return counts[:-1] if len(borders) and counts[-1] == 0 else counts


def _text(counts: Int64[np.ndarray, " n"]) -> str:
    """Return counts as characters."""
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    characters = np.zeros((len(counts), LONGEST), np.uint8)
    used = np.zeros((len(counts), LONGEST), bool)
    going = np.ones(len(counts), bool)
    for k in range(LONGEST):
        low = rest & (2**BITS - 1)
        rest >>= BITS
        done = rest == np.where(low & 2 ** (BITS - 1), -1, 0)  # the sign is told by the last bit
        characters[:, k] = low + np.where(done, 0, MORE) + FIRST
        used[:, k] = going
        going &= ~done
        if not going.any():
            break
    return characters[used].tobytes().decode("ascii")


def decode(rle: Mapping[str, Any] | Rle) -> Bool[np.ndarray, "h w"]:
    """Return the mask of COCO run lengths.

    Args:
        rle: with ``size`` (height, width) and ``counts``: compressed text, or a list of numbers.

    Raises:
        InputError: E_RLE where they are none, or do not fill the picture.
    """
    size, given = rle.get("size"), rle.get("counts")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(_is_count, size)):
        raise _bad("size [height, width]", repr(size)[:40])
    height, width = size
    if isinstance(given, list):
        if not all(map(_is_count, given)):
            raise _bad("a list of whole numbers", repr(given)[:40])
        counts = np.array(given, dtype=np.int64)
    else:
        counts = _numbers(given.decode("latin-1") if isinstance(given, bytes) else str(given))
    if len(counts) == 0 or bool((counts < 0).any()) or int(counts.sum()) != height * width:
        raise _bad(f"runs of {height * width} pixels", f"{int(counts.sum())}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def _numbers(text: str) -> Int64[np.ndarray, " n"]:
    """Return the counts of characters."""
    if not text.isascii():
        raise _bad("characters from '0' to 'o'", repr(text[:20]))
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - FIRST
    if bool(((codes < 0) | (codes >= 2 * MORE)).any()):
        raise _bad("characters from '0' to 'o'", repr(text[:20]))
    last = np.flatnonzero(codes < MORE)  # of each number
    if len(codes) == 0 or len(last) == 0 or last[-1] != len(codes) - 1:
        raise _bad("whole numbers", repr(text[-20:]))
    begin = np.append(0, last[:-1] + 1)
    if int((last - begin).max()) >= LONGEST:
        raise _bad("counts of a picture", repr(text[:20]))
    place = np.arange(len(codes)) - np.repeat(begin, last - begin + 1)
    values = np.add.reduceat((codes & (2**BITS - 1)) << (BITS * place), begin)
    negative = (codes[last] & 2 ** (BITS - 1)) > 0
    values -= np.where(negative, 1 << (BITS * (last - begin + 1)), 0)
    for parity in (1, 2):  # counts are told by the one two before, the first never
        values[parity::2] = np.cumsum(values[parity::2])
    return values


def _bad(expected: str, got: str) -> InputError:
    return InputError("E_RLE", f"rle: expected {expected}, got {got}; try: COCO's compressed runs")
