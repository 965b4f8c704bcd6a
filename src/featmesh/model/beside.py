"""Files that lie beside ``model.json`` and that it names: part evidence, gist."""

from pathlib import Path
from typing import Any

from featmesh.files import broken

Stated = tuple[Path, str]  # a file and its SHA-256


def stated_file(folder: Path, row: Any, what: str) -> Stated | None:
    """Return the file that a row of a folder's JSON names, None where there is no row.

    Args:
        folder: that the file must lie in.
        row: ``{"file": name, "sha256": digest}``.
        what: of the row, for errors.

    Raises:
        CheckpointError: E_CKPT_FORMAT or E_CKPT_PATH for what names no file, E_CKPT_MISSING.
    """
    if row is None:
        return None
    file, digest = (row.get(k) if isinstance(row, dict) else None for k in ("file", "sha256"))
    if not isinstance(file, str) or not isinstance(digest, str):
        raise broken("FORMAT", folder, f"{what}: file and sha256", repr(row)[:80], "restore")
    if Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
        raise broken("PATH", folder, "a bare file name", repr(file)[:80], "restore the file")
    if not (folder / file).is_file():
        raise broken("MISSING", folder / file, "a file", "none", f"copy the {what} beside it")
    return folder / file, digest
