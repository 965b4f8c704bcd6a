"""Checkpoints that others wrote with PyTorch: their tensors by name, none of their code run (ours).

A pickle can run code when it is read, and promise more memory than its file holds: both are refused
before anything is built of it.
"""

import argparse
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featmesh.errors import CheckpointError
from featmesh.files import MAX_HEADER, MAX_TENSORS, broken, read_tensors

FILE_LIMIT = 4_000_000_000  # bytes; NeMo's checkpoints have about 330 MB
SHARED = 4  # how often tensors may share the same numbers, as tied weights do
DEPTH = 6  # how deep dictionaries and lists are searched
CODE = re.compile(r"(?:GLOBAL|allowlisted|class|function|instruction)\W+([\w.]+\.[\w.]+)")


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by dotted name; no code in it is run.

    A pickle is read as weights only: tensors, containers, numbers, texts, and the plain record of
    options (``argparse.Namespace``) that NeMo saves along. The file may promise no more than it
    holds: no compression, no tensor larger than its numbers.

    Args:
        path: what ``torch.save`` wrote, or safetensors.

    Raises:
        CheckpointError: E_CKPT_MISSING; E_CKPT_FOREIGN naming the code a pickle wants to run;
            E_CKPT_FORMAT where it is damaged, too large or holds no tensors.
    """
    if not path.is_file():
        raise broken("MISSING", path, "a file", "none", "check the path")
    if path.suffix == ".safetensors":
        return read_tensors(path)
    size = path.stat().st_size
    if size > FILE_LIMIT:
        raise broken("FORMAT", path, f"at most {FILE_LIMIT} bytes", f"{size}", "fewer tensors")
    _check_container(path, size)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # a NeMo checkpoint is a pickle; weights_only refuses whatever is not data
            found = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        raise _foreign(path, str(error)) from None
    except Exception as error:  # unpickling a damaged file fails in any way
        said = " ".join(str(error).split())[:160]
        raise broken("FORMAT", path, "a checkpoint of torch.save", said, "copy it again") from None
    tensors: dict[str, Tensor] = {}
    _gather("", found, tensors, DEPTH)
    _check_sizes(path, tensors, size)
    return tensors


def _check_container(path: Path, size: int) -> None:
    """Refuse an archive whose parts are larger than the file, before any of them is read."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                parts = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            got = f"{error} (cut short or changed)"
            raise broken("FORMAT", path, "a whole archive", got, "copy it again") from error
        packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
        total = sum(part.file_size for part in parts)
        told = [part.file_size for part in parts if part.filename.endswith("data.pkl")]
        if packed or total > size or len(parts) > MAX_TENSORS or max(told, default=0) > MAX_HEADER:
            got = f"{len(parts)} parts, {len(packed)} compressed, {total} bytes in {size}"
            raise broken("FORMAT", path, "an archive of torch.save", got, "save it again")
    elif not (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        got = repr(start)[1:]
        raise broken("FORMAT", path, "a checkpoint of torch.save", got, "a .pth file")


def _foreign(path: Path, said: str) -> CheckpointError:
    """Return the error of a pickle that is more than data; PyTorch's own advice is to run it."""
    named = CODE.search(said)
    got = f"code to run when read ({named[1]})" if named else "something else"
    hint = "a file from its authors that holds the state only"
    return broken("FOREIGN", path, "tensors, numbers and texts in the pickle", got, hint)


def _gather(name: str, value: Any, tensors: dict[str, Tensor], depth: int) -> None:
    """Collect the plain tensors of nested containers under dotted names."""
    if isinstance(value, Tensor):
        if value.layout == torch.strided and not value.is_quantized and not value.is_meta:
            tensors[name] = value.detach()
    elif isinstance(value, dict | list | tuple) and depth:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in inner:
            _gather(f"{name}.{key}" if name else str(key), item, tensors, depth - 1)


def _check_sizes(path: Path, tensors: dict[str, Tensor], size: int) -> None:
    """Refuse tensors that grow when copied: strides of 0, many views of the same numbers."""
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    if not tensors or len(tensors) > MAX_TENSORS or total > SHARED * size:
        got = f"{len(tensors)} tensors of {total} bytes in a file of {size}"
        raise broken("FORMAT", path, "tensors that the file holds", got, "save it again")
