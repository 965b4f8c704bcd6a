"""Opening files that strangers named: regular files only, never blocking, never a URL."""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from featmesh.errors import InputError

# pathlib turns "http://host" into "http:/host"; one letter would be a Windows drive
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def refusal(code: str, who: str, expected: str, got: str, hint: str) -> InputError:
    """Return the error that says who expected what, what it got, and what to try."""
    return InputError(code, f"{who}: expected {expected}, got {got}; try: {hint}")


def open_regular(path: str | Path, who: str) -> BinaryIO:
    """Return a regular file opened for reading bytes.

    Args:
        path: of a local file.
        who: the complaining function, e.g. ``"read_photo"``.

    Raises:
        InputError: E_IO for a missing file, directory, FIFO, device, URL, or denied permission.
    """
    name = os.fspath(path)
    if _URL.match(name):
        raise refusal(
            "E_IO", who, "the path of a local file", f"the URL {name}", "download it first"
        )
    # without O_NONBLOCK opening a FIFO waits for a writer, perhaps for ever
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(name, flags)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise refusal(
            "E_IO", who, "a file that can be read", f"{name!r} ({reason})", _HINT
        ) from None
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        kind = next((word for test, word in _KINDS if test(mode)), "a special file")
        raise refusal("E_IO", who, "a regular file", f"{name!r}, which is {kind}", _HINT)
    return os.fdopen(number, "rb")


_HINT = "check the path and its permissions"
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)
