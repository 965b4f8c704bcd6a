"""A category whose photos can be made: a painted car, and a network that reads its colours.

Each surface point is painted with its own position (as in normalised object coordinates), so that a
picture of the template says exactly where on the surface each pixel looks. The "network" averages
8x8 pixels, decodes the position and lifts it to a unit feature vector by fixed random waves; the
texture holds the same vectors. Everything between photo and pose can then be tested with no
training: whatever goes wrong is not the network's fault.
"""

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose, so3_exp
from featmesh.geometry.template import cuboid
from featmesh.geometry.viewpoint import Viewpoint, ray_rotation
from featmesh.model.backbones import Backbone
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.model.clutter import clutter_score
from featmesh.model.config import DeformationConfig, ModelConfig
from featmesh.model.deformation import build_deformation
from featmesh.photo.photo import Photo
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate
from featmesh.views.record import View, write_views

CHANNELS = 64
WAVES = 8.0  # radians per object unit: points .1 apart have a cosine of .7, .3 apart none
PAINT, CONTRAST = 195.0, 55.0  # colour of the object's centre, and how far colours reach
DARKEST, DARK = 5.0, 60.0  # colours of the background: no point of the object has them
STRIDE = 8
CELLS = Camera(56.0, 56.0, 21.0, 14.0, 28, 42)  # of a 224 x 336 crop


def car_mesh() -> Mesh:
    """A closed car-like surface, concave, mirror-symmetric in x; front -y, diagonal 1."""
    box = cuboid((2.0, 2.0, 2.0), (8, 18, 6))
    x, y, z = box.vertices.unbind(1)
    cabin = torch.sigmoid((y + 0.35) / 0.08) * torch.sigmoid((0.75 - y) / 0.08)
    up = z.clamp_min(0)
    arch = torch.exp(-(((y.abs() - 0.62) / 0.15) ** 2)) * (-z).clamp_min(0)
    side = x * (0.42 - 0.06 * y.abs() ** 4 - 0.1 * cabin * up)
    vertices = torch.stack([side, y, 0.2 * z + 0.3 * up * cabin + 0.1 * arch], 1)
    return box.with_vertices(vertices).normalised()


@lru_cache
def _waves() -> tuple[Tensor, Tensor]:
    rng = generator(0, "waves")
    waves = torch.from_numpy(rng.normal(size=(3, CHANNELS)) * WAVES)
    return waves, torch.from_numpy(rng.uniform(0, 2 * math.pi, CHANNELS))


def lift(points: Tensor) -> Tensor:
    """Unit features of positions (..., 3), object units: a smooth function of the position."""
    waves, phase = (w.to(points.dtype) for w in _waves())
    return functional.normalize(torch.sin(points @ waves + phase), dim=-1)


def paint(mesh: Mesh) -> Tensor:
    """The colour (v, 3), 0..255, that says where each vertex of a centred mesh lies."""
    return PAINT + CONTRAST * mesh.vertices / (mesh.extent / 2)


class Pixels(nn.Module):
    """A trunk that hands the pixels on."""

    multiple = 8

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the pixels as the one map."""
        return [x]


class Decode(nn.Module):
    """Normalised pixels -> mean colour of 8x8 -> position -> feature, (b, c, h / 8, w / 8)."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        self.half = (mesh.extent / 2).float()

    def forward(self, maps: list[Tensor], window: tuple[int, int] | None = None) -> Tensor:
        """Undo the ImageNet normalisation that every backbone begins with, and decode."""
        from featmesh.model.efficientnet import IMAGENET_MEAN, IMAGENET_STD

        pixels = 255 * (maps[0] * IMAGENET_STD[:, None, None] + IMAGENET_MEAN[:, None, None])
        colour = functional.avg_pool2d(pixels, STRIDE).permute(0, 2, 3, 1)
        return lift((colour - PAINT) / CONTRAST * self.half).permute(0, 3, 1, 2)


@lru_cache
def car_model() -> CategoryModel:
    """The painted car; its backbone cannot be saved."""
    mesh, config = car_mesh(), ModelConfig(channels=CHANNELS)
    backbone = Backbone(Pixels(), Decode(mesh), config)
    dark = background((128, 256), 0)[None].transpose(0, 3, 1, 2)
    seen = backbone(torch.from_numpy(dark).float())[0].flatten(1).T
    clutter = functional.normalize(seen[::32] + 0.05, dim=1)[:16]
    return CategoryModel("car", config, mesh, lift(mesh.vertices).float(), clutter, backbone)


