"""A training killed again and again: at random, while it saves, on a full disk; its last weights.

A tiny training on generated photos runs as ``featmesh train`` does, first undisturbed. Then it is
killed with SIGKILL and begun again with the same command until it ends; what it ends on must be the
same bits.
"""

import argparse
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import save, table
from PIL import Image
from safetensors.torch import save_file

from featmesh.geometry.template import cuboid
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.model.efficientnet import EfficientNetLite0
from featmesh.store import Steps
from featmesh.views.record import View, write_views

FULL = 5_000_000  # bytes a file may have on the "full disk"; a state has more
DISK_FULL = 75  # exit code
SIZE = (96, 128)
SETTINGS = {
    "samples-per-epoch": "60",
    "epochs": "4",
    "batch": "2",
    "save-every": "2",
    "anchors-per-view": "32",
    "clutter-queue": "64",
    "threads": "1",
    "model.channels": "16",
    "model.width": "16",
    "model.crop-height": "64",
    "model.crop-width": "64",
    "model.clutter-centres": "4",
}
STEPS = 120  # 60 draws in batches of 2, 4 times
LIMIT_S = 1800.0


def materials(folder: Path, seed: int) -> None:
    """Write what a training begins with: photos with poses, a template, a trunk, a background."""
    draw = np.random.default_rng(seed)
    views = []
    for k in range(8):
        pixels = draw.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
        pose = Viewpoint(k * 0.78, 0.2, 0.0, 3.0).to_pose()
        box = (20.0, 20.0, 108.0, 76.0)
        shown = {"width": SIZE[1], "height": SIZE[0], "category": "car", "box": box}
        image = folder / f"{k}.png"
        views.append(View(image, **shown, R=pose.R.numpy(), distance=3.0, index=k))
    write_views(folder / "views.json", views)
    mesh = cuboid((1.0, 2.0, 0.8), (6, 12, 5)).normalised()
    rows = [f"v {x} {y} {z}" for x, y, z in mesh.vertices.tolist()]
    rows += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    (folder / "cad").mkdir()
    (folder / "cad" / "template.obj").write_text("\n".join(rows) + "\n")
    torch.manual_seed(seed)
    save_file(EfficientNetLite0().state_dict(), str(folder / "trunk.safetensors"))
    (folder / "walls").mkdir()
    wall = draw.integers(0, 90, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(wall).save(folder / "walls" / "wall.png")


def begun(stuff: Path, out: Path, full: bool = False) -> subprocess.Popen[bytes]:
    """Start the training; on a "full disk" no file may grow beyond some bytes."""
    places = {"views": "views.json", "cad": "cad", "trunk": "trunk.safetensors"}
    words = [sys.executable, "-m", "featmesh", "train", "--out", str(out)]
    for name, file in (places | {"backgrounds": "walls"}).items():
        words += [f"--{name}", str(stuff / file)]
    for name, value in SETTINGS.items():
        words += [f"--{name}", value]

    with (out.parent / f"{out.name}.log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    if full:  # long before it writes anything
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))
    return process


def ended(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a training that is let alone."""
    return process.wait(LIMIT_S)


def weights(out: Path) -> str:
    """Return one hash over the last state, the model's tensors and its trunk."""
    found = Steps(out).latest()
    if found is None or found[0] != STEPS:
        raise SystemExit(f"{out}: expected a state of step {STEPS}, got {found and found[0]}")
    whole = hashlib.sha256()
    for name, tensor in sorted(found[1].items()):
        whole.update(name.encode() + tensor.contiguous().numpy().tobytes())
    for path in sorted(out.glob("models/*/model.safetensors")) + sorted(out.glob("backbones/*")):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def latest(out: Path) -> int:
    """Return the step of the newest state that has its name, 0 where there is none."""
    return max([int(p.name[5:]) for p in out.glob("step-*")], default=0)


def at_random(process: subprocess.Popen[bytes], out: Path, chance: random.Random, s: float) -> bool:
    """Wait until a moment of the start or of the first steps; s seconds is a start."""
    end = time.monotonic() + chance.uniform(0.0, 1.2 * s)
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.001)
    return process.poll() is None


def in_mid_save(
    process: subprocess.Popen[bytes], out: Path, chance: random.Random, s: float
) -> bool:
    """Wait for the first to third save, then until some of it is on the disk."""
    for _ in range(chance.randrange(1, 4)):
        if not _temporary(process, out, True) or not _temporary(process, out, False):
            return False
    if not _temporary(process, out, True):
        return False
    time.sleep(chance.uniform(0.0, 0.03))
    return process.poll() is None


def on_a_full_disk(
    process: subprocess.Popen[bytes], out: Path, chance: random.Random, s: float
) -> bool:
    """Wait until a save has failed and the training waits for room, or tries again."""
    log = out.parent / f"{out.name}.log"
    before = log.read_bytes().count(b"E_DISK_FULL")
    end = time.monotonic() + LIMIT_S
    while log.read_bytes().count(b"E_DISK_FULL") == before:
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 7.0))  # it tries again after 5
    return process.poll() is None


