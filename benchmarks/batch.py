"""Batches: is anything lost when photos are broken and processes are killed, and how fast is it?

``kills``: a list with broken photos, run once in peace; then again while its processes are killed
at random moments, and the whole run too, which then goes on. ``speed``: processes against threads.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from output import save, table
from PIL import Image

from featmesh.apps import batch_crew
from featmesh.apps.batch import CARD, ENGINE
from featmesh.apps.batch_config import BatchConfig
from featmesh.apps.batch_crew import Crew
from featmesh.apps.batch_engine import PhotoEngine
from featmesh.apps.batch_manifest import read_manifest
from featmesh.config import config_to_dict
from featmesh.draws import generator
from featmesh.views.record import View, read_views

PHOTOS, BROKEN = 300, 0.1  # of the list with broken photos; the share of these
WORKER_KILLS, RUN_KILLS = 10, 5
PART_ROWS = 20
ROUNDS, WARM = 3, 10  # of the speeds; photos before the first
EACH = 30  # photos a round
POLL_S = 0.02
ORPHANS_S = 900.0  # until every process of a killed run must have ended: on a busy machine too


def cut_short(data: bytes, at: float) -> bytes:
    """Return the first part of a file: between a quarter and three quarters of it."""
    return data[: int(len(data) * (0.25 + 0.5 * at))]


def zeroed(data: bytes, at: float) -> bytes:
    """Return a file whose middle is zero bytes: a tenth of it."""
    width, begin = len(data) // 10, int(len(data) * (0.3 + 0.3 * at))
    return data[:begin] + bytes(width) + data[begin + width :]


def zeroed_png(data: bytes, at: float) -> bytes:
    """Return the photo as PNG whose middle is zero bytes."""
    whole = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(whole, "PNG")
    return zeroed(whole.getvalue(), at)


def bomb(data: bytes, at: float) -> bytes:
    """Return a PNG whose header claims 60,000 x 60,000 pixels."""
    whole = io.BytesIO()
    Image.new("L", (8, 8)).save(whole, "PNG")
    png = bytearray(whole.getvalue())
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, "big")
    return bytes(png)


# kind: what becomes of a photo's bytes (None: the file is missing), and the code it must get
FAULTS: Mapping[str, tuple[Callable[[bytes, float], bytes] | None, str]] = {
    "cut short": (cut_short, "E_IMG_TRUNCATED"),
    "empty": (lambda data, at: b"", "E_IMG_FORMAT"),
    "HTML named .jpg": (lambda data, at: b"<!DOCTYPE html><html>404</html>", "E_IMG_FORMAT"),
    "zero bytes inside, PNG": (zeroed_png, "E_IMG_TRUNCATED"),
    "header of a bomb": (bomb, "E_IMG_TOO_LARGE"),
    "missing": (None, "E_IO"),
}
ZEROED = "zero bytes inside, JPEG"  # JPEG has no checksum: what decodes is a photo


@dataclass(frozen=True)
class Listed:
    """A manifest, and what stands in some of its rows.

    Attributes:
        path: the manifest; a row is a photo's name and box.
        broken: row: kind, for the photos that cannot be used.
        zeroed: rows of JPEG photos with zero bytes inside.
    """

    path: Path
    broken: dict[int, str]
    zeroed: list[int]


def photos_of(args: argparse.Namespace, count: int) -> list[View]:
    """Return photos of Stanford dev, evenly; the list again where there are too few."""
    views = read_views(args.data / "stanford_cars/dev.json")
    return [
        views[k % len(views)] for k in np.linspace(0, max(len(views), count) - 1, count, dtype=int)
    ]


def listed(folder: Path, views: Sequence[View], seed: int) -> Listed:
    """Write photos, a tenth of them broken, and the manifest that lists them."""
    rng = generator(seed, "broken")
    bad = max(len(FAULTS), round(BROKEN * len(views)))
    chosen = [int(k) for k in rng.permutation(len(views))[: bad + bad // len(FAULTS)]]
    kinds = [list(FAULTS)[k % len(FAULTS)] for k in range(bad)]
    broken = dict(zip(chosen, kinds, strict=False))
    zeros = sorted(chosen[bad:])
    lines = []
    for row, view in enumerate(views):
        name = f"{row:04d}.jpg"
        data: bytes | None = view.image.read_bytes()
        if row in broken:
            fault = FAULTS[broken[row]][0]
            data = fault(data, float(rng.random())) if fault and data else None
        elif row in zeros and data:
            data = zeroed(data, float(rng.random()))
        if data is not None:
            (folder / name).write_bytes(data)
        box = list(view.box_or_image)
        lines.append(json.dumps({"image": name, "box": box}) + "\n")
    (folder / "photos.jsonl").write_text("".join(lines))
    return Listed(folder / "photos.jsonl", broken, zeros)


def begun(args: argparse.Namespace, manifest: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Start ``featmesh batch`` with two processes."""
    words = ["batch", str(manifest), "--out", str(out), "--model", args.model, "--workers", "2"]
    words += ["--part-rows", str(PART_ROWS)]
    seen = os.pathsep.join(os.path.abspath(p) for p in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", "featmesh", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": seen},
    )


