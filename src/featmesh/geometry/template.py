"""Category templates: watertight, consistently wound, mirror-symmetric, with texture coordinates.

The template is the CAD nearest to the others, cut anew out of voxels: a real object has wings, legs
and wheels, of which a mean of several keeps stubs (ours). Where a mean is clearly nearer to all of
them, it is the template: a gridded cuboid that is shrink-wrapped onto the mean of the CADs' signed
distance fields, or the boundary of the voxels that most CADs share. All of them are closed, wound
one way and mirror-symmetric in x, whatever the CADs are like.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from featmesh.errors import InputError

from .lattice import boundary, cuboid
from .mesh import Mesh
from .solid import PAD, VOXEL, Grid, distance, filled, outer_points, signed_distance

POINTS = 5000  # on each surface, to tell how far apart two are
NEARER = 0.85  # a cut that is not that much nearer than the wrapped cuboid is not worth its holes
REACHES = (0.03, 0.06)  # object units; a short one keeps wings, a long one is smoother
VERTICES = 1800  # of a cut, within 5 % where the voxels' steps allow it
ABOUT = 0.25  # share by which a cut may have more or fewer
SIZES = (0.004, 0.06)  # object units: sides of a cut's voxels
TRIES = 12  # halvings of that range
CUT_STEPS = 30  # a cut starts near its surface
STRAY = 0.5  # voxels a cut's vertices move at most: thin parts are not drawn to nothing
SMOOTHINGS, SHRINK, PASS = 20, 0.6, 0.05  # rounds, share, frequency that stays (Taubin 1995)
PART = 0.05  # of the largest part's volume: smaller ones are left out of a cut
BLEND = 0.85  # a mean that is not that much nearer than the nearest CAD is not worth its stubs
WHOLE = 0.8  # share of its vertices that hang together in a CAD that may be the template
CANDIDATES = 16  # CADs that may be the template


def mean_field(
    meshes: list[Mesh], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "x y z"], Grid]:
    """Return the mean signed distance field of normalised meshes, averaged with its mirror in x."""
    normal = [mesh.normalised() for mesh in meshes]
    reach = torch.stack([mesh.corners.abs().amax((0, 1)) for mesh in normal]).amax(0).numpy()
    grid = Grid.covering(np.zeros(3), reach, VOXEL)
    field = np.mean([signed_distance(mesh, grid, rng) for mesh in normal], axis=0)
    return (field + field[::-1]) / 2, grid


def _slope(
    field: Float[np.ndarray, "x y z"], grid: Grid, points: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Return the field's unit gradient at points."""
    where = grid.places(points).T
    slope = np.stack(
        [
            ndimage.map_coordinates(field, where + step, order=1, mode="nearest")
            - ndimage.map_coordinates(field, where - step, order=1, mode="nearest")
            for step in np.eye(3)[:, :, None]
        ],
        -1,
    )
    return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)


def shrink_wrap(
    start: Mesh,
    field: Float[np.ndarray, "x y z"],
    grid: Grid,
    steps: int = 200,
    stray: float = math.inf,
) -> Mesh:
    """Return the closed mesh ``start`` drawn onto the zero level of a signed distance field.

    Each step moves vertices towards the surface and evens them out along it; the evening fades.
    The mirror symmetry in x of ``start`` is kept exactly.

    Args:
        start: wound outwards, mirror-symmetric in x.
        field: negative inside.
        grid: where the field's values lie.
        steps: how many.
        stray: how far a vertex may move.
    """
    origin = start.vertices.numpy().astype(np.float64)
    points = origin.copy()
    mirror = mirror_index(start).numpy()
    neighbours = averaging(start)
    flip = np.array([-1.0, 1.0, 1.0])
    for step in range(steps):
        value, slope = grid.sample(field, points), _slope(field, grid, points)
        even = 0.5 * (1 - step / steps)
        pull = neighbours @ points - points
        normal = (pull * slope).sum(-1, keepdims=True) * slope
        points = points + even * (pull - 0.7 * normal) - 0.5 * value[:, None] * slope
        points = (points + points[mirror] * flip) / 2
        if stray < math.inf:
            way = points - origin
            length = np.linalg.norm(way, axis=1, keepdims=True)
            points = origin + way * np.minimum(1, stray / np.maximum(length, 1e-12))
    return start.with_vertices(torch.from_numpy(points))


