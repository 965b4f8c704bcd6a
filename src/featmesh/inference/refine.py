"""Render-and-compare: poses descend until the rendered features explain the photo.

All starts advance together; after a third the best few go on, and Levenberg-Marquardt settles the
last digits. Steps are in radians and fifths of the distance (NeMo's camera stands at distance 5),
so that near and far objects need the same rate. Beside the pose go what is not of interest but
would bend it: the focal length where it is unknown, and the object's proportions (stretches along
its own axes), both held by a prior. Adam as NeMo (spec 2.10), pruning, polish and proportions ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64

from featmesh.geometry.pose import Pose, so3_exp
from featmesh.model.category import CategoryModel, FeatureMap

from .config import RefineConfig
from .energy import Comparison
from .energy_numba import FusedEnergy, Step
from .scan import Starts

BETAS = (0.4, 0.6)  # NeMo's: short memory, long steps; they leave shallow basins
SHIFT = 0.2  # a translation of 1 is a fifth of the distance
NEAREST = 0.55  # object units: no camera inside the object
LONGEST = 0.2  # of one step, in each parameter
DESCENT = 20.0  # plain descent: energies are means over cells, a slope of .05 is steep
BENDS = (np.array([-2.5, -0.5, -0.5, -0.5]), np.array([3.5, 0.5, 0.5, 0.5]))  # limits


@dataclass(frozen=True)
class RefineStep:
    """What an observer is told: all poses of one step.

    Attributes:
        step: 0, 1, ... over the optimiser and the polish.
        stage: ``adam``, ``descent`` or ``polish``.
        R, t: the poses.
        log_zoom: logarithm of the focal length over the virtual camera's.
        log_stretch: logarithms of the object's stretches along its own x, y, z.
        energy: of each, priors included.
    """

    step: int
    stage: str
    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
    log_stretch: Float64[np.ndarray, "n 3"]
    energy: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class Refined:
    """Where the starts came to, lowest energy first; every start has its row.

    Attributes:
        R, t: poses in the virtual camera.
        log_zoom: logarithm of the focal length over the virtual camera's.
        log_stretch: logarithms of the object's stretches along its own x, y, z.
        energy: lower is better, see :mod:`featmesh.inference.energy`; priors included.
        score: mean of s - c over visible cells.
        evidence: mean of max(s - c, 0) over all covered cells.
        visible: share of the covered cells that are visible.
    """

    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
    log_stretch: Float64[np.ndarray, "n 3"]
    energy: Float64[np.ndarray, " n"]
    score: Float64[np.ndarray, " n"]
    evidence: Float64[np.ndarray, " n"]
    visible: Float64[np.ndarray, " n"]

    @property
    def pose(self) -> Pose:
        """The best pose in the virtual camera."""
        return Pose(torch.from_numpy(self.R[0]), torch.from_numpy(self.t[0]))


@dataclass
class _State:
    """Poses on their way; ``bend`` is log zoom and log stretch, ``home`` where its prior is."""

    R: np.ndarray
    t: np.ndarray
    bend: np.ndarray
    home: np.ndarray
    energy: np.ndarray

    def pick(self, index: np.ndarray) -> "_State":
        return _State(*(a[index] for a in vars(self).values()))

    def put(self, index: np.ndarray, other: "_State") -> None:
        for name, values in vars(other).items():
            getattr(self, name)[index] = values


def render_and_compare(
    feature_map: FeatureMap,
    model: CategoryModel,
    start: Starts,
    free_zoom: bool = False,
    config: RefineConfig | None = None,
    on_step: Callable[[RefineStep], None] | None = None,
) -> Refined:
    """Return the poses the starts came to: the method itself.

    No start ends on a higher energy than it began with.

    Args:
        feature_map: what the network sees; its camera is the virtual camera in cells.
        model: mesh and texture.
        start: poses to begin with, in the virtual camera.
        free_zoom: whether the focal length is optimised too (camera unknown).
        config: energy, optimiser, schedule.
        on_step: told every step.
    """
    config = config or RefineConfig()
    comparison = Comparison(
        feature_map, model.mesh(), model.texture, config.form, config.background_cost
    )
    problem = _Problem(FusedEnergy(comparison), start, free_zoom, config, on_step)
    best = problem.descend()
    order = np.argsort(best.energy, kind="stable")
    if config.polish:
        chosen = order[: config.keep]
        best.put(chosen, problem.polish(best.pick(chosen)))
        order = np.argsort(best.energy, kind="stable")
    final = best.pick(order)
    zoom, stretch = final.bend[:, 0], final.bend[:, 1:]
    last = problem.energy.evaluate(final.R, final.t, zoom, stretch)
    return Refined(
        final.R,
        final.t,
        zoom,
        stretch,
        final.energy,
        last.score,
        last.evidence,
        last.visible / np.maximum(last.covered, 1),
    )


class _Problem:
    """One energy, its starts, and the two ways down."""

    def __init__(
        self,
        energy: FusedEnergy,
        start: Starts,
        free_zoom: bool,
        config: RefineConfig,
        on_step: Callable[[RefineStep], None] | None,
    ) -> None:
        self.energy, self.config, self.on_step = energy, config, on_step
        self.free = np.array([True] * 6 + [free_zoom] + [config.proportions] * 3)
        sigma = np.array([config.zoom_prior, *config.stretch_prior])
        self.stiffness = config.prior_weight / sigma**2
        self.start = start
        self.count = 0

    def _evaluate(self, s: _State, stage: str) -> Step:
        """Return the step's numbers with the priors added, in scale-free parameters."""
        step = self.energy.evaluate(s.R, s.t, s.bend[:, 0], s.bend[:, 1:])
        off = s.bend - s.home
        energy = step.energy + 0.5 * (self.stiffness * off**2).sum(1)
        gradient, curvature = step.gradient.copy(), step.curvature.copy()
        gradient[:, 6:] += self.stiffness * off
        curvature[:, range(6, 10), range(6, 10)] += self.stiffness
        to_own = _own_parameters(s)
        gradient = np.where(self.free, (gradient[:, None] @ to_own)[:, 0], 0.0)
        curvature = to_own.transpose(0, 2, 1) @ curvature @ to_own
        if self.on_step is not None:
            bend = s.bend.copy()
            here = (s.R.copy(), s.t.copy(), bend[:, 0], bend[:, 1:], energy.copy())
            self.on_step(RefineStep(self.count, stage, *here))
        self.count += 1
        return replace(step, energy=energy, gradient=gradient, curvature=curvature)

    def descend(self) -> _State:
        """Run the optimiser on all starts; return the best pose each has seen."""
        c, n = self.config, len(self.start.R)
        now = self._begin()
        best = now.pick(np.arange(n))
        alive, m, v = np.arange(n), np.zeros((n, 10)), np.zeros((n, 10))
        lr, thirds = c.lr, {c.steps // 3, 2 * c.steps // 3}
        for k in range(c.steps + 1):
            step = self._evaluate(now, c.optimiser)
            now.energy = step.energy
            better = now.energy < best.energy[alive]
            best.put(alive[better], now.pick(better))
            if k == c.steps:
                break
            gradient = step.gradient
            if k + 1 in thirds:
                lr *= 0.2
                if len(alive) > c.keep:
                    order = np.argsort(best.energy[alive], kind="stable")[: c.keep]
                    alive, now, gradient = alive[order], now.pick(order), gradient[order]
                    m, v = m[order], v[order]
            if c.optimiser == "adam":
                m = BETAS[0] * m + (1 - BETAS[0]) * gradient
                v = BETAS[1] * v + (1 - BETAS[1]) * gradient**2
                size = m / (1 - BETAS[0] ** (k + 1))
                move = -lr * size / (np.sqrt(v / (1 - BETAS[1] ** (k + 1))) + 1e-12)
            else:
                move = -lr * DESCENT * gradient
            now = _moved(now, np.clip(move, -LONGEST, LONGEST))
        return best

    def _begin(self) -> _State:
        """Return the starts; the priors hold the lens at the assumed one, the shape at the mean."""
        start, n = self.start, len(self.start.R)
        bend = np.concatenate([start.log_zoom[:, None], np.zeros((n, 3))], 1)
        home = np.zeros((n, 4))
        return _State(start.R.copy(), start.t.copy(), bend, home, np.full(n, np.inf))

    def polish(self, state: _State) -> _State:
        """Levenberg-Marquardt on a few poses; a step is taken only if the energy falls."""
        damping = np.full(len(state.R), 1e-2)
        step = self._evaluate(state, "polish")
        state.energy = step.energy.copy()
        for _ in range(self.config.polish):
            move = np.zeros((len(state.R), 10))
            for i in range(len(state.R)):
                A = step.curvature[i][np.ix_(self.free, self.free)]
                g = step.gradient[i][self.free]
                diagonal = np.diag(A) + 1e-9
                move[i, self.free] = -np.linalg.solve(A + damping[i] * np.diag(diagonal), g)
            tried = _moved(state, np.clip(move, -LONGEST, LONGEST))
            new = self._evaluate(tried, "polish")
            tried.energy = new.energy
            better: Bool[np.ndarray, " n"] = new.energy < state.energy
            state.put(better, tried.pick(better))
            damping = np.where(better, damping * 0.3, damping * 6)
            step = _choose(better, new, step)
        return state


def _own_parameters(s: _State) -> Float64[np.ndarray, "n 10 10"]:
    """Return the derivative of the kernel's parameters with respect to the optimiser's own.

    Translation counts in fifths of the distance. A longer lens takes the camera back with it, so
    that the object keeps its size and only the strength of perspective changes.
    """
    n = len(s.R)
    matrix = np.zeros((n, 10, 10))
    matrix[:, range(10), range(10)] = 1.0
    matrix[:, range(3, 6), range(3, 6)] = s.t[:, 2:] * SHIFT
    matrix[:, 5, 6] = s.t[:, 2]
    return matrix


def _choose(which: Bool[np.ndarray, " n"], new: Step, old: Step) -> Step:
    """Return the new numbers where ``which`` says so, the old ones elsewhere."""
    chosen = {
        name: np.where(which.reshape(-1, *[1] * (value.ndim - 1)), value, getattr(old, name))
        for name, value in vars(new).items()
    }
    return Step(**chosen)


def _moved(s: _State, move: np.ndarray) -> _State:
    """Return the poses moved by radians, fifths of the distance, log zoom and log stretch."""
    R = so3_exp(torch.from_numpy(move[:, :3])).numpy() @ s.R
    t = s.t + move[:, 3:6] * s.t[:, 2:] * SHIFT
    bend = np.clip(s.bend + move[:, 6:], *BENDS)
    t[:, 2] *= np.exp(bend[:, 0] - s.bend[:, 0])
    t[:, 2] = np.maximum(t[:, 2], NEAREST)
    return _State(R, t, bend, s.home, s.energy.copy())
