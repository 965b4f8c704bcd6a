"""Category templates: watertight, consistently wound, mirror-symmetric, with texture coordinates.

A gridded cuboid is shrink-wrapped onto the mean of the CADs' signed distance fields (ours). The
surface of the mean field is the category's mean shape; since the cuboid's grid is closed, wound one
way and mirror-symmetric in x, so is the template, whatever the CADs are like.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from featmesh.errors import InputError

from .mesh import Mesh

VOXEL = 0.0125  # object units; a car's roof pillar is about two voxels
SAMPLES = 400_000  # surface points per CAD: some 30 a voxel, so that walls have no pinholes
CLOSE = 3  # voxels; seals gaps between unwelded parts
PAD = 8  # voxels around the meshes
LEAKY = 0.6  # a mesh that encloses less than this share of what it walls off is open


def cuboid(size: tuple[float, float, float], cells: tuple[int, int, int]) -> Mesh:
    """Return a closed, gridded cuboid, welded, outward-wound, mirror-symmetric in x.

    Args:
        size: extents along x, y, z.
        cells: grid cells along x, y, z; x must be even so that a row of vertices lies on x = 0.
    """
    n = np.array(cells)
    lattice, charts = [], []
    for axis in range(3):
        for side in (0, 1):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            quads, uv = _side(n, axis, side, u, v)
            lattice.append(quads)
            charts.append((uv + np.array([axis, side])) / np.array([3.0, 2.0]))
    corners = np.concatenate(lattice).reshape(-1, 3)
    points, index = np.unique(corners, axis=0, return_inverse=True)
    vertices = (points - n / 2) / n * np.array(size)  # exactly symmetric; points / n - .5 is not
    return Mesh(
        torch.from_numpy(vertices),
        torch.from_numpy(index.reshape(-1, 3).astype(np.int64)),
        torch.from_numpy(np.concatenate(charts)).float(),
    )


def _side(n: np.ndarray, axis: int, side: int, u: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one side's triangles as lattice points (t, 3, 3), and their chart coordinates."""
    grid = np.meshgrid(np.arange(n[u]), np.arange(n[v]), indexing="ij")
    i, j = grid[0].reshape(-1), grid[1].reshape(-1)

    def corner(a: int, b: int) -> np.ndarray:
        point = np.zeros((len(i), 3), dtype=np.int64)
        point[:, axis], point[:, u], point[:, v] = side * n[axis], i + a, j + b
        return point

    def chart(a: int, b: int) -> np.ndarray:
        return 0.02 + 0.96 * np.stack([(i + a) / n[u], (j + b) / n[v]], -1)

    # the diagonal is mirrored with x, so that the mirrored mesh is the same mesh
    lean = np.zeros(len(i), dtype=bool)
    if axis != 0:
        x = i if u == 0 else j
        lean = x * 2 >= n[0]
    first = [(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1), (0, 1)]
    second = [(0, 0), (1, 0), (0, 1)], [(1, 0), (1, 1), (0, 1)]
    quads, charts = [], []
    for a, b in zip(first, second, strict=True):
        order = (0, 1, 2) if side == 1 else (0, 2, 1)
        pa, pb = (np.stack([corner(*t[k]) for k in order], 1) for t in (a, b))
        ca, cb = (np.stack([chart(*t[k]) for k in order], 1) for t in (a, b))
        quads.append(np.where(lean[:, None, None], pb, pa))
        charts.append(np.where(lean[:, None, None], cb, ca))
    return np.concatenate(quads), np.concatenate(charts)


def signed_distance(
    mesh: Mesh, shape: tuple[int, int, int], rng: np.random.Generator
) -> np.ndarray:
    """Return the signed distance field of the solid a (possibly open) mesh encloses.

    The surface is sampled into voxels, gaps are closed, what the outside cannot reach is solid. Of
    a mesh that encloses little, what is walled off on five of six sides is: a car without floor.

    Args:
        mesh: normalised mesh (diagonal 1, centred).
        shape: voxels along x, y, z, the centre of the mesh in their middle (:func:`grid_shape`).
        rng: draws the surface samples.

    Returns:
        Field at the voxel centres, object units, negative inside.
    """
    points = mesh.sample_surface(SAMPLES, rng).numpy()
    cell = np.floor(points / VOXEL).astype(int) + np.array(shape) // 2
    shell = np.zeros(shape, dtype=bool)
    shell[tuple(cell.T)] = True
    cross = ndimage.generate_binary_structure(3, 1)
    closed = ndimage.binary_closing(shell, ndimage.iterate_structure(cross, CLOSE))
    solid = ndimage.binary_fill_holes(closed)
    walled = ndimage.binary_fill_holes(closed | _walled(closed))
    if solid.sum() < LEAKY * walled.sum():
        solid = walled
    solid = ndimage.binary_opening(solid, cross)
    if not solid.any():
        raise InputError(
            "E_MESH_EMPTY",
            "fit_template(): expected meshes that enclose a volume, got one that encloses none; "
            "try: leave out flat meshes",
        )
    outside = ndimage.distance_transform_edt(~solid)
    inside = ndimage.distance_transform_edt(solid)
    return ((outside - inside) * VOXEL).astype(np.float32)


