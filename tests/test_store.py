import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import featmesh
from featmesh import files, store
from featmesh.errors import CheckpointError, FeatmeshError
from featmesh.store import RunLock, Steps

SRC = str(Path(featmesh.__file__).parents[1])


PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from featmesh import files, store
from featmesh.errors import FeatmeshError
"""


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    """What the scripts below found: one process has torch and forks all that are to be killed."""
    root = tmp_path_factory.mktemp("trainers")
    text = PRELUDE
    for name, script in SCRIPTS.items():
        text += f"folder = Path({str(root / name)!r})\nfolder.mkdir()\n{script}"
    environment = {**os.environ, "PYTHONPATH": SRC, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return root, dict(zip(SCRIPTS, found, strict=True))


def state(step: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((4, 3), float(step)), "rng": torch.arange(16, dtype=torch.uint8)}


@pytest.fixture
def saved(tmp_path):
    steps = Steps(tmp_path)
    for step in (5, 10):
        steps.save(step, state(step), {"lr": 0.1 * step})
    return tmp_path


def flip_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def code_of(raised) -> str:
    return raised.value.code


# --- steps -------------------------------------------------------------------------------------


def test_the_last_two_states_are_kept_and_the_newest_comes_back(tmp_path):
    steps = Steps(tmp_path / "new" / "run")
    assert steps.latest() is None
    for step in (1, 2, 1_234_567):
        steps.save(step, state(step), {"lr": 0.1 + 0.2, "betas": (0.9, 0.999)})
    names = sorted(p.name for p in steps.folder.iterdir())
    assert names == ["step-000002", "step-1234567"]
    step, tensors, meta = Steps(steps.folder).latest("cpu")
    assert step == 1_234_567
    assert torch.equal(tensors["w"], state(step)["w"])
    assert torch.equal(tensors["rng"], state(step)["rng"])
    assert meta == {"lr": 0.1 + 0.2, "betas": [0.9, 0.999]}


def break_flip(folder):
    flip_bit(folder / "tensors.safetensors", -3)


def break_truncate(folder):
    data = (folder / "tensors.safetensors").read_bytes()
    (folder / "tensors.safetensors").write_bytes(data[:-7])


def break_meta(folder):
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace('"lr": 1.0', '"lr": 9.0'))


def break_schema_bit(folder):
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace('"schema": 1', '"schema": 3'))


def break_infinite(folder):
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace('"lr": 1.0', '"lr": 1e999'))


def break_json(folder):
    (folder / "state.json").write_text("{")


def break_missing(folder):
    (folder / "tensors.safetensors").unlink()


def break_other_step(folder):
    twin = folder.parent / "step-000005"
    (folder / "state.json").write_bytes((twin / "state.json").read_bytes())


BREAKS = (
    break_flip,
    break_truncate,
    break_meta,
    break_schema_bit,
    break_infinite,
    break_json,
    break_missing,
    break_other_step,
)


@pytest.mark.parametrize("fault", BREAKS)
def test_a_broken_state_is_passed_over_loudly_and_replaced_by_the_next(saved, fault):
    fault(saved / "step-000010")
    with pytest.warns(RuntimeWarning, match=r"skipped step-000010: E_CKPT_"):
        step, tensors, meta = Steps(saved).latest()
    assert (step, meta) == (5, {"lr": 0.5})
    assert torch.equal(tensors["w"], state(5)["w"])
    told: list[str] = []
    steps = Steps(saved, report=told.append)
    assert steps.latest()[0] == 5
    assert len(told) == 1
    steps.save(6, state(6), {})  # the broken later one is out of the way
    assert sorted(p.name for p in saved.iterdir()) == ["step-000005", "step-000006"]
    fault_free = Steps(saved).latest()
    assert fault_free[0] == 6


def test_a_broken_state_can_be_reached_again(saved):
    break_flip(saved / "step-000010")
    steps = Steps(saved, report=lambda _: None)
    steps.latest()
    steps.save(10, state(11), {})
    assert torch.equal(Steps(saved).latest()[1]["w"], state(11)["w"])
    assert sorted(p.name for p in saved.iterdir()) == ["step-000005", "step-000010"]


def test_the_same_step_again_replaces_it(saved):
    Steps(saved).save(10, state(12), {})
    assert torch.equal(Steps(saved).latest()[1]["w"], state(12)["w"])
    assert sorted(p.name for p in saved.iterdir()) == ["step-000005", "step-000010"]


def test_no_whole_state_is_told_as_none(saved):
    for name in ("step-000005", "step-000010"):
        break_flip(saved / name)
    told: list[str] = []
    assert Steps(saved, report=told.append).latest() is None
    assert len(told) == 2


def test_states_of_another_run_are_not_thrown_away(saved):
    with pytest.raises(CheckpointError, match="step-000010") as raised:
        Steps(saved).save(3, state(3), {})
    assert code_of(raised) == "E_CKPT_STEP"
    assert sorted(p.name for p in saved.iterdir()) == ["step-000005", "step-000010"]
    with pytest.raises(CheckpointError) as raised:
        Steps(saved / "new").save(-1, state(0), {})
    assert code_of(raised) == "E_CKPT_STEP"


def test_a_state_that_is_not_finite_is_not_saved(saved):
    with pytest.raises(CheckpointError) as raised:
        Steps(saved).save(11, {"w": torch.tensor(float("nan"))}, {})
    assert code_of(raised) == "E_CKPT_NONFINITE"
    assert Steps(saved).latest()[0] == 10


def test_a_newer_format_is_refused_not_passed_over(saved, monkeypatch):
    monkeypatch.setattr(store, "STEP_SCHEMA", 2)
    Steps(saved).save(11, state(11), {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="update featmesh") as raised:
        Steps(saved).latest()
    assert code_of(raised) == "E_CKPT_VERSION"


def test_what_dead_processes_left_is_swept_and_nothing_else(saved):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = files.host_name()
    (saved / f".tmp-{gone.pid}@{host}").mkdir()
    (saved / f".tmp-{gone.pid}@{host}@0123abcd").write_text("half a file")
    old = saved / f".tmp-{gone.pid}@another-host"
    old.write_text("")
    os.utime(old, (time.time() - 2 * store.ABANDONED,) * 2)
    kept = [
        f".tmp-{os.getppid()}@{host}",  # its process lives
        f".tmp-{gone.pid}@another.host",  # cannot be known from here
        ".tmp-notes",  # not ours
    ]
    for name in kept:
        (saved / name).write_text("")
    Steps(saved).latest()
    assert sorted(p.name for p in saved.iterdir() if p.name.startswith(".")) == sorted(kept)


FULL_DISK = """
import resource
steps = store.Steps(folder)
steps.save(1, {"w": torch.ones(10)}, {"a": 1})
store.write_json_atomic(folder / "x.json", {"a": 1})
store.write_tensors_atomic(folder / "x.safetensors", {"w": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
errors = []
for attempt in (
    lambda: steps.save(2, {"w": torch.ones(100_000)}, {}),
    lambda: store.write_json_atomic(folder / "x.json", list(range(100_000))),
    lambda: store.write_tensors_atomic(folder / "x.safetensors", {"w": torch.ones(100_000)}),
):
    try:
        attempt()
    except FeatmeshError as error:
        errors.append([error.code, str(error), sorted(p.name for p in folder.iterdir())])
steps.save(3, {"w": torch.ones(10)}, {})
steps.save(4, {"w": torch.ones(10)}, {})
print(json.dumps(errors))
"""


def test_a_full_disk_names_path_and_bytes_and_leaves_the_previous_state(trainers):
    folder, errors = trainers[0] / "full disk", trainers[1]["full disk"]
    assert [code for code, _, _ in errors] == ["E_DISK_FULL"] * 3
    for (_, text, names), path in zip(
        errors, ("step-000002", "x.json", "x.safetensors"), strict=True
    ):
        assert str(folder / path) in text
        assert names == ["step-000001", "x.json", "x.safetensors"]  # and no half files
        assert any(int(word) > 400_000 for word in text.split() if word.isdigit())
    assert store.read_json(folder / "x.json") == {"a": 1}
    assert torch.equal(store.read_tensors(folder / "x.safetensors")["w"], torch.ones(10))
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["step-000003", "step-000004", "x.json", "x.safetensors"]


# dies before or after the n-th operation on the disk
KILL_EVERYWHERE = """
def die_at(n, late):
    left = [n]
    def wrap(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0 and not late:
                os.kill(os.getpid(), signal.SIGKILL)
            done = function(*args, **kwargs)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        return call
    for name, module in (
        ("write_synced", store), ("sync_folder", store), ("rename", os), ("rmtree", store.shutil)
    ):
        setattr(module, name, wrap(getattr(module, name)))

found = []
for kind in range(4):
    again, late = kind % 2, kind // 2  # again: the same step again, not a new one
    for n in range(1, 99):
        run = folder / f"{kind}-{n}"
        steps = store.Steps(run)
        for step in (1, 2):
            steps.save(step, {"w": torch.full((9,), float(step))}, {"step": step})
        child = os.fork()
        if child == 0:
            die_at(n, late)
            number = 2 if again else 3
            store.Steps(run).save(number, {"w": torch.full((9,), 3.0)}, {"step": 3})
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        step, tensors, meta = store.Steps(run).latest()
        found.append([step, tensors["w"].tolist(), meta["step"], again])
        store.Steps(run).save(4, {"w": torch.ones(9)}, {})
        names = sorted(p.name for p in run.iterdir())
        if ended == 0 or len(names) != 2 or names[1] != "step-000004":
            found[-1].append(names if ended else "finished")
            break
print(json.dumps(found))
"""


def test_killed_at_any_operation_of_a_save_there_is_a_whole_newest_state(trainers):
    found = trainers[1]["kill everywhere"]
    assert [row[4] for row in found if len(row) > 4] == ["finished"] * 4
    assert len(found) > 4 * 7
    for step, weights, value, again, *_ in found:
        assert step in ((2,) if again else (2, 3))
        assert weights == [float(value)] * 9
        assert value in (2, 3)


KILL_ANY_TIME = """
found = []
for delay in (0.003, 0.011, 0.02, 0.031, 0.047, 0.06):
    child = os.fork()
    if child == 0:
        steps = store.Steps(folder)
        before = steps.latest()
        step = before[0] if before else 0
        while True:
            step += 1
            steps.save(step, {"w": torch.full((50_000,), float(step))}, {"step": step})
            (folder / "done").write_text(str(step))
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    newest = store.Steps(folder, report=lambda text: found.append(text)).latest()
    done = (folder / "done").read_text() if (folder / "done").exists() else ""
    left = [p.name for p in folder.glob(".tmp-*")]
    if newest is None:
        found.append([0, 0, 0, int(done or 0), left])
    else:
        w = newest[1]["w"]
        found.append([newest[0], w.min().item(), w.max().item(), int(done or 0), left])
print(json.dumps(found))
"""


def test_kill_9_in_the_middle_of_saving_loses_no_finished_state(trainers):
    found = trainers[1]["kill any time"]
    assert len(found) == 6  # and nothing was skipped
    for step, low, high, done, left in found:
        assert low == high == step
        assert step >= done
        assert left == []


# --- lock --------------------------------------------------------------------------------------

SECOND_TRAINER = """
ready, tell = os.pipe()
child = os.fork()
if child == 0:
    with store.RunLock(folder):
        os.write(tell, b"held")
        time.sleep(60)
os.read(ready, 4)
said = []
try:
    with store.RunLock(folder):
        said.append("two at once")
except FeatmeshError as error:
    said += [error.code, f"process {child} on" in str(error)]
os.kill(child, signal.SIGKILL)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # dead but not reaped: a zombie trains nothing
with store.RunLock(folder) as lock:
    lock.check()
    said.append(store.read_json(lock.path)["pid"] == os.getpid())
os.waitpid(child, 0)
print(json.dumps(said + [p.name for p in folder.iterdir()]))
"""


def test_a_second_trainer_is_refused_and_a_killed_ones_lock_taken_over(trainers):
    assert trainers[1]["second trainer"] == ["E_LOCKED", True, True]


def test_one_process_cannot_lock_twice_but_can_lock_again(tmp_path):
    with RunLock(tmp_path / "run"):
        with pytest.raises(FeatmeshError) as raised, RunLock(tmp_path / "run"):
            pass
        assert code_of(raised) == "E_LOCKED"
    with RunLock(tmp_path / "run"):
        pass


def write_lock(folder: Path, **changes) -> Path:
    who = {"pid": os.getpid(), "host": files.host_name(), "born": None, "token": "x", **changes}
    path = folder / "lock.json"
    store.write_json_atomic(path, who)
    return path


def test_a_reused_process_number_holds_no_lock(tmp_path):
    if store._stat(os.getpid())[1] is not None:  # where there is a /proc
        write_lock(tmp_path, born="1")
        with RunLock(tmp_path) as lock:
            lock.check()


@pytest.mark.parametrize("broken", [False, True])
def test_a_lock_nobody_here_can_judge_is_stale_when_its_heart_stopped(tmp_path, broken):
    path = write_lock(tmp_path, host="another-host", pid=1)
    if broken:
        path.write_text("{")
    with pytest.raises(FeatmeshError) as raised, RunLock(tmp_path):
        pass
    assert code_of(raised) == "E_LOCKED"
    os.utime(path, (time.time() - 700,) * 2)
    with RunLock(tmp_path) as lock:
        lock.check()


def test_a_living_holder_keeps_its_lock_however_long_it_is_silent(tmp_path):
    path = write_lock(tmp_path)
    os.utime(path, (time.time() - 10_000,) * 2)
    with pytest.raises(FeatmeshError) as raised, RunLock(tmp_path):
        pass
    assert code_of(raised) == "E_LOCKED"


def test_the_heart_beats_and_a_lost_lock_is_told_and_not_removed(tmp_path):
    with RunLock(tmp_path, beat=0.01) as lock:
        os.utime(lock.path, (1.0, 1.0))
        deadline = time.monotonic() + 10
        while lock.path.stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.path.stat().st_mtime > 2
        write_lock(tmp_path, token="another")
        with pytest.raises(FeatmeshError) as raised:
            lock.check()
        assert code_of(raised) == "E_LOCKED"
    assert store.read_json(tmp_path / "lock.json")["token"] == "another"


RACE = """
store.write_json_atomic(folder / "lock.json", {
    "pid": 2**22 + 1, "host": files.host_name(), "born": None, "token": "dead"})
start = time.time() + 0.2
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        time.sleep(max(0, start - time.time()))
        try:
            with store.RunLock(folder):
                time.sleep(0.5)
        except FeatmeshError:
            os._exit(1)
        os._exit(0)
    children.append(child)
print(json.dumps(sorted(os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children)))
"""


def test_of_many_that_take_over_a_dead_lock_one_wins(trainers):
    assert trainers[1]["race"] == [0] + [1] * 7


SCRIPTS = {
    "kill everywhere": KILL_EVERYWHERE,
    "kill any time": KILL_ANY_TIME,
    "second trainer": SECOND_TRAINER,
    "race": RACE,
    "full disk": FULL_DISK,  # last: the limit stays
}
