"""Which category does a photo show: each model draws its object, the best drawing wins.

Every model takes a short look at the same crop; models of one trunk put it through the trunk once.
A drawing explains a pixel by how much more the object resembles it than clutter does, and what is
drawn nowhere explains nothing (spec 2.10, 2.11: class = the model that explains best). Where all
models know the gist of their category, it counts as well, and so does what a network that was
taught by photos calls the thing; where no drawing explains anything, these decide. Where no box is
given, each model says where it would look, and all look where most is explained (ours).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, Crop, check_box
from featmesh.model.backbones import Backbone
from featmesh.model.category import CategoryModel
from featmesh.model.imagenet import CLASSES, bundled_namer, category_odds
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample
from featmesh.stopwatch import Stopwatch

from .config import EstimateConfig, LocateConfig, crop_size, glance_config
from .describe import Lens, describe
from .estimator import Task, estimate, find_box, in_photo, lens_of, look
from .locate import Candidate, locate, share
from .result import Estimate
from .segment import cells_at
from .tables import slide_table

LIKELY = 6  # models, of those whose windows are the clearest, that look for the box
# how names and the gist weigh beside what is explained, and what a drawing that explains nothing is
# worth, so that these two decide where none does: logistic fits of 291 photos and renders that are
# not reported on (docs/categories.md) gave 2.3, .51 and .005 to .01
NAMED, KNOWN, FLOOR = 2.0, 0.5, 0.005
OUT = 0.01  # odds, over the best ones, below which a model need not look: it hardly makes up for it
SAMPLES = 64  # along the longer side of a box whose pixels are asked for


@dataclass(frozen=True)
class Classification:
    """Which category a photo, or a box of it, shows.

    Attributes:
        ranked: each category with its score, best first: mean over the pixels looked at of how
            much more the drawn object resembles them than clutter does, and FLOOR, times its odds.
        margin: score of the first less that of the second; None where one model was asked.
        estimate: the first one's, in full; its ``margin`` and ``rivals`` are these.
        number: of the first one among the models that were asked.
    """

    ranked: tuple[tuple[str, float], ...]
    margin: float | None
    estimate: Estimate
    number: int = 0

    @property
    def category(self) -> str:
        """The category that explains it best."""
        return self.ranked[0][0]


def classify(
    models: Sequence[CategoryModel],
    photo: Photo,
    box: Box | None = None,
    camera: Camera | None = None,
    config: EstimateConfig | None = None,
    task: Task = "pose",
) -> Classification:
    """Return which category explains an object best, and that category's estimate.

    Args:
        models: one a category; those of :func:`featmesh.load_all` look at the crop together.
        photo: from :func:`featmesh.read_photo`.
        box: (x0, y0, x1, y1) around the object, photo pixels; None to find the clearest one, which
            takes the likeliest models as long as :func:`featmesh.estimate` without a box.
        camera: as in :func:`featmesh.estimate`.
        config: settings of all stages.
        task: of the estimate.

    Raises:
        InputError: E_MODEL without a model, or as in :func:`featmesh.estimate`.
        CheckpointError: E_CKPT_PART for task ``shape`` where the best one has no shape space.
    """
    require_models(models, "classify()")
    config, lens = config or EstimateConfig(), lens_of(photo, camera, task)
    clock, asked = Stopwatch(), list(_looking_once(models))
    if box is None:
        box = _find(asked, photo, lens, config, clock)
    place = check_box(box, photo.height, photo.width)[0]
    short, places = glance_config(config), [place] * len(asked)
    likely = presences(asked, photo, lens, places, config)
    odds = [p * q for p, q in zip(likely, name_odds(asked, photo, place), strict=True)]
    tried = [
        (m, _glance(m, photo, lens, place, short, clock)) if p >= OUT * max(odds) else None
        for m, p in zip(asked, odds, strict=True)
    ]
    order = ranked(tried, place, odds)
    first = order[0][0]
    full = estimate(asked[first], photo, box, camera, task, config)
    seconds = {"classify": sum(clock.seconds.values()), **full.seconds}
    told = with_rivals(replace(full, seconds=seconds), models, order)
    table = tuple((models[k].category, score) for k, score in order)
    return Classification(table, told.margin, told, first)


def _find(
    models: Sequence[CategoryModel],
    photo: Photo,
    lens: Lens,
    config: EstimateConfig,
    clock: Stopwatch,
) -> Box:
    """Return the box of the object that explains most of the photo, whichever model draws it."""
    coarse, short = replace(config, locate=replace(config.locate, finer=())), glance_config(config)
    slid = _likely(models, photo, coarse.locate, clock)
    asked = [model for model, _ in slid]
    boxes = [find_box(model, photo, lens, coarse, clock, found) for model, found in slid]
    seen = [_glance(m, photo, lens, box, short, clock) for m, box in zip(asked, boxes, strict=True)]
    found = [in_photo(e.box, photo) or photo.whole for e in seen]
    likely = presences(asked, photo, lens, found, config)
    named = by_name([model.category for model in asked], photo, found)
    worths = [
        p * q * (FLOOR * share(box, photo) + explained(m, e, photo.whole)) if e.has_pose else 0.0
        for m, e, p, q, box in zip(asked, seen, likely, named, found, strict=True)
    ]
    return found[max(range(len(asked)), key=lambda k: worths[k])]


def _likely(
    models: Sequence[CategoryModel], photo: Photo, config: LocateConfig, clock: Stopwatch
) -> list[tuple[CategoryModel, list[Candidate]]]:
    """Return the LIKELY models whose windows show the most, and these, the first of find_box."""
    with clock("locate"):
        found = [locate(photo, m, slide_table(m, config), config) for m in models]
    clearest = [max((c.score for c in candidates), default=0.0) for candidates in found]
    order = sorted(range(len(models)), key=lambda k: -clearest[k])[:LIKELY]
    return [(models[k], found[k]) for k in sorted(order)]


def _glance(
    model: CategoryModel,
    photo: Photo,
    lens: Lens,
    box: Box,
    config: EstimateConfig,
    clock: Stopwatch,
) -> Estimate:
    """Return what a short look at a box comes to, whatever a model makes of finished estimates."""
    trial = look(model, photo, lens, box, config, clock)
    plain = replace(model, calibration=None, threshold=None)
    return describe(plain, photo, lens, trial, config, {}, ())


def require_models(models: Sequence[CategoryModel], who: str) -> None:
    """Raise E_MODEL where there is no model."""
    if not models:
        raise InputError(
            "E_MODEL", f"{who}: expected at least one model, got none; try: featmesh.load"
        )


def ranked(
    tried: Sequence[tuple[CategoryModel, Estimate] | None],
    box: Box,
    odds: Sequence[float] | None = None,
) -> list[tuple[int, float]]:
    """Return the number of each category and its score, best first.

    They are compared on the same pixels, those of the box: by confidence where all are calibrated,
    else by the gain over clutter. Without a pose, or a look, the score is 0; such are ranked by
    their odds.

    Args:
        tried: each model and its estimate of one object; None of one that did not look.
        box: of the object, inside the photo.
        odds: by which each score is multiplied; e.g. by gist and by name.
    """
    sure = [asked[1].confidence for asked in tried if asked and asked[1].has_pose]
    calibrated = all(c is not None for c in sure)

    def score(model: CategoryModel, found: Estimate) -> float:
        if not found.has_pose:
            return 0.0
        known = found.confidence if calibrated else None
        return FLOOR + (known if known is not None else explained(model, found, box))

    likely = odds or [1.0] * len(tried)
    scores = [p * score(*asked) if asked else 0.0 for p, asked in zip(likely, tried, strict=True)]
    return sorted(enumerate(scores), key=lambda row: (-row[1], -likely[row[0]]))


def by_name(categories: Sequence[str], photo: Photo, boxes: Sequence[Box]) -> list[float]:
    """Return how likely each category is by what a network names in its box, heavily weighed.

    1 of all where no category, or only one, has a name.

    Args:
        categories: that come into question.
        photo: whole.
        boxes: of each.
    """
    namer = bundled_namer() if len(categories) > 1 and CLASSES.keys() & set(categories) else None
    if namer is None:
        return [1.0] * len(categories)
    places = list(dict.fromkeys(boxes))
    said = dict(zip(places, namer.named(photo.pixels, places), strict=True))
    return [category_odds(said[box], categories)[k] ** NAMED for k, box in enumerate(boxes)]


def name_odds(models: Sequence[CategoryModel], photo: Photo, box: Box) -> list[float]:
    """Return how likely each category is by name in one box, over the likeliest one."""
    named = by_name([model.category for model in models], photo, [box] * len(models))
    return [p / max(named) for p in named]


def presences(
    models: Sequence[CategoryModel],
    photo: Photo,
    lens: Lens,
    boxes: Sequence[Box],
    config: EstimateConfig,
) -> list[float]:
    """Return how likely each category is by the gist of its box, weighed; 1 where one has none."""
    told = []
    for model, box in zip(models, boxes, strict=True):
        crop = Crop.from_box(lens.camera, box, crop_size(model.config, config.crop))
        told.append(model.presence(resample(photo, crop)[0]))
    known = [p for p in told if p is not None]
    return [p**KNOWN for p in known] if len(known) == len(told) else [1.0] * len(told)


def with_rivals(
    first: Estimate, models: Sequence[CategoryModel], order: Sequence[tuple[int, float]]
) -> Estimate:
    """Return the estimate of the category that won, with its margin over the others.

    Args:
        first: of the first in the order.
        models: one a category.
        order: from :func:`ranked`.
    """
    (_, best), rest = order[0], order[1:]
    rivals = tuple((models[k].category, score) for k, score in rest)
    return replace(first, margin=best - rest[0][1] if rest else None, rivals=rivals)


def explained(model: CategoryModel, found: Estimate, box: Box) -> float:
    """Return the mean gain of object over clutter over the pixels of a box, 0 where not drawn.

    Args:
        model: the one that made the estimate.
        found: with a pose.
        box: inside the photo.
    """
    x0, y0, x1, y1 = box
    step = max(x1 - x0, y1 - y0) / SAMPLES
    counts = [max(1, round((b - a) / step)) for a, b in ((y0, y1), (x0, x1))]
    rows, columns = (
        a + (np.arange(n) + 0.5) * (b - a) / n - 0.5
        for a, b, n in ((y0, y1, counts[0]), (x0, x1, counts[1]))
    )
    grid = np.meshgrid(rows, columns, indexing="ij")
    gain = gain_at(model, found, grid[0].ravel(), grid[1].ravel())
    return float(np.maximum(np.nan_to_num(gain, nan=0.0), 0).mean())


def gain_at(
    model: CategoryModel,
    found: Estimate,
    rows: Float64[np.ndarray, " n"],
    columns: Float64[np.ndarray, " n"],
) -> Float32[np.ndarray, " n"]:
    """Return object less clutter similarity at places of the photo, nan where nothing is drawn.

    Args:
        model: the one that made the estimate.
        found: with or without a pose.
        rows: of the photo; whole numbers are centres of pixels.
        columns: likewise.
    """
    gain, maps = np.full(len(rows), np.nan, np.float32), found.maps
    if maps is None or not found.has_pose:
        return gain
    places = cells_at(maps.crop, model.config.stride, rows, columns)
    x, y = np.floor(places).astype(int).T
    high, wide = maps.score.shape
    inside = (x >= 0) & (y >= 0) & (x < wide) & (y < high)
    gain[inside] = maps.score[y[inside], x[inside]]
    return gain


class _Once(nn.Module):
    """A trunk that looks at each picture once."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.multiple = trunk, trunk.multiple
        self.known: dict[bytes, list[Tensor]] = {}

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the trunk's maps."""
        shown = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
        key = hashlib.sha256(shown.tobytes()).digest() + repr(shown.shape).encode()
        if key not in self.known:
            self.known[key] = self.trunk(x)
        return self.known[key]


def _looking_once(models: Sequence[CategoryModel]) -> Iterator[CategoryModel]:
    """Yield the models, those of one trunk with what it has seen in common."""
    trunks: dict[int, _Once] = {}
    for model in models:
        own = model.backbone
        once = trunks.setdefault(id(own.trunk), _Once(own.trunk))
        yield replace(model, backbone=Backbone(once, own.head, model.config))
