"""The processes of a batch: hands out records, replaces the dead, gives up what cannot be done.

One thread a process reads its replies into one queue; everything is decided by the caller's thread.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, cast

from featmesh.errors import FeatmeshError, InputError

from .batch_worker import refused

DEATHS = 3  # a photo with which so many processes died is given up; one death may be chance
START_S = 600.0  # seconds until a process has its model and answers
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

Job = tuple[int, Mapping[str, Any]]  # row, record
Reply = tuple["Worker", Any]  # None: it has ended


class Worker:
    """One process and what it is doing.

    Attributes:
        row: the row it works on; None where it is idle or still starting.
        ready: whether it has its model.
        dying: whether it was killed for being late.
        since: when it began what it is doing, seconds of the monotonic clock.
    """

    def __init__(self, made_by: str, settings: Mapping[str, Any], replies: queue.Queue[Reply]):
        self.row: int | None = None
        self.ready = self.dying = False
        self.since = time.monotonic()
        self._process = _started()
        self._requests = cast(IO[bytes], self._process.stdin)
        self._told = cast(IO[bytes], self._process.stdout)
        self._thread = threading.Thread(target=self._read, args=(replies,), daemon=True)
        self._thread.start()
        self._send([made_by, dict(settings)])

    @property
    def busy(self) -> bool:
        """Whether an answer is due from it: its greeting, or the result of its row."""
        return not self.dying and (self.row is not None or not self.ready)

    @property
    def free(self) -> bool:
        """Whether it can take a row."""
        return self.ready and self.row is None and not self.dying

    def take(self, job: Job) -> None:
        """Begin a row."""
        self.row, self.since = job[0], time.monotonic()
        self._send([job[0], dict(job[1])])

    def kill(self) -> int | None:
        """End the process at once; return the row it worked on, which it works on no more."""
        self._process.kill()
        self.dying = True
        row, self.row = self.row, None
        return row

    def close(self) -> None:
        """Wait for the end of a killed process and close its pipes."""
        self._process.wait()
        self._thread.join()
        self._told.close()
        with suppress(OSError):  # what was not sent has no reader any more
            self._requests.close()

    def _send(self, told: Any) -> None:
        try:
            self._requests.write(json.dumps(told).encode() + b"\n")
            self._requests.flush()
        except OSError:  # it has died: the end of its replies says so
            return

    def _read(self, replies: queue.Queue[Reply]) -> None:
        for line in self._told:
            if not line.endswith(b"\n"):  # cut off by its death
                break
            replies.put((self, json.loads(line)))
        replies.put((self, None))


def _started() -> "subprocess.Popen[bytes]":
    """Return a new process that sees the packages this one sees and computes with one thread."""
    seen = os.pathsep.join(os.path.abspath(p) for p in sys.path)
    one = dict.fromkeys(THREADS, "1") | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": seen}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "featmesh.apps.batch_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | one,
        # Ctrl-C reaches only the one who started it, who ends it
        process_group=0 if os.name == "posix" else None,
    )


class Crew:
    """Context manager: processes that answer records; left, it ends them.

    Args:
        made_by: ``package.module:function`` that makes the engine of a process.
        settings: what the function is given.
        count: how many processes.
        limit_s: seconds a row may take.
    """

    def __init__(
        self, made_by: str, settings: Mapping[str, Any], count: int, limit_s: float
    ) -> None:
        self.count, self.limit_s = count, limit_s
        self._note: Callable[[str], None] = lambda text: None
        self.replaced = 0
        self._engine = (made_by, settings)
        self._replies: queue.Queue[Reply] = queue.Queue()
        self._workers: list[Worker] = []
        self._card: Any = None
        self._failed = 0  # starts in a row

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.close()

    def card(self) -> Mapping[str, Any]:
        """Return the card of the engine: what the results depend on besides the settings.

        Raises:
            FeatmeshError: what the engine raised when it was made; E_WORKER where no process
                starts.
        """
        while self._card is None:
            self._fill(self.count)
            for _ in self._event(Counter()):
                pass
        return self._card

    def work(
        self, jobs: Sequence[Job], note: Callable[[str], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield row and result of each job, in the order in which they are done.

        A row with which a process died comes last again; with the third death its result is a bad
        input, E_WORKER; so is, E_TIMEOUT, that of one that takes longer than the limit. ``note`` is
        told of each.

        Raises:
            FeatmeshError: as :meth:`card`; E_CONFIG where a later process has another card.
        """
        waiting, records, self._note = deque(jobs), dict(jobs), note
        deaths: Counter[int] = Counter()
        while waiting or any(worker.row is not None for worker in self._workers):
            self._fill(len(waiting))
            for worker in self._workers:
                if waiting and worker.free:
                    worker.take(waiting.popleft())
            for row, result in self._event(deaths):
                if result is None:
                    waiting.append((row, records[row]))
                else:
                    yield row, result

    def _fill(self, wanted: int) -> None:
        """Start processes until there are as many as there is work for."""
        idle = sum(worker.row is None and not worker.dying for worker in self._workers)
        for _ in range(min(self.count - len(self._workers), wanted - idle)):
            self._workers.append(Worker(*self._engine, self._replies))

    def _event(self, deaths: Counter[int]) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Wait for one thing to happen; yield the row it settles, None for one to be done again."""
        try:
            worker, told = self._replies.get(timeout=self._patience())
        except queue.Empty:
            yield from self._late()
            return
        if told is None:
            yield from self._ended(worker, deaths)
        elif worker.ready:
            if worker.row is not None:  # else its time was up
                worker.row = None
                yield told[0], told[1]
        else:
            self._greet(worker, told)

    def _patience(self) -> float:
        """Return the seconds until the first process is late."""
        now = time.monotonic()
        left = [self._due(worker) - now for worker in self._workers if worker.busy]
        return max(min(left, default=START_S), 0.0)

    def _due(self, worker: Worker) -> float:
        return worker.since + (self.limit_s if worker.ready else START_S)

    def _late(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """End the processes that are late; the rows they worked on are given up."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.busy and now >= self._due(worker):
                row = worker.kill()
                if row is not None:
                    self._note(
                        f"batch: row {row} took more than {self.limit_s:g} s: it is given up"
                    )
                    yield row, refused(_too_slow(self.limit_s))

    def _ended(
        self, worker: Worker, deaths: Counter[int]
    ) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Bury a process; the row it worked on is done again, or given up."""
        self._workers.remove(worker)
        row = worker.kill()
        worker.close()
        self.replaced += 1
        if not worker.ready:
            self._failed += 1
            if self._failed >= DEATHS * self.count:
                raise _no_worker(self._failed)
        if row is None:
            return
        deaths[row] += 1
        given_up = deaths[row] >= DEATHS
        what = "it is given up" if given_up else "it will be tried again"
        self._note(f"batch: a worker died with the photo of row {row}: {what}")
        yield row, refused(deadly()) if given_up else None

    def _greet(self, worker: Worker, told: Mapping[str, Any]) -> None:
        """Take in a process that has its model, or raise what kept it from having one."""
        if "failed" in told:
            raise FeatmeshError(*told["failed"])
        self._card = self._card or told["card"]
        if told["card"] != self._card:
            raise InputError(
                "E_CONFIG",
                "batch: expected the model that the run began with, got another; "
                "try: leave the model as it is while a batch runs",
            )
        worker.ready, self._failed = True, 0


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _too_slow(limit_s: float) -> InputError:
    text = f"batch: expected a result within {limit_s:g} s, got none; try: a higher --limit-s"
    return InputError("E_TIMEOUT", text)


def deadly() -> InputError:
    """Return why a photo with which processes died is given up."""
    return InputError(
        "E_WORKER",
        f"batch: expected a result, got the death of {DEATHS} processes that worked on it; "
        "try: more memory, or the photo by itself with featmesh estimate",
    )


def _no_worker(failed: int) -> FeatmeshError:
    return FeatmeshError(
        "E_WORKER",
        f"batch: expected processes that start, got {failed} in a row that ended before "
        "their first photo; try: fewer --workers (memory), featmesh doctor",
    )
