"""How well shape spaces say cars they have not seen: field, graph network, PCA, nearest, mean.

python benchmarks/shape_space.py --data DATA --run RUN

Learns each kind from the apollo cars that are not reported (``featmesh learn-shape``; a run that is
there is gone on with), then fits its code to 10,000 points on the outside of every reported car.
"""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apollo_cars import object_unit, read_cars, split, write_learnt
from output import Table, save, table

from featmesh import load
from featmesh.draws import generator
from featmesh.evaluate.shape_metrics import chamfer, f_score, flipped_faces, volume_iou
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.solid import outer_points
from featmesh.learn.shape_config import ShapeLearnConfig
from featmesh.learn.shape_fit import fit_latent
from featmesh.learn.shape_space import learn_shape
from featmesh.model.config import DeformationConfig, DeformationKind

POINTS = 10_000
NEAR = 0.01  # of the diagonal: threshold of the F-score
KINDS: tuple[DeformationKind, ...] = ("field", "gcn", "pca")
WIDTHS = {"field": 128, "gcn": 64, "pca": 0}
PRIOR = 1e-5


@dataclass(frozen=True, eq=False)
class Car:
    """A reported car, object units: its mesh and three draws of points.

    ``asked`` is what codes are fitted to; the distances are to ``outside`` and ``raw``.
    """

    name: str
    mesh: Mesh
    asked: torch.Tensor
    outside: torch.Tensor
    raw: torch.Tensor


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds apollo_cars")
    parser.add_argument("--run", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--model", default="car", help="model whose template is deformed")
    parser.add_argument("--latents", type=int, default=16)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="reported cars: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def learned(args: argparse.Namespace, kind: DeformationKind) -> Any:
    """Return the model with a shape space of a kind, learning it if it is not there."""
    run = args.run / f"{kind}-{args.latents}"
    sizes = {"width": WIDTHS[kind]} if WIDTHS[kind] else {}
    drawn = next(args.run.glob("*/registered"), None)
    if drawn is not None and not (run / "registered").exists():
        shutil.copytree(drawn, run / "registered")  # the same for every kind
    deformation = DeformationConfig(kind=kind, latents=args.latents, **sizes)
    config = ShapeLearnConfig(
        cad=str(args.run / "cad"),
        out=str(run),
        model=args.model,
        size="shared",
        seed=args.seed,
        deformation=deformation,
    )
    if not (run / "models/car/model.json").is_file() and learn_shape(config):
        raise SystemExit("stopped")
    return load(str(run / "models/car"))


def reported(cars: dict[str, Mesh], unit: float, seed: int) -> list[Car]:
    """Return the reported cars in object units with their points."""
    found = []
    for name in split(sorted(cars))[1]:
        mesh = cars[name].with_vertices(cars[name].vertices / unit)
        asked, outside = (outer_points(mesh, POINTS, _rng(seed, p, name)) for p in "ab")
        raw = mesh.sample_surface(POINTS, _rng(seed, "raw", name))
        found.append(Car(name, mesh, asked, outside, raw))
    return found


def _rng(seed: int, purpose: str, name: str) -> np.random.Generator:
    return generator(seed, f"shape_space {purpose} {name}")


def figures(car: Car, mesh: Mesh, seed: int) -> dict[str, float]:
    """Return how near a mesh is to a car."""
    points = mesh.sample_surface(POINTS, _rng(seed, "found", car.name))
    diagonal = float(car.mesh.extent.norm())
    return {
        "chamfer": chamfer(points, car.outside),
        "chamfer_raw": chamfer(points, car.raw),
        "f_score": f_score(points, car.outside, NEAR * diagonal),
        "iou": volume_iou(mesh, car.mesh),
    }


def nearest(meshes: list[Mesh], seed: int) -> Callable[[Car], Mesh]:
    """Return what finds the training mesh nearest to the asked points."""
    points = [outer_points(m, POINTS, _rng(seed, "train", str(k))) for k, m in enumerate(meshes)]

    def found(car: Car) -> Mesh:
        far = [chamfer(p, car.asked) for p in points]
        return meshes[int(np.argmin(far))]

    return found


def fitted(model: Any, spent: dict[str, list[float]]) -> Callable[[Car], Mesh]:
    """Return what fits a model's code to the asked points."""

    def found(car: Car) -> Mesh:
        code = fit_latent(model.deformation, model.template, car.asked, PRIOR)
        mesh = model.mesh(code.float())
        spent.setdefault("flipped", []).append(flipped_faces(model.template, mesh))
        spent.setdefault("code", []).append(float(code.square().mean()))
        return mesh

    return found


def mean_of_registered(args: argparse.Namespace, template: Mesh) -> Mesh:
    """Return the mean of the training cars: of the template drawn onto each."""
    from featmesh.learn.shape_space import read_cads, registered

    config = ShapeLearnConfig(
        cad=str(args.run / "cad"),
        out=str(args.run / f"{args.kinds[0]}-{args.latents}"),
        size="shared",
    )
    found = [e for e in registered(config, template, read_cads(config)) if e is not None]
    return template.with_vertices(torch.stack([e.registered for e in found]).mean(0))


def measured(
    args: argparse.Namespace, cars: list[Car], training: list[Mesh]
) -> tuple[dict[str, Any], Any]:
    """Return the figures of every way to say a car, car by car, and the first model."""
    results: dict[str, Any] = {}
    models = {kind: learned(args, kind) for kind in args.kinds}
    first = models[args.kinds[0]]
    template = first.template
    mean = mean_of_registered(args, template)
    ways: dict[str, Callable[[Car], Mesh]] = {"template (z = 0)": lambda car: template}
    ways |= {"mean of training cars": lambda car: mean, "nearest": nearest(training, args.seed)}
    extra: dict[str, dict[str, list[float]]] = {kind: {} for kind in models}
    ways |= {kind: fitted(model, extra[kind]) for kind, model in models.items()}
    for way, found in ways.items():
        rows = {car.name: figures(car, found(car), args.seed) for car in cars}
        keys = next(iter(rows.values()))
        means = {k: float(np.mean([row[k] for row in rows.values()])) for k in keys}
        told = {k: float(np.mean(v)) for k, v in extra.get(way, {}).items()}
        results[way] = {**means, **told, "cars": rows}
    base = results["template (z = 0)"]
    for found in results.values():
        found["ratio"] = found["chamfer"] / base["chamfer"]
        found["ratio_raw"] = found["chamfer_raw"] / base["chamfer_raw"]
    draws = [chamfer(car.asked, car.outside) for car in cars]
    return {"ways": results, "two_draws": float(np.mean(draws))}, first


def tables(results: dict[str, Any], cars: int, latents: int) -> list[Table]:
    """Return what is shown."""
    keys = ("chamfer", "ratio", "chamfer_raw", "ratio_raw", "f_score", "iou", "flipped")
    head = ("shape", "Chamfer", "/ z = 0", "raw", "raw / z = 0", "F 1 %", "IoU", "flipped")
    rows = [[way, *(f.get(k) for k in keys)] for way, f in results["ways"].items()]
    rows.append(["two draws of the car", results["two_draws"], *[None] * 6])
    title = f"{cars} apollo cars not learned from, {latents} numbers a shape, real sizes"
    return [table(title, head, rows)]


def main() -> None:
    args = arguments()
    cars = read_cars(args.data)
    names = split(sorted(cars))[0]
    write_learnt(cars, args.run / "cad")
    unit = object_unit(cars)
    training = [cars[n].with_vertices(cars[n].vertices / unit) for n in names]
    asked = reported(cars, unit, args.seed)[: args.limit]
    results, model = measured(args, asked, training)
    name = "shape_space" if args.latents == 16 else f"shape_space_{args.latents}"
    save(name, args, model, results, tables(results, len(asked), args.latents))


if __name__ == "__main__":
    main()
