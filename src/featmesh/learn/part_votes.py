"""Votes for the parts of a surface: what annotated pixels say of the places they show (ours).

A place is a small triangle of a face: SPLIT of them along each side. Pixels of the same place and
the same annotation are counted together, so that any number of photos costs little.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import splu

from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import mirror_index
from featmesh.inference.result import Segmentation
from featmesh.model.labels import Labels

from .parts_config import PartsConfig

SPLIT = 4
UNSEEN = 1e-6  # of the mean vertex' votes: what is in reach of no vote is no part


@dataclass(frozen=True, eq=False)
class Sighting:
    """What one photo says of the surface.

    Attributes:
        id: of the photo.
        place: of the surface, see :func:`places`.
        part: what is annotated there, 0 for no part.
        share: of the pixels in which the object is seen; they sum to 1.
        missed: pixels annotated as each part (0: none) in which the object is not seen, in the
            same unit.
    """

    id: int
    place: Int[np.ndarray, " n"]
    part: UInt8[np.ndarray, " n"]
    share: Float[np.ndarray, " n"]
    missed: Float[np.ndarray, " n1"]


def sighting_of(
    photo: int, labels: UInt8[np.ndarray, "h w"], seen: Segmentation, parts: int
) -> Sighting:
    """Return what a photo says whose object is visible.

    Args:
        photo: its id.
        labels: part of each pixel, 0 for none.
        seen: where the object is.
        parts: how many there are.
    """
    visible, size = seen.visible, parts + 1
    bary = seen.bary[visible[seen.amodal]]
    cell = places(seen.face_id[visible], bary) * size + labels[visible]
    found, pixels = np.unique(cell, return_counts=True)
    missed = np.bincount(labels[~visible], minlength=size) / len(cell)
    part = (found % size).astype(np.uint8)
    return Sighting(photo, found // size, part, pixels / len(cell), missed)


def places(face: Int[np.ndarray, " n"], bary: Float32[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """Return the number of the small triangle that holds each point of a surface."""
    # a little less than the number itself: corners of small triangles belong to one of them
    u, v, w = np.clip(bary * SPLIT - 1e-4, 0, SPLIT - 1).astype(np.int64).T
    turned = (u + v + w < SPLIT - 1).astype(np.int64)
    return ((face.astype(np.int64) * SPLIT + u) * SPLIT + v) * 2 + turned


def points(
    place: Int[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
    """Return face and barycentrics of the middle of each small triangle."""
    rest, turned = np.divmod(place, 2)
    rest, v = np.divmod(rest, SPLIT)
    face, u = np.divmod(rest, SPLIT)
    first = (u + (1 + turned) / 3) / SPLIT
    second = (v + (1 + turned) / 3) / SPLIT
    return face, np.stack([first, second, 1 - first - second], 1)


def elect(
    template: Mesh, seen: Sequence[Sighting], names: tuple[str, ...], config: PartsConfig
) -> Labels:
    """Return the labels that some sightings vote for."""
    total = np.zeros((len(template.vertices), len(names) + 1))
    for s in seen:
        total += votes(template, s, len(names))
    if config.mirror:
        total += total[mirror_index(template).numpy()][:, mirrored_names(names)]
    return Labels(names, torch.from_numpy(smoothed(template, total, config.smooth)).float())


def votes(template: Mesh, s: Sighting, parts: int) -> Float[np.ndarray, "v n1"]:
    """Return how much a sighting says for each part at each vertex; column 0 is no part."""
    face, bary = points(s.place)
    cell = template.faces.numpy()[face] * (parts + 1) + s.part[:, None].astype(np.int64)
    size = len(template.vertices) * (parts + 1)
    total = np.bincount(cell.ravel(), (bary * s.share[:, None]).ravel(), size)
    return total.reshape(-1, parts + 1)


def mirrored_names(names: Sequence[str]) -> Int[np.ndarray, " n1"]:
    """Return for each column of the weights the one that becomes it under x -> -x.

    Names that differ in the words left and right alone swap; the others mirror onto themselves.
    """
    numbers = {name: k for k, name in enumerate(names, 1)}
    swap = {"left": "right", "right": "left"}
    word = re.compile(r"(?<![a-z])(left|right)(?![a-z])")
    other = [word.sub(lambda found: swap[found[1]], name) for name in names]
    return np.array([0, *(numbers.get(b, numbers[a]) for a, b in zip(names, other, strict=True))])


def smoothed(
    template: Mesh, total: Float[np.ndarray, "v n1"], smooth: float
) -> Float[np.ndarray, "v n1"]:
    """Return shares of votes, near to the votes where there are many and smooth over the surface.

    The minimum of sum_i m_i |x_i - p_i|^2 + smooth * sum_ij |x_i - x_j|^2 over edges ij, with p a
    vertex' shares and m its votes over the mean vertex'. Rows sum to 1 and none is negative.
    """
    mass = total.sum(1)
    shares = total / np.maximum(mass, 1e-300)[:, None]
    mass = mass / max(float(mass.mean()), 1e-300)
    shares[mass <= UNSEEN] = np.eye(1, total.shape[1])
    mass = np.maximum(mass, UNSEEN**2)
    system = diags(mass) + max(smooth, UNSEEN) * _laplacian(template)
    found = splu(system.tocsc()).solve(mass[:, None] * shares).clip(0)
    return found / found.sum(1, keepdims=True)


def _laplacian(mesh: Mesh) -> csr_matrix:
    f = mesh.faces.numpy()
    pairs = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    n = len(mesh.vertices)
    joined = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    return diags(np.asarray(joined.sum(1)).reshape(-1)) - joined


def drawn_parts(
    template: Mesh, labels: Labels, place: Int[np.ndarray, " n"]
) -> UInt8[np.ndarray, " n"]:
    """Return the likeliest part at each place of the surface."""
    face, bary = points(place)
    corners = template.faces.numpy()[face]
    shares = np.einsum("nk,nkp->np", bary, labels.weights.double().numpy()[corners])
    return shares.argmax(1).astype(np.uint8)


def overlap(
    template: Mesh, labels: Labels, s: Sighting
) -> tuple[Float[np.ndarray, " n1"], Float[np.ndarray, " n1"]]:
    """Return of each part what labels and annotation share, and what either covers."""
    size = len(labels.names) + 1
    drawn = drawn_parts(template, labels, s.place)
    same = drawn == s.part
    shared = np.bincount(drawn[same], s.share[same], size)
    either = np.bincount(drawn, s.share, size) + np.bincount(s.part, s.share, size) - shared
    return shared, either + s.missed


def agreement(template: Mesh, labels: Labels, s: Sighting) -> float:
    """Return the share of what is drawn or annotated as a part in which both are the same."""
    drawn = drawn_parts(template, labels, s.place)
    either = (drawn > 0) | (s.part > 0)
    same = s.share[either & (drawn == s.part)].sum()
    return float(same / max(float(s.share[either].sum()), 1e-9))
