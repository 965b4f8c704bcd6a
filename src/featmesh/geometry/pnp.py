"""Pose from points known on the object and in the picture (PnP).

From many rotations orthogonal iteration (Lu, Hager, Mjolsness 2000) goes to poses whose points lie
on the rays of their pixels, and the distance in pixels settles the last digits. Few or coplanar
points may allow several poses: all are returned.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featmesh.errors import InputError

from .camera import Camera
from .pose import Pose
from .rotations import geodesic_angle, procrustes
from .viewpoint import rotation_from_angles

FEWEST = 4
AZIMUTHS, ELEVATIONS, THETAS = 8, (-55.0, 5.0, 65.0), 4  # starts: all around, any side up
GLANCE, LONG = 20, 150  # iterations of all starts, and of the best
BEST = 16  # starts that go on
APART = math.radians(4)  # two poses closer than this are one
FLAT = 1e-3  # of the points' spread: what is thinner in two directions is a line
NEAREST = 1e-3  # depth that lies before the camera, object units


@dataclass(frozen=True)
class PointFit:
    """A pose that explains points.

    Attributes:
        pose: ``cam_from_obj``, in the unit of the points.
        rms: root mean square distance of projected points and their pixels, pixels.
    """

    pose: Pose
    rms: float


def pnp(
    points: Float[Tensor, "n 3"], pixels: Float[Tensor, "n 2"], camera: Camera
) -> tuple[PointFit, ...]:
    """Return the poses that take points of an object to their pixels, best first.

    Args:
        points: object frame; four or more, not on a line.
        pixels: where each is seen, x and y.
        camera: of the picture.

    Raises:
        InputError: E_KEYPOINTS with fewer points, points on a line, or none that fit a pose before
            the camera.
    """
    points, pixels = points.double(), pixels.double()
    _check(points, pixels)
    rays = camera.unproject(pixels)
    rays = rays / rays.norm(dim=1, keepdim=True)
    onto = rays[:, :, None] * rays[:, None, :]
    R = _starts()
    R, off = _iterate(points, onto, R, GLANCE)
    R, off = _iterate(points, onto, R[off.argsort()[:BEST]], LONG)
    found: list[PointFit] = []
    for rotation in R[off.argsort()]:
        start = Pose(rotation, _translation(points, onto, rotation[None])[0])
        if not _before(start, points) or _known(start, found):
            continue
        fit = _polished(start, points, pixels, camera)
        if _before(fit.pose, points) and not _known(fit.pose, found):
            found.append(fit)
    if not found:
        raise _bad("points that a pose before the camera explains", "none", "check the pairs")
    return tuple(sorted(found, key=lambda fit: fit.rms))


def _check(points: Tensor, pixels: Tensor) -> None:
    if len(points) != len(pixels) or len(points) < FEWEST:
        got = f"{len(points)} and {len(pixels)}"
        raise _bad(f"{FEWEST} or more points, each with its pixel", got, "click more points")
    if not bool(points.isfinite().all() and pixels.isfinite().all()):
        raise _bad("finite points and pixels", "nan or infinity", "leave those points out")
    spread = torch.linalg.svdvals(points - points.mean(0))
    if spread[1] <= FLAT * spread[0]:
        raise _bad("points that span a surface", "points on a line", "click one beside the line")


def _starts() -> Float[Tensor, "s 3 3"]:
    turns = [2 * math.pi * k / AZIMUTHS for k in range(AZIMUTHS)]
    lifts = [math.radians(e) for e in ELEVATIONS]
    rolls = [2 * math.pi * k / THETAS for k in range(THETAS)]
    grid = torch.cartesian_prod(*(torch.tensor(v, dtype=torch.float64) for v in (turns, lifts)))
    grid = grid.repeat_interleave(THETAS, 0)
    roll = torch.tensor(rolls, dtype=torch.float64).repeat(len(grid) // THETAS)
    return rotation_from_angles(grid[:, 0], grid[:, 1], roll)


def _translation(
    points: Float[Tensor, "n 3"], onto: Float[Tensor, "n 3 3"], R: Float[Tensor, "s 3 3"]
) -> Float[Tensor, "s 3"]:
    """Return the translations that bring rotated points nearest to their rays."""
    eye = torch.eye(3, dtype=points.dtype)
    turned = points @ R.transpose(1, 2)
    pull = ((onto - eye) @ turned[..., None])[..., 0].mean(1)
    return pull @ torch.linalg.inv(eye - onto.mean(0)).T


def _iterate(
    points: Float[Tensor, "n 3"],
    onto: Float[Tensor, "n 3 3"],
    R: Float[Tensor, "s 3 3"],
    steps: int,
) -> tuple[Float[Tensor, "s 3 3"], Float[Tensor, " s"]]:
    """Return the rotations after some steps of orthogonal iteration, and how far off they are."""
    centred = points - points.mean(0)
    for _ in range(steps):
        moved = points @ R.transpose(1, 2) + _translation(points, onto, R)[:, None]
        aims = (onto @ moved[..., None])[..., 0]
        R = procrustes((aims - aims.mean(1, keepdim=True)).transpose(1, 2) @ centred)
    t = _translation(points, onto, R)
    moved = points @ R.transpose(1, 2) + t[:, None]
    off = (moved - (onto @ moved[..., None])[..., 0]).square().sum((1, 2))
    behind = (moved[..., 2] < NEAREST).any(1)
    # a far object is off by little in pixels: distances are told in units of the depth
    return R, off / t.square().sum(1) + 1e6 * behind


def _before(pose: Pose, points: Tensor) -> bool:
    return bool((pose.apply(points)[:, 2] > NEAREST).all())


def _known(pose: Pose, found: list[PointFit]) -> bool:
    return any(float(geodesic_angle(pose.R, fit.pose.R)) < APART for fit in found)


def _polished(start: Pose, points: Tensor, pixels: Tensor, camera: Camera) -> PointFit:
    """Return the pose near another one whose points are nearest to their pixels."""
    from scipy.optimize import least_squares

    def off(twist: np.ndarray) -> np.ndarray:
        pose = start.update(torch.from_numpy(twist))
        return (camera.project(pose.apply(points))[0] - pixels).flatten().numpy()

    best = least_squares(off, np.zeros(6), x_scale="jac", max_nfev=60)
    rms = math.sqrt(2 * best.cost / len(points))
    return PointFit(start.update(torch.from_numpy(best.x)), rms)


def _bad(expected: str, got: str, hint: str) -> InputError:
    return InputError("E_KEYPOINTS", f"pnp(): expected {expected}, got {got}; try: {hint}")
