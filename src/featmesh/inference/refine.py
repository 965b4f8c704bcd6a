"""Render-and-compare: poses descend until the rendered features explain the photo.

All starts advance together; after a third the best few go on, and Levenberg-Marquardt settles the
last digits. Steps are in radians and fifths of the distance (NeMo's camera stands at distance 5),
so that near and far objects need the same rate. Adam as NeMo (spec 2.10), pruning and polish ours (rendering 4).
"""

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class RefineStep:
    """What an observer is told: all poses of one step.

    Attributes:
        step: 0, 1, ... over the optimiser and the polish.
        stage: ``adam``, ``descent`` or ``polish``.
        R, t, log_zoom: the poses.
        energy: of each.
    """

    step: int
    stage: str
    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
    energy: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class Refined:
    """Where the starts came to, lowest energy first; every start has its row.

    Attributes:
        R, t, log_zoom: poses in the virtual camera.
        energy: lower is better, see :mod:`featmesh.inference.energy`.
        score: mean of s - c over visible cells.
        evidence: mean of max(s - c, 0) over all covered cells.
        visible: share of the covered cells that are visible.
        best: index of the start that won.
    """

    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
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
    """Poses on their way, and the best each has seen."""

    R: np.ndarray
    t: np.ndarray
    log_zoom: np.ndarray
    energy: np.ndarray

    def copy(self) -> "_State":
        return _State(self.R.copy(), self.t.copy(), self.log_zoom.copy(), self.energy.copy())

    def pick(self, index: np.ndarray) -> "_State":
        return _State(self.R[index], self.t[index], self.log_zoom[index], self.energy[index])

    def put(self, index: np.ndarray, other: "_State") -> None:
        self.R[index], self.t[index] = other.R, other.t
        self.log_zoom[index], self.energy[index] = other.log_zoom, other.energy


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
    last = problem.energy.evaluate(final.R, final.t, final.log_zoom)
    return Refined(
        final.R,
        final.t,
        final.log_zoom,
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
        self.free = np.array([True] * 6 + [free_zoom])
        self.start = start
        self.count = 0

    def _evaluate(self, s: _State, stage: str, home: np.ndarray) -> Step:
        """Return the step's numbers with the zoom prior added, in scale-free parameters."""
        step = self.energy.evaluate(s.R, s.t, s.log_zoom)
        prior = self._prior(s, home)
        gradient, curvature = step.gradient.copy(), step.curvature.copy()
        if self.free[6]:
            weight = self._prior_weight()
            gradient[:, 6] += weight * (s.log_zoom - home)
            curvature[:, 6, 6] += weight
        unit = np.ones_like(gradient)
        unit[:, 3:6] = s.t[:, 2:] * SHIFT
        gradient = np.where(self.free, gradient * unit, 0.0)
        curvature = curvature * unit[:, :, None] * unit[:, None, :]
        energy = step.energy + prior
        if self.on_step is not None:
            self.on_step(
                RefineStep(
                    self.count, stage, s.R.copy(), s.t.copy(), s.log_zoom.copy(), energy.copy()
                )
            )
        self.count += 1
        return Step(
            energy, gradient, curvature, step.covered, step.visible, step.score, step.evidence
        )

    def _prior_weight(self) -> float:
        # a gain of one per cent of the cells is worth one standard deviation
        return 0.01 / self.config.zoom_prior**2

    def _prior(self, s: _State, home: np.ndarray) -> np.ndarray:
        if not self.free[6]:
            return np.zeros(len(s.R))
        return 0.5 * self._prior_weight() * (s.log_zoom - home) ** 2

    def descend(self) -> _State:
        """Run the optimiser on all starts; return the best pose each has seen."""
        c, start = self.config, self.start
        n = len(start.R)
        now = _State(start.R.copy(), start.t.copy(), start.log_zoom.copy(), np.full(n, np.inf))
        best = now.copy()
        alive, home = np.arange(n), start.log_zoom.copy()
        m, v = np.zeros((n, 7)), np.zeros((n, 7))
        lr, thirds = c.lr, {c.steps // 3, 2 * c.steps // 3}
        for k in range(c.steps + 1):
            step = self._evaluate(now, c.optimiser, home[alive])
            now.energy = step.energy
            better = now.energy < best.energy[alive]
            best.put(alive[better], now.pick(better))
            if k == c.steps:
                break
            if k + 1 in thirds:
                lr *= 0.2
                if len(alive) > c.keep:
                    order = np.argsort(best.energy[alive], kind="stable")[: c.keep]
                    alive, now, m, v = alive[order], now.pick(order), m[order], v[order]
                    step = _rows(step, order)
            if c.optimiser == "adam":
                m = BETAS[0] * m + (1 - BETAS[0]) * step.gradient
                v = BETAS[1] * v + (1 - BETAS[1]) * step.gradient**2
                size = m / (1 - BETAS[0] ** (k + 1))
                move = -lr * size / (np.sqrt(v / (1 - BETAS[1] ** (k + 1))) + 1e-12)
            else:
                move = -lr * step.gradient * 20.0  # energies are means: a slope of .05 is steep
            now = _moved(now, move)
        return best

    def polish(self, state: _State) -> _State:
        """Levenberg-Marquardt on a few poses; a step is taken only if the energy falls."""
        home = state.log_zoom.copy()
        damping = np.full(len(state.R), 1e-2)
        step = self._evaluate(state, "polish", home)
        state = state.copy()
        state.energy = step.energy.copy()
        for _ in range(self.config.polish):
            move = np.zeros((len(state.R), 7))
            for i in range(len(state.R)):
                A = step.curvature[i][np.ix_(self.free, self.free)]
                g = step.gradient[i][self.free]
                diagonal = np.diag(A) + 1e-9
                move[i, self.free] = -np.linalg.solve(A + damping[i] * np.diag(diagonal), g)
            tried = _moved(state, np.clip(move, -0.2, 0.2))
            new = self._evaluate(tried, "polish", home)
            tried.energy = new.energy
            better: Bool[np.ndarray, " n"] = new.energy < state.energy
            state.put(better, tried.pick(better))
            damping = np.where(better, damping * 0.3, damping * 6)
            step = Step(
                *(
                    np.where(better.reshape(-1, *[1] * (b.ndim - 1)), a, b)
                    for a, b in zip(_fields(new), _fields(step), strict=True)
                )
            )
        return state


def _fields(step: Step) -> tuple[np.ndarray, ...]:
    return (
        step.energy,
        step.gradient,
        step.curvature,
        step.covered,
        step.visible,
        step.score,
        step.evidence,
    )


def _rows(step: Step, index: np.ndarray) -> Step:
    return Step(*(a[index] for a in _fields(step)))


def _moved(s: _State, move: np.ndarray) -> _State:
    """Return the poses moved by steps in radians, fifths of the distance, and log zoom."""
    R = so3_exp(torch.from_numpy(move[:, :3])).numpy() @ s.R
    t = s.t + move[:, 3:6] * s.t[:, 2:] * SHIFT
    t[:, 2] = np.maximum(t[:, 2], NEAREST)
    return _State(R, t, np.clip(s.log_zoom + move[:, 6], -2.5, 3.5), s.energy.copy())
