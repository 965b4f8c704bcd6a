"""The compiled energy: one call gives energy, gradient and curvature of a batch of poses.

The twin of :mod:`featmesh.inference.energy`, without autograd and without rendered maps. At a fixed
cell a moving object carries another surface point under it, so barycentric coordinates b change by
``db/dx = -(db/dd)(dd/dx)``, with d the ray of the cell and ``U = dd/dx`` the flow of the surface
point's ray (exact for flat faces). With G the Gram matrix of a face's feature differences this
gives ``J^T J = U^T (db/dd)^T G (db/dd) U``: channels enter through three inner products a cell, or
not at all where these are looked up in a table (spec 6.1b). Source: ours.

Kernels are serial and release the interpreter lock; nothing is shared between calls, so threads may
evaluate the same object at once.
"""

from dataclasses import dataclass
from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from featmesh.geometry.pose import Pose
from featmesh.inference.energy import FORMS, Comparison
from featmesh.inference.energy_cell import (
    COSINE,
    cell_energy,
    inlined,
    inner_products,
    pull_back,
    weights,
)
from featmesh.render.kernels import cover_one

PARAMETERS = 10  # rotation vector, translation, log zoom, log stretch along x, y, z
_BLOCK = 128  # cells whose derivatives are collected before they are summed: fits the first cache
_NEAR = 1e-6  # vertices nearer than this (object units) are behind the camera
_SUMS = 4  # energy, covered cells, visible cells, sum of s - c over the visible ones

# The cache of a kernel notices changes of this file only: after a change of ``cover_one`` touch it.
# no "nnan" and "ninf": a pose that is not finite must cover nothing instead of anything
_compiled = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"}
)


@dataclass(frozen=True)
class Step:
    """What an optimiser needs to know about b poses.

    Parameters are a rotation vector about the object's centre in camera axes (radians), a
    translation (object units), applied as in ``Pose.update``, then the logarithm of the zoom and
    the logarithms of the object's stretch along its own x, y, z.

    Attributes:
        energy: see :mod:`featmesh.inference.energy`; lower is better.
        gradient: of the energy.
        curvature: Gauss-Newton matrix, positive semidefinite: ``-solve(curvature, gradient)`` is
            the Gauss-Newton step. For ``cosine`` it is that of half the squared form.
        covered: cells inside the photo that the object covers.
        visible: those that the object explains better than clutter, s > c.
        score: mean of s - c over the visible cells, 0 where there are none (contracts 9).
        evidence: mean of max(s - c, 0) over the covered cells, 0 where there are none.
    """

    energy: Float64[np.ndarray, " b"]
    gradient: Float64[np.ndarray, "b 10"]
    curvature: Float64[np.ndarray, "b 10 10"]
    covered: Int64[np.ndarray, " b"]
    visible: Int64[np.ndarray, " b"]
    score: Float64[np.ndarray, " b"]
    evidence: Float64[np.ndarray, " b"]


class _Scene(NamedTuple):
    """A comparison as the kernels want it."""

    vertices: np.ndarray  # float64 (V, 3)
    faces: np.ndarray  # int32 (F, 3)
    gram: np.ndarray  # float32 (F, 6), see _face_grams
    texture: np.ndarray  # float32 (V, C)
    features: np.ndarray  # float32 (H, W, C)
    scores: np.ndarray  # float32 (H, W, V), or (0, 0, 0): no table
    clutter: np.ndarray  # float32 (H, W)
    valid: np.ndarray  # bool (H, W)
    lens: np.ndarray  # float64 (4,): fx, fy, cx, cy
    form: int
    background_cost: float


class _Scratch(NamedTuple):
    """Buffers of one call."""

    points: np.ndarray  # float64 (V, 3), camera axes
    pixels: np.ndarray  # float32 (V, 3): u, v, 1/z
    face_id: np.ndarray  # int32 (H, W), -1 where nothing
    inverse_depth: np.ndarray  # float32 (H, W)
    flow: np.ndarray  # float32 (10, 2 BLOCK): U of each collected cell, its two rows in turn
    weighted: np.ndarray  # float32 (11, 2 BLOCK): the same times the cell's curvature; its force


