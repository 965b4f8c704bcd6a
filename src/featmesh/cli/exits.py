"""Exit codes of the command, and the error of a command line that makes no sense."""

from featmesh.paths import FULL

FAILED = 1
USAGE = 2
DISK_FULL = 75
INTERRUPTED = 130
TERMINATED = 143


class UsageError(Exception):
    """Options that do not go together; the text is a whole message with its code."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error, or one behind it, says that nothing more can be written.

    safetensors reports a full disk as text, without an errno.
    """
    if getattr(error, "code", "") == "E_DISK_FULL":
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        if type(seen).__name__ == "SafetensorError" and "No space left" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
