"""How sure the model may be: confidence, its interval, and photos without a car."""

import argparse
from typing import Any

import numpy as np
from common import arguments, backgrounds, dev_views, negatives, pixels_of, spread
from output import save, table

from featmesh import estimate, load
from featmesh.evaluate.metrics import auroc, rotation_error
from featmesh.geometry.viewpoint import ray_rotation
from featmesh.inference.result import Estimate
from featmesh.learn.calibration import reliability_figures
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.progress import track
from featmesh.views.occlude import LEVELS, occlude
from featmesh.views.record import View

REFUSED = 0.02  # share of the cars that may be refused
Row = tuple[float, float, float, str]  # confidence, interval and error (radians), status


def row_of(found: Estimate, view: View | None) -> Row:
    """Return what an estimate says, and how wrong it is; nan where there is no car."""
    error = np.nan if view is None else np.pi
    if view is not None and found.cam_from_obj is not None:
        seen = (ray_rotation(found.cam_from_obj.t) @ found.cam_from_obj.R).numpy()
        error = float(rotation_error(seen, np.asarray(view.R, dtype=np.float64)))
    width = np.pi if found.rotation_interval is None else found.rotation_interval
    return found.confidence or 0.0, width, error, found.status


def of_cars(args: argparse.Namespace, model: CategoryModel) -> dict[str, list[Row]]:
    """Return the rows of Stanford dev, bare and behind occluders, with the box; L0 without too."""
    pictures = [pixels_of(path) for path in backgrounds(args)]
    views = dev_views(args)
    rows: dict[str, list[Row]] = {level: [] for level in ("L0", *LEVELS, "no box")}
    for view in track(views, len(views), "cars"):
        pixels, box = pixels_of(view.image), view.box_or_image
        rows["L0"].append(row_of(estimate(model, Photo(pixels), box), view))
        rows["no box"].append(row_of(estimate(model, Photo(pixels)), view))
        for level in LEVELS:
            shown = occlude(pixels, box, level, args.seed, view.index, pictures)[0]
            e = estimate(model, Photo(np.ascontiguousarray(shown)), box)
            rows[level].append(row_of(e, view))
    return rows


def without(args: argparse.Namespace, model: CategoryModel) -> dict[str, list[Row]]:
    """Return the rows of photos without a car, the whole image as the box, and no box."""
    rows: dict[str, list[Row]] = {"box": [], "no box": []}
    paths = spread(negatives(args), args.limit)
    for path in track(paths, len(paths), "negatives"):
        photo = Photo(pixels_of(path))
        rows["box"].append(row_of(estimate(model, photo, photo.whole), None))
        rows["no box"].append(row_of(estimate(model, photo), None))
    return rows


def refusal(cars: list[Row], others: list[Row]) -> dict[str, Any]:
    """Return how well cars and other photos are told apart by confidence."""
    sure = np.array([row[0] for row in cars + others])
    there = np.arange(len(sure)) < len(cars)
    limit = float(np.quantile(sure[there], REFUSED))
    status = np.array([row[3] for row in cars + others])
    return {
        "cars": len(cars),
        "negatives": len(others),
        "auroc": auroc(sure, there),
        "cars_not_ok": float((status[there] != "ok").mean()),
        "negatives_ok": float((status[~there] == "ok").mean()),
        "cars_no_object": float((status[there] == "no_object").mean()),
        "negatives_no_object": float((status[~there] == "no_object").mean()),
        "accepted_at_2_percent": float((sure[~there] >= limit).mean()),
    }


def bins(rows: list[Row]) -> list[list[Any]]:
    """Return how often each tenth of confidence is right."""
    sure, right = np.array([r[0] for r in rows]), np.array([r[2] for r in rows]) < np.pi / 6
    place = np.minimum((sure * 10).astype(int), 9)
    return [
        [f"{k / 10:.1f} to {(k + 1) / 10:.1f}", int((place == k).sum())]
        + [float(v[place == k].mean()) for v in (sure, right)]
        for k in range(10)
        if (place == k).any()
    ]


def figures(rows: list[Row]) -> dict[str, Any]:
    """Return the reliability figures of rows."""
    confidence, width, errors = (np.array([r[k] for r in rows]) for k in range(3))
    told = reliability_figures(confidence, width, errors)
    return {**told, "over_90": float((errors > np.pi / 2).mean())}


def main() -> None:
    args = arguments(__doc__)
    model = load(args.model)
    cars, others = of_cars(args, model), without(args, model)
    pooled = [row for level in ("L0", *LEVELS) for row in cars[level]]
    reliability = {"L0 to L3": figures(pooled)}
    reliability |= {level: figures(rows) for level, rows in cars.items()}
    apart = {
        "box = whole image": refusal(cars["L0"], others["box"]),
        "no box": refusal(cars["no box"], others["no box"]),
    }
    shown = ("count", "right", "ece", "auroc_right", "coverage", "rank_correlation")
    tables = [
        table(
            "Confidence and 90 % interval of the pose, Stanford dev",
            ("photos", "count", "right", "ECE", "AUROC right / wrong", "coverage", "rank corr."),
            [[name, *(each[key] for key in shown)] for name, each in reliability.items()],
        ),
        table(
            "Confidence against truth, L0 to L3",
            ("confidence", "photos", "mean", "right"),
            bins(pooled),
        ),
        table(
            "Cars against photos without a car",
            ("given", *next(iter(apart.values()))),
            [[name, *each.values()] for name, each in apart.items()],
        ),
    ]
    save("confidence", args, model, {"reliability": reliability, "refusal": apart}, tables)


if __name__ == "__main__":
    main()
