"""How a pose is searched for: torch-free."""

from dataclasses import dataclass, field, replace
from typing import Literal

from featmesh.model.config import ModelConfig

EnergyForm = Literal["cosine", "truncated", "l2"]


@dataclass(frozen=True)
class ScanConfig:
    """The coarse search over a grid of poses (rendering 4; spec 6.1b)."""

    start: Literal["grid", "random", "given"] = "grid"
    """where refinement begins: the best of the grid, random poses of it, or near a given view"""
    given: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """azimuth, elevation, theta in degrees of the prior view, start 'given' only"""
    azimuths: int = 36
    """evenly over the full turn"""
    elevations: tuple[float, ...] = (-12.0, 0.0, 12.0, 26.0, 45.0)
    """degrees"""
    thetas: tuple[float, ...] = (-14.0, 0.0, 14.0)
    """in-plane rotations, degrees"""
    distances: tuple[float, ...] = (1.25, 2.2, 6.0)
    """object units: strengths of perspective; with a known camera the nearest is taken"""
    scales: tuple[float, ...] = (1.0, 1.2)
    """sizes of the object against the box, which may be clipped or half hidden"""
    pool: int = 2
    """feature cells that are averaged along each axis"""
    starts: int = 8
    """poses handed to the refinement"""
    apart: float = 20.0
    """degrees between two starts"""
    view_worth: float = 0.01
    """score that a view e times likelier by the crop's gist is worth; 0: it is not asked"""
    seed: int = 0
    """of random starts"""


@dataclass(frozen=True)
class RefineConfig:
    """Render-and-compare from the starts (spec 2.10; rendering 4)."""

    form: EnergyForm = "cosine"
    """energy: object or clutter per cell (cosine), its squared form, or plain L2"""
    optimiser: Literal["adam", "descent"] = "adam"
    """Adam with NeMo's (.4, .6), or plain gradient descent"""
    steps: int = 90
    """of the optimiser"""
    drops: tuple[float, ...] = (0.67,)
    """shares of the steps after which the rate falls to a fifth; NeMo: each third"""
    lr: float = 0.05
    """radians, and fifths of the distance"""
    keep: int = 2
    """starts that survive the first quarter"""
    polish: int = 5
    """Levenberg-Marquardt steps at the end"""
    background_cost: float = 1.0
    """of an uncovered cell, form l2 only"""
    price: float = 0.0
    """similarity that it costs to call a covered cell occluded, form cosine only"""
    edge: float = 0.0
    """how much more a cell on an outline resembles the object than clutter, form cosine only"""
    outline: bool = False
    """whether moving outlines pull"""
    zoom_prior: float = 0.6
    """standard deviation of the logarithm of the focal length over the assumed one"""
    proportions: bool = True
    """whether the object's width, length and height are free, held by the model's prior; no:
    camera only"""
    prior_weight: float = 0.01
    """gain per cell that is worth one standard deviation"""
    box_worth: float = 0.05
    """energy that the overlap of the object's box with the given one is worth, where poses are
    ranked; 0: the box only says where to look"""
    view_worth: float = 0.01
    """energy that a view e times likelier by the crop's gist is worth, where poses are ranked"""


@dataclass(frozen=True)
class ShapeConfig:
    """The shape stage, after the pose (spec 2.11, 6.1; schedule ours)."""

    steps: int = 30
    """of the optimiser"""
    drops: tuple[float, ...] = (0.33, 0.67)
    """shares of the steps after which the rate falls to a fifth"""
    lr: float = 0.05
    """radians, fifths of the distance, and a quarter of a latent's standard deviation"""
    polish: int = 4
    """Levenberg-Marquardt steps at the end"""
    outline: bool = True
    """whether moving outlines pull (rendering 5)"""
    samples: int = 2
    """samples of a feature cell along each axis: outlines need more than one"""
    price: float = 0.1
    """similarity that it costs to call a covered cell occluded"""
    edge: float = 0.3
    """how much more a cell on an outline resembles the object than clutter"""
    whole: float = 0.85
    """visible share from which the object counts as seen whole; below it neither price nor edge
    counts and outlines do not pull: they may be the occluder's"""
    pose: bool = True
    """whether the pose goes on moving with the shape"""
    proportions: bool = True
    """whether the stretches go on moving too"""
    zoom_prior: float = 0.6
    """standard deviation of the logarithm of the focal length over the assumed one"""
    latent_prior: float = 1.0
    """standard deviation of each latent; the shape space is learnt with 1"""
    prior_weight: float = 0.003
    """gain per cell that is worth one standard deviation"""


