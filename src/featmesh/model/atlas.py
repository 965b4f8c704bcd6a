"""Where the texels of a UV map lie on the template's surface, and which of them a point reads.

The layout of a neural texture map (spec 1.3, 2.11): it depends on the template alone, never on the
shape code, so that a deformation carries the texture along. Source: ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh

LATTICE = 0.5  # texels between the surface points that tell what a texel shows
SAME = 1e-6  # chart coordinates closer than this are one point of the map


@dataclass(frozen=True, eq=False)
class Atlas:
    """The texels of a map over a mesh with texture coordinates.

    Texel (i, j) has its centre at ``uv = ((j + .5) / w, (i + .5) / h)``; a point reads its four
    nearest texels, bilinearly. Charts must be a texel apart, so that no point reads two of them:
    the margin of a chart is its padding.

    Attributes:
        faces: vertices of each face.
        uv: chart coordinates of each face's corners, in [0, 1].
        vertices: how many the mesh has.
        size: (height, width) of the map, texels.
        area: surface that reads each texel, object units squared; 0 where no point does.
        position: mean position of that surface, object units.
        corner_uv: the distinct chart coordinates of the vertices: several for one on a seam.
        corner_vertex: vertex of each row of ``corner_uv``.
    """

    faces: Int[Tensor, "f 3"]
    uv: Float[Tensor, "f 3 2"]
    vertices: int
    size: tuple[int, int]
    area: Float[Tensor, "h w"]
    position: Float[Tensor, "h w 3"]
    corner_uv: Float[Tensor, "m 2"]
    corner_vertex: Int[Tensor, " m"]

    @classmethod
    def of(cls, mesh: Mesh, size: tuple[int, int]) -> "Atlas":
        """Return the layout of a map of ``size`` (height, width) texels.

        Raises:
            InputError: E_MESH_UV where the mesh has no texture coordinates, or two charts share a
                texel.
        """
        if mesh.uv is None:
            raise InputError(
                "E_MESH_UV",
                "Atlas: expected a mesh with texture coordinates, got one without; "
                "try: texture='vertex', or a template of fit_template()",
            )
        uv = mesh.uv.float()
        corner, charts = _corners(mesh.faces, uv)
        area, position, apart = _survey(mesh, uv, charts, size)
        if not apart:
            raise InputError(
                "E_MESH_UV",
                f"Atlas: expected charts a texel apart, got some that share a texel of a map of "
                f"{size[0]} x {size[1]}; try: a larger map",
            )
        vertex, first = corner
        return cls(
            mesh.faces,
            uv,
            len(mesh.vertices),
            size,
            area,
            position,
            uv.reshape(-1, 2)[first],
            vertex,
        )

    @property
    def used(self) -> Bool[Tensor, "h w"]:
        """Which texels some surface point reads."""
        return self.area > 0

    def locate(
        self, face: Int[Tensor, " n"], bary: Float[Tensor, "n 3"]
    ) -> tuple[Int[Tensor, "n 4"], Float[Tensor, "n 4"]]:
        """Return the texels surface points read (rows of the flattened map), and their shares."""
        return texels_at((self.uv[face] * bary.float()[..., None]).sum(1), self.size)


def texels_at(
    uv: Float[Tensor, "n 2"], size: tuple[int, int]
) -> tuple[Int[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """Return the four texels around chart coordinates (flattened rows) and their shares."""
    height, width = size
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    left, top = x.detach().floor(), y.detach().floor()
    right_share, lower_share = x - left, y - top
    columns = torch.stack([left, left + 1], 1).clamp(0, width - 1).long()
    rows = torch.stack([top, top + 1], 1).clamp(0, height - 1).long()
    across = torch.stack([1 - right_share, right_share], 1)
    down = torch.stack([1 - lower_share, lower_share], 1)
    index = rows[:, :, None] * width + columns[:, None, :]
    return index.flatten(1), (down[:, :, None] * across[:, None, :]).flatten(1)


def _corners(faces: Tensor, uv: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the distinct (vertex, uv) corners as (vertex, row of the face corners); the chart.

    Faces that share a corner on the map, not only a vertex, belong to one chart.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    place = (uv.reshape(-1, 2).double() / SAME).round().long()
    key = torch.cat([faces.reshape(-1, 1), place], 1).numpy()
    distinct, first, of_corner = np.unique(key, axis=0, return_index=True, return_inverse=True)
    corner = of_corner.reshape(faces.shape)
    pairs = np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]]])
    count = len(distinct)
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, chart = connected_components(links, directed=False)
    vertex = torch.from_numpy(distinct[:, 0].copy())
    return (vertex, torch.from_numpy(first)), torch.from_numpy(chart[corner[:, 0]].astype(np.int64))


def _survey(
    mesh: Mesh, uv: Tensor, charts: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, bool]:
    """Return area and mean position of what each texel shows, and whether charts keep apart."""
    scale = torch.tensor([size[1], size[0]], dtype=uv.dtype)
    side = float(((uv - uv.roll(1, 1)) * scale).norm(dim=-1).max())
    bary = lattice(max(1, int(np.ceil(side / LATTICE))))
    count, points = len(mesh.faces), len(bary)
    face = torch.arange(count).repeat_interleave(points)
    weights = bary.repeat(count, 1)
    index, share = texels_at((uv[face] * weights[..., None]).sum(1), size)
    patch = (mesh.face_normals.norm(dim=-1).float() / 2 / points)[face, None] * share
    # a share of rounding is no reading
    patch = torch.where(share > 1e-4, patch, 0.0)
    texels = size[0] * size[1]
    area = torch.zeros(texels).index_add_(0, index.flatten(), patch.flatten())
    at = (mesh.corners.float()[face] * weights[..., None]).sum(1)
    moment = torch.zeros(texels, 3).index_add_(
        0, index.flatten(), (patch[..., None] * at[:, None]).flatten(0, 1)
    )
    position = moment / area.clamp_min(1e-30)[:, None]
    read = index[patch > 0]
    own = charts[face, None].expand_as(index)[patch > 0]
    low = torch.full((texels,), len(uv)).scatter_reduce_(0, read, own, "amin")
    high = torch.full((texels,), -1).scatter_reduce_(0, read, own, "amax")
    return area.reshape(size), position.reshape(*size, 3), not bool((low < high).any())


def lattice(steps: int) -> Float[Tensor, "n 3"]:
    """Return barycentric coordinates of a triangular lattice with ``steps`` steps a side."""
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    inside = i + j <= steps
    pair = torch.from_numpy(np.stack([i[inside], j[inside]], 1)).float() / steps
    return torch.cat([pair, 1 - pair.sum(1, keepdim=True)], 1)
