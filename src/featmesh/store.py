"""State of a run on disk: steps to go on from after a kill, and a lock against a second trainer.

What is on disk is whole, or it is not there (ours; ``featmesh.files`` does the single files).
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featmesh.errors import CheckpointError, FeatmeshError, InputError
from featmesh.files import (
    broken,
    check_schema,
    explained,
    host_name,
    json_bytes,
    read_json,
    read_tensors,
    sha256_of,
    sync_folder,
    temp_name,
    tensor_bytes,
    write_bytes_atomic,
    write_json_atomic,
    write_synced,
    write_tensors_atomic,
)

__all__ = [
    "RunLock",
    "Steps",
    "read_json",
    "read_tensors",
    "sha256_of",
    "sweep",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_tensors_atomic",
]

KEEP_STEPS = 2
STEP_SCHEMA = 1
WAITS = (5.0, 30.0, 120.0)  # seconds that a training waits for room on a full disk
ABANDONED = 86_400.0  # seconds after which a temporary file of another host is taken for left over


class Steps:
    """Training states of a run, one folder each (``step-000123``); the last two are kept.

    A state is written to a hidden folder, synced, and then renamed: there is no half state.

    Attributes:
        folder: the run folder.
        report: told which states were skipped and why, and of waiting; default: a RuntimeWarning.
        waits: seconds to wait, one after the other, for room on a full disk.
    """

    def __init__(
        self,
        run_folder: str | Path,
        report: Callable[[str], None] | None = None,
        waits: Sequence[float] = (),
    ) -> None:
        self.folder = Path(run_folder)
        self.report, self.waits = report or _warn, waits
        self._skipped: set[Path] = set()

    def save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
        """Write the state of a step and return its folder; older ones but one are removed.

        Args:
            step: number of the step, 0 or more; the same step again replaces it.
            tensors: parameters, buffers, optimiser and generator states; finite.
            meta: what else is needed to go on, as JSON holds it (tuples come back as lists).

        Raises:
            FeatmeshError: E_DISK_FULL, naming path and bytes needed; earlier states are intact.
            CheckpointError: E_CKPT_STEP if the folder holds a later state of another run.
        """
        target = self.folder / f"step-{step:06d}"
        later = [p.name for s, p in self._folders() if s > step and p not in self._skipped]
        if step < 0 or later:
            got = f"step {step} while {', '.join(later)} is there" if later else f"{step}"
            hint = "go on from latest(), or take another folder"
            raise broken("STEP", target, "a step after those in the folder", got, hint)
        data = tensor_bytes(tensors, target)
        digest = hashlib.sha256(data).hexdigest()
        state = {"schema": STEP_SCHEMA, "step": step, "sha256": digest, "meta": meta}
        text = json_bytes({**state, "check": _check(state)})
        content = {"tensors.safetensors": data, "state.json": text}
        for wait in self.waits:
            try:
                return self._write(target, content)
            except FeatmeshError as error:
                if error.code != "E_DISK_FULL":
                    raise
                self.report(f"{error}; tried again in {wait:g} s")
                time.sleep(wait)
        return self._write(target, content)

    def latest(
        self, device: str | torch.device = "cpu"
    ) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """Return (step, tensors, meta) of the newest whole state, None if there is none.

        States that are cut short, changed or not finite are reported and passed over.

        Raises:
            CheckpointError: E_CKPT_VERSION if a state was written by a newer featmesh.
        """
        sweep(self.folder)
        for step, folder in self._folders():
            try:
                tensors, meta = _read_step(folder, step, device)
            except CheckpointError as error:
                if error.code == "E_CKPT_VERSION":
                    raise
                if folder.exists():  # else the trainer has just removed it
                    self._skipped.add(folder)
                    self.report(f"Steps.latest: skipped {folder.name}: {error}")
                continue
            return step, tensors, meta
        return None

    def _folders(self) -> list[tuple[int, Path]]:
        """States newest first; one that was being replaced comes after what replaces it."""
        found = []
        for path in self.folder.glob("*step-*"):
            match = re.fullmatch(r"(\.replaced-)?step-(\d{6,})", path.name)
            if match:
                found.append((int(match[2]), match[1] is None, path))
        return [(step, path) for step, _, path in sorted(found, reverse=True)]

    def _write(self, target: Path, content: dict[str, bytes]) -> Path:
        with explained(target, sum(map(len, content.values()))):
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
            self._place(target, content)
        self._prune()
        return target

    def _place(self, target: Path, content: dict[str, bytes]) -> None:
        temp, aside = self.folder / temp_name(), self.folder / f".replaced-{target.name}"
        shutil.rmtree(temp, ignore_errors=True)
        try:
            temp.mkdir()
            for name, data in content.items():
                write_synced(temp / name, data)
            sync_folder(temp)
            if target in self._skipped:
                shutil.rmtree(target)
            elif target.exists():  # a folder cannot be renamed onto a full one
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(target, aside)
            os.rename(temp, target)
            sync_folder(self.folder)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise
        self._skipped.discard(target)

    def _prune(self) -> None:
        whole = [path for _, path in self._folders() if path not in self._skipped]
        keep = [path for path in whole if not path.name.startswith(".")][:KEEP_STEPS]
        for _, path in self._folders():
            if path not in keep:
                shutil.rmtree(path, ignore_errors=True)
        self._skipped.clear()


class RunLock:
    """Context manager: one trainer a run folder; a second one gets E_LOCKED.

    ``lock.json`` names process and host; its time of change is the heartbeat. The lock of a dead
    process of this host is taken over at once, that of another host after ``stale`` seconds
    without a heartbeat.
    """

    def __init__(self, run_folder: str | Path, beat: float = 15.0, stale: float = 600.0) -> None:
        self.folder = Path(run_folder)
        self.path = self.folder / "lock.json"
        self.beat, self.stale = beat, stale  # seconds
        self._token = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)

    def __enter__(self) -> "RunLock":
        with explained(self.path, 200):
            self.folder.mkdir(parents=True, exist_ok=True)
            with _alone(self.folder):
                self._refuse_if_held()
                pid = os.getpid()
                who = {
                    "pid": pid,
                    "host": host_name(),
                    "born": _stat(pid)[1],
                    "token": self._token,
                }
                write_json_atomic(self.path, who)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError), _alone(self.folder):  # a lock left behind is taken over
            if self._holder().get("token") == self._token:
                self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise E_LOCKED if the lock is no longer ours (another host took it over, or removed)."""
        if self._holder().get("token") != self._token:
            raise self._locked("the lock it took", "a lock of another process, or none")

    def _holder(self) -> dict[str, Any]:
        try:
            return read_json(self.path)
        except FeatmeshError:  # absent, or the lock of a process that died as it wrote
            return {}

    def _refuse_if_held(self) -> None:
        if not self.path.exists():
            return
        holder, running = self._holder(), None
        if holder.get("host") == host_name() and isinstance(holder.get("pid"), int):
            running = _running(holder["pid"], holder.get("born"))
        silent = time.time() - self.path.stat().st_mtime  # seconds
        if running is False or (running is None and silent > self.stale):
            return
        who = f"process {holder.get('pid')} on {holder.get('host')}"
        raise self._locked("a free run folder", f"one held by {who}, heard {silent:.0f} s ago")

    def _locked(self, expected: str, got: str) -> FeatmeshError:
        hint = f"another --out, or remove {self.path} if no trainer runs there"
        message = f"RunLock: expected {expected}, got {got} ({self.folder}); try: {hint}"
        return FeatmeshError("E_LOCKED", message)

    def _keep_beating(self) -> None:
        while not self._stop.wait(self.beat):
            try:
                self.check()
                os.utime(self.path)  # needs no room on a full disk
            except (FeatmeshError, OSError):
                continue  # a disk that is away for a moment ends no training; check() tells


