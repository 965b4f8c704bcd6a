"""Shape spaces: how one latent code moves the template's vertices (spec 1.6, 6.1).

``v(z) = v + D(v, z)`` with ``D(v, 0) = 0`` exactly, so that z = 0 is the template at all times;
codes are standard normal. Three kinds behind one interface: a neural field over the surface, graph
convolutions on the template's vertex graph, and linear directions. With ``symmetric`` only one half
of a mirror-symmetric template is computed and the other is its exact image.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from featmesh.geometry.mesh import Mesh

from .config import DeformationConfig, DeformationKind

MIRROR = (-1.0, 1.0, 1.0)
RIDGE = 1e-4  # of the hidden features' mean square
AFFINE = 6  # outputs per vertex: v' = (1 + s) v + t


class Deformation(nn.Module):
    """Base of the three kinds: places on the surface, and the mirror image of one half.

    Attributes:
        latents: length of the code.
        config: what it was built from.
    """

    index: Tensor  # which place a vertex is, or mirrors
    sign: Tensor  # how its displacement is mirrored
    place: Tensor  # positions that are computed; x >= 0 where mirrored

    def __init__(self, config: DeformationConfig, template: Mesh) -> None:
        super().__init__()
        self.config, self.latents = config, config.latents
        vertices = template.vertices.float()
        place, index = vertices, torch.arange(len(vertices))
        sign = torch.ones_like(vertices)
        if config.symmetric:
            sign[:, 0] = vertices[:, 0].sign()  # what lies on the mirror plane stays on it
            half = torch.cat([vertices[:, :1].abs(), vertices[:, 1:]], 1)
            place, index = half.unique(dim=0, return_inverse=True)
        for name, value in (("place", place), ("index", index), ("sign", sign)):
            self.register_buffer(name, value, persistent=False)

    def forward(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b v 3"]:
        """Return the displacement of every vertex, object units; exactly 0 at the code 0."""
        moved = self.displace(latent) - self.displace(torch.zeros_like(latent[:1]))
        # two products of other shapes may differ in the last bit; the gradient stays
        moved = torch.where((latent == 0).all(1)[:, None, None], moved - moved.detach(), moved)
        return moved[:, self.index] * self.sign

    def jacobian(self, latent: Float[Tensor, " d"]) -> Float[Tensor, "d v 3"]:
        """Return the derivative of every vertex by every coordinate of the code, without a tape."""
        with torch.no_grad():
            return self.slopes(latent)[:, self.index] * self.sign

    def displace(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b p 3"]:
        """Return the displacement of each place, not yet 0 at the code 0."""
        raise NotImplementedError

    def slopes(self, latent: Float[Tensor, " d"]) -> Float[Tensor, "d p 3"]:
        """Return the derivative of each place's displacement."""
        raise NotImplementedError

    def recode(self, matrix: Float[Tensor, "d d"]) -> None:
        """Take other codes from now on: ``old = matrix @ new`` is what the new ones stand for."""
        raise NotImplementedError

    def begin(self, directions: Float[Tensor, "d p 3"]) -> None:
        """Move as linear directions do, as nearly as this kind can: where learning starts."""
        raise NotImplementedError


