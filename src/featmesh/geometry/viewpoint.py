"""The benchmark's spherical pose (azimuth, elevation, theta, distance) and rotations (spec 2.2)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .pose import Pose


def rotation_x(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Return rotations about x by ``angle`` radians."""
    c, s, o, l = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([l, o, o, o, c, -s, o, s, c], -1).reshape(*angle.shape, 3, 3)


def rotation_z(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Return rotations about z by ``angle`` radians."""
    c, s, o, l = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, -s, o, s, c, o, o, o, l], -1).reshape(*angle.shape, 3, 3)


def rotation_from_angles(
    azimuth: Float[Tensor, "*batch"],
    elevation: Float[Tensor, "*batch"],
    theta: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch 3 3"]:
    """Return ``cam_from_obj`` rotations of PASCAL3D+ angles (radians), OpenCV axes.

    ``R = diag(1, -1, -1) Rz(theta) Rx(elevation - pi/2) Rz(-azimuth)`` (spec 2.2).
    """
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=azimuth.dtype, device=azimuth.device))
    return flip @ rotation_z(theta) @ rotation_x(elevation - math.pi / 2) @ rotation_z(-azimuth)


def angles_from_rotation(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Return (azimuth in [0, 2 pi), elevation, theta in (-pi, pi]) of ``cam_from_obj`` rotations.

    At elevation +-90 degrees azimuth and theta are not separable; theta is then 0.
    """
    # the camera looks along -viewing direction: third row of R is -(direction to the camera)
    to_camera = -R[..., 2, :]
    elevation = torch.asin(to_camera[..., 2].clamp(-1, 1))
    pole = torch.hypot(to_camera[..., 0], to_camera[..., 1]) < 1e-9
    azimuth = torch.atan2(to_camera[..., 0], -to_camera[..., 1])
    # at a pole R = flip Rz(theta) Rx(..) Rz(-azimuth) leaves one angle: take it as azimuth
    azimuth = torch.where(pole, torch.atan2(R[..., 0, 1], R[..., 0, 0]), azimuth)
    upright = rotation_from_angles(azimuth, elevation, torch.zeros_like(azimuth))
    inplane = R @ upright.transpose(-1, -2)  # = flip Rz(theta) flip, a rotation about z by -theta
    theta = torch.atan2(inplane[..., 0, 1], inplane[..., 0, 0])
    azimuth = torch.remainder(azimuth, 2 * math.pi)
    azimuth = torch.where(azimuth < 2 * math.pi, azimuth, 0.0)  # -1e-17 is rounded to a full turn
    return torch.stack([azimuth, elevation, theta], -1)


def ray_rotation(ray: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the smallest rotation Q that takes the direction ``ray`` to +z: ``R_v = Q R``."""
    r = ray / ray.norm(dim=-1, keepdim=True)
    x, y, z = r.unbind(-1)
    # Q = I + [v]x + [v]x^2 / (1 + cos) with v = r x e_z = (y, -x, 0)
    k = 1 / (1 + z).clamp_min(1e-9)
    rows = [1 - x * x * k, -x * y * k, -x, -x * y * k, 1 - y * y * k, -y, x, y, z]
    return torch.stack(rows, -1).reshape(*ray.shape[:-1], 3, 3)


@dataclass(frozen=True)
class Viewpoint:
    """How the object is seen along the ray to its centre, as PASCAL3D+ defines it.

    Attributes:
        azimuth: radians in [0, 2 pi): 0 from the front, pi/2 from the object's left (+x).
        elevation: radians, positive from above.
        theta: in-plane rotation, radians, counter-clockwise.
        distance: camera to object centre, in the unit of the pose.
    """

    azimuth: float
    elevation: float
    theta: float
    distance: float

    def to_pose(self) -> Pose:
        """Return the pose in the camera that looks at the object's centre; t = (0, 0, distance)."""
        angles = torch.tensor([self.azimuth, self.elevation, self.theta], dtype=torch.float64)
        R = rotation_from_angles(*angles.unbind(0))
        return Pose(R, torch.tensor([0.0, 0.0, self.distance], dtype=torch.float64))

    @classmethod
    def from_pose(cls, cam_from_obj: Pose) -> "Viewpoint":
        """Return how a single pose is seen along the ray to t."""
        R = (ray_rotation(cam_from_obj.t) @ cam_from_obj.R).double()
        azimuth, elevation, theta = angles_from_rotation(R).tolist()
        return cls(azimuth, elevation, theta, float(cam_from_obj.t.norm()))
