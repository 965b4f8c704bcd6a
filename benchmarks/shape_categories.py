"""Shape spaces of the other eleven categories, from 4 to 10 CADs each: figures and pictures.

python benchmarks/shape_categories.py --data DIR --run runs/categories

The last CAD of each category by number (two where there are six or more) is kept for the report.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from output import Table, save, table
from PIL import Image

from featmesh.apps.shape_space import PICTURE, survey, write_shape_space
from featmesh.draws import generator
from featmesh.evaluate.shape_metrics import chamfer
from featmesh.geometry.mesh import Mesh, read_mesh
from featmesh.geometry.solid import outer_points
from featmesh.learn.shape_config import ShapeLearnConfig
from featmesh.learn.shape_fit import fit_latent
from featmesh.learn.shape_space import learn_shape
from featmesh.model.config import DeformationConfig
from featmesh.model.shape_folder import ShapeSpace

CATEGORIES = (
    "aeroplane", "bicycle", "boat", "bottle", "bus", "chair", "diningtable", "motorbike", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
POINTS = 10_000
LATENTS = 4  # at most; one less than the CADs


def split(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the CADs to learn from and those that are reported on (contracts 6)."""
    files = sorted(folder.glob("*.off"))
    last = 2 if len(files) >= 6 else 1
    return files[:-last], files[-last:]


def learn(category: str, files: list[Path], run: Path) -> ShapeSpace:
    """Return the linear shape space of a category's CADs."""
    cad = run / "cad"
    cad.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy(path, cad / path.name)
    kind = DeformationConfig(kind="pca", latents=min(LATENTS, len(files) - 1))
    config = ShapeLearnConfig(
        cad=str(cad), out=str(run), category=category, points=POINTS, deformation=kind
    )
    if not list(run.rglob("shape.json")) and learn_shape(config):
        raise SystemExit("stopped")
    return ShapeSpace.read(next(run.rglob("shape.json")).parent)


def figures(space: ShapeSpace, files: list[Path], seed: int) -> dict[str, float]:
    """Return Chamfer distances to CADs: of the mean shape, and of the best fit."""
    rows = []
    for k, path in enumerate(files):
        cad = read_mesh(path).normalised()
        asked, told = (outer_points(cad, POINTS, generator(seed, p, 0, k)) for p in ("a", "b"))
        code = fit_latent(space.deformation, space.template, asked)
        moved = space.deformation(code[None].float())[0].double()
        fitted = space.template.with_vertices(space.template.vertices + moved)
        drawn = [_points(mesh, seed, k) for mesh in (space.template, fitted)]
        rows.append([chamfer(points, told) for points in drawn])
    mean, best = np.mean(rows, 0).tolist()
    return {"mean": mean, "best": best, "ratio": best / mean}


def _points(mesh: Mesh, seed: int, k: int) -> Any:
    return mesh.sample_surface(POINTS, generator(seed, "found", 0, k))


def tables(results: dict[str, Any]) -> list[Table]:
    """Return the table of the page."""
    columns = ["category", "CADs", "latents", "mean, learnt", "best, learnt", "mean, reported",
               "best, reported", "ratio"]  # fmt: skip
    rows = [
        [name, r["cads"], r["latents"], r["learnt"]["mean"], r["learnt"]["best"],
         r["reported"]["mean"], r["reported"]["best"], r["reported"]["ratio"]]
        for name, r in results.items()
    ]  # fmt: skip
    return [table("Chamfer distance, outside, diagonals 1", columns, rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures/shapes"))
    parser.add_argument("--categories", nargs="*", default=list(CATEGORIES), choices=CATEGORIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    args.pictures.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in args.categories:
        learnt, reported = split(args.data / "pascal3d_cad" / name)
        space = learn(name, learnt, args.run / name)
        found = survey(space.deformation, space.template, 2)
        write_shape_space(found, space.deformation, args.run / name / "space")
        picture = Image.open(args.run / name / "space" / PICTURE).convert("P", colors=64)
        picture.save(args.pictures / f"{name}.png", optimize=True)
        results[name] = {
            "cads": len(learnt),
            "latents": space.deformation.latents,
            "learnt": figures(space, learnt, args.seed),
            "reported": figures(space, reported, args.seed),
        }
    save("shape_categories", args, None, results, tables(results))


if __name__ == "__main__":
    main()