class NetworkDeformation(Deformation):
    """Base of the networks: hidden features of a place and the code, and the layer after them.

    The features are the kind's own (``_hidden``); the last layer gives a place's affine move. The
    code enters every hidden layer and weighs the outputs of the last one; both are 0 at first, so
    that learning starts linear.
    """

    waves: Tensor

    def __init__(self, config: DeformationConfig, template: Mesh) -> None:
        super().__init__(config, template)
        waves = fourier(self.place, config.frequencies)
        self.register_buffer("waves", waves, persistent=False)
        self.entry = nn.Linear(waves.shape[1], config.width)
        self.codes = nn.Parameter(torch.zeros(config.layers, config.width, config.latents))
        self.last = nn.Parameter(torch.zeros(1 + config.latents, AFFINE, config.width))

    def displace(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b p 3"]:
        """Return the displacement of each place, not yet 0 at the code 0."""
        return self._affine(self._hidden(latent) @ weighed(self.last, latent).mT)

    def recode(self, matrix: Float[Tensor, "d d"]) -> None:
        """Take other codes from now on: ``old = matrix @ new`` is what the new ones stand for."""
        self.codes.data = self.codes.data @ matrix.to(self.codes)
        turned = torch.einsum("ok,oaw->kaw", matrix.to(self.last), self.last.data[1:])
        self.last.data = torch.cat([self.last.data[:1], turned])

    def begin(self, directions: Float[Tensor, "d p 3"]) -> None:
        """Move as linear directions do, as nearly as the hidden layers, still random, allow."""
        h = self._hidden(torch.zeros(1, self.latents).to(self.place))[0]
        self.last.data[1:] = _regressed(h.detach(), self.place, directions).to(self.last)

    def _hidden(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b p w"]:
        """Return each place's features before the last layer."""
        raise NotImplementedError

    def _affine(self, outputs: Tensor) -> Tensor:
        """Return s * v + t of the places' scales and shifts."""
        scale, shift = outputs.split(3, -1)
        return scale * self.place + shift


class FieldDeformation(NetworkDeformation):
    """A neural field: Fourier features of a place and the code give its affine move (ours).

    ``h' = h + act(h W + z C)``.
    """

    def __init__(self, config: DeformationConfig, template: Mesh) -> None:
        super().__init__(config, template)
        self.hidden = nn.ModuleList(
            nn.Linear(config.width, config.width) for _ in range(config.layers)
        )

    def slopes(self, latent: Float[Tensor, " d"]) -> Float[Tensor, "d p 3"]:
        """Return the derivative of each place's displacement.

        Backwards: a place has 3 outputs, but 16 codes.
        """
        h, bends = self.entry(self.waves), []
        for layer, code in zip(self.hidden, self.codes, strict=True):
            moved, bend = _silu(layer(h) + latent @ code.T)
            h = h + moved
            bends.append(bend)
        total = self._affine(h @ self.last[1:].mT).permute(1, 2, 0)  # p 3 d: of the last layer
        scale, shift = weighed(self.last, latent[None])[0].split(3)
        back = self.place[:, :, None] * scale + shift  # p 3 w
        for k in range(len(bends) - 1, -1, -1):
            inner = back * bends[k][:, None]
            total = total + inner @ self.codes[k]
            back = back + inner @ self.hidden[k].weight  # type: ignore[operator]
        return total.permute(2, 0, 1)

    def _hidden(self, latent: Tensor) -> Tensor:
        h = self.entry(self.waves)[None].expand(len(latent), -1, -1)
        for layer, code in zip(self.hidden, self.codes, strict=True):
            h = h + functional.silu(layer(h) + (latent @ code.T)[:, None])
        return h


class GraphDeformation(NetworkDeformation):
    """Graph convolutions on the template's edges; the code is appended to every vertex (spec 1.6).

    ``h' = h + act(h W + (A h) U + z C)`` with A the mean over neighbours: one sparse product a
    layer. A second head may paint the surface: the neural texture, which does not follow the code.

    Args:
        config: sizes.
        template: the mesh whose graph it is.
        channels: length of the texture's vectors; None: no second head.
    """

    mean: Tensor
    sides: Tensor

    def __init__(
        self, config: DeformationConfig, template: Mesh, channels: int | None = None
    ) -> None:
        super().__init__(config, template)
        width, layers = config.width, config.layers
        self.register_buffer(
            "mean", _neighbour_mean(template, self.index, len(self.place)), persistent=False
        )
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.other = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.paint: nn.Sequential | None = None
        if channels is not None:
            # both sides of a symmetric shape look alike to the graph, but not to a camera
            sides = fourier(template.vertices.float(), config.frequencies)
            self.register_buffer("sides", sides, persistent=False)
            self.paint = nn.Sequential(
                nn.Linear(width + sides.shape[1], width), nn.SiLU(), nn.Linear(width, channels)
            )

    def slopes(self, latent: Float[Tensor, " d"]) -> Float[Tensor, "d p 3"]:
        """Return the derivative of each place's displacement: the code's tangents, forwards."""
        h = self.entry(self.waves)[None]
        tangent = torch.zeros(self.latents, *h.shape[1:]).to(h)
        for own, other, code in zip(self.own, self.other, self.codes, strict=True):
            inner = own(h) + other(self._spread(h)) + latent @ code.T
            moved, bend = _silu(inner)
            change = functional.linear(tangent, own.weight) + other(self._spread(tangent))  # type: ignore[arg-type]
            tangent = tangent + bend * (change + code.T[:, None])
            h = h + moved
        outputs = tangent @ weighed(self.last, latent[None])[0].T + h @ self.last[1:].mT
        return self._affine(outputs)

    def texture(self) -> Float[Tensor, "v c"]:
        """Return one unit feature vector per vertex, from the graph network's second output."""
        if self.paint is None:
            raise ValueError(
                "texture(): expected a graph network with a second head, got one without; "
                "try: build_deformation(config, template, channels=64)"
            )
        h = self._hidden(torch.zeros(1, self.latents).to(self.place))[0, self.index]
        return functional.normalize(self.paint(torch.cat([h, self.sides], 1)), dim=1)

    def _hidden(self, latent: Tensor) -> Tensor:
        h = self.entry(self.waves)[None].expand(len(latent), -1, -1)
        for own, other, code in zip(self.own, self.other, self.codes, strict=True):
            inner = own(h) + other(self._spread(h)) + (latent @ code.T)[:, None]
            h = h + functional.silu(inner)
        return h

    def _spread(self, h: Tensor) -> Tensor:
        """Return the mean of each vertex's neighbours, of a batch of maps."""
        batch, places, width = h.shape
        flat = h.transpose(0, 1).reshape(places, batch * width)
        return torch.sparse.mm(self.mean, flat).reshape(places, batch, width).transpose(0, 1)


class LinearDeformation(Deformation):
    """Linear directions: ``D(v, z) = sum_k z_k d_k(v)``, as a principal component analysis finds.

    The directions are 0 at first.
    """

    def __init__(self, config: DeformationConfig, template: Mesh) -> None:
        super().__init__(config, template)
        self.directions = nn.Parameter(torch.zeros(config.latents, *self.place.shape))

    def displace(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b p 3"]:
        """Return the displacement of each place."""
        return torch.einsum("bd,dpx->bpx", latent, self.directions)

    def slopes(self, latent: Float[Tensor, " d"]) -> Float[Tensor, "d p 3"]:
        """Return the derivative of each place's displacement: the directions."""
        return self.directions.to(latent)

    def recode(self, matrix: Float[Tensor, "d d"]) -> None:
        """Take other codes from now on: ``old = matrix @ new`` is what the new ones stand for."""
        turned = torch.einsum("ok,opx->kpx", matrix.to(self.directions), self.directions.data)
        self.directions.data = turned

    def begin(self, directions: Float[Tensor, "d p 3"]) -> None:
        """Move as linear directions do."""
        self.directions.data = directions.to(self.directions).contiguous()


DEFORMATIONS: dict[DeformationKind, Callable[[DeformationConfig, Mesh], Deformation]] = {
    "field": FieldDeformation,
    "gcn": GraphDeformation,
    "pca": LinearDeformation,
}


def build_deformation(
    config: DeformationConfig, template: Mesh, channels: int | None = None
) -> Deformation:
    """Return the deformation of a template before it has learned anything: it moves nothing.

    Args:
        config: kind and sizes.
        template: the mesh it moves.
        channels: length of the texture's vectors where a graph network paints them too.
    """
    if config.kind == "gcn":
        return GraphDeformation(config, template, channels)
    return DEFORMATIONS[config.kind](config, template)


def weighed(last: Float[Tensor, "d1 a w"], latent: Float[Tensor, "b d"]) -> Float[Tensor, "b a w"]:
    """Return the last layer at codes: a part of its own, and one that each coordinate weighs."""
    return last[0] + torch.einsum("bd,daw->baw", latent, last[1:])


def fourier(places: Float[Tensor, "p 3"], octaves: int) -> Float[Tensor, "p c"]:
    """Return positions with their sines and cosines, the longest wave two object units (ours)."""
    rates = math.pi * 2.0 ** torch.arange(octaves).to(places)
    angle = (places[:, :, None] * rates).flatten(1)
    return torch.cat([places, angle.sin(), angle.cos()], 1)


def _regressed(
    h: Float[Tensor, "p w"], place: Float[Tensor, "p 3"], directions: Float[Tensor, "d p 3"]
) -> Float[Tensor, "d a w"]:
    """Return the last layer whose affine moves of hidden features are nearest to directions."""
    found = []
    h, place, directions = h.double(), place.double(), directions.double()
    for k in range(3):
        features = torch.cat([place[:, k : k + 1] * h, h], 1)
        square = features.T @ features
        square += RIDGE * square.diagonal().mean() * torch.eye(len(square)).to(square)
        found.append(torch.linalg.solve(square, features.T @ directions[:, :, k].T).T)
    scale, shift = torch.stack(found, 1).split(h.shape[1], -1)  # d 3 w
    return torch.cat([scale, shift], 1)


def _silu(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x * sigmoid(x) and its derivative."""
    gate = x.sigmoid()
    value = x * gate
    return value, gate + value * (1 - gate)


def _neighbour_mean(template: Mesh, index: Tensor, places: int) -> Tensor:
    """Return the sparse matrix that averages over a place's neighbours, mirror images folded."""
    a, b, c = template.faces.T
    pairs = torch.stack([torch.cat([a, b, c, b, c, a]), torch.cat([b, c, a, a, b, c])])
    pairs = index[pairs.unique(dim=1)]
    weight = 1 / torch.bincount(pairs[0], minlength=places).clamp_min(1).float()
    return torch.sparse_coo_tensor(
        pairs, weight[pairs[0]], (places, places), check_invariants=True
    ).coalesce()
