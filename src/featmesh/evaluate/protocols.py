"""The benchmarks' own protocols: crops at a given distance, and their tables (spec 2.3, 4.1).

The published 3D pose numbers of PASCAL3D+ and its relatives give a method the **true** principal
point and distance: photos are resized until the object is 5 units away, and cut so that its centre
is the crop's. A user's photo has neither; say so beside any such number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box
from featmesh.geometry.pose import Pose
from featmesh.photo.resize import resize
from featmesh.views.record import View

from .metrics import PoseSummary, add_error, pose_summary, translation_error

Size = tuple[int, int]  # height, width

TARGET_DISTANCE = 5.0  # object units: PASCAL3D+, Occluded PASCAL3D+, OOD-CV
IMAGENET3D_DISTANCE = 4.0
_NEAREST = Image.Resampling.NEAREST
LEAST_RATE = 0.001  # below it the object is fitted by its box instead
ONE_SIZE: Size = (640, 800)  # OOD-CV, NOVUM, iNeMo, ImageNet3D: all categories
# crop of each category: NeMo's second release (``wufeim/NeMo``), and its first (``Angtian/NeMo``)
NEMO_SIZES: dict[str, Size] = {
    "aeroplane": (320, 672),
    "bicycle": (608, 608),
    "boat": (384, 672),
    "bottle": (480, 800),
    "bus": (320, 736),
    "car": (256, 672),
    "chair": (608, 384),
    "diningtable": (384, 800),
    "motorbike": (512, 512),
    "sofa": (352, 736),
    "train": (256, 608),
    "tvmonitor": (480, 448),
}
NEMO_FIRST_SIZES: dict[str, Size] = {
    "aeroplane": (320, 1024),
    "bicycle": (608, 608),
    "boat": (480, 1120),
    "bottle": (512, 736),
    "bus": (320, 800),
    "car": (256, 672),
    "chair": (544, 384),
    "diningtable": (320, 800),
    "motorbike": (512, 512),
    "sofa": (352, 736),
    "train": (256, 608),
    "tvmonitor": (480, 480),
}

Scaling = Literal["distance", "focal"]


@dataclass(frozen=True)
class Protocol:
    """How a benchmark cuts its photos.

    Attributes:
        sizes: (height, width) by category.
        size: of categories that are not in it.
        distance: at which the object is to appear, object units.
    """

    sizes: dict[str, Size]
    size: Size = ONE_SIZE
    distance: float = TARGET_DISTANCE


# by the name of the data set's reader
PROTOCOLS: dict[str, Protocol] = {
    "pascal3d": Protocol(NEMO_SIZES),
    "occluded-pascal3d": Protocol(NEMO_SIZES),
    "objectnet3d": Protocol({}),
    "ood-cv": Protocol({}),
    "imagenet3d": Protocol({}, distance=IMAGENET3D_DISTANCE),
}


@dataclass(frozen=True, eq=False)
class BenchmarkCrop:
    """A photo as a benchmark hands it to a method.

    Attributes:
        pixels: resized and cut, black where the photo does not reach.
        inside: which pixels are of the photo.
        camera: of the crop.
        pose: true ``cam_from_obj`` in that camera, t = (0, 0, distance) in object units.
        rate: pixels of the crop for one of the photo.
        shift: crop pixel = rate * photo pixel + shift, (x, y).
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    inside: Bool[np.ndarray, "h w"]
    camera: Camera
    pose: Pose
    rate: float
    shift: tuple[float, float]

    def box(self, box: Box) -> Box:
        """Return where a box of the photo lies in the crop; it may reach outside."""
        x, y = self.shift
        x0, y0, x1, y1 = (self.rate * v for v in box)
        return (x0 + x, y0 + y, x1 + x, y1 + y)

    def mask(self, mask: Bool[np.ndarray, "h0 w0"]) -> Bool[np.ndarray, "h w"]:
        """Return a mask of the photo in the crop, nearest pixels, False outside the photo."""
        small = Image.fromarray(mask).resize(_scaled(mask.shape, self.rate)[::-1], _NEAREST)
        begin = (-round(self.shift[0]), -round(self.shift[1]))
        grey = np.repeat(np.asarray(small)[:, :, None].astype(np.uint8), 3, axis=2)
        return _cut(grey, begin, (self.camera.height, self.camera.width))[0][:, :, 0] > 0


