"""Batches on Ray, without Ray: a stand-in calls the actors, which start the processes they would.

``benchmarks/batch_ray.py`` does the same on Ray itself, and kills an actor.
"""

import io
import json
import os
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from featmesh import __version__
from featmesh.apps import batch, batch_ray
from featmesh.apps.batch import BatchSummary, run_batch
from featmesh.apps.batch_config import BatchConfig, RayConfig
from featmesh.apps.batch_ray import Actor, RayCrew
from featmesh.cli.main import execute
from featmesh.config import config_to_dict
from featmesh.errors import BackendUnavailable, FeatmeshError, InputError

ENGINE = "apps.batch_engines:Engine"
LOCAL = BatchConfig(model="m1", workers=2, part_rows=8)
ON_RAY = replace(LOCAL, engine="ray")


@dataclass
class Cluster:
    """A stand-in of Ray: keeps its rules for tasks, retries and lost actors; one row at a time.

    Attributes:
        lost: how often an actor is lost with a row.
        twice: rows whose answer comes twice.
        ends_after: answers after which Ray itself fails.
        running: CPUs of a cluster that runs already.
        inside: whether the program has joined it before.
    """

    lost: Mapping[int, int] = field(default_factory=dict)
    twice: tuple[int, ...] = ()
    ends_after: int | None = None
    running: int = 0
    inside: bool = False
    inits: list[dict[str, Any]] = field(default_factory=list)
    pools: list[Any] = field(default_factory=list)
    shutdowns: int = 0
    context: Any = field(default_factory=SimpleNamespace)

    def init(self, **options: Any) -> None:
        if options["address"] == "nowhere:1":
            raise ConnectionError("no cluster at nowhere:1")
        self.inits.append(options)

    def shutdown(self) -> None:
        self.shutdowns += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.running or self.inits[-1]["num_cpus"]), "memory": 1e9}

    def from_items(self, items: list[dict[str, Any]], override_num_blocks: int) -> "Dataset":
        assert override_num_blocks == len(items)
        return Dataset(self, items)


@dataclass
class Dataset:
    """The one chain of calls that a batch makes."""

    cluster: Cluster
    items: list[dict[str, Any]]
    made: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    def map_batches(self, actor: type, **options: Any) -> "Dataset":
        assert pickle.dumps((actor, options["fn_constructor_args"]))
        assert (options["batch_size"], options["max_restarts"]) == (1, -1)
        assert options["compute"].max_tasks_in_flight_per_actor == 1
        self.cluster.pools.append(options["compute"])
        return Dataset(self.cluster, self.items, actor, options)

    def iter_batches(self, **_: Any) -> Iterator[dict[str, Any]]:
        size = self.options["compute"].size
        pool = [self.actor() for _ in range(size)]
        answered = 0
        try:
            for k, item in enumerate(self.items):
                if answered == self.cluster.ends_after:
                    raise RuntimeError("the cluster went down")
                answer = self.answer(pool, k % size, item["job"])
                row = json.loads(item["job"])[0]
                for _ in range(0 if answer is None else 2 if row in self.cluster.twice else 1):
                    answered += 1
                    yield {"answer": np.array(answer["answer"])}
        finally:
            for actor in pool:
                actor.crew.__exit__()

    def actor(self) -> Any:
        return self.made(*self.options["fn_constructor_args"])

    def answer(self, pool: list[Any], which: int, job: str) -> Any:
        """What a task returns after its retries; None where it failed and that is allowed."""
        tries = 1 + self.options["max_task_retries"]
        for k in range(tries):
            if k < self.cluster.lost.get(json.loads(job)[0], 0):
                pool[which].crew.__exit__()  # its process sees the end of its input
                pool[which] = self.actor()
            else:
                return pool[which]({"job": np.array([job])})
        assert self.cluster.context.max_errored_blocks == -1
        return None


