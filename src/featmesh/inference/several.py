"""All objects of a photo, of one category or of several: who explains which pixels.

Many boxes are glanced at. Each glance explains pixels: those where the object it draws resembles
the photo more than clutter does. The one that explains most of the photo claims its pixels, then
the one that explains most of the rest, and so on; one that is left with little of its own is a
second answer to the same object. The survivors are estimated in full and sorted out once more.
Where two drawings overlap, the one that is better there is in front and takes the pixels (spec
2.10; the claims are ours).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, box_iou
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.stopwatch import Stopwatch

from .classify import gain_at, name_odds, ranked, require_models, with_rivals
from .config import EstimateConfig, LocateConfig, glance_config
from .describe import describe
from .estimator import Task, estimate, in_photo, lens_of, look
from .locate import locate
from .result import Estimate
from .segment import hide, segment
from .tables import slide_table

# finding: smaller objects than the clearest one, and more of them
SIDES = (1600, 1130, 800, 566, 400, 280, 200, 140)  # longer sides of the photo, pixels
AREA_POWER = 0.25  # of a box, in the rank of a candidate
PEAKS, APART = 60, 1  # of each scale
CANDIDATES, GLANCES = 120, 48  # boxes, and those that are looked at
GRID = 400  # longer side of the grid on which pixels are claimed
# gains over clutter, thresholds of the model's score; chosen on street photos and collages
THRESHOLD = 0.15  # of a model that has none
FAINT = 0.67  # mean gain of a glance that is worth an estimate
EVIDENCE = 1.0  # of an object
CLEAR = 1.67  # of a glance that claims its pixels at once
SURE = 2.5  # mean gain of seen pixels from which an object may be largely hidden
# shares
CLAIMED = 0.6  # of a box that is claimed: not worth a glance
OWN = 0.5  # of its gain that an object must have beside those that explain more
SEEN = 0.55  # of the pixels left to it that must be seen, unless it is sure
VISIBLE = 0.05  # of all its pixels that must be seen in the end
ONE = 0.5  # overlap of boxes in which two categories see one object


@dataclass(frozen=True)
class Trace:
    """What an estimate explains of a photo, on a coarse grid of its pixels.

    Attributes:
        drawn: where it draws the object.
        gain: object over clutter similarity there, 0 where clutter explains better.
    """

    drawn: Bool[np.ndarray, "y x"]
    gain: Float32[np.ndarray, "y x"]

    def beside(self, claimed: Bool[np.ndarray, "y x"] | None = None) -> "Rest":
        """Return what is left of it beside claimed cells."""
        free = self.drawn if claimed is None else self.drawn & ~claimed
        own, seen = float(self.gain[free].sum()), int((self.gain[free] > 0).sum())
        count = max(int(free.sum()), 1)
        return Rest(
            own / max(float(self.gain.sum()), 1e-9), own / count, seen / count, own / max(seen, 1)
        )


@dataclass(frozen=True)
class Rest:
    """What is left of an estimate beside those that explain more of the photo.

    Attributes:
        share: of its gain.
        evidence: mean gain over the cells left to it.
        seen: share of these in which it gains.
        score: mean gain over those.
    """

    share: float
    evidence: float
    seen: float
    score: float


@dataclass(frozen=True)
class Found:
    """One estimate, the model it is of, and what it explains."""

    model: CategoryModel
    estimate: Estimate
    trace: Trace

    @property
    def unit(self) -> float:
        """The threshold of the model's score, in which gains are measured."""
        return THRESHOLD if self.model.threshold is None else self.model.threshold

    def stands(self, claimed: Bool[np.ndarray, "y x"] | None) -> bool:
        """Return whether it is an object beside those that have claimed cells."""
        rest = self.trace.beside(claimed)
        hidden = rest.seen < SEEN and rest.score < SURE * self.unit
        return rest.share >= OWN and rest.evidence >= EVIDENCE * self.unit and not hidden

    def faint(self, claimed: Bool[np.ndarray, "y x"] | None) -> bool:
        """Return whether it may be one: a glance that is worth an estimate."""
        rest = self.trace.beside(claimed)
        return rest.share >= OWN and rest.evidence >= FAINT * self.unit


def find_all(
    model: CategoryModel,
    photo: Photo,
    camera: Camera | None = None,
    task: Task = "pose",
    config: EstimateConfig | None = None,
) -> list[Estimate]:
    """Return the estimate of each object of a category in a photo, front to back; maybe none.

    Every estimate has its segmentation, in which the objects in front of it hide it. Arguments and
    errors are those of :func:`featmesh.estimate`; the time spent on the whole photo is told with
    the first object.
    """
    clock = Stopwatch()
    config = config or EstimateConfig()
    found = _finds(model, photo, camera, task, config, clock)
    return _told(found, photo, config, clock)


