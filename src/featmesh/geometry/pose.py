"""Rigid transforms in SE(3), batched and differentiable: the object's ``cam_from_obj``."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def hat(w: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the cross-product matrices of vectors: ``hat(w) @ x == cross(w, x)``."""
    x, y, z = w.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*w.shape[:-1], 3, 3)


def so3_exp(w: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotations by ``|w|`` radians about ``w``; smooth at zero (Rodrigues)."""
    square = (w * w).sum(-1)[..., None, None]
    small = square < 1e-8
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    K = hat(w)
    return torch.eye(3, dtype=w.dtype, device=w.device) + a * K + b * (K @ K)


def so3_log(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Return the rotation vectors (radians) of rotations; exact near 0 and near pi."""
    vee = torch.stack(
        [R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1
    )
    sine = vee.norm(dim=-1) / 2
    cosine = (R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    angle = torch.atan2(sine, cosine)
    scale = torch.where(
        sine > 1e-6, angle / (2 * sine).clamp_min(1e-12), torch.full_like(sine, 0.5)
    )
    near_pi = (cosine < 0) & (sine < 1e-4)
    # near pi the axis is the largest column of the symmetric part, (R + R^T)/2 - cos I
    eye = torch.eye(3, dtype=R.dtype, device=R.device)
    outer = (R + R.transpose(-1, -2)) / 2 - cosine[..., None, None] * eye
    column = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    axis = torch.gather(outer, -1, column[..., None, None].expand(*column.shape, 3, 1))[..., 0]
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    axis = axis * torch.where((axis * vee).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return torch.where(near_pi[..., None], axis * angle[..., None], vee * scale[..., None])


@dataclass(frozen=True)
class Pose:
    """A rigid transform ``B_from_A``: ``x_B = R @ x_A + t``; as ``cam_from_obj`` in OpenCV axes.

    Attributes:
        R: rotations, proper.
        t: translations, in the unit of the points (object units, or metres where said so).
    """

    R: Float[Tensor, "*batch 3 3"]
    t: Float[Tensor, "*batch 3"]

    @classmethod
    def identity(cls, dtype: torch.dtype = torch.float64) -> "Pose":
        """Return the transform that moves nothing."""
        return cls(torch.eye(3, dtype=dtype), torch.zeros(3, dtype=dtype))

    @classmethod
    def exp(cls, twist: Float[Tensor, "*batch 6"]) -> "Pose":
        """Return the transform of a twist (rotation vector in radians, then translation).

        Rotation and translation are decoupled, ``(exp(w), v)``: an update ``Pose.exp(d)`` turns the
        object about its own centre and shifts it, see :meth:`update`.
        """
        return cls(so3_exp(twist[..., :3]), twist[..., 3:])

    @classmethod
    def from_matrix(cls, matrix: Float[Tensor, "*batch 4 4"]) -> "Pose":
        """Return the transform of a homogeneous matrix."""
        return cls(matrix[..., :3, :3], matrix[..., :3, 3])

    def log(self) -> Float[Tensor, "*batch 6"]:
        """Return the twist of which :meth:`exp` gives this transform back."""
        return torch.cat([so3_log(self.R), self.t], -1)

    def as_matrix(self) -> Float[Tensor, "*batch 4 4"]:
        """Return the homogeneous matrix."""
        top = torch.cat([self.R, self.t[..., None]], -1)
        last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device)
        return torch.cat([top, last.expand(*top.shape[:-2], 1, 4)], -2)

    def inverse(self) -> "Pose":
        """Return ``A_from_B``."""
        back = self.R.transpose(-1, -2)
        return Pose(back, -(back @ self.t[..., None])[..., 0])

    def __matmul__(self, other: "Pose") -> "Pose":
        return Pose(self.R @ other.R, (self.R @ other.t[..., None])[..., 0] + self.t)

    def apply(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        """Return the points of space A in space B."""
        return points @ self.R.transpose(-1, -2) + self.t[..., None, :]

    def update(self, twist: Float[Tensor, "*batch 6"]) -> "Pose":
        """Turn the object about its centre by ``twist[:3]`` (camera axes), then shift it."""
        return Pose(so3_exp(twist[..., :3]) @ self.R, self.t + twist[..., 3:])
