"""Files that are whole or not there: atomic writing, hashed reading of safetensors and JSON (ours).

Nothing is ever unpickled. A kill at any moment and a full disk leave the old content as it was.
"""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from featmesh.errors import CheckpointError, FeatmeshError, InputError
from featmesh.paths import FULL

MAX_TENSORS = 10_000  # a header with very many tensors stalls the reader
MAX_HEADER = 8_000_000  # bytes; 10,000 tensors with long names need about 3 MB
MAX_JSON = 64_000_000  # bytes
_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
_MAGIC = {  # first bytes of weights that only unpickling could read
    b"PK\x03\x04": "a zip archive, as torch.save writes it, with a Python pickle inside",
    **{bytes([0x80, protocol]): "a Python pickle" for protocol in range(2, 6)},
    b"\x93NUMPY": "a numpy file",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
}


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; E_IO where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(Path(path), error) from error


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write a file, so that ``path`` holds the old content or the new one, whatever happens.

    Missing folders are made.

    Raises:
        FeatmeshError: E_DISK_FULL, naming path and bytes needed; the old content is intact.
        InputError: E_IO where the file cannot be written for another reason.
    """
    path = Path(path)
    temp = path.with_name(f"{temp_name()}@{hashlib.sha256(path.name.encode()).hexdigest()[:8]}")
    with explained(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_synced(temp, data)
            os.replace(temp, path)
            sync_folder(path.parent)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise


def write_json_atomic(path: str | Path, content: Any) -> None:
    """Write JSON as ``write_bytes_atomic`` does; NaN and Inf are refused (E_NONFINITE)."""
    write_bytes_atomic(path, json_bytes(content))


def write_tensors_atomic(path: str | Path, tensors: dict[str, Tensor]) -> str:
    """Write safetensors as ``write_bytes_atomic`` does and return the SHA-256 of the file.

    The same tensors give the same bytes. What ``read_tensors`` would refuse is not written.
    """
    data = tensor_bytes(tensors, Path(path))
    write_bytes_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the object in a JSON file; E_CKPT_MISSING, E_CKPT_FORMAT or E_IO if there is none."""
    path = Path(path)
    data = _read_bytes(path, MAX_JSON)
    try:
        content = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise broken("FORMAT", path, "JSON", str(error), "restore the file") from error
    if not isinstance(content, dict):
        raise broken("FORMAT", path, "a JSON object", type(content).__name__, "restore the file")
    return content


def check_schema(content: dict[str, Any], newest: int, path: Path) -> None:
    """Raise E_CKPT_VERSION for a newer format, E_CKPT_FORMAT where no format is named."""
    schema = content.get("schema")
    if type(schema) is not int or schema < 1:
        raise broken("FORMAT", path, "a schema number", repr(schema), "restore the file")
    if schema > newest:
        raise broken("VERSION", path, f"schema {newest} or older", f"{schema}", "update featmesh")