def estimate_all(
    models: Sequence[CategoryModel],
    photo: Photo,
    camera: Camera | None = None,
    task: Task = "pose",
    config: EstimateConfig | None = None,
) -> list[Estimate]:
    """Return each object of a photo as the category that explains it best, front to back.

    Args:
        models: one a category.
        photo: from :func:`featmesh.read_photo`.
        camera: as in :func:`featmesh.estimate`, like what follows.
        task: of every estimate.
        config: settings of all stages.

    Returns:
        At least one estimate; a single one of status ``no_object`` where no model finds its object.
        With several models each has its ``rivals`` and its ``margin`` over them.

    Raises:
        InputError: E_MODEL without a model, or as in :func:`featmesh.estimate`.
    """
    require_models(models, "estimate_all()")
    config, clock = config or EstimateConfig(), Stopwatch()

    def again(model: CategoryModel, box: Box) -> Found:
        return _found(model, photo, estimate(model, photo, box, camera, task, config))

    pool = [f for m in models for f in _finds(m, photo, camera, task, config, clock)]
    best = [classified(group, models, photo, again) for group in _groups(pool, photo)]
    told = _told(explaining(best, Found.stands), photo, config, clock)
    return told or [Estimate("no_object", models[0].category, seconds=dict(clock.seconds))]


def _finds(
    model: CategoryModel,
    photo: Photo,
    camera: Camera | None,
    task: Task,
    config: EstimateConfig,
    clock: Stopwatch,
) -> list[Found]:
    """Return the objects of one category, estimated in full, each with pixels of its own."""
    if task == "shape":
        model.shape_space("find_all()")
    lens, short = lens_of(photo, camera, task), glance_config(config)
    plain = replace(model, calibration=None)  # it was fitted on finished estimates

    def glance(box: Box) -> Found:
        trial = look(model, photo, lens, box, short, clock)
        return _found(model, photo, describe(plain, photo, lens, trial, short, {}, ()))

    with clock("locate"):
        wide = _wide(config.locate)
        candidates = locate(photo, model, slide_table(model, wide), wide)
    boxes = [photo.whole, *(c.box for c in candidates if c.score > 0)]
    maybe = explaining(_glances(glance, boxes, photo), Found.faint)
    # a box that holds a part of the object shows what it is part of
    again = [glance(_box(f, photo)) for f in maybe]
    better = [g if g.estimate.has_pose else f for f, g in zip(maybe, again, strict=True)]
    boxes = [_box(f, photo) for f in explaining(better, Found.faint)]
    full = [estimate(model, photo, box, camera, task, config) for box in boxes]
    return explaining([_found(model, photo, e) for e in full], Found.stands)


def _glances(glance: Callable[[Box], Found], boxes: Iterable[Box], photo: Photo) -> list[Found]:
    """Return short looks at the likeliest boxes, none at what a clear object has claimed."""
    claimed = np.zeros(grid_of(photo)[0], bool)
    found: list[Found] = []
    for box in boxes:
        if _part(claimed, box, photo).mean() > CLAIMED:
            continue
        if len(found) == GLANCES:
            break
        seen = glance(box)
        found.append(seen)
        if seen.estimate.has_pose and seen.trace.beside().evidence > CLEAR * seen.unit:
            claimed |= seen.trace.gain > 0
    return found


def _wide(config: LocateConfig) -> LocateConfig:
    """Return the settings with which many objects are located."""
    many = replace(config, peaks=PEAKS, apart=APART, candidates=CANDIDATES)
    return replace(many, sides=SIDES, area_power=AREA_POWER)


def _found(model: CategoryModel, photo: Photo, estimate: Estimate) -> Found:
    return Found(model, estimate, trace(model, photo, estimate))


def trace(model: CategoryModel, photo: Photo, estimate: Estimate) -> Trace:
    """Return what an estimate explains of the photo; nothing where it has no pose.

    Args:
        model: the one that made it.
        photo: the whole photo.
        estimate: with or without a pose.
    """
    size, step = grid_of(photo)
    # the middle of each grid cell, in pixels whose centres lie at .5
    rows, columns = ((v.ravel() + 0.5) * step - 0.5 for v in np.indices(size))
    gain = gain_at(model, estimate, rows, columns).reshape(size)
    drawn = np.isfinite(gain)
    return Trace(drawn, np.where(drawn, np.maximum(gain, 0), 0).astype(np.float32))


def grid_of(photo: Photo) -> tuple[tuple[int, int], float]:
    """Return rows and columns of the grid of claims, and photo pixels per cell."""
    step = max(1.0, max(photo.height, photo.width) / GRID)
    return (math.ceil(photo.height / step), math.ceil(photo.width / step)), step


