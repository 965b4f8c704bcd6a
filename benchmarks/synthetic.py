"""Synthetic render-and-compare cases: a car-like mesh, its features in clutter, noise, occluders.

What makes a case hard: features that change within few cells, noise (the mean cosine to the truth),
features that are partly the same on left and right, front and back, and a box that is off.
"""

import math
from dataclasses import dataclass

import torch
from synthetic_car import car_mesh
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.inference.scan import place
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.model.config import ModelConfig

ROWS, COLUMNS, CHANNELS, STRIDE = 80, 112, 128, 8


@dataclass(frozen=True)
class Difficulty:
    """What is against the search.

    Attributes:
        frequency: of the features on the surface, radians per object unit.
        noise: length of the noise added to a unit feature.
        occluded: share of the object's cells that is hidden.
        symmetric: share of a feature that is equal left and right, front and back.
        smooth: half width of the box filter over the noise, cells.
        spread: range of scale and shift.
    """

    frequency: float
    noise: float
    occluded: float
    symmetric: float = 0.0
    smooth: int = 0
    spread: float = 1.0


DIFFICULTIES = {
    "easy": Difficulty(9.0, 1.0, 0.4),
    "middle": Difficulty(22.0, 2.0, 0.4),
    "hard": Difficulty(22.0, 2.0, 0.4, 0.6, 2, 3.0),
    "very hard": Difficulty(36.0, 2.5, 0.5, 0.7, 3, 4.0),
}


@dataclass(frozen=True)
class Case:
    """A feature map, the model that explains it, and the true pose.

    Attributes:
        model: template and texture; it has no network.
        cells: the feature map.
        pose: the truth.
        hidden: share of the object's cells behind occluders.
        cosine: mean cosine of the visible cells' features to the rendered ones.
    """

    model: CategoryModel
    cells: FeatureMap
    pose: Pose
    hidden: float
    cosine: float


def smooth_features(points: Tensor, frequency: float, g: torch.Generator) -> Tensor:
    """Return random unit vectors that change smoothly over the points."""
    waves = torch.randn(3, CHANNELS, generator=g, dtype=torch.float64) * frequency
    phase = torch.rand(CHANNELS, generator=g, dtype=torch.float64) * 2 * math.pi
    return normalize(torch.sin(points @ waves + phase), dim=1)


def make_case(name: str, index: int, seed: int = 0) -> Case:
    """Return the case of a difficulty and a number."""
    d = DIFFICULTIES[name]
    draws = generator(seed, f"synthetic {name}", 0, index)
    g = torch.Generator().manual_seed(int(draws.integers(2**62)))
    mesh = car_mesh()
    texture = smooth_features(mesh.vertices, d.frequency, g)
    both = mesh.vertices * torch.tensor([1.0, 1.0, 1.0])
    both[:, :2] = both[:, :2].abs()
    alike = smooth_features(both, d.frequency, g)
    texture = normalize(d.symmetric * alike + (1 - d.symmetric) * texture, dim=1).float()
    pose, camera = _pose_and_camera(mesh, d, g)
    centres = normalize(torch.randn(5, CHANNELS, generator=g), dim=1)
    size = (ROWS * STRIDE, COLUMNS * STRIDE)
    config = ModelConfig(channels=CHANNELS, stride=STRIDE, crop_height=size[0], crop_width=size[1])
    model = CategoryModel("car", config, mesh, texture, centres, torch.nn.Identity())  # type: ignore[arg-type]
    rendered, thing = model.render(pose, camera)
    rendered = normalize(rendered.float() + 1e-9, dim=-1)
    hidden = _occluders(thing, d.occluded, g)
    visible = thing & ~hidden
    mixture = torch.randn(1, 5, ROWS // 8, COLUMNS // 8, generator=g) * 2
    mixture = interpolate(mixture, size=(ROWS, COLUMNS), mode="bilinear")[0].softmax(0)
    behind = normalize(torch.einsum("khw,kc->hwc", mixture, centres), dim=-1)
    clean = torch.where(visible[..., None], rendered, behind)
    features = normalize(clean + d.noise * _noise(d.smooth, g) / math.sqrt(CHANNELS), dim=-1)
    clutter = (features @ centres.T).amax(-1)
    valid = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    cosine = float((features[visible] * rendered[visible]).sum(-1).mean())
    share = 1 - float(visible.sum()) / float(thing.sum())
    return Case(model, FeatureMap(features, clutter, valid, camera), pose, share, cosine)


def _pose_and_camera(mesh: Mesh, d: Difficulty, g: torch.Generator) -> tuple[Pose, Camera]:
    """Return a viewpoint of a street, in a crop whose box is off by the spread."""
    u = torch.rand(6, generator=g, dtype=torch.float64)
    angles = (u[0] * 2 * math.pi, torch.deg2rad(-10 + 50 * u[1]), torch.deg2rad(30 * (u[2] - 0.5)))
    R = rotation_from_angles(*angles)
    t, focal = place(mesh.vertices.numpy(), R.numpy(), 2.4, (ROWS, COLUMNS))
    off = torch.stack([0.08 * (u[3] - 0.5), 0.08 * (u[4] - 0.5), 0.24 * (u[5] - 0.5)]) * d.spread
    focal *= FILL
    camera = Camera(focal, focal, COLUMNS / 2, ROWS / 2, ROWS, COLUMNS)
    return Pose(R, torch.from_numpy(t) + off), camera


def _noise(smooth: int, g: torch.Generator) -> Tensor:
    noise = torch.randn(ROWS, COLUMNS, CHANNELS, generator=g)
    if not smooth:
        return noise
    wide = 2 * smooth + 1
    planes = noise.permute(2, 0, 1)[None]
    planes = avg_pool2d(planes, wide, 1, smooth, count_include_pad=False)[0]
    return (planes / planes.std()).permute(1, 2, 0)


def _occluders(thing: Tensor, share: float, g: torch.Generator) -> Tensor:
    """Return rectangles that hide ``share`` to ``share + .08`` of the object's cells."""
    hidden = torch.zeros_like(thing)
    ys, xs = thing.nonzero(as_tuple=True)
    while (hidden & thing).sum() < share * len(ys):
        k = int(torch.randint(len(ys), (1,), generator=g))
        high, wide = (int(torch.randint(3, 9, (1,), generator=g)) for _ in range(2))
        y, x = int(ys[k]), int(xs[k])
        hidden[max(0, y - high) : y + high + 1, max(0, x - 2 * wide) : x + 2 * wide + 1] = True
        if (hidden & thing).sum() > (share + 0.08) * len(ys):
            hidden[:] = False
    return hidden
