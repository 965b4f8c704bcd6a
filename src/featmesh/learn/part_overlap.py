"""Labels that ascend the overlap of drawn and annotated parts over all photos (ours).

A vote by majority paints a small part nowhere if it lies now here, now there; the overlap (IoU), a
mean over parts, says where to paint it. Labels are moved as logits by Adam; the argmax of drawing
is softened by a power. Mirror images stay mirror images.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import mirror_index
from featmesh.model.labels import Labels

from .part_votes import Sighting, mirrored_names, points
from .parts_config import PartsConfig

FLOOR = 0.01  # of a weight at the start: what nobody votes for can still come


def raise_overlap(
    template: Mesh, labels: Labels, seen: Sequence[Sighting], config: PartsConfig
) -> Labels:
    """Return labels whose drawn parts overlap the annotations more; unchanged for 0 steps."""
    if config.steps < 1:
        return labels
    size = len(labels.names) + 1
    corners, bary, counts = _counts(template, seen, size)
    missed = torch.from_numpy(sum((s.missed for s in seen), np.zeros(size))).float()
    edges = torch.cat([template.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    mirror = mirror_index(template), torch.from_numpy(mirrored_names(labels.names))
    logits = (labels.weights + FLOOR).log().requires_grad_(True)
    adam = torch.optim.Adam([logits], lr=config.lr)
    for _ in range(config.steps):
        weights = _weights(logits, mirror if config.mirror else None)
        drawn = ((weights[corners] * bary[..., None]).sum(1) + 1e-6) ** config.sharp
        drawn = drawn / drawn.sum(1, keepdim=True)
        shared = (drawn * counts).sum(0)
        either = (drawn * counts.sum(1, keepdim=True)).sum(0) + counts.sum(0) - shared + missed
        there = counts.sum(0) + missed > 0
        there[0] = False
        rough = (weights[edges[:, 0]] - weights[edges[:, 1]]).square().sum(1).mean()
        loss = config.rough * rough - (shared / either.clamp_min(1e-9))[there].mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        return Labels(labels.names, _weights(logits, mirror if config.mirror else None))


def _weights(
    logits: Float[Tensor, "v n1"], mirror: tuple[Tensor, Tensor] | None
) -> Float[Tensor, "v n1"]:
    if mirror is not None:
        logits = (logits + logits[mirror[0]][:, mirror[1]]) / 2
    return torch.softmax(logits, 1)


def _counts(
    template: Mesh, seen: Sequence[Sighting], size: int
) -> tuple[Int[Tensor, "n 3"], Float[Tensor, "n 3"], Float[Tensor, "n n1"]]:
    """Return the places that are seen, corners and barycentrics, and what is annotated there."""
    place, row = np.unique(np.concatenate([s.place for s in seen]), return_inverse=True)
    cell = row * size + np.concatenate([s.part for s in seen])
    share = np.concatenate([s.share for s in seen])
    counts = np.bincount(cell, share, len(place) * size).reshape(-1, size)
    face, bary = points(place)
    corners = template.faces[torch.from_numpy(face)]
    return corners, torch.from_numpy(bary).float(), torch.from_numpy(counts).float()
