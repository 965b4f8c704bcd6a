"""What the robustness suite does to a photo: occluders, corruptions, fewer pixels, turns, no scene.

Each condition is made on the fly from the photo and its record; where the object moves, the record
moves along. Ours, but for occluders (spec 3.2) and corruptions (Hendrycks and Dietterich 2019).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from featmesh.config import nearest
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box
from featmesh.photo.photo import GREY
from featmesh.photo.resize import resize
from featmesh.views.corruptions import CORRUPTIONS, corrupt, scale_of
from featmesh.views.occlude import LEVELS, occlude
from featmesh.views.record import View

from .suite_config import SuiteConfig

Pixels = UInt8[np.ndarray, "h w 3"]
Changed = UInt8[np.ndarray, "h2 w2 3"]  # turned photos have another size
CONTEXT = 0.02  # share of the photo outside the box from which on there is context to remove


@dataclass(frozen=True)
class Condition:
    """One thing done to every photo.

    Attributes:
        kind: key of :data:`KINDS`.
        what: which of the kind: L2, fog, 1/4, +30, removed.
        severity: of a corruption, 1 to 5.
    """

    kind: str
    what: str
    severity: int | None = None

    @property
    def name(self) -> str:
        """What it is called in tables."""
        if self.kind == "corruption":
            return f"{self.what} {self.severity}"
        return self.kind if self.kind == "clean" else f"{self.kind} {self.what}"

    @property
    def slug(self) -> str:
        """What it is called in file names."""
        return self.name.replace(" ", "-").replace("/", "-")


@dataclass(frozen=True, eq=False)
class Scene:
    """What else decides a photo under a condition.

    Attributes:
        seed: of every draw.
        pictures: without the object; occluders are cut from them.
    """

    seed: int = 0
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]] = ()


class Kind(NamedTuple):
    """A kind of condition: which there are, and how a photo (and its record) changes."""

    whats: tuple[str, ...]
    change: Callable[[Pixels, View, Condition, Scene], Changed]
    relabel: Callable[[View, Condition], View] = lambda view, condition: view


def conditions_of(config: SuiteConfig, views: Sequence[View]) -> tuple[list[Condition], list[str]]:
    """Return the conditions a config asks for, and those that these views cannot show.

    Raises:
        InputError: E_CONFIG for a name that is none.
    """
    known = [*KINDS, *CORRUPTIONS]
    for name in config.conditions:
        if name not in known:
            hint = nearest(name, known)
            expected = "conditions by name"
            raise InputError("E_CONFIG", f"suite: expected {expected}, got {name!r}; try: {hint}")
    wanted = {"clean", *(config.conditions or KINDS)}
    found: list[Condition] = []
    for kind, told in KINDS.items():
        whats = told.whats if kind in wanted else tuple(w for w in told.whats if w in wanted)
        severities = sorted(set(config.severity)) if kind == "corruption" else [None]
        found += [Condition(kind, what, s) for what in whats for s in severities]
    if any(_has_context(view) for view in views):
        return found, []
    void = [one for one in found if one.kind == "context"]
    return [one for one in found if one not in void], [one.name for one in void]


def under(pixels: Pixels, view: View, condition: Condition, scene: Scene) -> tuple[Changed, View]:
    """Return a photo under a condition, and the record that goes with it."""
    kind = KINDS[condition.kind]
    return kind.change(pixels, view, condition, scene), kind.relabel(view, condition)


def labelled(view: View, condition: Condition) -> View:
    """Return the record that goes with a photo under a condition, the photo unread."""
    return KINDS[condition.kind].relabel(view, condition)


def _same(pixels: Pixels, view: View, condition: Condition, scene: Scene) -> Changed:
    return pixels


def _occluded(pixels: Pixels, view: View, condition: Condition, scene: Scene) -> Changed:
    hidden = (condition.what, scene.seed, view.index, scene.pictures)
    return occlude(pixels, _mask(view) if view.mask else view.box_or_image, *hidden)[0]


def _corrupted(pixels: Pixels, view: View, condition: Condition, scene: Scene) -> Changed:
    x0, y0, x1, y1 = view.box_or_image
    scale = scale_of(float(x1 - x0), float(y1 - y0))  # the object suffers alike near and far
    severity = condition.severity or 1
    return corrupt(pixels, condition.what, severity, scene.seed, view.index, scale)


def _coarser(pixels: Pixels, view: View, condition: Condition, scene: Scene) -> Changed:
    """Shrink and enlarge again, so that box and camera stay true."""
    factor = int(condition.what.rpartition("/")[2])
    height, width = pixels.shape[:2]
    small = resize(pixels, max(1, height // factor), max(1, width // factor))
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _turned(pixels: Pixels, view: View, condition: Condition, scene: Scene) -> Changed:
    matrix, (width, height) = _turn(view, float(condition.what))
    back = np.linalg.inv(matrix)[:2].ravel()
    affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    photo = Image.fromarray(pixels)
    return np.asarray(
        photo.transform((width, height), affine, tuple(back), bicubic, fillcolor=GREY)
    )


def _turned_label(view: View, condition: Condition) -> View:
    """Turn the record; its box becomes that of the turned ellipse in it, near a detector's."""
    degrees = float(condition.what)
    matrix, (width, height) = _turn(view, degrees)
    roll = _roll(degrees)
    x0, y0, x1, y1 = view.box_or_image
    centre = matrix @ np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0])
    half = np.hypot(*(matrix[:2, :2] * np.array([(x1 - x0) / 2, (y1 - y0) / 2])).T)
    low, high = (centre[:2] - half).tolist(), (centre[:2] + half).tolist()
    box: Box = (low[0], low[1], high[0], high[1])
    theta = None if view.theta is None else (view.theta + degrees + 180) % 360 - 180
    camera = view.camera
    moved = replace(view, width=width, height=height, box=box, theta=theta, mask=None, parts=None)
    if camera is not None:
        f = math.sqrt(camera.fx * camera.fy)
        K = np.array([[f, 0, 0], [0, f, 0], [0, 0, 1.0]])
        K[:, 2] = matrix @ np.array([camera.cx, camera.cy, 1.0])
        moved = replace(moved, K=K)
    R, t = (None if v is None else roll @ v for v in (view.R, view.t))
    return replace(moved, R=R, t=t)


