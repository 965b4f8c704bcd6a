"""One object through a video: each frame is explained from where the object should be (ours).

see: follow it from the frame before; where it is lost, search it as in a photo. Poses that explain
it nearly as well, such as the car turned about, are followed beside it. The track goes over to one
only where it is clearly better for several frames, and a search goes on with the pose as it was
where that is nearly as good as the best, so that equals never flip.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from featmesh.errors import FeatmeshError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, box_iou
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.smoothing import Motion, smooth_poses
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.stopwatch import Stopwatch

from .config import EstimateConfig, guessed
from .describe import Lens
from .estimator import estimate, in_photo, lens_of
from .plain import pose_json
from .result import Estimate, posed
from .track_config import TrackConfig
from .track_follow import Expected, box_at, follow, in_metres, placed

SAME = math.radians(40)  # a pose found again this near the expected one goes on with the track
SAME_BOX = 0.2  # as must its box overlap the expected one
USUAL = 0.9  # share of the usual evidence that each frame leaves
LEAST_TRUST = 0.2  # of a frame in which little of the object is seen

How = Literal["started", "tracked", "restarted", "lost"]


@dataclass(frozen=True)
class TrackedFrame:
    """What came of one frame.

    Attributes:
        frame: its number, from 0.
        how: ``tracked`` from the frame before; ``started`` or ``restarted`` by a search, or in
            another mode; ``lost``: no pose.
        track: number of the track, from 0; None where lost. A track goes on over lost frames where
            the object is found as expected; no filter reaches from one track into another.
        estimate: as of a photo, at the filtered pose.
        measured: the pose before the filter.
        trust: of the measured pose against others, 0 to 1: share of the usual evidence.
    """

    frame: int
    how: How
    track: int | None
    estimate: Estimate
    measured: Pose | None = None
    trust: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Return what a row tells beside ``result.json``: frame, how, track, measured pose."""
        row = {"frame": self.frame, "how": self.how, "track": self.track}
        none = self.measured is None
        return row | {"measured": None if none else pose_json(self.measured, self.estimate.t_unit)}


def track(
    model: CategoryModel,
    frames: Iterable[Photo],
    box: Box | None = None,
    camera: Camera | None = None,
    config: TrackConfig | None = None,
    search: EstimateConfig | None = None,
) -> Iterator[TrackedFrame]:
    """Yield the pose of one object in each frame of a video, as soon as the frame is done.

    Args:
        model: category model, from :func:`featmesh.load`.
        frames: in order, e.g. ``map(featmesh.read_photo, paths)``.
        box: (x0, y0, x1, y1) of the object in the first frame; None to find the clearest one.
        camera: of every frame; None as in :func:`featmesh.estimate`, but the strength of
            perspective that a search finds is kept: a video has one lens.
        config: how the object is followed.
        search: how it is found, and found again.

    Raises:
        InputError: E_IMG_FORMAT, E_BOX, E_CAMERA, or E_CONFIG for settings that make no sense.
    """
    tracker = Tracker(model, camera, config, search)
    for photo in frames:
        yield tracker.see(photo, box)
        box = None


def smoothed(frames: Sequence[TrackedFrame], width: float = 2.0) -> list[TrackedFrame]:
    """Return a finished video smoothed from both sides; frames without a pose stay without.

    Args:
        frames: all of them, from :func:`track`.
        width: standard deviation of the weights of neighbouring frames, frames.
    """
    told = list(frames)
    for number in sorted({f.track for f in told if f.track is not None}):
        rows = [(k, f, f.measured) for k, f in enumerate(told) if f.track == number]
        kept = [(k, f, pose) for k, f, pose in rows if pose is not None]
        times, trust = [f.frame for _, f, _ in kept], [f.trust for _, f, _ in kept]
        poses = smooth_poses([pose for _, _, pose in kept], times, trust, width)
        for (k, frame, _), pose in zip(kept, poses, strict=True):
            told[k] = replace(frame, estimate=placed(frame.estimate, pose))
    return told


@dataclass
class _Target:
    """The object as it was last seen.

    Attributes:
        motion: filter of its pose, object units.
        last: pose measured last; where it is lost, the expected one.
        seen: estimate of the frame it was last seen in.
        number: of the track.
        evidence: usual one.
        rivals: other poses, turned from the object's own frame: ``R_rival = R @ rival``.
        unit: of the track's results, object units.
        missed: frames since it was seen.
        better: frames in a row in which a rival was clearly better.
        age: frames it was followed.
    """

    motion: Motion
    last: Pose
    seen: Estimate
    number: int
    evidence: float
    rivals: list[Float[Tensor, "3 3"]]
    unit: float | None
    missed: int = 0
    better: int = 0
    age: int = 0


