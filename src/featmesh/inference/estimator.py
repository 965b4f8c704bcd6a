"""The method on one page: photo -> locate -> crop -> features -> scan -> refine -> describe.

Refine is the pose, then the shape where it is asked for; so is what each pixel shows.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, Crop, box_iou, check_box
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.photo.photo import Photo, check_size, expect_photo
from featmesh.photo.resize import resample
from featmesh.stopwatch import Stopwatch

from .config import EstimateConfig, crop_size, glance_config, guessed
from .descent import RefineStep
from .describe import Lens, Trial, describe, projected_box, tells_focal, with_focal
from .locate import Candidate, locate, share
from .refine import Refined, fit_shape, focal_profile, render_and_compare
from .result import Estimate
from .scan import Starts, scan
from .segment import segment
from .tables import pose_table, slide_table

Task = Literal["pose", "shape", "segment"]
TASKS: tuple[Task, ...] = get_args(Task)
SMALLEST = 4.0  # pixels; a smaller box is no place to look
LOST = "nothing found without a box; a small object is found with one around it"


def estimate(
    model: CategoryModel,
    photo: Photo,
    box: Box | None = None,
    camera: Camera | None = None,
    task: Task = "pose",
    config: EstimateConfig | None = None,
    on_step: Callable[[RefineStep], None] | None = None,
) -> Estimate:
    """Return pose and shape of the object in a photo: analysis by synthesis.

    Without a box, a find that is not sure is held against the whole photo as the box: the surer of
    the two is returned (ours).

    Args:
        model: category model, from :func:`featmesh.load`.
        photo: from :func:`featmesh.read_photo`.
        box: (x0, y0, x1, y1) around the object, photo pixels; None to find it.
        camera: of the whole photo; None takes the photo's own, or else assumes one, whose strength
            of perspective is then estimated with the pose.
        task: what is optimised; ``pose`` the camera, with the object's proportions held by a prior;
            ``shape`` the latent code of its shape too; ``segment`` also says what each pixel shows,
            with the shape where the model has a shape space.
        config: settings of all stages.
        on_step: told every step of the refinement.

    Raises:
        InputError: E_IMG_FORMAT, E_BOX, E_CAMERA or E_TASK.
        CheckpointError: E_CKPT_PART for task ``shape`` of a model without a shape space.
    """
    config = config or EstimateConfig()
    if task == "shape":
        model.shape_space("estimate()")
    shaped = task == "shape" or (task == "segment" and model.deformation is not None)
    clock = Stopwatch()
    lens, warnings = lens_of(photo, camera, task), tuple[str, ...]()
    searched, asked = box is None, config
    if box is None:
        box, config = find_box(model, photo, lens, config, clock), guessed(config)
    else:
        box, clipped = check_box(box, photo.height, photo.width)
        warnings = ("box clipped to the photo",) if clipped else ()
    lenses = [lens] if lens.known else [lens.squeezed(a) for a in config.aspects]
    trials = [look(model, photo, each, box, config, clock, on_step) for each in lenses]
    best = max(range(len(trials)), key=lambda k: trials[k].refined.evidence[0])
    lens, trial = lenses[best], trials[best]
    if shaped:
        with clock("shape"):
            refined, free = trial.refined, not lens.known
            fitted = fit_shape(trial.cells, model, refined, free, config.shape, on_step)
        trial = replace(trial, refined=fitted, before=refined)
    found = describe(model, photo, lens, trial, config, clock.seconds, warnings)
    if found.has_pose and not lens.known and tells_focal(model):
        with clock("focal"):
            first = trial.before or trial.refined
            profile = focal_profile(trial.cells, model, first, config.refine)
            found = with_focal(model, found, trial, profile)
    if task == "segment" and found.has_pose:
        with clock("segment"):
            found = replace(found, segmentation=segment(model, photo, found, None, config.segment))
    found = replace(found, seconds=dict(clock.seconds))
    if searched and found.status != "ok":
        whole = estimate(model, photo, photo.whole, camera, task, asked, on_step)
        found = surer(found, whole)
        if not found.has_pose:
            found = replace(found, warnings=(*found.warnings, LOST))
    return found


def surer(first: Estimate, second: Estimate) -> Estimate:
    """Return the second estimate if it has a pose and is likelier; with the time of both."""
    told = [first.confidence, second.confidence]
    sure = [c for c in told if c is not None]
    better = sure[1] > sure[0] if len(sure) == 2 else second.score > first.score
    better &= second.has_pose
    stages = {**first.seconds, **second.seconds}
    seconds = {k: first.seconds.get(k, 0.0) + second.seconds.get(k, 0.0) for k in stages}
    return replace(second if better else first, seconds=seconds)


def find_box(
    model: CategoryModel,
    photo: Photo,
    lens: Lens,
    config: EstimateConfig,
    clock: Stopwatch,
    slid: Sequence[Candidate] | None = None,
) -> Box:
    """Locate: glance at the likeliest boxes; the pose found in the best one says where it is.

    ``slid`` are the candidates of the first search, where they are known.
    """
    c, glance = config.locate, glance_config(config)
    fine = replace(c, sides=c.finer, candidates=c.finer_candidates)
    boxes, glances = [photo.whole], list[Glance]()
    for search in (c, fine):
        if slid is None:
            with clock("locate"):
                slid = locate(photo, model, slide_table(model, c), search)
        boxes += [candidate.box for candidate in slid]
        glances += _glances(model, photo, lens, boxes, glance, clock)
        glances.sort(key=lambda g: -g.worth)
        # a box that holds a part of the object shows what it is part of
        known = [g.looked for g in glances]
        moved = [g.box for g in glances[: c.again] if _iou(g.box, known) < c.same]
        glances += _glances(model, photo, lens, moved, glance, clock)
        if max(g.evidence for g in glances) > c.sure:
            break
        boxes, slid = [], None
    return max(glances, key=lambda g: g.worth).box


@dataclass(frozen=True)
class Glance:
    """What a short look at a box found: evidence, where, how likely it is the object.

    Attributes:
        evidence: of the pose found.
        looked: the box looked at.
        box: of the object that was found there.
        worth: evidence, and more for a larger object.
    """

    evidence: float
    looked: Box
    box: Box
    worth: float


def _glances(
    model: CategoryModel,
    photo: Photo,
    lens: Lens,
    boxes: Sequence[Box],
    config: EstimateConfig,
    clock: Stopwatch,
) -> list[Glance]:
    found = []
    for box, trial in zip(boxes, looks(model, photo, lens, boxes, config, clock), strict=True):
        drawn = in_photo(projected_box(model, lens, trial), photo) or trial.crop.box
        evidence = float(trial.refined.evidence[0])
        worth = evidence * share(drawn, photo) ** config.locate.worth_power
        found.append(Glance(evidence, box, drawn, worth))
    return found


def _iou(box: Box, others: list[Box]) -> float:
    return max(box_iou(box, other) for other in others)


def in_photo(box: Box | None, photo: Photo) -> Box | None:
    """Return the part of a box inside the photo, None where too little is left to look at."""
    if box is None:
        return None
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[2], float(photo.width)), min(box[3], float(photo.height))
    return (x0, y0, x1, y1) if x1 - x0 > SMALLEST and y1 - y0 > SMALLEST else None


def look(
    model: CategoryModel,
    photo: Photo,
    lens: Lens,
    box: Box,
    config: EstimateConfig,
    clock: Stopwatch,
    on_step: Callable[[RefineStep], None] | None = None,
) -> Trial:
    """Crop -> features -> scan -> refine, in the virtual camera of one box."""
    return looks(model, photo, lens, [box], config, clock, on_step)[0]


def looks(
    model: CategoryModel,
    photo: Photo,
    lens: Lens,
    boxes: Sequence[Box],
    config: EstimateConfig,
    clock: Stopwatch,
    on_step: Callable[[RefineStep], None] | None = None,
) -> list[Trial]:
    """Look at several boxes: their features in one pass, their poses side by side."""
    if not boxes:
        return []
    with clock("features"):
        size = crop_size(model.config, config.crop)
        crops = [Crop.from_box(lens.camera, box, size) for box in boxes]
        shown = [(*resample(photo, crop), crop.camera) for crop in crops]
        maps = model.extract_all(shown)
    with clock("scan"):
        table = pose_table(model, config.scan, config.crop)
        starts = [scan(cells, model, table, config.scan, lens.known) for cells in maps]

    def refined(cells: FeatureMap, start: Starts, crop: Crop) -> Refined:
        free = not lens.known
        return render_and_compare(cells, model, start, free, config.refine, on_step, crop)

    with clock("refine"):
        if len(boxes) == 1:
            found = [refined(maps[0], starts[0], crops[0])]
        else:  # the kernels let go of the interpreter
            with ThreadPoolExecutor(min(len(boxes), torch.get_num_threads())) as pool:
                found = list(pool.map(refined, maps, starts, crops))
    rows = zip(crops, shown, maps, found, strict=True)
    return [Trial(crop, picture[0], cells, end) for crop, picture, cells, end in rows]


def lens_of(photo: Photo, camera: Camera | None, task: str) -> Lens:
    """Return the camera of the whole photo, and whether it is more than an assumption."""
    expect_photo(photo, "estimate()")
    if task not in TASKS:
        raise InputError(
            "E_TASK",
            f"estimate(): expected task to be one of {', '.join(TASKS)}, got {task!r}; try: pose",
        )
    if camera is not None:
        check_size(camera, photo.height, photo.width, "estimate()")
        return Lens(camera.checked(), "given")
    if photo.camera is not None:
        return Lens(photo.camera, photo.camera_source)
    return Lens(Camera.assumed(photo.height, photo.width), "assumed")