def _turn(view: View, degrees: float) -> tuple[Float64[np.ndarray, "3 3"], tuple[int, int]]:
    """Return the matrix photo -> turned photo (pixels) and its (width, height): all is kept.

    The camera rolls about its axis, so the turn is about the principal point and pixels become
    square.
    """
    camera = view.camera or Camera.assumed(view.height, view.width)
    f = math.sqrt(camera.fx * camera.fy)
    matrix = np.diag([f, f, 1.0]) @ _roll(degrees) @ np.linalg.inv(camera.K.numpy())
    w, h = float(view.width), float(view.height)
    corners = matrix[:2] @ np.array([[0, w, 0, w], [0, 0, h, h], [1, 1, 1, 1.0]])
    low, high = corners.min(1), corners.max(1)
    matrix[:2, 2] -= low
    width, height = np.ceil(high - low - 1e-6).astype(int).tolist()
    return matrix, (width, height)


def _roll(degrees: float) -> Float64[np.ndarray, "3 3"]:
    """Return the rotation that turns a picture counter-clockwise, camera axes (y down)."""
    a = math.radians(degrees)
    c, s = math.cos(a), math.sin(a)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def _without_context(pixels: Pixels, view: View, condition: Condition, scene: Scene) -> Changed:
    x0, y0, x1, y1 = view.box_or_image
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    kept = np.full_like(pixels, GREY)
    inside = (slice(top, math.ceil(y1)), slice(left, math.ceil(x1)))
    kept[inside] = pixels[inside]
    return kept


def _has_context(view: View) -> bool:
    x0, y0, x1, y1 = view.box_or_image
    inside = max(0.0, min(x1, view.width) - max(x0, 0)) * max(
        0.0, min(y1, view.height) - max(y0, 0)
    )
    return inside < (1 - CONTEXT) * view.width * view.height


def _mask(view: View) -> np.ndarray | Box:
    """Return which pixels show the object; its box where the mask does not fit the photo."""
    if view.mask is None or not view.mask.is_file():
        return view.box_or_image
    with Image.open(view.mask) as image:
        labels = np.asarray(image) > 0
    mask = np.any(labels, axis=-1) if labels.ndim == 3 else labels
    return mask if mask.shape == (view.height, view.width) and mask.any() else view.box_or_image


KINDS: dict[str, Kind] = {
    "clean": Kind(("L0",), _same),
    "occlusion": Kind(tuple(LEVELS), _occluded),
    "corruption": Kind(tuple(CORRUPTIONS), _corrupted),
    "resolution": Kind(("1/2", "1/4", "1/8"), _coarser),
    "rotation": Kind(("-45", "-30", "-15", "+15", "+30", "+45"), _turned, _turned_label),
    "context": Kind(("removed",), _without_context),
}
