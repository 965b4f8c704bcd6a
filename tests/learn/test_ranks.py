"""Claims about processes that train as one: the same weights, also when one of them dies."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fixtures import car_mesh
from test_session import MODEL, config_of, stuff  # noqa: F401
from torch import nn

import featmesh
from featmesh.cli.main import execute
from featmesh.errors import FeatmeshError, InputError
from featmesh.learn import session
from featmesh.learn.data import Batch, draw_batch, load_data
from featmesh.learn.ranks import (
    Ranks,
    _attempt,
    _packed,
    expect_one,
    expect_shareable,
    joined,
    launched,
)
from featmesh.learn.trainer import TrainState, features_of, step_loss
from featmesh.model.backbones import build_backbone
from featmesh.model.checkpoint import load
from featmesh.store import Steps

LIMIT_S = 240  # far beyond what a run of six steps takes
UV = replace(MODEL, texture="uv", texture_height=96, texture_width=144)
RUN = {
    "epochs": 2,
    "samples-per-epoch": 12,
    "batch": 4,
    "anchors-per-view": 32,
    "clutter-queue": 64,
    "save-every": 2,
    "threads": 1,
    "gist": 4,
    "model.channels": 16,
    "model.width": 16,
    "model.crop-height": 64,
    "model.crop-width": 64,
    "model.clutter-centres": 4,
}
# at attempt 0 rank 0 is killed, at attempt 1 rank 1 is asked to stop
DYING = """
import os, signal, sys
from pathlib import Path
from featmesh.cli.main import main
from featmesh.learn import trainer

out = Path(sys.argv[sys.argv.index("--out") + 1])
attempt, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], int(os.environ["RANK"])
plan = {"0": (0, 3, signal.SIGKILL), "1": (1, 4, signal.SIGTERM)}
whose, when, what = plan.get(attempt, (None, None, None))
if rank == 0:
    (out.parent / f"found-{attempt}").write_text(" ".join(sorted(p.name for p in out.glob("s*"))))
inner = trainer.train_step

def train_step(state, *rest):
    if (rank, state.step) == (whose, when):
        os.kill(os.getpid(), what)
    return inner(state, *rest)

