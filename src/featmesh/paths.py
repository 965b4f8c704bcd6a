"""Paths that come from files: kept inside their folder; and files that are whole or not there."""

import errno
import os
from pathlib import Path, PureWindowsPath

from featmesh.errors import InputError

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # of an OSError: there is no room


def safe_join(root: str | os.PathLike[str], name: str) -> Path:
    """Return the absolute path of ``name`` below ``root``, or refuse it.

    Links are followed and what they lead to must lie below ``root`` too. The file need not exist.

    Args:
        root: the folder that may not be left.
        name: a relative path with ``/``, as written in a manifest, a views file or a mesh file.

    Raises:
        InputError: E_PATH where ``name`` is empty, absolute, has a drive, a backslash or a NUL, or
            leads out of ``root``.
    """
    if not name or "\0" in name:
        raise _unsafe(root, name, "name a file")
    if "\\" in name or PureWindowsPath(name).drive or name.startswith("/"):
        raise _unsafe(root, name, "write a relative path with /")
    try:
        base = Path(root).resolve()
        path = (base / name).resolve()
        settled = path.resolve() == path  # after a link loop the rest is joined unresolved
    except (OSError, ValueError, RuntimeError) as error:  # link loops, lone surrogates
        raise _unsafe(root, name, f"rename the file ({error})") from error
    if not settled or not path.is_relative_to(base):
        raise _unsafe(root, name, "move the file into the folder")
    return path


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 file so that a reader sees the old text or the new one, never a part.

    The text reaches the disk under a temporary name beside ``path`` and is renamed.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _unsafe(root: str | os.PathLike[str], name: str, hint: str) -> InputError:
    return InputError(
        "E_PATH",
        f"path: expected a relative path inside {os.fspath(root)}, got {name[:120]!r}; try: {hint}",
    )