def done_rows(out: Path) -> int:
    """Return how many rows a batch has on disk."""
    count = 0
    for path in [*out.glob("parts/*.jsonl"), out / "unfinished.jsonl"]:
        try:
            count += path.read_bytes().count(b"\n")
        except OSError:  # replaced just now
            continue
    return count


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has started; none where it has ended."""
    try:
        return [int(k) for k in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Return whether a process runs: one that has ended and waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def harassed(args: argparse.Namespace, manifest: Path, out: Path, rows: int) -> dict[str, Any]:
    """Run a batch to its end while it, and its processes, are killed at random moments."""
    rng = generator(args.seed, "kills")
    acts = ["worker"] * WORKER_KILLS + ["run"] * RUN_KILLS
    acts = [acts[k] for k in rng.permutation(len(acts))]
    moments = sorted(int(k) for k in rng.integers(0, int(0.9 * rows), len(acts)))
    killed, orphans, process = Counter[str](), 0, begun(args, manifest, out)
    for act, moment in zip(acts, moments, strict=True):
        while done_rows(out) < moment or not workers_of(process.pid):
            time.sleep(POLL_S)
            if process.poll() is not None:
                raise SystemExit(f"the run ended by itself, {process.returncode}: {dict(killed)}")
        time.sleep(float(rng.uniform(0, 0.3)))
        hands = workers_of(process.pid)
        if act == "worker" and hands:
            os.kill(hands[int(rng.integers(len(hands)))], signal.SIGKILL)
            killed[act] += 1
        elif act == "run":
            process.kill()
            process.wait()
            killed[act] += 1
            orphans += left(hands)
            process = begun(args, manifest, out)
    code = process.wait()
    return {"killed": dict(killed), "orphans": orphans, "exit": code}


def left(pids: Sequence[int]) -> int:
    """Wait for processes whose run was killed; return how many went on all the same."""
    end = time.monotonic() + ORPHANS_S
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(POLL_S)
    return sum(map(alive, pids))


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def files_of(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a batch."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def kills(args: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """Return what a harassed run has lost, and a table of it."""
    with TemporaryDirectory() as place:
        folder, calm, hurt = Path(place, "in"), Path(place, "calm"), Path(place, "hurt")
        folder.mkdir()
        views = photos_of(args, args.limit or PHOTOS)
        what = listed(folder, views, args.seed)
        start = time.monotonic()
        if begun(args, what.path, calm).wait():
            raise SystemExit("the undisturbed run failed")
        peace = time.monotonic() - start
        start = time.monotonic()
        went = harassed(args, what.path, hurt, len(views))
        rows = [row for path in sorted(hurt.glob("parts/*.jsonl")) for row in lines_of(path)]
        numbers = Counter(row["row"] for row in rows)
        codes = {row["row"]: row["code"] for row in lines_of(hurt / "quarantine.jsonl")}
        asked = {row: FAULTS[kind][1] for row, kind in what.broken.items()}
        zeros = Counter(codes.get(row, "read as a photo") for row in what.zeroed)
        results = {
            "photos": len(views),
            "broken": dict(Counter(what.broken.values())),
            "codes": dict(sorted(Counter(codes.values()).items())),
            **went,
            "lost": len(set(range(len(views))) - set(numbers)),
            "doubled": sum(count - 1 for count in numbers.values()),
            "broken_with_their_code": sum(codes.get(r) == c for r, c in asked.items()),
            "others_in_quarantine": len(set(codes) - set(asked) - set(what.zeroed)),
            "zeroed_jpeg": dict(zeros),
            "equal": float(files_of(hurt) == files_of(calm)),
            "card": json.loads((hurt / CARD).read_text())["models"],
            "seconds": {"calm": peace, "harassed": time.monotonic() - start},
        }
    shown = [
        ["photos", len(views)],
        ["of them broken", len(asked)],
        ["processes killed", went["killed"].get("worker", 0)],
        ["whole run killed and taken up again", went["killed"].get("run", 0)],
        ["processes that outlived their run", went["orphans"]],
        ["rows lost", results["lost"]],
        ["rows doubled", results["doubled"]],
        ["broken photos in quarantine with their code", results["broken_with_their_code"]],
        ["sound photos in quarantine", results["others_in_quarantine"]],
        [f"{ZEROED}: read as photos", zeros.get("read as a photo", 0)],
        ["every byte as in the undisturbed run", "yes" if results["equal"] else "NO"],
    ]
    return results, [table("A batch whose processes are killed", ["what", "count"], shown)]


def two_threads(settings: dict[str, Any]) -> PhotoEngine:
    """Return the engine of a batch with two threads of torch, for the comparison."""
    engine = PhotoEngine(settings)
    torch.set_num_threads(2)
    return engine


TEAMS = {  # processes, who makes their engine, threads
    "one process, one thread": (1, ENGINE, 1),
    "one process, two threads": (1, "batch:two_threads", 2),
    "two processes, one thread": (2, ENGINE, 1),
}


def team(settings: Mapping[str, Any], count: int, made_by: str, threads: int) -> Crew:
    """Return a crew all of whose processes have done a few photos' worth of starting."""
    names, kept = batch_crew.THREADS, dict(os.environ)
    try:
        if threads > 1:  # the crew itself would set one
            os.environ.update(dict.fromkeys(names, str(threads)))
            batch_crew.THREADS = ()
        crew = Crew(made_by, settings, count, 600.0)
        crew.card()
    finally:
        batch_crew.THREADS = names
        os.environ.clear()
        os.environ.update(kept)
    return crew


