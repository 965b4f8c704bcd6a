"""The processes of a server: each estimates one photo at a time and is replaced when it must be.

One thread decides everything; it hears requests and the processes' replies through one queue.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from featmesh.errors import FeatmeshError

from .batch_crew import START_S, Worker

DEATHS = 2  # a photo with which so many processes died is given up; one death may be chance
STARTS = 3  # failed starts in a row after which waiting photos are given up
LONGEST_PAUSE = 30.0  # seconds between failed starts
Result = dict[str, Any]


@dataclass(eq=False)
class Job:
    """A photo to be estimated, and where its result goes."""

    record: Mapping[str, Any]
    future: "Future[Result]" = field(default_factory=Future)
    deaths: int = 0


@dataclass(eq=False)
class Place:
    """A process, what it works on and what it has done.

    Attributes:
        job: None where it is idle or still starting.
        done: photos it has answered.
        bytes: its resident memory at its last answer.
        tired: whether another is to take its place.
    """

    worker: Worker
    job: Job | None = None
    done: int = 0
    bytes: int = 0
    tired: bool = False


@dataclass(frozen=True)
class PoolLimits:
    """How many processes, and when one is replaced; see ``ServeConfig``."""

    count: int
    limit_s: float
    recycle_after: int
    memory_bytes: float


class Pool:
    """Context manager: processes that answer records; left, it ends them.

    Args:
        made_by: ``package.module:function`` that makes the engine of a process
            (:class:`featmesh.apps.batch_worker.Engine`); its results say their process's resident
            ``bytes``.
        settings: what the function is given.
        limits: how many processes, and when one is replaced.

    Attributes:
        card: of the engine that came first.
        replaced: how many processes were replaced, by reason.
    """

    def __init__(self, made_by: str, settings: Mapping[str, Any], limits: PoolLimits) -> None:
        self.limits = limits
        self.card: Mapping[str, Any] = {}
        self.replaced = dict.fromkeys(("died", "late", "recycled", "memory"), 0)
        self._engine = (made_by, settings)
        self._events: queue.Queue[Any] = queue.Queue()  # (Worker, reply), a Job, None: the end
        self._places: dict[Worker, Place] = {}
        self._waiting: deque[Job] = deque()
        self._rows = 0
        self._failed, self._not_before = 0, 0.0
        self._first: Future[None] = Future()  # the first start
        self._thread = threading.Thread(target=self._run, name="pool", daemon=True)

    def __enter__(self) -> "Pool":
        """Wait for the first process.

        Raises:
            FeatmeshError: what the engine raised when it was made; E_WORKER where none starts.
        """
        self._thread.start()
        try:
            self._first.result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(None)
        self._thread.join()

    def submit(self, record: Mapping[str, Any]) -> "Future[Result]":
        """Return the result to come of a record; cancelled before it is begun, it never is.

        Its exceptions are FeatmeshError: E_TIMEOUT, the record took too long; E_WORKER, it killed
        two processes, or none starts.
        """
        job = Job(record)
        self._events.put(job)
        return job.future

    @property
    def ready(self) -> int:
        """How many processes have their model."""
        workers = [place.worker for place in list(self._places.values())]
        return sum(worker.ready and not worker.dying for worker in workers)

    @property
    def waiting(self) -> int:
        """How many records no process has begun."""
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """Resident memory of the processes as they last told."""
        return sum(place.bytes for place in list(self._places.values()))

    def _run(self) -> None:
        while True:
            self._fill()
            self._hand_out()
            try:
                event = self._events.get(timeout=self._patience())
            except queue.Empty:
                self._end_late()
                continue
            if event is None:
                break
            if isinstance(event, Job):
                self._waiting.append(event)
            else:
                self._hear(*event)
        self._end_all()

    def _fill(self) -> None:
        """Start the processes that are missing; those that are tired go when others are there."""
        fresh = [p for p in self._places.values() if not p.tired]
        if len(fresh) < self.limits.count and time.monotonic() >= self._not_before:
            for _ in range(self.limits.count - len(fresh)):
                worker = Worker(*self._engine, self._events)
                self._places[worker] = Place(worker)
        if sum(place.worker.ready for place in fresh) == self.limits.count:
            for place in self._places.values():
                if place.tired and place.worker.free:
                    self._end(place, "recycled")

    def _hand_out(self) -> None:
        """Give waiting records to idle processes, the fresh ones first."""
        for place in sorted(self._places.values(), key=lambda place: place.tired):
            while self._waiting and place.worker.free:
                job = self._waiting.popleft()
                if job.deaths or job.future.set_running_or_notify_cancel():
                    self._rows += 1
                    place.job = job
                    place.worker.take((self._rows, job.record))

    def _patience(self) -> float:
        """Return the seconds until something is to be done unasked."""
        now = time.monotonic()
        due = [self._due(worker) for worker in self._places if worker.busy]
        due += [self._not_before] if self._not_before > now else []
        return max(min(due, default=now + START_S) - now, 0.0)

    def _due(self, worker: Worker) -> float:
        return worker.since + (self.limits.limit_s if worker.ready else START_S)

    def _end_late(self) -> None:
        """End the processes whose time is up; what they worked on is given up."""
        now = time.monotonic()
        for place in self._places.values():
            if place.worker.busy and now >= self._due(place.worker):
                job, place.job = place.job, None
                self._end(place, "late")
                if job is not None:
                    job.future.set_exception(_too_slow(self.limits.limit_s))

    def _hear(self, worker: Worker, told: Any) -> None:
        """Take in what a process says; None is its end."""
        place = self._places[worker]
        if told is None:
            self._bury(place)
        elif worker.ready:
            self._settle(place, told[1])
        elif "failed" in told:
            if not self._first.done():
                self._first.set_exception(FeatmeshError(*told["failed"]))
        else:
            worker.ready, self._failed = True, 0
            if not self._first.done():
                self.card = told["card"]
                self._first.set_result(None)

    def _settle(self, place: Place, result: Result) -> None:
        """Hand a result on; the process may be tired after it."""
        job, place.job, place.worker.row = place.job, None, None
        if job is None:  # its time was up
            return
        place.done += 1
        place.bytes = result.pop("bytes", place.bytes)
        place.tired = place.tired or place.done >= self.limits.recycle_after
        if place.bytes > self.limits.memory_bytes:
            self._end(place, "memory")
        job.future.set_result(result)

    def _bury(self, place: Place) -> None:
        """Remove a process that has ended; what it worked on is begun once more, or given up."""
        job, ended, started = place.job, place.worker.dying, place.worker.ready
        place.worker.kill()
        place.worker.close()
        del self._places[place.worker]
        if not ended:
            self.replaced["died"] += 1
        if not started:
            self._failed_start()
        if job is None:
            return
        job.deaths += 1
        if job.deaths < DEATHS:
            self._waiting.appendleft(job)
        else:
            job.future.set_exception(_deadly())

    def _failed_start(self) -> None:
        """Pause before the next start; after several, give up what waits."""
        self._failed += 1
        self._not_before = time.monotonic() + min(2.0 ** (self._failed - 2), LONGEST_PAUSE)
        if self._failed < STARTS:
            return
        if not self._first.done():
            self._first.set_exception(_no_worker())
        while self._waiting and not self.ready:
            job = self._waiting.popleft()
            if job.deaths or job.future.set_running_or_notify_cancel():
                job.future.set_exception(_no_worker())

    def _end(self, place: Place, why: str) -> None:
        place.worker.kill()
        place.tired = True
        self.replaced[why] += 1

    def _end_all(self) -> None:
        for worker in self._places:
            worker.kill()
        for place in self._places.values():
            place.worker.close()
            self._waiting.extend([place.job] if place.job else [])
        self._places.clear()
        for job in self._waiting:
            if job.deaths or job.future.running() or job.future.set_running_or_notify_cancel():
                job.future.set_exception(stopped())
        self._waiting.clear()


def stopped() -> FeatmeshError:
    """Return the error of a request that the end of the server cuts off."""
    text = "serve: expected to go on, got the signal to end; try: again when it is back"
    return FeatmeshError("E_STOPPED", text)


def _too_slow(limit_s: float) -> FeatmeshError:
    text = f"serve: expected a result within {limit_s:g} s, got none; try: a smaller photo, a box"
    return FeatmeshError("E_TIMEOUT", text)


def _deadly() -> FeatmeshError:
    return FeatmeshError(
        "E_WORKER",
        f"serve: expected a result, got the death of {DEATHS} processes that worked on it; "
        "try: a smaller photo",
    )


def _no_worker() -> FeatmeshError:
    return FeatmeshError(
        "E_WORKER",
        "serve: expected processes that start, got several in a row that ended before their first "
        "photo; try: featmesh doctor, more memory",
    )
