"""Time and memory of ``estimate``, of the pose stage, of the import and of the command line."""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from common import arguments, pixels_of
from output import save, table
from PIL import Image

from featmesh import Photo, estimate, load, read_photo
from featmesh.views.record import View, read_views

THREADS = 2
RUNS = 11
# A small process that starts the measured one: a child's peak is counted from its parent's memory
WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
ESTIMATE = """
import sys, featmesh
photo = featmesh.read_photo(sys.argv[2])
featmesh.estimate(featmesh.load(sys.argv[1]), photo)
"""


def times(action: Any, runs: int, warm_up: int = 2) -> list[float]:
    """Return the seconds of ``runs`` calls, sorted."""
    for _ in range(warm_up):
        action()
    spent = []
    for _ in range(runs):
        begin = time.perf_counter()
        action()
        spent.append(time.perf_counter() - begin)
    return sorted(spent)


def photos(args: Any) -> dict[str, tuple[Photo, View]]:
    """Return a small photo filled by the car, and a street scene whose K is known."""
    views = {
        "Stanford dev, 320 px": read_views(args.data / "stanford_cars/dev.json")[0],
        "KITTI, 1242x375": read_views(args.data / "kitti_sample/views.json")[0],
    }
    return {name: (read_photo(view.image), view) for name, view in views.items()}


def estimates(args: Any, model: Any, runs: int) -> dict[str, Any]:
    """Return the seconds of one estimate on loaded photos, with a box and without."""
    found: dict[str, Any] = {}
    for name, (photo, view) in photos(args).items():
        for way, box in (("with box", view.box_or_image), ("without", None)):
            spent = times(lambda: estimate(model, photo, box, view.camera), runs)  # noqa: B023
            found.setdefault(name, {})[way] = {"median": float(np.median(spent)), "best": spent[0]}
    ways = ("with box", "without")
    slowest = {way: max(found[name][way]["median"] for name in found) for way in ways}
    return {"photos": found, "slowest": slowest}


def pose_stage(args: Any, model: Any, runs: int) -> dict[str, Any]:
    """Return the seconds of scan and refinement alone, one thread."""
    torch.set_num_threads(1)
    photo, view = photos(args)["Stanford dev, 320 px"]
    box = view.box_or_image
    estimate(model, photo, box)
    seconds = [estimate(model, photo, box).seconds for _ in range(runs)]
    total = sorted(s["scan"] + s["refine"] for s in seconds)
    c = model.config
    return {
        "cells": [c.crop_height // c.stride, c.crop_width // c.stride],
        "vertices": len(model.template.vertices),
        "scan": float(np.median([s["scan"] for s in seconds])),
        "refine": float(np.median([s["refine"] for s in seconds])),
        "median": float(np.median(total)),
        "best": total[0],
    }


def start_up(runs: int) -> dict[str, float]:
    """Return the median seconds of the whole process that imports, and of the help text."""
    commands = {"import": ["-c", "import featmesh"], "help": ["-m", "featmesh", "--help"]}
    run = {
        name: lambda c=c: subprocess.run(
            [sys.executable, *c], check=True, stdout=subprocess.DEVNULL
        )
        for name, c in commands.items()
    }
    return {name: float(np.median(times(action, runs, 1))) for name, action in run.items()}


def peak_memory(args: Any) -> dict[str, float]:
    """Return the peak, GB, of a process that estimates a 12-Mpx photo: in Python, as a verb."""
    view = read_views(args.data / "stanford_cars/dev.json")[0]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        noise = np.random.default_rng(args.seed).integers(0, 256, (75, 100, 3), dtype=np.uint8)
        scene = Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC)
        car = Image.fromarray(pixels_of(view.image))
        scene.paste(car.resize((2000, round(2000 * car.height / car.width))), (900, 1000))
        scene.save(path, quality=92)
        verb = ["-m", "featmesh", "estimate", str(path), "--model", args.model, "--out", folder]
        commands = {"Python": ["-c", ESTIMATE, args.model, str(path)], "verb": verb}
        return {name: _peak([sys.executable, *command]) for name, command in commands.items()}


def _peak(command: list[str]) -> float:
    watched = [sys.executable, "-c", WATCH, *command]
    said = subprocess.run(watched, check=True, capture_output=True, text=True).stdout
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, else KiB
    return int(said) * unit / 1e9


def main() -> None:
    args = arguments(__doc__)
    runs = max(10, args.limit or RUNS)
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    model = load(args.model)
    results = {"memory": peak_memory(args), "start": start_up(runs)}
    results |= {"estimate": estimates(args, model, runs)}
    rows = [
        [f"estimate, {name}, {way}", found["median"], found["best"]]
        for name, ways in results["estimate"]["photos"].items()
        for way, found in ways.items()
    ]
    results["pose"] = stage = pose_stage(args, model, runs)
    cells = f"{stage['cells'][0]}x{stage['cells'][1]} cells, {stage['vertices']} vertices"
    rows += [[f"pose stage, {cells}, one thread", stage["median"], stage["best"]]]
    rows += [[what, results["start"][key], None] for key, what in
             (("import", "import featmesh"), ("help", "featmesh --help"))]  # fmt: skip
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    memory = [[name, gb] for name, gb in results["memory"].items()]
    shown = [table("Time", ("what", "median s", "best s"), rows)]
    shown += [table("Peak memory on a 12-Mpx photo, no box", ("estimate in", "GB"), memory)]
    save("speed", args, model, results, shown)


if __name__ == "__main__":
    main()
