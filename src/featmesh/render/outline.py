"""The outline of a projected mesh as points that move with its vertices.

An area integral over the silhouette changes by what stands along its outline: the integrand times
how far the outline moves outwards. Where :mod:`featmesh.render.edges` asks the surface at the pixel
before the outline, this asks the nearest contour edge of the mesh: the gradient reaches the two
vertices that make the outline. Source: ours, after Reynolds' transport theorem.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MOST = 64  # samples of one edge
BORDER = 0.05  # pixels: nearer than this to the border of a pixel, both count


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of a mesh.

    Attributes:
        ends: the two vertices of each.
        sides: the two faces it lies between; the second is -1 at a border.
    """

    ends: Int[Tensor, "e 2"]
    sides: Int[Tensor, "e 2"]


@dataclass(frozen=True, eq=False)
class Outline:
    """Points along the border between a silhouette and what is beside it.

    Attributes:
        pixels: positions on the mesh's contour edges, with the gradient of the vertices.
        normal: out of the silhouette, along u or v, without gradient.
        length: how much of the outline, seen along the normal, each stands for; pixels.
    """

    pixels: Float[Tensor, "n 2"]
    normal: Float[Tensor, "n 2"]
    length: float

    def flux(self, gain: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
        """Return 0, with the gradient of the sum over pixels of covered area times ``gain``.

        On the border of two pixels their mean counts: the outline may go either way.
        """
        here = self.pixels.detach()
        outwards = ((self.pixels - here) * self.normal).sum(1)
        aside = BORDER * self.normal
        across = (_at(gain, here - aside) + _at(gain, here + aside)) / 2
        return (outwards * across.detach()).sum() * self.length


def _at(image: Float[Tensor, "h w"], points: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    column, row = points.floor().long().unbind(1)
    return image[row.clamp(0, image.shape[0] - 1), column.clamp(0, image.shape[1] - 1)]


def mesh_edges(faces: Int[Tensor, "f 3"]) -> Edges:
    """Return the edges of a mesh; of an edge with more than two faces, two of them."""
    pairs = faces[:, [[0, 1], [1, 2], [2, 0]]].flatten(0, 1)
    ends, edge = pairs.sort(1).values.unique(dim=0, return_inverse=True)
    face = torch.arange(len(faces), device=faces.device).repeat_interleave(3)
    first = torch.full((len(ends),), len(faces), device=faces.device)
    last = torch.full((len(ends),), -1, device=faces.device)
    first = first.scatter_reduce(0, edge, face, "amin")
    last = last.scatter_reduce(0, edge, face, "amax")
    return Edges(ends, torch.stack([first, torch.where(last == first, -1, last)], 1))


def outline(
    points_pix: Float[Tensor, "v 2"],
    faces: Int[Tensor, "f 3"],
    edges: Edges,
    covered: Bool[Tensor, "h w"],
    fine: int = 1,
) -> Outline:
    """Return the outline of a mesh: a point for each step between covered and free samples.

    A step across a row of samples stands for the height of that row, so that the integral along the
    outline is that of the samples; the point is the nearest one of the mesh's contour edges, which
    lie between a face seen from outside and one seen from behind, or none. Near-by folds do not
    count twice. All vertices must be in front of the camera.

    Args:
        points_pix: projected vertices, pixels.
        faces: counter-clockwise seen from outside.
        edges: of those faces, see :func:`mesh_edges`.
        covered: where the mesh is, ``fine`` times as many samples a pixel along each axis; the
            outline outside this picture is left out.
        fine: samples of ``covered`` a pixel.
    """
    from scipy.spatial import cKDTree

    with torch.no_grad():
        ends, share = _contour(points_pix, faces, edges, 1 / fine)
        at, normal = _steps(covered)
        if len(ends) and len(at):
            p, q = points_pix[ends].unbind(1)
            tree = cKDTree(torch.lerp(p, q, share[:, None]).cpu().numpy())
            nearest = torch.from_numpy(tree.query((at / fine).cpu().numpy())[1]).to(ends.device)
        else:
            at, normal, nearest = at[:0], normal[:0], ends[:0, 0]
    p, q = points_pix[ends[nearest]].unbind(1)
    pixels = torch.lerp(p, q, share[nearest][:, None])
    return Outline(pixels, normal.to(pixels), 1 / fine)


def _contour(
    points: Tensor, faces: Tensor, edges: Edges, spacing: float
) -> tuple[Int[Tensor, "n 2"], Float[Tensor, " n"]]:
    """Return points along the contour edges: their edges' ends, and how far from the first."""
    a, b, c = points[faces].unbind(1)
    # y points down: a face seen from outside runs the other way round
    seen = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] < 0
    facing = seen[edges.sides.clamp_min(0)] & (edges.sides >= 0)
    ends = edges.ends[facing[:, 0] != facing[:, 1]]
    p, q = points[ends].unbind(1)
    count = ((q - p).norm(dim=1) / spacing).ceil().clamp(1, MOST).long()
    row = torch.arange(len(ends), device=count.device).repeat_interleave(count)
    place = torch.arange(len(row), device=count.device) - (count.cumsum(0) - count)[row]
    return ends[row], ((place + 0.5) / count[row]).to(points)


def _steps(covered: Bool[Tensor, "h w"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Return where covered and free samples meet, in samples, and the way out there."""
    places, normals = [], []
    for axis in (1, 0):
        count = covered.shape[axis] - 1
        here, there = covered.narrow(axis, 0, count), covered.narrow(axis, 1, count)
        row, column = (here != there).nonzero(as_tuple=True)
        outwards = torch.where(here[row, column], 1.0, -1.0)
        nothing = torch.zeros_like(outwards)
        along = (1.0, 0.5) if axis == 1 else (0.5, 1.0)
        places.append(torch.stack([column + along[0], row + along[1]], 1))
        normals.append(torch.stack([outwards, nothing] if axis == 1 else [nothing, outwards], 1))
    return torch.cat(places), torch.cat(normals)
