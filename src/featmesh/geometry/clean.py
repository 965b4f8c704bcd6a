"""Bad CADs made usable, with a report of what was wrong: the first step of learning shapes (ours).

Files hold doubled, empty and turned faces, several objects, sizes from 1e-9 to 1e9. Learning wants
one object, centred, its bounding-box diagonal 1, faces that bound something wound outwards.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from featmesh.errors import InputError

from .mesh import Mesh

WELD = 1e-7  # of the diagonal: vertices nearer than this are one
FLAT = 1e-12  # of the squared diagonal: a face of less area is none
APART = 0.25  # of the largest object's diagonal: a wider empty slab parts objects
FINEST = 0.01  # of the whole: the narrowest slab looked at


@dataclass(frozen=True)
class CleanReport:
    """What :func:`clean` found and did.

    Attributes:
        zero_area: faces of the object without area, left out.
        duplicate: faces on the same three vertices as an earlier one, left out.
        unreferenced: vertices in no face, left out.
        non_finite: how many of those are NaN or infinite.
        welded: vertices that were merged into one at the same place.
        non_manifold_edges: edges of three and more faces, kept.
        open_edges: edges of one face, kept.
        components: pieces whose faces touch at vertices.
        objects: pieces far apart; the one of largest area is kept, the counts are of it.
        kept_area: share of the file's area that the kept object has.
        flipped: faces turned to face outwards: those of closed pieces of negative signed volume.
        centre: point of the file's frame that became the origin.
        diagonal: bounding-box diagonal in the file's unit, which became 1.
    """

    zero_area: int
    duplicate: int
    unreferenced: int
    non_finite: int
    welded: int
    non_manifold_edges: int
    open_edges: int
    components: int
    objects: int
    kept_area: float
    flipped: int
    centre: tuple[float, float, float]
    diagonal: float

    @property
    def closed(self) -> bool:
        """Whether every edge has exactly two faces."""
        return self.non_manifold_edges == 0 and self.open_edges == 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of: a sentence each."""
        found = []
        if self.objects > 1:
            found.append(
                f"{self.objects} objects far apart: kept the one with {self.kept_area:.0%} "
                "of the area"
            )
        if self.non_finite:
            found.append(f"{self.non_finite} vertices without a place, in no face: left out")
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """Return the fields for a file."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "centre": list(self.centre), "warnings": list(self.warnings)}


@dataclass(frozen=True, eq=False)
class CleanMesh:
    """A CAD ready to learn from.

    Attributes:
        name: of its file.
        mesh: float64, centred on its bounding box, diagonal 1, vertices welded.
        report: what was wrong, and where and how large the mesh was.
    """

    name: str
    mesh: Mesh
    report: CleanReport


def clean(mesh: Mesh, name: str) -> CleanMesh:
    """Return one object of a mesh, repaired, centred, with diagonal 1, and what was done.

    Closed pieces (every edge walked once each way) are turned to enclose a positive volume; open
    ones keep their winding, which is not to be trusted.

    Args:
        mesh: any vertices and faces; positions of any size and place.
        name: for the report and for errors.

    Raises:
        InputError: E_MESH_EMPTY (no vertices, no faces, no area), E_MESH_INDEX, E_MESH_NONFINITE
            (in a face; without faces it is left out).
    """
    used, faces, lost = _referenced(mesh, name)
    points, middle, size = _unit(used, name)
    faces, objects, share = _one_object(points, faces)
    points, faces = _compact(points, faces)
    points, shift, shrink = _unit(points, name)
    points, faces, welded = _weld(points, faces)
    faces, zero, double = _useful(points, faces, name)
    points, faces = _compact(points, faces)
    low, high = points.min(0), points.max(0)
    diagonal = float(np.linalg.norm(high - low))
    points = (points - (low + high) / 2) / diagonal
    component = _components(faces, len(points))
    faces, flipped = _outwards(points, faces, component)
    _, uses = np.unique(np.sort(_edges(faces), 1), axis=0, return_counts=True)
    x, y, z = (middle + (shift + (low + high) / 2 * shrink) * size).tolist()
    report = CleanReport(
        zero_area=zero,
        duplicate=double,
        unreferenced=len(mesh.vertices) - len(used),
        non_finite=lost,
        welded=welded,
        non_manifold_edges=int((uses > 2).sum()),
        open_edges=int((uses == 1).sum()),
        components=int(component.max()) + 1,
        objects=objects,
        kept_area=share,
        flipped=flipped,
        centre=(x, y, z),
        diagonal=diagonal * shrink * size,
    )
    return CleanMesh(name, Mesh(torch.from_numpy(points), torch.from_numpy(faces)), report)


def _referenced(
    mesh: Mesh, name: str
) -> tuple[Float[np.ndarray, "u 3"], Int[np.ndarray, "f 3"], int]:
    """Return the vertices of faces, the faces on them, and how many others are not finite."""
    faces = mesh.faces.cpu().numpy()
    kept = np.unique(faces)
    finite = mesh.vertices.isfinite().all(1)
    harmless = ~finite
    harmless[torch.from_numpy(kept[(kept >= 0) & (kept < len(finite))])] = False
    vertices = mesh.vertices.detach().double().cpu()
    mesh.with_vertices(torch.where(harmless[:, None], 0.0, vertices)).checked(f"clean() of {name}")
    return vertices.numpy()[kept], np.searchsorted(kept, faces), int(harmless.sum())


def _unit(
    points: Float[np.ndarray, "v 3"], name: str
) -> tuple[Float[np.ndarray, "v 3"], Float[np.ndarray, " 3"], float]:
    """Return points centred with a longest side of 1, the former centre and the longest side."""
    low, high = points.min(0) / 2, points.max(0) / 2  # halves: the whole may overflow
    middle, size = low + high, 2 * float((high - low).max())
    if not math.isfinite(size):
        raise _bad("E_MESH_NONFINITE", "sizes below 1e308", f"{size} in {name}", "scale it")
    if size < np.finfo(float).tiny * 1e16:
        raise _bad("E_MESH_EMPTY", "an extent", f"{size} in {name}", "open it in a mesh viewer")
    return (points - middle) / size, middle, size


def _weld(
    points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "f 3"], int]:
    _, first, index = np.unique(
        np.round(points / WELD).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(first)  # vertices stay in the file's order
    rank = np.argsort(order)
    return points[first[order]], rank[index.reshape(-1)][faces], len(points) - len(first)


def _useful(
    points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], name: str
) -> tuple[Int[np.ndarray, "g 3"], int, int]:
    """Return the faces with an area, each once, and how many had none and were there again."""
    solid = faces[_areas(points, faces) > FLAT]
    if not len(solid):
        got = f"none among {len(faces)} in {name}"
        raise _bad("E_MESH_EMPTY", "faces with an area", got, "open it in a mesh viewer")
    _, first = np.unique(np.sort(solid, 1), axis=0, return_index=True)
    once = solid[np.sort(first)]
    return once, len(faces) - len(solid), len(solid) - len(once)


def _areas(
    points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, " f"]:
    a, b, c = np.moveaxis(points[faces], 1, 0)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def _compact(
    points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "u 3"], Int[np.ndarray, "f 3"]]:
    """Return the points that faces use, and the faces on them."""
    kept, index = np.unique(faces, return_inverse=True)
    return points[kept], index.reshape(-1, 3)


def _one_object(
    points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Int[np.ndarray, "g 3"], int, float]:
    """Return the faces of the object of largest area, how many objects there are, and its share.

    What is left is looked at again: beside something very far away, all else seems close together.
    """
    whole, objects = float(_areas(points, faces).sum()), 1
    while True:
        piece = _objects(points[faces])
        areas = np.bincount(piece, weights=_areas(points, faces))
        faces = faces[piece == areas.argmax()]
        objects += max(int((areas > 0).sum()) - 1, 0)
        if len(areas) == 1:
            return faces, objects, min(float(areas[0]) / whole, 1.0) if whole else 1.0


def _objects(corners: Float[np.ndarray, "f 3 3"]) -> Int[np.ndarray, " f"]:
    """Return for each face its object: parts with a wide empty slab between them are two.

    Wide is measured by the largest object, which depends on what is wide: start with the narrowest
    slabs and widen until it agrees with itself.
    """
    low, high = corners.min(1), corners.max(1)
    gap = FINEST * float(np.linalg.norm(high.max(0) - low.min(0)))
    while True:
        piece = _parted(low, high, gap)
        sizes = [
            high[piece == k].max(0) - low[piece == k].min(0) for k in range(int(piece.max()) + 1)
        ]
        largest = max(float(np.linalg.norm(size)) for size in sizes)
        if APART * largest <= gap:
            return piece
        gap = APART * largest


def _parted(
    low: Float[np.ndarray, "f 3"], high: Float[np.ndarray, "f 3"], gap: float
) -> Int[np.ndarray, " f"]:
    """Return the pieces into which empty slabs wider than ``gap``, across an axis, cut boxes."""
    piece = np.zeros(len(low), dtype=np.int64)
    count, waiting = 1, [np.arange(len(low))]
    while waiting:
        part = waiting.pop()
        for axis in range(3):
            order = part[np.argsort(low[part, axis])]
            reached = np.maximum.accumulate(high[order, axis])
            cuts = np.flatnonzero(low[order[1:], axis] - reached[:-1] > gap) + 1
            if len(cuts):
                rest = np.split(order, cuts)
                for more in rest[1:]:
                    piece[more] = count
                    count += 1
                waiting += rest
                break
    return piece


def _edges(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "e 2"]:
    """Return the directed edges of all faces: first edges, second edges, third edges."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _components(faces: Int[np.ndarray, "f 3"], n: int) -> Int[np.ndarray, " f"]:
    edges = _edges(faces)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1][faces[:, 0]].astype(np.int64)


