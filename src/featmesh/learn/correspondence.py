"""Which surface anchor is seen at which pixel of a labelled photo (spec 2.6).

Where the object's own shape is known, that shape is used instead of the template. Where no camera
is known, one is fitted: the shape is projected with the label's rotation and distance, stretched in
height until its box has the aspect of the labelled box, and laid into it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from featmesh.errors import DatasetError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.viewpoint import angles_from_rotation, ray_rotation
from featmesh.render.kernels import coverage
from featmesh.views.record import View

NEAREST = 0.75  # object units; labels nearer than this would put the camera into the object
GRID = 160  # cells along the longer side of the visibility map


@dataclass(frozen=True)
class Sample:
    """A labelled photo, as training needs it.

    Attributes:
        image, mask: files; the mask is that of the visible object, or None.
        box: (x0, y0, x1, y1) of the object, photo pixels.
        anchors: float32 (V, 2), where each anchor lies, photo pixels.
        visible: bool (V,), whether the anchor faces the camera and no surface lies before it.
        inside: bool (h, w), silhouette of the template over the whole photo, coarse.
        R: (3, 3), rotation seen along the ray to the object's centre.
        azimuth: radians, of R.
        name: model name, or an empty text.
    """

    image: Path
    mask: Path | None
    box: tuple[float, float, float, float]
    anchors: np.ndarray
    visible: np.ndarray
    inside: np.ndarray
    R: np.ndarray
    azimuth: float
    name: str


def sample_of(
    view: View, template: Mesh, shapes: Mapping[str, Float[np.ndarray, "v 3"]] | None = None
) -> Sample:
    """Return the correspondences of one labelled view.

    Args:
        view: record with R, and either K, t in object units, or a distance.
        template: the category's mean mesh.
        shapes: by model name, where the template's vertices lie on that object, diagonal 1.
    """
    vertices, faces = _vertices(view, template, shapes or {}), template.faces.numpy()
    faces = faces.astype(np.int32)
    if view.K is not None and view.t is not None:
        points, depth, box = _known_camera(view, vertices)
        seen_along = ray_rotation(torch.from_numpy(view.t)).numpy() @ _rotation(view)
    else:
        points, depth, box = _fitted_camera(view, vertices)
        seen_along = _rotation(view)
    visible, inside = _visibility(points, depth, faces, view.height, view.width)
    azimuth = float(angles_from_rotation(torch.from_numpy(np.asarray(seen_along)))[0])
    return Sample(
        view.image,
        view.mask,
        box,
        points.astype(np.float32),
        visible,
        inside,
        np.asarray(seen_along),
        azimuth,
        view.model_name or "",
    )


def _vertices(
    view: View, template: Mesh, shapes: Mapping[str, Float[np.ndarray, "v 3"]]
) -> Float[np.ndarray, "v 3"]:
    """Return the object's surface: its own, or the mean shape in its extents, or the mean."""
    own = shapes.get(view.model_name or "")
    if own is not None:  # the generator stretches CADs a little
        return own * np.asarray(view.extras.get("stretch", 1.0), dtype=np.float64)
    mean = template.vertices.numpy()
    extent = view.extras.get("extent_xyz")
    if extent is not None:
        mean = mean * (np.asarray(extent) / (mean.max(0) - mean.min(0)))
    return mean


def _rotation(view: View) -> np.ndarray:
    if view.R is None:
        raise DatasetError(
            "E_VIEWS",
            f"sample_of(): expected a view with R, got record {view.index} without; try: label it",
        )
    return view.R


def _known_camera(
    view: View, vertices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    unit = 1.0
    if view.t_unit == "metre":
        if view.dimensions_lhw is None:
            raise DatasetError(
                "E_VIEWS",
                f"sample_of(): expected dimensions_lhw beside t in metres, got record {view.index} "
                "without; try: give t in object units",
            )
        unit = float(np.linalg.norm(view.dimensions_lhw))
    camera_points = vertices @ _rotation(view).T + np.asarray(view.t) / unit
    depth = np.maximum(camera_points[:, 2], 1e-3)
    K = np.asarray(view.K)
    points = camera_points[:, :2] / depth[:, None] * [K[0, 0], K[1, 1]] + K[:2, 2]
    low, high = points.min(0), points.max(0)
    return points, depth, (low[0], low[1], high[0], high[1])


def _fitted_camera(
    view: View, vertices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    x0, y0, x1, y1 = view.box_or_image
    distance = max(view.distance or 2.0, NEAREST)
    R = _rotation(view)

    def project(height: float) -> tuple[np.ndarray, np.ndarray]:
        camera_points = (vertices * [1, 1, height]) @ R.T + [0, 0, distance]
        return camera_points[:, :2] / camera_points[:, 2:], camera_points[:, 2]

    low, high = 0.75, 1.6
    for _ in range(12):  # a higher object has a squarer box, seen from any usual elevation
        middle = (low + high) / 2
        size = np.ptp(project(middle)[0], axis=0)
        low, high = (middle, high) if size[0] / size[1] > (x1 - x0) / (y1 - y0) else (low, middle)
    points, depth = project((low + high) / 2)
    start, size = points.min(0), np.ptp(points, axis=0)
    points = (points - start) / size * [x1 - x0, y1 - y0] + [x0, y0]
    return points, depth, (x0, y0, x1, y1)


def _visibility(
    points: np.ndarray, depth: np.ndarray, faces: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which vertices belong to a seen face, and the silhouette over the photo."""
    low, size = points.min(0), np.ptp(points, axis=0).max() + 1e-6
    near = np.concatenate([(points - low) / size * GRID, 1 / depth[:, None]], 1)
    ids = coverage(near[None].astype(np.float32), faces, GRID, GRID, True)[0]
    visible = np.zeros(len(points), dtype=bool)
    visible[faces[np.unique(ids[ids >= 0])].reshape(-1)] = True
    inside_photo = (points >= 0).all(1) & (points[:, 0] < width) & (points[:, 1] < height)
    cells = 64 / max(height, width)
    rows, columns = max(1, round(height * cells)), max(1, round(width * cells))
    scaled = np.concatenate([points * cells, 1 / depth[:, None]], 1)
    outline = coverage(scaled[None].astype(np.float32), faces, rows, columns, True)[0] >= 0
    return visible & inside_photo, outline