def read_tensors(
    path: str | Path, sha256: str | None = None, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, checked before and after they are made.

    Args:
        path: the file.
        sha256: what its hash must be; None: not compared.
        device: where the tensors go.

    Raises:
        CheckpointError: E_CKPT_MISSING, E_CKPT_FOREIGN (a pickle: never opened), E_CKPT_HASH
            (truncated or changed), E_CKPT_FORMAT (too many tensors, unknown type),
            E_CKPT_NONFINITE (NaN or Inf, naming the tensor).
    """
    path = Path(path)
    data = _read_bytes(path)
    whole = _looks_like_safetensors(data)
    if not whole:
        refuse_foreign(path, data[:16])
    found = hashlib.sha256(data).hexdigest()
    if not whole or sha256 not in (None, found):
        expected = "safetensors" if sha256 is None else f"safetensors with SHA-256 {sha256[:12]}"
        got = f"{found[:12]} over {len(data)} bytes (cut short or changed)"
        raise broken("HASH", path, expected, got, "fetch or copy it again")
    tensors = _parsed(data, path)
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, path)
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def refuse_foreign(path: Path, start: bytes) -> None:
    """Raise E_CKPT_FOREIGN if the first bytes of a file are those of a pickle or its like."""
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            raise broken(
                "FOREIGN",
                path,
                "safetensors",
                f"{kind}: reading it can run code hidden in it, so featmesh never does",
                "where you trust it: torch.load, then safetensors.torch.save_file",
            )


def tensor_bytes(tensors: dict[str, Tensor], path: Path) -> bytes:
    """Return tensors as a safetensors file, refusing what ``read_tensors`` would refuse.

    ``path`` is only named in errors: E_CKPT_FORMAT (too many, unknown type), E_CKPT_NONFINITE.
    """
    if len(tensors) > MAX_TENSORS:
        raise broken("FORMAT", path, f"at most {MAX_TENSORS} tensors", f"{len(tensors)}", "fewer")
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, path)
    # cloned: tied weights share memory, which safetensors refuses
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return safetensors.torch.save(plain)


def _check_tensor(name: str, tensor: Tensor, path: Path) -> None:
    if tensor.dtype not in _DTYPES:
        raise broken("FORMAT", path, f"a plain type for {name!r}", f"{tensor.dtype}", "float32")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        got = f"{bad} of {tensor.numel()} NaN or Inf"
        raise broken("NONFINITE", path, f"finite numbers in {name!r}", got, "an earlier state")


def _parsed(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        count = len(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
        tensors = safetensors.torch.load(data) if count <= MAX_TENSORS else {}
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise broken("HASH", path, "whole safetensors", str(error), "copy it again") from error
    if count > MAX_TENSORS:
        raise broken("FORMAT", path, f"at most {MAX_TENSORS} tensors", f"{count}", "fewer")
    return tensors


def _looks_like_safetensors(data: bytes) -> bool:
    """Length of the header, then JSON. A pickle's first byte can also be that of such a length."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= MAX_HEADER


def _read_bytes(path: Path, limit: int | None = None) -> bytes:
    try:
        if not path.is_file():  # nor a FIFO, which would block
            raise broken("MISSING", path, "a file", "none", "fetch or copy it again")
        if limit is not None and path.stat().st_size > limit:
            got = f"{path.stat().st_size}"
            raise broken("FORMAT", path, f"at most {limit} bytes", got, "restore the file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise broken("MISSING", path, "a file", "none", "fetch or copy it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def json_bytes(content: Any) -> bytes:
    """Return content as JSON text; E_NONFINITE for NaN and Inf, which are no JSON."""
    try:
        return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
    except ValueError as error:
        message = f"store: expected finite numbers for JSON, got {error}; try: null"
        raise InputError("E_NONFINITE", message) from error


def write_synced(path: Path, data: bytes) -> None:
    """Write a file in place and wait until it is on the disk, not only in memory."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: a rename is one of them."""
    if os.name != "posix":  # Windows syncs no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temp_name() -> str:
    """Return the hidden name of what this process is writing; ``store.sweep`` knows it."""
    return f".tmp-{os.getpid()}@{host_name()}"


def host_name() -> str:
    """Return this machine's name with only letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]


@contextmanager
def explained(path: Path, needed: int) -> Iterator[None]:
    """Turn a failed write into E_DISK_FULL (``needed`` bytes at ``path``) or E_IO."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            hint = "another folder, or its permissions"
            message = f"store: expected to write {path}, got {error.strerror or error}; try: {hint}"
            raise InputError("E_IO", message) from error
        raise FeatmeshError(
            "E_DISK_FULL",
            f"store: expected room for {needed} bytes at {path}, got {error.strerror}; "
            "try: free space and go on, what was saved before is intact",
        ) from error


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _unreadable(path: Path, error: OSError) -> InputError:
    hint = "check the path and its permissions"
    message = f"store: expected to read {path}, got {error.strerror or error}; try: {hint}"
    return InputError("E_IO", message)


def broken(code: str, path: Path, expected: str, got: str, hint: str) -> CheckpointError:
    """Return the error E_CKPT_``code`` about a file, in the house's four parts."""
    message = f"{path}: expected {expected}, got {got}; try: {hint}"
    return CheckpointError(f"E_CKPT_{code}", message)
