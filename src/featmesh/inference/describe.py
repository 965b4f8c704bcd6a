"""What is said about an object in a photo: status, pose, score, other modes (last step)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.template import stretch
from featmesh.geometry.viewpoint import Viewpoint, ray_rotation
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.photo.photo import Photo

from .confidence import signals
from .config import EstimateConfig, RefineConfig
from .energy import Comparison
from .energy_numba import FusedEnergy
from .focal import Profile
from .refine import Refined, stiffness
from .result import Estimate, Maps, Mode, Shape

MODE_APART = math.radians(25)  # two poses closer than this are one answer
KNOWN = 1e4  # curvature that holds a known focal length


@dataclass(frozen=True)
class Lens:
    """The camera of the whole photo and where it comes from."""

    camera: Camera
    source: str

    @property
    def known(self) -> bool:
        """Whether the focal length is known rather than assumed."""
        return self.source != "assumed"

    def squeezed(self, aspect: float) -> "Lens":
        """Return the lens of a photo made ``aspect`` times too wide."""
        return replace(self, camera=replace(self.camera, fx=self.camera.fx * aspect))


@dataclass(frozen=True)
class Trial:
    """One box that was looked at closely.

    Attributes:
        crop: its virtual camera.
        pixels: what the network saw.
        cells: what it made of it.
        refined: the poses that explain it, best first.
        before: the same before the shape was fitted, task ``shape`` only.
    """

    crop: Crop
    pixels: UInt8[np.ndarray, "y x 3"]
    cells: FeatureMap
    refined: Refined
    before: Refined | None = None


def describe(
    model: CategoryModel,
    photo: Photo,
    lens: Lens,
    trial: Trial,
    config: EstimateConfig,
    seconds: dict[str, float],
    warnings: tuple[str, ...],
) -> Estimate:
    """Return the estimate of a finished trial, in the camera of the whole photo.

    Args:
        model: category model.
        photo: the whole photo.
        lens: its camera; where assumed, the estimated zoom is worked into it.
        trial: the box that won.
        config: the object's real length, where given.
        seconds: spent in each stage.
        warnings: of the stages before.
    """
    refined = trial.refined
    poses, cameras = zip(*(_in_photo(lens, trial, k) for k in range(len(refined.R))), strict=True)
    pose, camera = poses[0], cameras[0]
    if not lens.known:
        warnings += ("camera assumed; focal length estimated with the pose",)
    mesh, unit = mesh_of(model, refined), 1.0
    if config.length is not None and lens.known:
        unit = config.length / float(mesh.extent[1])
    scaled = Pose(pose.R, pose.t * unit)
    estimate = Estimate(
        "ok",
        model.category,
        scaled,
        "metre" if unit != 1.0 else "object",
        Viewpoint.from_pose(scaled),
        _box_of(mesh, pose, camera),
        float(refined.score[0]),
        None,
        _distinct_modes(poses, refined, unit),
        camera,
        lens.source,
        dict(seconds),
        warnings,
        mesh=mesh.with_vertices(mesh.vertices * unit),
        maps=Maps(
            trial.cells.features.numpy(),
            _score_map(model, trial),
            trial.crop,
            trial.pixels,
            trial.cells.trunk,
        ),
        shape=_shape(model, trial, unit),
    )
    return _judged(model, estimate, reliability(model, lens, trial, config.refine))


def reliability(
    model: CategoryModel, lens: Lens, trial: Trial, config: RefineConfig
) -> dict[str, float]:
    """Return the signals by which the pose of a trial is judged, whatever became of its shape."""
    found = trial.before or trial.refined
    mesh = mesh_of(model, found)
    energy = FusedEnergy(Comparison(trial.cells, mesh, model.texture))
    step = energy.evaluate(found.R[:1], found.t[:1], found.log_zoom[:1])
    prior = np.concatenate([np.zeros(6), stiffness(model, config)])
    if lens.known:
        prior[6] = KNOWN
    drawn = _box_of(mesh, *_in_photo(lens, replace(trial, refined=found), 0))
    cells = int(trial.cells.valid.sum())
    return signals(found, step, prior, cells, trial.crop.box, drawn, trial.cells.gist)


def _judged(model: CategoryModel, estimate: Estimate, seen: dict[str, float]) -> Estimate:
    """Return the estimate with its confidence and status; a refused one is without its pose."""
    c = model.calibration
    estimate = replace(estimate, signals=seen)
    refused = estimate.box is None
    if c is None:
        refused |= model.threshold is not None and estimate.score < model.threshold
    else:
        sure = c.confidence(seen)
        refused |= c.refuses(seen)
        estimate = replace(
            estimate,
            confidence=sure,
            rotation_interval=c.interval(seen),
            status="uncertain" if sure < c.uncertain_below else "ok",
        )
    if not refused:
        return estimate
    return replace(
        estimate,
        status="no_object",
        cam_from_obj=None,
        viewpoint=None,
        box=None,
        rotation_interval=None,
        modes=(),
        mesh=None,
        shape=None,
    )


def tells_focal(model: CategoryModel) -> bool:
    """Return whether a profile of the focal length is wanted: to tell it, or to be calibrated."""
    return model.calibration is None or model.calibration.focal is not None


def with_focal(
    model: CategoryModel, estimate: Estimate, trial: Trial, profile: Profile
) -> Estimate:
    """Return the estimate with its profile, and the interval of the focal length if calibrated."""
    estimate = replace(estimate, profile=profile)
    heat = None if model.calibration is None else model.calibration.focal
    if heat is None or estimate.camera is None:
        return estimate
    f = estimate.camera.fx
    first = trial.before or trial.refined  # fitting the shape may have moved the lens
    moved = float(np.exp(first.log_zoom[0] - trial.refined.log_zoom[0]))
    low, high = (f * moved * float(np.exp(v)) for v in profile.interval(heat))
    return replace(estimate, focal_interval=(min(low, f), max(high, f)))


def _shape(model: CategoryModel, trial: Trial, unit: float) -> Shape | None:
    """Return the fitted shape in units of 1 / ``unit`` object units; None if none was asked for."""
    latent = trial.refined.latent
    if trial.before is None or latent is None:
        return None
    fitted, mean = (
        mesh.with_vertices(mesh.vertices * unit)
        for mesh in (mesh_of(model, trial.refined), mesh_of(model, trial.before))
    )
    width, length, height = fitted.extent.tolist()
    kind: Literal["object", "metre"] = "object" if unit == 1.0 else "metre"
    accepted = bool(latent.any())
    return Shape(latent, fitted, mean, (length, width, height), kind, accepted)


def _score_map(model: CategoryModel, trial: Trial) -> Float[np.ndarray, "h w"]:
    """Return object minus clutter of each cell under the best pose, nan where it is not drawn."""
    refined = trial.refined
    zoom = float(refined.log_zoom[0])
    energy = FusedEnergy(Comparison(trial.cells, mesh_of(model, refined), model.texture))
    return energy.score_map(refined.pose, zoom)


def mesh_of(model: CategoryModel, refined: Refined) -> Mesh:
    """Return the object's mesh in the shape and the proportions of the best pose, object units."""
    factors = torch.from_numpy(np.exp(refined.log_stretch[0]))
    latent = None if refined.latent is None else torch.from_numpy(refined.latent)
    return stretch(model.mesh(latent), factors)


