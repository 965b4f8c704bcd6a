"""What each part of the estimate brings: one thing changed at a time, Stanford dev, L0 and L2.

python benchmarks/ablations.py --data DIR

Paired with the estimate as it is; 95 % bootstrap intervals over the photos. Networks, textures and
shape spaces are compared by networks.py, texture.py and shape_space.py.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import arguments, behind_occluders, degrees, dev_views, figures
from output import Table, save, table

from featmesh import load
from featmesh.draws import generator
from featmesh.evaluate.predict import predict
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig, nemo_config
from featmesh.inference.estimator import Task, estimate
from featmesh.views.record import View

RESAMPLES = 10_000
SHARES = {"acc_30": 30.0, "acc_10": 10.0}
AS_IT_IS = "as it is (proportions free)"
# what is changed: configuration and task
VARIANTS: dict[str, tuple[EstimateConfig, Task]] = {
    AS_IT_IS: (EstimateConfig(), "pose"),
    "rigid mean mesh": (EstimateConfig(refine=RefineConfig(proportions=False)), "pose"),
    "deformable: shape fitted with the pose": (EstimateConfig(), "shape"),
    "energy: truncated": (EstimateConfig(refine=RefineConfig(form="truncated")), "pose"),
    "energy: L2": (EstimateConfig(refine=RefineConfig(form="l2")), "pose"),
    "starts: 8 random poses": (EstimateConfig(scan=ScanConfig(start="random")), "pose"),
    "starts: the best of the scan alone": (EstimateConfig(scan=ScanConfig(starts=1)), "pose"),
    "no refinement": (EstimateConfig(refine=RefineConfig(steps=0, polish=0)), "pose"),
    "optimiser: plain descent": (EstimateConfig(refine=RefineConfig(optimiser="descent")), "pose"),
    "the box ranks no poses": (EstimateConfig(refine=RefineConfig(box_worth=0.0)), "pose"),
    "NeMo's search: rigid, 144 poses, Adam 300": (
        replace(nemo_config(), refine=replace(nemo_config().refine, proportions=False)),
        "pose",
    ),
}


def main() -> None:
    args = arguments(__doc__.splitlines()[0])
    model = replace(load(args.model), threshold=None, calibration=None)  # poses, not refusals
    results: dict[str, Any] = {}
    for level in ("L0", "L2"):
        with TemporaryDirectory() as folder:
            views: Sequence[View] = dev_views(args)
            if level != "L0":
                views = behind_occluders(args, list(views), level, folder)
            results[level] = measured(model, views, args)
    save("ablations", args, load(args.model), results, tables(results))


def measured(model: Any, views: Sequence[View], args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of each variant, and how they differ from the estimate as it is."""
    errors, told = {}, {}
    for name, (config, task) in VARIANTS.items():
        with TemporaryDirectory() as folder:
            run = partial(estimate, config=config, task=task)
            rows = predict(model, views, folder, run)
        errors[name], told[name] = degrees(views, rows), figures(views, rows)
    draw = generator(args.seed, "bootstrap").integers(0, len(views), (RESAMPLES, len(views)))
    for name, found in errors.items():
        for share, limit in SHARES.items():
            more = (found < limit).astype(float) - (errors[AS_IT_IS] < limit)
            interval = np.quantile(more[draw].mean(1), (0.025, 0.975)).tolist()
            told[name][f"more_{share}"] = {"difference": float(more.mean()), "interval": interval}
    return told


def tables(results: dict[str, Any]) -> list[Table]:
    """Return what is shown, a table a level."""
    head = ["what", "acc@30", "acc@10", "median °", "> 90°", "s"]
    head += ["acc@30 against as it is", "95 %", "acc@10 against as it is", "95 %"]
    shown = []
    for level, told in results.items():
        rows = []
        for name, t in told.items():
            pairs = [t[f"more_{share}"] for share in SHARES]
            paired = [x for p in pairs for x in (f"{p['difference']:+.3f}", span(p["interval"]))]
            single = [t[k] for k in ("acc_30", "acc_10", "median_deg", "over_90", "seconds")]
            rows.append([name, *single, *paired])
        title = f"Stanford dev at {level}, box = whole image, no camera, nothing refused"
        shown.append(table(title, head, rows))
    return shown


def span(interval: Sequence[float]) -> str:
    """Return an interval as shown."""
    return "{:+.3f} to {:+.3f}".format(*interval)


if __name__ == "__main__":
    main()
