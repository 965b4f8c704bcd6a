"""What the method answers: the estimate of one object, and the document of one photo.

The same names in Python and in ``result.json`` (contracts 3); radians here, degrees in the file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8
from torch import Tensor

from featmesh.errors import FeatmeshError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.photo.photo import Photo

from .focal import Profile
from .plain import number, pose_json

SCHEMA = 1
INVISIBLE, VISIBLE, OCCLUDED = 0, 1, 2  # states of a face
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
        trunk: the trunk's maps of these pixels, for other heads; nothing where they were not kept.
    """

    features: Float[np.ndarray, "h w c"]
    score: Float[np.ndarray, "h w"]
    crop: Crop
    pixels: UInt8[np.ndarray, "y x 3"]
    trunk: tuple[Tensor, ...] = ()


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
class Segmentation:
    """What each pixel of the photo shows, and which part of the object is seen.

    Attributes:
        amodal: the whole object, hidden pixels too.
        visible: pixels in which it is seen.
        face_id: face drawn at each pixel, -1 where there is none.
        bary: where in the face, rows of the amodal pixels in reading order.
        depth: z in the camera of the photo, unit of t; inf where nothing is drawn.
        parts: number of the part at each pixel, hidden ones too; 0 none, k ``names[k - 1]``; None
            for a model without labels. Those of the surface where the labels have no evidence,
            else what drawing and pixels say together, which may reach over the drawn outline.
        names: of the parts.
        states: of each face: 0 invisible (turned away, hidden by the object itself or outside the
            photo), 1 visible, 2 occluded.
        shares: visible share of each part's drawn pixels, parts that are drawn only.
        seen_parts: number of the part that is seen at each pixel, 0 also where it is hidden.
        rendered_parts: the labels of the surface as drawn, hidden ones too, evidence or not.
    """

    amodal: Bool[np.ndarray, "h w"]
    visible: Bool[np.ndarray, "h w"]
    face_id: Int32[np.ndarray, "h w"]
    bary: Float32[np.ndarray, "n 3"]
    depth: Float32[np.ndarray, "h w"]
    parts: UInt8[np.ndarray, "h w"] | None
    names: tuple[str, ...]
    states: UInt8[np.ndarray, " f"]
    shares: dict[str, float]
    seen_parts: UInt8[np.ndarray, "h w"] | None = None
    rendered_parts: UInt8[np.ndarray, "h w"] | None = None

    @property
    def occluded(self) -> Bool[np.ndarray, "h w"]:
        """Pixels in which something else hides the object."""
        return self.amodal & ~self.visible

    def attributes(self, mesh: Mesh, values: Float32[np.ndarray, "v c"]) -> np.ndarray:
        """Return values of the mesh's vertices at the amodal pixels, in reading order (n, c)."""
        corners = mesh.faces.numpy()[self.face_id[self.amodal]]
        return np.einsum("nk,nkc->nc", self.bary, values[corners])

    def surface(self, mesh: Mesh) -> Float32[np.ndarray, "h w 3"]:
        """Return where on the object each pixel lies: its own axes, centre .5, unit the diagonal.

        0 where nothing is drawn. The normalised coordinates of NOCS (Wang et al. 2019), in the
        object frame of featmesh.

        Args:
            mesh: the estimate's.
        """
        vertices = mesh.vertices.numpy()
        low, high = vertices.min(0), vertices.max(0)
        scaled = (vertices - (low + high) / 2) / np.linalg.norm(high - low) + 0.5
        out = np.zeros((*self.amodal.shape, 3), np.float32)
        out[self.amodal] = self.attributes(mesh, scaled.astype(np.float32))
        return out


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
        confidence: probability that the rotation is less than 30 degrees off; 0 where nothing is;
            None for a model that is not calibrated.
        rotation_interval: rotation error, radians, that 90 % of such estimates stay below; None
            where there is no pose or the model is not calibrated.
        focal_interval: between which focal lengths, pixels of the photo (fx of ``camera``), 90 % of
            the true ones lie; t and distance are as uncertain, in proportion. None where the camera
            is known, where there is no pose, or the model is not calibrated for it.
        profile: what that interval is made of; None where none was asked for.
        signals: what the confidence is made of (:mod:`featmesh.inference.confidence`).
        modes: the other poses the search came to, best first.
        camera: the camera the pose belongs to (photo pixels).
        camera_source: ``given``, ``exif`` or ``assumed``.
        seconds: time of each stage.
        warnings: what the reader of the result should know.
        code: error code of a bad input.
        message: text of a bad input.
        mesh: the mesh drawn at the pose, object frame, in the unit of t.
        shape: the object's own shape, tasks ``shape`` and ``segment`` only.
        segmentation: what each pixel of the photo shows, task ``segment`` only.
        maps: what the estimate looked at, for pictures.
        margin: by how much the category explains the object better than the best of ``rivals``;
            None where no other was tried.
        rivals: the other categories tried, each with how well it explains the object; best first.
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
    segmentation: Segmentation | None = None
    rotation_interval: float | None = None
    signals: dict[str, float] = field(default_factory=dict)
    margin: float | None = None
    rivals: tuple[tuple[str, float], ...] = ()
    focal_interval: tuple[float, float] | None = None
    profile: Profile | None = None

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
        width = self.rotation_interval
        row["rotation_interval"] = number(None if width is None else math.degrees(width), 2)
        lens = self.focal_interval
        row["focal_interval"] = None if lens is None else [number(f, 1) for f in lens]
        row["modes"] = [
            pose_json(mode.cam_from_obj, self.t_unit) | {"score": number(mode.score, 6)}
            for mode in self.modes
        ]
        if self.shape is not None:
            row["shape"] = self.shape.to_json()
        if self.rivals:
            row["margin"] = number(self.margin, 4)
            row["rivals"] = [{"category": c, "score": number(v, 4)} for c, v in self.rivals]
        return row


@dataclass(frozen=True)
class Posed:
    """What can be drawn of an estimate that has a pose; attributes as of :class:`Estimate`."""

    pose: Pose
    mesh: Mesh
    camera: Camera
    maps: Maps


def posed(estimate: Estimate, who: str) -> Posed:
    """Return what can be drawn of an estimate.

    Args:
        estimate: with a pose.
        who: asks, for the message.

    Raises:
        InputError: E_POSE where it has none.
    """
    pose, mesh, maps = estimate.cam_from_obj, estimate.mesh, estimate.maps
    camera = estimate.camera
    if pose is None or mesh is None or camera is None or maps is None:
        raise InputError(
            "E_POSE",
            f"{who}: expected an estimate with a pose, got status {estimate.status!r}; "
            "try: only estimates whose has_pose is true",
        )
    return Posed(pose, mesh, camera, maps)


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
