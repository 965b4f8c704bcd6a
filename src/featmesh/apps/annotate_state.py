"""What ``featmesh annotate`` does with clicks, poses and the views file; no viewer in here (ours).

The person clicks a place on the mesh and then where the photo shows it. From four such pairs the
pose is solved; of several that fit the clicks the photo takes the one it explains best. From there
render-and-compare goes on. It knows the photo, the person knows the object: the pose it comes to
counts where the clicked places stay at their clicks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.errors import InputError
from featmesh.geometry.crop import Box, box_iou, check_box
from featmesh.geometry.pnp import FEWEST, pnp
from featmesh.inference.config import EstimateConfig
from featmesh.inference.refine import Refined
from featmesh.inference.result import Estimate
from featmesh.model.keypoints import KeyPoints
from featmesh.photo.photo import Photo
from featmesh.views.record import View

from .sight import Poses, look_closely
from .view_state import Shown, Stage, ViewState

Vector = tuple[float, float, float]
CLICK = 0.02  # how exact clicks on a mean shape are, share of the diagonal of the object's box
ALSO = 1.5  # poses whose clicks are off by no more than this times the best are asked of the photo
SAME_PLACE = 0.5  # overlap of two boxes below which the crop that was looked at is another one
ROWS = ("R", "t", "log_zoom", "log_stretch", "energy", "score", "evidence", "visible")


class Spot(NamedTuple):
    """A place on the template: its face, and where in it (sums to 1)."""

    face: int
    bary: Vector


class Click(NamedTuple):
    """A place on the template and where the photo shows it, photo pixels."""

    spot: Spot
    pixel: tuple[float, float]


@dataclass(frozen=True)
class Marks:
    """What was clicked in a photo.

    Attributes:
        clicks: whole pairs.
        spot: a place on the mesh whose pixel is still to come.
    """

    clicks: tuple[Click, ...] = ()
    spot: Spot | None = None

    def undone(self) -> "Marks":
        """Return the marks without the last thing clicked."""
        return Marks(self.clicks) if self.spot else Marks(self.clicks[:-1])

    @property
    def enough(self) -> bool:
        """Whether a pose can be solved."""
        return len(self.clicks) >= FEWEST


@dataclass(frozen=True)
class Quality:
    """How good a label is.

    Attributes:
        evidence: mean of object over clutter, over all cells of the object.
        confidence: probability that the rotation is right, the proposal's other poses being its
            rivals; None for a model that is not calibrated.
        reprojection: root mean square distance of clicked places and clicks, photo pixels; None
            without clicks.
        share: the same over the diagonal of the object's box.
    """

    evidence: float
    confidence: float | None
    reprojection: float | None
    share: float | None


def spot_under(stage: Stage, shown: Shown, origin: Vector, direction: Vector) -> Spot | None:
    """Return the nearest place of the mesh that a ray meets, None where it misses.

    Args:
        stage: of the photo.
        shown: where the mesh is.
        origin: of the ray, camera axes, unit of the pose.
        direction: of the ray.
    """
    if shown.pose is None:
        return None
    vertices = shown.pose.apply(torch.from_numpy(shown.vertices).double()).numpy()
    a, b, c = (vertices[stage.faces[:, k]] for k in range(3))
    eye, ray = np.array(origin), np.array(direction)
    # Moeller and Trumbore 1997
    across = np.cross(ray, c - a)
    scale = ((b - a) * across).sum(1)
    scale = np.where(np.abs(scale) < 1e-12, np.nan, scale)
    v = ((eye - a) * across).sum(1) / scale
    around = np.cross(eye - a, b - a)
    w = (around @ ray) / scale
    far = ((c - a) * around).sum(1) / scale
    hit = (v >= 0) & (w >= 0) & (v + w <= 1) & (far > 0)
    if not hit.any():
        return None
    k = int(np.where(hit, far, np.inf).argmin())
    return Spot(k, (float(1 - v[k] - w[k]), float(v[k]), float(w[k])))


def pixel_under(
    shown: Shown, depth: float, origin: Vector, direction: Vector
) -> tuple[float, float] | None:
    """Return the photo's pixel that a ray meets, None where it misses the photo.

    Args:
        shown: whose camera counts.
        depth: where the photo stands, along the camera's axis.
        origin: of the ray, camera axes.
        direction: of the ray.
    """
    if direction[2] <= 1e-9:
        return None
    place = np.array(origin) + np.array(direction) * (depth - origin[2]) / direction[2]
    (x, y), camera = shown.camera.project(torch.from_numpy(place))[0].tolist(), shown.camera
    return (x, y) if 0 <= x <= camera.width and 0 <= y <= camera.height else None


class Desk:
    """One photo that is being labelled.

    Args:
        path: of the photo.
        stage: a look at it, in which the model's proposal is the pose found.
        config: settings of the method.
    """

    def __init__(self, path: Path, stage: Stage, config: EstimateConfig) -> None:
        self.path, self.stage, self.config = path, stage, config

    @property
    def photo(self) -> Photo:
        """The photo."""
        return self.stage.sight.photo

    def places(self, shown: Shown, clicks: Sequence[Click]) -> Float64[np.ndarray, "n 3"]:
        """Return where clicked places of the mesh lie, object frame."""
        mesh = self.stage.sight.model.template.with_vertices(torch.from_numpy(shown.vertices))
        faces = torch.tensor([click.spot.face for click in clicks], dtype=torch.int64)
        bary = torch.tensor([click.spot.bary for click in clicks], dtype=torch.float64)
        names = tuple(str(k) for k in range(len(clicks)))
        return KeyPoints(names, faces, bary.reshape(-1, 3)).on(mesh).double().numpy()

    def off(self, shown: Shown, clicks: Sequence[Click]) -> float | None:
        """Return the root mean square distance of clicked places and their clicks, photo pixels."""
        if not clicks or shown.pose is None:
            return None
        points = shown.pose.apply(torch.from_numpy(self.places(shown, clicks)))
        pixels, _ = shown.camera.project(points)
        away = pixels.numpy() - np.array([click.pixel for click in clicks])
        return math.sqrt(float((away**2).sum(1).mean()))

    def solved(self, state: ViewState, marks: Marks) -> ViewState:
        """Return the pose that the clicks say, refined on the photo.

        Where it lies elsewhere than what was looked at, there is looked again: :attr:`stage`
        changes.

        Args:
            state: its lens, proportions and shape hold while the clicks are solved.
            marks: four pairs or more.

        Raises:
            InputError: E_KEYPOINTS where the clicks fit no pose.
        """
        solved = self._by_clicks(state, marks.clicks)
        box = self._box(self.stage.show(solved).estimate)
        if box is not None and box_iou(box, self.stage.sight.box) < SAME_PLACE:
            self._look(box)
            solved = self._by_clicks(self._bent_as(state), marks.clicks)
        end = self.stage.refine(solved)
        # a click is as exact as a hand and a mean shape are; beyond that the person is right
        first, last = (self.off(self.stage.show(s), marks.clicks) for s in (solved, end))
        diagonal = self._diagonal(self.stage.show(solved).estimate)
        limit = ALSO * max(first or 0.0, CLICK * diagonal)
        return end if last is not None and last <= limit else solved

    def here(self, state: ViewState) -> ViewState:
        """Look again where the mesh of a state lies; return the proposal there.

        Raises:
            InputError: E_POSE where the mesh lies outside the photo.
        """
        box = self._box(self.stage.show(state).estimate)
        if box is None:
            raise _no_pose()
        self._look(box)
        return self.stage.found

    def quality(self, state: ViewState, marks: Marks) -> Quality:
        """Return how good a label would be."""
        shown, sight = self.stage.show(state), self.stage.sight
        estimate = sight.estimate(self._among_rivals(state))
        calibration = sight.model.calibration
        sure = None if calibration is None else calibration.confidence(estimate.signals)
        off = self.off(shown, marks.clicks)
        share = None if off is None else off / max(self._diagonal(shown.estimate), 1.0)
        return Quality(estimate.signals["evidence"], sure, off, share)

    def label(self, state: ViewState, marks: Marks) -> View:
        """Return the record of the views file; extras say how good it is and how it came about.

        With a known camera R and t are in it; without one R is seen along the ray to the object's
        centre, and distance goes with it (contracts 2).

        Raises:
            InputError: E_POSE where the object lies outside the photo.
        """
        shown, lens = self.stage.show(state), self.stage.sight.lens
        found, box = shown.estimate, self._box(shown.estimate)
        pose, seen = shown.pose, found.viewpoint
        if pose is None or seen is None or box is None:
            raise _no_pose()
        quality = self.quality(state, marks)
        known: dict[str, Any] = {"R": seen.to_pose().R.numpy()}
        if lens.known:
            K = lens.camera.K.numpy()
            known = {"R": pose.R.numpy(), "t": pose.t.numpy(), "t_unit": "object", "K": K}
        how = "clicks" if marks.enough else "proposal" if state == self.stage.found else "hand"
        told: dict[str, Any] = {
            name: None if value is None else round(value, 4)
            for name, value in vars(quality).items()
        }
        told |= {"by": how, "clicks": self._told(shown, marks.clicks)}
        told |= {"model": self.stage.sight.model.hash}
        return View(
            **self._head(),
            **known,
            box=box,
            distance=seen.distance,
            azimuth=math.degrees(seen.azimuth),
            elevation=math.degrees(seen.elevation),
            theta=math.degrees(seen.theta),
            extras={"extent_xyz": np.ptp(shown.vertices, axis=0).tolist(), "annotation": told},
        )

    def absent(self) -> View:
        """Return the record of a photo that does not show the category."""
        return View(**self._head(), no_object=True)

    def _head(self) -> dict[str, Any]:
        size = {"width": self.photo.width, "height": self.photo.height}
        return {"image": self.path, "category": self.stage.sight.model.category, **size}

    def _told(self, shown: Shown, clicks: Sequence[Click]) -> list[dict[str, Any]]:
        places = self.places(shown, clicks).round(4).tolist()
        pixels = [[round(v, 1) for v in click.pixel] for click in clicks]
        rows = zip(pixels, places, strict=True)
        return [{"pixel": pixel, "point": place} for pixel, place in rows]

    def _by_clicks(self, state: ViewState, clicks: Sequence[Click]) -> ViewState:
        """Return the pose at which clicked places lie at their clicks, most likely by the photo."""
        crop, shown = self.stage.sight.trial.crop, self.stage.show(state)
        pixels = torch.tensor([click.pixel for click in clicks], dtype=torch.float64)
        camera = crop.camera.zoom(math.exp(state.log_zoom))
        rays = crop.photo_camera.unproject(pixels.reshape(-1, 2)) @ crop.Q.T
        seen, _ = crop.camera.project(rays)
        fits = pnp(torch.from_numpy(self.places(shown, clicks)), seen, camera)
        # a pixel of the crop is what clicks cannot tell apart
        alike = [fit.pose for fit in fits if fit.rms <= ALSO * fits[0].rms + 1.0]
        bend = [self.stage.poses(state).log_zoom, self.stage.poses(state).log_stretch]
        latent = np.array(state.latent)
        states = [
            self.stage.state_of(Poses(p.R.numpy()[None], p.t.numpy()[None], *bend), latent)
            for p in alike
        ]
        return min(states, key=lambda s: self.stage.show(s).energy)

    def _look(self, box: Box) -> None:
        sight = self.stage.sight
        camera = sight.lens.camera if sight.lens.source == "given" else None
        self.stage = Stage(look_closely(sight.model, sight.photo, box, camera, self.config))

    def _bent_as(self, state: ViewState) -> ViewState:
        """Return a state of another crop in the same proportions and shape."""
        return replace(self.stage.found, log_stretch=state.log_stretch, latent=state.latent)

    def _box(self, estimate: Estimate) -> Box | None:
        """Return the box of the drawn object inside the photo, None where it is outside."""
        if estimate.box is None:
            return None
        try:
            return check_box(estimate.box, self.photo.height, self.photo.width)[0]
        except InputError:
            return None

    def _diagonal(self, estimate: Estimate) -> float:
        x0, y0, x1, y1 = estimate.box or (0.0, 0.0, 0.0, 0.0)
        return math.hypot(x1 - x0, y1 - y0)

    def _among_rivals(self, state: ViewState) -> Refined:
        """Return a state's pose, followed by those the search came to."""
        sight, code = self.stage.sight, np.array(state.latent) if any(state.latent) else None
        own, found = sight.refined_at(self.stage.poses(state), code), sight.trial.refined
        rows = {n: np.concatenate([getattr(own, n), getattr(found, n)]) for n in ROWS}
        return Refined(**rows, latent=code)


def _no_pose() -> InputError:
    told = "annotate: expected the object in the photo, got a mesh outside it"
    return InputError("E_POSE", f"{told}; try: back to the pose found, or skip")
