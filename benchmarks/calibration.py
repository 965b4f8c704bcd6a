"""Fit the bundled car's confidence: held-out cars bare and occluded, and photos without a car.

python benchmarks/calibration.py --data DIR [--model models/car] [--write]

Looked at are photos of the 20 car models that were kept out of the training, with their box and
without, and the first half of the pictures without a car. With --write the numbers go into the
model's folder; what the fit is worth is cross-fitted over the car models.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from common import backgrounds, first_half, negatives, pixels_of, spread
from output import save, table
from train_car import WRONG_LABELS

from featmesh import load
from featmesh.learn.calibration import Outcome, cross_fitted, fit_calibration, outcome
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import held_out_names
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import find_model, update_model
from featmesh.progress import track
from featmesh.views.occlude import LEVELS, occlude
from featmesh.views.record import View, read_views

PHOTOS, OCCLUDERS = 320, 100
Job = tuple[str, bool, View | Path]  # level, whether the box is given, what is looked at


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Yield all that is looked at."""
    views = read_views(args.data / "stanford_cars/train.json")
    views = [v for v in views if v.image_name not in WRONG_LABELS]
    kept_out = held_out_names(views, TrainConfig(views=(), out=""))
    cars = spread([v for v in views if v.model_name in kept_out], args.limit or PHOTOS)
    for level in ("L0", *LEVELS):
        yield from ((level, True, view) for view in cars)
    yield from (("L0", False, view) for view in cars)
    without = [*negatives(args, first_half), *backgrounds(args, first_half)]
    for boxed in (True, False):
        yield from (("L0", boxed, path) for path in spread(without, args.limit))


@cache
def loaded(name: str) -> CategoryModel:
    """Return the model, once a process."""
    return load(name)


@cache
def occluders(data: Path) -> list[np.ndarray]:
    """Return the pictures that occluders are cut from."""
    paths = backgrounds(argparse.Namespace(data=data), first_half)
    return [pixels_of(path) for path in paths[:OCCLUDERS]]


def done(task: tuple[argparse.Namespace, Job]) -> Outcome:
    """Return what comes of one job."""
    args, (level, boxed, thing) = task
    model = loaded(args.model)
    if isinstance(thing, Path):
        pixels = pixels_of(thing)
        whole = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
        return outcome(model, pixels, whole if boxed else None)
    pixels, box = pixels_of(thing.image), thing.box_or_image
    if level != "L0":
        pixels = occlude(pixels, box, level, args.seed, thing.index, occluders(args.data))[0]
    truth = np.asarray(thing.R, dtype=np.float64)
    looked = box if boxed else None
    return outcome(model, pixels, looked, truth, thing.model_name or "", thing.distance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="car")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="photos of each part: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the numbers into the model")
    args = parser.parse_args()
    tasks = [(args, job) for job in jobs(args)]
    with ProcessPoolExecutor(args.processes) as pool:
        found = list(track(pool.map(done, tasks, chunksize=8), len(tasks), "calibrate"))
    fitted, figures = fit_calibration(found), cross_fitted(found)
    if fitted is None:
        raise SystemExit("calibration: too few outcomes of a kind; try: without --limit")
    if args.write:
        update_model(find_model(args.model), {"calibration": asdict(fitted)})
    rows: list[list[Any]] = [[key, value] for key, value in figures.items()]
    title = "Confidence on held-out training cars, cross-fitted over their models"
    results = {"figures": figures, "calibration": asdict(fitted)}
    save("calibration", args, load(args.model), results, [table(title, ("figure", "value"), rows)])


if __name__ == "__main__":
    main()