def _in_photo(lens: Lens, trial: Trial, k: int) -> tuple[Pose, Camera]:
    """Return one refined pose in the photo's camera, and that camera.

    Where the camera is unknown so is its principal point (the photo may be cut out of a longer
    one): the object's centre is taken to lie on the ray of the box centre under the assumed camera,
    as labels without K have it (contracts 2). The camera returned draws the mesh where it is seen:
    its focal length carries the zoom, its principal point what is left.
    """
    refined, crop = trial.refined, trial.crop
    pose = Pose(torch.from_numpy(refined.R[k]), torch.from_numpy(refined.t[k]))
    if lens.known:
        return crop.to_photo(pose), lens.camera
    zoom = float(np.exp(refined.log_zoom[k]))
    seen_at = crop.camera.zoom(zoom).project(pose.t)[0]
    ray = crop.camera.unproject(seen_at) @ crop.Q
    centre = lens.camera.project(ray)[0].tolist()
    forward = torch.tensor([0.0, 0.0, float(pose.t.norm())], dtype=torch.float64)
    along = crop.to_photo(Pose(ray_rotation(pose.t) @ pose.R, forward))
    zoomed = lens.camera.zoom(zoom)
    drawn = zoomed.project(along.t)[0].tolist()
    return along, zoomed.shift(centre[0] - drawn[0], centre[1] - drawn[1])


def projected_box(
    model: CategoryModel, lens: Lens, trial: Trial
) -> tuple[float, float, float, float] | None:
    """Return the box of the mesh under a trial's best pose; None where it misses the photo."""
    return _box_of(mesh_of(model, trial.refined), *_in_photo(lens, trial, 0))


def _box_of(mesh: Mesh, pose: Pose, camera: Camera) -> tuple[float, float, float, float] | None:
    """Return the box of the projected mesh, None where it misses the photo."""
    points, in_front = camera.project(pose.apply(mesh.vertices))
    if not bool(in_front.all()):
        return None
    (x0, y0), (x1, y1) = points.amin(0).tolist(), points.amax(0).tolist()
    if x1 <= 0 or y1 <= 0 or x0 >= camera.width or y0 >= camera.height:
        return None
    return (x0, y0, x1, y1)


def _distinct_modes(poses: Sequence[Pose], refined: Refined, unit: float) -> tuple[Mode, ...]:
    """Return the poses the search came to that differ from the best and from one another."""
    kept = [0]
    for k in range(1, len(poses)):
        angles = [float(geodesic_angle(poses[k].R, poses[j].R)) for j in kept]
        if min(angles) > MODE_APART:
            kept.append(k)
    return tuple(
        Mode(Pose(poses[k].R, poses[k].t * unit), float(refined.evidence[k])) for k in kept[1:]
    )
