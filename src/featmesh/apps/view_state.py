"""What the viewer's sliders say, as a pose, a mesh, an energy and colours; no viewer in here.

A state is how the object is seen along the ray to its centre (radians), where that centre is, and
what bends the picture. The energy is the refinement's own,
:class:`featmesh.apps.sight.PoseEnergy`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import angles_from_rotation, ray_rotation, rotation_from_angles
from featmesh.inference.descent import RefineStep
from featmesh.inference.refine import Refined, fit_shape, render_and_compare
from featmesh.inference.result import INVISIBLE, Estimate
from featmesh.inference.scan import Starts
from featmesh.inference.segment import segment
from featmesh.present.masks import STATE_COLOURS, Colour, part_colour
from featmesh.present.overlay import TINT
from featmesh.present.scene import face_parts

from .sight import Poses, Sight

Colouring = Literal["plain", "visible, occluded", "parts"]
COLOURINGS: tuple[Colouring, ...] = get_args(Colouring)
BEHIND = 0.75  # object units between the object's centre and the photo behind it


@dataclass(frozen=True)
class ViewState:
    """Where the object is, how it is turned and what shape it has.

    Attributes:
        azimuth, elevation, theta: radians, along the ray to the object's centre; theta in-plane.
        distance: camera to the object's centre, object units.
        across, down: radians from the axis of the crop to the object's centre, right and down.
        log_zoom: logarithm of the focal length over the virtual camera's.
        log_stretch: logarithms of the object's stretches along its own x, y, z.
        latent: shape code, standard deviations; empty for a model of the mean shape only.
    """

    azimuth: float
    elevation: float
    theta: float
    distance: float
    across: float = 0.0
    down: float = 0.0
    log_zoom: float = 0.0
    log_stretch: tuple[float, ...] = (0.0, 0.0, 0.0)
    latent: tuple[float, ...] = ()


class Group(NamedTuple):
    """The faces of one colour: which vertices they use, and their corners among those."""

    colour: Colour
    vertices: Int64[np.ndarray, " m"]
    faces: Int64[np.ndarray, "f 3"]


@dataclass(frozen=True)
class Shown:
    """A state as it is seen and judged.

    Attributes:
        vertices: of the object's mesh, object frame and units.
        pose: ``cam_from_obj`` in the camera of the whole photo; None where the object is outside.
        camera: of the whole photo under which pose and mesh are drawn.
        energy: of the pose stage, priors of lens and proportions included; lower is better.
        score: mean of object minus clutter similarity over visible cells.
        visible: share of the covered cells that show the object.
        confidence: probability that the rotation is right, as the model is calibrated; or None.
        estimate: the same as an estimate, for whoever draws it.
    """

    vertices: Float32[np.ndarray, "v 3"]
    pose: Pose | None
    camera: Camera
    energy: float
    score: float
    visible: float
    confidence: float | None
    estimate: Estimate


class Stage:
    """One photo with everything that a state of the sliders can be asked about it.

    Args:
        sight: a close look at the photo.
    """

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        space = sight.model.deformation
        self.latents = 0 if space is None else space.latents
        self.faces = sight.model.template.faces.numpy()
        self.found = self.state_of(Poses.of(sight.trial.refined, 0))

    @cached_property
    def colourings(self) -> tuple[Colouring, ...]:
        """The ways the mesh can be coloured."""
        return COLOURINGS if self.sight.model.labels is not None else COLOURINGS[:2]

    def poses(self, state: ViewState) -> Poses:
        """Return a state as a pose in the virtual camera."""
        ray = torch.tensor([math.tan(state.across), math.tan(state.down), 1.0], dtype=torch.float64)
        ray = ray / ray.norm()
        angles = torch.tensor([state.azimuth, state.elevation, state.theta], dtype=torch.float64)
        Q = self._frame
        R = Q @ ray_rotation(Q.T @ ray).T @ rotation_from_angles(*angles)
        return Poses(
            R.numpy()[None],
            (ray * state.distance).numpy()[None],
            np.array([state.log_zoom]),
            np.array([state.log_stretch]),
        )

    def state_of(self, poses: Poses, latent: Float64[np.ndarray, " k"] | None = None) -> ViewState:
        """Return the first of some poses in the virtual camera as a state."""
        t, Q = torch.from_numpy(poses.t[0]), self._frame
        turned = ray_rotation(Q.T @ t) @ Q.T @ torch.from_numpy(poses.R[0])
        azimuth, elevation, theta = angles_from_rotation(turned).tolist()
        x, y, z = t.tolist()
        shape = np.zeros(self.latents) if latent is None or not len(latent) else latent
        return ViewState(
            azimuth,
            elevation,
            theta,
            float(t.norm()),
            math.atan2(x, z),
            math.atan2(y, z),
            float(poses.log_zoom[0]),
            tuple(poses.log_stretch[0].tolist()),
            tuple(shape.tolist()),
        )

    def show(self, state: ViewState) -> Shown:
        """Return what a state looks like and how well it explains the photo."""
        refined = self._refined(state)
        estimate, model = self.sight.estimate(refined), self.sight.model
        sure = None if model.calibration is None else model.calibration.confidence(estimate.signals)
        shape = model.mesh(self._code(state)).vertices.double().numpy()
        stretched = shape * np.exp(state.log_stretch)
        return Shown(
            stretched.astype(np.float32),
            estimate.cam_from_obj,
            estimate.camera or self.sight.lens.camera,
            float(refined.energy[0]),
            float(refined.score[0]),
            float(refined.visible[0]),
            sure,
            estimate,
        )

    def groups(self, shown: Shown, colouring: Colouring) -> list[Group]:
        """Return the mesh's faces by colour.

        Args:
            shown: whose visible and occluded faces are told apart.
            colouring: of :attr:`colourings`.
        """
        plain: Colour = tuple(round(255 * float(v)) for v in TINT)  # type: ignore[assignment]
        labels = self.sight.model.labels
        of, palette = np.zeros(len(self.faces), dtype=np.uint8), {0: plain}
        if colouring == "parts" and labels is not None:
            of = face_parts(labels, self.sight.model.template)
            palette = {0: STATE_COLOURS[INVISIBLE]}
            palette |= {k: part_colour(k) for k in range(1, len(labels.names) + 1)}
        elif colouring == "visible, occluded" and shown.estimate.has_pose:
            model = replace(self.sight.model, labels=None)  # masks only: quick
            of, palette = segment(model, self.sight.photo, shown.estimate).states, STATE_COLOURS
        return [self._group(palette[int(k)], of == k) for k in np.unique(of)]

    def refine(
        self, state: ViewState, on_step: Callable[[ViewState, float, str], None] | None = None
    ) -> ViewState:
        """Return where render-and-compare comes to from a state, its shape held.

        Args:
            state: where it begins; the proportions begin at the mean, as the method has it.
            on_step: told each step's state, its energy (priors included) and its stage.
        """
        s, begin, model = self.sight, self.poses(state), self.sight.model
        code = self._code(state)
        if code is not None:
            model = replace(model, template=model.mesh(code), deformation=None)
        start = Starts(begin.R, begin.t, begin.log_zoom, np.zeros(1))
        told = self._observer(on_step, state.latent)
        free, cells = not s.lens.known, s.trial.cells
        found = render_and_compare(cells, model, start, free, s.config.refine, told, s.trial.crop)
        return self.state_of(Poses.of(found, 0), np.array(state.latent))

    def fit(
        self, state: ViewState, on_step: Callable[[ViewState, float, str], None] | None = None
    ) -> ViewState:
        """Return the pose and the shape that explain the photo best near a state's pose.

        Its energy is the shape stage's, finer and with outlines: not comparable with the pose's.

        Args:
            state: where it begins; the shape begins at the mean.
            on_step: as for :meth:`refine`.

        Raises:
            CheckpointError: E_CKPT_PART for a model of the mean shape only.
        """
        s = self.sight
        s.model.shape_space("view")
        begin = self._refined(replace(state, latent=(0.0,) * self.latents))
        told, free = self._observer(on_step, None), not s.lens.known
        found = fit_shape(s.trial.cells, s.model, begin, free, s.config.shape, told)
        return self.state_of(Poses.of(found, 0), found.latent)

    def _observer(
        self,
        on_step: Callable[[ViewState, float, str], None] | None,
        latent: tuple[float, ...] | None,
    ) -> Callable[[RefineStep], None] | None:
        if on_step is None:
            return None

        def told(step: RefineStep) -> None:
            code = step.latent[0] if latent is None else np.array(latent)
            on_step(self.state_of(Poses.of(step, 0), code), float(step.energy[0]), step.stage)

        return told

    @property
    def _frame(self) -> torch.Tensor:
        """The rotation from the camera in which angles are told to the virtual one.

        Of an assumed camera they are told along the virtual camera's axis, as the estimate does.
        """
        lens, crop = self.sight.lens, self.sight.trial.crop
        return crop.Q if lens.known else torch.eye(3, dtype=torch.float64)

    def _code(self, state: ViewState) -> torch.Tensor | None:
        return torch.tensor(state.latent) if any(state.latent) else None

    def _refined(self, state: ViewState) -> Refined:
        code = np.array(state.latent) if any(state.latent) else None
        return self.sight.refined_at(self.poses(state), code)

    def _group(self, colour: Colour, which: np.ndarray) -> Group:
        corners = self.faces[which]
        vertices, faces = np.unique(corners, return_inverse=True)
        return Group(colour, vertices, faces.reshape(corners.shape))


class Backdrop(NamedTuple):
    """The photo as a rectangle behind the object, facing the camera at the origin.

    Attributes:
        centre: of the rectangle, camera axes.
        width, height: unit of the pose.
        corners: top left, top right, bottom right, bottom left.
    """

    centre: tuple[float, float, float]
    width: float
    height: float
    corners: Float64[np.ndarray, "4 3"]


def backdrop(shown: Shown) -> Backdrop:
    """Return where the photo stands so that every pixel lies on its own ray."""
    camera = shown.camera
    depth = BEHIND + (1.0 if shown.pose is None else float(shown.pose.t[2]))
    w, h = float(camera.width), float(camera.height)
    pixels = torch.tensor([[0, 0], [w, 0], [w, h], [0, h], [w / 2, h / 2]], dtype=torch.float64)
    places = (camera.unproject(pixels) * depth).numpy()
    size = (w / camera.fx * depth, h / camera.fy * depth)
    return Backdrop(tuple(places[4].tolist()), *size, places[:4])
