"""What is said about an object in a photo: status, pose, score, other modes (last step).

The same names in Python and in ``result.json`` (contracts 3); radians here, degrees in the file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from featmesh.errors import FeatmeshError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.template import stretch
from featmesh.geometry.viewpoint import Viewpoint, ray_rotation
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.photo.photo import Photo

from .config import EstimateConfig
from .energy import Comparison
from .energy_numba import FusedEnergy
from .plain import number, pose_json
from .refine import Refined

SCHEMA = 1
MODE_APART = math.radians(25)  # two poses closer than this are one answer
Status = Literal["ok", "uncertain", "no_object", "bad_input"]


@dataclass(frozen=True)
class Mode:
    """One pose the search came to, and its score.

    Attributes:
        cam_from_obj: pose in the camera of the whole photo.
        score: mean over visible pixels of object minus clutter similarity.
    """

    cam_from_obj: Pose
    score: float


@dataclass(frozen=True)
class Maps:
    """What the estimate looked at: the crop seen by the virtual camera, and its feature cells.

    Attributes:
        features: unit rows, one a cell.
        score: object minus clutter similarity of each cell under the final pose, nan outside it.
        crop: where the crop lies in the photo.
        pixels: the crop, RGB.
    """

    features: Float[np.ndarray, "h w c"]
    score: Float[np.ndarray, "h w"]
    crop: Crop
    pixels: UInt8[np.ndarray, "y x 3"]


@dataclass(frozen=True)
class Shape:
    """The object's own 3D shape.

    Attributes:
        latent: code of the shape, standard deviations of the category's shape space.
        mesh: fitted mesh, object frame, in the estimate's unit.
        mean: mesh before the fit: the category's mean shape in the proportions of the pose stage.
        dimensions: length (y), width (x), height (z) of the fitted mesh, in the same unit.
        unit: ``metre`` only where camera and real size are known.
        accepted: whether fitting it made the energy fall; no: the mesh is the mean.
    """

    latent: Float[np.ndarray, " d"]
    mesh: Mesh
    mean: Mesh
    dimensions: tuple[float, float, float]
    unit: Literal["object", "metre"]
    accepted: bool

    def to_json(self) -> dict[str, Any]:
        """Return the ``shape`` of an object in ``result.json``."""
        named = zip(("length", "width", "height"), self.dimensions, strict=True)
        return {
            "latent": [number(float(v), 5) for v in self.latent],
            "dimensions": {name: number(value, 5) for name, value in named},
            "unit": self.unit,
            "accepted": self.accepted,
        }


@dataclass(frozen=True)
class Estimate:
    """One object of one photo: how sure, where, how turned.

    Attributes:
        status: ``ok``; ``uncertain`` (a pose, not to be relied on); ``no_object`` (none found);
            ``bad_input`` (``code`` and ``message`` say why).
        category: what was looked for.
        cam_from_obj: pose in the camera of the whole photo, or None.
        t_unit: unit of t; metre only where camera and real size are known.
        viewpoint: how the object is seen along the ray to t, radians.
        box: of the projected mesh, (x0, y0, x1, y1), photo pixels; may reach over the photo.
        score: mean over visible pixels of object minus clutter similarity; nan where no pose.
        confidence: probability that the pose is right, None until it is calibrated.
        modes: the other poses the search came to, best first.
        camera: the camera the pose belongs to (photo pixels).
        camera_source: ``given``, ``exif`` or ``assumed``.
        seconds: time of each stage.
        warnings: what the reader of the result should know.
        code: error code of a bad input.
        message: text of a bad input.
        mesh: the mesh drawn at the pose, object frame, in the unit of t.
        shape: the object's own shape, task ``shape`` only.
        maps: what the estimate looked at, for pictures.
    """

    status: Status
    category: str
    cam_from_obj: Pose | None = None
    t_unit: Literal["object", "metre"] = "object"
    viewpoint: Viewpoint | None = None
    box: tuple[float, float, float, float] | None = None
    score: float = math.nan
    confidence: float | None = None
    modes: tuple[Mode, ...] = ()
    camera: Camera | None = None
    camera_source: str = "assumed"
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
    mesh: Mesh | None = None
    maps: Maps | None = None
    shape: Shape | None = None

    @classmethod
    def refused(cls, category: str, error: FeatmeshError) -> "Estimate":
        """Return the estimate of an input that could not be used: no pose, and why."""
        return cls("bad_input", category, code=error.code, message=str(error))

    @property
    def converged(self) -> bool:
        """Whether the pose can be relied on: the status is ``ok``."""
        return self.status == "ok"

    @property
    def has_pose(self) -> bool:
        """Whether there is a pose that is meant to be seen: found, and not refused."""
        return self.cam_from_obj is not None and self.status in ("ok", "uncertain")

    def to_json(self) -> dict[str, Any]:
        """Return the object's record of ``result.json``: plain values, degrees, null if unknown."""
        row: dict[str, Any] = {"status": self.status, "category": self.category}
        if self.code is not None:
            row |= {"code": self.code, "message": self.message}
        row |= pose_json(self.cam_from_obj, self.t_unit, self.viewpoint)
        row["box"] = None if self.box is None else [number(v, 2) for v in self.box]
        row |= {"score": number(self.score, 6), "confidence": number(self.confidence, 4)}
        row["modes"] = [
            pose_json(mode.cam_from_obj, self.t_unit) | {"score": number(mode.score, 6)}
            for mode in self.modes
        ]
        if self.shape is not None:
            row["shape"] = self.shape.to_json()
        return row