@dataclass(frozen=True)
class LocateConfig:
    """Where is the object, when no box is given."""

    sides: tuple[int, ...] = (672, 480, 336, 240, 160)
    """longer sides of the photo at which its features are taken, pixels"""
    finer: tuple[int, ...] = (1344,)
    """more of them for small objects, where nothing else is found"""
    window: tuple[int, int] = (160, 240)
    """height and width about a cell, pixels, of which its features' norms are taken"""
    sure: float = 0.35
    """evidence from which something is found"""
    azimuths: int = 16
    """views of the template that are slid over the maps"""
    elevations: tuple[float, ...] = (3.0, 20.0)
    """degrees"""
    length: float = 13.0
    """longer side of the slid template, cells"""
    anchors: int = 320
    """anchors looked up"""
    area_power: float = 0.5
    """candidates are ranked by mean gain times their share of the photo to this power"""
    peaks: int = 40
    """best cells of each scale, each the centre of a box"""
    apart: int = 2
    """cells around a cell in which none may be better: more objects among the peaks, 0 one"""
    candidates: int = 5
    """boxes that are looked at closely, beside the whole photo"""
    finer_candidates: int = 3
    """boxes of the finer sides that are looked at closely"""
    again: int = 2
    """the likeliest of them, looked at once more where the object was found in them"""
    same: float = 0.75
    """intersection over union of two boxes from which a second look shows nothing new"""
    worth_power: float = 0.25
    """what was found in them is ranked by evidence times its share of the photo to this power"""
    glance_crop: float = 0.57
    """share of the crop's sides at that look"""
    glance_starts: int = 4
    """starts of that look"""
    glance_steps: int = 30
    """steps of that look"""


@dataclass(frozen=True)
class SegmentConfig:
    """Which pixels of the object are seen (spec 6.1; numbers ours, chosen on held-out cars)."""

    even: float = 0.2
    """s - c of a pixel that is as likely the object as an occluder; features of what lies beside
    an object resemble the object's, so that 0 leaves a third of the occluded pixels unseen"""
    blur: float = 1.0
    """standard deviation of the smoothing over the object before that, cells"""
    grain: int = 4
    """samples of a cell along each axis"""
    sharp: float = 3.0
    """power of the labels' weights in the drawn prior of a part; this and the following, which join
    labels and evidence, were chosen on photos 241-320 of car_parts, bare and behind occluders, with
    labels and head learned from 1-240. mIoU there, L0 / L2 / L3: both .62 / .50 / .41, the head
    alone .62 / .45 / .34, the labels alone .48 / .36 / .26"""
    drift: float = 0.75
    """standard deviation of the prior's smoothing, cells: what pose and shape may be off"""
    trust: float = 0.9
    """probability that the drawing is right; else each part is as likely as it is frequent"""
    weight: float = 0.4
    """power of the prior; the evidence has 1"""
    rare: float = 0.5
    """power to which parts are freed of how frequent they were, within ``weight``"""
    hidden: float = 0.3
    """s - c of a drawn pixel that shows no part and is as likely hidden as bare of parts"""
    soft: float = 0.1
    """by how much s - c must differ from that to be e times likelier"""


@dataclass(frozen=True)
class EstimateConfig:
    """All settings of an estimate."""

    scan: ScanConfig = field(default_factory=ScanConfig)
    """coarse search"""
    refine: RefineConfig = field(default_factory=RefineConfig)
    """render-and-compare"""
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    """the shape, task 'shape' only"""
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    """what each pixel shows"""
    locate: LocateConfig = field(default_factory=LocateConfig)
    """finding the object"""
    aspects: tuple[float, ...] = (1.0,)
    """how many times too wide (below 1: too narrow) the photo may have been made, tried where the
    camera is unknown; (0.6, 0.75, 1.0) for photos squeezed to a square"""
    crop: float = 1.0
    """sides of the crop over those the network was trained on; more cells see more, and take
    longer"""
    length: float | None = None
    """real length of the object front to back, metres; with a known camera t is then in metres"""


def glance_config(config: EstimateConfig) -> EstimateConfig:
    """Return the settings of a first, short look at a box; a gist is of crops of full size."""
    scan = replace(config.scan, starts=config.locate.glance_starts, view_worth=0.0)
    steps = config.locate.glance_steps
    refine = replace(guessed(config).refine, steps=steps, polish=0, view_worth=0.0)
    return replace(config, scan=scan, refine=refine, crop=config.locate.glance_crop)


def guessed(config: EstimateConfig) -> EstimateConfig:
    """Return the settings for a box that was guessed: it says nothing of the pose."""
    return replace(config, refine=replace(config.refine, box_worth=0.0))


def crop_size(model: ModelConfig, share: float) -> tuple[int, int]:
    """Return height and width of the crop, pixels, multiples of 16."""
    sides = (model.crop_height, model.crop_width)
    height, width = (max(32, round(side * share / 16) * 16) for side in sides)
    return height, width


def nemo_config() -> EstimateConfig:
    """Return the lineage's own schedule: 144 poses, one start, 300 Adam steps (spec 2.10).

    It is run by our search, in our crop and parameters, where steps are radians and fifths of the
    distance; as it was published it stands in :mod:`featmesh.inference.nemo`.
    """
    scan = ScanConfig(
        azimuths=12,
        elevations=(-30.0, 0.0, 30.0, 60.0),
        thetas=(-30.0, 0.0, 30.0),
        distances=(2.2,),
        scales=(1.0,),
        pool=1,
        starts=1,
        apart=0.0,
        view_worth=0.0,
    )
    return EstimateConfig(
        scan,
        RefineConfig(
            steps=300,
            drops=(1 / 3, 2 / 3),
            keep=1,
            polish=0,
            proportions=False,
            box_worth=0.0,
            view_worth=0.0,
        ),
    )
