"""Conventional networks and NeMo's cuboid beside the bundled car: Stanford dev, bare and occluded.

python benchmarks/baselines.py --data DIR --run RUN --trunk lite0.safetensors [--car runs/car]

Trained as the bundled car is (train_car.py): the same photos, trunk (ImageNet's, written by
import_trunk.py), crops, occluders, optimiser, rates and number of crops; with --car, the folder
train_car.py wrote to, on its rendered views too. The cuboid (which needs --car, for its CADs)
learns by NeMo's loss and is found by its search (rigid, 144 poses, 300 steps), else alike.
RUN/<kind> holds each training, RUN/rows what each said; the same command goes on.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import behind_occluders, degrees, dev_views, figures
from output import Table, save, table
from train_car import CARS_IN_BACKGROUNDS, WRONG_LABELS, finish

from featmesh import load
from featmesh.draws import generator
from featmesh.evaluate.baselines import estimate_direct
from featmesh.evaluate.predict import predict
from featmesh.inference.config import nemo_config
from featmesh.inference.estimator import estimate
from featmesh.learn.config import AugmentConfig, TrainConfig
from featmesh.learn.direct import train_direct
from featmesh.learn.presets import PRESETS
from featmesh.learn.session import train
from featmesh.model.direct import load_direct
from featmesh.model.direct_config import DirectConfig, DirectKind
from featmesh.views.occlude import LEVELS
from featmesh.views.record import View, read_views

KINDS: dict[DirectKind, str] = {
    "bins": "classes of the angles",
    "6d": "6D rotation",
    "nearest": "nearest training crop",
}
CUBOID = "cuboid"
OURS = "featmesh"
NAMES: dict[str, str] = {
    OURS: OURS,
    **{str(k): v for k, v in KINDS.items()},
    CUBOID: "NeMo: rigid cuboid, 144 + 300",
}
# what makes NeMo's texture (spec 2.3-2.9); its rates belong to another trunk
NEMO_LOSS = ("temperature", "clutter_weight", "background_loss", "near", "momentum")
SHARES = {"acc_30": 30.0, "acc_10": 10.0}
RESAMPLES = 10_000
VARIED = 6400  # varied crops that are looked up among, beside each view as it is


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "run", "trunk"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--car", type=Path, help="where train_car.py wrote: its rendered views")
    parser.add_argument("--model", default="car", help="measured beside them")
    parser.add_argument("--epochs", type=int, default=8, help="of 6400 crops")
    kinds = [*KINDS, CUBOID]
    parser.add_argument("--kinds", nargs="*", choices=kinds, help="the cuboid only with --car")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="photos to learn from and to measure: a try")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.kinds = args.kinds or [*KINDS, *([CUBOID] if args.car else [])]
    if CUBOID in args.kinds and not args.car:
        parser.error("the cuboid needs --car, for its CADs")
    subjects: dict[str, tuple[Any, Callable[..., Any]]] = {OURS: (load(args.model), estimate)}
    for kind in args.kinds:
        subjects[kind] = cuboid(args) if kind == CUBOID else network(kind, args)
    errors, told = measured(subjects, args)
    groups = np.array([view.model_name for view in dev_views(args)])
    results = {"levels": told, "differences": differences(errors, groups, args.seed)}
    results["training"] = {k: subjects[k][0].extra.get("training") for k in args.kinds}
    save("baselines", args, subjects[OURS][0], results, tables(results))


def network(kind: DirectKind, args: argparse.Namespace) -> tuple[Any, Callable[..., Any]]:
    """Return a conventional network, trained, and what asks it."""
    finish(train_direct(config_of(kind, args), DirectConfig(kind=kind)))
    return load_direct(args.run / kind / "models" / "car"), estimate_direct


def cuboid(args: argparse.Namespace) -> tuple[Any, Callable[..., Any]]:
    """Return NeMo's model, trained, and its search; it refuses nothing."""
    nemo, same = PRESETS["nemo"], config_of("bins", args)
    config = replace(
        same,
        out=str(args.run / CUBOID),
        template="cuboid",
        cad=str(args.car / "cad"),
        model=replace(same.model, clutter_centres=nemo.model.clutter_centres),
        **{name: getattr(nemo, name) for name in NEMO_LOSS},
    )
    finish(train(config))
    model = replace(load(args.run / CUBOID / "models" / "car"), threshold=None, calibration=None)
    return model, partial(estimate, config=nemo_config())


