"""Materials for CADs that have none: which faces are rubber, wood, glass, label, window or screen.

A plain CAD is cut into connected pieces; a rule of its category says what each is made of. What a
material looks like is drawn anew for every view. Used by :mod:`featmesh.views.generate`. Ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from .cad_model import Cad, CadPart

GRAIN_SCALE = 2.5  # repeats of a grain's bitmap per object unit
INSET = 0.01  # kept from the borders of a region of the livery, against its neighbours
SEATS = (0.2, 0.75)  # shares of a chair's height between which its seat lies


@dataclass(frozen=True, eq=False)
class Pieces:
    """The connected pieces of a CAD; ``f`` runs over faces, ``k`` over pieces.

    Attributes:
        corners: of each face, in shares 0..1 of the CAD's bounding box.
        of_face: piece of each face.
        low, high: corners of each piece's box, in the same shares.
        sides: sides of the CAD's bounding box, object units.
        area: of each face, object units squared.
        normal: of each face, sign not to be trusted.
    """

    corners: Float[np.ndarray, "f 3 3"]
    of_face: Int[np.ndarray, " f"]
    low: Float[np.ndarray, "k 3"]
    high: Float[np.ndarray, "k 3"]
    sides: Float[np.ndarray, " 3"]
    area: Float[np.ndarray, " f"]
    normal: Float[np.ndarray, "f 3"]


def dressed(cad: Cad, category: str) -> Cad:
    """Return a CAD without materials cut into parts that have some; others come back as they are.

    Args:
        cad: in the PASCAL3D+ frame.
        category: one of :data:`RULES`; of others every piece gets a colour of its own. Cars stay
            as they are: one colour serves them best (measured with the bundled car).
    """
    part = cad.parts[0]
    if len(cad.parts) > 1 or part.texture is not None or part.material or category == "car":
        return cad
    pieces = pieces_of(part)
    names = np.array(RULES.get(category, _loose)(pieces))
    parts = [_cut(part, pieces, names == name, str(name), category) for name in np.unique(names)]
    return replace(cad, parts=tuple(parts))


def pieces_of(part: CadPart) -> Pieces:
    """Return the connected pieces of a part; equal vertices are taken as one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    corners = part.vertices[part.faces]
    low, high = corners.min((0, 1)), corners.max((0, 1))
    sides = np.maximum(high - low, 1e-9)
    _, welded = np.unique(np.round(part.vertices * 20000), axis=0, return_inverse=True)
    faces = welded.reshape(-1)[part.faces]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    n = int(faces.max()) + 1
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    _, of_face = np.unique(label[faces[:, 0]], return_inverse=True)
    of_face = of_face.reshape(-1)
    shares = (corners - low) / sides
    count = int(of_face.max()) + 1
    lows, highs = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(lows, of_face, shares.min(1))
    np.maximum.at(highs, of_face, shares.max(1))
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(cross, axis=1)
    normal = cross / np.maximum(double, 1e-20)[:, None]
    return Pieces(shares, of_face, lows, highs, sides, double / 2, normal)


def _cut(part: CadPart, pieces: Pieces, keep: np.ndarray, name: str, category: str) -> CadPart:
    """Return some faces as a part of one material, with texture coordinates."""
    used, inverse = np.unique(part.faces[keep], return_inverse=True)
    if name == "livery":
        window = _panel(pieces) if category == "tvmonitor" else None
        uv = _livery_uv(pieces.corners[keep], pieces.normal[keep], window)
    else:
        axis = np.abs(pieces.normal[keep]).argmax(1)
        points = pieces.corners[keep] * pieces.sides * GRAIN_SCALE
        uv = _flattened(points, axis)
    labels = None if part.labels is None else part.labels[keep]
    faces, colour = inverse.reshape(-1, 3), part.colour
    return CadPart(part.vertices[used], faces, uv, None, colour, material=name, labels=labels)