def _part(picture: np.ndarray, box: Box, photo: Photo) -> np.ndarray:
    """Return the cells of the grid that a box holds, at least one."""
    (height, width), step = grid_of(photo)
    x0, y0 = min(max(int(box[0] / step), 0), width - 1), min(max(int(box[1] / step), 0), height - 1)
    x1, y1 = max(math.ceil(box[2] / step), x0 + 1), max(math.ceil(box[3] / step), y0 + 1)
    return picture[y0:y1, x0:x1]


def explaining(
    found: Iterable[Found], enough: Callable[[Found, Bool[np.ndarray, "y x"] | None], bool]
) -> list[Found]:
    """Return those that explain pixels of their own, what explains most of the photo first.

    Args:
        found: of one photo.
        enough: whether what is left of one beside claimed cells is enough.
    """
    posed = [f for f in found if f.estimate.has_pose]
    posed.sort(key=lambda f: -float(f.trace.gain.sum()))
    kept: list[Found] = []
    claimed: Bool[np.ndarray, "y x"] | None = None
    for f in posed:
        if enough(f, claimed):
            kept.append(f)
            mine = f.trace.gain > 0
            claimed = mine if claimed is None else claimed | mine
    return kept


def _groups(pool: Sequence[Found], photo: Photo) -> list[list[Found]]:
    """Return what several categories found, by object; the strongest first in each."""
    groups: list[list[Found]] = []
    for f in sorted(pool, key=lambda f: -float(f.trace.gain.sum())):
        for group in groups:
            others = all(g.model is not f.model for g in group)
            if others and box_iou(_box(group[0], photo), _box(f, photo)) >= ONE:
                group.append(f)
                break
        else:
            groups.append([f])
    return groups


def _box(found: Found, photo: Photo) -> Box:
    """Return the box of an estimate inside the photo; the whole photo where it has none."""
    return in_photo(found.estimate.box, photo) or photo.whole


def classified(
    group: list[Found],
    models: Sequence[CategoryModel],
    photo: Photo,
    again: Callable[[CategoryModel, Box], Found],
) -> Found:
    """Return the category that explains an object best, the others as its rivals."""
    if len(models) == 1:
        return group[0]
    box = _box(group[0], photo)
    seen = {id(f.model): f for f in group}
    tried = [seen.get(id(m)) or again(m, box) for m in models]
    odds = name_odds(models, photo, box)
    order = ranked([(f.model, f.estimate) for f in tried], box, odds)
    first = tried[order[0][0]]
    return replace(first, estimate=with_rivals(first.estimate, models, order))


def _told(
    found: Sequence[Found], photo: Photo, config: EstimateConfig, clock: Stopwatch
) -> list[Estimate]:
    """Return the estimates front to back, each hidden by those before it; none seen nowhere."""
    with clock("segment"):
        ordered = [_segmented(f, photo, config) for f in front_to_back(found)]
        taken = np.zeros((photo.height, photo.width), bool)
        told = []
        for e in ordered:
            if e.segmentation is None:
                continue
            left = hide(e.segmentation, taken)
            if left.visible.sum() >= VISIBLE * left.amodal.sum():
                told.append(replace(e, segmentation=left))
                taken |= left.visible
    if told:
        stages = dict.fromkeys([*clock.seconds, *told[0].seconds])
        spent = {k: clock.seconds.get(k, 0.0) + told[0].seconds.get(k, 0.0) for k in stages}
        told[0] = replace(told[0], seconds=spent)
    return told


def _segmented(found: Found, photo: Photo, config: EstimateConfig) -> Estimate:
    e = found.estimate
    if e.segmentation is not None:
        return e
    return replace(e, segmentation=segment(found.model, photo, e, None, config.segment))


def front_to_back(found: Sequence[Found]) -> list[Found]:
    """Return objects in the order of their depth.

    Where two drawings overlap the one that explains the overlap better is in front; else the nearer
    one is, as seen by one lens: distances in object units are comparable within a category.
    """
    left, ordered = sorted(found, key=_distance), list[Found]()
    while left:
        free = [f for f in left if not any(_in_front(g, f) for g in left if g is not f)]
        first = (free or left)[0]
        ordered.append(first)
        left = [f for f in left if f is not first]
    return ordered


def _distance(found: Found) -> float:
    """Return the distance over the focal length: what it would be if all shared one lens."""
    pose, camera = found.estimate.cam_from_obj, found.estimate.camera
    if pose is None or camera is None:
        return math.inf
    return float(pose.t.norm()) / math.sqrt(camera.fx * camera.fy)


def _in_front(a: Found, b: Found) -> bool:
    """Return whether the drawings overlap and ``a`` explains the overlap better."""
    both = a.trace.drawn & b.trace.drawn
    return bool(a.trace.gain[both].sum() > b.trace.gain[both].sum())
