"""Teach the bundled car the gist of a crop: presence and view, by what its trunk says (model/gist).

python benchmarks/car_gist.py --data DIR --furniture DIR --car runs/car --model MODEL [--write]

CAR is where train_car.py wrote: its rendered views. Crops of them and of the labelled photos, half
of them behind occluders, teach views; bare pictures and renders of the other eleven categories
teach what is no car. With --write the head is put into the model's folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from train_car import CARS_IN_BACKGROUNDS, WRONG_LABELS

from featmesh import load
from featmesh.learn.config import AugmentConfig, TrainConfig
from featmesh.learn.data import load_data
from featmesh.learn.gist_training import learn_gist, seen_crops, seen_pictures
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import bundled_models, find_model, update_model
from featmesh.model.gist import write_gist
from featmesh.views.cad_sources import read_training_cads
from featmesh.views.generate import read_backgrounds, render_views
from featmesh.views.presets import PRESETS, preset

CROPS, BARE, OTHERS = 3200, 800, 112  # crops with a car, without anything, of another category
RENDERED, CADS = 60, 20  # views of another category, and the CADs at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "furniture", "car"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--model", default="car")
    parser.add_argument("--write", action="store_true", help="put the head into the model")
    args = parser.parse_args()
    model = load(args.model)
    config = config_of(model, args)
    data = load_data(config, model.template)
    own = seen_crops(config, data, model.backbone, CROPS)
    others = [another(name, model, config, args) for name in sorted(PRESETS) if name != "car"]
    others.append(seen_pictures(config, data, model.backbone, BARE))
    head = learn_gist(own, others)
    with torch.no_grad():
        told = {"a car": own.maps[:BARE], "none": torch.cat(others)}
        for what, maps in told.items():
            print(f"{what}: {float((head(maps.float())[0] > 0).float().mean()):.3f} called a car")
    if args.write:
        folder = find_model(args.model)
        update_model(folder, {"gist": write_gist(head, folder)})


def config_of(model: CategoryModel, args: argparse.Namespace) -> TrainConfig:
    """Return how crops are drawn: as in the car's last training, but half behind occluders."""
    photos = str(args.data / "stanford_cars" / "train.json")
    rendered = [str(args.car / part / "views.json") for part in ("views", "painted")]
    return TrainConfig(
        views=(photos, photos, *rendered),
        out=str(args.car / "gist"),
        exclude=WRONG_LABELS,
        backgrounds=str(args.data / "backgrounds"),
        background_exclude=tuple(f"image_{k:04d}.jpg" for k in CARS_IN_BACKGROUNDS),
        background_share=0.5,
        augment=AugmentConfig(occlude=0.5),
        model=model.config,
        seed=5,
    )


def another(
    name: str, model: CategoryModel, config: TrainConfig, args: argparse.Namespace
) -> Float[Tensor, "n c h w"]:
    """Return what the trunk says of crops of another category's renders."""
    cads = read_training_cads(name, args.data / "pascal3d_cad", args.furniture)
    pictures = read_backgrounds(args.data / "backgrounds", first_half=True)
    few = cads[:: max(1, len(cads) // CADS)]
    path = render_views(few, pictures, args.car / "others" / name, RENDERED, 431, preset(name))
    own = replace(config, views=(str(path),), category=name)
    template = load(bundled_models()[name]).template
    return seen_crops(own, load_data(own, template), model.backbone, OTHERS).maps


if __name__ == "__main__":
    main()
