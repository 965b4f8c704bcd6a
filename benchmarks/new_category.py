"""How long a category from ten CADs takes, and how well it does on real photos.

python benchmarks/new_category.py --data DIR --run RUN [--trunk lite0.safetensors]

Ten textured cars of Debian's sweethome3d-furniture are written as OBJ files; `new-category` makes a
model of them, which is measured on Stanford dev. --trunk is ImageNet's, which has seen no pose of a
car: the bundled trunks have.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import dev_views, figures, predictions
from output import save, table
from PIL import Image

from featmesh.model.checkpoint import load
from featmesh.store import read_json
from featmesh.views.cad import Cad
from featmesh.views.cad_sources import FURNITURE, read_training_cads
from featmesh.views.presets import SHOWN_IN_CALTECH

COUNT = 10


def write_obj(cad: Cad, folder: Path) -> None:
    """Write a CAD as OBJ with materials and bitmaps, in the object frame."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in cad.name)
    rows, looks, first, first_uv = [f"mtllib {name}.mtl"], list[str](), 1, 1
    for number, part in enumerate(cad.parts):
        looks += [f"newmtl m{number}", "Kd {} {} {}".format(*part.colour), f"d {part.opacity}"]
        if part.texture is not None and part.uv is not None:
            Image.fromarray(part.texture).save(folder / f"{name}-{number}.png")
            looks.append(f"map_Kd {name}-{number}.png")
        rows += [f"v {x} {y} {z}" for x, y, z in part.vertices.tolist()]
        rows.append(f"usemtl m{number}")
        corners = part.faces + first
        if part.uv is None:
            rows += [f"f {a} {b} {c}" for a, b, c in corners.tolist()]
        else:
            rows += [f"vt {u} {v}" for u, v in part.uv.reshape(-1, 2).tolist()]
            places = np.arange(first_uv, first_uv + 3 * len(corners)).reshape(-1, 3)
            both = np.stack([corners, places], -1).reshape(-1, 6).tolist()
            rows += ["f {}/{} {}/{} {}/{}".format(*row) for row in both]
            first_uv += 3 * len(corners)
        first += len(part.vertices)
    (folder / f"{name}.mtl").write_text("\n".join(looks) + "\n")
    (folder / f"{name}.obj").write_text("\n".join(rows) + "\n")
    (folder / "LICENSE").write_text("CC-BY 3.0 and CC0: Debian's sweethome3d-furniture\n")


def command(options: argparse.Namespace) -> list[str]:
    """Return what a user types."""
    left_out = [str(k) for k in SHOWN_IN_CALTECH["car"]]
    words = [sys.executable, "-m", "featmesh", "new-category", "car"]
    words += ["--cad", str(options.run / "cads"), "--out", str(options.run / "run")]
    words += ["--up", "z", "--front", "0", "--yes"]
    words += ["--backgrounds", str(options.data / "backgrounds"), "--leave-out", *left_out]
    if options.trunk:
        words += ["--train.trunk", str(options.trunk)]
    return words + options.more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--furniture", type=Path, default=FURNITURE)
    parser.add_argument("--trunk", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default="new_category", help="of the result")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("more", nargs="*", help="further words of the command, after --")
    options = parser.parse_args()
    if not (options.run / "cads").is_dir():
        for cad in read_training_cads("car", None, options.furniture)[:COUNT]:
            write_obj(cad, options.run / "cads")
    begin = time.perf_counter()
    subprocess.run(command(options), check=True)
    wall = time.perf_counter() - begin
    stages = {
        p.parent.name: read_json(p)["seconds"] for p in (options.run / "run").glob("*/done.json")
    }
    model = load(options.run / "run" / "model")
    views = dev_views(options)
    poses = figures(views, predictions(model, views)[0])
    results = {"wall_s": wall, "stages_s": stages, "dev": poses, "more": options.more}
    row = [COUNT, wall / 60, poses["acc_30"], poses["acc_10"], poses["median_deg"]]
    columns = ["CADs", "minutes", "acc@30", "acc@10", "median"]
    save(options.name, options, None, results, [table("a new car, Stanford dev", columns, [row])])


if __name__ == "__main__":
    main()
