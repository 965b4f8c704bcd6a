"""Which photos are meant: files, folders of them, patterns, and text files with a path a line."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .files import refusal

# of a folder's files; a photo that is named itself is told by its content
PICTURES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm"),
    *(".jp2", ".avif", ".heic", ".heif", ".hif"),
)
LIST = ".txt"


def listed(named: Sequence[str | Path], who: str) -> list[Path]:
    """Return the photos that are meant, in the order they are named.

    Args:
        named: photos; folders, of which the pictures are taken in the order of their names, numbers
            as numbers; patterns such as ``a/*.jpg``, where no shell has filled them in; text files
            (``.txt``) with a path a line, relative to the file.
        who: the complaining program, e.g. ``"estimate"``.

    Whether a photo is there and can be read is not looked at: that is told photo by photo.

    Raises:
        InputError: E_IO for a folder, a pattern or a list of nothing, or a list that cannot be
            read.
    """
    return [photo for path in named for photo in _of(Path(path), who)]


def _of(path: Path, who: str) -> list[Path]:
    if os.path.isdir(path):  # a name no file can have is just no folder
        files = [file for file in path.iterdir() if _shown(file)]
        return _some(sorted(files, key=_by_number), f"pictures in the folder {path}", who)
    if path.suffix.lower() == LIST and os.path.isfile(path):
        return _some(_lines(path, who), f"a path a line in {path}", who)
    if glob.has_magic(str(path)) and not os.path.exists(path):
        files = [Path(name) for name in glob.glob(str(path), recursive=True)]
        files = [file for file in files if file.is_file()]
        return _some(sorted(files, key=_by_number), f"photos by the name {path}", who)
    return [path]


def _shown(file: Path) -> bool:
    """Return whether a file of a folder is meant: hidden ones are other programs' notes."""
    return (
        file.suffix.lower() in PICTURES and not file.name.startswith(".") and os.path.isfile(file)
    )


def _lines(path: Path, who: str) -> list[Path]:
    """Return the paths of a list; names in other encodings than UTF-8 survive as surrogates."""
    try:
        data = path.read_bytes()
    except OSError as error:
        got = f"{path} ({error.strerror})"
        raise refusal("E_IO", who, "a list that can be read", got, "its permissions") from None
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return [path.parent / line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def _some(found: list[Path], expected: str, who: str) -> list[Path]:
    if not found:
        hint = f"name photos, or folders with {', '.join(PICTURES[:3])}, ... in them"
        raise refusal("E_IO", who, expected, "none", hint)
    return found


def _by_number(path: Path) -> list[tuple[int, int, str]]:
    """Return the key that puts a2 before a10, folder by folder."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(p.isdecimal()), int(p) if p.isdecimal() else 0, p) for p in parts]
