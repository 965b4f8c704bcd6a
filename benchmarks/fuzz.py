"""Readers under damaged input: crashes, hangs, memory above 1 GB, errors without a code.

Each reader works in a process of its own, watched from outside; what it fails on is kept as a file.
"""

import argparse
import base64
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from output import save, table

WHAT = ("image", "mesh", "views", "checkpoint", "http")
HANG_S, MEMORY = 20.0, 1_000_000_000  # seconds for one input, bytes it may take
START_S = 300.0
ROOM = 6_000_000_000  # bytes of addresses above those after the start, for the machine's sake
KEPT = 3  # inputs kept of each kind of failure
TIRED = 500_000_000  # resident bytes in one input after which a process is replaced


class Tally:
    """What became of the inputs of a reader; those that failed are kept in a folder."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what = folder, what
        self.outcomes: Counter[str] = Counter()  # codes, "read", and what failed
        self.failures: Counter[str] = Counter()  # by kind and place
        self.slowest, self.largest, self.starts = 0.0, 0, 0  # seconds, bytes, processes

    def row(self, begun: dict[str, Any], row: dict[str, Any]) -> None:
        """Count an input that came to an end."""
        self.slowest, self.largest = max(self.slowest, row["s"]), max(self.largest, row["grown"])
        self.outcomes[row["code"] or row["kind"]] += 1
        if row["kind"]:
            data = base64.b64decode(row["data"])
            said = f"{row['said']}\n{row['grown']} bytes, {row['s']:.1f} s"
            self.failed(row["kind"], row["where"], begun["name"], data, said)

    def failed(self, kind: str, where: str, name: str, data: bytes, said: str) -> None:
        """Count a failure; keep the first inputs of each place with what was said."""
        key = f"{kind} {where}".strip()
        self.failures[key] += 1
        if self.failures[key] > KEPT:
            return
        number = sum(min(count, KEPT) for count in self.failures.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.what}-{number:03d}-{kind.split(maxsplit=1)[0]}-{name}"
        path.write_bytes(data)
        path.with_name(f"{path.name}.txt").write_text(f"{key}\n{said}\n", "utf-8", "replace")
        sys.stderr.write(f"{self.what}: {key} ({path})\n")

    def told(self) -> dict[str, Any]:
        """Return the counts as JSON holds them."""
        return {
            "inputs": sum(self.outcomes.values()),
            "outcomes": dict(self.outcomes.most_common()),
            "failures": dict(self.failures.most_common()),
            "slowest_s": self.slowest,
            "largest_mb": self.largest / 1e6,
            "processes": self.starts,
        }


def work(what: str, seed: int, first: int, folder: Path) -> None:
    """Damage and read one input after the other; a line before and after each on stdout."""
    from fuzz_targets import target_of

    warnings.simplefilter("ignore")
    target = target_of(what)
    target.prepare(folder)
    limit = _memory()[2] + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    names, number = sorted(target.seeds), first
    _tell({"ready": len(names)})
    while True:
        chance = random.Random(f"{seed} {what} {number}")
        name = chance.choice(names)
        data = target.damage(chance, name, target.seeds)
        (folder / name).write_bytes(data)
        _tell({"number": number, "name": name})
        resident, peak, _ = _memory()
        clock = time.monotonic()
        row = _outcome(target, folder, name) | {"s": time.monotonic() - clock}
        after = _memory()[1]
        row["grown"] = after - resident if after > peak else 0
        if row["grown"] > MEMORY and not row["kind"]:
            row["kind"] = "memory"
        row["data"] = base64.b64encode(data).decode() if row["kind"] else ""
        row["tired"] = row["grown"] > TIRED or resident > 2 * MEMORY
        _tell(row)
        number += 1


def _outcome(target: Any, folder: Path, name: str) -> dict[str, Any]:
    """Return what reading a file came to; ``kind`` "" is as promised."""
    from featmesh.errors import FeatmeshError

    try:
        target.read(folder, name)
    except FeatmeshError as error:
        told = {"code": error.code, "kind": "", "where": "", "said": ""}
        if _out_of_memory(error):
            return told | {"kind": "memory", "where": _place(error), "said": _all(error)}
        if "expected" not in str(error) or "try: " not in str(error):
            return told | {"kind": "message", "where": _place(error), "said": str(error)}
        return told
    except BaseException as error:  # that there is one at all is what is looked for
        kind = type(error).__name__
        return {"code": "", "kind": kind, "where": _place(error), "said": _all(error)}
    return {"code": "read", "kind": "", "where": "", "said": ""}


def _out_of_memory(error: BaseException | None) -> bool:
    """Return whether memory ran out behind an error: 6 GB were there to be taken."""
    while error is not None:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """Return the innermost line of featmesh that an error went through."""
    steps = traceback.extract_tb(error.__traceback__)
    own = [step for step in steps if "/featmesh/" in step.filename] or list(steps)
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def _all(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-4000:]


def _memory() -> tuple[int, int, int]:
    """Return the resident bytes of this process, their peak so far, and its addresses."""
    words = Path("/proc/self/statm").read_text().split()
    page, peak = os.sysconf("SC_PAGE_SIZE"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(words[1]) * page, peak * 1024, int(words[0]) * page


def _tell(row: dict[str, Any]) -> None:
    left = json.dumps(row).encode() + b"\n"
    while left:
        left = left[os.write(1, left) :]


class Worker:
    """A working process: its rows one by one, with patience for one input."""

    def __init__(self, what: str, seed: int, first: int, folder: Path) -> None:
        words = ["--what", what, "--seed", str(seed), "--first", str(first)]
        command = [sys.executable, "-X", "faulthandler", __file__, *words, "--work", str(folder)]
        self._errors, self._rest = tempfile.TemporaryFile(), b""
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)

    def row(self, seconds: float) -> dict[str, Any] | None:
        """Return the next row; None where there is none in time."""
        pipe = self.process.stdout
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([pipe], [], [], left)
            more = os.read(pipe.fileno(), 1 << 20) if pipe and ready else b""
            if not more:
                return None
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> tuple[str, str]:
        """End the process; return whether it was a "crash" or a "hang", and what it said last."""
        try:
            self.process.wait(2.0)
            kind = "crash"
        except subprocess.TimeoutExpired:
            self.process.kill()
            kind = "hang"
        self.process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-4000:].decode("utf-8", "replace")
        self._errors.close()
        if self.process.stdout:
            self.process.stdout.close()
        return kind, f"exit {self.process.returncode}\n{said}"


def watch(what: str, seconds: float, seed: int, tally: Tally) -> None:
    """Let one reader have damaged inputs for some seconds."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as name:
            worker = Worker(what, seed, number, Path(name))
            tally.starts += 1
            if worker.row(START_S) is None:
                raise RuntimeError(f"{what}: expected a process that starts, got {worker.end()}")
            number = _until_it_fails(worker, end, tally, number, Path(name))


