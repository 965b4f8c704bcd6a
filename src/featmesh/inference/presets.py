"""Whole configurations of the search, by name: torch-free."""

from dataclasses import dataclass
from typing import Literal

from .config import EstimateConfig

SearchName = Literal["featmesh", "nemo"]


@dataclass(frozen=True)
class NemoConfig:
    """NeMo's published search in a benchmark's crop (spec 2.10); see docs/nemo.md."""

    azimuths: int = 12
    """of the rendered poses, evenly over the full turn"""
    elevations: tuple[float, ...] = (-30.0, 0.0, 30.0, 60.0)
    """degrees"""
    thetas: tuple[float, ...] = (-30.0, 0.0, 30.0)
    """in-plane rotations, degrees"""
    distance: float = 5.0
    """of the camera at the start, object units; 4 for ImageNet3D's crops"""
    steps: int = 300
    """of Adam, from the best rendered pose"""
    lr: float = 0.05
    """object units of the camera's position, and radians of theta"""
    drops: tuple[float, ...] = (1 / 3, 2 / 3)
    """shares of the steps after which the rate falls to a fifth"""


PRESETS: dict[SearchName, EstimateConfig | NemoConfig] = {
    "featmesh": EstimateConfig(),
    "nemo": NemoConfig(),
}
