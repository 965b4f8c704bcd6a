"""Conventional networks, what the method is measured against: crop -> rotation at one look.

The same trunk as a category model's, pooled, and one of three answers: classes of azimuth,
elevation and theta (the Res50-General recipe, spec 4.1, its decoding mended), a rotation as 6
numbers (Zhou et al. 2019), or the rotation of the most similar training crop. Saved as a model
folder of its own kind, which :func:`featmesh.load` refuses.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from featmesh.config import config_from_dict
from featmesh.errors import CheckpointError, InputError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.rotations import procrustes
from featmesh.geometry.viewpoint import angles_from_rotation, rotation_from_angles

from .backbones import Backbone, build_backbone
from .checkpoint import KIND, ModelFiles, find_model, read_model, save_model
from .config import ModelConfig
from .direct_config import DirectConfig

DIRECT = "direct"  # the kind, in model.json
MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))

Rotations = Float64[Tensor, "b 3 3"]
Answer = tuple[Rotations, Float64[Tensor, " b"]]  # rotations, and how sure each is


class DirectHead(nn.Module):
    """The trunk's coarsest map, pooled to a grid, -> numbers."""

    def __init__(self, channels: int, outputs: int, config: DirectConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.mix = nn.Conv2d(channels, config.width, 1)
        self.norm = nn.GroupNorm(8, config.width)
        self.out = nn.Linear(config.width * math.prod(config.grid), outputs)

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "b n"]:
        """Return the numbers of maps ordered from fine to coarse."""
        x = functional.silu(self.norm(self.mix(maps[-1])))
        return self.out(functional.adaptive_avg_pool2d(x, self.grid).flatten(1))


class PooledMap(nn.Module):
    """One of the trunk's maps, pooled to a grid of cells: what similar crops have in common."""

    def __init__(self, config: DirectConfig) -> None:
        super().__init__()
        self.level, self.cells = config.level, config.cells

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "b n"]:
        """Return the cells' features side by side."""
        return functional.adaptive_avg_pool2d(maps[self.level], self.cells).flatten(1)


def build_direct(config: DirectConfig, network: ModelConfig) -> Backbone:
    """Return the untrained network; :func:`answer` asks it.

    Raises:
        InputError: E_CONFIG for an even number of classes, none of which would lie at zero.
    """
    if config.bins % 2 == 0:
        raise InputError(
            "E_CONFIG",
            f"build_direct(): expected an odd number of bins, got {config.bins}; try: 41",
        )
    backbone = build_backbone(network)
    channels = backbone.trunk.channels[-1]  # type: ignore[index]
    outputs = {"bins": 3 * config.bins, "6d": 6}
    if config.kind in outputs:
        backbone.head = DirectHead(int(channels), outputs[config.kind], config)  # type: ignore
    else:
        backbone.head = PooledMap(config)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return backbone