def _until_it_fails(worker: Worker, end: float, tally: Tally, number: int, folder: Path) -> int:
    """Hear a process until it crashes, hangs or is tired; return the number of the next input."""
    while time.monotonic() < end:
        begun = worker.row(HANG_S)
        row = worker.row(HANG_S) if begun else None
        number += 1
        if begun is None or row is None:
            kind, said = worker.end()
            file = folder / (begun["name"] if begun else "none")
            data = file.read_bytes() if file.is_file() else b""
            tally.outcomes[kind] += 1
            tally.failed(kind, "", file.name, data, said)
            return number
        tally.row(begun, row)
        if row["tired"]:
            break
    worker.process.kill()
    worker.end()
    return number


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each reader")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--finds", type=Path, default=Path("out/fuzz"), help="inputs that failed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default="fuzz", help="of the JSON file with the counts")
    parser.add_argument("--model", default="car", help="of the server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(data=None, limit=None)
    return parser.parse_args()


def main() -> None:
    args = options()
    if args.work:
        work(args.what[0], args.seed, args.first, args.work)
        return
    for what in args.what:
        tally = Tally(args.finds, what)
        if what == "http":
            from fuzz_http import attack

            attack(args.model, args.minutes * 60, args.seed, tally)
        else:
            watch(what, args.minutes * 60, args.seed, tally)
        report(args, what, tally)


def report(args: argparse.Namespace, what: str, tally: Tally) -> None:
    """Write what one reader made of its inputs beside what the others did before."""
    told = known(args.out / f"{args.name}.json")
    told[what] = {"minutes": args.minutes, "seed": args.seed, **tally.told()}
    columns = ("reader", "minutes", "inputs", "read or answered", "refused", "failed")
    rows = []
    for one in (name for name in WHAT if name in told):
        row = told[one]
        good = sum(row["outcomes"].get(key, 0) for key in ("read", "200"))
        bad = sum(row["failures"].values())
        refused = row["inputs"] - good - bad
        figures = (row["minutes"], row["inputs"], good, refused, bad)
        rows.append([one, *figures, row["slowest_s"], row["largest_mb"]])
    shown = table("damaged inputs", (*columns, "slowest s", "most memory MB"), rows)
    limits = {"hang_s": HANG_S, "memory_mb": MEMORY / 1e6}
    save(args.name, args, None, {**limits, "readers": told}, [shown])


def known(path: Path) -> dict[str, Any]:
    """Return the readers in a file of an earlier run, none where there is none."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))["results"]["readers"]
    return found


if __name__ == "__main__":
    main()
