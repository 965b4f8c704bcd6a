"""Meshes, poses and cameras of the renderer's tests, all generated."""

import math

import torch
from torch import Tensor

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose

CAMERA = Camera(fx=190.0, fy=190.0, cx=56.0, cy=40.0, height=80, width=112)


def rng(*key: int) -> torch.Generator:
    draws = generator(key[0], "render tests", 0, key[-1] if len(key) > 1 else 0)
    return torch.Generator().manual_seed(int(draws.integers(2**31)))


def cube_sphere(n: int) -> tuple[Tensor, Tensor]:
    """A unit sphere of 12 n^2 outward faces, vertices shared; float64."""
    t = torch.linspace(-1, 1, n + 1, dtype=torch.float64)
    a, b = torch.meshgrid(t, t, indexing="ij")
    one = torch.ones_like(a)
    sides = [(one, a, b), (-one, b, a), (b, one, a), (a, -one, b), (a, b, one), (b, a, -one)]
    points = torch.cat([torch.stack(side, -1).reshape(-1, 3) for side in sides])
    corner = (torch.arange(n)[:, None] * (n + 1) + torch.arange(n)).reshape(-1)
    corner = (torch.arange(6)[:, None] * (n + 1) ** 2 + corner).reshape(-1)
    i, j, k, m = corner, corner + n + 1, corner + n + 2, corner + 1
    faces = torch.cat([torch.stack([i, j, k], 1), torch.stack([i, k, m], 1)])
    _, welded = (points * 2**20).round().unique(dim=0, return_inverse=True)
    vertices = torch.zeros(int(welded.max()) + 1, 3, dtype=torch.float64)
    vertices[welded] = points
    return vertices / vertices.norm(dim=1, keepdim=True), welded[faces]


def car(n: int) -> tuple[Tensor, Tensor]:
    """A closed car-like surface: body, cabin, wheel arches (concave); diagonal 1, up +z."""
    sphere, faces = cube_sphere(n)
    cube = sphere / sphere.abs().amax(1, keepdim=True)
    x, y, z = (0.55 * cube + 0.55 * sphere).unbind(1)
    cabin = torch.sigmoid((0.55 - (y - 0.08).abs()) / 0.06)
    up = z.clamp_min(0)
    arch = torch.exp(-(((y.abs() - 0.62) / 0.17) ** 2)) * (-z).clamp_min(0)
    side = x * (0.42 - 0.08 * cabin * up.clamp_max(1))
    height = 0.35 * z + 0.75 * up * cabin * (z > 0) + 0.12 * arch
    vertices = torch.stack([side, y, height], 1)
    low, high = vertices.amin(0), vertices.amax(0)
    return (vertices - (low + high) / 2) / (high - low).norm(), faces


def smooth_features(vertices: Tensor, channels: int, seed: int = 0) -> Tensor:
    """Random smooth unit vectors on the surface."""
    g = rng(seed, 1)
    waves = torch.randn(3, channels, generator=g, dtype=torch.float64) * 8
    phase = torch.rand(channels, generator=g, dtype=torch.float64) * 2 * math.pi
    return torch.nn.functional.normalize(torch.sin(vertices @ waves + phase), dim=1)


def look(azimuth: float, elevation: float, theta: float = 0.0, distance: float = 2.4) -> Pose:
    """A pose that looks at the origin from there, radians; z of the object is up."""
    ca, sa = math.cos(azimuth), math.sin(azimuth)
    ce, se = math.cos(elevation), math.sin(elevation)
    away = torch.tensor([sa * ce, -ca * ce, se], dtype=torch.float64)
    right = torch.tensor([ca, sa, 0.0], dtype=torch.float64)
    R = torch.stack([right, torch.linalg.cross(-away, right), -away])
    roll = Pose.exp(torch.tensor([0, 0, theta, 0, 0, distance], dtype=torch.float64))
    return Pose(roll.R @ R, roll.t)


def random_poses(count: int, seed: int) -> Pose:
    g = rng(seed, 2)
    spread = torch.rand(count, 4, generator=g, dtype=torch.float64).tolist()
    poses = [look(6.28 * a, 0.8 * e - 0.2, 0.4 * t, 1.6 + 2 * d) for a, e, t, d in spread]
    return Pose(torch.stack([p.R for p in poses]), torch.stack([p.t for p in poses]))


def place(vertices: Tensor, pose: Pose) -> Tensor:
    """One mesh in a batch of poses, camera axes."""
    return pose.apply(vertices.expand(len(pose.t), -1, -1))


def triangle_soup(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Triangles of every size, slivers and repeats among them, some behind the camera, float64."""
    g = rng(seed, 3)
    centre = torch.randn(count, 1, 3, generator=g, dtype=torch.float64)
    size = 10 ** (2 * torch.rand(count, 1, 1, generator=g, dtype=torch.float64) - 2)
    points = centre + size * torch.randn(count, 3, 3, generator=g, dtype=torch.float64)
    points[::7, 2] = points[::7, 1] + 1e-4 * (points[::7, 2] - points[::7, 0])
    points[1::50] = points[::50][: len(points[1::50])]
    points[..., 2] += 2.5
    return points.reshape(1, -1, 3), torch.arange(3 * count).reshape(-1, 3)


def shown(
    vertices: Tensor, faces: Tensor, pose: Pose, camera: Camera = CAMERA
) -> tuple[Tensor, Tensor, Camera]:
    """The arguments of ``rasterize`` for one pose: a batch of one."""
    return pose.apply(vertices)[None], faces, camera
