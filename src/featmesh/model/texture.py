"""The neural texture: one learned unit vector for every anchor on the surface (spec 2.7).

Anchors are the template's vertices: between them the texture is interpolated over the face, and a
deformation of the template carries it along without changing it.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def initial_texture(
    anchors: int, channels: int, generator: torch.Generator
) -> Float[Tensor, "v c"]:
    """Return random unit vectors, one per anchor."""
    return functional.normalize(torch.randn(anchors, channels, generator=generator), dim=1)


@torch.no_grad()
def momentum_update(
    texture: Float[Tensor, "v c"],
    features: Float[Tensor, "n c"],
    anchor: Int[Tensor, " n"],
    momentum: float,
) -> tuple[Float[Tensor, "v c"], Bool[Tensor, " v"]]:
    """Move each anchor's vector towards the mean of the features seen there.

    The mean divides by how often the anchor was seen, not by the batch (ours; the lineage divides
    by the batch, so that rarely seen anchors hardly move, spec 2.7).

    Args:
        texture: unit vectors.
        features: unit features sampled at visible anchors.
        anchor: which anchor each feature was sampled at.
        momentum: share of the old vector that is kept.

    Returns:
        The new unit vectors, and which anchors were seen.
    """
    total = torch.zeros_like(texture).index_add_(0, anchor, features.to(texture.dtype))
    count = torch.zeros(len(texture), dtype=texture.dtype).index_add_(
        0, anchor, torch.ones(len(anchor), dtype=texture.dtype)
    )
    seen = count > 0
    mean = total / count.clamp_min(1)[:, None]
    moved = functional.normalize(momentum * texture + (1 - momentum) * mean, dim=1)
    return torch.where(seen[:, None], moved, texture), seen


def near_anchors(vertices: Float[Tensor, "v 3"], radius: float) -> Bool[Tensor, "v v"]:
    """Return which anchors are too close to one another to be told apart (spec 2.8, N(r)).

    Args:
        vertices: anchor positions, object units.
        radius: object units; an anchor is not its own neighbour.
    """
    near = torch.cdist(vertices.float(), vertices.float()) < radius
    return near & ~torch.eye(len(vertices), dtype=torch.bool)
