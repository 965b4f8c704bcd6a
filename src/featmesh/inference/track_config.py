"""How an object is followed through a video: torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackConfig:
    """Following one object from frame to frame (numbers ours)."""

    crop: float = 1.0
    """sides of the crop over those the network was trained on, while the object is followed;
    less is quicker and less exact"""
    steps: int = 15
    """of the optimiser, from the pose expected; a search takes many times as many"""
    lr: float = 0.02
    """radians, and fifths of the distance"""
    polish: int = 4
    """Levenberg-Marquardt steps at the end"""
    rivals: int = 2
    """other poses that explained the object nearly as well, followed beside it"""
    look: int = 10
    """frames between two looks around for other poses, by the coarse scan, in a search's crop"""
    margin: float = 0.1
    """share by which another pose must explain the object better to count against the one that is
    followed, or a search's best pose than the one that goes on as before"""
    patience: int = 5
    """frames in a row that it must do so until the track goes over to it"""
    confidence: float = 0.15
    """below it the object is lost; of models that are calibrated"""
    evidence: float = 0.2
    """share of its usual evidence below which the object is lost"""
    elsewhere: float = 0.7
    """share of its usual evidence from which something else than expected is the object"""
    retry: int = 3
    """frames between two full searches while it is lost; between them it is looked for where it
    should be"""
    memory: int = 15
    """frames that a lost object is expected to go on as before; then it is searched in each"""
    smoothing: float = 0.6
    """of the causal filter, 0 (none) to below 1: weights fall by this factor each frame"""
