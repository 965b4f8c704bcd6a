"""Which texture: the same network and photos, textures of every kind, filled and compared.

python benchmarks/texture.py --data DATA --photos 1500

Held-out photos are those of the training file whose car models the network never saw.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import dev_views, figures, predictions, spread
from output import Table, save, table
from torch import Tensor

from featmesh import load
from featmesh.geometry.mesh import Mesh
from featmesh.learn.config import TrainConfig
from featmesh.learn.correspondence import Sample
from featmesh.learn.data import load_data
from featmesh.learn.fill_texture import (
    MapFiller,
    VertexFiller,
    fit_graph_texture,
    gather,
    graph_painter,
    nearest_anchor,
    read_features,
    still_crops,
    surface_error,
    texels_of,
)
from featmesh.learn.surface_points import surface_points
from featmesh.model.category import CategoryModel
from featmesh.model.texture import near_anchors
from featmesh.model.texture_map import TextureMap

SIZES = ((64, 96), (128, 192))  # texels: about one and four for each vertex that is seen
WRONG_LABELS = ("train/00361.jpg", "train/01833.jpg", "train/08115.jpg", "train/00359.jpg")
NEAR = 0.08  # object units: as in training
PROBES = 400  # surface points of each held-out photo


def subdivide(mesh: Mesh) -> Mesh:
    """Return the same surface with each face cut into four."""
    pairs = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]]
    edges, where = pairs.sort(-1).values.flatten(0, 1).unique(dim=0, return_inverse=True)
    middle = where.reshape(-1, 3) + len(mesh.vertices)
    a, b, c = mesh.faces.T
    ab, bc, ca = middle.T
    corners = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    faces = torch.stack([torch.stack(corner, 1) for corner in corners], 1).flatten(0, 1)
    u, v, w = mesh.uv.unbind(1)
    uv, vw, wu = (u + v) / 2, (v + w) / 2, (w + u) / 2
    parts = ((u, uv, wu), (uv, v, vw), (wu, vw, w), (uv, vw, wu))
    charts = torch.stack([torch.stack(part, 1) for part in parts], 1).flatten(0, 1)
    return Mesh(torch.cat([mesh.vertices, mesh.vertices[edges].mean(1)]), faces, charts)


def photos(args: argparse.Namespace) -> tuple[list[Sample], list[Sample]]:
    """Return samples to fill from, and held-out ones, by the split of training."""
    views = str(args.data / "stanford_cars/train.json")
    data = load_data(TrainConfig((views,), "", exclude=WRONG_LABELS, cad=""), load("car").template)
    return spread(data.groups[0], args.photos), list(data.held_out)


def textures(args: argparse.Namespace, model: CategoryModel, samples: Sequence[Sample]) -> dict:
    """Return the textures by name: (model with it, map or None, what is told of it)."""
    bank = VertexFiller(model)
    maps = {size: MapFiller(model.template, model.config.channels, size) for size in SIZES}
    gather(model, samples, [bank, *maps.values()], args.seed)
    refilled = bank.texture()
    found: dict[str, Any] = {
        "vertices, as trained": (model, None, {"seen": None}),
        "vertices, refilled": (
            replace(model, texture=refilled),
            None,
            {"seen": float(bank.seen.float().mean())},
        ),
    }
    for size, filler in maps.items():
        chart = filler.texture()
        name = f"UV map {size[0]} x {size[1]}"
        told = {"seen": filler.map.coverage().vertices, "area": filler.map.coverage().area}
        found[name] = (replace(model, texture=chart.at_vertices()), chart, told)
    fine = subdivide(model.template)
    last = TextureMap.initial(fine, model.config.channels, SIZES[-1], torch.Generator())
    last = replace(last, texels=chart.texels, weight=chart.weight)
    found[f"{name}, faces cut in four"] = (
        replace(model, template=fine, texture=last.at_vertices()),
        last,
        told,
    )
    graph = graph_painter(model, args.seed)
    cosine = fit_graph_texture(graph, refilled, bank.count.clamp_max(1))
    found["graph network"] = (
        replace(model, texture=graph.texture().detach()),
        None,
        {"seen": None, "cosine": cosine},
    )
    return found


def probes(
    args: argparse.Namespace, model: CategoryModel, held_out: Sequence[Sample]
) -> dict[str, Tensor]:
    """Return features of held-out photos at visible anchors and at points between them."""
    faces = model.template.faces
    found: dict[str, list[Tensor]] = {"at": [], "anchor": [], "between": [], "point": []}
    for features, crop, rng in still_crops(model, held_out, args.seed + 1):
        anchor = np.flatnonzero(crop.visible)
        found["anchor"].append(torch.from_numpy(anchor))
        found["at"].append(read_features(features, torch.from_numpy(crop.anchors[anchor]), crop))
        points = surface_points(crop.anchors, crop.visible, faces.numpy(), PROBES, rng)
        corners = model.template.corners.float()[points.face]
        found["point"].append((corners * points.bary[..., None]).sum(1))
        found["between"].append(read_features(features, points.pixels, crop))
    return {name: torch.cat(rows) for name, rows in found.items()}


def told_of(
    model: CategoryModel, chart: TextureMap | None, seen: dict[str, Tensor], anchors: int
) -> dict[str, float]:
    """Return how well features find their place on a texture: at anchors, and on the surface.

    Args:
        model: with the texture at its vertices.
        chart: the map they come from, for the finest places there are.
        seen: see :func:`probes`.
        anchors: the first vertices, which the labels name.
    """
    near = near_anchors(model.template.vertices[:anchors], NEAR)
    best = nearest_anchor(seen["at"], model.texture[:anchors])
    right = (best == seen["anchor"]) | near[best, seen["anchor"]]
    places = model.template.vertices.float()
    error = surface_error(seen["between"], seen["point"], model.texture, places)
    told = {
        "anchor_accuracy": float(right.float().mean()),
        "surface_median": float(error.median()),
        "surface_near": float((error < NEAR).float().mean()),
    }
    if chart is not None:
        fine = surface_error(seen["between"], seen["point"], *texels_of(chart))
        told |= {"texel_median": float(fine.median())}
    return told


def tables(results: dict[str, Any]) -> list[Table]:
    """Return what is shown."""
    rows = [
        [
            name,
            r["vertices"],
            r["seen"],
            r["anchor_accuracy"],
            r["surface_median"],
            r.get("texel_median"),
            r["dev"]["acc_30"],
            r["dev"]["acc_10"],
            r["dev"]["median_deg"],
            r["dev"]["seconds"],
        ]
        for name, r in results["textures"].items()
    ]
    head = ["texture", "anchors", "seen", "right anchor", "surface error", "on texels"]
    head += ["dev acc@30", "acc@10", "median °", "s a photo"]
    title = (
        f"Textures of one network, filled from {results['photos']} photos; held-out: "
        f"{results['held_out']} photos of unseen car models; surface error in object units"
    )
    return [table(title, head, rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="car")
    parser.add_argument("--photos", type=int, default=1500, help="photos to fill from")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="dev photos: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = load(args.model)
    model.threshold = None
    samples, held_out = photos(args)
    begun = time.monotonic()
    found = textures(args, model, samples)
    results: dict[str, Any] = {"fill_s": time.monotonic() - begun, "textures": {}}
    results |= {"photos": len(samples), "held_out": len(held_out)}
    seen, views = probes(args, model, held_out), dev_views(args)
    for name, (textured, chart, told) in found.items():
        rows, stages = predictions(textured, views)
        results["textures"][name] = {
            "vertices": len(textured.template.vertices),
            **told,
            **told_of(textured, chart, seen, len(model.template.vertices)),
            "dev": figures(views, rows) | {"stages": stages},
        }
    save("texture", args, model, results, tables(results))


if __name__ == "__main__":
    main()
