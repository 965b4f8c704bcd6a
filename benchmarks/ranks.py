"""A training by two processes against one: same weights? how fast? and when ranks are killed?

A tiny training on generated photos, from the trunk of the bundled models. Processes have one thread
each; one process with two threads shows what rounding alone does. Then ranks of a run of two are
killed with SIGKILL at random moments; torchrun begins them again.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from kills import materials
from output import save, table

from featmesh.store import Steps

SETTINGS = {
    "samples-per-epoch": "48",
    "batch": "8",
    "save-every": "2",
    "anchors-per-view": "64",
    "clutter-queue": "256",
    "model.channels": "32",
    "model.width": "32",
    "model.crop-height": "128",
    "model.crop-width": "192",
    "model.clutter-centres": "8",
}
A_PASS = 6  # steps: 48 draws in batches of 8
PASSES = (1, 4)  # rounding grows with the steps
STEPS = A_PASS * PASSES[-1]
TORCHRUN = ("torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d")
TORCHRUN += ("--rdzv-endpoint", "localhost:0", "--max-restarts", "9", "-m")
PARTS = {"trunk": "net.trunk", "head": "net.head", "texture": "texture", "queue": "queue"}
WAYS = {"one process": (1, 1), "two threads": (1, 2), "two processes": (2, 1)}
LIMIT_S = 1800.0


def begun(
    stuff: Path, out: Path, ranks: int, threads: int = 1, passes: int = PASSES[-1]
) -> subprocess.Popen[bytes]:
    """Start a training of one process, or of two under torchrun."""
    words = [sys.executable, "-m", *(TORCHRUN if ranks > 1 else ()), "featmesh", "train"]
    words += ["--out", str(out), "--threads", str(threads), "--epochs", str(passes)]
    for name, file in {"views": "views.json", "cad": "cad", "backgrounds": "walls"}.items():
        words += [f"--{name}", str(stuff / file)]
    for name, value in SETTINGS.items():
        words += [f"--{name}", value]
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


def run(stuff: Path, out: Path, ranks: int, threads: int, passes: int) -> dict[str, float]:
    """Train to the end; return seconds in all, of a step, and of all processors together."""
    start, before = time.monotonic(), os.times()
    code = begun(stuff, out, ranks, threads, passes).wait(LIMIT_S)
    after, log = os.times(), (out.parent / f"{out.name}.log").read_text()
    if code:
        raise SystemExit(f"{out.name}: exit {code}\n{log}")
    steps = A_PASS * passes
    rate, unit = re.findall(rf"train: {steps}/{steps}, ([\d.]+)( s each|/s)", log)[-1]
    return {
        "steps": steps,
        "seconds": time.monotonic() - start,
        "seconds_a_step": float(rate) if unit == " s each" else 1 / float(rate),
        "processor_seconds": sum(after[2:4]) - sum(before[2:4]),  # of all that has ended
    }


def state(out: Path, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """Return the last state of a run."""
    found = Steps(out).latest()
    if found is None or found[0] != steps:
        raise SystemExit(f"{out}: expected a state of step {steps}, got {found and found[0]}")
    return found[1]


def apart(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return how far two states are apart: at most, and how many numbers by more than 1e-6."""
    found = {}
    for name, start in PARTS.items():
        keys = [k for k in one if k.startswith(start) and one[k].is_floating_point()]
        gap = torch.cat([(one[k].double() - two[k].double()).abs().flatten() for k in keys])
        found[name] = {
            "numbers": len(gap),
            "largest": float(gap.max()),
            "rms": float(gap.square().mean().sqrt()),
            "beyond_1e-6": int((gap > 1e-6).sum()),
        }
    return found


def killed(stuff: Path, out: Path, kills: int, chance: random.Random) -> dict[str, Any]:
    """Kill a rank now and then, each time after new progress; return when, and how it ended."""
    process, told = begun(stuff, out, 2), []
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    start, reached = time.monotonic(), 0
    while len(told) < kills and process.poll() is None:
        newest = max([int(p.name[5:]) for p in out.glob("step-*")], default=0)
        if newest <= reached:
            time.sleep(0.02)
            continue
        time.sleep(chance.uniform(0.0, 2.0))
        ranks = sorted(map(int, children.read_text().split()))[-2:]
        if len(ranks) == 2 and newest < STEPS - 2:
            rank = len(told) % 2
            os.kill(ranks[rank], signal.SIGKILL)
            told.append({"rank": rank, "state": newest, "second": time.monotonic() - start})
            sys.stderr.write(f"killed rank {rank}, newest state {newest}\n")
        reached = newest + 2  # the state being written, and a further one
    return {"kills": told, "exit": process.wait(LIMIT_S), "seconds": time.monotonic() - start}


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what the runs took, how far they are apart, and whether the killed one recovered."""
    stuff = folder / "stuff"
    stuff.mkdir()
    materials(stuff, args.seed)
    runs, against = {}, {}
    for passes in PASSES:
        steps, ended = A_PASS * passes, {}
        for name, (ranks, threads) in WAYS.items():
            out = folder / f"{steps} steps, {name}"
            runs[out.name] = run(stuff, out, ranks, threads, passes)
            ended[name] = state(out, steps)
            sys.stderr.write(f"{out.name}: {runs[out.name]}\n")
        one, more, two = (ended[name] for name in WAYS)
        against[str(steps)] = {"two processes": apart(one, two), "two threads": apart(one, more)}
    death = killed(stuff, folder / "killed", args.kills, random.Random(args.seed))
    after = state(folder / "killed")
    same = not death["exit"] and all(torch.equal(after[k], v) for k, v in two.items())
    return {
        "runs": runs,
        "against_one_process": against,
        "killed": death,
        "recovered_to_the_same_bits": same,
    }


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(data=None, limit=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measured(args, Path(folder))
    columns = ("run", "steps", "s", "s a step", "processor s")
    rows = [[name, *each.values()] for name, each in results["runs"].items()]
    speed = table("what it takes, start included", columns, rows)
    rows = [
        [int(steps), other, part, gap["largest"], gap["rms"], gap["beyond_1e-6"] / gap["numbers"]]
        for steps, both in results["against_one_process"].items()
        for other, parts in both.items()
        for part, gap in parts.items()
    ]
    columns = ("steps", "other", "part", "largest", "rms", "share beyond 1e-6")
    same = table("differences from one process of one thread", columns, rows)
    death = results["killed"]
    word = "yes" if results["recovered_to_the_same_bits"] else "NO"
    row = [len(death["kills"]), death["exit"], death["seconds"], word]
    columns = ("ranks killed", "exit", "s", "same bits as undisturbed")
    save("ranks", args, None, results, [speed, same, table("a run of two", columns, [row])])


if __name__ == "__main__":
    main()
