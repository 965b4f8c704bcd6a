"""A batch on a Ray cluster: actors of Ray Data, each with one process of the local crew.

A photo's limit and its deaths are the crew's affair, so rows are those of a local run; Ray carries
records and answers, and replaces actors and machines that are lost (reliability 35).
"""

import json
import logging
import math
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from featmesh import __version__
from featmesh.errors import BackendUnavailable, FeatmeshError, InputError

from .batch_config import BatchConfig
from .batch_crew import DEATHS, Crew, Job, cores, deadly
from .batch_worker import refused

SPARE = 2  # logical CPUs beside those of the actors: with none Ray Data waits for ever
QUIET = {"logging_level": logging.ERROR, "log_to_driver": False}

Answer = dict[str, Any]


class Actor:
    """What Ray keeps alive: a crew of one process, made when the first record comes.

    Args:
        made_by: ``package.module:function`` that makes the engine of the process.
        settings: what the function is given.
        limit_s: seconds a photo may take.
        card: what the one who started it makes its results of; another is refused.
    """

    def __init__(
        self, made_by: str, settings: Mapping[str, Any], limit_s: float, card: Mapping[str, Any]
    ) -> None:
        self.crew = Crew(made_by, settings, 1, limit_s)
        self.card = card
        self.name = uuid.uuid4().hex  # another after each restart

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the answers to the records ``job`` of a batch; both are JSON texts."""
        return {"answer": [json.dumps(self._answer(*json.loads(str(t)))) for t in batch["job"]]}

    def _answer(self, row: int, record: Mapping[str, Any]) -> Answer:
        notes: list[str] = []
        told: Answer = {"actor": self.name, "pid": os.getpid(), "notes": notes}
        try:
            card = {"featmesh": __version__, **self.crew.card()}
            if card != self.card:
                raise _another(card, self.card)
            ((_, result),) = self.crew.work([(row, record)], notes.append)
        except FeatmeshError as error:
            return told | {"failed": [error.code, error.args[0]]}
        except Exception as error:  # told, not raised: Ray would take it for the photo's fault
            text = f"batch: expected a result, got {type(error).__name__} ({error}) in an actor; "
            return told | {"failed": ["E_INTERNAL", text + "try: --engine local"]}
        return told | {"row": row, "result": result, "replaced": self.crew.replaced}


class RayCrew:
    """Context manager: what :class:`featmesh.apps.batch_crew.Crew` is, on a Ray cluster.

    Args:
        made_by: ``package.module:function`` that makes the engine of a process.
        settings: what the function is given.
        config: settings of the batch.
        rows: how many there are.

    Raises:
        BackendUnavailable: E_BACKEND without Ray, or where no cluster answers.
        InputError: E_CONFIG where the actors would take all logical CPUs.
    """

    def __init__(self, made_by: str, settings: Mapping[str, Any], config: BatchConfig, rows: int):
        self.replaced = 0
        self._made_by, self._settings, self._config, self._rows = made_by, settings, config, rows
        self._ray: Any = None
        self._mine = False  # whether the connection is ours to end
        self._card: Any = None
        self._actors: dict[str, int] = {}  # name: processes it has replaced

    def __enter__(self) -> "RayCrew":
        self._ray = _ray()
        asked = self._config
        if asked.workers and asked.ray.cpus:
            _check(asked.workers, asked.ray.cpus)
        return self

    def __exit__(self, *_: object) -> None:
        if self._mine:
            self._ray.shutdown()

    def card(self) -> Mapping[str, Any]:
        """Return the card of the engine, as a process of this machine has it.

        Raises:
            FeatmeshError: as :meth:`featmesh.apps.batch_crew.Crew.card`.
        """
        if self._card is None:
            with Crew(self._made_by, self._settings, 1, self._config.limit_s) as one:
                self._card = dict(one.card())
        return self._card

    def work(
        self, jobs: Sequence[Job], note: Callable[[str], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield row and result of each job, in the order in which they are done.

        Results are those of :meth:`featmesh.apps.batch_crew.Crew.work`. A row whose actor was lost
        is done again by another; lost with it three times, it is a bad input, E_WORKER. What comes
        twice counts once.

        Raises:
            FeatmeshError: E_TIMEOUT where nothing comes for ``ray.stall_s``; E_WORKER where Ray
                ends early or no row comes back; E_CONFIG where an actor has another featmesh or
                model; as :meth:`card`.
        """
        if not jobs:
            return
        left, before = {row for row, _ in jobs}, len(jobs)
        count = self._connect()
        for answer in _watched(self._answers(jobs, count), self._config.ray.stall_s, count):
            for text in answer["notes"]:
                note(text)
            if "failed" in answer:
                raise FeatmeshError(*answer["failed"])
            self._actors[answer["actor"]] = answer["replaced"]
            lost = max(0, len(self._actors) - count)
            self.replaced = lost + sum(self._actors.values())
            if answer["row"] in left:
                left.remove(answer["row"])
                yield answer["row"], answer["result"]
        if len(left) == before:
            raise _ended("no result at all")
        for row in sorted(left):
            note(f"batch: {DEATHS} actors were lost with the photo of row {row}: it is given up")
            yield row, refused(deadly())

    def _connect(self) -> int:
        """Join the cluster, or start one; return how many actors work."""
        ray, asked = self._ray, self._config
        here = cores()
        if not ray.is_initialized():
            ours = {"num_cpus": asked.ray.cpus or (asked.workers or here) + SPARE}
            ours |= {"include_dashboard": False}
            place = {"address": asked.ray.address} if asked.ray.address else ours
            try:
                ray.init(**({"address": "local"} | place), **QUIET)
            except Exception as error:  # Ray has no class of its own for what can go wrong here
                with suppress(Exception):
                    ray.shutdown()
                raise _no_cluster(asked.ray.address, error) from error
            self._mine = True
        cpus = ray.cluster_resources().get("CPU", 0)
        spare = max(1, math.floor(cpus) - SPARE)
        wanted = asked.workers or (spare if asked.ray.address else min(here, spare))
        _check(wanted, cpus)
        return min(wanted, self._rows)

    def _answers(self, jobs: Sequence[Job], count: int) -> Iterator[Answer]:
        """Yield what the actors answer, as it comes; a job is a block is a task."""
        from ray.data import ActorPoolStrategy, DataContext, from_items

        context = DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_errored_blocks = -1  # a row that is lost is counted by its number, in work()
        card = {"featmesh": __version__, **self.card()}
        items = [{"job": json.dumps([row, dict(record)])} for row, record in jobs]
        told = from_items(items, override_num_blocks=len(items)).map_batches(
            Actor,
            fn_constructor_args=(self._made_by, self._settings, self._config.limit_s, card),
            # one task an actor: its death then is no other photo's
            compute=ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
            batch_size=1,
            batch_format="numpy",
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=DEATHS - 1,
        )
        for batch in told.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
            yield from (json.loads(str(text)) for text in batch["answer"])


