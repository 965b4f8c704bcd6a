"""The gist is learnt when the network is done: on crops that went through its trunk once.

The crops are those of a training step, of which the rotation is known; other objects and bare
pictures teach what is not the category (:mod:`featmesh.model.gist`; ours).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from featmesh.draws import generator
from featmesh.geometry.viewpoint import angles_from_rotation
from featmesh.model.backbones import Backbone
from featmesh.model.gist import AZIMUTHS, ELEVATIONS, GistHead, coarsest
from featmesh.photo.resize import resize
from featmesh.progress import track

from .config import TrainConfig
from .data import TrainData
from .direct_data import drawn_crops
from .trainer import expect_finite

PASSES = 15
BATCH = 64  # crops of the category in a step, and as many that do not show it
RATE, DECAY = 3e-3, 0.05
WIDE = math.radians(10)  # standard deviation of a label over its neighbouring bins
SMALLEST = 0.4  # part of a bare picture that a crop shows, of each side


@dataclass(frozen=True, eq=False)
class Seen:
    """What the trunk says of crops, in half precision, and how the object in each is turned.

    Attributes:
        maps: the coarsest maps, joined.
        R: rotations, seen along the ray to the object.
    """

    maps: Float[Tensor, "n c h w"]
    R: Float[Tensor, "n 3 3"]


@torch.no_grad()
def seen_crops(config: TrainConfig, data: TrainData, backbone: Backbone, count: int) -> Seen:
    """Return about ``count`` training crops as the trunk sees them."""
    backbone.eval()
    maps, R = [], []
    steps = max(1, round(count / config.batch))
    for step in track(range(steps), steps, f"gist: {config.batch} crops through the trunk"):
        crops = drawn_crops(data, config, step)
        maps.append(coarsest(backbone.maps(crops.pixels)).half())
        R.append(crops.R)
    return Seen(torch.cat(maps), torch.cat(R))


@torch.no_grad()
def seen_pictures(
    config: TrainConfig, data: TrainData, backbone: Backbone, count: int
) -> Float[Tensor, "n c h w"]:
    """Return parts of pictures without the object, at the crop's size, as the trunk sees them."""
    size, maps = (config.model.crop_height, config.model.crop_width), []
    for k in track(range(count), count, "gist: pictures without the object"):
        rng = generator(config.seed, "gist picture", k)
        picture = data.scenery.pictures[int(rng.integers(len(data.scenery.pictures)))]
        height, width = (
            max(2, round(side * rng.uniform(SMALLEST, 1.0))) for side in picture.shape[:2]
        )
        top = int(rng.integers(picture.shape[0] - height + 1))
        left = int(rng.integers(picture.shape[1] - width + 1))
        cut = resize(np.ascontiguousarray(picture[top : top + height, left : left + width]), *size)
        pixels = torch.from_numpy(cut).permute(2, 0, 1)[None].float()
        maps.append(coarsest(backbone.maps(pixels)).half())
    return torch.cat(maps)


def learn_gist(own: Seen, others: Sequence[Float[Tensor, "_ c h w"]], seed: int = 0) -> GistHead:
    """Return a head that has learnt from crops with the object, and others without.

    Args:
        own: crops of the category.
        others: maps of crops of other categories, and of bare pictures.
        seed: of weights and draws.

    Raises:
        FeatmeshError: E_NONFINITE where what the trunk says is not finite.
    """
    torch.manual_seed(int(generator(seed, "gist").integers(2**31)))
    without, count = torch.cat(list(others)), len(own.maps)
    head = GistHead(own.maps.shape[1])
    head.mean = own.maps.float().mean((0, 2, 3))
    head.spread = own.maps.float().std((0, 2, 3)) + 1e-4
    around, up = view_labels(own.R)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    size = min(BATCH, count)
    steps = max(1, PASSES * count // size)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, max(2, steps))
    head.train()
    for step in track(range(steps), steps, "gist"):
        rng = generator(seed, "gist step", step)
        chosen = torch.from_numpy(rng.permutation(count)[:size])
        foreign = torch.from_numpy(rng.integers(len(without), size=size))
        seen = torch.cat([own.maps[chosen], without[foreign]]).float()
        presence, azimuth, elevation = head(seen)
        there = (torch.arange(2 * size) < size).float()
        loss = functional.binary_cross_entropy_with_logits(presence, there)
        loss = loss + functional.cross_entropy(azimuth[:size], around[chosen])
        loss = loss + functional.cross_entropy(elevation[:size], up[chosen])
        expect_finite("gist loss", loss.detach(), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    return head.requires_grad_(False).eval()


def gist_alone(config: TrainConfig, data: TrainData, backbone: Backbone) -> GistHead:
    """Return a head that knows pictures without the object, but no other category.

    Args:
        config: of the run; ``gist`` crops are drawn.
        data: samples and pictures.
        backbone: as it is used, trained.
    """
    own = seen_crops(config, data, backbone, config.gist)
    bare = seen_pictures(config, data, backbone, max(1, config.gist // 2))
    return learn_gist(own, [bare], config.seed)


def view_labels(
    R: Float[Tensor, "n 3 3"],
) -> tuple[Float[Tensor, "n a"], Float[Tensor, "n e"]]:
    """Return what each bin of azimuth and of elevation is worth as an answer; rows add up to 1."""
    azimuth, elevation, _ = angles_from_rotation(R.double()).unbind(-1)
    centres = (torch.arange(AZIMUTHS, dtype=torch.float64) + 0.5) * (2 * math.pi / AZIMUTHS)
    around = (torch.cos(azimuth[:, None] - centres) / WIDE**2).softmax(1)
    rises = torch.linspace(*ELEVATIONS, dtype=torch.float64).deg2rad()
    up = (-0.5 * ((elevation[:, None] - rises) / WIDE) ** 2).softmax(1)
    return around.float(), up.float()
