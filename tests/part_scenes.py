"""The painted car with named parts: its label images, and annotation files of its photos."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fixtures import car_mesh, car_views
from PIL import Image

from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.model.labels import Labels
from featmesh.render.rasterize import rasterize
from featmesh.views.record import View, write_views

NAMES = ("hood", "left_door", "right_door", "wheel")


def part_of(points: torch.Tensor) -> torch.Tensor:
    """The number of the part (in NAMES) at points of the car, 0 for none; +x is its left."""
    x, y, z = points.unbind(-1)
    low = z < -0.02
    door = (y.abs() < 0.18) & (x.abs() > 0.13) & ~low
    wheel = (((y.abs() - 0.3).abs() < 0.07) & low) & (x.abs() > 0.1)
    hood = (y < -0.25) & (z > 0.02)
    part = torch.where(hood, 1, 0)
    part = torch.where(door, torch.where(x > 0, 2, 3), part)
    return torch.where(wheel, 4, part)


def true_labels() -> Labels:
    """The parts as labels of the template's vertices."""
    part = part_of(car_mesh().vertices)
    return Labels(NAMES, torch.nn.functional.one_hot(part, len(NAMES) + 1).float())


def label_image(pose: Pose, camera: Camera) -> np.ndarray:
    """The part number of each pixel, uint8 (h, w)."""
    mesh = car_mesh()
    found = rasterize(pose.apply(mesh.vertices)[None], mesh.faces, camera)
    face, bary = found.face_id[0], found.bary[0]
    places = (mesh.corners[face.clamp_min(0)] * bary[..., None].to(mesh.vertices)).sum(2)
    return torch.where(face >= 0, part_of(places), 0).byte().numpy()


def part_views(
    folder: Path,
    count: int,
    keep: Callable[[View], bool] = lambda view: True,
    size: tuple[int, int] = (96, 128),
) -> Path:
    """A views file of photos with label images, known cameras, no boxes left out."""
    kept = []
    for view in car_views(folder, count, size):
        if not keep(view):
            continue
        pose = Pose(torch.from_numpy(view.R), torch.from_numpy(view.t))
        path = folder / f"{view.index:03d}-parts.png"
        Image.fromarray(label_image(pose, view.camera)).save(path)
        kept.append(replace(view, parts=path))
    write_views(folder / "parts.json", kept)
    return folder / "parts.json"


def square(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """A rectangle as a polygon of an annotation."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def coco(
    folder: Path,
    annotations: Sequence[tuple[int, int, list[list[float]]]],
    names: Sequence[str] = ("_background_", *NAMES),
    images: int = 2,
) -> Path:
    """An annotation file: rows of image id, category id (from 1) and polygons; 60 x 40 photos."""
    document = {
        "images": [
            {"id": k, "file_name": f"{k}.png", "path": f"photos/{k}.png", "width": 60, "height": 40}
            for k in range(1, images + 1)
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "segmentation": polygons}
            for n, (image, category, polygons) in enumerate(annotations)
        ],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(document), "utf-8")
    return path