class FusedEnergy:
    """The energy of one photo and one mesh, fast; built once, evaluated many times.

    Args:
        comparison: what is rendered, what it is compared with, and how.
        scores: inner products of each cell's feature and each vertex's, where the caller has them
            anyway. To compute them for this takes longer than they save in one photo.
    """

    def __init__(
        self, comparison: Comparison, scores: Float[Tensor, "h w v"] | None = None
    ) -> None:
        cells, mesh = comparison.cells, comparison.mesh
        faces, texture = _array(mesh.faces, np.int32), _array(comparison.texture, np.float32)
        no_table = np.zeros((0, 0, 0), np.float32)
        lens = [getattr(cells.camera, name) for name in ("fx", "fy", "cx", "cy")]
        self.comparison = comparison
        self._scene = _Scene(
            vertices=_array(mesh.vertices, np.float64),
            faces=faces,
            gram=_face_grams(texture, faces),
            texture=texture,
            features=_array(cells.features, np.float32),
            scores=no_table if scores is None else _array(scores, np.float32),
            clutter=_array(cells.clutter, np.float32),
            valid=_array(cells.valid, np.bool_),
            lens=np.array(lens),
            form=FORMS.index(comparison.form),
            background_cost=float(comparison.background_cost),
        )
        self._cells = max(1, int(self._scene.valid.sum()))

    def evaluate(
        self,
        R: Float64[np.ndarray, "b 3 3"],
        t: Float64[np.ndarray, "b 3"],
        log_zoom: Float64[np.ndarray, " b"] | None = None,
        log_stretch: Float64[np.ndarray, "b 3"] | None = None,
    ) -> Step:
        """Return energy, gradient, curvature and scores of b poses ``cam_from_obj``.

        Args:
            R: rotations.
            t: translations, in the unit of the mesh.
            log_zoom: logarithms of factors on the focal length, None for 0.
            log_stretch: logarithms of factors on the object's own x, y, z, None for 0.
        """
        zoom = np.ones(len(R)) if log_zoom is None else np.exp(log_zoom)
        stretch = np.ones((len(R), 3)) if log_stretch is None else np.exp(log_stretch)
        sums, moments = np.zeros((len(R), _SUMS)), np.zeros((len(R), PARAMETERS, PARAMETERS + 1))
        poses = np.ascontiguousarray(R), np.ascontiguousarray(t), (zoom, stretch)
        _evaluate(self._scene, *poses, self._scratch(), sums, moments)
        energy, covered, visible, gained = sums.T
        return Step(
            energy=energy / self._cells,
            gradient=moments[:, :, PARAMETERS] / self._cells,
            curvature=moments[:, :, :PARAMETERS] / self._cells,
            covered=covered.astype(np.int64),
            visible=visible.astype(np.int64),
            score=gained / np.maximum(visible, 1),
            evidence=gained / np.maximum(covered, 1),
        )

    def score_map(
        self,
        pose: Pose,
        log_zoom: float = 0.0,
        log_stretch: Float64[np.ndarray, " 3"] | None = None,
    ) -> Float32[np.ndarray, "h w"]:
        """Return s - c of the covered cells inside the photo, nan elsewhere, of one pose."""
        out = np.full(self._scene.valid.shape, np.nan, np.float32)
        R, t = _array(pose.R, np.float64), _array(pose.t, np.float64)
        stretch = np.ones(3) if log_stretch is None else np.exp(log_stretch)
        _score_map(self._scene, R, t, (float(np.exp(log_zoom)), stretch), self._scratch(), out)
        return out

    def visible(self, pose: Pose, log_zoom: float = 0.0) -> Bool[np.ndarray, "h w"]:
        """Return where the object is seen: covered and s > c, inside the photo."""
        return self.score_map(pose, log_zoom) > 0

    def _scratch(self) -> _Scratch:
        shape, vertices = self._scene.valid.shape, len(self._scene.vertices)
        return _Scratch(
            points=np.zeros((vertices, 3)),
            pixels=np.zeros((vertices, 3), np.float32),
            face_id=np.zeros(shape, np.int32),
            inverse_depth=np.zeros(shape, np.float32),
            flow=np.zeros((PARAMETERS, 2 * _BLOCK), np.float32),
            weighted=np.zeros((PARAMETERS + 1, 2 * _BLOCK), np.float32),
        )


def _array(values: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=dtype)


