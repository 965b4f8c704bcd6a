"""The compiled energy: one call gives energy, gradient and curvature of a batch of poses.

The twin of :mod:`featmesh.inference.energy`, without autograd and without rendered maps; how is
told in :mod:`featmesh.inference.energy_kernels`. Source: ours.

Kernels are serial and release the interpreter lock; nothing is shared between calls, so threads may
evaluate the same object at once.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from featmesh.geometry.pose import Pose
from featmesh.inference.energy import FORMS, Comparison
from featmesh.inference.energy_kernels import (
    BLOCK,
    POSE,
    Scene,
    Scratch,
    Surface,
    evaluate_poses,
    fill_score_map,
)

JUMP = 0.06  # share of the object's extent: a depth step that is an outline, not a slope
_SUMS = 4  # energy, covered cells, visible cells, sum of s - c over the visible ones


@dataclass(frozen=True)
class Step:
    """What an optimiser needs to know about b poses.

    Parameters are a rotation vector about the object's centre in camera axes (radians), a
    translation (object units), applied as in ``Pose.update``, then the logarithm of the zoom and
    the logarithms of the object's stretch along its own x, y, z; then the k latents of the shape.

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
    gradient: Float64[np.ndarray, "b p"]
    curvature: Float64[np.ndarray, "b p p"]
    covered: Int64[np.ndarray, " b"]
    visible: Int64[np.ndarray, " b"]
    score: Float64[np.ndarray, " b"]
    evidence: Float64[np.ndarray, " b"]


class FusedEnergy:
    """The energy of one photo and one mesh, fast; built once, evaluated many times.

    Args:
        comparison: what is rendered, what it is compared with, and how.
        scores: inner products of each cell's feature and each vertex's, where the caller has them
            anyway. To compute them for this takes longer than they save in one photo.
        outline: whether moving outlines pull too (rendering 5): needed where the shape is free.
    """

    def __init__(
        self,
        comparison: Comparison,
        scores: Float[Tensor, "h w v"] | None = None,
        outline: bool = False,
    ) -> None:
        cells, mesh = comparison.cells, comparison.mesh
        faces, texture = _array(mesh.faces, np.int32), _array(comparison.texture, np.float32)
        no_table = np.zeros((0, 0, 0), np.float32)
        lens = [getattr(cells.camera, name) for name in ("fx", "fy", "cx", "cy")]
        self.comparison = comparison
        self._vertices = _array(mesh.vertices, np.float64)
        self._scene = Scene(
            faces=faces,
            gram=_face_grams(texture, faces),
            texture=texture,
            features=_array(cells.features, np.float32),
            scores=no_table if scores is None else _array(scores, np.float32),
            clutter=_array(cells.clutter, np.float32),
            valid=_array(cells.valid, np.bool_),
            lens=np.array(lens),
            form=FORMS.index(comparison.form),
            costs=np.array([comparison.background_cost, comparison.price, comparison.edge], float),
            outline=JUMP * float(mesh.extent.norm()) if outline else 0.0,
        )
        self._cells = max(1, int(self._scene.valid.sum()))

    def evaluate(
        self,
        R: Float64[np.ndarray, "b 3 3"],
        t: Float64[np.ndarray, "b 3"],
        log_zoom: Float64[np.ndarray, " b"] | None = None,
        log_stretch: Float64[np.ndarray, "b 3"] | None = None,
        surface: Surface | None = None,
    ) -> Step:
        """Return energy, gradient, curvature and scores of b poses ``cam_from_obj``.

        Args:
            R: rotations.
            t: translations, in the unit of the mesh.
            log_zoom: logarithms of factors on the focal length, None for 0.
            log_stretch: logarithms of factors on the object's own x, y, z, None for 0.
            surface: vertices of each pose's object and how its latents move them, None: the mesh.
        """
        zoom = np.ones(len(R)) if log_zoom is None else np.exp(log_zoom)
        stretch = np.ones((len(R), 3)) if log_stretch is None else np.exp(log_stretch)
        surface = surface or Surface(self._vertices[None], np.zeros((1, 0, 1, 3)))
        p = POSE + surface.basis.shape[1]
        sums, moments = np.zeros((len(R), _SUMS)), np.zeros((len(R), p, p + 1))
        poses = np.ascontiguousarray(R), np.ascontiguousarray(t), zoom, stretch
        evaluate_poses(self._scene, surface, poses, self._scratch(p), sums, moments)
        energy, covered, visible, gained = sums.T
        return Step(
            energy=energy / self._cells,
            gradient=moments[:, :, p] / self._cells,
            curvature=moments[:, :, :p] / self._cells,
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
        vertices: Float64[np.ndarray, "v 3"] | None = None,
    ) -> Float32[np.ndarray, "h w"]:
        """Return s - c of the covered cells inside the photo, nan elsewhere, of one pose."""
        out = np.full(self._scene.valid.shape, np.nan, np.float32)
        R, t = _array(pose.R, np.float64), _array(pose.t, np.float64)
        stretch = np.ones(3) if log_stretch is None else np.exp(log_stretch)
        vertices = self._vertices if vertices is None else np.ascontiguousarray(vertices)
        seen = (R, t, float(np.exp(log_zoom)), stretch)
        fill_score_map(self._scene, vertices, seen, self._scratch(POSE), out)
        return out

    def visible(self, pose: Pose, log_zoom: float = 0.0) -> Bool[np.ndarray, "h w"]:
        """Return where the object is seen: covered and s > c, inside the photo."""
        return self.score_map(pose, log_zoom) > 0

    def _scratch(self, p: int) -> Scratch:
        shape, vertices = self._scene.valid.shape, len(self._vertices)
        return Scratch(
            points=np.zeros((vertices, 3)),
            pixels=np.zeros((vertices, 3), np.float32),
            face_id=np.zeros(shape, np.int32),
            inverse_depth=np.zeros(shape, np.float32),
            flow=np.zeros((p, 2 * BLOCK), np.float32),
            weighted=np.zeros((p + 1, 2 * BLOCK), np.float32),
        )


def _array(values: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=dtype)


def _face_grams(texture: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return |q|^2, q.d, q.e, d.d, d.e, e.e of each face: q its first feature, d and e from q."""
    q, d, e = (texture[faces[:, k]] for k in range(3))
    d, e = d - q, e - q
    pairs = ((q, q), (q, d), (q, e), (d, d), (d, e), (e, e))
    return np.stack([(a * b).sum(1) for a, b in pairs], 1)
