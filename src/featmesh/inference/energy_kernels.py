"""Kernels of the compiled energy: sums, gradient and curvature of poses over the cells of a photo.

At a fixed cell a moving object carries another surface point under it, so barycentric coordinates b
change by ``db/dx = -(db/dd)(dd/dx)``, with d the ray of the cell and ``U = dd/dx`` the flow of the
surface point's ray (exact for flat faces). With G the Gram matrix of a face's feature differences
this gives ``J^T J = U^T (db/dd)^T G (db/dd) U``: channels enter through three inner products a
cell, or not at all where these are looked up in a table (spec 6.1b). Outlines move like the surface
in front of them; what that changes is added to the gradient (:mod:`featmesh.render.edges`).

Serial, without the interpreter lock, called by :mod:`featmesh.inference.energy_numba` only. Ours.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np

from featmesh.inference.energy_cell import (
    COSINE,
    cell_energy,
    inlined,
    inner_products,
    pull_back,
    weights,
)
from featmesh.render.kernels import cover_one

POSE = 10  # rotation vector, translation, log zoom, log stretch along x, y, z; then the latents
BLOCK = 128  # cells whose derivatives are collected before they are summed: fits the first cache
STEEPEST = 3.0  # cell widths of depth from a cell to the next: about 72 degrees
_NEAR = 1e-6  # vertices nearer than this (object units) are behind the camera

# A kernel's cache notices changes of this file only: after one of ``cover_one``, or of what
# energy_cell inlines, touch it.
# no "nnan" and "ninf": a pose that is not finite must cover nothing instead of anything
_ROUNDING = {"reassoc", "contract", "nsz", "arcp"}
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_ROUNDING)
# Part of the kernel that calls it. Were it a function of its own, the process that compiles would
# call that one, and a later process the copy in its caller's cache: optimised anew, rounded anew.
_part = numba.njit(nogil=True, error_model="numpy", fastmath=_ROUNDING, forceinline=True)


class Surface(NamedTuple):
    """The surface of each of b poses' objects, or one of them all: vertices, how latents move them.

    Contiguous always: another layout is other machine code, whose sums round differently.
    """

    vertices: np.ndarray  # float64 (b or 1, V, 3), object frame, before the stretch
    basis: np.ndarray  # float64 (b or 1, k, V, 3), derivative of the vertices


class Scene(NamedTuple):
    """A comparison as the kernels want it."""

    faces: np.ndarray  # int32 (F, 3)
    gram: np.ndarray  # float32 (F, 6), see _face_grams
    texture: np.ndarray  # float32 (V, C)
    features: np.ndarray  # float32 (H, W, C)
    scores: np.ndarray  # float32 (H, W, V), or (0, 0, 0): no table
    clutter: np.ndarray  # float32 (H, W)
    valid: np.ndarray  # bool (H, W)
    lens: np.ndarray  # float64 (4,): fx, fy, cx, cy
    form: int
    costs: np.ndarray  # float64 (3,), see energy_cell.cell_energy
    outline: float  # depth step that is an outline, object units; 0: outlines do not pull


class Scratch(NamedTuple):
    """Buffers of one call."""

    points: np.ndarray  # float64 (V, 3), camera axes
    pixels: np.ndarray  # float32 (V, 3): u, v, 1/z
    face_id: np.ndarray  # int32 (H, W), -1 where nothing
    inverse_depth: np.ndarray  # float32 (H, W)
    flow: np.ndarray  # float32 (p, 2 BLOCK): U of each collected cell, its two rows in turn
    weighted: np.ndarray  # float32 (p + 1, 2 BLOCK): the same times the cell's curvature; its force


@_compiled
@no_type_check
def evaluate_poses(scene, surface, poses, scratch, sums, moments):
    """Fill the sums (b, 4) and, as curvature and gradient side by side, the moments (b, p, p+1).

    ``poses`` are R (b, 3, 3), t (b, 3), zoom (b,) and stretch (b, 3).
    """
    parameters = moments.shape[1]
    for b in range(moments.shape[0]):
        pose = (poses[0][b], poses[1][b], poses[2][b], poses[3][b])
        own = min(b, surface.vertices.shape[0] - 1)  # one surface for all, or one each
        window = _project(scene, surface.vertices[own], pose, scratch)
        cover_one(scratch.pixels, scene.faces, True, scratch.face_id, scratch.inverse_depth)
        _accumulate(scene, surface.basis[own], pose, scratch, window, sums[b], moments[b])
        if scene.outline > 0:
            _pull_outline(scene, surface.basis[own], pose, scratch, window, moments[b])
        for i in range(parameters):
            for j in range(i):
                moments[b, i, j] = moments[b, j, i]


@_compiled
@no_type_check
def fill_score_map(scene, vertices, pose, scratch, out):
    """Fill s - c of the cells (h, w) that an object covers at a pose (R, t, zoom, stretch)."""
    left, right, top, bottom = _project(scene, vertices, pose, scratch)
    cover_one(scratch.pixels, scene.faces, True, scratch.face_id, scratch.inverse_depth)
    fx, fy = scene.lens[0] * pose[2], scene.lens[1] * pose[2]
    for y in range(top, bottom):
        for x in range(left, right):
            face = scratch.face_id[y, x]
            if face >= 0 and scene.valid[y, x]:
                ray_x, ray_y = (x + 0.5 - scene.lens[2]) / fx, (y + 0.5 - scene.lens[3]) / fy
                b1, b2 = weights(scene.faces, scratch.points, face, ray_x, ray_y)[:2]
                s0, s1, s2 = inner_products(scene, face, y, x)
                out[y, x] = s0 + b1 * s1 + b2 * s2 - scene.clutter[y, x]


@_part
@no_type_check
def _project(scene, vertices, pose, scratch):
    """Fill points and pixels; return the window (left, right, top, bottom) they may cover."""
    height, width = scene.valid.shape
    R, t, zoom, stretch = pose
    fx, fy, cx, cy = scene.lens[0] * zoom, scene.lens[1] * zoom, scene.lens[2], scene.lens[3]
    low_u, high_u, low_v, high_v = 1.0 * width, 0.0, 1.0 * height, 0.0
    for k in range(vertices.shape[0]):
        px, py, pz = (
            vertices[k, 0] * stretch[0],
            vertices[k, 1] * stretch[1],
            vertices[k, 2] * stretch[2],
        )
        x = R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz + t[0]
        y = R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz + t[1]
        z = R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz + t[2]
        front = z > _NEAR
        inverse = 1.0 / z if front else 0.0
        u, v = fx * x * inverse + cx, fy * y * inverse + cy
        scratch.points[k, 0], scratch.points[k, 1], scratch.points[k, 2] = x, y, z
        scratch.pixels[k, 0], scratch.pixels[k, 1], scratch.pixels[k, 2] = u, v, inverse
        if front:
            low_u, high_u = min(low_u, u), max(high_u, u)
            low_v, high_v = min(low_v, v), max(high_v, v)
    # one cell more than the vertices reach: coverage rounds to 1/256 cell
    left, right = int(max(low_u - 1, 0.0)), int(min(high_u + 2, 1.0 * width))
    top, bottom = int(max(low_v - 1, 0.0)), int(min(high_v + 2, 1.0 * height))
    # again as integers: nobody knows which integer nan is
    return max(left, 0), min(right, width), max(top, 0), min(bottom, height)


@_part
@no_type_check
def _accumulate(scene, basis, pose, scratch, window, sums, moments):
    """Add the cells of one pose to its sums and moments."""
    left, right, top, bottom = window
    zoom = pose[2]
    fx, fy = scene.lens[0] * zoom, scene.lens[1] * zoom
    # -s is half of n - 2 s + 1 without n: half the curvature, and only s pulls
    weight, kept = (1.0, 0.0) if scene.form == COSINE else (2.0, 1.0)
    held, covered, visible, total, gained = 0, 0, 0, 0.0, 0.0
    for y in range(top, bottom):
        ray_y = (y + 0.5 - scene.lens[3]) / fy
        for x in range(left, right):
            face = scratch.face_id[y, x]
            if face < 0 or not scene.valid[y, x]:
                continue
            ray_x = (x + 0.5 - scene.lens[2]) / fx
            b1, b2, slopes, z = weights(scene.faces, scratch.points, face, ray_x, ray_y)
            s0, s1, s2 = inner_products(scene, face, y, x)
            gram = scene.gram[face]
            h1 = gram[1] + gram[3] * b1 + gram[4] * b2
            h2 = gram[2] + gram[4] * b1 + gram[5] * b2
            s = s0 + b1 * s1 + b2 * s2
            n = gram[0] + b1 * (gram[1] + h1) + b2 * (gram[2] + h2)
            c = scene.clutter[y, x]
            cost, counts = cell_energy(scene.form, scene.costs, s, n, c)
            total += cost
            covered += 1
            visible += s > c
            gained += max(s - c, 0.0)
            if counts:
                p, q = kept * h1 - s1, kept * h2 - s2
                pull = pull_back(gram, slopes, p, q, weight)
                _collect(scratch, held, pull, (ray_x, ray_y, z), pose)
                shown = (face, b1, b2, z, ray_x, ray_y)
                _collect_latents(scene, basis, scratch, held, pull, shown, pose)
                held += 2
                if held == 2 * BLOCK:
                    _add_moments(scratch, held, moments)
                    held = 0
    _add_moments(scratch, held, moments)
    sums[0], sums[1], sums[2], sums[3] = total, covered, visible, gained


@_part
@no_type_check
def _pull_outline(scene, basis, pose, scratch, window, moments):
    """Add the pull of moving outlines to the gradient, see :mod:`featmesh.render.edges`."""
    left, right, top, bottom = window
    height, width = scene.valid.shape
    left, top = max(left - 1, 0), max(top - 1, 0)
    right, bottom = min(right + 1, width), min(bottom + 1, height)
    held = 0
    for axis in range(2):
        focal = scene.lens[axis] * pose[2]
        for y in range(top, bottom - axis):
            for x in range(left, right - (1 - axis)):
                p, q = (y, x), (y + axis, x + 1 - axis)
                if not _is_outline(scene, scratch, p, q, focal):
                    continue
                at_p, at_q = _shown(scene, scratch, pose[2], p), _shown(scene, scratch, pose[2], q)
                gain = _cost(scene, at_p, q) - _cost(scene, at_q, q)
                gain = (gain + _cost(scene, at_p, p) - _cost(scene, at_q, p)) / 2
                front_p = scratch.inverse_depth[p] >= scratch.inverse_depth[q]
                owner = at_p if at_q[0] < 0 or (at_p[0] >= 0 and front_p) else at_q
                force = (gain * focal * (1 - axis), gain * focal * axis)
                pull = (0.0, 0.0, 0.0, force[0], force[1])
                _collect(scratch, held, pull, (owner[4], owner[5], owner[3]), pose)
                _collect_latents(scene, basis, scratch, held, pull, owner, pose)
                held += 2
                if held == 2 * BLOCK:
                    _add_moments(scratch, held, moments)
                    held = 0
    _add_moments(scratch, held, moments)


@inlined
@no_type_check
def _is_outline(scene, scratch, p, q, focal):
    """Return whether two neighbours lie on either side of an outline."""
    covered_p, covered_q = scratch.face_id[p] >= 0, scratch.face_id[q] >= 0
    if not (covered_p and covered_q):
        return covered_p or covered_q
    z_p, z_q = 1 / scratch.inverse_depth[p], 1 / scratch.inverse_depth[q]
    return abs(z_p - z_q) > max(scene.outline, STEEPEST * min(z_p, z_q) / focal)


@inlined
@no_type_check
def _shown(scene, scratch, zoom, at):
    """Return what a cell shows: face (-1 nothing), weights, depth, ray."""
    face = scratch.face_id[at]
    ray_x = (at[1] + 0.5 - scene.lens[2]) / (scene.lens[0] * zoom)
    ray_y = (at[0] + 0.5 - scene.lens[3]) / (scene.lens[1] * zoom)
    if face < 0:
        return face, 0.0, 0.0, 0.0, ray_x, ray_y
    b1, b2, _, z = weights(scene.faces, scratch.points, face, ray_x, ray_y)
    return face, b1, b2, z, ray_x, ray_y


@inlined
@no_type_check
def _cost(scene, shown, at):
    """Return the energy of a cell if it showed what another one shows."""
    face, b1, b2 = shown[0], shown[1], shown[2]
    if face < 0 or not scene.valid[at]:
        return 0.0
    s0, s1, s2 = inner_products(scene, face, at[0], at[1])
    gram = scene.gram[face]
    h1 = gram[1] + gram[3] * b1 + gram[4] * b2
    h2 = gram[2] + gram[4] * b1 + gram[5] * b2
    n = gram[0] + b1 * (gram[1] + h1) + b2 * (gram[2] + h2)
    return cell_energy(scene.form, scene.costs, s0 + b1 * s1 + b2 * s2, n, scene.clutter[at])[0]


@inlined
@no_type_check
def _store(scratch, i, at, pull, flow_x, flow_y):
    """Store how the ray moves with parameter i."""
    scratch.flow[i, at], scratch.flow[i, at + 1] = flow_x, flow_y
    scratch.weighted[i, at] = pull[0] * flow_x + pull[1] * flow_y
    scratch.weighted[i, at + 1] = pull[1] * flow_x + pull[2] * flow_y


@inlined
@no_type_check
def _collect(scratch, at, pull, point, pose):
    """Store how the ray of a point (x, y, depth) moves with each parameter, see Scratch."""
    ray_x, ray_y, depth = point
    R, t = pose[0], pose[1]
    inverse = 1 / depth
    # from the object's centre to the point, over depth
    x, y, z = ray_x - t[0] * inverse, ray_y - t[1] * inverse, 1 - t[2] * inverse
    _store(scratch, 0, at, pull, -ray_x * y, -z - ray_y * y)
    _store(scratch, 1, at, pull, z + ray_x * x, ray_y * x)
    _store(scratch, 2, at, pull, -y, x)
    _store(scratch, 3, at, pull, inverse, 0.0)
    _store(scratch, 4, at, pull, 0.0, inverse)
    _store(scratch, 5, at, pull, -ray_x * inverse, -ray_y * inverse)
    _store(scratch, 6, at, pull, ray_x, ray_y)
    for k in range(3):  # the point moves along the object's axis k by its own coordinate there
        along = R[0, k] * x + R[1, k] * y + R[2, k] * z
        dz = along * R[2, k]
        _store(scratch, 7 + k, at, pull, along * R[0, k] - ray_x * dz, along * R[1, k] - ray_y * dz)
    last = scratch.weighted.shape[0] - 1
    scratch.weighted[last, at], scratch.weighted[last, at + 1] = pull[3], pull[4]


@inlined
@no_type_check
def _collect_latents(scene, basis, scratch, at, pull, shown, pose):
    """Store how the ray of what a cell shows moves with each latent."""
    face, b1, b2, depth, ray_x, ray_y = shown
    R, stretch = pose[0], pose[3]
    i, j, k = scene.faces[face, 0], scene.faces[face, 1], scene.faces[face, 2]
    inverse, b0 = 1 / depth, 1 - b1 - b2
    for m in range(basis.shape[0]):
        d0 = stretch[0] * (b0 * basis[m, i, 0] + b1 * basis[m, j, 0] + b2 * basis[m, k, 0])
        d1 = stretch[1] * (b0 * basis[m, i, 1] + b1 * basis[m, j, 1] + b2 * basis[m, k, 1])
        d2 = stretch[2] * (b0 * basis[m, i, 2] + b1 * basis[m, j, 2] + b2 * basis[m, k, 2])
        dx = R[0, 0] * d0 + R[0, 1] * d1 + R[0, 2] * d2
        dy = R[1, 0] * d0 + R[1, 1] * d1 + R[1, 2] * d2
        dz = R[2, 0] * d0 + R[2, 1] * d1 + R[2, 2] * d2
        flow_x, flow_y = (dx - ray_x * dz) * inverse, (dy - ray_y * dz) * inverse
        _store(scratch, POSE + m, at, pull, flow_x, flow_y)


@_part
@no_type_check
def _add_moments(scratch, held, moments):
    """Add the upper triangle of U^T M U and, as the last column, U^T force of the held cells."""
    parameters = moments.shape[0]
    for i in range(parameters):
        for j in range(i, parameters + 1):
            total = np.float32(0)
            for k in range(held):
                total += scratch.flow[i, k] * scratch.weighted[j, k]
            moments[i, j] += total