def _smoothed(mesh: Mesh) -> Mesh:
    """Return the mesh without steps, its volume kept: each shrinking is followed by a swelling."""
    points, mirror = mesh.vertices.numpy(), mirror_index(mesh).numpy()
    neighbours = averaging(mesh)
    for _ in range(SMOOTHINGS):
        for share in (SHRINK, 1 / (PASS - 1 / SHRINK)):
            points = points + share * (neighbours @ points - points)
    points = (points + points[mirror] * np.array([-1.0, 1.0, 1.0])) / 2
    return mesh.with_vertices(torch.from_numpy(points))


def averaging(mesh: Mesh) -> csr_matrix:
    """Return the matrix that averages values of the vertices over their neighbours (v x v).

    A vertex of no face has no neighbours, and its row is 0.
    """
    f = mesh.faces.numpy()
    pairs = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    n = len(mesh.vertices)
    matrix = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    return diags(1 / np.maximum(np.asarray(matrix.sum(1)).reshape(-1), 1)) @ matrix


def mirror_index(mesh: Mesh) -> Int[Tensor, " v"]:
    """Return for each vertex the one at its mirror image in x (the object's left and right)."""
    points = mesh.vertices.numpy()
    _, index = cKDTree(points).query(points * np.array([-1.0, 1.0, 1.0]))
    return torch.from_numpy(index.astype(np.int64))


