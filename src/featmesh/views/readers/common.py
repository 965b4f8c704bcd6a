"""What the readers share: notes on what was left out, names, photos, views from poses."""

import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from PIL import Image

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.conventions import Pascal3D, from_pascal3d
from featmesh.geometry.crop import Box, check_box
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint, ray_rotation
from featmesh.views.record import View, displayed_size

from .layouts import LAYOUTS

PHOTO_KINDS = (".JPEG", ".jpg", ".jpeg", ".png", ".JPG", ".PNG")
# other data sets' names of the PASCAL3D+ categories
PASCAL_NAMES = {
    "airplane": "aeroplane",
    "bike": "bicycle",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "dining_table": "diningtable",
    "tv": "tvmonitor",
}


@dataclass
class Notes:
    """What a reader leaves besides its views.

    Attributes:
        masks: folder to which label images are written; None: the views have none.
        left_out: how many objects or photos were left out, by reason.
    """

    masks: Path | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def skip(self, reason: str) -> None:
        """Count something that gives no view."""
        self.left_out[reason] += 1

    def save_mask(self, name: str, mask: Bool[np.ndarray, "h w"]) -> Path | None:
        """Write a mask as PNG, 255 = object, and return its path; None where none are wanted."""
        if self.masks is None:
            return None
        path = self.masks / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        return path


def category_name(name: str) -> str:
    """Return a data set's name of a category as views files spell it: ``dining table`` too."""
    plain = re.sub(r"[^a-z0-9_-]+", "_", name.strip().lower()).strip("_")
    return PASCAL_NAMES.get(plain, plain)


def check_split(name: str, split: str | None, known: Collection[str] | None = None) -> None:
    """Refuse a split the data set has not.

    Raises:
        DatasetError: E_SPLIT naming those it has.
    """
    choices = LAYOUTS[name].splits if known is None else known
    if split is not None and split not in choices:
        expected = f"one of {', '.join(choices)}" if choices else "no split"
        raise DatasetError(
            "E_SPLIT", f"data {name}: expected {expected}, got {split!r}, try: leave --split out"
        )


def photo_of(folder: Path, name: str) -> Path | None:
    """Return the photo of a name without its ending, None where there is none."""
    candidates = (folder / f"{name}{kind}" for kind in PHOTO_KINDS)
    return next((path for path in candidates if path.is_file()), None)


def photo_size(path: Path, stated: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Return (height, width) of a photo as displayed, as stated where it cannot be opened.

    None where it differs from what is stated (the labels belong to other pixels), or neither is
    known.
    """
    found = displayed_size(path)
    if found is None:
        return stated
    size = (found[1], found[0])
    return size if stated is None or size == stated else None


def read_names(path: Path) -> list[str]:
    """Return the first word of each line of a list, in its order, each once."""
    return list(dict.fromkeys(line[0] for line in read_rows(path)))


def read_rows(path: Path) -> list[list[str]]:
    """Return the words of the lines that have some; E_DATA where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, "a text file", error) from error
    return [line.split() for line in text.splitlines() if line.strip()]


def read_json_file(path: Path) -> Any:
    """Return what a JSON file holds; E_DATA where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, "a JSON file", error) from error


def unreadable(path: Path, expected: str, error: object) -> DatasetError:
    """Return the error of a label file that is not what it should be."""
    said = " ".join(str(error).split())[:160]
    kind = f"{type(error).__name__}: " if isinstance(error, Exception) else ""
    return DatasetError(
        "E_DATA", f"data {path}: expected {expected}, got {kind}{said}, try: copy it again"
    )


def usable_box(values: Any, size: tuple[int, int]) -> Box | None:
    """Return four numbers as a box, None where they are none inside the photo."""
    try:
        x0, y0, x1, y1 = (float(v) for v in values)
        check_box((x0, y0, x1, y1), *size)
    except (TypeError, ValueError, InputError):
        return None
    return (x0, y0, x1, y1)


def pascal_view(
    image: Path,
    size: tuple[int, int],
    category: str,
    label: Pascal3D,
    box: Box | None,
    **more: Any,
) -> View:
    """Return the view of a PASCAL3D+ viewpoint (spec 2.2).

    R belongs to the annotation's own camera, whose axis goes through (px, py), where the object's
    centre lies: it is the same with K, which has that principal point, and without, where the box
    centre stands for it. K is left out where the principal point lies so far outside that no lens
    has it.

    Args:
        image: the photo.
        size: its (height, width), pixels.
        category: of the object.
        label: degrees and pixels as in the file; distance above 0.
        box: pixels of the photo.
        more: other fields of the view.
    """
    try:
        pose, camera = from_pascal3d(label, size)
        K: Float64[np.ndarray, "3 3"] | None = camera.K.numpy()
    except InputError:
        centred = Pascal3D(label.azimuth, label.elevation, label.theta, label.distance, 0.0, 0.0)
        pose, K = from_pascal3d(centred, (3000, 3000))[0], None
    return View(
        image=image,
        height=size[0],
        width=size[1],
        category=category,
        R=pose.R.numpy(),
        box=box,
        K=K,
        t=None if K is None else pose.t.numpy(),
        t_unit=None if K is None else "object",
        distance=label.distance,
        **angles(pose),
        **more,
    )


def metric_view(
    image: Path,
    category: str,
    camera: Camera,
    pose: Pose,
    lhw: tuple[float, float, float],
    **more: Any,
) -> View:
    """Return the view of a box in metres seen by a real camera, R in the camera of the photo.

    Args:
        image: the photo.
        category: of the object.
        camera: of the whole photo.
        pose: ``cam_from_obj`` of the box's centre, metres, object front -y and up +z.
        lhw: length, height, width, metres.
        more: other fields of the view.
    """
    return View(
        image=image,
        height=camera.height,
        width=camera.width,
        category=category,
        R=pose.R.numpy(),
        K=camera.K.numpy(),
        t=pose.t.numpy(),
        t_unit="metre",
        dimensions_lhw=lhw,
        distance=float(pose.t.norm()) / float(np.linalg.norm(lhw)),
        **angles(pose),
        **more,
    )


def angles(pose: Pose) -> dict[str, Any]:
    """Return azimuth, elevation and theta along the ray to t, degrees, as views files have them."""
    seen = Viewpoint.from_pose(pose)
    names = ("azimuth", "elevation", "theta")
    return {name: float(np.degrees(getattr(seen, name))) for name in names}


def without_camera(view: View) -> View:
    """Return the view with no camera, its R that of the virtual camera of the box (contracts 2).

    A camera whose axis goes through the object's centre (PASCAL3D+) gives R as it is. Of another
    it is turned to the ray through the box centre, ``Q R``, as ``evaluate`` will turn estimates;
    where there is no box, to the ray to the object's centre. A view without K stays as it is.
    """
    camera = view.camera
    if camera is None:
        return view
    R, t = view.R, view.t
    if R is not None and not (t is not None and abs(t[0]) + abs(t[1]) < 1e-9 * abs(t[2])):
        ray = None if t is None else torch.from_numpy(t)
        if view.box is not None:
            x0, y0, x1, y1 = view.box
            ray = camera.unproject(torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2]).double())
        R = R if ray is None else ray_rotation(ray).numpy() @ R
    return replace(view, R=R, K=None, t=None, t_unit=None)
