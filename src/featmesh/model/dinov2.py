"""DINOv2 ViT-S/14, the frozen trunk: pixels -> two feature maps of stride 16, and a small head.

Written from the paper (Oquab et al., 2023). The picture is shrunk by 14/16 before it is cut into
patches of 14 pixels, so that one patch sees exactly 16 x 16 pixels of the picture handed in and
the head's doubled grid is the stride-8 grid of the rest of the system.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .config import ModelConfig
from .norm import Window

WIDTH, HEADS, DEPTH, PATCH = 384, 6, 12, 14
GRID = 37  # patches along each axis the position embedding was trained for
EPSILON = 1e-6  # of the layer norms, as the weights were trained
TAPS = (8, 11)  # blocks (from 0) whose output the head sees
CELL = 16  # pixels of the picture seen by one patch, along each axis
NAMES = {"norm1": "norm_1", "norm2": "norm_2", "mlp.fc1": "expand", "mlp.fc2": "shrink"}


def shrink_to_patches(x: Float[Tensor, "b 3 h w"], patch: int) -> Float[Tensor, "b 3 p q"]:
    """Return the picture resized so that a patch of ``patch`` pixels covers 16 of its pixels."""
    if patch == CELL:
        return x
    size = (x.shape[-2] // CELL * patch, x.shape[-1] // CELL * patch)
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class Embedding(nn.Module):
    """Patches -> tokens with their position; the class token comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(torch.zeros(1, WIDTH, GRID, GRID))
        self.token = nn.Parameter(torch.zeros(WIDTH))  # the class token and its position, added

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        """Return the tokens of a picture whose sides are multiples of 14 pixels."""
        x = self.patches(x)
        position: Tensor = self.position
        if x.shape[-2:] != position.shape[-2:]:
            position = functional.interpolate(
                position, size=x.shape[-2:], mode="bicubic", align_corners=False
            )
        tokens = (x + position).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), 1, WIDTH), tokens], 1)


class Block(nn.Module):
    """Self-attention, then a two-layer perceptron, each scaled by channel and added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.scale_1 = nn.Parameter(torch.ones(WIDTH))
        self.norm_2 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.expand = nn.Linear(WIDTH, 4 * WIDTH)
        self.shrink = nn.Linear(4 * WIDTH, WIDTH)
        self.scale_2 = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Return the tokens, each having looked at all others."""
        x = x + self.scale_1 * self.project(self._attend(self.norm_1(x)))
        return x + self.scale_2 * self.shrink(functional.gelu(self.expand(self.norm_2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)


class DinoV2(nn.Module):
    """The trunk; ``channels`` and ``strides`` describe its outputs.

    It has neither dropout nor batch statistics: training mode changes nothing. Where nothing in it
    is trained, torch records nothing for a backward pass.
    """

    channels = (WIDTH,) * len(TAPS)
    strides = (CELL,) * len(TAPS)
    multiple = CELL  # input sides must be multiples of it

    def __init__(self) -> None:
        super().__init__()
        self.embed = Embedding()
        self.blocks = nn.ModuleList([Block() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the normed patch tokens of blocks 9 and 12, as maps of stride 16.

        Args:
            x: ImageNet-normalised pixels.
        """
        rows, columns = x.shape[-2] // CELL, x.shape[-1] // CELL
        x = self.embed(shrink_to_patches(x, PATCH))
        maps = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in TAPS:
                tokens = self.norm(x)[:, 1:]
                maps.append(tokens.transpose(1, 2).unflatten(2, (rows, columns)))
        return maps


class DinoHead(nn.Module):
    """Feature maps of stride 16 -> unit vectors at stride 8, in three layers (ours).

    Norms act on each cell alone: what a cell says does not depend on how much of the photo is seen.
    """

    def __init__(self, channels: tuple[int, ...], config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.reduce = nn.Linear(sum(channels), 2 * width)
        self.norm_1 = nn.LayerNorm(2 * width)
        # each output cell mixes the 2 x 2 patches nearest to it: four learnt quarters of a patch
        self.upsample = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.norm_2 = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.channels)

    def forward(
        self,
        maps: list[Tensor],
        window: Window | None = None,  # of no use: no norm here looks at more than its cell
    ) -> Float[Tensor, "b c p q"]:
        """Return unit feature vectors of maps of one size; the grid is doubled."""
        x = torch.cat(maps, 1).permute(0, 2, 3, 1)
        x = functional.silu(self.norm_1(self.reduce(x)))
        x = self.upsample(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = self.out(functional.silu(self.norm_2(x)))
        return functional.normalize(x, dim=-1, eps=1e-6).permute(0, 3, 1, 2)


def from_transformers_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our state of the public weights (``encoder.layer.0.norm1.weight``, ...).

    Args:
        weights: of this size, under the names they are published with (transformers' own
            ``Dinov2Model`` renames some as it loads them), mask token or not.

    Raises:
        KeyError: naming a weight that is missing.
    """
    position = weights["embeddings.position_embeddings"][0]
    grid = position[1:].T.reshape(1, WIDTH, GRID, GRID)
    state = {
        "embed.token": weights["embeddings.cls_token"][0, 0] + position[0],
        "embed.position": grid,
    }
    pairs = {"embeddings.patch_embeddings.projection": "embed.patches", "layernorm": "norm"}
    for k in range(DEPTH):
        theirs, ours = f"encoder.layer.{k}.", f"blocks.{k}."
        pairs |= {theirs + a: ours + b for a, b in NAMES.items()}
        pairs[theirs + "attention.output.dense"] = ours + "project"
        for part in (1, 2):
            scale = weights[f"{theirs}layer_scale{part}.lambda1"]
            state[f"{ours}scale_{part}"] = scale
        attention = theirs + "attention.attention."
        for last in ("weight", "bias"):
            parts = [weights[f"{attention}{p}.{last}"] for p in ("query", "key", "value")]
            state[f"{ours}qkv.{last}"] = torch.cat(parts)
    for theirs, ours in pairs.items():
        for last in ("weight", "bias"):
            state[f"{ours}.{last}"] = weights[f"{theirs}.{last}"]
    return {k: v.clone(memory_format=torch.contiguous_format) for k, v in state.items()}