@lru_cache
def shaped_model() -> CategoryModel:
    """The painted car with three directions of shape: cabin, nose, waist (one deviation each)."""
    model = car_model()
    config = DeformationConfig(kind="pca", latents=3)
    space = build_deformation(config, model.template)
    x, y, z = space.place.unbind(1)
    cabin = 0.05 * torch.sigmoid((y + 0.1) / 0.05) * (z > 0.02)
    nose = 0.05 * torch.sigmoid((-y - 0.2) / 0.05)
    waist = 0.1 * x * (1 - (y / 0.45) ** 2)
    none = torch.zeros_like(x)
    moves = [(none, none, cabin), (none, -nose, none), (waist, none, none)]
    with torch.no_grad():
        space.directions.copy_(torch.stack([torch.stack(m, 1) for m in moves]))
    own = replace(model.config, deformation=config)
    return replace(model, config=own, deformation=space.requires_grad_(False).eval())


def shaped_cells(latent: Tensor, pose: Pose, noise: float = 0.0, seed: int = 0) -> FeatureMap:
    """A feature map of the car in another shape: its own rendering, dark clutter around."""
    model = shaped_model()
    moved = replace(model, template=model.mesh(latent), deformation=None)
    return _seen(moved, pose, CELLS, noise, seed, 0.3)


CAMERA_OF = Camera(390.0, 390.0, 168.0, 112.0, 224, 336)


def shaped_picture(
    latent: Tensor, pose: Pose, camera: Camera
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """A "photo" of the painted car in another shape, each vertex in its own paint, and its box."""
    model = shaped_model()
    mesh = model.mesh(latent)
    points = pose.apply(mesh.vertices)
    fragments = rasterize(points[None], mesh.faces, camera)
    colours = interpolate(paint(model.template), mesh.faces, fragments)[0].numpy()
    covered = (fragments.face_id[0] >= 0).numpy()[..., None]
    shown = np.where(covered, colours.round(), background((camera.height, camera.width), 0))
    pixels, _ = camera.project(points)
    low, high = pixels.amin(0).tolist(), pixels.amax(0).tolist()
    return shown.clip(0, 255).astype(np.uint8), (low[0], low[1], high[0], high[1])


def background(size: tuple[int, int], seed: int) -> np.ndarray:
    """A dark smooth picture (height, width, 3) with a little noise."""
    rng = generator(seed, "background")
    coarse = torch.from_numpy(rng.uniform(DARKEST, DARK, (1, 3, 5, 7)))
    smooth = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)[0]
    noisy = smooth.permute(1, 2, 0).numpy() + rng.normal(0, 2, (*size, 3))
    return noisy.clip(0, 80).astype(np.uint8)


def picture(pose: Pose, camera: Camera, seed: int = 0) -> np.ndarray:
    """A "photo" (H, W, 3) of the painted car before a dark background."""
    mesh = car_mesh()
    fragments = rasterize(pose.apply(mesh.vertices)[None], mesh.faces, camera)
    colours = interpolate(paint(mesh), mesh.faces, fragments)[0].numpy()
    covered = (fragments.face_id[0] >= 0).numpy()[..., None]
    shown = np.where(covered, colours.round(), background((camera.height, camera.width), seed))
    return shown.clip(0, 255).astype(np.uint8)


def photo_of(pose: Pose, camera: Camera, known: bool = False, seed: int = 0) -> Photo:
    """The picture as a Photo, which knows its camera or not."""
    return Photo.from_array(picture(pose, camera, seed), camera if known else None)


def look(
    azimuth: float, elevation: float = 10.0, theta: float = 0.0, distance: float = 3.0
) -> Pose:
    """The pose of a camera that looks at the object's centre; degrees."""
    angles = (math.radians(v) for v in (azimuth, elevation, theta))
    return Viewpoint(*angles, float(distance)).to_pose()


