"""Where is the object? Templates slid over the feature maps of a whole photo at several scales.

The look-up of :mod:`featmesh.inference.scan`, with the position free: a few coarse views of the
template, each as cell offsets and anchors, are summed at every cell of every scale (ours).
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor
from torch.nn import functional

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, box_iou
from featmesh.geometry.mesh import Mesh
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import GREY, Photo
from featmesh.photo.resize import resize
from featmesh.render.kernels import compiled

from .config import LocateConfig
from .scan import nearest_vertices, rotation_grid

OVERLAP = 0.45  # of two boxes that are one object (intersection over union)
LEAST = 160  # pixels; a photo smaller than this is enlarged
DISTANCE = 2.2  # object units, of the slid views


@dataclass(frozen=True)
class Candidate:
    """A box in which the object may be.

    Attributes:
        box: (x0, y0, x1, y1), photo pixels.
        score: mean gain of object over clutter per template cell, times a power of the area.
    """

    box: Box
    score: float


@dataclass(frozen=True)
class SlideTable:
    """Coarse views of the template as offsets from their box centre (compressed rows).

    Attributes:
        first: where each view's entries begin.
        dy, dx: cell offsets.
        anchor: index into ``chosen``.
        chosen: vertices that are looked up.
        half: half height and width of each view, cells.
    """

    first: Int32[np.ndarray, " n1"]
    dy: Int32[np.ndarray, " e"]
    dx: Int32[np.ndarray, " e"]
    anchor: Int32[np.ndarray, " e"]
    chosen: Int32[np.ndarray, " a"]
    half: Float32[np.ndarray, "n 2"]


def build_slides(mesh: Mesh, config: LocateConfig) -> SlideTable:
    """Return the views of a category's template that are slid over a map."""
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy().astype(np.int32)
    chosen = spread_vertices(vertices, config.anchors)
    nearest = np.linalg.norm(vertices[:, None] - vertices[chosen][None], axis=-1).argmin(1)
    first, rows, half = [0], [], []
    side = math.ceil(config.length * 1.2) * 2
    for R in rotation_grid(config.azimuths, config.elevations, (0.0,)):
        points = vertices @ R.T + [0, 0, DISTANCE]
        flat = points[:, :2] / points[:, 2:]
        low, high = flat.min(0), flat.max(0)
        # views are equally large by area: a front view is higher, not smaller
        scale = config.length * 0.62 / math.sqrt(float(np.prod(high - low)))
        pixels = (flat - (low + high) / 2) * scale + side / 2
        y, x, vertex = nearest_vertices(pixels, points[:, 2], faces, (side, side))
        rows.append(np.stack([y - side // 2, x - side // 2, nearest[vertex]], -1))
        half.append((high - low)[::-1] * scale / 2)
        first.append(first[-1] + len(y))
    entries = np.concatenate(rows).astype(np.int32)
    dy, dx, anchor = (np.ascontiguousarray(entries[:, k]) for k in range(3))
    return SlideTable(
        np.array(first, dtype=np.int32),
        dy,
        dx,
        anchor,
        chosen.astype(np.int32),
        np.array(half, dtype=np.float32),
    )


def spread_vertices(vertices: np.ndarray, count: int) -> np.ndarray:
    """Return indices of vertices spread over the surface: each the farthest from those before."""
    chosen = [0]
    far = np.linalg.norm(vertices - vertices[0], axis=1)
    for _ in range(min(count, len(vertices)) - 1):
        chosen.append(int(far.argmax()))
        far = np.minimum(far, np.linalg.norm(vertices - vertices[chosen[-1]], axis=1))
    return np.array(chosen)


@compiled
@no_type_check
def _slide(gain, entries, out, view):
    """out[y, x] = best mean gain of any view centred there; view = which."""
    first, dy, dx, anchor = entries
    rows, columns = out.shape
    for y in range(rows):
        for x in range(columns):
            for k in range(first.shape[0] - 1):
                total = np.float32(0)
                for e in range(first[k], first[k + 1]):
                    r, c = y + dy[e], x + dx[e]
                    if 0 <= r < rows and 0 <= c < columns:
                        total += gain[r * columns + c, anchor[e]]
                mean = total / np.float32(first[k + 1] - first[k])
                if mean > out[y, x]:
                    out[y, x] = mean
                    view[y, x] = k


def locate(
    photo: Photo, model: CategoryModel, table: SlideTable, config: LocateConfig
) -> list[Candidate]:
    """Return boxes that may hold the object, best first, none overlapping much.

    Args:
        photo: the whole photo.
        model: network, texture, clutter.
        table: of the same configuration.
        config: scales, views.
    """
    found: list[Candidate] = []
    texture = model.texture[torch.from_numpy(table.chosen).long()]
    longest = max(photo.height, photo.width)
    for side in config.sides:
        if side > max(1.6 * longest, LEAST):
            continue  # nothing is gained by enlarging a small photo
        found += _at_scale(photo, model, texture, table, config, side / longest)
    found = [_weighed(candidate, photo, config.area_power) for candidate in found]
    found.sort(key=lambda c: -c.score)
    kept: list[Candidate] = []
    for candidate in found:
        if all(box_iou(candidate.box, k.box) < OVERLAP for k in kept):
            kept.append(candidate)
        if len(kept) == config.candidates:
            break
    return kept


def _weighed(candidate: Candidate, photo: Photo, power: float) -> Candidate:
    """Favour the larger of two boxes that gain alike: a part of the object looks like it too."""
    return Candidate(candidate.box, candidate.score * share(candidate.box, photo) ** power)


def share(box: Box, photo: Photo) -> float:
    """Return the share of the photo that a box takes."""
    return (box[2] - box[0]) * (box[3] - box[1]) / (photo.width * photo.height)


def _at_scale(
    photo: Photo,
    model: CategoryModel,
    texture: Tensor,
    table: SlideTable,
    config: LocateConfig,
    scale: float,
) -> list[Candidate]:
    """Return the peaks of one scale of the photo."""
    stride = model.config.stride
    height = max(32, round(photo.height * scale))
    width = max(32, round(photo.width * scale))
    pixels = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
    pixels[:] = GREY
    pixels[:height, :width] = resize(photo.pixels, height, width)
    valid = np.zeros(pixels.shape[:2], dtype=bool)
    valid[:height, :width] = True
    camera = Camera.assumed(*pixels.shape[:2])
    cells = model.extract(pixels, valid, camera, config.window)
    rows, columns = cells.valid.shape
    flat = cells.features.reshape(rows * columns, -1)
    c = cells.clutter.reshape(-1, 1)
    gain = (torch.maximum(flat @ texture.T, c) - c.clamp_min(0)) * cells.valid.reshape(-1, 1)
    best = np.zeros((rows, columns), np.float32)
    view = np.zeros((rows, columns), np.int32)
    _slide(gain.numpy(), (table.first, table.dy, table.dx, table.anchor), best, view)
    found = []
    for flat_index in _peaks(best, config):
        y, x = divmod(int(flat_index), columns)
        half_y, half_x = table.half[view[y, x]].tolist()
        sx, sy = stride * photo.width / width, stride * photo.height / height
        # offset 0 is the cell whose corner is the view's centre
        box = (
            max(0.0, (x - half_x) * sx),
            max(0.0, (y - half_y) * sy),
            min(float(photo.width), (x + half_x) * sx),
            min(float(photo.height), (y + half_y) * sy),
        )
        if box[2] - box[0] > 2 and box[3] - box[1] > 2:
            found.append(Candidate(box, float(best[y, x])))
    return found


def _peaks(best: Float32[np.ndarray, "y x"], config: LocateConfig) -> np.ndarray:
    """Return the flat indices of a scale's best cells, best first."""
    if config.apart > 0:
        around = functional.max_pool2d(
            torch.from_numpy(best)[None], 2 * config.apart + 1, 1, config.apart
        )
        best = np.where(best >= around[0].numpy(), best, 0)
    return np.argsort(-best, axis=None)[: config.peaks]
