"""What one cell of a feature map says about a pose: the formulas inside the compiled energy.

Each is inlined into the kernels of :mod:`featmesh.inference.energy_numba`, whose cache notices
changes of its own file only: after a change here touch it. Source: ours.
"""

from typing import no_type_check

import numba
import numpy as np

from featmesh.inference.energy import FORMS

COSINE, TRUNCATED = FORMS.index("cosine"), FORMS.index("truncated")
inlined = numba.njit(inline="always")  # a call would cost more than the work


@inlined
@no_type_check
def weights(faces, points, face, ray_x, ray_y):
    """Return b1, b2, their slopes (x, y of b1, x, y of b2) along the ray's x and y, and depth.

    As :func:`featmesh.render.shade.barycentric`: the face is flattened along the ray, so that
    nothing large cancels; weights below 0 by the rounding of the coverage become 0.
    """
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    zi, zj, zk = points[i, 2], points[j, 2], points[k, 2]
    xi, yi = points[i, 0] - zi * ray_x, points[i, 1] - zi * ray_y
    xj, yj = points[j, 0] - zj * ray_x, points[j, 1] - zj * ray_y
    xk, yk = points[k, 0] - zk * ray_x, points[k, 1] - zk * ray_y
    wi, wj, wk = xj * yk - yj * xk, xk * yi - yk * xi, xi * yj - yi * xj
    sign = -1.0 if wi + wj + wk < 0 else 1.0
    wi, wj, wk = wi * sign, wj * sign, wk * sign
    # a weight held at 0 has no slope
    on_i, on_j, on_k = sign * (wi > 0), sign * (wj > 0), sign * (wk > 0)
    wi, wj, wk = max(wi, 0.0), max(wj, 0.0), max(wk, 0.0)
    total = wi + wj + wk
    if not total > 1e-300:
        return 1 / 3, 1 / 3, (0.0, 0.0, 0.0, 0.0), (zi + zj + zk) / 3
    scale = 1 / total
    b1, b2 = wj * scale, wk * scale
    jx, jy = on_j * (yk * zi - zk * yi), on_j * (zk * xi - xk * zi)
    kx, ky = on_k * (yi * zj - zi * yj), on_k * (zi * xj - xi * zj)
    sum_x = on_i * (yj * zk - zj * yk) + jx + kx
    sum_y = on_i * (zj * xk - xj * zk) + jy + ky
    jx, jy = (jx - b1 * sum_x) * scale, (jy - b1 * sum_y) * scale
    kx, ky = (kx - b2 * sum_x) * scale, (ky - b2 * sum_y) * scale
    return b1, b2, (jx, jy, kx, ky), (wi * zi + wj * zj + wk * zk) * scale


@inlined
@no_type_check
def inner_products(scene, face, y, x):
    """Return the cell's feature times the face's first vertex feature and the two differences."""
    i, j, k = scene.faces[face, 0], scene.faces[face, 1], scene.faces[face, 2]
    if scene.scores.shape[0] > 0:
        s0 = scene.scores[y, x, i]
        return s0, scene.scores[y, x, j] - s0, scene.scores[y, x, k] - s0
    s0 = s1 = s2 = np.float32(0)
    for c in range(scene.features.shape[2]):
        value = scene.features[y, x, c]
        s0 += value * scene.texture[i, c]
        s1 += value * scene.texture[j, c]
        s2 += value * scene.texture[k, c]
    return s0, s1 - s0, s2 - s0


@inlined
@no_type_check
def cell_energy(form, costs, s, n, c):
    """Return the energy of a covered cell, and whether it depends on the pose.

    ``costs``: of an uncovered cell (l2); of calling a cell occluded, and of the object (cosine).
    """
    if form == COSINE:
        shown, other = s - costs[2], c - costs[1]
        return max(0.0, c) - max(shown, other), shown > other
    square = n - 2 * s + 1
    if form == TRUNCATED:
        limit = 2.0 - 2.0 * c
        return min(square, limit) - limit, square < limit
    return square - costs[0], True


@inlined
@no_type_check
def pull_back(gram, slopes, p, q, weight):
    """Return the cell's curvature (xx, xy, yy) and force (x, y) with respect to its ray."""
    x1, y1, x2, y2 = slopes
    gx1, gx2 = gram[3] * x1 + gram[4] * x2, gram[4] * x1 + gram[5] * x2
    gy1, gy2 = gram[3] * y1 + gram[4] * y2, gram[4] * y1 + gram[5] * y2
    xx, xy, yy = x1 * gx1 + x2 * gx2, x1 * gy1 + x2 * gy2, y1 * gy1 + y2 * gy2
    x, y = -(x1 * p + x2 * q), -(y1 * p + y2 * q)
    return weight * xx, weight * xy, weight * yy, weight * x, weight * y
