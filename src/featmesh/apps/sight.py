"""One look at a photo that keeps what the pose was judged by, for pages that show the energy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, check_box
from featmesh.inference.config import EstimateConfig, RefineConfig, guessed
from featmesh.inference.descent import POLISH, RefineStep
from featmesh.inference.describe import Lens, Trial, describe
from featmesh.inference.energy_kernels import POSE
from featmesh.inference.energy_numba import Step
from featmesh.inference.estimator import find_box, lens_of, look
from featmesh.inference.refine import Refined, pose_energy
from featmesh.inference.result import Estimate
from featmesh.inference.surface import MovingSurface
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.stopwatch import Stopwatch

from .photos import Request, camera_of

BENT = 4  # log zoom and three log stretches, each held by a prior


@dataclass(frozen=True)
class Poses:
    """Poses in the virtual camera, and what bends the picture.

    Attributes:
        R, t: rotations and translations, object units.
        log_zoom: logarithm of the focal length over the virtual camera's.
        log_stretch: logarithms of the object's stretches along its own x, y, z.
    """

    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
    log_stretch: Float64[np.ndarray, "n 3"]

    @classmethod
    def of(cls, step: RefineStep | Refined, row: int) -> "Poses":
        """Return one pose of a step of the refinement, or of its result."""
        one = slice(row, row + 1)
        return cls(*(getattr(step, name)[one].copy() for name in cls.__annotations__))

    def pick(self, index: np.ndarray | slice) -> "Poses":
        """Return some of the poses."""
        return Poses(*(values[index] for values in vars(self).values()))

    def choose(self, which: np.ndarray, other: "Poses") -> "Poses":
        """Return these poses, those of ``other`` where ``which`` (n,) says so."""
        rows = {
            name: np.where(which.reshape(-1, *[1] * (mine.ndim - 1)), getattr(other, name), mine)
            for name, mine in vars(self).items()
        }
        return Poses(**rows)


class PoseEnergy:
    """The very energy that the pose stage descends on, priors included.

    Args:
        cells: what the network sees.
        model: mesh, texture, priors of the proportions.
        config: of the refinement.
    """

    def __init__(self, cells: FeatureMap, model: CategoryModel, config: RefineConfig) -> None:
        self._energy, self.stiffness = pose_energy(cells, model, config)
        self._surface = MovingSurface(model, True)

    def evaluate(self, poses: Poses, latent: Float64[np.ndarray, "n k"] | None = None) -> Step:
        """Return energy, gradient and curvature in the kernel's own parameters, with the priors.

        Args:
            poses: in the virtual camera.
            latent: shape codes; None: the mean shape, the pose stage's own.
        """
        surface = None if latent is None else self._surface.exact(latent)
        where = (poses.R, poses.t, poses.log_zoom, poses.log_stretch)
        step = self._energy.evaluate(*where, surface)
        bend = np.concatenate([poses.log_zoom[:, None], poses.log_stretch], 1)
        gradient, curvature = step.gradient.copy(), step.curvature.copy()
        held = range(POSE - BENT, POSE)
        gradient[:, held] += self.stiffness * bend
        curvature[:, held, held] += self.stiffness
        energy = step.energy + 0.5 * (self.stiffness * bend**2).sum(1)
        return replace(step, energy=energy, gradient=gradient, curvature=curvature)


@dataclass(frozen=True)
class Way:
    """The steps that led from a start to the pose found.

    Attributes:
        poses: one a step that was taken.
        energy: of each, priors included.
        stages: of each: ``adam``, ``descent`` or ``polish``.
    """

    poses: Poses
    energy: Float64[np.ndarray, " k"]
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Sight:
    """What a close look at a photo leaves in hand.

    Attributes:
        model: category model.
        photo: as displayed.
        lens: camera of the whole photo.
        box: that was looked at, photo pixels.
        config: settings of the method.
        trial: crop, feature map and the poses found.
        energy: by which poses are judged.
        steps: of the refinement, all starts.
        seconds: spent in each stage.
    """

    model: CategoryModel
    photo: Photo
    lens: Lens
    box: Box
    config: EstimateConfig
    trial: Trial
    energy: PoseEnergy
    steps: tuple[RefineStep, ...]
    seconds: dict[str, float]

    @property
    def path(self) -> Way:
        """How the pose found was come to."""
        return path_to(Poses.of(self.trial.refined, 0), self.steps)

    def refined_at(self, poses: Poses, latent: Float64[np.ndarray, " k"] | None = None) -> Refined:
        """Return poses as the refinement would return them, in the order given.

        Args:
            poses: in the virtual camera.
            latent: shape code of all of them; None: the mean shape.
        """
        codes = None if latent is None else np.repeat(latent[None], len(poses.R), 0)
        step = self.energy.evaluate(poses, codes)
        visible = step.visible / np.maximum(step.covered, 1)
        return Refined(
            poses.R,
            poses.t,
            poses.log_zoom,
            poses.log_stretch,
            step.energy,
            step.score,
            step.evidence,
            visible,
            latent,
        )

    def estimate(self, refined: Refined | None = None) -> Estimate:
        """Return what is said about a pose in the photo; it keeps its pose however unlikely it is.

        Args:
            refined: the pose, in its first row; None for the one found.
        """
        trial = self.trial if refined is None else replace(self.trial, refined=refined)
        model = replace(self.model, calibration=None, threshold=None)
        return describe(model, self.photo, self.lens, trial, self.config, self.seconds, ())


def look_closely(
    model: CategoryModel,
    photo: Photo,
    box: Box | None = None,
    camera: Camera | None = None,
    config: EstimateConfig | None = None,
) -> Sight:
    """Return what :func:`featmesh.estimate` sees and does for the pose, with all that it rests on.

    Of several ``config.aspects`` the first one is taken.

    Args:
        model: category model.
        photo: as displayed.
        box: (x0, y0, x1, y1) around the object, photo pixels; None to find it.
        camera: of the whole photo; None takes the photo's own, or else assumes one.
        config: settings of the method.

    Raises:
        InputError: E_BOX, E_CAMERA.
    """
    config = config or EstimateConfig()
    clock, lens = Stopwatch(), lens_of(photo, camera, "pose")
    lens = lens if lens.known else lens.squeezed(config.aspects[0])
    if box is None:
        box, config = find_box(model, photo, lens, config, clock), guessed(config)
    else:
        box, _ = check_box(box, photo.height, photo.width)
    steps: list[RefineStep] = []
    trial = look(model, photo, lens, box, config, clock, steps.append)
    energy = PoseEnergy(trial.cells, model, config.refine)
    return Sight(model, photo, lens, box, config, trial, energy, tuple(steps), dict(clock.seconds))


def sight_of_file(
    model: CategoryModel,
    path: Path,
    box: Box | None,
    focal_px: float | None,
    config: EstimateConfig,
) -> Sight:
    """Return a close look at a photo's file.

    Args:
        model: category model.
        path: of the photo.
        box: around the object, photo pixels; None to find it.
        focal_px: focal length in pixels, where it is known.
        config: settings of the method.

    Raises:
        InputError: as :func:`featmesh.read_photo` and :func:`look_closely`.
    """
    photo = read_photo(path)
    camera = camera_of(Request(focal_px=focal_px), photo)
    return look_closely(model, photo, box, camera, config)


def path_to(pose: Poses, steps: Sequence[RefineStep]) -> Way:
    """Return the steps that led to a pose: its start, the optimiser's, the polish's that were kept.

    Args:
        pose: one that the steps hold.
        steps: of one refinement; rows are dropped on the way, so a row is followed back to the
            nearest one where their number changes.

    Raises:
        InputError: E_POSE where no step holds the pose.
    """
    chain: list[tuple[int, int]] = []
    k, row = _last(pose, steps, len(steps))
    if steps[k].stage == POLISH:
        first = next(i for i, step in enumerate(steps) if step.stage == POLISH)
        best = np.inf
        for i in range(first, k + 1):
            if steps[i].energy[row] < best:
                best = steps[i].energy[row]
                chain.append((i, row))
        chain = chain[1:]  # the first is where the optimiser was at its best
        k, row = _last(Poses.of(steps[first], row), steps, first)
    back = [(k, row)]
    for i in range(k - 1, -1, -1):
        if len(steps[i].R) != len(steps[i + 1].R):
            row = _nearest(steps[i + 1], row, steps[i])
        back.append((i, row))
    chain = back[::-1] + chain
    found = [Poses.of(steps[i], j) for i, j in chain]
    rows = [
        np.concatenate(values) for values in zip(*(vars(p).values() for p in found), strict=True)
    ]
    energy = np.array([steps[i].energy[j] for i, j in chain])
    return Way(Poses(*rows), energy, tuple(steps[i].stage for i, _ in chain))


def _last(pose: Poses, steps: Sequence[RefineStep], end: int) -> tuple[int, int]:
    """Return the last step before ``end`` that holds a pose, and the pose's row."""
    for k in range(end - 1, -1, -1):
        same = (steps[k].R == pose.R).all((1, 2)) & (steps[k].t == pose.t).all(1)
        if same.any():
            return k, int(same.argmax())
    raise InputError(
        "E_POSE",
        "path_to(): expected a pose of the steps, got another; try: Refined of those steps",
    )


def _nearest(step: RefineStep, row: int, before: RefineStep) -> int:
    """Return the row of ``before`` that one of ``step`` came from."""
    turned = ((before.R - step.R[row]) ** 2).sum((1, 2))
    return int(np.argmin(turned + ((before.t - step.t[row]) ** 2).sum(1)))