def _temporary(process: subprocess.Popen[bytes], out: Path, there: bool) -> bool:
    """Wait until a half-written state is there, or gone; False where the process ends."""
    while process.poll() is None:
        if any(out.glob(".tmp-*")) == there:
            return True
        time.sleep(0.0005)
    return False


MOMENTS: dict[str, Callable[..., bool]] = {
    "at random": at_random,
    "in mid-save": in_mid_save,
    "on a full disk": on_a_full_disk,
}


def killed(stuff: Path, out: Path, moments: list[str], chance: random.Random, s: float) -> Any:
    """Kill the training at each moment, beginning it again; return what each kill left."""
    rows = []
    while moments:
        moment = moments[0]
        process = begun(stuff, out, moment == "on a full disk")
        if MOMENTS[moment](process, out, chance, s):
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        if code == 0:  # done before its time came: the rest of the kills is for another run
            break
        if code != -signal.SIGKILL:
            raise SystemExit(f"{out}: expected a killed training, got exit {code} ({moment})")
        half = len(list(out.glob(".tmp-*")))
        rows.append({"moment": moment, "step": latest(out), "half_written": half})
        sys.stderr.write(f"kill {len(rows)} {moment}: step {latest(out)}, {half} half-written\n")
        moments.pop(0)
    return rows


def given_room(stuff: Path, out: Path) -> dict[str, Any]:
    """Let a training run into a full disk, and give it room while it waits."""
    process = begun(stuff, out, full=True)
    waited = on_a_full_disk(process, out, random.Random(0), 0.0)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    return {"waited": waited, "exit": ended(process)}


def left_full(stuff: Path, out: Path) -> dict[str, Any]:
    """Let a training give up on a full disk, then go on with room: 155 s of waiting."""
    first = ended(begun(stuff, out, full=True))
    return {"exit_full": first, "exit": ended(begun(stuff, out))}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(data=None, limit=None)
    return parser.parse_args()


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the kills, and whether each run ended on the weights of the undisturbed one."""
    chance = random.Random(args.seed)
    stuff, undisturbed = folder / "stuff", folder / "undisturbed"
    stuff.mkdir()
    materials(stuff, args.seed)
    clock, process = time.monotonic(), begun(stuff, undisturbed)
    while not latest(undisturbed) and process.poll() is None:
        time.sleep(0.05)
    start = time.monotonic() - clock
    code = ended(process)
    if code:
        raise SystemExit((folder / "undisturbed.log").read_text())
    whole, expected = time.monotonic() - clock, weights(undisturbed)
    sys.stderr.write(f"undisturbed: {expected[:12]}, start {start:.1f} s, {whole:.1f} s\n")
    full, saving = args.kills // 4, args.kills // 3
    moments = ["in mid-save"] * saving + ["on a full disk"] * full
    moments += ["at random"] * (args.kills - len(moments))
    chance.shuffle(moments)
    rows, same = [], []
    while moments:
        out = folder / f"killed-{len(same)}"
        rows += [row | {"run": len(same)} for row in killed(stuff, out, moments, chance, start)]
        code = ended(begun(stuff, out))
        same.append(code == 0 and weights(out) == expected)
        sys.stderr.write(f"run {len(same)}: {'the same' if same[-1] else 'OTHER'} weights\n")
    disks = {}
    for name, way in (("room comes", given_room), ("gives up", left_full)):
        out = folder / name.replace(" ", "-")
        disks[name] = way(stuff, out) | {"same_weights": weights(out) == expected}
        sys.stderr.write(f"full disk, {name}: {disks[name]}\n")
    return {
        "steps": STEPS,
        "weights_sha256": expected,
        "seconds": {"start": start, "whole": whole},
        "kills": rows,
        "runs_with_same_weights": same,
        "full_disk": disks,
    }


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    args = options()
    with tempfile.TemporaryDirectory() as folder:
        results = measured(args, Path(folder))
    rows = []
    for moment in MOMENTS:
        own = [row for row in results["kills"] if row["moment"] == moment]
        half = sum(row["half_written"] > 0 for row in own)
        rows.append([moment, len(own), half, max([row["step"] for row in own], default=0)])
    runs = results["runs_with_same_weights"]
    title = (
        f"a training of {STEPS} steps killed {len(results['kills'])} times; "
        f"{sum(runs)} of {len(runs)} runs end on the undisturbed weights"
    )
    columns = ("killed", "times", "a state half written", "latest step")
    disks = [
        [name, one.get("exit_full"), one["exit"], "same" if one["same_weights"] else "OTHER"]
        for name, one in results["full_disk"].items()
    ]
    told = table("a disk that is full", ("then", "first exit", "last exit", "weights"), disks)
    save("kills", args, None, results, [table(title, columns, rows), told])


if __name__ == "__main__":
    main()