def _outwards(
    points: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    component: Int[np.ndarray, " f"],
) -> tuple[Int[np.ndarray, "f 3"], int]:
    """Return the faces, those of inside-out closed pieces turned, and how many these are."""
    a, b, c = np.moveaxis(points[faces], 1, 0)
    volume = np.bincount(component, weights=(a * np.cross(b, c)).sum(1))
    turn = ((volume < 0) & _closed(faces, component, len(points)))[component]
    return np.where(turn[:, None], faces[:, ::-1], faces), int(turn.sum())


def _closed(
    faces: Int[np.ndarray, "f 3"], component: Int[np.ndarray, " f"], n: int
) -> Bool[np.ndarray, " c"]:
    """Return for each piece whether each of its edges is walked exactly once each way."""
    edges, owner = _edges(faces), np.tile(component, 3)
    key, back = edges[:, 0] * n + edges[:, 1], edges[:, 1] * n + edges[:, 0]
    found, place, uses = np.unique(key, return_inverse=True, return_counts=True)
    good = (uses[place.reshape(-1)] == 1) & np.isin(back, found)
    return np.bincount(owner[~good], minlength=int(component.max()) + 1) == 0


def _bad(code: str, expected: str, got: str, hint: str) -> InputError:
    return InputError(code, f"clean(): expected {expected}, got {got}; try: {hint}")