def _ray() -> Any:
    """Return the module Ray, which tells nobody that it is used."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reads it when it starts a cluster
    try:
        import ray
        import ray.data
    except (ImportError, RuntimeError, OSError) as error:
        raise BackendUnavailable(
            "E_BACKEND",
            f"batch: expected the package ray, got {error}; try: pip install 'featmesh[ray]', "
            "or --engine local",
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def _watched(answers: Iterator[Answer], limit_s: float, count: int) -> Iterator[Answer]:
    """Yield what another thread receives; E_TIMEOUT where it receives nothing for a time."""
    arrived: queue.Queue[Answer | BaseException | None] = queue.Queue()
    left = threading.Event()  # nobody waits any more

    def receive() -> None:
        try:
            for answer in answers:
                arrived.put(answer)
                if left.is_set():
                    break
            arrived.put(None)
        except BaseException as error:  # raised again where somebody sees it
            arrived.put(error)

    threading.Thread(target=receive, name="batch answers", daemon=True).start()
    try:
        while (answer := _next(arrived, limit_s, count)) is not None:
            if isinstance(answer, BaseException):
                raise _ended(f"{type(answer).__name__} ({answer})"[:500]) from answer
            yield answer
    finally:
        left.set()


def _next(
    arrived: "queue.Queue[Answer | BaseException | None]", limit_s: float, count: int
) -> Answer | BaseException | None:
    """Return what arrives next; E_TIMEOUT where nothing does."""
    try:
        return arrived.get(timeout=limit_s)
    except queue.Empty:
        raise _stalled(limit_s, count) from None


def _check(actors: int, cpus: int | float) -> None:
    """Raise E_CONFIG where Ray Data would wait for ever."""
    if actors >= cpus:
        raise InputError(
            "E_CONFIG",
            f"batch: expected fewer actors than the cluster has logical CPUs, got {actors} actors "
            f"and {cpus:g} CPUs, with which Ray waits for ever; try: --workers "
            f"{max(1, math.ceil(cpus) - SPARE)}, or a --ray.cpus of {actors + SPARE} (they are "
            "logical: more than there are cores will do)",
        )


def _stalled(limit_s: float, count: int) -> InputError:
    return InputError(
        "E_TIMEOUT",
        f"batch: expected a result from one of {count} actors within {limit_s:g} s, got none; try: "
        "fewer --workers, whether other jobs hold the cluster's CPUs (ray status), a higher "
        "--ray.stall-s; the same command, also with --engine local, goes on where it was",
    )


def _ended(got: str) -> FeatmeshError:
    return FeatmeshError(
        "E_WORKER",
        f"batch: expected Ray to return every row, got {got}; try: is featmesh installed on every "
        "machine of the cluster, fewer --workers (memory); the same command, also with "
        "--engine local, goes on where it was",
    )


def _no_cluster(address: str, error: Exception) -> BackendUnavailable:
    wanted = f"a Ray cluster at {address}" if address else "a Ray cluster on this machine"
    hint = "ray status" if address else "a machine less busy, or --engine local"
    return BackendUnavailable(
        "E_BACKEND", f"batch: expected {wanted}, got {str(error)[:500]}; try: {hint}"
    )


def _another(card: Mapping[str, Any], asked: Mapping[str, Any]) -> InputError:
    keys = [key for key in sorted(card.keys() | asked.keys()) if card.get(key) != asked.get(key)]
    return InputError(
        "E_CONFIG",
        f"batch: expected the featmesh and model that the run began with, got another "
        f"{', '.join(keys)} in an actor; try: the same featmesh and model folder on every machine",
    )
