"""Pixels -> unit feature vectors: a shared trunk and a small head per category (spec 2.5, ours).

The head is a feature pyramid decoder: coarse maps are brought up and added to finer ones, so that
each cell of the stride-8 map knows both its detail and its surroundings.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from featmesh.errors import BackendUnavailable, InputError

from .config import ModelConfig
from .efficientnet import IMAGENET_MEAN, IMAGENET_STD, EfficientNetLite0
from .norm import LocalGroupNorm, Window


def normalise(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return ImageNet-normalised pixels of values 0..255."""
    mean = IMAGENET_MEAN.to(pixels)[:, None, None]
    std = IMAGENET_STD.to(pixels)[:, None, None]
    return (pixels / 255 - mean) / std


class Mix(nn.Module):
    """A depthwise 5x5 and a pointwise convolution with a residual: cheap wide context."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)
        self.norm = LocalGroupNorm(8, width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], window: Window | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return x plus what its neighbourhood says."""
        return x + functional.silu(self.mix(self.norm(self.spread(x), window)))


class PyramidHead(nn.Module):
    """Feature maps of strides 8, 16, 32 (and 4) -> unit vectors at stride 8."""

    def __init__(self, channels: tuple[int, ...], config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.sides = nn.ModuleList([nn.Conv2d(c, width, 1) for c in channels])
        self.mixes = nn.ModuleList([Mix(width) for _ in channels])
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.norm = LocalGroupNorm(8, width)
        self.out = nn.Conv2d(width, config.channels, 1)

    def forward(self, maps: list[Tensor], window: Window | None = None) -> Float[Tensor, "b c h w"]:
        """Return unit feature vectors of maps ordered from fine (stride 4) to coarse.

        With a ``window``, in cells of the result, the norms' statistics are those of each cell's
        neighbourhood.
        """
        fine = functional.avg_pool2d(maps[0], 2)
        levels = [fine, *maps[1:]]
        sides = [side(x) for side, x in zip(self.sides, levels, strict=True)]
        windows = [_coarser(window, len(fine[0, 0]) / len(x[0, 0])) for x in levels]
        x = self.mixes[-1](sides[-1], windows[-1])
        for k in range(len(sides) - 2, 0, -1):
            x = functional.interpolate(
                x, size=sides[k].shape[-2:], mode="bilinear", align_corners=False
            )
            x = self.mixes[k](x + sides[k], windows[k])
        x = self.mixes[0](x + sides[0], windows[0])
        x = functional.silu(self.norm(self.last(x), window))
        return functional.normalize(self.out(x), dim=1, eps=1e-6)


def _coarser(window: Window | None, times: float) -> Window | None:
    return window and (max(1, round(window[0] / times)), max(1, round(window[1] / times)))


class Backbone(nn.Module):
    """Trunk + head: ImageNet-normalised pixels -> unit feature vectors at ``stride``."""

    def __init__(self, trunk: nn.Module, head: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.trunk, self.head, self.stride = trunk, head, config.stride
        self.multiple: int = trunk.multiple  # type: ignore[assignment]

    def forward(
        self, pixels: Float[Tensor, "b 3 h w"], window: Window | None = None
    ) -> Float[Tensor, "b c p q"]:
        """Return the feature map of pixels with values 0..255; cell j covers [8j, 8j + 8).

        The head knows crops; in a larger picture, ``window`` (pixels, height and width) has it see
        each cell against its surroundings as if in a crop.

        A picture whose sides are not multiples of the trunk's coarsest stride is continued in grey
        and the map is cut, so that each level's cells lie where they should.

        Raises:
            InputError: E_SHAPE for sides that are no multiples of the stride.
        """
        return self.read(self.maps(pixels), (pixels.shape[-2], pixels.shape[-1]), window)

    def maps(self, pixels: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the trunk's maps of pixels with values 0..255; errors as of a call."""
        height, width = pixels.shape[-2:]
        if height % self.stride or width % self.stride or min(height, width) < self.stride:
            raise InputError(
                "E_SHAPE",
                f"backbone: expected sides that are multiples of {self.stride}, got "
                f"{height} x {width}; try: pad the picture, or another crop size",
            )
        x = normalise(pixels)
        more = (0, -width % self.multiple, 0, -height % self.multiple)
        x = functional.pad(x, more).contiguous(memory_format=torch.channels_last)
        return self.trunk(x)

    def read(
        self, maps: list[Tensor], size: tuple[int, int], window: Window | None = None
    ) -> Float[Tensor, "b c p q"]:
        """Return the feature map that the head reads off the trunk's maps of a picture.

        Args:
            maps: of :meth:`maps`.
            size: height and width of the picture, pixels.
            window: as of a call.
        """
        if window is None:
            features = self.head(maps).float()
        else:
            cells = (window[0] // self.stride, window[1] // self.stride)
            features = self.head(maps, cells).float()
        return features[..., : size[0] // self.stride, : size[1] // self.stride]


def _efficientnet(config: ModelConfig) -> Backbone:
    trunk = EfficientNetLite0()
    return Backbone(trunk, PyramidHead(trunk.channels, config), config)


def _dinov2(config: ModelConfig) -> Backbone:
    from .dinov2 import DinoHead, DinoV2

    trunk = DinoV2()
    return Backbone(trunk, DinoHead(trunk.channels, config), config)


def _resnet50(config: ModelConfig) -> Backbone:
    from .resnet import ResNet50, UpsamplingHead

    trunk = ResNet50()
    return Backbone(trunk, UpsamplingHead(trunk.channels, config), config)


def _hf(config: ModelConfig) -> Backbone:
    raise BackendUnavailable(
        "E_BACKEND",
        "backbone 'hf': expected a transformers model handed in, got a name only; "
        "try: featmesh.model.hf.adapt(transformers_model, config)",
    )


BACKBONES: dict[str, Callable[[ModelConfig], Backbone]] = {
    "efficientnet_lite0": _efficientnet,
    "dinov2_vits14": _dinov2,
    "resnet50": _resnet50,
    "hf": _hf,
}


def build_backbone(config: ModelConfig) -> Backbone:
    """Return the untrained network of a configuration."""
    if config.backbone not in BACKBONES:
        raise BackendUnavailable(
            "E_BACKEND",
            f"build_backbone(): expected one of {', '.join(BACKBONES)}, "
            f"got {config.backbone!r}; try: one of these",
        )
    backbone = BACKBONES[config.backbone](config)
    # the fast layout of convolutions on a CPU
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return backbone
