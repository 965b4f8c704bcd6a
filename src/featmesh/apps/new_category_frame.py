"""Which way is up in a folder of CADs, and along which axis do they face (ours)?

Two things tell up from front without knowing the category: objects stand more firmly on what they
stand on, and top and bottom differ more than front and back. Where the two do not say it clearly,
nothing is guessed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import ConvexHull, QhullError, cKDTree

from featmesh.draws import generator
from featmesh.geometry.mesh import Mesh

# log of how much more one axis speaks for itself. Of the 12 PASCAL3D+ categories, stored either
# way, 17 of 24 are decided and right, 5 open, 2 wrong: monitors lie more firmly than they stand
SURE = 1.0
POINTS = 3000  # on the surface
BASE = 0.03  # of the height: what lies lower is stood on
BLUR = 0.05  # added to the firmness: thin things stand by chance
TURNED = 1.5  # how much less the sides may mirror each other than front and back


@dataclass(frozen=True)
class Upright:
    """What the CADs say about the axis that points up.

    Attributes:
        axis: ``z`` or ``y``, the likelier.
        lead: log of how much likelier; the median over the CADs.
    """

    axis: str
    lead: float

    @property
    def is_sure(self) -> bool:
        """Whether it can be relied on."""
        return self.lead >= SURE


def upright(meshes: Sequence[Mesh]) -> Upright:
    """Return which of the files' axes, +z or +y, points up.

    Args:
        meshes: as the files have them, any size and place.
    """
    leads = [_lead(mesh, k) for k, mesh in enumerate(meshes)]
    lead = float(np.median(leads)) if leads else 0.0
    return Upright("z" if lead >= 0 else "y", abs(lead))


def _lead(mesh: Mesh, number: int) -> float:
    """Return how much more z than y looks like up, as a logarithm."""
    vertices = mesh.vertices.double().numpy()[np.unique(mesh.faces.numpy())]
    points = mesh.sample_surface(POINTS, generator(0, "upright", 0, number)).double().numpy()
    firm = [firmness(points, vertices, axis) + BLUR for axis in (1, 2)]
    apart = [unlikeness(points, axis) + 1e-9 for axis in (1, 2)]
    return math.log(firm[1] / firm[0]) + math.log(apart[1] / apart[0])


def firmness(
    points: Float[np.ndarray, "n 3"], vertices: Float[np.ndarray, "v 3"], axis: int
) -> float:
    """Return how firmly an object stands on its lower end along an axis; 0 where it falls over.

    Distance of the centre of its surface from the border of what it stands on, over its height.
    """
    both = np.concatenate([points, vertices])
    low, high = both[:, axis].min(), both[:, axis].max()
    base = np.delete(both[both[:, axis] < low + BASE * (high - low)], axis, 1)
    centre = points.mean(0)
    try:
        border = ConvexHull(base).equations
    except (QhullError, ValueError):  # it stands on a point or a line
        return 0.0
    inside = -(border[:, :2] @ np.delete(centre, axis) + border[:, 2]).max()
    return max(float(inside), 0.0) / max(float(centre[axis] - low), 1e-9)


def unlikeness(points: Float[np.ndarray, "n 3"], axis: int) -> float:
    """Return how far an object is from its mirror image along an axis, mean distance."""
    mirrored = points.copy()
    mirrored[:, axis] = points[:, axis].min() + points[:, axis].max() - points[:, axis]
    return float(cKDTree(points).query(mirrored)[0].mean())


def looks_sideways(meshes: Sequence[Mesh]) -> bool:
    """Return whether the CADs, up +z, seem to face along x: front and back mirror, sides do not."""
    drawn = [
        m.sample_surface(POINTS, generator(0, "sideways", 0, k)).double().numpy()
        for k, m in enumerate(meshes)
    ]
    ratios = [unlikeness(p, 0) / max(unlikeness(p, 1), 1e-9) for p in drawn]
    return bool(ratios) and float(np.median(ratios)) > TURNED
