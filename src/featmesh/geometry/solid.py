"""The solid a mesh of any topology encloses, on voxels: filled, its distance field, its outside.

CADs are open, doubled and full of hidden parts. What the outside cannot reach is taken as solid,
and only the surface next to the outside counts (ours).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from featmesh.errors import InputError

from .mesh import Mesh

VOXEL = 0.0125  # of the diagonal; a car's roof pillar is about two voxels
SAMPLES = 400_000  # surface points per mesh: some 30 a voxel, so that walls have no pinholes
CLOSE = 3  # voxels; seals gaps between unwelded parts
PAD = 8  # voxels around the meshes
LEAKY = 0.6  # a mesh that encloses less than this share of what it walls off is open
OUTER = 1.5  # voxels: a surface this near to the outside is seen from there
DRAWS = 64  # batches of surface samples in which outer points are looked for


@dataclass(frozen=True, eq=False)
class Grid:
    """Cubes that fill a box around meshes.

    Attributes:
        centre: middle of the box, which is a corner of voxels.
        voxel: side of a cube, in the meshes' unit.
        shape: voxels along x, y, z; even.
    """

    centre: Float[np.ndarray, " 3"]
    voxel: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, meshes: list[Mesh], voxel: float | None = None) -> "Grid":
        """Return the grid in which meshes of one frame fit, with room around.

        Args:
            meshes: their common bounding box is the grid's middle.
            voxel: side of a cube; by default VOXEL of the common diagonal.
        """
        low = torch.stack([mesh.corners.amin((0, 1)) for mesh in meshes]).amin(0).double().numpy()
        high = torch.stack([mesh.corners.amax((0, 1)) for mesh in meshes]).amax(0).double().numpy()
        side = VOXEL * float(np.linalg.norm(high - low)) if voxel is None else voxel
        return cls.covering((low + high) / 2, (high - low) / 2, side)

    @classmethod
    def covering(
        cls, centre: Float[np.ndarray, " 3"], reach: Float[np.ndarray, " 3"], voxel: float
    ) -> "Grid":
        """Return the grid that reaches at least ``reach`` from its centre, with room around."""
        x, y, z = 2 * (np.ceil(reach / voxel).astype(int) + PAD)
        return cls(centre, voxel, (int(x), int(y), int(z)))

    def cells(self, points: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, ...]:
        """Return the indices of the voxels that hold points, one array an axis."""
        cell = np.floor((points - self.centre) / self.voxel).astype(int) + np.array(self.shape) // 2
        return tuple(cell.T)

    def places(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Return points in units of voxels, 0 at the centre of the first voxel."""
        return (points - self.centre) / self.voxel + np.array(self.shape) // 2 - 0.5

    def sample(
        self, field: Float[np.ndarray, "x y z"], points: Float[np.ndarray, "n 3"]
    ) -> Float[np.ndarray, " n"]:
        """Return a field at points, by trilinear interpolation, its border going on outside."""
        return ndimage.map_coordinates(field, self.places(points).T, order=1, mode="nearest")


def filled(mesh: Mesh, grid: Grid, rng: np.random.Generator) -> Bool[np.ndarray, "x y z"]:
    """Return the voxels of the solid a (possibly open) mesh encloses, its surface among them.

    The surface is sampled into voxels, gaps are closed, what the outside cannot reach is solid. Of
    a mesh that encloses little, what is walled off on five of six sides is: a car without floor.
    """
    return _filled(_shell(mesh, grid, rng), CLOSE)


def signed_distance(mesh: Mesh, grid: Grid, rng: np.random.Generator) -> Float[np.ndarray, "x y z"]:
    """Return the signed distance field of the :func:`filled` solid without its thin parts.

    Returns:
        Field at the voxel centres in the mesh's unit, negative inside; what is thinner than three
        voxels (aerials, plates) is left out.

    Raises:
        InputError: E_MESH_EMPTY where nothing but thin parts is there.
    """
    solid = ndimage.binary_opening(filled(mesh, grid, rng), _CROSS)
    if not solid.any():
        raise InputError(
            "E_MESH_EMPTY",
            "signed_distance(): expected meshes that enclose a volume, got one that encloses none; "
            "try: leave out flat meshes",
        )
    return distance(solid, grid.voxel)


def distance(solid: Bool[np.ndarray, "x y z"], voxel: float) -> Float[np.ndarray, "x y z"]:
    """Return the signed distance of voxel centres to a solid's boundary, negative inside."""
    outside = ndimage.distance_transform_edt(~solid)
    inside = ndimage.distance_transform_edt(solid)
    return ((outside - inside) * voxel).astype(np.float32)


def outer_points(mesh: Mesh, n: int, rng: np.random.Generator) -> Float[Tensor, "n 3"]:
    """Return ``n`` points drawn evenly over the surface that can be reached from outside.

    These are the surface's points less than 1.5 voxels from the boundary of the filled solid; a
    voxel is VOXEL of the mesh's diagonal. Seats and engines of a CAD are no part of its shape.

    Raises:
        InputError: E_MESH_EMPTY where the mesh has no surface.
    """
    if not float(mesh.face_normals.norm(dim=-1).sum()) > 0:
        raise InputError(
            "E_MESH_EMPTY",
            "outer_points(): expected a mesh with a surface, got one without area; try: clean()",
        )
    grid = Grid.around([mesh])
    field = distance(filled(mesh, grid, rng), grid.voxel)
    found, count = [], 0
    for _ in range(DRAWS):
        points = mesh.sample_surface(2 * n, rng)
        near = np.abs(grid.sample(field, points.double().numpy())) < OUTER * grid.voxel
        found.append(points[torch.from_numpy(near)])
        count += len(found[-1])
        if count >= n:
            return torch.cat(found)[:n]
    raise InputError(
        "E_MESH_EMPTY",
        f"outer_points(): expected a surface seen from outside, got {count} of {n} points there; "
        "try: look at the mesh",
    )


_CROSS = ndimage.generate_binary_structure(3, 1)


def _shell(mesh: Mesh, grid: Grid, rng: np.random.Generator) -> Bool[np.ndarray, "x y z"]:
    """Return the voxels the surface passes through."""
    shell = np.zeros(grid.shape, dtype=bool)
    shell[grid.cells(mesh.sample_surface(SAMPLES, rng).numpy())] = True
    return shell


def _filled(shell: Bool[np.ndarray, "x y z"], close: int) -> Bool[np.ndarray, "x y z"]:
    closed = ndimage.binary_closing(shell, ndimage.iterate_structure(_CROSS, close))
    solid = ndimage.binary_fill_holes(closed)
    walled = ndimage.binary_fill_holes(closed | _walled(closed))
    return walled if solid.sum() < LEAKY * walled.sum() else solid


def _walled(shell: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Return the voxels that meet the shell along five or six of the axes' directions."""
    sides = np.zeros(shell.shape, dtype=np.int8)
    for axis in range(shell.ndim):
        sides += np.maximum.accumulate(shell, axis=axis)
        sides += np.flip(np.maximum.accumulate(np.flip(shell, axis), axis=axis), axis)
    return sides >= 5
