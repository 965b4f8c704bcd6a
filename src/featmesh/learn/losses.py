"""The contrastive objective: a pixel's feature belongs to its surface point (spec 2.8)."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

FAR = 1e5  # subtracted from the logit of an anchor that is not to be told apart


def contrastive_logits(
    features: Float[Tensor, "n c"],
    anchor: Int[Tensor, " n"],
    texture: Float[Tensor, "v c"],
    clutter: Float[Tensor, "m c"],
    near: Bool[Tensor, "v v"],
    temperature: float,
    clutter_weight: float,
) -> Float[Tensor, "n vm"]:
    """Return the logits of each feature over all anchors, then all clutter vectors."""
    objects = features @ texture.T / temperature
    objects = objects - FAR * near[anchor].to(objects.dtype)
    others = features @ clutter.T / temperature + math.log(clutter_weight)
    return torch.cat([objects, others], 1)


def contrastive_loss(
    features: Float[Tensor, "n c"],
    anchor: Int[Tensor, " n"],
    texture: Float[Tensor, "v c"],
    clutter: Float[Tensor, "m c"],
    near: Bool[Tensor, "v v"],
    temperature: float = 0.07,
    clutter_weight: float = 0.005,
) -> Float[Tensor, " n"]:
    """Return -log p(anchor | feature) of each feature, near anchors left out (spec 2.8).

    Args:
        features: unit vectors sampled at visible anchors.
        anchor: which anchor each was sampled at.
        texture: unit vector of each anchor; no gradient flows into it.
        clutter: unit vectors of the background.
        near: anchors that are too close to be told apart.
        temperature: of the softmax.
        clutter_weight: omega, weight of one clutter vector in the denominator.
    """
    logits = contrastive_logits(
        features, anchor, texture, clutter, near, temperature, clutter_weight
    )
    return functional.cross_entropy(logits, anchor, reduction="none")


def background_loss(
    features: Float[Tensor, "n c"],
    texture: Float[Tensor, "v c"],
    clutter: Float[Tensor, "m c"],
    temperature: float = 0.07,
    clutter_weight: float = 0.005,
) -> Float[Tensor, " n"]:
    """Return -log p(clutter | feature) of background features (ours).

    The lineage only pushes background features away from anchors by their mean cosine; the
    likelihood form keeps pushing the few anchors that look like background.
    """
    objects = (features @ texture.T / temperature).logsumexp(1)
    others = (features @ clutter.T / temperature + math.log(clutter_weight)).logsumexp(1)
    return functional.softplus(objects - others)
