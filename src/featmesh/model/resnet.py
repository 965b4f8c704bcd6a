"""ResNet-50 and the upsampling head of NeMo: pixels -> unit vectors at stride 8 (spec 2.5).

The trunk is written from the paper (He et al., 2016), with the stride in the 3x3 convolution as the
public ImageNet weights have it; the head from the facts of spec 2.5. Parameter names are ours;
:func:`from_torchvision_names` maps the public ones.
"""

import re

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .config import ModelConfig
from .norm import Window

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))  # blocks, width, stride of the first
WIDER = 4  # a block's output over its width
TAPS = {6: 512, 12: 1024, 15: 2048}  # block after which strides 8, 16, 32 end -> channels
NAMES = {  # part of a block -> its public name
    "reduce.conv": "conv1",
    "reduce.norm": "bn1",
    "spread.conv": "conv2",
    "spread.norm": "bn2",
    "widen.conv": "conv3",
    "widen.norm": "bn3",
    "skip.conv": "downsample.0",
    "skip.norm": "downsample.1",
}


class Normed(nn.Module):
    """A convolution without bias and its batch norm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Return the normalised convolution, not activated."""
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a residual; the 3x3 has the stride."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = WIDER * width
        self.reduce = Normed(channels, width, 1)
        self.spread = Normed(width, width, 3, stride)
        self.widen = Normed(width, out, 1)
        changes = channels != out or stride != 1
        self.skip = Normed(channels, out, 1, stride) if changes else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Return the block's output plus its input."""
        y = functional.relu(self.spread(functional.relu(self.reduce(x))))
        return functional.relu(self.widen(y) + self.skip(x))


class ResNet50(nn.Module):
    """The trunk; ``channels`` and ``strides`` describe its outputs.

    Its batch norms learn with the crops' own statistics, as in the lineage; those of layers that
    are not trained keep theirs.
    """

    channels = tuple(TAPS.values())
    strides = (8, 16, 32)
    multiple = 32  # input sides must be multiples of it

    def __init__(self) -> None:
        super().__init__()
        self.stem = Normed(3, 64, 7, 2)
        blocks, channels = [], 64
        for repeats, width, stride in STAGES:
            for k in range(repeats):
                blocks.append(Bottleneck(channels, width, stride if k == 0 else 1))
                channels = WIDER * width
        self.blocks = nn.ModuleList(blocks)

    def train(self, mode: bool = True) -> "ResNet50":
        """Switch to training; batch norms of frozen layers stay as they are."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, Normed) and not module.conv.weight.requires_grad:
                module.norm.eval()
        return self

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the feature maps of strides 8, 16, 32 of ImageNet-normalised pixels."""
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2, 1)
        maps = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in TAPS:
                maps.append(x)
        return maps


class DoubleConv(nn.Module):
    """Twice a 3x3 convolution, batch norm and ReLU."""

    def __init__(self, channels: int, middle: int, out: int) -> None:
        super().__init__()
        self.first, self.second = Normed(channels, middle, 3), Normed(middle, out, 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the map after both."""
        return functional.relu(self.second(functional.relu(self.first(x))))


class UpsamplingHead(nn.Module):
    """Maps of strides 8, 16, 32 -> unit vectors at stride 8, by NeMo's three double convolutions.

    The last layer has no bias (``wufeim/NeMo``). Sizes are the published ones whatever
    ``config.width`` says.
    """

    def __init__(self, channels: tuple[int, ...], config: ModelConfig) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.up_0 = DoubleConv(coarse, 1024, 1024)
        self.up_1 = DoubleConv(middle + 1024, 1024, 512)
        self.up_2 = DoubleConv(fine + 512, 512, 256)
        self.out = nn.Conv2d(256, config.channels, 1, bias=False)

    def forward(self, maps: list[Tensor], window: Window | None = None) -> Float[Tensor, "b c h w"]:
        """Return unit feature vectors of maps ordered from fine to coarse.

        ``window`` changes nothing: at test time batch norms know no neighbourhood.
        """
        fine, middle, coarse = maps
        x = self.up_1(torch.cat([middle, _doubled(self.up_0(coarse), middle)], 1))
        x = self.up_2(torch.cat([fine, _doubled(x, fine)], 1))
        return functional.normalize(self.out(x), dim=1, eps=1e-6)


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    """Return a map twice as large, bilinear between its corner cells, zeros up to ``like``'s."""
    x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    high, wide = like.shape[-2] - x.shape[-2], like.shape[-1] - x.shape[-1]
    return functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


def torchvision_names() -> dict[str, str]:
    """Return our name of each layer that the trunk keeps, by its public name."""
    pairs, number = {"conv1": "stem.conv", "bn1": "stem.norm"}, 0
    for layer, (repeats, _, _) in enumerate(STAGES, 1):
        for k in range(repeats):
            parts = {ours: name for ours, name in NAMES.items() if k == 0 or ours[:4] != "skip"}
            pairs |= {f"layer{layer}.{k}.{b}": f"blocks.{number}.{a}" for a, b in parts.items()}
            number += 1
    return pairs


def from_torchvision_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our state of the public weights (``layer1.0.conv1.weight``, ...).

    The classifier ``fc`` and the batch counters are left out, a ``module.`` before every name is
    taken off.

    Args:
        weights: state of a ResNet-50 in torchvision's names.
    """
    layers, state = torchvision_names(), {}
    for name, value in weights.items():
        layer, _, last = re.sub(r"^module\.", "", name).rpartition(".")
        if layer in layers and last != "num_batches_tracked":
            state[f"{layers[layer]}.{last}"] = value
    return {k: v.clone(memory_format=torch.contiguous_format) for k, v in state.items()}
