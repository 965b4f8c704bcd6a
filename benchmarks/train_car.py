"""Train the bundled car: features, then the shape space, then features on the objects' own shapes.

python benchmarks/train_car.py --data DIR --furniture DIR --trunk lite0.safetensors --out runs/car

DIR of --furniture holds the catalogues of Debian's sweethome3d-furniture; the trunk is written by
benchmarks/import_trunk.py. Every stage that is done is kept: the same command goes on.

1. Template and rendered views from redistributable CADs; features from them and labelled photos.
2. Shape space from the apollo cars that may be learnt from; rendered views of those cars, painted.
3. Shapes of the labelled photos' car models, found with 1 and 2; features again, on these shapes.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from apollo_cars import merged, painted, read_cars, registered, split, vote, write_learnt
from output import write_off

from featmesh import load
from featmesh.learn.config import AugmentConfig, TrainConfig
from featmesh.learn.model_shapes import model_shapes
from featmesh.learn.model_shapes import write_shapes as write_shapes_file
from featmesh.learn.session import train
from featmesh.learn.shape_config import ShapeLearnConfig
from featmesh.learn.shape_space import learn_shape
from featmesh.views.cad import Cad, read_plain, read_sweethome3d
from featmesh.views.generate import GenerateConfig, read_backgrounds, render_views
from featmesh.views.record import read_views

CATALOGUES = {
    "BlendSwap-CC-BY.sh3f": "ford focus",
    "KatorLegaz.sh3f": "concept sedan|beetle",
    "Scopia.sh3f": "^(seat leon|peugeot 308 cc|renault scenic|suv|chevrolet|van|smart car)$",
}
PASCAL = ("01", "03", "04", "05")  # 06 and 08 are reported on
CARS_IN_BACKGROUNDS = (13, 77, 107, 110, 137, 148, 162, 192, 236, 237, 298)
WRONG_LABELS = tuple(f"train/{k}.jpg" for k in ("00361", "01833", "08115", "00359"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "furniture", "trunk", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--views", type=int, default=4000)
    options = parser.parse_args()
    cads = read_cads(options.furniture, options.data)
    photos = str(options.data / "stanford_cars" / "train.json")
    rendered = str(write_views(cads, options))
    config = TrainConfig(
        views=(photos, rendered),
        out=str(options.out / "first"),
        exclude=WRONG_LABELS,
        cad=str(write_shapes(cads, options.out / "cad")),
        trunk=str(options.trunk),
        backgrounds=str(options.data / "backgrounds"),
        background_exclude=tuple(f"image_{k:04d}.jpg" for k in CARS_IN_BACKGROUNDS),
        background_share=0.5,
        epochs=8,
        samples_per_epoch=6400,
        augment=AugmentConfig(occlude=0.35),
    )
    finish(train(config))
    model = learn_space(options)
    painted_views, own = write_painted(cads, options, model)
    shapes = options.out / "shapes.safetensors"
    if not shapes.is_file():
        write_shapes_file(shapes, own | model_shapes(load(model), read_views(photos)))
    last = replace(
        config,
        views=(photos, photos, rendered, str(painted_views)),
        out=str(options.out),
        start=model,
        shapes=str(shapes),
        near=0.05,
        epochs=4,
        samples_per_epoch=8000,
        lr_head=1e-3,
        lr_trunk=3e-4,
        seed=1,
    )
    raise SystemExit(train(last))


def finish(code: int) -> None:
    """Leave where a stage was stopped."""
    if code:
        raise SystemExit(code)


def learn_space(options: argparse.Namespace) -> str:
    """Learn the shape space from the apollo cars; return the model that has it."""
    out = options.out / "space"
    write_learnt(read_cars(options.data), out / "cad")
    config = ShapeLearnConfig(
        cad=str(out / "cad"),
        out=str(out),
        model=str(options.out / "first" / "models" / "car"),
        size="shared",
    )
    finish(learn_shape(config))
    return str(out / "models" / "car")


def write_painted(
    cads: list[Cad], options: argparse.Namespace, model: str
) -> tuple[Path, dict[str, np.ndarray]]:
    """Render the apollo cars, painted as textured CADs are; return views, and shapes by name."""
    template, cars = load(model).template, read_cars(options.data)
    learnt, _ = split(sorted(cars))
    fits = {name: registered(template, cars[name]) for name in learnt}
    materials = vote(template, cads)
    painted_cads = [painted(name, cars[name], fits[name], materials) for name in learnt]
    backgrounds = read_backgrounds(
        options.data / "backgrounds", first_half=True, leave_out=CARS_IN_BACKGROUNDS
    )
    folder = options.out / "painted"
    path = render_views(painted_cads, backgrounds, folder, 3000, 7, GenerateConfig(), workers=2)
    shapes = {name: fit / float(cars[name].extent.norm()) for name, fit in fits.items()}
    shapes |= {cad.name: registered(template, merged(cad)[0]) for cad in cads}
    return path, shapes


def read_cads(furniture: Path, data: Path) -> list[Cad]:
    cads = [c for f, names in CATALOGUES.items() for c in read_sweethome3d(furniture / f, names)]
    plain = [data / "pascal3d_cad" / "car" / f"{k}.off" for k in PASCAL]
    return cads + [read_plain(path, "MIT (yuxng/3DVP)") for path in plain]


def write_shapes(cads: list[Cad], folder: Path) -> Path:
    """Write the CADs' shapes as OFF files, from which training fits the template."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, cad in enumerate(cads):
        write_off(folder / f"{number:02d}.off", merged(cad)[0])
    return folder


def write_views(cads: list[Cad], options: argparse.Namespace) -> Path:
    weights = tuple([1.0] * (len(cads) - len(PASCAL)) + [1.08] * len(PASCAL))
    backgrounds = read_backgrounds(
        options.data / "backgrounds", first_half=True, leave_out=CARS_IN_BACKGROUNDS
    )
    config = GenerateConfig(weights=weights)
    folder = options.out / "views"
    path = render_views(cads, backgrounds, folder, options.views, 0, config, workers=2)
    content = json.loads(path.read_text())
    extents = {c.name: np.asarray(c.extent) for c in cads}
    for view in content["views"]:
        view["extent_xyz"] = (extents[view["model_name"]] * view["stretch"]).tolist()
    path.write_text(json.dumps(content))
    return path


if __name__ == "__main__":
    main()
