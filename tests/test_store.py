import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

import featmesh
from featmesh import files, store
from featmesh.errors import CheckpointError, FeatmeshError, InputError
from featmesh.store import RunLock, Steps

SRC = str(Path(featmesh.__file__).parents[1])


def run_script(text: str, folder: Path) -> dict:
    """Run a script in a process of its own; it gets the folder and prints one line of JSON."""
    header = "import json, os, signal, sys, time\nfrom pathlib import Path\nimport torch\n"
    header += "from featmesh import files, store\nfrom featmesh.errors import FeatmeshError\n"
    header += "folder = Path(sys.argv[1])\n"
    environment = {**os.environ, "PYTHONPATH": SRC, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", header + text, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


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


# --- files -------------------------------------------------------------------------------------


def test_tensors_come_back_with_the_hash_they_were_written_with(tmp_path):
    shared = torch.randn(3, 4, dtype=torch.float64)
    tensors = {
        "a": shared,
        "tied": shared,
        "turned": shared.T,
        "half": torch.randn(2).half(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "none": torch.zeros(0, 3),
        "flag": torch.tensor(True),
    }
    path = tmp_path / "sub" / "x.safetensors"
    digest = store.write_tensors_atomic(path, tensors)
    assert digest == store.sha256_of(path)
    read = store.read_tensors(path, digest)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    again = dict(reversed(tensors.items()))
    assert store.write_tensors_atomic(tmp_path / "y", again) == digest
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_a_truncated_file_is_refused_with_and_without_a_hash(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    digest = store.write_tensors_atomic(path, state(1))
    path.write_bytes(path.read_bytes()[:keep])
    for expected in (digest, None):
        with pytest.raises(CheckpointError) as raised:
            store.read_tensors(path, expected)
        assert code_of(raised) == "E_CKPT_HASH"


def test_a_flipped_bit_of_the_weights_is_found(tmp_path):
    path = tmp_path / "x.safetensors"
    digest = store.write_tensors_atomic(path, state(1))
    flip_bit(path, -20)
    with pytest.raises(CheckpointError, match="cut short or changed") as raised:
        store.read_tensors(path, digest)
    assert code_of(raised) == "E_CKPT_HASH"


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_a_pickle_is_refused_with_the_reason_and_not_run(tmp_path, monkeypatch, kind):
    import pickle

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if kind == "zip":  # the form of torch.save
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    else:
        path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match="can run code") as raised:
        store.read_tensors(path)
    assert code_of(raised) == "E_CKPT_FOREIGN"
    assert not Path("sprung").exists()


def test_a_header_length_that_begins_like_a_pickle_is_no_pickle(tmp_path):
    path = tmp_path / "x.safetensors"
    for length in range(1, 640):  # a header of 640 bytes: the file begins with 0x80 0x02
        store.write_tensors_atomic(path, {"n" * length: torch.zeros(2)})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert torch.equal(store.read_tensors(path)["n" * length], torch.zeros(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, value):
    bad = {"fine": torch.zeros(2), "head.w": torch.tensor([0.0, value])}
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=r"head\.w") as raised:
        store.write_tensors_atomic(path, bad)
    assert code_of(raised) == "E_CKPT_NONFINITE"
    assert not path.exists()
    from safetensors.torch import save_file

    save_file(bad, path)
    with pytest.raises(CheckpointError, match=r"head\.w.*1 of 2") as raised:
        store.read_tensors(path, store.sha256_of(path))
    assert code_of(raised) == "E_CKPT_NONFINITE"


def test_too_many_tensors_are_refused(tmp_path):
    many = {f"t{i}": torch.zeros(0) for i in range(files.MAX_TENSORS + 1)}
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="10001") as raised:
        store.write_tensors_atomic(path, many)
    assert code_of(raised) == "E_CKPT_FORMAT"
    from safetensors.torch import save_file

    save_file(many, path)
    with pytest.raises(CheckpointError, match="10001") as raised:
        store.read_tensors(path)
    assert code_of(raised) == "E_CKPT_FORMAT"


def test_a_huge_header_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(CheckpointError) as raised:
        store.read_tensors(path)
    assert code_of(raised) == "E_CKPT_HASH"


@pytest.mark.skipif(os.name != "posix", reason="no FIFO on Windows")
def test_missing_files_folders_and_fifos_are_named_and_never_block(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("absent", "fifo", "."):
        with pytest.raises(CheckpointError) as raised:
            store.read_tensors(tmp_path / name)
        assert code_of(raised) == "E_CKPT_MISSING"


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": NaN}', "[" * 100_000, '{"a": "\xff"}'])
def test_broken_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError) as raised:
        store.read_json(tmp_path / "x.json")
    assert code_of(raised) == "E_CKPT_FORMAT"


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    store.write_json_atomic(path, {"a": 1})
    with pytest.raises(InputError) as raised:
        store.write_json_atomic(path, {"a": float("nan")})
    assert code_of(raised) == "E_NONFINITE"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as raised:
        store.write_json_atomic(tmp_path / "file" / "x.json", {})
    assert code_of(raised) == "E_IO"
    assert store.read_json(path) == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x.json"]


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
        errors.append([error.code, str(error)])
steps.save(3, {"w": torch.ones(10)}, {})
steps.save(4, {"w": torch.ones(10)}, {})
print(json.dumps(errors))
"""


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE is of POSIX")
def test_a_full_disk_names_path_and_bytes_and_leaves_the_previous_state(tmp_path):
    errors = run_script(FULL_DISK, tmp_path)
    assert [code for code, _ in errors] == ["E_DISK_FULL"] * 3
    for (_, text), name in zip(errors, ("step-000002", "x.json", "x.safetensors"), strict=True):
        assert str(tmp_path / name) in text
        assert any(int(word) > 400_000 for word in text.split() if word.isdigit())
    assert store.read_json(tmp_path / "x.json") == {"a": 1}
    assert torch.equal(store.read_tensors(tmp_path / "x.safetensors")["w"], torch.ones(10))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["step-000003", "step-000004", "x.json", "x.safetensors"]


# one process that has torch forks the trainers, so that each kill costs no import
KILL_EVERYWHERE = """
calls = ["write_synced", "sync_folder"], ["rename", "replace"], ["rmtree"]

def die_at(n):
    left = [n]
    def wrap(function, after):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = function(*args, **kwargs)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        return call
    for name, module in (
        ("write_synced", store), ("sync_folder", store), ("rename", os), ("rmtree", store.shutil)
    ):
        setattr(module, name, wrap(getattr(module, name), n % 2))

found = []
for again in (False, True):  # a new step; and the same step again
    for n in range(1, 99):
        run = folder / f"{again}-{n}"
        steps = store.Steps(run)
        for step in (1, 2):
            steps.save(step, {"w": torch.full((9,), float(step))}, {"step": step})
        child = os.fork()
        if child == 0:
            die_at(n)
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the trainers")
def test_killed_at_any_operation_of_a_save_there_is_a_whole_newest_state(tmp_path):
    found = run_script(KILL_EVERYWHERE, tmp_path)
    assert [row[4] for row in found if len(row) > 4] == ["finished", "finished"]
    assert len(found) > 16
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the trainers")
def test_kill_9_in_the_middle_of_saving_loses_no_finished_state(tmp_path):
    found = run_script(KILL_ANY_TIME, tmp_path)
    assert len(found) == 6  # and nothing was skipped
    for step, low, high, done, left in found:
        assert low == high == step
        assert step >= done
        assert left == []


# --- lock --------------------------------------------------------------------------------------

HOLD_LOCK = """
import sys, time
from pathlib import Path
from featmesh.store import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_trainer_is_refused_and_a_dead_ones_lock_taken_over(tmp_path):
    environment = {**os.environ, "PYTHONPATH": SRC}
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FeatmeshError, match=f"process {other.pid} on") as raised:
            with RunLock(tmp_path):
                pass
        assert code_of(raised) == "E_LOCKED"
        other.kill()
        # not reaped yet: a zombie trains nothing
        deadline = time.monotonic() + 10
        while store._running(other.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        with RunLock(tmp_path) as lock:
            lock.check()
            assert store.read_json(lock.path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the trainers")
def test_of_many_that_take_over_a_dead_lock_one_wins(tmp_path):
    assert run_script(RACE, tmp_path) == [0] + [1] * 7
