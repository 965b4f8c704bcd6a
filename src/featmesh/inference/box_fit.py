"""How well a pose fits the box that was given: it is a clue too (ours).

It only ranks poses. A box may be cut by an occluder or drawn carelessly, so it moves none.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop, box_iou
from featmesh.model.category import FeatureMap


@dataclass(frozen=True, eq=False)
class BoxFit:
    """Compares the boxes of projected objects with the one that was given.

    Attributes:
        vertices: of the mean shape.
        camera: of the cells.
        box: (x0, y0, x1, y1) that was given, in cells.
        photo: what of the map lies inside the photo, in cells: a given box ends there.
    """

    vertices: Float64[np.ndarray, "v 3"]
    camera: Camera
    box: Float64[np.ndarray, "4"]
    photo: Float64[np.ndarray, "4"]

    def overlap(
        self,
        R: Float64[np.ndarray, "n 3 3"],
        t: Float64[np.ndarray, "n 3"],
        log_zoom: Float64[np.ndarray, " n"],
        log_stretch: Float64[np.ndarray, "n 3"],
    ) -> Float64[np.ndarray, " n"]:
        """Return the intersection over union of each pose's box and the given one, 0 to 1."""
        points = (self.vertices * np.exp(log_stretch)[:, None]) @ R.transpose(0, 2, 1) + t[:, None]
        focal = np.array([self.camera.fx, self.camera.fy]) * np.exp(log_zoom)[:, None]
        centre = np.array([self.camera.cx, self.camera.cy])
        flat = points[..., :2] / points[..., 2:] * focal[:, None] + centre
        drawn = np.concatenate([flat.min(1), flat.max(1)], 1)
        drawn = np.clip(drawn, np.tile(self.photo[:2], 2), np.tile(self.photo[2:], 2))
        given = tuple(self.box.tolist())
        return np.array([box_iou(tuple(row), given) for row in drawn.tolist()])


def box_fit(vertices: Float64[np.ndarray, "v 3"], cells: FeatureMap, crop: Crop) -> BoxFit:
    """Return what compares poses in a crop with the crop's box.

    Args:
        vertices: of the mean shape.
        cells: what the network sees in the crop.
        crop: its box is the one that was given.
    """
    x0, y0, x1, y1 = crop.box
    xm, ym = (x0 + x1) / 2, (y0 + y1) / 2
    ends = torch.tensor([[x0, ym], [xm, y0], [x1, ym], [xm, y1]], dtype=torch.float64)
    seen, _ = cells.camera.project(crop.photo_camera.unproject(ends) @ crop.Q.T)
    box = seen[[0, 1, 2, 3], [0, 1, 0, 1]].numpy()
    row, column = np.nonzero(cells.valid.numpy())
    edges = [column.min(), row.min(), column.max() + 1, row.max() + 1] if len(row) else [0] * 4
    return BoxFit(vertices, cells.camera, box, np.array(edges, dtype=np.float64))
