"""The readers by name."""

from collections.abc import Callable
from pathlib import Path

from featmesh.views.record import View

from .coco import read_coco
from .common import Notes
from .imagenet3d import read_imagenet3d
from .kitti import read_kitti
from .nuscenes import read_nuscenes
from .objectnet3d import read_objectnet3d
from .occluded import read_occluded
from .ood_cv import read_ood_cv
from .pascal3d import read_pascal3d
from .pix3d import read_pix3d
from .prepared import read_prepared

Reader = Callable[[Path, str | None, str | None, Notes | None], list[View]]

# what each takes: root, split, category, notes
READERS: dict[str, Reader] = {
    "pascal3d": read_pascal3d,
    "pascal3d-prepared": read_prepared,
    "occluded-pascal3d": read_occluded,
    "ood-cv": read_ood_cv,
    "objectnet3d": read_objectnet3d,
    "imagenet3d": read_imagenet3d,
    "pix3d": read_pix3d,
    "kitti": read_kitti,
    "nuscenes": read_nuscenes,
    "coco": read_coco,
}
