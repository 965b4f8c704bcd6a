"""Analysis by synthesis explains each pixel: object, occluder in front of it, or background.

The mesh is drawn where the estimate says it is, with its texture; where the photo's features are
not the texture's, something else is in front. The difference of the two explanations is taken at
the grain of the feature map, smoothed over the object and grown before it is cut, so masks have
the photo's own resolution. Labels, depth and surface coordinates are read off the same drawing
(spec 2.10, 6.1); evidence of parts, where the labels have any, is joined in
:mod:`featmesh.inference.part_fusion`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.mesh import Mesh
from featmesh.model.category import CategoryModel
from featmesh.model.clutter import clutter_score
from featmesh.model.labels import Labels
from featmesh.photo.photo import Photo
from featmesh.render.kernels import compiled
from featmesh.render.rasterize import rasterize

from .config import SegmentConfig
from .part_fusion import fused_parts
from .result import INVISIBLE, OCCLUDED, VISIBLE, Estimate, Maps, Segmentation, posed


@dataclass(frozen=True)
class Drawing:
    """The object drawn into a picture: one row for each of its pixels, in reading order.

    Attributes:
        rows, columns: of the pixels.
        face: face at each.
        corners: its vertices.
        bary: where in it.
        depth: z of the surface.
    """

    rows: Int64[np.ndarray, " n"]
    columns: Int64[np.ndarray, " n"]
    face: Int64[np.ndarray, " n"]
    corners: Int64[np.ndarray, "n 3"]
    bary: Float32[np.ndarray, "n 3"]
    depth: Float32[np.ndarray, " n"]

    def spread(self, values: np.ndarray, size: tuple[int, int], rest: float) -> np.ndarray:
        """Return a picture of the pixels' values, ``rest`` where the object is not."""
        out = np.full(size, rest, values.dtype)
        out[self.rows, self.columns] = values
        return out


def segment(
    model: CategoryModel,
    photo: Photo,
    estimate: Estimate,
    labels: Labels | None = None,
    config: SegmentConfig | None = None,
) -> Segmentation:
    """Return masks, parts, depth and states of the surface for an estimate of a photo.

    Args:
        model: the one that made the estimate.
        photo: the whole photo.
        estimate: with a pose.
        labels: parts of the surface, None for the model's own.
        config: where an occluder begins, and what evidence of parts weighs.

    Raises:
        InputError: E_POSE where the estimate has no pose, E_LABELS where the labels do not fit.
        CheckpointError: E_CKPT_CONFIG or E_CKPT_HASH for evidence that is not this network's.
    """
    placed = posed(estimate, "segment()")
    mesh, camera, pose = placed.mesh, placed.camera, placed.pose
    points = pose.apply(mesh.vertices.to(pose.R.dtype)).float()
    labels = labels if labels is not None else model.labels
    if labels is not None:
        labels.checked(mesh, "segment()")
    drawing = _draw(points, mesh, camera)
    whole = (photo.height, photo.width)
    config = config or SegmentConfig()
    excess = _excess(model, placed.maps, points, mesh, camera, config)
    seen = excess(drawing.rows, drawing.columns) > config.even
    rendered = parts = seen_parts = None
    shares = dict[str, float]()
    if labels is not None:
        weights = labels.weights.numpy().astype(np.float32)
        drawn = likeliest(np.ascontiguousarray(weights), drawing.corners, drawing.bary)
        shares = _shares(labels.names, drawn, seen)
        rendered = parts = drawing.spread(drawn, whole, 0.0)
        seen_parts = drawing.spread(drawn * seen, whole, 0.0)
        if labels.evidence is not None:
            told = (seen_parts, parts)
            seen_parts, parts = fused_parts(model, photo, estimate, labels, told, excess, config)
    return Segmentation(
        amodal=drawing.spread(np.ones(len(seen), bool), whole, 0.0),
        visible=drawing.spread(seen, whole, 0.0),
        face_id=drawing.spread(drawing.face.astype(np.int32), whole, -1.0),
        bary=drawing.bary,
        depth=drawing.spread(drawing.depth, whole, np.inf),
        parts=parts,
        names=() if labels is None else labels.names,
        states=_states(drawing.face, seen, len(mesh.faces)),
        shares=shares,
        seen_parts=seen_parts,
        rendered_parts=rendered,
    )