trainer.train_step = train_step
main()
"""


def torchrun(stuff: Path, out: Path, *program: str) -> subprocess.CompletedProcess[str]:  # noqa: F811
    """Train with two processes of one thread each."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--max-restarts", "2"]
    words += [*program, "train", "--views", str(stuff / "views.json"), "--out", str(out)]
    words += ["--cad", str(stuff / "cad"), "--backgrounds", str(stuff / "walls")]
    words += [word for name, value in RUN.items() for word in (f"--{name}", str(value))]
    source = str(Path(featmesh.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


@pytest.fixture(scope="module")
def undisturbed(stuff, tmp_path_factory) -> Path:  # noqa: F811
    """The run folder of two processes."""
    out = tmp_path_factory.mktemp("ranks") / "two"
    done = torchrun(stuff, out, "-m", "featmesh")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pass 2") == 1  # one process speaks
    return out


def differences(one: Path, two: Path) -> dict[str, torch.Tensor]:
    """How far the last states of two runs are apart, number by number."""
    (step, first, _), (other, second, _) = Steps(one).latest(), Steps(two).latest()
    assert step == other == 6 and first.keys() == second.keys()
    return {k: (first[k] - second[k]).abs().double().flatten() for k in first}


def test_two_processes_end_where_one_does(stuff, tmp_path, undisturbed) -> None:  # noqa: F811
    """Bit for bit: one process learns from the two halves of a batch in the same sums."""
    config = config_of(stuff, tmp_path / "one", trunk="", samples_per_epoch=12, batch=4)
    assert session.train(config) == 0
    apart = differences(tmp_path / "one", undisturbed)
    assert not {k: float(gap.max()) for k, gap in apart.items() if gap.any()}
    one, two = (load(out / "models" / "car") for out in (tmp_path / "one", undisturbed))
    assert one.hash == two.hash
    assert one.extra["training"] == two.extra["training"] and one.config == two.config
    assert len((undisturbed / "log.jsonl").read_text().splitlines()) == 2


def test_row_34_a_killed_rank_and_a_stopped_one_change_nothing(
    stuff,  # noqa: F811
    tmp_path,
    undisturbed,
) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    done = torchrun(stuff, tmp_path / "run", str(tmp_path / "dying.py"))
    assert done.returncode == 0, done.stderr
    found = [(tmp_path / f"found-{attempt}").read_text() for attempt in range(3)]
    # killed before step 4 was done; asked to stop in the step that ends as the fifth
    assert found == ["", "step-000002", "step-000004 step-000005"], done.stderr
    assert "E_RANKS" in done.stderr
    apart = differences(tmp_path / "run", undisturbed)
    assert not [k for k, gap in apart.items() if gap.any()]
    one, two = (load(out / "models" / "car") for out in (tmp_path / "run", undisturbed))
    assert one.hash == two.hash


FAULTS = """
import os, signal, socket, sys, time
from datetime import timedelta
from pathlib import Path
from featmesh.errors import FeatmeshError
from featmesh.learn import ranks, session, trainer
from featmesh.store import RunLock
from test_session import config_of

stuff, folder = map(Path, sys.argv[1:3])
def full(state, steps):
    raise FeatmeshError("E_DISK_FULL", "no room")

def silent(state, *rest):
    time.sleep(60)

def broken(state, batch, *rest):
    return float("nan") * state.backbone(batch.pixels)

PATCHES = {
    ("disk", 0): (session, "save", full),
    ("silent", 1): (trainer, "train_step", silent),
    ("nan", 1): (trainer, "features_of", broken),
}

def learn(name, rank, port):
    if name == "silent":
        ranks.PATIENCE = timedelta(seconds=5)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if (name, rank) in PATCHES:
        setattr(*PATCHES[name, rank])
    try:
        session.train(config_of(stuff, folder / name, samples_per_epoch=8, batch=4))
    except FeatmeshError as error:
        (folder / f"{name}-{rank}").write_text(str(error))

def both(name):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pids = []
    for rank in range(2):
        pids.append(os.fork())
        if not pids[-1]:
            learn(name, rank, port)
            os._exit(0)
    os.waitpid(pids[0], 0)
    if name == "silent":
        os.kill(pids[1], signal.SIGKILL)
    os.waitpid(pids[1], 0)

with RunLock(folder / "lock"):
    both("lock")
for name in ("disk", "silent", "nan"):
    both(name)
"""


def test_what_ends_one_rank_ends_the_other(stuff, tmp_path) -> None:  # noqa: F811
    """Ranks forked from one process: a folder in use, a full disk, silence, a loss of NaN."""
    here = Path(__file__).parent
    places = (Path(featmesh.__file__).parents[1], here.parent, here)
    subprocess.run(
        [sys.executable, "-c", FAULTS, str(stuff), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        check=True,
        timeout=LIMIT_S,
    )
    told = {p.name: p.read_text() for p in tmp_path.iterdir() if p.is_file()}
    codes = {name: text.partition(":")[0] for name, text in told.items() if name != "silent-1"}
    expected = {"lock": "E_LOCKED", "disk": "E_DISK_FULL", "nan": "E_NONFINITE"}
    both = {f"{name}-{rank}": code for name, code in expected.items() for rank in range(2)}
    assert codes == both | {"silent-0": "E_RANKS"}
    assert told["disk-0"] == told["disk-1"] and "at step 0" in told["nan-0"]
    assert "of all 2 processes" in told["silent-0"]


@pytest.mark.parametrize("model", [MODEL, UV], ids=["vertex", "uv"])
@pytest.mark.parametrize("empty", [(), (0, 1)], ids=["all seen", "a rank sees nothing"])
def test_the_parts_of_the_loss_add_up(stuff, tmp_path, model, empty) -> None:  # noqa: F811
    """Values and gradients of two ranks are together those of one process."""
    config = config_of(stuff, tmp_path, batch=4, model=model)
    data = load_data(config, car_mesh())
    state = TrainState(config, car_mesh(), build_backbone(model))
    batch = draw_batch(data, config, 0)
    batch = without(batch, empty)
    features = nn.functional.normalize(torch.randn(4, 16, 8, 8), dim=1)

    def parts(ranks: Ranks) -> tuple[float, torch.Tensor]:
        own, share = features.clone().requires_grad_(), ranks.share(4)
        held = features.clone()
        held[share.start : share.stop] = own[share.start : share.stop]
        said = step_loss(state, held, batch, ranks)
        said.total.backward()
        return float(said.total.detach()), own.grad

    whole, expected = parts(Ranks())
    told = [parts(Ranks(rank, 2)) for rank in range(2)]
    assert sum(value for value, _ in told) == pytest.approx(whole, rel=1e-6)
    assert all(grad[2 * rank : 2 * rank + 2].abs().max() > 0 for rank, (_, grad) in enumerate(told))
    torch.testing.assert_close(told[0][1] + told[1][1], expected, atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_one_process_looks_at_a_batch_in_two_parts(stuff, tmp_path, count) -> None:  # noqa: F811
    config = config_of(stuff, tmp_path, batch=count)
    data = load_data(config, car_mesh())
    state = TrainState(config, car_mesh(), build_backbone(MODEL))
    batch, seen = draw_batch(data, config, 0), []
    state.backbone.train()
    state.backbone.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    found = features_of(state, batch)
    assert seen == {1: [1], 3: [1, 2], 4: [2, 2]}[count]
    torch.testing.assert_close(found, state.backbone(batch.pixels), atol=1e-5, rtol=0)
    said = step_loss(state, found, batch)
    assert math.isfinite(float(said.total.detach()))
    # a norm that is learning sees all of a batch at once
    state.backbone.add_module("norm", nn.BatchNorm2d(3))
    seen.clear()
    features_of(state, batch)
    assert seen == [count]


def without(batch: Batch, crops: tuple[int, ...]) -> Batch:
    """The batch with no points in some crops; their background stays."""
    surface = batch.surface
    if surface is not None:
        surface = tuple(
            replace(s, face=s.face[:0], bary=s.bary[:0], pixels=s.pixels[:0]) if k in crops else s
            for k, s in enumerate(surface)
        )
    cut = [
        tuple(t[:0] if k in crops else t for k, t in enumerate(each))
        for each in (batch.points, batch.anchor)
    ]
    return replace(batch, points=cut[0], anchor=cut[1], surface=surface)


@pytest.mark.parametrize("model", [MODEL, UV], ids=["vertex", "uv"])
def test_what_the_ranks_hand_on_is_the_batch_of_one_process(
    stuff,  # noqa: F811
    tmp_path,
    model,
) -> None:
    config = config_of(stuff, tmp_path, batch=5, model=model)
    data = load_data(config, car_mesh())
    batch, maps = draw_batch(data, config, 3), torch.randn(5, 16, 8, 8)
    shares = [Ranks(rank, 2).share(5) for rank in range(2)]
    assert [list(share) for share in shares] == [[0, 1], [2, 3, 4]]
    halves = [draw_batch(data, config, 3, share) for share in shares]
    assert torch.equal(torch.cat([half.pixels for half in halves]), batch.pixels)

    class Heard(Ranks):
        def gathered(self, own):
            told = [_packed(half) for half in halves]
            return [
                {"maps": maps[s.start : s.stop], **t} for s, t in zip(shares, told, strict=True)
            ]

    features, whole = joined(Heard(0, 2), maps[:2], halves[0])
    assert torch.equal(features, maps) and torch.equal(whole.background, batch.background)
    for name in ("points", "anchor"):
        pairs = zip(getattr(whole, name), getattr(batch, name), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)
    assert (whole.surface is None) == (batch.surface is None)
    for one, two in zip(whole.surface or (), batch.surface or (), strict=True):
        assert torch.equal(one.face, two.face) and torch.equal(one.bary, two.bary)


def test_shares_cover_what_there_is_once() -> None:
    for world in (1, 2, 3, 5):
        shares = [Ranks(rank, world).share(7) for rank in range(world)]
        assert [k for share in shares for k in share] == list(range(7))
        rows = [Ranks(rank, world).rows([3, 0, 2, 0, 1, 4, 4]) for rank in range(world)]
        assert [k for share in rows for k in share] == list(range(14))


def test_what_dead_ranks_left_in_the_store_is_not_taken_for_the_living_ones() -> None:
    """Three ranks that begin again, each with a connection of its own to torchrun's store."""
    kept = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    words = set()
    for _ in range(2):
        others = [dist.TCPStore("127.0.0.1", kept.port, is_master=False) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(_attempt, s, k, 3) for k, s in reversed([*enumerate(others)])]
            found = {one.result() for one in asked}
        assert len(found) == 1 and not found & words
        words |= found


def test_one_process_is_told_by_the_environment(monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # of something else: there is no rank
    assert launched() == (0, 1)
    expect_one("--method bins")
    monkeypatch.setenv("RANK", "3")
    assert launched() == (3, 8)
    with pytest.raises(InputError, match="one process with --method bins, got 8; try: no") as got:
        expect_one("--method bins")
    assert got.value.code == "E_CONFIG"


@pytest.mark.parametrize("method", ["bins", "6d", "nearest"])
def test_other_methods_are_one_process_work(monkeypatch, capsys, method) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert execute(["train", "--views", "none.json", "--out", "run", "--method", method]) == 1
    assert (
        f"E_CONFIG: train: expected one process with --method {method}" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"crops": 64, "lr_trunk": 0.0}, "one process with --crops, got 2"),
        ({"batch": 1}, "a crop or more for each of 2 processes, got --batch 1"),
        ({"model": replace(MODEL, backbone="resnet50")}, "the batch norms of resnet50"),
    ],
)
def test_what_would_learn_something_else_is_refused(
    stuff,  # noqa: F811
    tmp_path,
    monkeypatch,
    changes,
    told,
) -> None:
    config = config_of(stuff, tmp_path, **changes)
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    if config.model.backbone == "resnet50":
        network.append(nn.BatchNorm2d(1))
    expect_shareable(Ranks(), config, network)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FeatmeshError, match=told) as got:
        expect_shareable(Ranks(0, 2), config, network)
    assert got.value.code == "E_CONFIG"
