"""A trunk of two convolutions, in the place of the one that an adapter would bring (``hf``)."""

import torch
from torch import Tensor, nn

from featmesh.model.backbones import Backbone
from featmesh.model.config import ModelConfig

NETWORK = ModelConfig(backbone="hf", crop_height=64, crop_width=96)


class TinyTrunk(nn.Module):
    """Pixels -> maps of strides 4 and 16."""

    multiple = 16
    channels = (12, 24)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.blocks = nn.ModuleList([nn.Conv2d(12, 24, 4, 4)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return both maps."""
        fine = self.stem(x).relu()
        return [fine, self.blocks[0](fine).relu()]


def tiny_backbone(config: ModelConfig) -> Backbone:
    """Return the trunk without a head, to be put into ``BACKBONES``."""
    return Backbone(TinyTrunk(), nn.Identity(), config)


def tiny_state() -> dict[str, Tensor]:
    """Return the weights that tests begin with."""
    torch.manual_seed(0)
    return TinyTrunk().state_dict()
