"""Fill a texture of any kind from labelled photos, with a network that no longer learns.

photos -> crops as at test time -> features -> vertex, UV map or graph texture (spec 1.6, 6.1). What
a training run ends with is a running mean over a moving network; this is the plain mean over the
finished one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from featmesh.draws import generator
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import mirror_index
from featmesh.model.category import CategoryModel
from featmesh.model.config import DeformationConfig, TextureKind
from featmesh.model.deformation import GraphDeformation
from featmesh.model.texture_map import TextureMap

from .augment import Scenery, TrainCrop, draw_crop
from .config import STILL
from .correspondence import Sample
from .surface_points import read_map, surface_points

SIZE = (96, 144)  # texels of a map: some two a vertex spacing
POINTS = 1024  # surface points read from a crop
TOGETHER = 16  # crops the network sees at once


class VertexFiller:
    """Gathers the mean feature of each anchor.

    Args:
        model: its texture stands for anchors nobody sees.
    """

    def __init__(self, model: CategoryModel) -> None:
        self.before = model.texture
        self.total = torch.zeros_like(model.texture)
        self.count = torch.zeros(len(model.texture))

    def add(
        self, features: Float[Tensor, "c h w"], crop: TrainCrop, rng: np.random.Generator
    ) -> None:
        """Take in the features at the visible anchors."""
        anchor = torch.from_numpy(np.flatnonzero(crop.visible))
        found = read_features(features, torch.from_numpy(crop.anchors[crop.visible]), crop)
        self.total.index_add_(0, anchor, found)
        self.count.index_add_(0, anchor, torch.ones(len(anchor)))

    @property
    def seen(self) -> Bool[Tensor, " v"]:
        """Which anchors were seen."""
        return self.count > 0

    def texture(self) -> Float[Tensor, "v c"]:
        """Return the unit means; the old vectors where nothing was seen."""
        mean = functional.normalize(self.total, dim=1)
        return torch.where(self.seen[:, None], mean, self.before)


class MapFiller:
    """Gathers a texture map from points all over the visible surface.

    Args:
        template: with texture coordinates.
        channels: length of a feature.
        size: (height, width) of the map, texels.
    """

    def __init__(self, template: Mesh, channels: int, size: tuple[int, int] = SIZE) -> None:
        draw = torch.Generator().manual_seed(int(generator(0, "texture map").integers(2**62)))
        self.map = TextureMap.initial(template, channels, size, draw)
        self.faces = template.faces.numpy()

    def add(
        self, features: Float[Tensor, "c h w"], crop: TrainCrop, rng: np.random.Generator
    ) -> None:
        """Take in the features at surface points."""
        points = surface_points(crop.anchors, crop.visible, self.faces, POINTS, rng)
        found = read_features(features, points.pixels, crop)
        self.map = self.map.updated(found, points.face, points.bary, 1.0)

    def texture(self) -> TextureMap:
        """Return the map, unseen texels filled from around them."""
        return self.map.filled()


Filler = VertexFiller | MapFiller  # what a pass over photos gathers


def read_features(
    features: Float[Tensor, "c h w"], points: Float[Tensor, "n 2"], crop: TrainCrop
) -> Float[Tensor, "n c"]:
    """Return the unit features at points of a crop, pixels."""
    height, width = crop.pixels.shape[:2]
    where = points.float() * torch.tensor([2 / width, 2 / height]) - 1
    return functional.normalize(read_map(features, where), dim=1, eps=1e-6)


def still_crops(model: CategoryModel, samples: Sequence[Sample], seed: int = 0) -> Iterator:
    """Yield (feature map, crop, generator) of each photo, cut as for the inner validation.

    The box spans four fifths of the crop, nothing hides the object; half of the photos are mirrored
    and the light varies as in training.
    """
    size = (model.config.crop_height, model.config.crop_width)
    scenery = Scenery((), mirror_index(model.template).numpy())
    model.backbone.eval()
    for first in range(0, len(samples), TOGETHER):
        rngs = [
            generator(seed, "fill texture", 0, first + k)
            for k in range(len(samples[first : first + TOGETHER]))
        ]
        crops = [
            draw_crop(sample, size, scenery, STILL, rng)
            for sample, rng in zip(samples[first : first + TOGETHER], rngs, strict=True)
        ]
        pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops]))
        with torch.no_grad():
            features = model.backbone(pixels.permute(0, 3, 1, 2).float())
        yield from zip(features, crops, rngs, strict=True)


def gather(
    model: CategoryModel, samples: Sequence[Sample], fillers: Sequence[Filler], seed: int = 0
) -> None:
    """Let all fillers see the photos, in one pass of the network."""
    for features, crop, rng in still_crops(model, samples, seed):
        for filler in fillers:
            filler.add(features, crop, rng)


def fill_texture(
    model: CategoryModel,
    samples: Sequence[Sample],
    kind: TextureKind,
    size: tuple[int, int] = SIZE,
) -> Float[Tensor, "v c"] | TextureMap:
    """Return a texture of the kind, filled from photos; the model stays as it is.

    Args:
        model: its network is used, and its texture for anchors no photo shows.
        samples: labelled photos of the training side.
        kind: "vertex" gives the vectors of the anchors, "uv" a map, "gcn" the vectors a graph
            network paints after it was fitted to those of "vertex".
        size: (height, width) of a map, texels.

    Raises:
        InputError: E_MESH_UV where a map is asked for and the template has no charts for it.
    """
    if kind == "uv":
        chart = MapFiller(model.template, model.config.channels, size)
        gather(model, samples, [chart])
        return chart.texture()
    bank = VertexFiller(model)
    gather(model, samples, [bank])
    if kind == "vertex":
        return bank.texture()
    graph = graph_painter(model)
    fit_graph_texture(graph, bank.texture(), bank.count.clamp_max(1))
    return graph.texture().detach()


def graph_painter(model: CategoryModel, seed: int = 0) -> GraphDeformation:
    """Return a graph network that can paint the model's template, not fitted yet."""
    config = model.config.deformation
    if config is None or config.kind != "gcn":
        config = DeformationConfig(kind="gcn")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "graph texture").integers(2**31)))
        return GraphDeformation(config, model.template, model.config.channels)


