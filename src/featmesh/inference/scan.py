"""Coarse search: thousands of poses scored by look-up in one score matrix (spec 6.1b; rendering 4).

A table says, once per category, which anchor each cell shows under each pose of a grid; it is
geometry only. Per photo one product ``S = F Theta^T`` gives every cell-anchor score, and the score
of a pose is a sum of looked-up numbers: nothing is rendered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32
from torch import Tensor
from torch.nn import functional

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.render.kernels import compiled, coverage

from .config import ScanConfig


@dataclass(frozen=True)
class Starts:
    """Poses to refine, best first, in the virtual camera.

    Attributes:
        R: rotations.
        t: translations, object units.
        log_zoom: logarithm of the focal length over the virtual camera's; 0 where it is known.
        score: mean gain of object over clutter, per cell of the map.
    """

    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
    score: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class PoseTable:
    """Which anchor each cell shows under each grid pose (compressed rows).

    Attributes:
        R, t: the poses, each laid into the crop as the box is: FILL of its tighter side.
        focal: focal length of each pose's camera, in cells of the full map.
        distance: index into ``ScanConfig.distances`` of each pose.
        first: where each pose's entries begin.
        cell: flat index of the pooled map.
        anchor: vertex nearest to the cell's centre.
    """

    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    focal: Float64[np.ndarray, " n"]
    distance: Int32[np.ndarray, " n"]
    first: Int32[np.ndarray, " n1"]
    cell: Int32[np.ndarray, " e"]
    anchor: Int32[np.ndarray, " e"]


def rotation_grid(
    azimuths: int, elevations: Sequence[float], thetas: Sequence[float]
) -> Float64[np.ndarray, "n 3 3"]:
    """Return the rotations of a grid of viewpoints; elevations and thetas in degrees."""
    a = torch.arange(azimuths, dtype=torch.float64) * (2 * math.pi / azimuths)
    e = torch.tensor(elevations, dtype=torch.float64).deg2rad()
    h = torch.tensor(thetas, dtype=torch.float64).deg2rad()
    grid = torch.meshgrid(a, e, h, indexing="ij")
    return rotation_from_angles(*(g.reshape(-1) for g in grid)).numpy()


def place(
    vertices: Float64[np.ndarray, "v 3"],
    R: Float64[np.ndarray, "3 3"],
    distance: float,
    size: tuple[int, int],
) -> tuple[Float64[np.ndarray, " 3"], float]:
    """Return (t, focal) with which the projected box is centred and as large as the map."""
    offset = np.zeros(2)
    x, y, z = np.ascontiguousarray((vertices @ R.T).T)  # rows: numpy finds their ends much faster
    z = z + distance
    for _ in range(3):  # the projected box's centre is not the projected centre
        flat = ((x + offset[0]) / z, (y + offset[1]) / z)
        low, high = (np.array([end(row) for row in flat]) for end in (np.min, np.max))
        offset -= (low + high) / 2 * distance
    wide, tall = high - low
    return np.array([*offset, distance]), float(min(size[1] / wide, size[0] / tall))


def build_table(mesh: Mesh, size: tuple[int, int], config: ScanConfig) -> PoseTable:
    """Return the look-up table of a category.

    Args:
        mesh: the template.
        size: (rows, columns) of the full feature map.
        config: the grid.
    """
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy().astype(np.int32)
    rotations = rotation_grid(config.azimuths, config.elevations, config.thetas)
    placed = [[place(vertices, R, d, size) for R in rotations] for d in config.distances]
    rows = [
        (R, t, FILL * s * focal, k)
        for k, each in enumerate(placed)
        for s in config.scales
        for R, (t, focal) in zip(rotations, each, strict=True)
    ]
    small = (size[0] // config.pool, size[1] // config.pool)
    first, cells, anchors = [0], [], []
    for R, t, focal, _ in rows:
        cell, anchor = _seen_anchors(vertices @ R.T + t, faces, focal, size, small)
        cells.append(cell)
        anchors.append(anchor)
        first.append(first[-1] + len(cell))
    return PoseTable(
        np.stack([r[0] for r in rows]),
        np.stack([r[1] for r in rows]),
        np.array([r[2] for r in rows]),
        np.array([r[3] for r in rows], dtype=np.int32),
        np.array(first, dtype=np.int32),
        np.concatenate(cells),
        np.concatenate(anchors),
    )


def _seen_anchors(
    points: np.ndarray,
    faces: np.ndarray,
    focal: float,
    size: tuple[int, int],
    small: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return covered cells of the pooled map and, for each, the nearest vertex of its face."""
    shrink = small[0] / size[0]
    centre = np.array([size[1], size[0]]) / 2
    pixels = (points[:, :2] / points[:, 2:] * focal + centre) * shrink
    row, column, vertex = nearest_vertices(pixels, points[:, 2], faces, small)
    cell = row * small[1] + column
    return cell.astype(np.int32), vertex.astype(np.int32)


