"""Many photos: processes that estimate, here or on a cluster; part files; what went wrong.

The body of ``featmesh batch``. A kill at any moment loses no finished row, and the files of a run
that was stopped and went on are byte for byte those of one that was not (reliability 9).
"""

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from featmesh import __version__
from featmesh.config import config_to_dict
from featmesh.errors import InputError
from featmesh.files import read_json, write_json_atomic
from featmesh.progress import Meter, Stream
from featmesh.store import RunLock

from .batch_config import BatchConfig
from .batch_crew import Crew, Job, cores
from .batch_manifest import Item, Manifest, read_manifest
from .batch_parts import PARTS, UNFINISHED, Parts, Row
from .batch_worker import refused

SCHEMA = 1
CARD = "batch.json"
ENGINE = "featmesh.apps.batch_engine:PhotoEngine"
FREE = ("workers", "engine", "ray", "model")  # may change: who works, where the model lies

Settings = Mapping[str, Any]


@runtime_checkable
class Workforce(Protocol):
    """What does the rows of a batch, here or elsewhere: a context manager.

    Attributes:
        replaced: processes that died, or were ended, and were replaced.
    """

    replaced: int

    def __enter__(self) -> "Workforce": ...

    def __exit__(self, *_: object) -> None: ...

    def card(self) -> Mapping[str, Any]:
        """Return what the results depend on besides the settings."""

    def work(
        self, jobs: Sequence[Job], note: Callable[[str], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield row and result of each job, in the order in which they are done."""


@dataclass(frozen=True)
class BatchSummary:
    """What came of a batch.

    Attributes:
        out: its folder.
        photos: rows of the manifest.
        status: how many rows of each status.
        codes: how many rows of each error code; those in ``quarantine.jsonl``.
        done: rows done by this call; the others were done before.
        replaced: processes that died, or were ended, and were replaced.
        seconds: duration of this call.
    """

    out: Path
    photos: int
    status: Mapping[str, int]
    codes: Mapping[str, int]
    done: int
    replaced: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Photos a second of this call, the start of the processes included."""
        return self.done / max(self.seconds, 1e-3)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        told = asdict(self) | {"out": str(self.out), "seconds": round(self.seconds, 2)}
        return told | {"photos_per_second": round(self.per_second, 3)}


def run_batch(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: BatchConfig | None = None,
    stream: Stream | None = None,
    engine: str = ENGINE,
) -> BatchSummary:
    """Estimate every photo of a manifest into part files; go on where an earlier run stopped.

    Writes ``OUT/parts/part-NNNNN.jsonl``, a line a row; ``quarantine.jsonl``, the rows that could
    not be used; ``parts.json``, rows and SHA-256 of each part; ``batch.json``, what they depend on.

    Args:
        manifest: see :func:`featmesh.apps.batch_manifest.read_manifest`.
        out: made where it is missing.
        config: settings.
        stream: where progress is shown; default is the standard error output.
        engine: ``package.module:function`` that makes what estimates in each process
            (:class:`featmesh.apps.batch_worker.Engine`).

    Raises:
        DatasetError: as :func:`featmesh.apps.batch_manifest.read_manifest`.
        InputError: E_CONFIG where ``out`` holds a batch of another manifest, model or settings.
        FeatmeshError: E_LOCKED where another process works in ``out``, E_WORKER where no process
            starts, E_DISK_FULL, or what the model lacks; on Ray also those of
            :class:`featmesh.apps.batch_ray.RayCrew`.
    """
    config, out, start = config or BatchConfig(), Path(out), time.monotonic()
    _check(config)
    listed = read_manifest(manifest)
    rows, settings = len(listed.items), config_to_dict(config)
    with RunLock(out), ENGINES[config.engine](engine, settings, config, rows) as crew:
        _claim(out, _card(settings, listed, crew.card()))
        with Parts(out, rows, config.part_rows) as parts:
            todo = parts.missing()
            _work(
                crew,
                parts,
                [listed.items[row] for row in todo],
                Meter("batch", rows, rows - len(todo), stream),
            )
            parts.close()
            status, codes = _counts(parts)
    spent = time.monotonic() - start
    return BatchSummary(out, rows, status, codes, len(todo), crew.replaced, spent)


def _local(made_by: str, settings: Settings, config: BatchConfig, rows: int) -> Workforce:
    return Crew(made_by, settings, min(config.workers or cores(), rows), config.limit_s)


def _on_ray(made_by: str, settings: Settings, config: BatchConfig, rows: int) -> Workforce:
    from .batch_ray import RayCrew

    return RayCrew(made_by, settings, config, rows)


ENGINES: Mapping[str, Callable[[str, Settings, BatchConfig, int], Workforce]] = {
    "local": _local,
    "ray": _on_ray,
}


def _work(crew: Workforce, parts: Parts, todo: Sequence[Item], meter: Meter) -> None:
    """Do the rows that are missing, showing how far it is."""
    items = {item.row: item for item in todo}
    done, bad = meter.first, 0
    try:
        for row, result in _results(crew, todo, meter.note):
            parts.add({**items[row].told, **result})
            done, bad = done + 1, bad + (result["status"] == "bad_input")
            meter.show(done, f"{bad} in quarantine" if bad else "")
    finally:
        meter.close()


def _results(
    crew: Workforce, todo: Sequence[Item], note: Callable[[str], None]
) -> Iterator[tuple[int, Row]]:
    """Yield row and result of each item: of bad records at once, of the others from the crew."""
    for item in todo:
        if item.fault is not None:
            yield item.row, refused(item.fault)
    yield from crew.work([(i.row, i.record) for i in todo if i.fault is None], note)


def _counts(parts: Parts) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many rows have each status, and each error code; sorted."""
    status: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for row in parts.read():
        status[row["status"]] += 1
        codes.update([row["code"]] if "code" in row else [])
    return dict(sorted(status.items())), dict(sorted(codes.items()))


def _card(settings: Settings, listed: Manifest, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the files of a batch depend on."""
    return {
        "schema": SCHEMA,
        "featmesh": __version__,
        **model,
        "manifest": {"sha256": listed.sha256, "rows": len(listed.items)},
        **{key: value for key, value in settings.items() if key not in FREE},
    }


def _claim(out: Path, card: Mapping[str, Any]) -> None:
    """Write ``batch.json``, or raise E_CONFIG where the folder holds another batch."""
    path = out / CARD
    if path.exists():
        before = read_json(path)
        keys = sorted(before.keys() | card.keys())
        changed = [key for key in keys if before.get(key) != card.get(key)]
        got = f"a batch with another {', '.join(changed)}" if changed else ""
    else:
        foreign = [name for name in (PARTS, UNFINISHED) if (out / name).exists()]
        got = f"{', '.join(foreign)} without {CARD}" if foreign else ""
    if got:
        raise InputError(
            "E_CONFIG",
            f"batch: expected {out} to be empty or to hold an earlier part of this run, got {got}; "
            "try: another --out",
        )
    write_json_atomic(path, dict(card))


def _check(config: BatchConfig) -> None:
    """Raise E_CONFIG for numbers that make no sense."""
    faults = {
        "workers": config.workers < 0,
        "limit_s": not 0 < config.limit_s < math.inf,
        "part_rows": config.part_rows < 1,
        "ray.cpus": config.ray.cpus < 0,
        "ray.stall_s": config.engine == "ray"
        and not config.limit_s < config.ray.stall_s < threading.TIMEOUT_MAX,
    }
    for name, wrong in faults.items():
        if wrong:
            got = f"{name} {attrgetter(name)(config)}"
            raise InputError(
                "E_CONFIG",
                f"batch: expected workers and ray.cpus of 0 or more, a limit_s above 0, part_rows "
                f"of 1 or more and a ray.stall_s above limit_s, got {got}; try: the defaults",
            )
