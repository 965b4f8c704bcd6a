"""What the conventional networks are made of: torch-free, saved in their ``model.json``."""

from dataclasses import dataclass
from typing import Literal

DirectKind = Literal["bins", "6d", "nearest"]
Method = Literal["featmesh", "bins", "6d", "nearest"]  # what training makes


@dataclass(frozen=True)
class DirectConfig:
    """A network that says the pose at one look, without a mesh."""

    kind: DirectKind = "bins"
    """classes of azimuth, elevation and theta; a rotation as 6 numbers; or that of the most similar
    training crop"""
    bins: int = 41
    """classes of each angle over the full turn, an odd number (bins)"""
    width: int = 512
    """channels before pooling (bins, 6d)"""
    grid: tuple[int, int] = (2, 3)
    """rows and columns the coarsest map is pooled to (bins, 6d)"""
    level: int = 2
    """map of the trunk that is compared, counted from the finest (nearest)"""
    cells: tuple[int, int] = (4, 8)
    """rows and columns that map is pooled to (nearest)"""
