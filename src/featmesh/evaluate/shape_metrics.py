"""How near two shapes are: distances of surface points, overlap of solids, sizes (spec 6.1)."""

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.solid import Grid, filled


def chamfer(a: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"]) -> float:
    """Return the mean two-way distance of two sets of surface points, in their unit.

    The mean distance from a point to the nearest of the other set, averaged over both directions;
    nothing is aligned. Two draws of ``n`` points from one surface of area A are about
    0.5 sqrt(A / n) apart.

    Raises:
        InputError: E_MESH_EMPTY (no points), E_NONFINITE.
    """
    there, back = _nearest(a, b, "chamfer()")
    return float(there.mean() + back.mean()) / 2


def f_score(a: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"], threshold: float) -> float:
    """Return the harmonic mean of the shares of points nearer than the threshold to the other set.

    Args:
        a: surface points.
        b: surface points, same unit.
        threshold: distance in that unit; 0.01 is one per cent of an object's diagonal.

    Raises:
        InputError: E_MESH_EMPTY (no points), E_NONFINITE.
    """
    there, back = _nearest(a, b, "f_score()")
    share_a, share_b = float((there < threshold).mean()), float((back < threshold).mean())
    total = share_a + share_b
    return 2 * share_a * share_b / total if total else 0.0


def volume_iou(mesh_a: Mesh, mesh_b: Mesh, rng: np.random.Generator | None = None) -> float:
    """Return the overlap over the union of the solids two meshes of one frame enclose.

    Both are filled on one grid (:func:`featmesh.geometry.solid.filled`), so that open CADs count
    as the solids they stand for. The surface passes through the outermost voxels, which count half.

    Args:
        mesh_a: a mesh of any topology.
        mesh_b: another, same frame and unit.
        rng: draws the surface samples; by default always the same.

    Raises:
        InputError: E_MESH_EMPTY, E_MESH_INDEX, E_MESH_NONFINITE.
    """
    meshes = [mesh_a.checked("volume_iou()"), mesh_b.checked("volume_iou()")]
    draws = generator(0, "volume_iou") if rng is None else rng
    grid = Grid.around(meshes)
    one, two = (_occupancy(filled(mesh, grid, draws)) for mesh in meshes)
    return float(np.minimum(one, two).sum() / np.maximum(one, two).sum())


def dimensions(mesh: Mesh) -> tuple[float, float, float]:
    """Return length (y), width (x) and height (z) of the bounding box of the mesh's faces."""
    used = mesh.vertices[mesh.faces.unique()]
    width, length, height = (used.amax(0) - used.amin(0)).tolist()
    return length, width, height


def flipped_faces(template: Mesh, mesh: Mesh) -> float:
    """Return the share of faces that turned by more than a right angle from the template's."""
    return float(((template.face_normals * mesh.face_normals).sum(1) < 0).double().mean())


def _nearest(
    a: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"], who: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Return the distances from each point to the nearest of the other set, both ways."""
    one, two = (points.detach().cpu().to(torch.float64).numpy() for points in (a, b))
    for points in (one, two):
        if not len(points):
            text = f"{who}: expected points, got none; try: sample the surface"
            raise InputError("E_MESH_EMPTY", text)
        if not np.isfinite(points).all():
            k = int(np.argmin(np.isfinite(points).all(1)))
            text = f"{who}: expected finite points, got {points[k].tolist()} at {k}; try: clean()"
            raise InputError("E_NONFINITE", text)
    return cKDTree(two).query(one)[0], cKDTree(one).query(two)[0]


def _occupancy(solid: np.ndarray) -> Float[np.ndarray, "x y z"]:
    """Return 1 inside, 0 outside and 1/2 in the outermost voxels of a solid."""
    return (solid.astype(np.float32) + ndimage.binary_erosion(solid)) / 2
