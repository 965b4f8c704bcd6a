"""Closed meshes from cubes: a gridded cuboid, and the boundary of any set of voxels (ours).

Both are welded, wound outwards, mirror-symmetric in x and have texture coordinates, each chart of
which is a flat side of cubes.
"""

import itertools
import math

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy import ndimage

from .mesh import Mesh
from .solid import Grid

# the corners of a side's two triangles, in steps along its two axes; the diagonal leans either way
_LEAN = ([(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1), (0, 1)])
_COUNTER = ([(0, 0), (1, 0), (0, 1)], [(1, 0), (1, 1), (0, 1)])
_SIDES = [(axis, side) for axis in range(3) for side in (0, 1)]


def cuboid(size: tuple[float, float, float], cells: tuple[int, int, int]) -> Mesh:
    """Return a closed, gridded cuboid, welded, outward-wound, mirror-symmetric in x.

    Args:
        size: extents along x, y, z.
        cells: grid cells along x, y, z; x must be even so that a row of vertices lies on x = 0.
    """
    n = np.array(cells)
    points, charts = [], []
    for axis, side in _SIDES:
        u, v = (axis + 1) % 3, (axis + 2) % 3
        i, j = (k.reshape(-1) for k in np.meshgrid(*map(np.arange, (n[u], n[v])), indexing="ij"))
        low = np.zeros((len(i), 3), dtype=np.int64)
        low[:, axis], low[:, u], low[:, v] = side * n[axis], i, j
        corners, steps = _triangles(low, axis, side, cells[0])
        points.append(corners)
        place = np.tile(np.stack([i, j], -1), (2, 1))[:, None] + steps
        charts.append((0.02 + 0.96 * (place / n[[u, v]]) + np.array([axis, side])) / [3.0, 2.0])
    # exactly symmetric; points / n - .5 is not
    return _welded(points, lambda p: (p - n / 2) / n * np.array(size), charts)


def boundary(solid: Bool[np.ndarray, "x y z"], grid: Grid) -> Mesh:
    """Return the surface between voxels and the empty ones around them: closed, of any genus.

    Voxels that touch along an edge or at a corner only are joined first, which fills others.

    Args:
        solid: mirror-symmetric in x, nothing at the grid's border.
        grid: its x is even, its centre on the mirror.
    """
    solid = _joined(solid)
    points, boxes = [], []
    for axis, side in _SIDES:
        low = np.argwhere(solid & ~np.roll(solid, 1 - 2 * side, axis))
        chart = _terraces(solid & ~np.roll(solid, 1 - 2 * side, axis), axis)[tuple(low.T)]
        low[:, axis] += side
        corners, steps = _triangles(low, axis, side, solid.shape[0])
        points.append(corners)
        u, v = (axis + 1) % 3, (axis + 2) % 3
        boxes.append((np.tile(chart, 2), np.tile(low[:, [u, v]], (2, 1))[:, None] + steps))
    half = np.array(solid.shape) / 2
    return _welded(points, lambda p: (p - half) * grid.voxel + grid.centre, _packed(boxes))


def _triangles(
    low: Int[np.ndarray, "q 3"], axis: int, side: int, width: int
) -> tuple[Int[np.ndarray, "t 3 3"], Int[np.ndarray, "t 3 2"]]:
    """Return the triangles of cube sides: lattice points, and steps from ``low`` along the side.

    Args:
        low: the sides' corners of smallest coordinates.
        axis: what the sides are normal to.
        side: 1 where they face towards larger coordinates.
        width: lattice cells along x; the mirror is in the middle.
    """
    u, v = (axis + 1) % 3, (axis + 2) % 3
    # the diagonal is mirrored with x, so that the mirrored mesh is the same mesh
    lean = (low[:, 0] * 2 >= width) & (axis != 0)
    order = [0, 1, 2] if side == 1 else [0, 2, 1]
    step = np.stack(
        [
            np.where(lean[:, None, None], np.array(b)[order], np.array(a)[order])
            for a, b in zip(_LEAN, _COUNTER, strict=True)
        ]
    ).reshape(-1, 3, 2)
    points = np.tile(low, (2, 1))[:, None].repeat(3, 1)
    points[..., u] += step[..., 0]
    points[..., v] += step[..., 1]
    return points, step


