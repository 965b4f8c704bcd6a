"""Where the surface's named points are seen in a photo, and whether they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from featmesh.errors import InputError
from featmesh.model.keypoints import KeyPoints

from .plain import number
from .result import Estimate, posed
from .segment import INVISIBLE, OCCLUDED, VISIBLE

STATES = {INVISIBLE: "invisible", VISIBLE: "visible", OCCLUDED: "occluded"}


@dataclass(frozen=True, eq=False)
class SeenKeyPoints:
    """Key points of one object in one photo.

    Attributes:
        names: of the points.
        pixels: where they lie, x and y, photo pixels; nan behind the camera.
        states: 0 invisible (turned away, hidden by the object itself or outside the photo),
            1 visible, 2 occluded.
    """

    names: tuple[str, ...]
    pixels: Float64[np.ndarray, "n 2"]
    states: UInt8[np.ndarray, " n"]

    @property
    def visible(self) -> np.ndarray:
        """Which points are seen."""
        return self.states == VISIBLE


def seen_keypoints(estimate: Estimate, points: KeyPoints) -> SeenKeyPoints:
    """Return where key points are seen; a point's state is that of its face.

    Args:
        estimate: with pose and segmentation (task ``segment``).
        points: of the template of the model that made it.

    Raises:
        InputError: E_POSE where the estimate has no pose or no segmentation, E_KEYPOINTS where the
            points are another template's.
    """
    found, segmentation = posed(estimate, "seen_keypoints()"), estimate.segmentation
    if segmentation is None:
        raise InputError(
            "E_POSE",
            "seen_keypoints(): expected a segmented estimate, got one that is not; "
            'try: estimate(..., task="segment")',
        )
    pose, mesh = found.pose, found.mesh
    points.checked(mesh, "seen_keypoints()")
    pixels, in_front = found.camera.project(pose.apply(points.on(mesh).to(pose.R.dtype)))
    where = np.where(in_front.numpy()[:, None], pixels.double().numpy(), np.nan)
    return SeenKeyPoints(points.names, where, segmentation.states[points.faces.numpy()])


def keypoints_json(seen: SeenKeyPoints) -> list[dict[str, Any]]:
    """Return the ``keypoints`` of an object in ``result.json``; x and y null behind the camera."""
    rows = zip(seen.names, seen.pixels.tolist(), seen.states.tolist(), strict=True)
    return [
        {"name": name, "x": number(x, 2), "y": number(y, 2), "state": STATES[state]}
        for name, (x, y), state in rows
    ]
