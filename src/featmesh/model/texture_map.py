"""The neural texture as a map of features over the template's charts (spec 1.3, 2.11, 6.1).

A feature for every surface point, as the paper's figure draws it. Each texel holds the mean of the
features seen there, weighted by how much of each it received; what was never seen is filled from
around it on the surface, across the seams of the charts. The map belongs to the template and does
not know the shape code. Source: ours.

At inference the map is sampled at the anchors (spec 6.1b): the compiled energy interpolates between
vertices, which makes one matrix product of all poses. The template's vertices lie about as close as
the network's cells on the object, so that a finer texture than theirs has nothing to show there;
``benchmarks/texture.py`` measures it.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from featmesh.geometry.mesh import Mesh

from .atlas import Atlas, texels_at
from .texture import initial_texture

FAINT = 1e-3  # weight of a texel nobody has seen, beside seen ones
NEIGHBOURS = 8  # texels a filled one takes its features from
HOLD = 1e-6  # pull of an unseen texel towards the mean feature: for surfaces without any seen one


@dataclass(frozen=True)
class Coverage:
    """How much of a texture rests on something seen; shares in 0 .. 1.

    Attributes:
        texels: of the texels the surface reads.
        area: of the surface.
        vertices: of the anchors.
    """

    texels: float
    area: float
    vertices: float


@dataclass(frozen=True, eq=False)
class TextureMap:
    """A feature for every surface point of a template.

    Attributes:
        atlas: where the texels lie.
        texels: mean of the unit features seen; shorter where they disagree.
        weight: how much was seen, in features; 0 where nothing was.
    """

    atlas: Atlas
    texels: Float[Tensor, "h w c"]
    weight: Float[Tensor, "h w"]

    @classmethod
    def initial(
        cls, mesh: Mesh, channels: int, size: tuple[int, int], generator: torch.Generator
    ) -> "TextureMap":
        """Return a map of random unit vectors that nothing was seen of.

        Args:
            mesh: template with texture coordinates.
            channels: length of a feature.
            size: (height, width), texels.
            generator: draws the vectors.

        Raises:
            InputError: E_MESH_UV, see :meth:`featmesh.model.atlas.Atlas.of`.
        """
        drawn = initial_texture(size[0] * size[1], channels, generator)
        return cls(Atlas.of(mesh, size), drawn.reshape(*size, channels), torch.zeros(size))

    def sample(self, face: Int[Tensor, " n"], bary: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        """Return the unit features of surface points."""
        return functional.normalize(self._read(*self.atlas.locate(face, bary)), dim=1)

    def at_vertices(self) -> Float[Tensor, "v c"]:
        """Return the unit features of the anchors; on a seam the charts' mean."""
        read = self._read(*texels_at(self.atlas.corner_uv, self.atlas.size))
        total = read.new_zeros(self.atlas.vertices, read.shape[1])
        return functional.normalize(total.index_add_(0, self.atlas.corner_vertex, read), dim=1)

    def _read(self, index: Tensor, share: Tensor) -> Float[Tensor, "n c"]:
        seen = torch.where(self.weight > 0, 1.0, FAINT).reshape(-1)
        return functional.embedding_bag(
            index, self.texels.flatten(0, 1), per_sample_weights=share * seen[index], mode="sum"
        )

    @torch.no_grad()
    def updated(
        self,
        features: Float[Tensor, "n c"],
        face: Int[Tensor, " n"],
        bary: Float[Tensor, "n 3"],
        momentum: float,
    ) -> "TextureMap":
        """Return the map moved towards the features seen at surface points.

        Each feature is scattered to its four texels with bilinear weights. A texel that receives
        the weight of one feature or more keeps ``momentum`` of what it knew, one that receives less
        keeps more: rarely seen texels forget slowly. Momentum 1 gives the mean over everything.

        Args:
            features: unit features of visible surface points.
            face: face of each point.
            bary: where in its face.
            momentum: share of the old kept where a whole feature arrives.
        """
        index, share = self.atlas.locate(face, bary)
        count = self.weight.numel()
        parts = (share[..., None] * features.float()[:, None]).flatten(0, 1)
        total = torch.zeros(count, features.shape[1]).index_add_(0, index.flatten(), parts)
        fresh = torch.zeros(count).index_add_(0, index.flatten(), share.flatten())
        kept = momentum ** fresh.clamp_max(1) * self.weight.reshape(-1)
        weight = kept + fresh
        mean = (kept[:, None] * self.texels.flatten(0, 1) + total) / weight.clamp_min(1e-12)[
            :, None
        ]
        texels = torch.where((fresh > 0)[:, None], mean, self.texels.flatten(0, 1))
        return replace(
            self,
            texels=texels.reshape(self.texels.shape),
            weight=weight.reshape(self.weight.shape),
        )

    def filled(self) -> "TextureMap":
        """Return the map whose unseen texels blend the seen ones around them on the surface.

        The blend is harmonic on a graph of texels near in space, so that it crosses seams. Weights
        stay: the coverage of a filled map is that of the map it came from.
        """
        used = self.atlas.used.reshape(-1).nonzero()[:, 0]
        seen = (self.weight.reshape(-1) > 0)[used]
        if not bool(seen.any()) or bool(seen.all()):
            return self
        values = self.texels.flatten(0, 1)[used]
        found = _harmonic(self.atlas.position.flatten(0, 1)[used], values, seen)
        texels = self.texels.flatten(0, 1).clone()
        texels[used[~seen]] = found
        return replace(self, texels=texels.reshape(self.texels.shape))

    def coverage(self) -> Coverage:
        """Return how much of the surface was seen."""
        used, seen = self.atlas.used, self.weight > 0
        index, share = texels_at(self.atlas.corner_uv, self.atlas.size)
        known = (share * seen.reshape(-1)[index]).sum(1)
        vertices = torch.zeros(self.atlas.vertices)
        vertices.index_add_(0, self.atlas.corner_vertex, known)
        area = self.atlas.area
        return Coverage(
            float((seen & used).sum() / used.sum()),
            float((area * seen).sum() / area.sum()),
            float((vertices > 0.5).float().mean()),
        )


def _harmonic(
    points: Float[Tensor, "n 3"], values: Float[Tensor, "n c"], seen: Tensor
) -> Float[Tensor, "m c"]:
    """Return the values of the unseen points: each the mean of its neighbours, seen ones held."""
    import numpy as np
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import splu
    from scipy.spatial import cKDTree

    positions, count = points.double().numpy(), len(points)
    near = min(NEIGHBOURS + 1, count)
    distance, neighbour = cKDTree(positions).query(positions, near)
    typical = max(float(np.median(distance[:, -1])), 1e-12)
    row = np.repeat(np.arange(count), near)
    link = coo_matrix(
        (np.exp(-((distance / typical) ** 2)).reshape(-1), (row, neighbour.reshape(-1))),
        shape=(count, count),
    ).tocsr()
    link.setdiag(0)
    link = link.maximum(link.T)
    known = seen.numpy()
    mean = values[seen].double().mean(0).numpy()
    degree = np.asarray(link.sum(1)).reshape(-1) + HOLD
    system = (diags(degree) - link).tocsr()[~known]
    right = link[~known][:, known] @ values[seen].double().numpy() + HOLD * mean
    return torch.from_numpy(splu(system[:, ~known].tocsc()).solve(right)).to(values)
