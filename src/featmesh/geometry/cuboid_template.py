"""NeMo's category template: one gridded cuboid around nearly all of its CADs (spec 2.4).

Sizes and spacing are the published SingleCuboid's. It is welded and wound one way here, where the
published file has each face by itself: the same points without the repeated ones of the edges.
"""

import math

import numpy as np
import torch
from jaxtyping import Float

from featmesh.errors import InputError

from .lattice import cuboid
from .mesh import Mesh

COUNT = 1000  # vertices that the grid aims at, edges counted once for each face
COVERAGE = 0.99  # share of the CADs' vertices between two opposite faces


def cuboid_template(meshes: list[Mesh], count: int = COUNT, coverage: float = COVERAGE) -> Mesh:
    """Return the cuboid of a category: closed, outward-wound, where and as large as the CADs are.

    Along each axis it is the shortest interval that holds ``coverage`` of all CADs' vertices. It is
    neither centred nor scaled: its unit is the CADs', in which PASCAL3D+ gives distances.

    Args:
        meshes: CADs of the category in the object frame, in one unit.
        count: of vertices that the spacing aims at: the surface is cut into as many squares.
        coverage: share of the vertices, 0 to 1.

    Raises:
        InputError: E_MESH_EMPTY without meshes, or where they are flat.
    """
    every = [mesh.vertices.double().numpy() for mesh in meshes]
    points = np.concatenate(every or [np.zeros((1, 3))])
    ends = np.array([shortest(points[:, k], coverage) for k in range(3)])
    size = ends[:, 1] - ends[:, 0]
    if not (size > 0).all():
        got = f"{len(meshes)} that span {size.tolist()} along x, y, z"
        raise InputError(
            "E_MESH_EMPTY", f"cuboid_template(): expected solid CADs, got {got}; try: other CADs"
        )
    x, y, z = (n - 1 for n in samples(size, count))
    box = cuboid((size[0], size[1], size[2]), (x, y, z))
    return box.with_vertices(box.vertices + torch.from_numpy(ends.mean(1)))


def samples(size: Float[np.ndarray, " 3"], count: int = COUNT) -> tuple[int, int, int]:
    """Return NeMo's grid points along x, y and z of a cuboid; the least that closes it is 2."""
    pairs = size[0] * size[1] + size[1] * size[2] + size[2] * size[0]
    edge = math.sqrt(2 * pairs / count)
    x, y, z = (max(int(extent / edge + 1), 2) for extent in size)
    return x, y, z


def shortest(values: Float[np.ndarray, " n"], share: float) -> tuple[float, float]:
    """Return the shortest interval that holds a share of the values; the first one of equals."""
    values = np.sort(values)
    inside = min(max(math.ceil(share * len(values)), 1), len(values))
    widths = values[inside - 1 :] - values[: len(values) - inside + 1]
    first = int(widths.argmin())
    return float(values[first]), float(values[first + inside - 1])
