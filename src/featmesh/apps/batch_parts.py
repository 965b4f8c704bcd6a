"""The rows of a batch on disk: part files that are whole or not there, and what is unfinished.

A part holds a fixed number of rows of the manifest, so its bytes depend neither on how many
processes worked nor on the order in which rows were done, nor on interruptions.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from featmesh.files import explained, sha256_of, write_bytes_atomic, write_json_atomic
from featmesh.store import sweep

PARTS, UNFINISHED = "parts", "unfinished.jsonl"
QUARANTINE, SUMS = "quarantine.jsonl", "parts.json"
QUARANTINED = ("row", "id", "image", "code", "message")

Row = dict[str, Any]


class Parts:
    """Context manager: the rows that are done, in files below ``folder``.

    A row goes to ``unfinished.jsonl`` at once and to its part when that is complete; after a kill
    both are read back. A part that is not as it was written is done again.

    Args:
        folder: of the batch.
        rows: how many there are.
        each: rows a part.
    """

    def __init__(self, folder: Path, rows: int, each: int) -> None:
        self.folder, self.rows, self.each = folder, rows, each
        self._pending: dict[int, dict[int, Row]] = {}  # part: row: result
        self._finished: set[int] = set()
        self._journal: io.FileIO | None = None

    def __enter__(self) -> "Parts":
        (self.folder / PARTS).mkdir(parents=True, exist_ok=True)
        for place in (self.folder, self.folder / PARTS):
            sweep(place)
        count = -(-self.rows // self.each)
        self._finished = {part for part in range(count) if self._read(part) is not None}
        for row in self._left():
            self._pending.setdefault(row["row"] // self.each, {})[row["row"]] = row
        for part in list(self._pending):
            self._complete(part)
        self._restart_journal()
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.close()

    def path(self, part: int) -> Path:
        """Return the file of a part."""
        return self.folder / PARTS / f"part-{part:05d}.jsonl"

    def missing(self) -> list[int]:
        """Return the rows that are not done."""
        return [
            row
            for row in range(self.rows)
            if row // self.each not in self._finished
            and row not in self._pending.get(row // self.each, {})
        ]

    def add(self, row: Row) -> None:
        """Keep a row; it outlives the death of this process.

        Raises:
            FeatmeshError: E_DISK_FULL; the parts that are finished are intact.
        """
        part = row["row"] // self.each
        self._pending.setdefault(part, {})[row["row"]] = row
        if self._complete(part):
            self._restart_journal()
        elif self._journal is not None:
            line = _line(row)
            with explained(self.folder / UNFINISHED, len(line)):
                self._journal.write(line)

    def read(self) -> Iterator[Row]:
        """Yield the rows of the finished parts, in order."""
        for part in sorted(self._finished):
            yield from self._read(part) or ()

    def close(self) -> None:
        """Write what follows from the parts, ``quarantine.jsonl`` and ``parts.json``."""
        bad = (row for row in self.read() if row["status"] == "bad_input")
        lines = (_line({key: row[key] for key in QUARANTINED if key in row}) for row in bad)
        write_bytes_atomic(self.folder / QUARANTINE, b"".join(lines))
        sums = [
            {"file": f"{PARTS}/{path.name}", "rows": self._size(part), "sha256": sha256_of(path)}
            for part, path in ((part, self.path(part)) for part in sorted(self._finished))
        ]
        write_json_atomic(self.folder / SUMS, {"schema": 1, "parts": sums})
        if self._journal is not None:
            self._journal.close()
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def _complete(self, part: int) -> bool:
        """Write a part, if all its rows are there."""
        rows = self._pending[part]
        if len(rows) < self._size(part):
            return False
        write_bytes_atomic(self.path(part), b"".join(_line(rows[row]) for row in sorted(rows)))
        del self._pending[part]
        self._finished.add(part)
        return True

    def _size(self, part: int) -> int:
        return min(self.each, self.rows - part * self.each)

    def _read(self, part: int) -> Sequence[Row] | None:
        """Return the rows of a part, None where it is not there or damaged."""
        first, path = part * self.each, self.path(part)
        rows = list(_rows(path)) if path.is_file() else []
        asked = list(range(first, first + self._size(part)))
        return rows if [row["row"] for row in rows] == asked else None

    def _left(self) -> Iterator[Row]:
        """Yield the rows that an earlier process left in no part."""
        path = self.folder / UNFINISHED
        for row in _rows(path) if path.is_file() else ():
            if 0 <= row["row"] < self.rows and row["row"] // self.each not in self._finished:
                yield row

    def _restart_journal(self) -> None:
        """Let the file of unfinished rows hold only these."""
        if self._journal is not None:
            self._journal.close()
        path = self.folder / UNFINISHED
        rows = (row for part in self._pending.values() for row in part.values())
        write_bytes_atomic(path, b"".join(map(_line, rows)))
        self._journal = path.open("ab", buffering=0)


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file up to the first that is not whole."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            return
        whole = isinstance(row, dict) and isinstance(row.get("row"), int) and "status" in row
        if not whole or not line.endswith(b"\n"):
            return
        yield row