def benchmark_crop(
    pixels: UInt8[np.ndarray, "h0 w0 3"],
    view: View,
    size: Size = ONE_SIZE,
    distance: float = TARGET_DISTANCE,
    scaling: Scaling = "distance",
) -> BenchmarkCrop:
    """Return the crop of a PASCAL3D+-like view, as NeMo prepares it (spec 2.3).

    The photo is resized by true distance / ``distance`` and cut (or padded with black) so that the
    principal point, where the object's centre projects, comes to the crop's centre; its position
    is cut to whole pixels, as there. What is left of it stands in the camera.

    Args:
        pixels: the photo.
        view: with R, K and t = (0, 0, d) in object units: the annotation's camera.
        size: (height, width) of the crop; rounded up to multiples of 32.
        distance: at which the object is to appear, object units.
        scaling: ``"distance"``: the focal length stays and the distance becomes ``distance``, as
            the benchmark has it, which is exact for flat objects only; ``"focal"``: the focal
            length is scaled and the distance stays, which is exact. R is the same.

    Raises:
        InputError: E_VIEWS where the view has no such camera; E_IMG_FORMAT where the photo is not
            the view's.
    """
    camera, d = _annotated(pixels, view)
    height, width = (-(-side // 32) * 32 for side in size)
    rate = d / distance
    if rate <= LEAST_RATE:
        x0, y0, x1, y1 = view.box_or_image
        rate = min(height / (y1 - y0), width / (x1 - x0))
    small = resize(pixels, *_scaled(pixels.shape, rate))
    begin = (int(camera.cx * rate) - width // 2, int(camera.cy * rate) - height // 2)
    cut, inside = _cut(small, begin, (height, width))
    f = camera.fx if scaling == "distance" else camera.fx * rate
    shown = distance if scaling == "distance" else d
    centre = (float(width // 2), float(height // 2))
    if scaling == "focal":
        centre = (camera.cx * rate - begin[0], camera.cy * rate - begin[1])
    pose = Pose(
        torch.from_numpy(np.asarray(view.R)),
        torch.tensor([0.0, 0.0, shown], dtype=torch.float64),
    )
    shift = (float(-begin[0]), float(-begin[1]))
    return BenchmarkCrop(cut, inside, Camera(f, f, *centre, height, width), pose, rate, shift)


def _annotated(pixels: UInt8[np.ndarray, "h w 3"], view: View) -> tuple[Camera, float]:
    """Return the annotation's camera and distance."""
    camera, t = view.camera, view.t
    if camera is None or t is None or view.R is None or view.t_unit != "object":
        got = f"record {view.index} with K {view.K is not None}, t_unit {view.t_unit}"
        raise _bad("E_VIEWS", "a view with R, K and t in object units", got, "keep its camera")
    if abs(t[0]) + abs(t[1]) > 1e-6 * abs(t[2]) or not t[2] > 0:
        hint = "a data set whose cameras look at the object (PASCAL3D+ and its relatives)"
        raise _bad("E_VIEWS", "t = (0, 0, distance)", f"{t.tolist()}", hint)
    if pixels.shape[:2] != (view.height, view.width):
        got = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise _bad("E_IMG_FORMAT", f"{view.width}x{view.height} pixels", got, "the view's photo")
    return camera, float(t[2])


def _scaled(shape: tuple[int, ...], rate: float) -> Size:
    return max(int(shape[0] * rate), 1), max(int(shape[1] * rate), 1)


def _cut(
    pixels: UInt8[np.ndarray, "h w 3"], begin: tuple[int, int], size: Size
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Bool[np.ndarray, "h2 w2"]]:
    """Return the part that begins at pixel (x, y), black outside, and which pixels are inside."""
    cut, inside = np.zeros((*size, 3), np.uint8), np.zeros(size, bool)
    spans = []
    for start, length, whole in zip(begin, size[::-1], pixels.shape[1::-1], strict=True):
        low, high = max(start, 0), min(start + length, whole)
        spans.append((slice(low, max(low, high)), slice(low - start, max(low, high) - start)))
    (from_x, to_x), (from_y, to_y) = spans
    part = pixels[from_y, from_x]
    if part.size:
        cut[to_y, to_x] = part
        inside[to_y, to_x] = True
    return cut, inside


@dataclass(frozen=True)
class BenchmarkTable:
    """The figures of a benchmark, every record counted (spec 4.1).

    Attributes:
        categories: figures of each category.
        image_mean: figures of all records together.
        category_mean: mean over categories of acc_30, acc_10, acc_5 and the median (radians).
        weighted_median: mean of the categories' medians weighted by their records, radians: what
            the lineage prints as the median of its image mean.
    """

    categories: dict[str, PoseSummary]
    image_mean: PoseSummary
    category_mean: dict[str, float]
    weighted_median: float

    def to_json(self) -> dict[str, Any]:
        """Return the table for a file, medians in degrees."""
        mean = {k: v for k, v in self.category_mean.items() if k != "median"}
        mean["median_deg"] = math.degrees(self.category_mean["median"])
        return {
            "categories": {name: one.to_json() for name, one in self.categories.items()},
            "image_mean": self.image_mean.to_json(),
            "category_mean": mean,
            "weighted_median_deg": math.degrees(self.weighted_median),
        }

    def lines(self) -> list[str]:
        """Return the table as text: one category a line, then both means."""
        rows = [f"{'category':<14}{'records':>8}{'Acc@pi/6':>10}{'Acc@pi/18':>11}{'MedErr':>8}"]
        for name, one in (*self.categories.items(), ("image mean", self.image_mean)):
            rows.append(_line(name, one.count, (one.acc_30, one.acc_10, one.median)))
        mean = self.category_mean
        means = (mean["acc_30"], mean["acc_10"], mean["median"])
        return [*rows, _line("category mean", "", means)]


def _line(name: str, count: int | str, figures: tuple[float, float, float]) -> str:
    acc_30, acc_10, median = figures
    shares = f"{100 * acc_30:>10.1f}{100 * acc_10:>11.1f}"
    return f"{name:<14}{count:>8}{shares}{math.degrees(median):>8.2f}"


def benchmark_table(errors: Mapping[str, Float[np.ndarray, " _n"]]) -> BenchmarkTable:
    """Return the table of rotation errors (radians, NaN = no pose = pi) by category.

    Raises:
        InputError: E_DATA where there are no categories, or one without records.
    """
    if not errors or any(not len(values) for values in errors.values()):
        got = ", ".join(f"{len(v)} of {k}" for k, v in errors.items()) or "none"
        raise _bad("E_DATA", "records of every category", got, "leave the category out")
    rows = {name: pose_summary(values) for name, values in errors.items()}
    names = ("acc_30", "acc_10", "acc_5", "median")
    mean = {name: float(np.mean([getattr(one, name) for one in rows.values()])) for name in names}
    counts = np.array([one.count for one in rows.values()], dtype=np.float64)
    medians = np.array([one.median for one in rows.values()])
    weighted = float((counts * medians).sum() / counts.sum())
    everything = np.concatenate([np.asarray(values) for values in errors.values()])
    return BenchmarkTable(rows, pose_summary(everything), mean, weighted)


@dataclass(frozen=True)
class SixD:
    """Errors of whole poses of one object, unit of t.

    Attributes:
        translation: distance of the two centres.
        relative: the same over the true distance from the camera.
        add: mean distance of the vertices.
        hit: whether add is below a tenth of the object's diameter.
    """

    translation: float
    relative: float
    add: float
    hit: bool


def six_d_errors(found: Pose, true: Pose, vertices_obj: Float[Tensor, "v 3"]) -> SixD:
    """Return translation error and ADD of a pose; vertices in the unit of t.

    The diameter is that of the vertices' bounding box (1 of a benchmark's CAD).
    """
    away = translation_error(found, true)
    add = add_error(found, true, vertices_obj)
    diameter = float((vertices_obj.max(0).values - vertices_obj.min(0).values).norm())
    return SixD(away, away / float(true.t.norm()), add, add < 0.1 * diameter)


def pose_of_principal(
    rotation: Float[Tensor, "3 3"],
    principal: tuple[float, float],
    distance: float,
    camera: Camera,
) -> Pose:
    """Return the pose of an object told by where its centre projects and how far away it is.

    The lineage's six numbers (its ``Transform6DPose``): the object is moved parallel to the picture
    by (principal - centre) * distance / focal length and not turned with the ray, so ``rotation``
    is R of the camera, not that along the ray.

    Args:
        rotation: ``cam_from_obj``.
        principal: where the object's centre projects, pixels.
        distance: along the optical axis, object units.
        camera: whose principal point is the centre.
    """
    x = (principal[0] - camera.cx) * distance / camera.fx
    y = (principal[1] - camera.cy) * distance / camera.fy
    return Pose(rotation, torch.tensor([x, y, distance], dtype=rotation.dtype))


def _bad(code: str, expected: str, got: str, hint: str) -> InputError:
    return InputError(code, f"benchmark: expected {expected}, got {got}; try: {hint}")