def nearest_vertices(
    pixels: np.ndarray, depth: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row and column of each covered cell, and the vertex of its face nearest to it.

    Args:
        pixels: (v, 2) projected vertices, in cells.
        depth: (v,) of the vertices.
        faces: int32 (f, 3).
        size: (rows, columns) of the map.
    """
    seen = np.concatenate([pixels, 1 / depth[:, None]], 1).astype(np.float32)
    face = coverage(seen[None], faces, *size, True)[0]
    row, column = np.nonzero(face >= 0)
    corners = faces[face[row, column]]
    middle = np.stack([column, row], -1)[:, None] + 0.5
    best = np.linalg.norm(pixels[corners] - middle, axis=-1).argmin(1)
    return row, column, corners[np.arange(len(row)), best]


@compiled
@no_type_check
def _sum_rows(gain, first, cell, anchor, out):
    """out[p] = sum of gain[cell, anchor] over the entries of pose p."""
    for p in range(out.shape[0]):
        total = np.float32(0)
        for e in range(first[p], first[p + 1]):
            total += gain[cell[e], anchor[e]]
        out[p] = total


def gain_matrix(cells: FeatureMap, texture: Tensor, pool: int) -> Float32[np.ndarray, "n v"]:
    """Return ``max(s, c) - max(0, c)`` of every pooled cell and anchor; 0 outside the photo."""
    features = cells.features
    clutter = cells.clutter
    weight = cells.valid.float()
    if pool > 1:
        stack = torch.cat(
            [features * weight[..., None], (clutter * weight)[..., None], weight[..., None]], -1
        )
        pooled = functional.avg_pool2d(stack.permute(2, 0, 1)[None], pool)[0].permute(1, 2, 0)
        weight = pooled[..., -1]
        pooled = pooled / weight.clamp_min(1e-6)[..., None]
        features, clutter = pooled[..., :-2], pooled[..., -2]
    flat = features.reshape(-1, features.shape[-1])
    c = clutter.reshape(-1, 1)
    gain = torch.maximum(flat @ texture.T, c) - c.clamp_min(0)
    return (gain * weight.reshape(-1, 1)).numpy()


def scan(
    cells: FeatureMap,
    model: CategoryModel,
    table: PoseTable,
    config: ScanConfig,
    camera_known: bool,
) -> Starts:
    """Return the best poses of the grid that differ from one another.

    Args:
        cells: feature map of the crop.
        model: texture.
        table: of the same configuration and map size.
        config: how many, how far apart.
        camera_known: whether the crop's focal length is known; else it is part of the answer.
    """
    gain = gain_matrix(cells, model.texture, config.pool)
    total = np.zeros(len(table.R), dtype=np.float32)
    _sum_rows(gain, table.first, table.cell, table.anchor, total)
    score = total.astype(np.float64) * config.pool**2 / max(1, int(cells.valid.sum()))
    if config.start == "random":
        rng = generator(config.seed, "start")
        chosen = rng.permutation(len(score))[: config.starts]
    else:
        allowed = _allowed(table, cells.camera, config, camera_known)
        if config.start == "given":
            allowed &= _near_view(table, config)
        worth = score + _worth_of_views(cells, table, config)
        chosen = _distinct(np.where(allowed, worth, -np.inf), table.R, config)
    R, t = table.R[chosen], table.t[chosen].copy()
    log_zoom = np.log(table.focal[chosen] / cells.camera.fx)
    if camera_known:  # keep the size in the map: farther by as much as the lens is longer
        t[:, 2] = t[:, 2] / np.exp(log_zoom)
        log_zoom = np.zeros(len(chosen))
    return Starts(R, t, log_zoom, score[chosen])


def _worth_of_views(
    cells: FeatureMap, table: PoseTable, config: ScanConfig
) -> Float64[np.ndarray, " n"]:
    """Return what speaks for each pose's view at one look at the crop, at most 0."""
    if cells.gist is None or not config.view_worth:
        return np.zeros(len(table.R))
    # poses of one rotation stand once for each distance and size
    kinds = len(config.distances) * len(config.scales)
    views = torch.from_numpy(table.R[: len(table.R) // kinds])
    return config.view_worth * np.tile(cells.gist.log_view(views).numpy(), kinds)


def _allowed(
    table: PoseTable, camera: Camera, config: ScanConfig, camera_known: bool
) -> np.ndarray:
    """With a known camera only the perspective nearest to the true one is looked at."""
    if not camera_known or len(config.distances) == 1:
        return np.ones(len(table.R), dtype=bool)
    true = table.t[:, 2] * camera.fx / table.focal
    off = np.abs(np.log(true / table.t[:, 2]))
    # poses of one rotation and scale stand `step` apart, one for each distance
    step = len(table.R) // len(config.distances)
    best = off.reshape(len(config.distances), step).argmin(0)
    return np.tile(best, len(config.distances)) == table.distance


def _near_view(table: PoseTable, config: ScanConfig) -> np.ndarray:
    """Return the poses of the table whose rotation is nearest to the given view."""
    angles = torch.tensor(config.given, dtype=torch.float64).deg2rad()
    view = rotation_from_angles(angles[0], angles[1], angles[2]).numpy()
    trace = (table.R * view).sum((1, 2))
    return trace >= trace.max() - 1e-9


def _distinct(score: np.ndarray, rotations: np.ndarray, config: ScanConfig) -> np.ndarray:
    """Return the best poses, no two closer than ``apart`` degrees."""
    limit = 1 + 2 * math.cos(math.radians(config.apart))
    order = np.argsort(-score)[:600]
    chosen: list[int] = []
    for k in order:
        if not np.isfinite(score[k]):
            break
        traces = [float((rotations[k] * rotations[j]).sum()) for j in chosen]
        if all(trace <= limit + 1e-9 for trace in traces):
            chosen.append(int(k))
        if len(chosen) == config.starts:
            break
    return np.array(chosen, dtype=np.int64)
