"""Photos that occur twice: the same bytes, or nearly the same picture (ours).

A picture is told by 16 x 16 means of its grey values, without mean and contrast. On Stanford Cars
two different photos correlate by at most .91, a photo and its copy at half the size, at JPEG
quality 40 or a fifth brighter by .984 and more; a copy with 2 % cut off at each side is missed.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

SIDE = 16  # cells of a thumbnail
ALIKE = 0.98  # correlation from which on two thumbnails show the same picture
FLAT = 2.0  # grey levels: pictures with less contrast all look alike
BLOCK = 2048  # thumbnails compared at once


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def thumbnail(pixels: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, " 256"] | None:
    """Return the picture in 16 x 16 grey means, mean 0 and length 1; None of a flat picture."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    cells = np.asarray(small, dtype=np.float32).ravel()
    if float(cells.std()) < FLAT:
        return None
    cells = cells - cells.mean()
    return (cells / np.linalg.norm(cells)).astype(np.float32)


def same_content(hashes: Mapping[Path, str]) -> list[list[Path]]:
    """Return the groups of files that hold the same bytes."""
    groups: dict[str, list[Path]] = {}
    for path, digest in hashes.items():
        groups.setdefault(digest, []).append(path)
    return [paths for paths in groups.values() if len(paths) > 1]


def nearly_same(
    first: Mapping[Path, Float32[np.ndarray, " 256"]],
    second: Mapping[Path, Float32[np.ndarray, " 256"]],
) -> Iterator[tuple[Path, Path, bool]]:
    """Yield pairs of pictures, one of each set, that look the same, and whether one is mirrored."""
    if not first or not second:
        return
    left, right = list(first), list(second)
    columns = np.stack([second[path] for path in right]).T
    rows = np.stack([first[path] for path in left])
    flipped = rows.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(rows), -1)
    for mirrored, block in ((False, rows), (True, flipped)):
        for i, j in _close(block, columns):
            yield left[i], right[j], mirrored


def _close(
    rows: Float32[np.ndarray, "n 256"], columns: Float32[np.ndarray, "256 m"]
) -> Iterator[Sequence[int] | Int64[np.ndarray, " 2"]]:
    for start in range(0, len(rows), BLOCK):
        found = np.argwhere(rows[start : start + BLOCK] @ columns > ALIKE)
        yield from found + np.array([start, 0])
