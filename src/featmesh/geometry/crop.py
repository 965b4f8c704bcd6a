"""The virtual camera of a crop, whose optical axis is the ray through the box centre (contracts 1).

Nothing else makes that camera or takes results back to the photo's camera.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featmesh.errors import InputError

from .camera import Camera
from .pose import Pose
from .viewpoint import ray_rotation

Box = tuple[float, float, float, float]

FILL = 0.8  # share of the crop that the box spans, along the tighter axis


def check_box(box: Box, height: int, width: int) -> tuple[Box, bool]:
    """Return the box clipped to the photo, and whether clipping changed it.

    Args:
        box: (x0, y0, x1, y1), pixels of the photo as displayed.
        height: of the photo.
        width: of the photo.

    Raises:
        InputError: E_BOX where the box is not finite, empty, or misses the photo.
    """
    hint = "give x0 y0 x1 y1 in pixels of the displayed (EXIF-rotated) photo"
    if len(box) != 4 or not all(math.isfinite(v) for v in box):
        raise InputError("E_BOX", f"box: expected four finite numbers, got {box}; try: {hint}")
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            "E_BOX",
            f"box: expected x0 < x1 and y0 < y1, got {box} in a {width}x{height} photo; "
            f"try: {hint}",
        )
    clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if clipped[2] - clipped[0] < 1 or clipped[3] - clipped[1] < 1:
        raise InputError(
            "E_BOX",
            f"box: expected a box inside the {width}x{height} photo, got {box}; try: {hint}",
        )
    return clipped, clipped != tuple(box)


def box_iou(box1: Box, box2: Box) -> float:
    """Return the overlap of two boxes (x0, y0, x1, y1) over their union, 0 to 1."""
    width = min(box1[2], box2[2]) - max(box1[0], box2[0])
    height = min(box1[3], box2[3]) - max(box1[1], box2[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [max(x1 - x0, 0.0) * max(y1 - y0, 0.0) for x0, y0, x1, y1 in (box1, box2)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


@dataclass(frozen=True)
class Crop:
    """A picture of ``camera.height x camera.width`` pixels seen by the virtual camera of a box.

    Attributes:
        photo_camera: camera of the whole photo.
        camera: the virtual camera; its principal point is the picture's centre.
        Q: ``virtual_from_photo``, the smallest rotation taking the ray of the box centre to +z.
        box: the box, photo pixels.
    """

    photo_camera: Camera
    camera: Camera
    Q: Float[Tensor, "3 3"]
    box: Box

    @classmethod
    def from_box(
        cls, photo_camera: Camera, box: Box, size: tuple[int, int], fill: float = FILL
    ) -> "Crop":
        """Return the crop in which the box spans ``fill`` of the picture.

        Args:
            photo_camera: camera of the whole photo.
            box: (x0, y0, x1, y1), photo pixels.
            size: (height, width) of the crop, pixels.
            fill: share of the crop's tighter side that the box spans.
        """
        x0, y0, x1, y1 = box
        centre = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2], dtype=torch.float64)
        Q = ray_rotation(photo_camera.unproject(centre))
        xm, ym = (x0 + x1) / 2, (y0 + y1) / 2
        ends = torch.tensor([[x0, ym], [x1, ym], [xm, y0], [xm, y1]], dtype=torch.float64)
        rays = photo_camera.unproject(ends) @ Q.T
        flat = rays[:, :2] / rays[:, 2:]
        wide, high = float(flat[1, 0] - flat[0, 0]), float(flat[3, 1] - flat[2, 1])
        focal = fill * min(size[1] / wide, size[0] / high)
        camera = Camera(focal, focal, size[1] / 2, size[0] / 2, size[0], size[1])
        return cls(photo_camera, camera, Q, box)

    def pixel_map(self) -> Float[Tensor, "h w 2"]:
        """Return where the centre of each crop pixel lies in the photo, photo pixels, float64."""
        ys = torch.arange(self.camera.height, dtype=torch.float64) + 0.5
        xs = torch.arange(self.camera.width, dtype=torch.float64) + 0.5
        grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)
        points, in_front = self.photo_camera.project(self.camera.unproject(grid) @ self.Q)
        return torch.where(in_front[..., None], points, torch.full_like(points, -1e6))

    def to_photo(self, pose: Pose) -> Pose:
        """Return the pose, seen by the virtual camera, in the camera of the whole photo."""
        back = Pose(self.Q.T.to(pose.R.dtype), torch.zeros(3, dtype=pose.R.dtype))
        return back @ pose

    def from_photo(self, pose: Pose) -> Pose:
        """Return the pose, seen by the photo's camera, in the virtual camera."""
        return Pose(self.Q.to(pose.R.dtype), torch.zeros(3, dtype=pose.R.dtype)) @ pose
