"""featmesh: 3D pose, shape and segmentation of an object from one photo."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .geometry.camera import Camera as Camera
    from .geometry.pose import Pose as Pose
    from .inference.classify import Classification as Classification
    from .inference.classify import classify as classify
    from .inference.estimator import estimate as estimate
    from .inference.refine import render_and_compare as render_and_compare
    from .inference.result import Estimate as Estimate
    from .inference.several import estimate_all as estimate_all
    from .inference.track import track as track
    from .model.checkpoint import load as load
    from .model.checkpoint import load_all as load_all
    from .photo.photo import Photo as Photo
    from .photo.read import read_photo as read_photo

_PUBLIC = {
    "Camera": "geometry.camera",
    "Classification": "inference.classify",
    "Estimate": "inference.result",
    "Photo": "photo.photo",
    "Pose": "geometry.pose",
    "classify": "inference.classify",
    "estimate": "inference.estimator",
    "estimate_all": "inference.several",
    "load": "model.checkpoint",
    "load_all": "model.checkpoint",
    "read_photo": "photo.read",
    "render_and_compare": "inference.refine",
    "track": "inference.track",
}

__all__ = [
    "Camera",
    "Classification",
    "Estimate",
    "Photo",
    "Pose",
    "classify",
    "estimate",
    "estimate_all",
    "load",
    "load_all",
    "read_photo",
    "render_and_compare",
    "track",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import featmesh`` loads no torch."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(
        f"module 'featmesh' has no attribute {name!r}; it has {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