def _face_grams(texture: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return |q|^2, q.d, q.e, d.d, d.e, e.e of each face: q its first feature, d and e from q."""
    q, d, e = (texture[faces[:, k]] for k in range(3))
    d, e = d - q, e - q
    pairs = ((q, q), (q, d), (q, e), (d, d), (d, e), (e, e))
    return np.stack([(a * b).sum(1) for a, b in pairs], 1)


@_compiled
@no_type_check
def _evaluate(scene, R, t, lens, scratch, sums, moments):
    """Fill the sums (b, 4) and, as curvature and gradient side by side, the moments (b, 10, 11)."""
    for b in range(R.shape[0]):
        zoom, stretch = lens[0][b], lens[1][b]
        window = _project(scene, R[b], t[b], (zoom, stretch), scratch)
        cover_one(scratch.pixels, scene.faces, True, scratch.face_id, scratch.inverse_depth)
        _accumulate(scene, (R[b], t[b], zoom), scratch, window, sums[b], moments[b])
        for i in range(PARAMETERS):
            for j in range(i):
                moments[b, i, j] = moments[b, j, i]


@_compiled
@no_type_check
def _score_map(scene, R, t, lens, scratch, out):
    left, right, top, bottom = _project(scene, R, t, lens, scratch)
    cover_one(scratch.pixels, scene.faces, True, scratch.face_id, scratch.inverse_depth)
    fx, fy = scene.lens[0] * lens[0], scene.lens[1] * lens[0]
    for y in range(top, bottom):
        for x in range(left, right):
            face = scratch.face_id[y, x]
            if face >= 0 and scene.valid[y, x]:
                ray_x, ray_y = (x + 0.5 - scene.lens[2]) / fx, (y + 0.5 - scene.lens[3]) / fy
                b1, b2 = weights(scene.faces, scratch.points, face, ray_x, ray_y)[:2]
                s0, s1, s2 = inner_products(scene, face, y, x)
                out[y, x] = s0 + b1 * s1 + b2 * s2 - scene.clutter[y, x]


@_compiled
@no_type_check
def _project(scene, R, t, lens, scratch):
    """Fill points and pixels; return the window (left, right, top, bottom) they may cover."""
    height, width = scene.valid.shape
    zoom, stretch = lens
    fx, fy, cx, cy = scene.lens[0] * zoom, scene.lens[1] * zoom, scene.lens[2], scene.lens[3]
    low_u, high_u, low_v, high_v = 1.0 * width, 0.0, 1.0 * height, 0.0
    for k in range(scene.vertices.shape[0]):
        px, py = scene.vertices[k, 0] * stretch[0], scene.vertices[k, 1] * stretch[1]
        pz = scene.vertices[k, 2] * stretch[2]
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


@_compiled
@no_type_check
def _accumulate(scene, pose, scratch, window, sums, moments):
    """Add the cells of one pose to its sums and moments."""
    left, right, top, bottom = window
    R, t, zoom = pose
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
            cost, counts = cell_energy(scene.form, scene.background_cost, s, n, c)
            total += cost
            covered += 1
            visible += s > c
            gained += max(s - c, 0.0)
            if counts:
                p, q = kept * h1 - s1, kept * h2 - s2
                pull = pull_back(gram, slopes, p, q, weight)
                _collect(scratch, held, pull, (ray_x, ray_y, z), (R, t))
                held += 2
                if held == 2 * _BLOCK:
                    _add_moments(scratch, held, moments)
                    held = 0
    _add_moments(scratch, held, moments)
    sums[0], sums[1], sums[2], sums[3] = total, covered, visible, gained


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
    """Store how the ray of a point (x, y, depth) moves with each parameter, see _Scratch."""
    ray_x, ray_y, depth = point
    R, t = pose
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
    scratch.weighted[PARAMETERS, at], scratch.weighted[PARAMETERS, at + 1] = pull[3], pull[4]


@_compiled
@no_type_check
def _add_moments(scratch, held, moments):
    """Add the upper triangle of U^T M U and, as the last column, U^T force of the held cells."""
    for i in range(PARAMETERS):
        for j in range(i, PARAMETERS + 1):
            total = np.float32(0)
            for k in range(held):
                total += scratch.flow[i, k] * scratch.weighted[j, k]
            moments[i, j] += total