def hide(found: Segmentation, by: Bool[np.ndarray, "h w"]) -> Segmentation:
    """Return the segmentation of an object of which some pixels are hidden by another one."""
    seen = (found.visible & ~by)[found.amodal]
    shares = {}
    if found.rendered_parts is not None:
        shares = _shares(found.names, found.rendered_parts[found.amodal], seen)
    seen_parts = found.seen_parts
    return replace(
        found,
        visible=found.visible & ~by,
        seen_parts=None if seen_parts is None else seen_parts * ~by,
        states=_states(found.face_id[found.amodal], seen, len(found.states)),
        shares=shares,
    )


def _draw(points: Tensor, mesh: Mesh, camera: Camera) -> Drawing:
    """Return the object as the camera sees it."""
    y0, x0, window = _window(points, camera)
    found = rasterize(points[None], mesh.faces, window)
    drawn = found.face_id[0] >= 0
    rows, columns = drawn.nonzero(as_tuple=True)
    face = found.face_id[0][drawn]
    return Drawing(
        rows.numpy() + y0,
        columns.numpy() + x0,
        face.numpy(),
        mesh.faces[face].numpy(),
        found.bary[0][drawn].numpy(),
        found.depth[0][drawn].numpy(),
    )


def _window(points: Tensor, camera: Camera) -> tuple[int, int, Camera]:
    """Return the corner of the smallest part of the photo that holds the object, and its camera."""
    pixels, in_front = camera.project(points)
    if not bool(in_front.all()):  # no box: the rasteriser drops what is behind
        return 0, 0, camera
    low, high = pixels.amin(0).tolist(), pixels.amax(0).tolist()
    x0, x1 = (int(np.clip(v, 0, camera.width)) for v in (low[0], high[0] + 1))
    y0, y1 = (int(np.clip(v, 0, camera.height)) for v in (low[1], high[1] + 1))
    return y0, x0, camera.crop(float(x0), float(y0), max(y1 - y0, 1), max(x1 - x0, 1))


def _excess(
    model: CategoryModel,
    maps: Maps,
    points: Tensor,
    mesh: Mesh,
    camera: Camera,
    config: SegmentConfig,
) -> Callable[[np.ndarray, np.ndarray], Float32[np.ndarray, " n"]]:
    """Return what tells object less clutter, smoothed over the object, at rows and columns."""
    crop, stride = maps.crop, model.config.stride
    lens = crop.photo_camera
    cell = stride * lens.fx / crop.camera.fx  # photo pixels
    shrink = min(1.0, config.grain / cell)
    coarse = _draw(points, mesh, camera.scale(shrink))
    if not len(coarse.rows):  # nothing of the object at this grain: too small to be hidden
        return lambda rows, _: np.full(len(rows), np.inf, np.float32)
    places = ((v + 0.5) / shrink - 0.5 for v in (coarse.rows, coarse.columns))
    at = cells_at(crop, stride, *places)
    rest = _object_over_clutter(model, maps, at, coarse)
    size = (round(camera.height * shrink) + 1, round(camera.width * shrink) + 1)
    inside = coarse.spread(np.ones(len(rest), np.float32), size, 0.0)
    sigma = config.blur * cell * shrink
    weight = gaussian_filter(inside, sigma, mode="constant")
    smooth = gaussian_filter(inside * coarse.spread(rest, size, 0.0), sigma, mode="constant")
    smooth /= np.maximum(weight, 1e-6)

    def at_pixels(rows: np.ndarray, columns: np.ndarray) -> Float32[np.ndarray, " n"]:
        x, y = (columns + 0.5) * shrink - 0.5, (rows + 0.5) * shrink - 0.5
        return read_between(smooth, x.astype(np.float32), y.astype(np.float32))

    return at_pixels


def cells_at(
    crop: Crop, stride: int, rows: np.ndarray, columns: np.ndarray
) -> Float32[np.ndarray, "n 2"]:
    """Return where the centres of photo pixels lie in the feature map: x, y in cells.

    Both are -1 of a pixel that lies behind the crop's camera.
    """
    pixels = torch.from_numpy(np.stack([columns + 0.5, rows + 0.5], -1))
    rays = crop.photo_camera.unproject(pixels) @ crop.Q.T
    places, in_front = crop.camera.scale(1 / stride).project(rays)
    return torch.where(in_front[:, None], places, -1.0).float().numpy()


