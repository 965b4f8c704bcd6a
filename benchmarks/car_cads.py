"""The car from CADs alone, then with a hundred labelled photos, then with all of them.

python benchmarks/car_cads.py --data DIR --run RUN [--car runs/car]

RUN is train_categories.py's, whose car is gone on with by itself, on the same rendered views, or
any folder with its RUN/car (template, shapes.safetensors, views) where the bundled car-cad is gone
on with. With all photos it is the bundled car. The stages of real meshes go on with the same start
on what train_car.py rendered into CAR: CADs, and 51 meshes of real cars, painted. Every stage that
is done is kept; of those that are not asked for, the rows told before are.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import dev_views, figures
from output import Table, save, table
from train_car import CARS_IN_BACKGROUNDS, WRONG_LABELS, finish
from train_categories import MILDER, training

from featmesh import load
from featmesh.draws import generator
from featmesh.evaluate.predict import predict
from featmesh.learn.config import TrainConfig
from featmesh.learn.session import train
from featmesh.model.checkpoint import bundled_models
from featmesh.paths import write_whole

PHOTOS = 100
GIST = 1600


@dataclass(frozen=True)
class Stage:
    """A leg of the training: most of it on small crops, which cost less than half."""

    name: str
    crops: int
    size: tuple[int, int]
    lr_trunk: float
    lr_head: float
    photos: bool = False
    meshes: bool = False


STAGES = (
    Stage("small", 36_000, (160, 224), 4e-4, 1.5e-3),
    Stage("alone", 8_000, (224, 336), 1.5e-4, 5e-4),
    Stage("photos", 8_000, (224, 336), 1.5e-4, 5e-4, photos=True),
    Stage("meshes-small", 24_000, (160, 224), 4e-4, 1.5e-3, meshes=True),
    Stage("meshes", 20_000, (224, 336), 1.5e-4, 5e-4, meshes=True),
)
SHOWN = {
    "twelve": "CADs, one of the twelve",
    "alone": "CADs alone",
    "photos": f"CADs and {PHOTOS} photos",
    "meshes": "CADs and 51 meshes of real cars",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "run"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--car", type=Path, help="where train_car.py wrote: its rendered views")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    names = [s.name for s in STAGES]
    parser.add_argument("--stages", nargs="*", choices=names, help="to come to; by default all")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    possible = [s.name for s in STAGES if options.car or not s.meshes]
    options.stages = possible if options.stages is None else options.stages
    if set(options.stages) - set(possible):
        parser.error("stages of meshes need --car")
    start = options.run / "models" / "car-cad"
    if not start.is_dir():
        start = bundled_models()["car-cad"]
    models = {"twelve": start}
    for meshes in (False, True):
        last = start
        for stage in STAGES:
            if stage.name in options.stages and stage.meshes == meshes:
                last = models[stage.name] = learn(stage, last, options)
    told = {} if options.limit else told_before(options)
    told |= {SHOWN[name]: measured(path, options) for name, path in models.items() if name in SHOWN}
    told["CADs and all photos, the bundled car"] = measured(bundled_models()["car"], options)
    results = {"stages": {s.name: vars(s) for s in STAGES}, "dev": told}
    save("car_cads", options, None, results, [shown(told)])


def told_before(options: argparse.Namespace) -> dict[str, Any]:
    """Return the rows of an earlier run."""
    path = options.out / "car_cads.json"
    return json.loads(path.read_text("utf-8"))["results"]["dev"] if path.is_file() else {}


def measured(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a model; what it said is kept in RUN."""
    model, views = load(path), dev_views(options)
    kept = options.run / "car" / "estimates" / f"{model.hash[:12]}-{len(views)}"
    return figures(views, predict(model, views, kept))


def learn(stage: Stage, start: Path, options: argparse.Namespace) -> Path:
    """Go on with a model; return the one it becomes."""
    out = options.run / "car" / f"run-{stage.name}"
    model = out / "models" / "car"
    if (model / "model.json").is_file():
        return model
    height, width = stage.size
    given = argparse.Namespace(data=options.data, out=options.run, trunk="")
    config = on_meshes(options) if stage.meshes else training("car", given)
    shape = replace(load(start).config, crop_height=height, crop_width=width, deformation=None)
    more = (few_photos(options),) if stage.photos else ()
    own = {"lr_head": stage.lr_head, "lr_trunk": stage.lr_trunk, "samples_per_epoch": stage.crops}
    config = replace(config, views=(*more, *config.views), out=str(out), start=str(start), **own)
    config = replace(config, epochs=1, validation_models=0, model=shape, augment=MILDER, gist=GIST)
    finish(train(config))
    return model


def on_meshes(options: argparse.Namespace) -> TrainConfig:
    """Return how CADs and painted meshes are learnt from, the template stretched to each."""
    return TrainConfig(
        views=tuple(str(options.car / part / "views.json") for part in ("views", "painted")),
        out="",
        backgrounds=str(options.data / "backgrounds"),
        background_exclude=tuple(f"image_{k:04d}.jpg" for k in CARS_IN_BACKGROUNDS),
        background_share=0.5,
        anchors_per_view=128,
        clutter_queue=1024,
    )


def few_photos(options: argparse.Namespace) -> str:
    """Copy a hundred of the labelled photos, drawn from all; return their views file."""
    source, folder = options.data / "stanford_cars", options.run / "car" / "photos"
    records = json.loads((source / "train.json").read_text("utf-8"))
    records = [r for r in records if r["image"] not in WRONG_LABELS]
    drawn = generator(options.seed, "photos").permutation(len(records))[:PHOTOS]
    kept = [records[k] for k in sorted(drawn.tolist())]
    for record in kept:
        target = folder / record["image"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / record["image"], target)
    path = folder / "views.json"
    write_whole(path, json.dumps(kept))
    return str(path)


def shown(told: dict[str, dict[str, Any]]) -> Table:
    columns = ["learnt from", "photos", "acc@30", "acc@10", "median °", "> 90°"]
    keys = ("count", "acc_30", "acc_10", "median_deg", "over_90")
    rows = [[name, *(row[key] for key in keys)] for name, row in told.items()]
    return table("The car from CADs, Stanford dev; box = whole image, no camera", columns, rows)


if __name__ == "__main__":
    main()
