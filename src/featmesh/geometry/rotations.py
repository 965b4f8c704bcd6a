"""Distances on SO(3), and the rotation nearest to a matrix."""

import torch
from jaxtyping import Float
from torch import Tensor


def geodesic_angle(
    R1: Float[Tensor, "*#batch 3 3"], R2: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Return the angle of the rotation between two rotations, radians in [0, pi].

    ``atan2(|vee(R - R^T)| / 2, (tr R - 1) / 2)`` of ``R = R1^T R2`` in float64 (spec 4.1): exact at
    0 and at pi, where arccos and the matrix logarithm are not. Not for gradients: at 0 and at pi
    the angle has none.
    """
    R = R1.double().transpose(-1, -2) @ R2.double()
    vee = torch.stack(
        [R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1
    )
    trace = R.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(vee.norm(dim=-1) / 2, (trace - 1) / 2)


def procrustes(M: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the proper rotations nearest to matrices, in the Frobenius norm (Kabsch).

    Where M has rank 1 or less, or det M < 0 and the two smallest singular values are equal, several
    rotations are equally near and one of them is returned.
    """
    U, _, Vt = torch.linalg.svd(M)
    sign = torch.det(U @ Vt)
    ones = torch.ones_like(sign)
    return (U * torch.stack([ones, ones, sign], -1)[..., None, :]) @ Vt
