"""Look-up tables of a model, built once per template and configuration and kept in memory."""

from dataclasses import dataclass
from functools import lru_cache

from featmesh.geometry.mesh import Mesh
from featmesh.model.category import CategoryModel

from .config import LocateConfig, ScanConfig, crop_size
from .locate import SlideTable, build_slides
from .scan import PoseTable, build_table


@dataclass(frozen=True, eq=False)
class _Key:
    """A template by identity: tables depend on nothing else of the model."""

    mesh: Mesh

    def __hash__(self) -> int:
        return id(self.mesh.vertices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.mesh.vertices is self.mesh.vertices


def pose_table(model: CategoryModel, config: ScanConfig, crop: float = 1.0) -> PoseTable:
    """Return the pose table of a model for the map of its crop, ``crop`` times as large."""
    stride = model.config.stride
    height, width = crop_size(model.config, crop)
    return _pose_table(_Key(model.template), (height // stride, width // stride), config)


def slide_table(model: CategoryModel, config: LocateConfig) -> SlideTable:
    """Return the views of a model that are slid over a photo."""
    return _slide_table(_Key(model.template), config)


# of twelve categories, each for crop and glance
@lru_cache(maxsize=32)
def _pose_table(key: _Key, size: tuple[int, int], config: ScanConfig) -> PoseTable:
    return build_table(key.mesh, size, config)


@lru_cache(maxsize=32)
def _slide_table(key: _Key, config: LocateConfig) -> SlideTable:
    return build_slides(key.mesh, config)