def _flattened(points: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the coordinates beside ``axis``: (y, z), (x, z) or (x, y)."""
    keep = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    return np.take_along_axis(points, np.repeat(keep[:, None, :], 3, 1), 2)


def _livery_uv(
    corners: np.ndarray, normal: np.ndarray, window: tuple[float, float, float, float] | None
) -> np.ndarray:
    """Return where each corner lies in the livery: side, front, back, top in a 2 x 2 bitmap."""
    axis = np.abs(normal).argmax(1)
    uv = _flattened(corners, axis)
    front = corners[..., 1].mean(1) < 0.5
    region = np.array([0, 1, 3])[axis] + ((axis == 1) & ~front)
    if window is not None:
        x0, x1, z0, z1 = window
        face = axis == 1
        uv[face] = (uv[face] - (x0, z0)) / (x1 - x0, z1 - z0)
    uv = uv.clip(INSET, 1 - INSET)
    return (uv + np.stack([region % 2, 1 - region // 2], 1)[:, None]) / 2


def _panel(pieces: Pieces) -> tuple[float, float, float, float]:
    """Return the x and z between which a screen's panel lies: where the CAD is nearly as wide."""
    bins = 64
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    z0 = (pieces.corners[..., 2].min(1) * (bins - 1)).astype(int)
    z1 = (pieces.corners[..., 2].max(1) * (bins - 1)).astype(int)
    for k in range(bins):
        rows = (z0 <= k) & (z1 >= k) & (np.abs(pieces.normal[:, 1]) > 0.7)
        if rows.any():
            low[k], high[k] = pieces.corners[rows, :, 0].min(), pieces.corners[rows, :, 0].max()
    wide = np.nonzero(high - low > 0.85)[0]
    if not len(wide):
        return 0.0, 1.0, 0.0, 1.0
    return 0.0, 1.0, float(wide[0]) / bins, float(wide[-1] + 1) / bins


def _by_piece(pieces: Pieces, rule: Callable[[np.ndarray, np.ndarray, int], str]) -> list[str]:
    names = [rule(pieces.low[k], pieces.high[k], k) for k in range(len(pieces.low))]
    return [names[k] for k in pieces.of_face]


def _loose(pieces: Pieces) -> list[str]:
    return _by_piece(pieces, lambda low, high, k: f"loose.{k % 6}")


def _round(low: np.ndarray, high: np.ndarray, sides: np.ndarray) -> bool:
    """Return whether a piece is a disc across x: as long as high, and thin."""
    x, y, z = (high - low) * sides
    return bool(abs(y - z) < 0.12 * max(y, z) and x < 0.6 * y)


def _road_vehicle(pieces: Pieces) -> list[str]:
    def rule(low: np.ndarray, high: np.ndarray, k: int) -> str:
        if high[2] < 0.45 and _round(low, high, pieces.sides):
            return "rubber"
        return "dark" if high[2] < 0.25 and (high - low)[1] < 0.5 else "livery"

    return _by_piece(pieces, rule)


def _aeroplane(pieces: Pieces) -> list[str]:
    def rule(low: np.ndarray, high: np.ndarray, k: int) -> str:
        size = high - low
        if high[2] < 0.3 and max(size[0], size[1]) < 0.15:
            return "rubber"
        if size.max() < 0.08:
            return f"loose.{k % 3}"
        return "livery"

    return _by_piece(pieces, rule)


def _boat(pieces: Pieces) -> list[str]:
    def rule(low: np.ndarray, high: np.ndarray, k: int) -> str:
        size = high - low
        if size[0] < 0.2 and size[2] > 0.5 and size[1] > 0.15:
            return "sail"
        return f"loose.{k % 4}" if size.max() < 0.3 else "livery"

    return _by_piece(pieces, rule)


def _bicycle(pieces: Pieces) -> list[str]:
    def rule(low: np.ndarray, high: np.ndarray, k: int) -> str:
        size = high - low
        middle = (low + high) / 2
        if low[2] < 0.15 and size[2] > 0.25 and _round(low, high, pieces.sides):
            return "rubber"
        if low[2] > 0.65 and middle[1] > 0.45 and size[1] < 0.35:
            return "dark"  # the saddle
        if size[1] > 0.3:
            return "frame"
        return f"loose.{k % 4}"

    return _by_piece(pieces, rule)


def _motorbike(pieces: Pieces) -> list[str]:
    def rule(low: np.ndarray, high: np.ndarray, k: int) -> str:
        size = high - low
        middle = (low + high) / 2
        if low[2] < 0.1 and size[2] > 0.3 and _round(low, high, pieces.sides):
            return "rubber"
        if middle[2] > 0.55 and middle[1] > 0.5 and size[0] > 0.2:
            return "dark"
        if size[1] > 0.45:
            return "frame"
        if middle[2] < 0.4:
            return "metal" if k % 2 else "dark"
        return "frame" if size.max() > 0.2 else f"loose.{k % 4}"

    return _by_piece(pieces, rule)


def _seat(pieces: Pieces) -> float:
    """Return the height of the largest level surface of a chair, in shares."""
    level = np.abs(pieces.normal[:, 2]) > 0.8
    height = pieces.corners[..., 2].mean(1)
    hist, edges = np.histogram(height[level], 40, SEATS, weights=pieces.area[level])
    return float(edges[hist.argmax()]) if hist.any() else 0.45


def _chair(pieces: Pieces) -> list[str]:
    seat = _seat(pieces)
    low = pieces.corners[..., 2].min(1)
    mean = pieces.corners[..., 2].mean(1)
    of_piece = pieces.high[pieces.of_face, 2]
    under = (of_piece < seat + 0.04) & (pieces.low[pieces.of_face, 2] < seat - 0.12)
    under |= (mean < seat - 0.1) & (low < seat - 0.15)
    upper = np.where(pieces.of_face % 5 == 4, "trim", "seat")
    return [str(name) for name in np.where(under, "leg", upper)]


def _table(pieces: Pieces) -> list[str]:
    top = pieces.corners[..., 2].mean(1) > 0.9
    top |= pieces.low[pieces.of_face, 2] > 0.8
    return [str(name) for name in np.where(top, "top", "leg")]


def _sofa(pieces: Pieces) -> list[str]:
    def rule(low: np.ndarray, high: np.ndarray, k: int) -> str:
        if high[2] < 0.2:
            return "leg"
        return "cushion" if (high - low)[0] < 0.5 and low[2] > 0.3 else "seat"

    return _by_piece(pieces, rule)


def _bottle(pieces: Pieces) -> list[str]:
    mean = pieces.corners[..., 2].mean(1)
    names = np.where(mean > 0.9, "cap", "livery")
    return [str(name) for name in names]


def _screen(pieces: Pieces) -> list[str]:
    return ["livery"] * len(pieces.of_face)


# what the faces of a category's plain CADs are made of
RULES: dict[str, Callable[[Pieces], list[str]]] = {
    "aeroplane": _aeroplane,
    "bicycle": _bicycle,
    "boat": _boat,
    "bottle": _bottle,
    "bus": _road_vehicle,
    "chair": _chair,
    "diningtable": _table,
    "motorbike": _motorbike,
    "sofa": _sofa,
    "train": _road_vehicle,
    "tvmonitor": _screen,
}
