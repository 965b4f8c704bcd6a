"""Numbers and poses as ``result.json`` holds them: plain, degrees, null where unknown."""

import math
from typing import Any

from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint


def pose_json(pose: Pose | None, t_unit: str, viewpoint: Viewpoint | None = None) -> dict[str, Any]:
    """Return the pose keys of an object: R, t, viewpoint in degrees; null without a pose."""
    keys = ("azimuth", "elevation", "theta", "distance")
    if pose is None:
        return {"R": None, "t": None, "t_unit": t_unit} | dict.fromkeys(keys)
    seen = viewpoint or Viewpoint.from_pose(pose)
    turned = [number(math.degrees(getattr(seen, key)), 4) for key in keys[:3]]
    turned[0] = None if turned[0] is None else turned[0] % 360  # 359.99999 rounds to 360
    return {
        "R": [[number(v, 8) for v in row] for row in pose.R.tolist()],
        "t": [number(v, 6) for v in pose.t.tolist()],
        "t_unit": t_unit,
        **dict(zip(keys, [*turned, number(seen.distance, 6)], strict=True)),
    }


def number(value: float | None, digits: int) -> float | None:
    """Return a rounded number, None for None, nan and infinities: JSON has no name for them."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits) + 0.0  # -0.0 becomes 0.0
