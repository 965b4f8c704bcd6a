"""The robustness suite on 100 photos of Stanford dev: the bundled car, and networks beside it.

python benchmarks/robustness.py --data DIR [--networks RUN]

RUN is where benchmarks/baselines.py trained: RUN/<kind>/models/car. Severity 3 of the 19
corruptions, occluders, low resolution, turned photos; suite.html of each lies in --pages.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from baselines import KINDS, OURS
from output import Table, save, table

from featmesh import load
from featmesh.apps.suite import Subject, robustness
from featmesh.draws import generator
from featmesh.evaluate.baselines import opened
from featmesh.evaluate.suite import run_suite
from featmesh.evaluate.suite_config import SuiteConfig, quick
from featmesh.evaluate.suite_table import SuiteTable
from featmesh.inference.estimator import estimate
from featmesh.views.backdrop import read_backgrounds
from featmesh.views.record import View, read_views

PHOTOS, RESAMPLES, SEVERITY = 100, 10_000, 3
SHARES = {"acc_30": 30.0, "acc_10": 10.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", type=Path, help="where baselines.py trained")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--pages", type=Path, help="folder for the pages; default: none are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="photos: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    views = read_views(args.data / "stanford_cars/dev.json")
    models: dict[str, str] = {OURS: "car"}
    if args.networks:
        models |= {k: str(args.networks / k / "models" / "car") for k in args.kinds}
    with TemporaryDirectory() as folder:
        pages = args.pages or Path(folder)
        found = {name: measured(model, views, pages / name, args) for name, model in models.items()}
        quick_s = quick_seconds(views, pages / "quick", args)
    results: dict[str, Any] = {name: told for name, (told, _) in found.items()}
    tabled = {name: suite for name, (_, suite) in found.items()}
    results = {"models": results, "quick_s": quick_s, "against": against(tabled, args.seed)}
    save("robustness", args, load("car"), results, tables(results))


def measured(
    model: str, views: list[View], out: Path, args: argparse.Namespace
) -> tuple[dict[str, Any], SuiteTable]:
    """Return the figures of a model, the seconds of suite and page, and the single errors."""
    opened_model, run = opened(model, estimate)
    subject = Subject(opened_model, run)
    config = SuiteConfig(severity=(SEVERITY,), photos=args.limit or PHOTOS, seed=args.seed)
    begun = time.monotonic()
    figures = robustness(subject, views, out, config, args.data / "backgrounds")
    spent = time.monotonic() - begun
    pictures = read_backgrounds(args.data / "backgrounds", second_half=True)
    suite = run_suite(subject, views, out, config, pictures).table  # read from what is kept
    mean = figures["corruption"][str(SEVERITY)]
    rows = {row["name"]: row for row in figures["conditions"]}
    return {"seconds": spent, "mean": mean, "conditions": rows, "count": figures["count"]}, suite


def quick_seconds(views: list[View], out: Path, args: argparse.Namespace) -> float:
    """Return how long ``--quick`` takes."""
    begun = time.monotonic()
    subject = Subject(load("car"), estimate)
    robustness(subject, views, out, quick(SuiteConfig()), args.data / "backgrounds")
    return time.monotonic() - begun


def hits(suite: SuiteTable, limit: float, *kinds: str) -> np.ndarray:
    """Return the share of conditions of some kinds in which each photo's pose is right."""
    errors = np.degrees(np.nan_to_num(suite.errors[suite.of(*kinds)], nan=np.pi))
    return (errors < limit).mean(0)


def against(suites: dict[str, SuiteTable], seed: int) -> dict[str, Any]:
    """Return how much better ours is than each network, with paired 95 % bootstrap intervals."""
    told: dict[str, Any] = {}
    for name in suites.keys() - {OURS}:
        told[name] = {}
        for kind in ("clean", "corruption", "occlusion", "resolution", "rotation"):
            for share, limit in SHARES.items():
                better = hits(suites[OURS], limit, kind) - hits(suites[name], limit, kind)
                draw = generator(seed, "robustness").integers(
                    0, len(better), (RESAMPLES, len(better))
                )
                interval = np.quantile(better[draw].mean(1), (0.025, 0.975)).tolist()
                told[name][f"{kind} {share}"] = {
                    "difference": float(better.mean()),
                    "interval": interval,
                }
    return told


def tables(results: dict[str, Any]) -> list[Table]:
    """Return what is shown."""
    names: dict[str, str] = {OURS: OURS, **{str(k): v for k, v in KINDS.items()}}
    models = results["models"]
    mean = [
        [
            names[name],
            m["count"],
            m["conditions"]["clean"]["acc_30"],
            m["mean"]["acc_30"],
            m["mean"]["relative_acc_30"],
            "{:.3f} to {:.3f}".format(*m["mean"]["interval_relative_acc_30"]),
            m["conditions"]["clean"]["acc_10"],
            m["mean"]["acc_10"],
            m["seconds"] / 60,
        ]
        for name, m in models.items()
    ]
    head = ("what", "photos", "clean acc@30", "corrupted", "of clean", "95 %")
    head = (*head, "clean acc@10", "corrupted", "minutes")
    conditions = list(models[OURS]["conditions"])
    single = [
        [c, *(m["conditions"][c][k] for m in models.values() for k in SHARES)] for c in conditions
    ]
    columns = ("condition", *(f"{names[n]} {k.replace('_', '@')}" for n in models for k in SHARES))
    pairs = [
        [names[name], what, t["difference"], "{:+.3f} to {:+.3f}".format(*t["interval"])]
        for name, found in results["against"].items()
        for what, t in found.items()
    ]
    title = f"Mean of the corruptions at severity {SEVERITY}, Stanford dev, box = whole image"
    shown = [table(title, head, mean), table("By condition", columns, single)]
    if pairs:
        against = ("against", "kind and share", "ours is better by", "95 %, paired by photos")
        shown.append(table("Ours against conventional networks", against, pairs))
    return shown


if __name__ == "__main__":
    main()
