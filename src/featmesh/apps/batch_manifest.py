"""The list of photos of a batch: a text file, JSON lines or a views file (ours)."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featmesh.errors import DatasetError, FeatmeshError, InputError
from featmesh.paths import safe_join
from featmesh.views.fields import PARSERS, BadValue
from featmesh.views.record import raw_records

JSON_LINES = (".jsonl", ".ndjson")
ASKED = ("image", "box", "K", "width", "height")  # keys of a record that matter here


@dataclass(frozen=True)
class Item:
    """One row of a manifest.

    Attributes:
        row: its number, from 0; the rows of a manifest are told apart by it alone.
        told: what stands in the result of the row: ``row``, ``image`` as written, ``id``.
        record: what the estimate needs: ``path``, ``box``, ``K``, ``width``, ``height``.
        fault: what is wrong with the record; None where it can be used.
    """

    row: int
    told: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    fault: FeatmeshError | None = None


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest in its order, and the SHA-256 of the file."""

    items: tuple[Item, ...]
    sha256: str


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Return the rows of a manifest; a record that makes no sense harms only itself.

    ``.json`` is a views file, whose photos lie below its folder; ``.jsonl`` and ``.ndjson`` hold a
    record a line (``image``, ``box``, ``K``, ``id``; other keys are passed over); anything else is
    text with a path a line. Paths are relative to the manifest; a row may occur twice.

    Raises:
        DatasetError: E_IO where it cannot be read, E_VIEWS where a views file is no list, E_DATA
            where there is no row.
    """
    path = Path(path)
    data = _bytes(path)
    if path.suffix.lower() == ".json":
        records = enumerate(raw_records(path))
        items = tuple(_of_record(path, row, record, True) for row, record in records)
    else:
        kind = _of_json if path.suffix.lower() in JSON_LINES else _of_line
        items = tuple(kind(path, row, line) for row, line in enumerate(_lines(data)))
    if not items:
        raise _bad("E_DATA", path, "a photo a line", "an empty file", "list the photos")
    return Manifest(items, hashlib.sha256(data).hexdigest())


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such file"
        raise _bad("E_IO", path, "a list of photos", kind, "ls photos/*.jpg > photos.txt")
    try:
        return path.read_bytes()
    except OSError as error:
        got = str(error.strerror)
        raise _bad("E_IO", path, "a file that can be read", got, "its permissions") from error


def _lines(data: bytes) -> Iterator[str]:
    """Yield the lines that are not blank; names in other encodings survive as surrogates."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for line in text.split("\n"):
        if line.strip():
            yield line.removesuffix("\r")


def _of_line(path: Path, row: int, line: str) -> Item:
    return Item(row, {"row": row, "image": line}, {"path": _absolute(path, line)})


def _of_json(path: Path, row: int, line: str) -> Item:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = "write the line again"
        fault = _fault(row, "*", "a JSON object a line", str(error), hint)
        return Item(row, {"row": row, "image": None}, fault=fault)
    return _of_record(path, row, record, False)


def _of_record(path: Path, row: int, record: Any, inside: bool) -> Item:
    """Return the item of a record; ``inside``: its photo lies below the manifest's folder."""
    told: dict[str, Any] = {"row": row, "image": None}
    if not isinstance(record, dict):
        shown = repr(record)[:100]
        fault = _fault(row, "*", "an object", shown, '{"image": ...}')
        return Item(row, told, fault=fault)
    image, ident, key = record.get("image"), record.get("id"), "image"
    told["image"] = image if isinstance(image, str) else None
    told |= {"id": ident} if isinstance(ident, str | int) else {}
    try:
        for key in ASKED:
            if key == "image" or record.get(key) is not None:
                PARSERS[key](record.get(key))
        file = _below(path, str(image)) if inside else _absolute(path, str(image))
    except BadValue as bad:
        got = bad.got or repr(record.get(key))[:100]
        return Item(row, told, fault=_fault(row, key, bad.expected, got, bad.hint))
    except InputError as error:
        return Item(row, told, fault=error)
    given = {key: record[key] for key in ASKED[1:] if record.get(key) is not None}
    return Item(row, told, {"path": file, **given})


def _absolute(path: Path, name: str) -> str:
    return os.path.join(path.parent.absolute(), name)


def _below(path: Path, name: str) -> str:
    """Return the path of a photo of a views file; E_PATH, without the folder, if it leaves it."""
    try:
        return str(safe_join(path.parent, name))
    except InputError as error:
        text = f"batch: expected a path inside the manifest's folder, got {name[:120]!r}; "
        raise InputError(error.code, text + "try: move the photo into it") from None


def _fault(row: int, key: str, expected: str, got: str, hint: str) -> InputError:
    text = f"batch: row {row} key {key!r}: expected {expected}, got {got}; try: {hint}"
    return InputError("E_VIEWS", text)


def _bad(code: str, path: Path, expected: str, got: str, hint: str) -> DatasetError:
    text = f"batch: expected {expected} in {path}, got {got}; try: {hint}"
    return DatasetError(code, text)
