"""Visibility on a CPU: compiled z-buffer kernels with watertight fixed-point coverage.

The kernels are serial and release the interpreter lock: threads belong outside, a pool inside would
fight torch's own. :mod:`featmesh.render.reference` computes the same face ids, bit for bit, in
torch; whoever changes the arithmetic of one changes both. No ``fastmath``: it would break equality.
``no_type_check`` keeps the run-time type checks of the tests out of what numba compiles.
"""

import math
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float32, Int32

from featmesh.render.fragments import GUARD_BAND

_SUBPIXEL = np.float32(256)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_GUARD = np.float32(GUARD_BAND)

# For every kernel of the house. "fastmath" is said because a kernel that says nothing takes its
# caller's, and keeps it in the cache for callers that have another.
compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)


@compiled
@no_type_check
def _usable(u, v, inverse_z):
    """Whether a vertex lies in front of the camera and inside the guard band; False for nan."""
    return abs(u) <= _GUARD and abs(v) <= _GUARD and inverse_z > 0 and inverse_z < np.inf


@compiled
@no_type_check
def _snap(pixels):
    """Round pixels to 1/256 pixel, as an integer."""
    return math.floor(pixels * _SUBPIXEL + _HALF)


@compiled
@no_type_check
def cover_one(points, faces, cull, face_id, inverse_depth):
    """Rasterise one mesh; callable from other kernels, allocates nothing.

    A pixel is covered where its centre lies in or on a face, tested with integer edge functions at
    1/256 pixel: shared edges leave no holes. The larger 1/z wins, then the smaller face id. Faces
    with a vertex at z <= 0 (1/z not finite and positive) or farther out than the guard band are
    dropped, not clipped. Source: ours, from the edge functions of Pineda 1988.

    Args:
        points: float32 (V, 3), pixels u, v and 1/z.
        faces: int32 (F, 3), vertices counter-clockwise seen from outside.
        cull: leave out faces seen from behind.
        face_id: int32 (H, W), overwritten: visible face, -1 where nothing.
        inverse_depth: float32 (H, W), overwritten: 1/z of the visible face, 0 where nothing.
    """
    height, width = face_id.shape
    face_id[:] = -1
    inverse_depth[:] = np.float32(0)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if not (
            _usable(points[i, 0], points[i, 1], points[i, 2])
            and _usable(points[j, 0], points[j, 1], points[j, 2])
            and _usable(points[k, 0], points[k, 1], points[k, 2])
        ):
            continue
        xi, yi, zi = _snap(points[i, 0]), _snap(points[i, 1]), points[i, 2]
        xj, yj, zj = _snap(points[j, 0]), _snap(points[j, 1]), points[j, 2]
        xk, yk, zk = _snap(points[k, 0]), _snap(points[k, 1]), points[k, 2]
        # y points down: the area of a face seen from outside is negative
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if area == 0 or (cull and area > 0):
            continue
        left = max(0, (min(xi, xj, xk) + 127) >> 8)
        right = min(width - 1, (max(xi, xj, xk) - 128) >> 8)
        top = max(0, (min(yi, yj, yk) + 127) >> 8)
        bottom = min(height - 1, (max(yi, yj, yk) - 128) >> 8)
        if left > right or top > bottom:
            continue
        sign = 1 if area > 0 else -1
        # the edge function of a vertex belongs to the opposite edge: >= 0 inside, sum |area|
        ix, iy = sign * (yj - yk), sign * (xk - xj)
        jx, jy = sign * (yk - yi), sign * (xi - xk)
        kx, ky = sign * (yi - yj), sign * (xj - xi)
        px, py = (left << 8) + 128, (top << 8) + 128
        row_i = ix * (px - xj) + iy * (py - yj)
        row_j = jx * (px - xk) + jy * (py - yk)
        row_k = kx * (px - xi) + ky * (py - yi)
        scale = _ONE / np.float32(sign * area)
        for y in range(top, bottom + 1):
            wi, wj, wk = row_i, row_j, row_k
            for x in range(left, right + 1):
                if (wi | wj | wk) >= 0:
                    near = (np.float32(wi) * zi + np.float32(wj) * zj + np.float32(wk) * zk) * scale
                    # strictly larger: faces come in order, so equals keep the smaller id
                    if near > inverse_depth[y, x]:
                        inverse_depth[y, x] = near
                        face_id[y, x] = f
                wi += ix << 8
                wj += jx << 8
                wk += kx << 8
            row_i += iy << 8
            row_j += jy << 8
            row_k += ky << 8


@compiled
@no_type_check
def _cover_batch(points, faces, cull, face_id):
    inverse_depth = np.zeros(face_id.shape[1:], np.float32)
    for b in range(points.shape[0]):
        cover_one(points[b], faces, cull, face_id[b], inverse_depth)


def coverage(
    points: Float32[np.ndarray, "b v 3"],
    faces: Int32[np.ndarray, "f 3"],
    height: int,
    width: int,
    cull: bool = True,
) -> Int32[np.ndarray, "b h w"]:
    """Return the visible face of each pixel, -1 where nothing; the rules of :func:`cover_one`.

    Args:
        points: projected vertices: pixels u, v and 1/z.
        faces: vertices counter-clockwise seen from outside.
        height: rows of the picture, pixels.
        width: columns of the picture, pixels.
        cull: leave out faces seen from behind.
    """
    face_id = np.zeros((len(points), height, width), np.int32)
    _cover_batch(np.ascontiguousarray(points), np.ascontiguousarray(faces), cull, face_id)
    return face_id
