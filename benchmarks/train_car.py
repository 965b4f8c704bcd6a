"""Train the bundled car: template and rendered views from CADs, then features from both.

python benchmarks/train_car.py --data DIR --furniture DIR --trunk lite0.safetensors --out runs/car

DIR of --furniture holds the catalogues of Debian's sweethome3d-furniture; the trunk is written by
benchmarks/import_trunk.py. Every stage that is done is kept: the same command goes on.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from featmesh.learn.config import AugmentConfig, TrainConfig
from featmesh.learn.session import train
from featmesh.views.cad import Cad, read_plain, read_sweethome3d
from featmesh.views.generate import GenerateConfig, read_backgrounds, render_views

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
    cad_folder = write_shapes(cads, options.out / "cad")
    rendered = write_views(cads, options)
    config = TrainConfig(
        views=(str(options.data / "stanford_cars" / "train.json"), str(rendered)),
        out=str(options.out),
        exclude=WRONG_LABELS,
        cad=str(cad_folder),
        trunk=str(options.trunk),
        backgrounds=str(options.data / "backgrounds"),
        background_exclude=tuple(f"image_{k:04d}.jpg" for k in CARS_IN_BACKGROUNDS),
        background_share=0.5,
        epochs=8,
        samples_per_epoch=6400,
        augment=AugmentConfig(occlude=0.35),
    )
    raise SystemExit(train(config))


def read_cads(furniture: Path, data: Path) -> list[Cad]:
    cads = [c for f, names in CATALOGUES.items() for c in read_sweethome3d(furniture / f, names)]
    plain = [data / "pascal3d_cad" / "car" / f"{k}.off" for k in PASCAL]
    return cads + [read_plain(path, "MIT (yuxng/3DVP)") for path in plain]


def write_shapes(cads: list[Cad], folder: Path) -> Path:
    """Write the CADs' shapes as OFF files, from which training fits the template."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, cad in enumerate(cads):
        starts = np.cumsum([0, *(len(p.vertices) for p in cad.parts)])
        vertices = np.concatenate([p.vertices for p in cad.parts])
        faces = np.concatenate([p.faces + k for p, k in zip(cad.parts, starts, strict=False)])
        lines = ["OFF", f"{len(vertices)} {len(faces)} 0"]
        lines += [f"{x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices.tolist()]
        lines += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
        (folder / f"{number:02d}.off").write_text("\n".join(lines) + "\n")
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