class Tracker:
    """Follows one object: is shown frames in order, says where it is; see :func:`track`.

    Args:
        model: category model.
        camera: of every frame, None where it is not known.
        config: how the object is followed.
        search: how it is found.

    Raises:
        InputError: E_CONFIG for settings that make no sense.
    """

    def __init__(
        self,
        model: CategoryModel,
        camera: Camera | None = None,
        config: TrackConfig | None = None,
        search: EstimateConfig | None = None,
    ) -> None:
        whole = search or EstimateConfig()
        self.model, self.camera, self.config = model, camera, _checked(config or TrackConfig())
        # metres are worked in at the end: a metre would change with each frame's proportions
        self.search, self.length = replace(whole, length=None), whole.length
        self.target: _Target | None = None
        self.frames = self.tracks = 0

    def see(self, photo: Photo, box: Box | None = None) -> TrackedFrame:
        """Return what came of the next frame.

        Args:
            photo: the frame.
            box: of the object, where it is known; it is then searched there.

        Raises:
            InputError: E_IMG_FORMAT, E_BOX or E_CAMERA.
        """
        lens, clock = lens_of(photo, self.camera, "pose"), Stopwatch()
        if self.target is not None and not _same_size(self.target.seen, photo):
            self.target = None  # another film: nothing is expected
        target = self.target
        if target is not None and box is None:
            found = self._follow(photo, lens, self._expected(target), clock)
            if found is not None and self._holds(found, target):
                return self._tracked(photo, lens, found, target, clock)
            if target.missed % self.config.retry:
                return self._lost(lens, clock)
        return self._searched(photo, lens, box, clock)

    def skip(self, error: FeatmeshError) -> TrackedFrame:
        """Return what came of a frame that could not be read; the object is expected to move on."""
        return self._missed(Estimate.refused(self.model.category, error))

    def _expected(self, target: _Target) -> Expected:
        pose = target.motion.predicted()
        rivals = (Pose(pose.R @ rival, pose.t) for rival in target.rivals)
        around = target.age % self.config.look == self.config.look - 1
        return Expected((pose, target.last, *rivals), target.seen, around)

    def _follow(
        self, photo: Photo, lens: Lens, expected: Expected, clock: Stopwatch
    ) -> Estimate | None:
        return follow(self.model, photo, lens, expected, self.config, self.search, clock)

    def _holds(self, found: Estimate, target: _Target) -> bool:
        """Return whether what was found is still the object, not what hides it."""
        least = self.config.evidence * target.evidence
        return self._sure(found) and found.signals["evidence"] >= least

    def _sure(self, found: Estimate) -> bool:
        sure = found.confidence
        return found.has_pose and (sure is None or sure >= self.config.confidence)

    def _tracked(
        self, photo: Photo, lens: Lens, found: Estimate, target: _Target, clock: Stopwatch
    ) -> TrackedFrame:
        """Go on with the track, or over to a rival that has been better for long enough."""
        pose, evidence = posed(found, "track").pose, found.signals["evidence"]
        rivals = [m for m in found.modes if m.score > (1 + self.config.margin) * evidence]
        target.better = target.better + 1 if rivals else 0
        if target.better >= self.config.patience:
            other = Expected((max(rivals, key=lambda m: m.score).cam_from_obj, pose), found)
            changed = self._follow(photo, lens, other, clock)
            target.better = 0
            if changed is not None and self._holds(changed, target):
                return self._begun(lens, changed, None, clock)
        trust = min(1.0, max(LEAST_TRUST, evidence / max(target.evidence, 1e-9)))
        smoothing = self.config.smoothing
        heed = trust if smoothing > 0 else 1.0
        target.motion = target.motion.corrected(pose, smoothing, heed)
        target.last, target.seen, target.missed = pose, found, 0
        target.evidence = USUAL * target.evidence + (1 - USUAL) * evidence
        target.rivals = self._rivals(found)
        target.age += 1
        return self._told("tracked", target, found, clock, trust)

    def _searched(
        self, photo: Photo, lens: Lens, box: Box | None, clock: Stopwatch
    ) -> TrackedFrame:
        """Search the object: in the box, or where it is expected and then in the whole frame."""
        target, places = self.target, [(box, self.search)]
        if target is not None and box is None:
            near = in_photo(box_at(target.seen, target.motion.predicted()), photo)
            places = [(near, guessed(self.search))] if near else []
            places.append((None, self.search))
        for place, config in places:
            found = estimate(self.model, photo, place, self.camera, config=config)
            for stage, spent in found.seconds.items():
                clock.seconds[stage] = clock.seconds.get(stage, 0.0) + spent
            if self._sure(found):
                found = self._as_before(photo, lens, found, clock)
                number = self._number(found)
                if number is not None or self._clear(found):
                    return self._begun(lens, found, number, clock)
        return self._lost(lens, clock)

    def _clear(self, found: Estimate) -> bool:
        """Return whether what is not where it should be is too clear to be a part of the rest."""
        usual = 0.0 if self.target is None else self.target.evidence
        return found.signals["evidence"] >= self.config.elsewhere * usual

    def _as_before(self, photo: Photo, lens: Lens, found: Estimate, clock: Stopwatch) -> Estimate:
        """Return the mode that goes on as before, where it is nearly as good as the best."""
        if self.target is None:
            return found
        expected, least = self.target.motion.predicted(), 1 - self.config.margin
        best = posed(found, "track").pose
        equals = [m for m in found.modes if m.score >= least * found.signals["evidence"]]
        near = [m.cam_from_obj for m in equals if _turned(m.cam_from_obj, expected) < SAME]
        if _turned(best, expected) < SAME or not near:
            return found
        settled = self._follow(photo, lens, Expected((near[0], best), found), clock)
        return settled if settled is not None and self._sure(settled) else found

    def _number(self, found: Estimate) -> int | None:
        """Return the number of the track that goes on; None for another one."""
        target = self.target
        if target is None or not self._holds(found, target):
            return None
        pose, expected = posed(found, "track").pose, target.motion.predicted()
        here, there = box_at(found, pose), box_at(target.seen, expected)
        near = here and there and box_iou(here, there) > SAME_BOX
        return target.number if near and _turned(pose, expected) < SAME else None

    def _begun(
        self, lens: Lens, found: Estimate, number: int | None, clock: Stopwatch
    ) -> TrackedFrame:
        """Begin a track, or go on with one, at what a search found."""
        how: How = "restarted" if self.tracks else "started"
        old, pose = self.target, posed(found, "track")
        unit = None
        if self.length is not None and lens.known:
            unit = self.length / float(pose.mesh.extent[1])
        if number is not None and old is not None:
            unit = old.unit
        else:
            number, self.tracks = self.tracks, self.tracks + 1
        motion, evidence = Motion.at(pose.pose), found.signals["evidence"]
        rivals = self._rivals(found)
        self.target = _Target(motion, pose.pose, found, number, evidence, rivals, unit)
        return self._told(how, self.target, found, clock, 1.0)

    def _rivals(self, found: Estimate) -> list[Float[Tensor, "3 3"]]:
        R = posed(found, "track").pose.R
        return [R.T @ m.cam_from_obj.R for m in found.modes[: self.config.rivals]]

    def _told(
        self, how: How, target: _Target, found: Estimate, clock: Stopwatch, trust: float
    ) -> TrackedFrame:
        """Return the frame in which the object is, at the filtered pose, in the track's unit."""
        told = placed(replace(found, seconds=dict(clock.seconds)), target.motion.pose)
        measured = posed(found, "track").pose
        if target.unit is not None:
            told = in_metres(told, target.unit)
            measured = Pose(measured.R, target.unit * measured.t)
        self.frames += 1
        return TrackedFrame(self.frames - 1, how, target.number, told, measured, trust)

    def _lost(self, lens: Lens, clock: Stopwatch) -> TrackedFrame:
        sure = None if self.model.calibration is None else 0.0
        told = Estimate("no_object", self.model.category, confidence=sure, camera=lens.camera)
        told = replace(told, camera_source=lens.source, seconds=dict(clock.seconds))
        return self._missed(told)

    def _missed(self, told: Estimate) -> TrackedFrame:
        """Return the frame without the object; forget it where it has been away for long."""
        target = self.target
        if target is not None:
            target.motion = target.motion.coasted()
            target.last = target.motion.pose
            target.missed, target.better = target.missed + 1, 0
            if target.missed > self.config.memory:
                self.target = None
        self.frames += 1
        return TrackedFrame(self.frames - 1, "lost", None, told)


def _turned(a: Pose, b: Pose) -> float:
    return float(geodesic_angle(a.R, b.R))


def _same_size(seen: Estimate, photo: Photo) -> bool:
    camera = posed(seen, "track").camera
    return (camera.height, camera.width) == (photo.height, photo.width)


def _checked(config: TrackConfig) -> TrackConfig:
    """Return the settings, or raise E_CONFIG for those that make no sense."""
    c = config
    faults = {
        "crop": not 0 < c.crop <= 4,
        "steps": c.steps < 0,
        "polish": c.polish < 0,
        "rivals": c.rivals < 0,
        "look": c.look < 1,
        "margin": not 0 <= c.margin < 1,
        "patience": c.patience < 1,
        "retry": c.retry < 1,
        "memory": c.memory < 0,
        "smoothing": not 0 <= c.smoothing < 1,
    }
    for name, wrong in faults.items():
        if wrong:
            raise InputError(
                "E_CONFIG",
                "track: expected counts of 1 or more, margin and smoothing of 0 to below 1, got "
                f"{name} {getattr(c, name)}; try: the defaults",
            )
    return c