def fit_template(
    meshes: list[Mesh], rng: np.random.Generator, cells: tuple[int, int, int] = (12, 28, 10)
) -> Mesh:
    """Return the category's template: watertight, symmetric, 1-2.5 k vertices, diagonal 1.

    The CAD nearest to all, unless a mean is clearly nearer: a cuboid wrapped around the mean solid,
    or a mesh cut out of the voxels that most CADs share.

    Args:
        meshes: CADs of the category in the object frame, of any topology.
        rng: draws the surface samples.
        cells: grid cells of the starting cuboid along x, y, z.

    Raises:
        InputError: E_MESH_EMPTY where a mesh encloses no volume.
    """
    wrapped, empty = None, None
    try:
        wrapped = _wrapped(meshes, rng, cells)
    except InputError as error:  # nothing but thin parts
        empty = error
    cads = [outer_points(mesh.normalised(), POINTS, rng).numpy() for mesh in meshes]
    fields, grid = _stretched_fields(meshes, rng)
    cuts = _nearest(_cuts(fields, grid), cads, rng)
    own = _nearest(_own_cuts(fields[:: -(-len(fields) // CANDIDATES) or 1], grid), cads, rng)
    mean = _nearest([wrapped] if wrapped is not None else [], cads, rng)
    if cuts is not None and (mean is None or cuts[0] < NEARER * mean[0]):
        mean = cuts
    if own is not None and (mean is None or mean[0] >= BLEND * own[0]):
        return own[1]
    if mean is not None:
        return mean[1]
    raise empty or InputError(
        "E_MESH_EMPTY",
        f"fit_template(): expected CADs that enclose a volume, got {len(meshes)} of which no "
        "template could be cut; try: closed or thicker CADs",
    )


def _nearest(
    meshes: Sequence[Mesh], cads: list[np.ndarray], rng: np.random.Generator
) -> tuple[float, Mesh] | None:
    """Return the mesh nearest to the CADs' points and how far it is; None of none."""
    ranked = [(_apart(mesh, cads, rng), mesh) for mesh in meshes]
    return min(ranked, key=lambda row: row[0]) if ranked else None


def _apart(mesh: Mesh, cads: list[np.ndarray], rng: np.random.Generator) -> float:
    """Return the mean two-way distance of a mesh's surface to the CADs' points."""
    own = mesh.sample_surface(POINTS, rng).numpy()
    tree = cKDTree(own)
    both = [cKDTree(cad).query(own)[0].mean() + tree.query(cad)[0].mean() for cad in cads]
    return float(np.mean(both)) / 2


def _wrapped(
    meshes: list[Mesh], rng: np.random.Generator, cells: tuple[int, int, int]
) -> Mesh | None:
    """Return a cuboid drawn onto the mean of the CADs' distance fields; None where it is empty."""
    field, grid = mean_field(meshes, rng)
    solid = np.argwhere(field < 0)
    if not len(solid):  # of tables, whose plates lie at different heights
        return None
    extent = (solid.max(0) - solid.min(0) + 1) * VOXEL
    start = cuboid(tuple((extent * 1.02).tolist()), cells)
    return shrink_wrap(start, field, grid).normalised()


def _cuts(fields: Sequence[np.ndarray], grid: Grid) -> list[Mesh]:
    """Return meshes of the voxels that the CADs share, one for each of the REACHES.

    A distance field cut off at a reach says little more than in and out, and its mean is a vote;
    the level is where the mean volume is kept.
    """
    if not fields:
        return []
    volume = float(np.mean([(field < 0).mean() for field in fields]))
    found = []
    for reach in REACHES:
        mean = np.mean([field.clip(-reach, reach) for field in fields], axis=0)
        level = float(np.quantile(mean, volume))
        # where the vote is lost everywhere, no level parts in from out
        if abs(level) < 0.9 * reach:
            found += _cut_meshes(mean - level, grid)
    return found


def _own_cuts(fields: Sequence[np.ndarray], grid: Grid) -> list[Mesh]:
    """Return each CAD cut out of its own voxels, but those that fall apart."""
    found = [mesh for field in fields for mesh in _cut_meshes(field, grid)]
    return [mesh for mesh in found if _hangs_together(mesh) >= WHOLE]


def _cut_meshes(field: Float[np.ndarray, "x y z"], grid: Grid) -> list[Mesh]:
    """Return the smoothed cut of a field in a list, which is empty where there is none."""
    cut = _cut(field, grid)
    if cut is None:
        return []
    mesh, voxel = cut
    drawn = shrink_wrap(_smoothed(mesh), field, grid, CUT_STEPS, STRAY * voxel)
    return [drawn.normalised()]


def _hangs_together(mesh: Mesh) -> float:
    """Return the share of the vertices in the largest connected part."""
    _, part = connected_components(averaging(mesh), directed=False)
    return float(np.bincount(part).max() / len(part))


def _stretched_fields(
    meshes: list[Mesh], rng: np.random.Generator
) -> tuple[list[Float[np.ndarray, "x y z"]], Grid]:
    """Return the symmetric distance fields of CADs stretched to their mean box; none of flat ones.

    Stretched, their ends meet.
    The voxels that the surface passes through count half.
    """
    normal = [mesh.normalised() for mesh in meshes]
    extents = torch.stack([mesh.corners.amax((0, 1)) * 2 for mesh in normal])
    box = extents.mean(0) / extents.mean(0).norm()
    grid = Grid.covering(np.zeros(3), box.double().numpy() / 2, VOXEL)
    if float(extents.min()) < VOXEL:
        return [], grid
    fields = []
    for mesh, extent in zip(normal, extents, strict=True):
        solid = filled(stretch(mesh, box / extent), grid, rng)
        fields.append(distance(solid | solid[::-1], VOXEL) + VOXEL / 2)
    return fields, grid


def _cut(field: Float[np.ndarray, "x y z"], grid: Grid) -> tuple[Mesh, float] | None:
    """Return the boundary of the voxels where a field is negative, and the voxels' side.

    None where no size of voxels gives about VERTICES vertices.
    """
    low, high = SIZES
    reach = (np.array(grid.shape) / 2 - PAD) * grid.voxel
    best: tuple[Mesh, float] | None = None
    for _ in range(TRIES):
        finer = Grid.covering(grid.centre, reach, math.sqrt(low * high))
        axes = [(np.arange(n) - n / 2 + 0.5) * finer.voxel for n in finer.shape]
        places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) + finer.centre
        # what is thinner than a large voxel is not to fall between two
        solid = grid.sample(field, places) < max(finer.voxel - grid.voxel, 0) / 2
        solid = _main_parts(solid.reshape(finer.shape))
        mesh = boundary(solid, finer)
        if best is None or _off(mesh) < _off(best[0]):
            best = mesh, finer.voxel
        if _off(mesh) < 0.05:
            break
        low, high = (finer.voxel, high) if len(mesh.vertices) > VERTICES else (low, finer.voxel)
    return best if best is not None and _off(best[0]) < ABOUT else None


def _off(mesh: Mesh) -> float:
    """Return by which share a mesh has more or fewer vertices than VERTICES."""
    return abs(len(mesh.vertices) / VERTICES - 1)


def _main_parts(solid: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Return the voxels, mirrored, in parts that hold at least PART of the largest."""
    label, _ = ndimage.label(solid | solid[::-1], np.ones((3, 3, 3)))
    sizes = np.bincount(label.ravel())[1:]
    return np.isin(label, 1 + np.flatnonzero(sizes >= PART * sizes.max(initial=0)))


def stretch(mesh: Mesh, factors: Float[Tensor, " 3"]) -> Mesh:
    """Return the mesh scaled along x, y and z about its centre (not renormalised)."""
    return mesh.with_vertices(mesh.vertices * factors.to(mesh.vertices))
