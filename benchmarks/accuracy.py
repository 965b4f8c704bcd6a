"""Accuracy with a box: Stanford dev, dev behind occluders, street scenes, distance with K."""

import argparse
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from common import (
    answered,
    arguments,
    behind_occluders,
    degrees,
    dev_views,
    figures,
    predictions,
    spread,
)
from output import Table, save, table

from featmesh import load
from featmesh.evaluate.metrics import rotation_error
from featmesh.geometry.viewpoint import ray_rotation, rotation_from_angles
from featmesh.inference.config import EstimateConfig
from featmesh.views.occlude import LEVELS
from featmesh.views.record import View, read_views

LENGTH = 4.3  # metres: a typical car, taken as known
STREETS = ("kitti_sample", "nuscenes_sample")


def occluded(args: argparse.Namespace, model: Any, views: list[View]) -> dict[str, Any]:
    """Return the figures behind occluders, by level; the photo is the object's box."""
    results = {}
    for level in LEVELS:
        with TemporaryDirectory() as folder:
            hidden = behind_occluders(args, views, level, folder)
            results[level] = figures(hidden, predictions(model, hidden)[0])
    return results


def street_views(args: argparse.Namespace) -> list[tuple[str, View]]:
    """Return the cars of both street samples with their sample's name, numbered through."""
    found = [(name, v) for name in STREETS for v in read_views(args.data / name / "views.json")]
    return spread(
        [(name, replace(v, extras={"even": v.index % 2 == 0}, index=k))
         for k, (name, v) in enumerate(found)],
        args.limit,
    )  # fmt: skip


def constant_errors(views: list[View], azimuth: float, elevation: float) -> np.ndarray:
    """Return the errors, degrees, of one viewpoint said of every car, along its box's ray."""
    turned = torch.tensor([azimuth, elevation, 0.0], dtype=torch.float64).deg2rad()
    errors = []
    for view in views:
        x0, y0, x1, y1 = view.box_or_image
        centre = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2], dtype=torch.float64)
        Q = ray_rotation(view.camera.unproject(centre))
        R = Q.T @ rotation_from_angles(*turned.unbind(0))
        errors.append(float(np.degrees(rotation_error(R.numpy(), view.R))))
    return np.array(errors)


def streets(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Return counts on street cars, K and box given, beside a constant guess."""
    views = [view for _, view in street_views(args)]
    rows, _ = predictions(model, views)
    even = np.array([view.extras["even"] for view in views])
    elevation = float(np.median([view.elevation for view in views if view.extras["even"]]))
    guesses = {a: constant_errors(views, a, elevation) for a in (0.0, 180.0)}
    chosen = max(guesses, key=lambda a: (guesses[a][even] < 30).sum())
    errors = {"featmesh": degrees(views, rows), "constant": guesses[chosen]}
    errors |= {"always front": guesses[0.0], "always back": guesses[180.0]}
    results: dict[str, Any] = {"guess": {"azimuth": chosen, "elevation": elevation}}
    for part, mask in (("all", np.ones(len(views), bool)), ("odd", ~even)):
        results[part] = {
            who: {
                "count": int(mask.sum()),
                "under_30": int((e[mask] < 30).sum()),
                "under_10": int((e[mask] < 10).sum()),
                "over_90": int((e[mask] > 90).sum()),
                "median_deg": float(np.median(e[mask])) if mask.any() else None,
            }
            for who, e in errors.items()
        }
    return results


def depth(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Return the relative error of the distance, with K and one length for all cars."""
    views = [view for name, view in street_views(args) if name == "kitti_sample"]
    rows, _ = predictions(model, views, config=EstimateConfig(length=LENGTH))
    true = np.array([np.linalg.norm(view.t) for view in views])
    found = np.array([np.linalg.norm(row["t"]) if answered(row) else np.inf for row in rows])
    error = np.abs(found - true) / true
    odd = np.array([not view.extras["even"] for view in views])
    return {
        "count": len(views),
        "length": LENGTH,
        "median": float(np.median(error)),
        "median_odd": float(np.median(error[odd])) if odd.any() else None,
        "p90": float(np.quantile(error, 0.9)),
        "range_m": [float(true.min()), float(true.max())],
    }


def tables(results: dict[str, Any]) -> list[Table]:
    """Return what is shown."""
    keys = ("count", "failed", "acc_30", "acc_10", "acc_5", "median_deg", "over_90", "box_iou_mean")
    levels = {"L0 (as it is)": results["dev"], **results["occluded"]}
    head = ("level", "photos", "no pose", "acc@30", "acc@10", "acc@5", "median °", "> 90°", "IoU")
    rows = [[level, *(found[key] for key in keys)] for level, found in levels.items()]
    street_rows = [
        [part, who, *found.values()]
        for part in ("all", "odd")
        for who, found in results["street"][part].items()
    ]
    head_2 = ("cars", "who", "count", "< 30°", "< 10°", "> 90°", "median °")
    d = results["depth"]
    return [
        table("Stanford dev, box = whole image, no camera; occluders by level", head, rows),
        table("Street scenes (KITTI, nuScenes), K and box given", head_2, street_rows),
        table(
            f"Distance on KITTI, K given, every car taken as {LENGTH} m long: relative error",
            ("cars", "median", "median, odd", "90 %"),
            [[d["count"], d["median"], d["median_odd"], d["p90"]]],
        ),
    ]


def main() -> None:
    args = arguments(__doc__)
    model = load(args.model)
    views = dev_views(args)
    rows, stages = predictions(model, views)
    results = {"dev": figures(views, rows) | {"stages": stages}}
    results |= {"occluded": occluded(args, model, views), "street": streets(args, model)}
    results["depth"] = depth(args, model)
    save("accuracy", args, model, results, tables(results))


if __name__ == "__main__":
    main()