def sweep(folder: Path) -> None:
    """Remove temporary files and folders that dead processes left in ``folder``."""
    for path in folder.glob(".tmp-*"):
        match = re.fullmatch(r"\.tmp-(\d+)@([^@]*)(@[0-9a-f]{8})?", path.name)
        if match is None:
            continue
        with suppress(FileNotFoundError):  # its process may finish in this moment
            running = _running(int(match[1])) if match[2] == host_name() else None
            old = time.time() - path.stat().st_mtime > ABANDONED
            if running or (running is None and not old):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _read_step(
    folder: Path, step: int, device: str | torch.device
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = folder / "state.json"
    state = read_json(path)
    stated = state.pop("check", None)
    try:
        found = _check(state)
    except InputError:  # a number such as 1e999
        found = ""
    if found != stated:  # first: a flipped bit may look like a newer format
        raise broken("HASH", path, "the hash it states", "another", "an earlier step")
    check_schema(state, STEP_SCHEMA, path)
    digest, meta = state.get("sha256"), state.get("meta")
    if state.get("step") != step or not isinstance(digest, str) or not isinstance(meta, dict):
        got = f"step {state.get('step')}, {sorted(state)}"
        raise broken("FORMAT", path, f"step {step}, sha256 and meta", got, "an earlier step")
    return read_tensors(folder / "tensors.safetensors", digest, device), meta


def _check(state: dict[str, Any]) -> str:
    read_back = json.loads(json_bytes(state))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()


def _running(pid: int, born: str | None = None) -> bool | None:
    """Whether a process of this host lives; None: cannot tell. ``born`` tells reused numbers."""
    if os.name != "posix":  # signal 0 would interrupt it there
        return None
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # another user's, but there
    except (ProcessLookupError, OverflowError):
        return False
    state, start = _stat(pid)
    return state not in ("Z", "X") and (born is None or start is None or born == start)


def _stat(pid: int) -> tuple[str, str | None]:
    """State letter and start time of a process; ("", None) where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return fields[0], fields[19]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time decide about the lock of a folder."""
    try:
        import fcntl
    except ImportError:  # Windows: two that find a dead lock in the same instant can both win
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