def aside(pose: Pose, camera: Camera, at: tuple[float, float]) -> Pose:
    """The pose turned about the camera until its centre projects to ``at``, photo pixels."""
    ray = camera.unproject(torch.tensor(at, dtype=torch.float64))
    return Pose(ray_rotation(ray).T, torch.zeros(3, dtype=torch.float64)) @ pose


def box_of(pose: Pose, camera: Camera) -> tuple[float, float, float, float]:
    """The box of the projected car, photo pixels, not clipped."""
    points, _ = camera.project(pose.apply(car_mesh().vertices))
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    return (low[0], low[1], high[0], high[1])


def cells_of(
    pose: Pose,
    camera: Camera = CELLS,
    noise: float = 0.0,
    seed: int = 0,
    clutter: float = 0.3,
    model: CategoryModel | None = None,
) -> FeatureMap:
    """A feature map as the network would see it: the model's own rendering, with noise.

    Args:
        pose: in the camera of the cells.
        camera: of the cells.
        noise: length of a random vector added to each unit feature.
        seed: of the noise.
        clutter: how well clutter explains a cell at least.
        model: what is rendered; default: the painted car.
    """
    return _seen(model or car_model(), pose, camera, noise, seed, clutter)


def _seen(
    model: CategoryModel, pose: Pose, camera: Camera, noise: float, seed: int, clutter: float
) -> FeatureMap:
    rendered, covered = model.render(pose, camera)
    rng = generator(seed, "cells")
    shape = (camera.height, camera.width, CHANNELS)
    extra = functional.normalize(torch.from_numpy(rng.normal(size=shape)), dim=-1)
    pick = torch.from_numpy(rng.integers(len(model.clutter), size=shape[:2]))
    features = torch.where(covered[..., None], rendered.double(), model.clutter[pick].double())
    features = functional.normalize(functional.normalize(features, dim=-1) + noise * extra, dim=-1)
    features = features.float()
    score = clutter_score(features, model.clutter).clamp_min(clutter)
    return FeatureMap(features, score, torch.ones(shape[:2], dtype=torch.bool), camera)


def nudged(pose: Pose, degrees: float, seed: int = 0, shift: float = 0.05) -> Pose:
    """The pose turned by ``degrees`` about a random axis and shifted by a share of the distance."""
    rng = generator(seed, "nudge")
    axis = torch.from_numpy(rng.normal(size=3))
    turn = so3_exp(axis / axis.norm() * math.radians(degrees))
    step = torch.from_numpy(rng.uniform(-1, 1, 3)) * shift * pose.t[2]
    return replace(pose, R=turn @ pose.R, t=pose.t + step * torch.tensor([0.5, 0.5, 1.0]))


def car_views(folder: Path, count: int, size: tuple[int, int] = (96, 128)) -> list[View]:
    """Views of the painted car all around, photos written into a folder; known cameras.

    Args:
        folder: where ``views.json`` and the photos go.
        count: how many, evenly over azimuth.
        size: (height, width) of the photos, pixels.
    """
    height, width = size
    views = []
    for k in range(count):
        rng = generator(k, "view")
        camera = Camera(1.3 * width, 1.3 * width, width / 2, height / 2, height, width)
        seen = look(360 * (k + 0.3) / count, rng.uniform(-5, 30), rng.normal(0, 4), 1.8)
        at = (width * rng.uniform(0.45, 0.55), height * rng.uniform(0.45, 0.55))
        pose = aside(seen, camera, at)
        Image.fromarray(picture(pose, camera, k)).save(folder / f"{k:03d}.png")
        x0, y0, x1, y1 = box_of(pose, camera)
        views.append(
            View(
                image=folder / f"{k:03d}.png",
                width=width,
                height=height,
                category="car",
                R=pose.R.numpy(),
                box=(max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))),
                K=camera.K.numpy(),
                t=pose.t.numpy(),
                t_unit="object",
                model_name=f"model {k % 8}",
                index=k,
                image_name=f"{k:03d}.png",
            )
        )
    write_views(folder / "views.json", views)
    return views


def write_obj(path: Path, mesh: Mesh) -> None:
    """Write vertices and faces as a Wavefront OBJ."""
    rows = [f"v {x} {y} {z}" for x, y, z in mesh.vertices.tolist()]
    rows += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    path.write_text("\n".join(rows) + "\n")
