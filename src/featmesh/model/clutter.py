"""What everything else looks like: a queue of background features, and their cluster centres."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def push(queue: Float[Tensor, "m c"], features: Float[Tensor, "n c"]) -> Float[Tensor, "m c"]:
    """Return the queue with the newest features in front and the oldest dropped (spec 2.7)."""
    return torch.cat([features.detach().to(queue.dtype), queue])[: len(queue)]


def cluster(
    features: Float[Tensor, "m c"], k: int, generator: torch.Generator, steps: int = 30
) -> Float[Tensor, "k c"]:
    """Return ``k`` unit centres of features by spherical k-means (ours; spec 2.7: the mean).

    Empty clusters keep their centre.
    """
    start = torch.randperm(len(features), generator=generator)[:k]
    centres = features[start].clone()
    for _ in range(steps):
        owner = (features @ centres.T).argmax(1)
        total = torch.zeros_like(centres).index_add_(0, owner, features)
        empty = total.norm(dim=1, keepdim=True) < 1e-6
        centres = torch.where(empty, centres, functional.normalize(total, dim=1))
    return centres


def clutter_score(
    features: Float[Tensor, "*map c"], centres: Float[Tensor, "k c"]
) -> Float[Tensor, "*map"]:
    """Return how well clutter explains each feature: the best centre's cosine (spec 2.10)."""
    return (features @ centres.T).amax(-1)