def speed(args: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """Return photos a second of each team, boxes given, and a table of it."""
    settings = config_to_dict(BatchConfig(model=args.model))
    each = args.limit or EACH
    rates: dict[str, list[float]] = {name: [] for name in TEAMS}
    with TemporaryDirectory() as place:
        views = photos_of(args, WARM + ROUNDS * each)
        lines = [{"image": str(v.image.absolute()), "box": list(v.box_or_image)} for v in views]
        manifest = Path(place, "photos.jsonl")
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
        jobs = [(item.row, item.record) for item in read_manifest(manifest).items]
        crews = {name: team(settings, *how) for name, how in TEAMS.items()}
        try:
            for crew in crews.values():
                answered(crew, jobs[:WARM])
            for k in range(ROUNDS):
                some = jobs[WARM + k * each : WARM + (k + 1) * each]
                for name, crew in crews.items():  # in turn: what else the machine does hits all
                    start = time.monotonic()
                    answered(crew, some)
                    rates[name].append(len(some) / (time.monotonic() - start))
        finally:
            for crew in crews.values():
                crew.__exit__()
    single, threaded, double = (np.array(rates[name]) for name in TEAMS)
    results = {
        "photos": ROUNDS * each,
        "rounds": rates,
        "per_second": {name: float(np.median(values)) for name, values in rates.items()},
        "over_one_thread": float(np.median(double / single)),
        "over_two_threads": float(np.median(double / threaded)),
    }
    shown = [[name, rate] for name, rate in results["per_second"].items()]
    shown.append(["two processes over one thread, times", results["over_one_thread"]])
    shown.append(["two processes over one of two threads, times", results["over_two_threads"]])
    title = f"Photos a second of a batch, boxes given, median of {ROUNDS} rounds of {each}"
    return results, [table(title, ["who", "photos/s"], shown)]


def answered(crew: Crew, jobs: Sequence[Any]) -> None:
    """Do jobs; a refusal would make the clock lie."""
    for row, result in crew.work(jobs, lambda text: None):
        if result["status"] == "bad_input":
            raise SystemExit(f"row {row}: {result['message']}")


PARTS = {"kills": kills, "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the photos")
    parser.add_argument("--model", default="car", help="name of a bundled model, or its folder")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="photos of each part, or round: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args()
    path = args.out / "batch.json"
    before = json.loads(path.read_text()) if path.exists() else {"results": {}, "tables": []}
    results = dict(before["results"])
    for name in args.parts:
        found, tables = PARTS[name](args)
        results[name] = found | {"tables": tables, "load": os.getloadavg()[0]}
    results = {name: results[name] for name in PARTS if name in results}
    tables = [shown for part in results.values() for shown in part["tables"]]
    save("batch", args, None, results, tables)


if __name__ == "__main__":
    main()
