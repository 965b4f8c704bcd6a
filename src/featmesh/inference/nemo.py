"""NeMo's published search, for the crops of PASCAL3D+ and its relatives (spec 2.10).

The network sees the crop as it is; the object's centre lies on the optical axis. 144 poses at
distance 5 are rendered, and Adam moves the camera's position and theta from the best one: the
camera goes on looking at the object's centre, the surface is rigid. What the steps end on is the
answer, be it better than the start or not; only into the object the camera does not go. Unlike
:mod:`featmesh.inference.estimator`: no box, no scale, no second start, no refusal.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, Crop
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.photo.photo import Photo
from featmesh.stopwatch import Stopwatch

from .config import EstimateConfig
from .descent import BETAS, NEAREST, RefineStep
from .describe import Trial, describe
from .energy import Comparison
from .energy_numba import FusedEnergy, Step
from .estimator import lens_of
from .presets import NemoConfig
from .refine import Refined
from .result import Estimate
from .scan import rotation_grid

STAGE = "nemo-adam"
POLE = 1e-9  # object units from the axis: there azimuth is none


def estimate_crop(
    model: CategoryModel,
    photo: Photo,
    box: Box | None = None,
    camera: Camera | None = None,
    config: NemoConfig | None = None,
    on_step: Callable[[RefineStep], None] | None = None,
) -> Estimate:
    """Return the pose NeMo's search finds in a benchmark's crop (``data convert --crops``).

    A pose is always given: neither threshold nor confidence is looked at.

    Args:
        model: category model; its template in the unit of the crop's distances.
        photo: the crop; its sides are multiples of the stride.
        box: not looked at; the crop is all there is to see.
        camera: of the crop; its principal point is where the object's centre is known to lie.
        config: poses, rate, steps.
        on_step: told every step.

    Raises:
        InputError: E_CAMERA without a camera; E_SHAPE for a photo of another size.
    """
    config = config or NemoConfig()
    lens = lens_of(photo, camera, "pose")
    if not lens.known:
        raise InputError(
            "E_CAMERA",
            "estimate_crop(): expected the camera of a benchmark's crop, got none; "
            "try: featmesh data convert NAME DIR --crops, or the usual search",
        )
    clock = Stopwatch()
    with clock("features"):
        inside = np.ones((photo.height, photo.width), dtype=bool)
        cells = model.extract(photo.pixels, inside, lens.camera)
    energy = FusedEnergy(Comparison(cells, model.mesh(), model.texture))
    with clock("scan"):
        start = best_start(energy, config)
    with clock("refine"):
        found = descend(energy, start, config, on_step)
    crop = Crop(lens.camera, lens.camera, torch.eye(3, dtype=torch.float64), photo.whole)
    bare = replace(model, calibration=None, threshold=None)
    trial = Trial(crop, photo.pixels, cells, found)
    return describe(bare, photo, lens, trial, EstimateConfig(), clock.seconds, ())


def starts(config: NemoConfig) -> tuple[Float64[np.ndarray, "n 3 3"], Float64[np.ndarray, "n 3"]]:
    """Return rotations and translations of the rendered poses."""
    R = rotation_grid(config.azimuths, config.elevations, config.thetas)
    return R, np.tile([0.0, 0.0, config.distance], (len(R), 1))


def best_start(energy: FusedEnergy, config: NemoConfig) -> Pose:
    """Return the rendered pose of the lowest energy."""
    R, t = starts(config)
    k = int(energy.evaluate(R, t).energy.argmin())
    return Pose(torch.from_numpy(R[k]), torch.from_numpy(t[k]))


def descend(
    energy: FusedEnergy,
    start: Pose,
    config: NemoConfig,
    on_step: Callable[[RefineStep], None] | None = None,
) -> Refined:
    """Return where Adam comes to from a pose whose t is (0, 0, distance).

    Args:
        energy: of the crop.
        start: where the camera begins.
        config: rate and steps.
        on_step: told every step and, last, what they ended on.
    """
    view = Viewpoint.from_pose(start)
    # gradients are handed to them: nothing is recorded
    position, theta = -start.R.T @ start.t, torch.tensor(view.theta, dtype=torch.float64)
    adam = torch.optim.Adam([position, theta], config.lr, BETAS)
    drops = [round(share * config.steps) for share in config.drops]
    rate = torch.optim.lr_scheduler.MultiStepLR(adam, drops, 0.2)
    for k in range(config.steps + 1):
        pose = looking(position.numpy(), float(theta))
        step = energy.evaluate(pose.R.numpy()[None], pose.t.numpy()[None])
        if on_step is not None:
            on_step(_told(k, pose, step))
        if k < config.steps:
            slope = own_gradient(position.numpy(), float(theta), step.gradient[0])
            position.grad, theta.grad = torch.from_numpy(slope[:3]), torch.tensor(slope[3])
            adam.step()
            rate.step()
            position *= max(1.0, NEAREST / float(position.norm()))
    visible = step.visible / np.maximum(step.covered, 1)
    where = (pose.R.numpy()[None], pose.t.numpy()[None], np.zeros(1), np.zeros((1, 3)))
    return Refined(*where, step.energy, step.score, step.evidence, visible)


def loss(energy: Float64[np.ndarray, " n"], cells: FeatureMap) -> Float64[np.ndarray, " n"]:
    """Return NeMo's loss, 1 - (mean max(s, c) - mean c), of energies in form ``cosine``.

    Args:
        energy: by which our energy says the same, up to a constant of the crop.
        cells: of the crop, all of them valid.
    """
    c = cells.clutter.double()
    return energy + float(1 + (c - c.clamp_min(0)).mean())


def looking(position: Float64[np.ndarray, " 3"], theta: float) -> Pose:
    """Return the pose of a camera at a position (object axes) that looks at the object's centre."""
    x, y, z = position.tolist()
    distance = math.sqrt(x * x + y * y + z * z)
    elevation = math.asin(max(-1.0, min(1.0, z / distance)))
    return Viewpoint(math.atan2(x, -y), elevation, theta, distance).to_pose()


def own_gradient(
    position: Float64[np.ndarray, " 3"], theta: float, gradient: Float64[np.ndarray, " p"]
) -> Float64[np.ndarray, " 4"]:
    """Return the gradient in position and theta of one in rotation vector and translation.

    Args:
        position: of the camera, object axes.
        theta: radians.
        gradient: as :class:`featmesh.inference.energy_numba.Step` has it; the first 6 are used.
    """
    R, (x, y, z) = looking(position, theta).R.numpy(), position.tolist()
    turn, away = gradient[:3], float(gradient[5])
    axis, distance = max(math.hypot(x, y), POLE), math.sqrt(x * x + y * y + z * z)
    # what azimuth and elevation turn about, in camera axes
    azimuth = -float(R[:, 2] @ turn)
    elevation = float(turn[0] * math.cos(theta) - turn[1] * math.sin(theta))
    by_azimuth = np.array([-y, x, 0.0]) / axis**2
    by_elevation = np.array([-x * z / axis, -y * z / axis, axis]) / distance**2
    moved = azimuth * by_azimuth + elevation * by_elevation + away * position / distance
    return np.array([*moved, -turn[2]])


def _told(k: int, pose: Pose, step: Step) -> RefineStep:
    where = (pose.R.numpy()[None], pose.t.numpy()[None])
    return RefineStep(
        k, STAGE, *where, np.zeros(1), np.zeros((1, 3)), np.zeros((1, 0)), step.energy.copy()
    )