def _object_over_clutter(
    model: CategoryModel, maps: Maps, at: Float32[np.ndarray, "n 2"], drawing: Drawing
) -> Float32[np.ndarray, " n"]:
    """Return min(s - c, s) of drawn pixels, their places ``at`` given in cells of the map."""
    features = torch.from_numpy(maps.features)
    table = (features.reshape(-1, features.shape[-1]) @ model.texture.T).numpy()
    clutter = clutter_score(features, model.clutter).numpy()
    return _explain(table, clutter, at, drawing.corners, drawing.bary)


@compiled
@no_type_check
def _explain(table, clutter, at, corners, bary):
    """Object less clutter, s - max(c, 0), between the centres of the map's cells, bilinear."""
    height, width = clutter.shape
    out = np.zeros(at.shape[0], np.float32)
    for p in range(at.shape[0]):
        x = min(max(at[p, 0] - np.float32(0.5), np.float32(0)), np.float32(width - 1))
        y = min(max(at[p, 1] - np.float32(0.5), np.float32(0)), np.float32(height - 1))
        left, top = max(min(int(x), width - 2), 0), max(min(int(y), height - 2), 0)
        fx, fy = x - left, y - top
        s = np.float32(0)
        c = np.float32(0)
        for k in range(4):
            row, column = min(top + k // 2, height - 1), min(left + k % 2, width - 1)
            weight = (fx if k % 2 else 1 - fx) * (fy if k // 2 else 1 - fy)
            c += weight * clutter[row, column]
            for j in range(3):
                s += weight * bary[p, j] * table[row * width + column, corners[p, j]]
        out[p] = s - max(c, np.float32(0))
    return out


@compiled
@no_type_check
def read_between(picture, x, y):
    """Values of a picture at places between its pixels, bilinear, x = y = 0 its first pixel."""
    height, width = picture.shape
    out = np.zeros(x.shape[0], np.float32)
    for p in range(x.shape[0]):
        u = min(max(x[p], np.float32(0)), np.float32(width - 1))
        v = min(max(y[p], np.float32(0)), np.float32(height - 1))
        left, top = int(u), int(v)
        right, low = min(left + 1, width - 1), min(top + 1, height - 1)
        fx, fy = u - left, v - top
        upper = (1 - fx) * picture[top, left] + fx * picture[top, right]
        lower = (1 - fx) * picture[low, left] + fx * picture[low, right]
        out[p] = (1 - fy) * upper + fy * lower
    return out


@compiled
@no_type_check
def likeliest(weights, corners, bary):
    """The column with the largest weight at each pixel, the vertices' weights interpolated."""
    out = np.zeros(corners.shape[0], np.uint8)
    for p in range(corners.shape[0]):
        a, b, c = corners[p, 0], corners[p, 1], corners[p, 2]
        most = np.float32(-1)
        for k in range(weights.shape[1]):
            w = bary[p, 0] * weights[a, k] + bary[p, 1] * weights[b, k] + bary[p, 2] * weights[c, k]
            if w > most:
                most = w
                out[p] = k
    return out


def _states(
    ids: Int[np.ndarray, " n"], seen: Bool[np.ndarray, " n"], count: int
) -> UInt8[np.ndarray, " f"]:
    """Return the state of each face: what most of its drawn pixels say."""
    drawn = np.bincount(ids, minlength=count)
    bright = np.bincount(ids, weights=seen, minlength=count)
    state = np.where(2 * bright >= drawn, VISIBLE, OCCLUDED)
    return np.where(drawn > 0, state, INVISIBLE).astype(np.uint8)


def _shares(
    names: tuple[str, ...], parts: UInt8[np.ndarray, " n"], seen: Bool[np.ndarray, " n"]
) -> dict[str, float]:
    """Return the visible share of each part that is drawn."""
    drawn = np.bincount(parts, minlength=len(names) + 1)
    bright = np.bincount(parts, weights=seen, minlength=len(names) + 1)
    return {name: float(bright[k] / drawn[k]) for k, name in enumerate(names, 1) if drawn[k] > 0}