@dataclass(frozen=True)
class Lens:
    """The camera of the whole photo and where it comes from."""

    camera: Camera
    source: str

    @property
    def known(self) -> bool:
        """Whether the focal length is known rather than assumed."""
        return self.source != "assumed"


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
    score = float(refined.score[0])
    estimate = Estimate(
        "ok",
        model.category,
        scaled,
        "metre" if unit != 1.0 else "object",
        Viewpoint.from_pose(scaled),
        _box_of(mesh, pose, camera),
        score,
        None,
        _distinct_modes(poses, refined, unit),
        camera,
        lens.source,
        dict(seconds),
        warnings,
        mesh=mesh.with_vertices(mesh.vertices * unit),
        maps=Maps(trial.cells.features.numpy(), _score_map(model, trial), trial.crop, trial.pixels),
        shape=_shape(model, trial, unit),
    )
    if estimate.box is None or (model.threshold is not None and score < model.threshold):
        return replace(
            estimate,
            status="no_object",
            cam_from_obj=None,
            viewpoint=None,
            box=None,
            modes=(),
            mesh=None,
            shape=None,
        )
    return estimate


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


def result_json(
    photo_path: str | Path,
    photo: Photo | None,
    model_name: str,
    model_hash: str | None,
    estimates: Sequence[Estimate],
) -> dict[str, Any]:
    """Return the whole ``result.json`` of a photo (contracts 3, schema 1).

    Args:
        photo_path: as the user gave it.
        photo: None where it could not be read; width and height are then null.
        model_name: name or folder name of the model.
        model_hash: None where no model was loaded.
        estimates: one an object.
    """
    seconds: dict[str, float] = {}
    for estimate in estimates:
        for stage, spent in estimate.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    told = [*(photo.warnings if photo else ()), *(w for e in estimates for w in e.warnings)]
    return {
        "schema": SCHEMA,
        "photo": str(photo_path),
        "width": photo.width if photo else None,
        "height": photo.height if photo else None,
        "model": {"name": model_name, "hash": model_hash},
        "camera": _camera_json(photo, estimates),
        "seconds": {stage: number(spent, 4) for stage, spent in seconds.items()},
        "warnings": list(dict.fromkeys(told)),
        "objects": [estimate.to_json() for estimate in estimates],
    }


def _camera_json(photo: Photo | None, estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return K and its source: of the first estimate that has a camera, else the photo's."""
    used = next((e for e in estimates if e.camera is not None), None)
    camera = used.camera if used else photo.camera if photo else None
    source = used.camera_source if used else photo.camera_source if photo else None
    if camera is None:
        return {"K": None, "source": source}
    return {"K": [[number(v, 4) for v in row] for row in camera.K.tolist()], "source": source}