def fit_graph_texture(
    graph: GraphDeformation,
    texture: Float[Tensor, "v c"],
    weight: Float[Tensor, " v"] | None = None,
    steps: int = 400,
    whole: bool = True,
) -> float:
    """Let the graph network's second output learn a texture; return the mean cosine reached.

    Args:
        graph: with a second head.
        texture: unit vectors to paint.
        weight: how much each anchor counts; all alike by default.
        steps: of Adam.
        whole: also train what both heads share. False where the shape has been learnt: only the
            second head moves then, and the shape stays.
    """
    learning = list(graph.parameters()) if whole else list(graph.paint.parameters())  # type: ignore[union-attr]
    share = torch.ones(len(texture)) if weight is None else weight
    share = share / share.sum()
    optimiser = torch.optim.Adam(learning, lr=4e-3)
    fades = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    cosine = torch.zeros(())
    for _ in range(steps):
        cosine = ((graph.texture() * texture).sum(1) * share).sum()
        optimiser.zero_grad(set_to_none=True)
        (-cosine).backward()
        optimiser.step()
        fades.step()
    return float(cosine.detach())


def surface_error(
    features: Float[Tensor, "n c"],
    points: Float[Tensor, "n 3"],
    texture: Float[Tensor, "m c"],
    places: Float[Tensor, "m 3"],
) -> Float[Tensor, " n"]:
    """Return how far from its true place each feature is found on the surface, object units.

    Args:
        features: unit features.
        points: where on the surface each was seen.
        texture: unit features of places on the surface: anchors, or texels.
        places: their positions.
    """
    best = torch.cat([(part @ texture.T).argmax(1) for part in features.split(4096)])
    return (places[best] - points).norm(dim=1)


def texels_of(chart: TextureMap) -> tuple[Float[Tensor, "m c"], Float[Tensor, "m 3"]]:
    """Return the unit features and positions of a map's texels that show surface."""
    used = chart.atlas.used
    return functional.normalize(chart.texels[used], dim=1), chart.atlas.position[used]


def nearest_anchor(
    features: Float[Tensor, "n c"], texture: Float[Tensor, "v c"]
) -> Int[Tensor, " n"]:
    """Return the anchor that looks most like each feature."""
    return (features @ texture.T).argmax(1)