@pytest.fixture
def on(fake_module, monkeypatch):
    """Return a function that puts a stand-in in the place of Ray."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")

    def put(cluster: Cluster) -> Cluster:
        names = ("init", "shutdown", "cluster_resources")
        told = {name: getattr(cluster, name) for name in names}
        fake_module("ray", is_initialized=lambda: cluster.inside, **told)
        fake_module(
            "ray.data",
            ActorPoolStrategy=SimpleNamespace,
            DataContext=SimpleNamespace(get_current=lambda: cluster.context),
            from_items=cluster.from_items,
        )
        return cluster

    return put


def photos(folder: Path, *words: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, word in enumerate(words):
        (folder / f"{k:02d}.jpg").write_text(word, "utf-8")
    manifest = folder / "photos.txt"
    manifest.write_text("".join(f"{k:02d}.jpg\n" for k in range(len(words))), "utf-8")
    return manifest


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def run(manifest: Path, out: Path, config: BatchConfig) -> BatchSummary:
    return run_batch(manifest, out, config, io.StringIO(), ENGINE)


WORDS = ["broken" if k % 10 == 3 else "good" for k in range(20)]


def test_lost_actors_and_answers_that_come_twice_change_no_byte(tmp_path: Path, on) -> None:
    calm = run(photos(tmp_path / "a", *WORDS, "fault", "deadly"), tmp_path / "calm", LOCAL)
    cluster = on(Cluster(lost={0: 1, 9: 2, 21: 1}, twice=(3, 8)))
    hurt = run(photos(tmp_path / "b", *WORDS, "fault", "deadly"), tmp_path / "hurt", ON_RAY)
    assert files(tmp_path / "hurt") == files(tmp_path / "calm")
    assert (hurt.status, hurt.codes, hurt.done) == (calm.status, calm.codes, 22)
    assert calm.codes == {"E_IMG_FORMAT": 2, "E_INTERNAL": 1, "E_WORKER": 1}
    # of four lost actors one answered before it was; and three processes died with the last photo
    assert calm.replaced == 3 and 3 < hurt.replaced <= 3 + 4
    assert [pool.size for pool in cluster.pools] == [2] and cluster.shutdowns == 1


def test_ray_is_started_with_more_cpus_than_actors_and_tells_nobody(tmp_path: Path, on) -> None:
    cluster = on(Cluster())
    run(photos(tmp_path / "in", *["good"] * 4), tmp_path / "out", replace(ON_RAY, workers=3))
    (options,) = cluster.inits
    assert (options["address"], options["num_cpus"]) == ("local", 3 + 2)
    assert options["include_dashboard"] is False and options["log_to_driver"] is False
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_batch_goes_on_from_one_engine_to_the_other(tmp_path: Path, on) -> None:
    manifest = photos(tmp_path / "in", *WORDS)
    run(manifest, tmp_path / "calm", LOCAL)
    on(Cluster(ends_after=11))
    with pytest.raises(FeatmeshError, match=r"the cluster went down.*--engine local") as caught:
        run(manifest, tmp_path / "out", ON_RAY)
    assert caught.value.code == "E_WORKER"
    on(Cluster(ends_after=4))
    with pytest.raises(FeatmeshError, match="E_WORKER"):
        run(manifest, tmp_path / "out", ON_RAY)
    assert run(manifest, tmp_path / "out", LOCAL).done == 20 - 11 - 4
    assert files(tmp_path / "out") == files(tmp_path / "calm")
    idle = on(Cluster())
    assert run(manifest, tmp_path / "out", ON_RAY).done == 0 and not idle.inits


def test_a_photo_with_which_actors_are_lost_is_given_up(tmp_path: Path, on) -> None:
    on(Cluster(lost={2: 3}))
    shown = io.StringIO()
    manifest = photos(tmp_path / "in", *["good"] * 4)
    summary = run_batch(manifest, tmp_path / "out", ON_RAY, shown, ENGINE)
    assert summary.codes == {"E_WORKER": 1} and summary.status["ok"] == 3
    assert "3 actors were lost with the photo of row 2: it is given up" in shown.getvalue()
    on(Cluster(lost=dict.fromkeys(range(4), 3)))  # that is no fault of the photos
    with pytest.raises(FeatmeshError, match="no result at all") as caught:
        run(manifest, tmp_path / "none", ON_RAY)
    assert caught.value.code == "E_WORKER" and not list((tmp_path / "none" / "parts").iterdir())


def test_a_run_without_results_is_ended_and_told(tmp_path: Path, on, monkeypatch) -> None:
    release = threading.Event()
    given = {"actor": "a", "notes": [], "row": 1, "result": {"status": "ok"}, "replaced": 0}

    def stuck(self: RayCrew, jobs: Any, count: int) -> Iterator[dict[str, Any]]:
        yield given
        release.wait(60)

    monkeypatch.setattr(RayCrew, "_answers", stuck)
    cluster, config = on(Cluster()), replace(ON_RAY, ray=RayConfig(stall_s=2.0))
    with RayCrew(ENGINE, {}, config, 2) as crew:
        results = crew.work([(0, {}), (1, {})], lambda text: None)
        assert next(results) == (1, {"status": "ok"})
        with pytest.raises(InputError, match=r"within 2 s, got none.*ray status") as caught:
            next(results)
    release.set()
    assert caught.value.code == "E_TIMEOUT" and cluster.shutdowns == 1
    for thread in threading.enumerate():
        if thread.name == "batch answers":
            thread.join(10)


@pytest.mark.parametrize(
    ("config", "cluster"),
    [
        (RayConfig(cpus=2), Cluster()),
        (RayConfig(address="auto"), Cluster(running=2)),
        (RayConfig(), Cluster(running=1, inside=True)),
    ],
    ids=["asked", "joined", "inside"],
)
def test_actors_that_would_take_all_cpus_are_refused(tmp_path, on, config, cluster) -> None:
    on(cluster)
    manifest = photos(tmp_path / "in", "good", "good")
    with pytest.raises(
        InputError, match=r"fewer actors than .* logical CPUs, got 2 actors"
    ) as caught:
        run(manifest, tmp_path / "out", replace(ON_RAY, ray=config))
    assert caught.value.code == "E_CONFIG" and "--ray.cpus of 4" in str(caught.value)
    assert not cluster.pools and cluster.shutdowns == len(cluster.inits)


def test_on_a_running_cluster_two_cpus_are_left(tmp_path: Path, on) -> None:
    config = replace(ON_RAY, workers=0, ray=RayConfig(address="auto"))
    manifest = photos(tmp_path / "in", *["good"] * 4)
    for k, (cpus, actors) in enumerate(((5, 3), (2, 1), (64, 4))):  # at most one a photo
        cluster = on(Cluster(running=cpus))
        run(manifest, tmp_path / str(k), config)
        assert cluster.pools[0].size == actors and "num_cpus" not in cluster.inits[0]
    mine = on(Cluster(running=8, inside=True))  # a program that has joined a cluster stays in it
    run(manifest, tmp_path / "inside", ON_RAY)
    assert mine.pools[0].size == 2 and not mine.inits and not mine.shutdowns


def test_without_ray_or_its_cluster_the_way_out_is_told(tmp_path: Path, on, monkeypatch) -> None:
    manifest = photos(tmp_path / "in", "good")
    cluster = on(Cluster())
    with pytest.raises(BackendUnavailable, match="no cluster at nowhere:1; try: ") as caught:
        run(manifest, tmp_path / "out", replace(ON_RAY, ray=RayConfig(address="nowhere:1")))
    assert caught.value.code == "E_BACKEND" and cluster.shutdowns == 1
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'featmesh\[ray\]'") as caught:
        run(manifest, tmp_path / "out", ON_RAY)
    assert caught.value.code == "E_BACKEND"


def test_an_actor_of_another_model_or_version_is_refused(tmp_path: Path, on, monkeypatch) -> None:
    manifest, settings = photos(tmp_path / "in", "good"), config_to_dict(ON_RAY)
    job = json.dumps([0, {"path": str(manifest.parent / "00.jpg")}])
    models = {"models": [{"name": "words", "hash": "m1"}]}
    for card, fault in (
        ({"featmesh": __version__, "models": []}, "another models"),
        ({"featmesh": "0.0", **models}, "another featmesh"),
        ({"featmesh": __version__, **models}, None),
    ):
        actor = Actor(ENGINE, settings, 60.0, card)
        (text,) = actor({"job": np.array([job])})["answer"]
        actor.crew.__exit__()
        told = json.loads(text)
        if fault is None:
            assert told["row"] == 0 and told["result"]["status"] == "ok"
        else:
            assert told["failed"][0] == "E_CONFIG" and fault in told["failed"][1]
    on(Cluster())
    monkeypatch.setattr(Actor, "_answer", lambda self, *job: {"notes": [], "failed": ["E_X", "no"]})
    with pytest.raises(FeatmeshError, match="E_X: no"):
        run(manifest, tmp_path / "out", ON_RAY)


def test_what_goes_wrong_in_an_actor_is_told_by_it(monkeypatch) -> None:
    def no_process(*_: Any) -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(batch_ray.Crew, "card", no_process)
    (text,) = Actor(ENGINE, {}, 9.0, {})({"job": np.array(["[0, {}]"])})["answer"]
    code, message = json.loads(text)["failed"]
    assert code == "E_INTERNAL" and "Cannot allocate memory" in message and "try: " in message


def test_numbers_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    manifest = photos(tmp_path / "in", "good")
    for config in (RayConfig(cpus=-1), RayConfig(stall_s=300.0), RayConfig(stall_s=float("inf"))):
        with pytest.raises(InputError, match=r"above limit_s, got ray\.") as caught:
            run(manifest, tmp_path / "out", replace(ON_RAY, ray=config))
        assert caught.value.code == "E_CONFIG"
    kept = replace(LOCAL, ray=RayConfig(stall_s=1.0))  # of no concern to a batch that is not on Ray
    assert run(manifest, tmp_path / "out", kept).status == {"ok": 1}


def test_the_verb_reads_the_options_of_a_cluster(monkeypatch, capsys) -> None:
    asked: list[BatchConfig] = []

    def fake(manifest: Path, out: Path, config: BatchConfig) -> BatchSummary:
        asked.append(config)
        return BatchSummary(out, 1, {"ok": 1}, {}, 1, 0, 4.0)

    monkeypatch.setattr(batch, "run_batch", fake)
    words = ["batch", "photos.txt", "--out", "o", "--engine", "ray", "--ray.address", "auto"]
    assert execute([*words, "--ray.cpus", "4", "--ray.stall-s", "999"]) == 0
    assert asked[0].engine == "ray" and asked[0].ray == RayConfig("auto", 4, 999.0)
    with pytest.raises(SystemExit):
        execute([*words[:-3], "slurm"])