def _walled(shell: np.ndarray) -> np.ndarray:
    """Return the voxels that meet the shell along five or six of the axes' directions."""
    sides = np.zeros(shell.shape, dtype=np.int8)
    for axis in range(shell.ndim):
        sides += np.maximum.accumulate(shell, axis=axis)
        sides += np.flip(np.maximum.accumulate(np.flip(shell, axis), axis=axis), axis)
    return sides >= 5


def grid_shape(meshes: list[Mesh]) -> tuple[int, int, int]:
    """Return the voxels along x, y, z in which all normalised meshes fit, with room around."""
    farthest = torch.stack([mesh.corners.abs().amax((0, 1)) for mesh in meshes]).amax(0).numpy()
    x, y, z = 2 * (np.ceil(farthest / VOXEL).astype(int) + PAD)
    return int(x), int(y), int(z)


def mean_field(meshes: list[Mesh], rng: np.random.Generator) -> np.ndarray:
    """Return the mean signed distance field of meshes, normalised, mirrored in x and averaged."""
    normal = [mesh.normalised() for mesh in meshes]
    shape = grid_shape(normal)
    field = np.mean([signed_distance(mesh, shape, rng) for mesh in normal], axis=0)
    return (field + field[::-1]) / 2


def _sample(field: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the field and its unit gradient at points, by trilinear interpolation."""
    centre = np.array(field.shape) // 2
    where = (points / VOXEL + centre - 0.5).T
    value = ndimage.map_coordinates(field, where, order=1, mode="nearest")
    slope = np.stack(
        [
            ndimage.map_coordinates(field, where + step, order=1, mode="nearest")
            - ndimage.map_coordinates(field, where - step, order=1, mode="nearest")
            for step in np.eye(3)[:, :, None]
        ],
        -1,
    )
    return value, slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)


def shrink_wrap(start: Mesh, field: np.ndarray, steps: int = 200) -> Mesh:
    """Return the closed mesh ``start`` drawn onto the zero level of a signed distance field.

    Each step moves vertices towards the surface and evens them out along it; the evening fades.
    The mirror symmetry in x of ``start`` is kept exactly.
    """
    points = start.vertices.numpy().astype(np.float64)
    mirror = mirror_index(start).numpy()
    neighbours = _averaging(start)
    flip = np.array([-1.0, 1.0, 1.0])
    for step in range(steps):
        value, slope = _sample(field, points)
        even = 0.5 * (1 - step / steps)
        pull = neighbours @ points - points
        normal = (pull * slope).sum(-1, keepdims=True) * slope
        points = points + even * (pull - 0.7 * normal) - 0.5 * value[:, None] * slope
        points = (points + points[mirror] * flip) / 2
    return Mesh(torch.from_numpy(points), start.faces, start.uv)


def _averaging(mesh: Mesh):  # type: ignore[no-untyped-def]
    from scipy.sparse import coo_matrix, diags

    f = mesh.faces.numpy()
    pairs = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    n = len(mesh.vertices)
    matrix = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    return diags(1 / np.asarray(matrix.sum(1)).reshape(-1)) @ matrix


def mirror_index(mesh: Mesh) -> Int[Tensor, " v"]:
    """Return for each vertex the one at its mirror image in x (the object's left and right)."""
    from scipy.spatial import cKDTree

    points = mesh.vertices.numpy()
    _, index = cKDTree(points).query(points * np.array([-1.0, 1.0, 1.0]))
    return torch.from_numpy(index.astype(np.int64))


def fit_template(
    meshes: list[Mesh], rng: np.random.Generator, cells: tuple[int, int, int] = (12, 28, 10)
) -> Mesh:
    """Return the category's template: watertight, symmetric, 1-2.5 k vertices, diagonal 1.

    Args:
        meshes: CADs of the category in the object frame, of any topology.
        rng: draws the surface samples.
        cells: grid cells of the starting cuboid along x, y, z.

    Raises:
        InputError: E_MESH_EMPTY where a mesh encloses no volume.
    """
    field = mean_field(meshes, rng)
    solid = np.argwhere(field < 0)
    extent = (solid.max(0) - solid.min(0) + 1) * VOXEL
    start = cuboid(tuple((extent * 1.02).tolist()), cells)
    return shrink_wrap(start, field).normalised()


def stretch(mesh: Mesh, factors: Float[Tensor, " 3"]) -> Mesh:
    """Return the mesh scaled along x, y and z about its centre (not renormalised)."""
    return mesh.with_vertices(mesh.vertices * factors.to(mesh.vertices))