def answer(backbone: Backbone, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
    """Return what a network of :func:`build_direct` says of crops, values 0..255."""
    return backbone.head(backbone.maps(pixels)).float()


def bins_of(R: Float[Tensor, "*b 3 3"], count: int) -> Int[Tensor, "*b 3"]:
    """Return the classes of azimuth, elevation and theta (spec 4.1).

    Azimuth 0 is the lower edge of class 0; elevation and theta 0 the centre of the middle class.
    """
    azimuth, elevation, theta = (angles_from_rotation(R) / (2 * math.pi) * count).unbind(-1)
    low = azimuth.floor()
    signed = torch.stack([elevation, theta], -1)
    middle = (signed + count / 2 - 1).ceil()
    return torch.cat([low[..., None], middle], -1).long().remainder(count)


def rotation_of_bins(
    bins: Int[Tensor, "*b 3"], count: int, published: bool = False
) -> Float64[Tensor, "*b 3 3"]:
    """Return the rotations at the centres of classes.

    Args:
        bins: of azimuth, elevation, theta.
        count: of classes over the full turn.
        published: decode elevation and theta as the released Res50 code does: half a class below
            their centres, so that a perfect classifier is off by up to a class (spec 4.1).
    """
    centre = count / 2 if published else (count - 1) / 2
    az, el, th = bins.double().unbind(-1)
    angles = [a * (2 * math.pi / count) for a in (az + 0.5, el - centre, th - centre)]
    return rotation_from_angles(*angles)


def rotation_of_6d(x: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Return the rotations whose first columns 6 numbers say, by Gram and Schmidt (Zhou 2019)."""
    first = functional.normalize(x[..., :3], dim=-1, eps=1e-6)
    second = x[..., 3:] - (first * x[..., 3:]).sum(-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1, eps=1e-6)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def bins_loss(said: Float[Tensor, "b n"], R: Float[Tensor, "b 3 3"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of the three classes, summed; mean over crops, nats."""
    logits = said.unflatten(1, (3, -1))
    target = bins_of(R.double(), logits.shape[2])
    return 3 * functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def columns_loss(said: Float[Tensor, "b 6"], R: Float[Tensor, "b 3 3"]) -> Float[Tensor, ""]:
    """Return the squared distance of the 6 numbers to the rotation's first two columns; mean.

    Of distances after Gram and Schmidt the slope does not tell a far answer from a near one: front
    and back pull with equal force, and a network stays between them (docs/baselines.md).
    """
    return (said - R[..., :2].mT.flatten(1)).square().sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"bins": bins_loss, "6d": columns_loss}


@dataclass(eq=False)
class Views:
    """The training crops that the nearest one is looked for among.

    Attributes:
        features: pooled features, half precision, one row a crop.
        R: how the object in each is turned.
    """

    features: Float[Tensor, "n d"]
    R: Float[Tensor, "n 3 3"]

    def __post_init__(self) -> None:
        self.mean = self.features.float().mean(0)
        self.unit = self._unit(self.features)

    def _unit(self, features: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
        return functional.normalize(features.float() - self.mean, dim=1, eps=1e-6)

    def nearest(self, features: Float[Tensor, "b d"]) -> Answer:
        """Return the rotations of the most similar crops, and the centred cosines."""
        cosine, k = (self._unit(features) @ self.unit.T).max(1)
        return self.R[k].double(), cosine.double()


@dataclass(eq=False)
class DirectModel:
    """A network that says the rotation of one category's objects at one look.

    Attributes:
        category: PASCAL3D+ name, e.g. ``car``.
        config: kind and head.
        network: trunk and size of the crop; what concerns a texture is not looked at.
        backbone: of :func:`build_direct`.
        template: mean surface, object units: says how far away what fills a box is.
        views: training crops, kind ``nearest`` only.
        hash: of the files it was loaded from; empty for a model in training.
        extra: what else the files say.
    """

    category: str
    config: DirectConfig
    network: ModelConfig
    backbone: Backbone
    template: Mesh
    views: Views | None = None
    hash: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop it looks at, pixels."""
        return self.network.crop_height, self.network.crop_width

    @torch.no_grad()
    def rotations(self, pixels: UInt8[Tensor, "b h w 3"], flip: bool = False) -> Answer:
        """Return how the objects in crops are turned, seen along the crops' axes, and how sure.

        Sure is, by kind: the probability of all three classes; nan; the cosine.

        Args:
            pixels: RGB crops.
            flip: whether to look at the mirrored crops too and answer for both together.
        """
        if self.backbone.training:
            self.backbone.eval()
        x = pixels.permute(0, 3, 1, 2).float()
        said = [answer(self.backbone, x)]
        if flip:
            said.append(answer(self.backbone, x.flip(3)))
        return self.read(said)

    def read(self, said: list[Float[Tensor, "b n"]]) -> Answer:
        """Return what the network's numbers mean, of crops and, if they are, of their mirrors."""
        if self.config.kind == "bins":
            return self._of_bins(said)
        if self.config.kind == "6d":
            return self._of_6d(said)
        return self._of_views(said)

    def _of_bins(self, said: list[Tensor]) -> Answer:
        count = self.config.bins
        logits = [s.unflatten(1, (3, count)) for s in said]
        for mirrored in logits[1:]:  # azimuth and theta run the other way
            mirrored[:, [0, 2]] = mirrored[:, [0, 2]].flip(2)
        sure, bins = torch.stack(logits).mean(0).softmax(2).max(2)
        return rotation_of_bins(bins, count), sure.double().prod(1)

    def _of_6d(self, said: list[Tensor]) -> Answer:
        R = [rotation_of_6d(s.double()) for s in said]
        unsure = torch.full((len(R[0]),), math.nan, dtype=torch.float64)
        return (R[0] if len(R) == 1 else procrustes(R[0] + MIRROR @ R[1] @ MIRROR)), unsure

    def _of_views(self, said: list[Tensor]) -> Answer:
        if self.views is None:
            raise _unfit("no training crops")
        R, sure = self.views.nearest(said[0])
        for s in said[1:]:
            other, as_sure = self.views.nearest(s)
            better = as_sure > sure
            R = torch.where(better[:, None, None], MIRROR @ other @ MIRROR, R)
            sure = torch.where(better, as_sure, sure)
        return R, sure

    def save(self, folder: str | Path) -> str:
        """Write the model folder and return its hash; errors as in ``save_model``."""
        state = self.backbone.state_dict()
        keep = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        trunk = {k[6:]: v for k, v in keep.items() if k.startswith("trunk.")}
        tensors = {k: v for k, v in keep.items() if k.startswith("head.")}
        tensors["template.vertices"] = self.template.vertices.float()
        tensors["template.faces"] = self.template.faces.int()
        if self.views is not None:
            tensors |= {"views.features": self.views.features.half(), "views.R": self.views.R}
        config = {"direct": asdict(self.config), "network": asdict(self.network)}
        extra = {**self.extra, KIND: DIRECT}
        name = self.network.backbone
        return save_model(folder, self.category, config, trunk, name, tensors, extra)

    @classmethod
    def from_files(cls, files: ModelFiles) -> "DirectModel":
        """Return the model of a checked model folder; errors as in :func:`load_direct`."""
        if files.extra.get(KIND) != DIRECT:
            raise CheckpointError(
                "E_CKPT_NAME",
                f"load_direct(): expected a network that says poses directly, got another kind of "
                f"model in {files.folder}; try: featmesh.load",
            )
        config = config_from_dict(DirectConfig, files.config.get("direct", {}))
        network = config_from_dict(ModelConfig, files.config.get("network", {}))
        backbone, views = build_direct(config, network), None
        state = {f"trunk.{k}": v for k, v in files.trunk.items()}
        state |= {k: v for k, v in files.tensors.items() if k.startswith("head.")}
        try:
            missing, unknown = backbone.load_state_dict(state, strict=False)
            vertices, faces = (files.tensors[f"template.{k}"] for k in ("vertices", "faces"))
            if config.kind == "nearest":
                views = Views(files.tensors["views.features"].half(), files.tensors["views.R"])
        except (RuntimeError, KeyError) as error:  # shapes that do not fit, parts that are not
            raise _unfit(str(error).splitlines()[-1].strip()) from error
        missing = [k for k in missing if not k.endswith("num_batches_tracked")]
        if missing or unknown:
            raise _unfit(f"missing {missing[:3]}, unknown {unknown[:3]}")
        extra = {k: v for k, v in files.extra.items() if k != KIND}
        template = Mesh(vertices.double(), faces.long()).checked("load_direct(): template")
        own = (files.category, config, network, backbone.eval(), template)
        return cls(*own, views, files.hash, extra)


def load_direct(folder: str | Path) -> DirectModel:
    """Return the model that :meth:`DirectModel.save` wrote.

    Raises:
        CheckpointError: E_CKPT_NAME for another kind of model, E_CKPT_CONFIG where the parts do not
            fit; and as :func:`featmesh.load`.
    """
    return DirectModel.from_files(read_model(find_model(folder)))


def _unfit(got: str) -> CheckpointError:
    return CheckpointError(
        "E_CKPT_CONFIG",
        f"load_direct(): expected tensors that fit the configuration, got {got}; "
        "try: train it again",
    )
