"""How part labels are learned: torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PartsConfig:
    """The count of votes, and what follows (ours)."""

    mirror: bool = True
    """whether each photo votes for the mirrored side too, left and right in names swapped"""
    smooth: float = 0.02
    """weight of smoothness over the surface; a vertex with the mean count of votes weighs 1"""
    passes: int = 3
    """counts; each but the first is without the photos that the last labels contradict"""
    agree: float = 0.5
    """share of the pixels of parts that must agree for a photo to vote again"""
    steps: int = 80
    """of the ascent of the overlap; 0 leaves the votes as they are"""
    lr: float = 0.15
    """of that ascent"""
    sharp: float = 3.0
    """power that stands for the argmax of drawing"""
    rough: float = 1.0
    """cost of the mean squared difference of neighbours"""
    score: float = 0.0
    """photos whose estimate scores less do not vote"""


@dataclass(frozen=True)
class EvidenceConfig:
    """How a head that names parts in pixels is trained; chosen on photos 241-320 of car_parts."""

    variants: int = 8
    """of each photo"""
    epochs: int = 30
    """passes over the photos, one variant of each"""
    rate: float = 3e-3
    """highest learning rate"""
    warm: bool = True
    """whether it begins with the weights of the model's own head"""
    balance: float = 0.0
    """power of 1 / (pixels of a part) that its pixels weigh in the loss"""
    batch: int = 8
    """photos of a step"""
    decay: float = 0.02
    """of the weights"""
    hidden: bool = False
    """whether it is trained to name the parts behind an occluder too"""