def _welded(points: list[np.ndarray], place, charts: list[np.ndarray]) -> Mesh:  # type: ignore[no-untyped-def]
    corners, index = np.unique(np.concatenate(points).reshape(-1, 3), axis=0, return_inverse=True)
    return Mesh(
        torch.from_numpy(place(corners)),
        torch.from_numpy(index.reshape(-1, 3).astype(np.int64)),
        torch.from_numpy(np.concatenate(charts)).float(),
    )


def _joined(solid: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Return the voxels and those that make their boundary a manifold: no edge of four sides.

    Where two voxels of a square touch along an edge only, or two of a cube at a corner only, or
    where two empty ones do, the square or the cube is filled.
    """
    while True:
        more = solid.copy()
        for axis in range(3):
            u, v = (k for k in range(3) if k != axis)
            a, b, c, d = (_shifted(solid, {u: i, v: j}) for i in (0, 1) for j in (0, 1))
            bad = (a & d & ~b & ~c) | (b & c & ~a & ~d)
            for i in (0, 1):
                for j in (0, 1):
                    view = _shifted(more, {u: i, v: j})
                    view |= bad
        corners = [dict(enumerate(corner)) for corner in itertools.product((0, 1), repeat=3)]
        cube = [_shifted(solid, corner) for corner in corners]
        full = np.sum(cube, axis=0)
        bad = np.zeros_like(cube[0])
        for one, other in zip(cube[:4], cube[:3:-1], strict=True):
            bad |= ((full == 2) & one & other) | ((full == 6) & ~one & ~other)
        for corner in corners:
            view = _shifted(more, corner)
            view |= bad
        if (more == solid).all():
            return solid
        solid = more


def _shifted(array: np.ndarray, shifts: dict[int, int]) -> np.ndarray:
    """Return the view of an array from 0 or 1 on along some axes, one shorter there."""
    cut = [slice(None)] * array.ndim
    for axis, shift in shifts.items():
        cut[axis] = slice(shift, array.shape[axis] - 1 + shift)
    return array[tuple(cut)]


def _terraces(sides: Bool[np.ndarray, "x y z"], axis: int) -> Int[np.ndarray, "x y z"]:
    """Return the number of each flat piece of sides normal to an axis."""
    link = ndimage.generate_binary_structure(3, 1)
    link[tuple(slice(None) if k != axis else [0, 2] for k in range(3))] = False
    return ndimage.label(sides, link)[0]


def _packed(boxes: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """Return texture coordinates in which charts lie beside each other, a cube's side apart.

    Charts stand on shelves, the highest first.

    Args:
        boxes: of each of the six directions the triangles' chart (t,) from 1 on, and their lattice
            corners (t, 3, 2).
    """
    spans = []
    for chart, place in boxes:
        last = int(chart.max(initial=0)) + 1
        low, high = np.full((last, 2), np.iinfo(np.int64).max), np.full((last, 2), -1)
        np.minimum.at(low, chart, place.min(1))
        np.maximum.at(high, chart, place.max(1))
        spans.append((low, high - low))
    sizes = np.concatenate([size[1:] for _, size in spans]) + 1
    widest = int(sizes[:, 0].max(initial=1))
    width = max(math.ceil(math.sqrt(1.1 * float(sizes.prod(1).sum()))), widest)
    corner, x, y, shelf = np.zeros_like(sizes), 0, 0, 0
    for k in np.argsort(-sizes[:, 1], kind="stable"):
        if x + sizes[k, 0] > width:
            x, y, shelf = 0, y + shelf, 0
        corner[k], x, shelf = (x, y), x + sizes[k, 0], max(shelf, int(sizes[k, 1]))
    whole = max(width, y + shelf)
    charts, start = [], 0
    for (chart, place), (low, size) in zip(boxes, spans, strict=True):
        moved = corner[start : start + len(size) - 1][chart - 1] - low[chart]
        charts.append((place + moved[:, None] + 0.5) / whole)
        start += len(size) - 1
    return charts