def config_of(kind: DirectKind, args: argparse.Namespace) -> TrainConfig:
    """Return the configuration of train_car.py's training, for a network."""
    photos = args.data / "stanford_cars" / "train.json"
    rendered = [args.car / part / "views.json" for part in ("views", "painted")] if args.car else []
    views = [photos, photos, *rendered] if rendered else [photos]
    config = TrainConfig(
        views=tuple(map(str, views)),
        out=str(args.run / kind),
        exclude=WRONG_LABELS,
        trunk=str(args.trunk),
        backgrounds=str(args.data / "backgrounds"),
        background_exclude=tuple(f"image_{k:04d}.jpg" for k in CARS_IN_BACKGROUNDS),
        background_share=0.5,
        epochs=args.epochs,
        samples_per_epoch=6400,
        augment=AugmentConfig(occlude=0.35),
    )
    if kind == "nearest":
        config = replace(config, views=tuple(dict.fromkeys(config.views)), epochs=1)
        config = replace(config, samples_per_epoch=VARIED)
    if args.limit is None:
        return config
    names = [view.image_name or "" for view in read_views(photos)]
    left_out = {*WRONG_LABELS, *names[args.limit :]}
    few = replace(config, epochs=1, samples_per_epoch=args.limit, batch=min(16, args.limit))
    return replace(few, exclude=tuple(sorted(left_out)), save_every=2)


def measured(
    subjects: dict[str, tuple[Any, Callable[..., Any]]], args: argparse.Namespace
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Return the errors, degrees, and the figures of each level and subject."""
    errors: dict[str, dict[str, np.ndarray]] = {}
    told: dict[str, Any] = {}
    for level in ("L0", *LEVELS):
        with TemporaryDirectory() as folder:
            views: Sequence[View] = dev_views(args)
            if level != "L0":
                views = behind_occluders(args, list(views), level, folder)
            errors[level], told[level] = {}, {}
            for name, (model, estimator) in subjects.items():
                # a model's rows are its own: another one's are another folder
                rows = args.run / "rows" / f"{name}-{model.hash[:12]}-{level}-{len(views)}"
                found = predict(model, views, rows, estimator, settings={"level": level})
                errors[level][name] = degrees(views, found)
                told[level][name] = figures(views, found)
    return errors, told


def differences(
    errors: dict[str, dict[str, np.ndarray]], groups: np.ndarray, seed: int
) -> dict[str, Any]:
    """Return how much better ours is than each network, with paired 95 % bootstrap intervals.

    Photos are drawn anew, and, as those of one car model are alike, whole car models.

    Args:
        errors: by level and subject, degrees.
        groups: the car model of each photo.
        seed: of the draws.
    """
    draw = generator(seed, "bootstrap")
    photos = draw.integers(0, len(groups), (RESAMPLES, len(groups)))
    names, number = np.unique(groups, return_inverse=True)
    drawn = draw.integers(0, len(names), (RESAMPLES, len(names)))
    weights = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])[:, number]
    results: dict[str, Any] = {}
    for level, found in errors.items():
        results[level] = {}
        for name in found.keys() - {OURS}:
            results[level][name] = {}
            for share, limit in SHARES.items():
                better = (found[OURS] < limit).astype(float) - (found[name] < limit)
                by_model = weights @ better / weights.sum(1)
                results[level][name][share] = {
                    "difference": float(better.mean()),
                    "photos": np.quantile(better[photos].mean(1), (0.025, 0.975)).tolist(),
                    "car_models": np.quantile(by_model, (0.025, 0.975)).tolist(),
                }
    return results


def tables(results: dict[str, Any]) -> list[Table]:
    """Return what is shown."""
    rows = [
        [level, NAMES[name], *(told[k] for k in ("count", *SHARES, "median_deg", "over_90"))]
        for level, subjects in results["levels"].items()
        for name, told in subjects.items()
    ]
    head = ("level", "what", "photos", "acc@30", "acc@10", "median °", "> 90°")
    more = [
        [level, NAMES[name], share.replace("_", "@"), told["difference"], *_intervals(told)]
        for level, subjects in results["differences"].items()
        for name in NAMES
        if name in subjects
        for share, told in subjects[name].items()
    ]
    head_2 = ("level", "against", "share", "ours is better by", "95 % by photos", "by car models")
    return [
        table("Stanford dev, box = whole image, no camera; occluders by level", head, rows),
        table("Ours against each of them, paired bootstrap", head_2, more),
    ]


def _intervals(told: dict[str, Any]) -> list[str]:
    return ["{:+.3f} to {:+.3f}".format(*told[kind]) for kind in ("photos", "car_models")]


if __name__ == "__main__":
    main()
