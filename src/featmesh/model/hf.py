"""Any vision model of the transformers library as a trunk, handed in as an object (ours).

Nothing of that library is imported: what is used is ``model(pixel_values=...)`` and what its
configuration says about patches and channels.
"""

import inspect
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from featmesh.errors import BackendUnavailable

from .backbones import Backbone
from .config import ModelConfig
from .dinov2 import CELL, DinoHead, shrink_to_patches

COARSEST = 32  # stride of the last map of the usual pyramids


def adapt(hf_model: nn.Module, config: ModelConfig) -> Backbone:
    """Return a backbone around a transformers model, with a new head.

    Vision transformers (DINOv2, ViT, ...; class and register tokens are dropped) and the feature
    maps of an ``AutoBackbone`` work; the model is used as it is, without a copy. A saved model of
    it is loaded by handing the same model in again.

    Args:
        hf_model: trained on ImageNet-normalised pixels.
        config: of the category model; its ``backbone`` is ``hf``.

    Raises:
        BackendUnavailable: E_BACKEND for another configuration, or a model that does not say how
            many channels it has.
    """
    if config.backbone != "hf":
        raise _refused("a configuration with backbone 'hf'", repr(config.backbone))
    trunk = HfTrunk(hf_model)
    return Backbone(trunk, DinoHead(trunk.channels, config), config)


class HfTrunk(nn.Module):
    """The model, its pixels resized so that every map comes out at stride 16."""

    multiple = CELL  # input sides must be multiples of it

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.channels = _channels(model)
        self.strides = (CELL,) * len(self.channels)
        self.patch = _patch(model)
        asked = inspect.signature(model.forward).parameters
        # plain ViTs take other sizes than the one they were trained for only when told so
        self.extra = {k: True for k in ("interpolate_pos_encoding",) if k in asked}

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the model's feature maps at stride 16.

        Args:
            x: ImageNet-normalised pixels, sides multiples of 16.

        Raises:
            BackendUnavailable: E_BACKEND where the maps do not cover the picture evenly.
        """
        rows, columns = x.shape[-2] // CELL, x.shape[-1] // CELL
        x = shrink_to_patches(x, self.patch) if self.patch else _padded(x)
        found = self.model(pixel_values=x.contiguous(), **self.extra)
        maps = getattr(found, "feature_maps", None) or [found.last_hidden_state]
        # of the padded picture where there is no patch
        size = (rows, columns) if self.patch else (x.shape[-2] // CELL, x.shape[-1] // CELL)
        maps = [_at_cells(m if m.dim() == 4 else _as_map(m, size), size) for m in maps]
        return [m[..., :rows, :columns] for m in maps]


def _padded(x: Tensor) -> Tensor:
    """Return the picture with its last row and column repeated up to multiples of 32.

    A pyramid would else drop or add half a cell, and its coarse maps would be stretched.
    """
    rest = (0, -x.shape[-1] % COARSEST, 0, -x.shape[-2] % COARSEST)
    return functional.pad(x, rest, mode="replicate")


def _patch(model: nn.Module) -> int:
    """Return the side of a patch, pixels; 0 for pyramids, whose ``patch_size`` is their stem's."""
    config: Any = model.config
    side = 0 if hasattr(config, "depths") else getattr(config, "patch_size", 0)
    return int(side if isinstance(side, int) else side[0])


def _channels(model: nn.Module) -> tuple[int, ...]:
    """Return the channels of each map."""
    config: Any = model.config
    if getattr(config, "out_features", None) and hasattr(model, "channels"):
        return tuple(int(c) for c in model.channels)  # type: ignore[union-attr]
    if isinstance(getattr(config, "hidden_size", None), int):
        return (config.hidden_size,)
    raise _refused(
        "a model with config.hidden_size, or an AutoBackbone with channels", type(model).__name__
    )


def _as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Return patch tokens as a map; what comes before them (class, registers) is dropped."""
    count = size[0] * size[1]
    if tokens.shape[1] < count:
        raise _refused(f"a token for each of {size[0]} x {size[1]} patches", f"{tokens.shape[1]}")
    return tokens[:, -count:].transpose(1, 2).unflatten(2, size)


def _at_cells(found: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map of any stride at stride 16: finer ones averaged, coarser ones interpolated."""
    rows, columns = found.shape[-2:]
    if rows * size[1] != columns * size[0]:
        raise _refused(f"a map shaped as {size[0]} x {size[1]}", f"{rows} x {columns}")
    if rows > size[0]:
        return functional.adaptive_avg_pool2d(found, size)
    if rows < size[0]:
        return functional.interpolate(found, size=size, mode="bilinear", align_corners=False)
    return found


def _refused(expected: str, got: str) -> BackendUnavailable:
    hint = "a DINOv2 or ViT model, or an AutoBackbone"
    return BackendUnavailable("E_BACKEND", f"adapt: expected {expected}, got {got}; try: {hint}")
