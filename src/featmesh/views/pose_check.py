"""Whether a record's pose can be true: angles, side of the camera, place in the photo."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from featmesh.geometry.crop import Box, box_iou, check_box
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.viewpoint import ray_rotation, rotation_from_angles

from .record import View

TOLERANCE = math.radians(2.0)  # between a record's angles and its R
NEAREST = 0.3  # object units: a camera nearer than that is inside the object
LEAST_OVERLAP = 0.4  # of the projected 3D box with the given box
# diagonal of a box over that of a unit sphere's picture: a bus from the front has about .35
LEAST_SIZE, MOST_SIZE = 0.12, 1.3

Finding = tuple[str, str]  # kind, what was found


def pose_findings(view: View) -> Iterator[Finding]:
    """Yield what cannot be true of a record's pose; nothing where it has none."""
    yield from _angles(view)
    yield from _position(view)
    if view.camera is not None and view.R is not None and view.t is not None and view.t[2] > 0:
        yield from _place(view)


def _angles(view: View) -> Iterator[Finding]:
    told = (view.azimuth, view.elevation, view.theta)
    for name, value, limit in zip(
        ("azimuth", "elevation", "theta"), told, (360, 90, 360), strict=True
    ):
        if value is not None and abs(value) > limit:
            yield "angles", f"{name} {value:g} degrees, beyond {limit}"
    if view.R is None or None in told or (view.K is not None and view.t is None):
        return
    R = torch.from_numpy(view.R)
    if view.K is not None:
        R = ray_rotation(torch.from_numpy(np.asarray(view.t))) @ R
    angles = torch.tensor(np.radians(np.array(told, dtype=np.float64)))
    off = float(geodesic_angle(rotation_from_angles(*angles.unbind(0)), R))
    if off > TOLERANCE:
        yield "angles", f"azimuth, elevation, theta are {math.degrees(off):.1f} degrees from R"


def _position(view: View) -> Iterator[Finding]:
    if view.t is not None and not view.t[2] > 0:
        yield "behind", f"t {np.round(view.t, 3).tolist()}: z must be above 0"
        return
    distance = view.distance
    if view.t is not None and (unit := _unit(view)):
        distance = float(np.linalg.norm(view.t)) / unit
    if distance is not None and distance < NEAREST:
        yield "behind", f"distance {distance:.2f} box diagonals: the camera is in the object"


def _unit(view: View) -> float | None:
    """Return the object's diagonal in the unit of t, None where it is not known."""
    if view.t_unit == "object":
        return 1.0
    return None if view.dimensions_lhw is None else float(np.linalg.norm(view.dimensions_lhw))


def _extent(view: View) -> np.ndarray | None:
    """Return the object's size along its x, y, z in the unit of t, None where it is not known."""
    if view.t_unit == "metre":
        if view.dimensions_lhw is None:
            return None
        l, h, w = view.dimensions_lhw
        return np.array([w, l, h])
    given = view.extras.get("extent_xyz")
    try:
        extent = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return extent if extent.shape == (3,) and bool(np.isfinite(extent).all()) else None


def _place(view: View) -> Iterator[Finding]:
    """Compare the projected object with the given box."""
    if view.box is None:
        return
    extent = _extent(view)
    shown = None if extent is None else _projected(view, extent)
    if shown is not None:
        size = (float(view.width), float(view.height))
        overlap = box_iou(_clipped(shown, size), _clipped(view.box, size))
        if overlap < LEAST_OVERLAP:
            told = ", ".join(f"{v:.0f}" for v in shown)
            yield "far", f"the projected 3D box ({told}) overlaps the box by {overlap:.2f} only"
    elif extent is None and not _cut(view):
        yield from _as_sphere(view, view.box)


def _projected(view: View, extent: np.ndarray) -> Box | None:
    camera, R, t = view.camera, view.R, view.t
    if camera is None or R is None or t is None:
        return None
    corners = torch.cartesian_prod(*(torch.tensor([-0.5, 0.5], dtype=torch.float64),) * 3)
    pose = Pose(torch.from_numpy(R), torch.from_numpy(t))
    seen = pose.apply(corners * torch.from_numpy(extent))
    if float(seen[:, 2].min()) < 1e-3 * float(t[2]):
        return None
    points, _ = camera.project(seen)
    (x0, y0), (x1, y1) = points.min(0).values.tolist(), points.max(0).values.tolist()
    return (x0, y0, x1, y1)


def _clipped(box: Box, size: tuple[float, float]) -> Box:
    x0, y0, x1, y1 = box
    w, h = size
    return (min(max(x0, 0), w), min(max(y0, 0), h), min(max(x1, 0), w), min(max(y1, 0), h))


def _cut(view: View) -> bool:
    """Whether the photo may cut the object, so that its box tells neither centre nor size."""
    x0, y0, x1, y1 = check_box(view.box_or_image, view.height, view.width)[0]
    border = min(x0, y0, view.width - x1, view.height - y1) < 2
    return border or bool(view.truncated) or "truncated" in view.extras.get("flags", ())


def _as_sphere(view: View, box: Box) -> Iterator[Finding]:
    """Compare the box with the picture of a sphere of diameter 1: what no extents allow."""
    camera, t, unit = view.camera, view.t, _unit(view)
    if camera is None or t is None or unit is None:
        return
    x0, y0, x1, y1 = box
    (u, v), distance = camera.project(torch.from_numpy(t))[0].tolist(), float(np.linalg.norm(t))
    width, height = x1 - x0, y1 - y0
    if not (x0 - width / 2 < u < x1 + width / 2 and y0 - height / 2 < v < y1 + height / 2):
        yield "far", f"t projects to ({u:.0f}, {v:.0f}), outside the box"
        return
    whole = max(camera.fx, camera.fy) * unit / distance
    share = math.hypot(width, height) / whole
    near = distance / max(distance - unit / 2, unit / 10)
    if not LEAST_SIZE < share < MOST_SIZE * near:
        yield "far", f"the box's diagonal is {share:.2f} of what the distance gives"
