"""The optimiser of render-and-compare: Adam or plain descent, then Levenberg-Marquardt.

Steps are in radians and fifths of the distance (NeMo's camera stands at distance 5), so that near
and far objects need the same rate. Beside the pose goes what bends the picture: the focal length
where it is unknown, the object's proportions and the latent code of its shape, each held by a
prior. Adam as NeMo (spec 2.10), pruning and polish ours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, no_type_check

import numpy as np
from jaxtyping import Bool, Float64

from featmesh.render.kernels import compiled

from .energy_kernels import POSE
from .energy_numba import FusedEnergy, Step
from .surface import MovingSurface

BETAS = (0.4, 0.6)  # NeMo's: short memory, long steps; they leave shallow basins
SHIFT = 0.2  # a translation of 1 is a fifth of the distance
LATENT = 4.0  # standard deviations that count as much as a radian
NEAREST = 0.55  # object units: no camera inside the object
LONGEST = 0.2  # of one step, in each parameter
DESCENT = 20.0  # plain descent: energies are means over cells, a slope of .05 is steep
LIMITS = (np.array([-2.5, -0.5, -0.5, -0.5]), np.array([3.5, 0.5, 0.5, 0.5]))  # zoom, stretch
POLISH = "polish"
FARTHEST = 4.0  # standard deviations of a latent


@dataclass(frozen=True)
class RefineStep:
    """What an observer is told: all poses of one step.

    Attributes:
        step: 0, 1, ... over the optimiser and the polish of a stage.
        stage: ``adam``, ``descent`` or ``polish``; of the shape ``shape-adam`` and so on.
        R, t: the poses.
        log_zoom: logarithm of the focal length over the virtual camera's.
        log_stretch: logarithms of the object's stretches along its own x, y, z.
        latent: shape codes, of length 0 while the shape is the mean.
        energy: of each, priors included.
    """

    step: int
    stage: str
    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
    log_stretch: Float64[np.ndarray, "n 3"]
    latent: Float64[np.ndarray, "n k"]
    energy: Float64[np.ndarray, " n"]


@dataclass
class State:
    """Poses on their way; ``bend`` is log zoom, log stretch and latents."""

    R: np.ndarray
    t: np.ndarray
    bend: np.ndarray
    energy: np.ndarray

    def pick(self, index: np.ndarray) -> "State":
        """Return some of the poses."""
        return State(*(a[index] for a in vars(self).values()))

    def put(self, index: np.ndarray, other: "State") -> None:
        """Replace some of the poses."""
        for name, values in vars(other).items():
            getattr(self, name)[index] = values

    @property
    def where(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """R, t, log zoom and log stretch, as the energy takes them."""
        return self.R, self.t, self.bend[:, 0], self.bend[:, 1:4]


@dataclass(frozen=True)
class Schedule:
    """How a stage descends: a part of its config, and the prefix of its name."""

    optimiser: Literal["adam", "descent"]
    steps: int
    drops: tuple[float, ...]
    lr: float
    keep: int
    polish: int
    stage: str = ""


class Descent:
    """One energy, what is free in it and how stiffly the rest is held.

    Args:
        energy: of the photo.
        surface: where the object's surface is at a latent code.
        free: which of the 10 + k parameters move.
        stiffness: of the priors on log zoom, log stretch and latents, all centred on 0.
        schedule: steps, rate, pruning.
        on_step: told every step, under the stage's name and the optimiser's.
        bonus: what else speaks for poses, in units of the energy; it ranks them and moves none.
    """

    def __init__(
        self,
        energy: FusedEnergy,
        surface: MovingSurface,
        free: Bool[np.ndarray, " p"],
        stiffness: Float64[np.ndarray, " q"],
        schedule: Schedule,
        on_step: Callable[[RefineStep], None] | None = None,
        bonus: Callable[[State], Float64[np.ndarray, " n"]] | None = None,
    ) -> None:
        self.energy, self.surface, self.schedule = energy, surface, schedule
        self.free, self.stiffness = free, stiffness
        self.on_step, self.count = on_step, 0
        self.bonus = bonus

    def evaluate(self, s: State, stage: str) -> Step:
        """Return the step's numbers with the priors added, in scale-free parameters.

        Curvature is only wanted, and only complete, in the polish.
        """
        step = self.energy.evaluate(*s.where, self.surface.at(s.bend[:, 4:]))
        energy = step.energy + 0.5 * (self.stiffness * s.bend**2).sum(1)
        gradient, curvature = step.gradient.copy(), step.curvature
        gradient[:, 6:] += self.stiffness * s.bend
        gradient = np.where(self.free, _own_gradient(s, gradient), 0.0)
        if stage == POLISH:  # the others do without
            curvature, held = curvature.copy(), range(6, gradient.shape[1])
            curvature[:, held, held] += self.stiffness
            to_own = _own_parameters(s)
            curvature = to_own.transpose(0, 2, 1) @ curvature @ to_own
        if self.on_step is not None:
            bend = s.bend.copy()
            here = (s.R.copy(), s.t.copy(), bend[:, 0], bend[:, 1:4], bend[:, 4:], energy.copy())
            self.on_step(RefineStep(self.count, self.schedule.stage + stage, *here))
        self.count += 1
        return replace(step, energy=energy, gradient=gradient, curvature=curvature)

    def run(self, start: State) -> State:
        """Return the best pose each start came to, likeliest first; every start has its row."""
        best = self._descend(start)
        order = self._ranked(best)
        if self.schedule.polish:
            chosen = order[: self.schedule.keep]
            best.put(chosen, self._polish(best.pick(chosen)))
            order = self._ranked(best)
        return best.pick(order)

    def _ranked(self, state: State) -> np.ndarray:
        """Return the order of poses by energy less bonus."""
        bonus = 0.0 if self.bonus is None else self.bonus(state)
        return np.argsort(state.energy - bonus, kind="stable")

    def _descend(self, start: State) -> State:
        """Run the optimiser on all starts; return the best pose each has seen."""
        c, n, p = self.schedule, len(start.R), len(self.free)
        now, best = start.pick(np.arange(n)), start.pick(np.arange(n))
        best.energy[:] = np.inf
        alive, m, v = np.arange(n), np.zeros((n, p)), np.zeros((n, p))
        lr, drops = c.lr, {round(share * c.steps) for share in c.drops}
        left = {c.steps // 10: max(c.keep, n // 2), c.steps // 4: c.keep}
        for k in range(c.steps + 1):
            step = self.evaluate(now, c.optimiser)
            now.energy = step.energy
            better = now.energy < best.energy[alive]
            best.put(alive[better], now.pick(better))
            if k == c.steps:
                break
            gradient = step.gradient
            lr *= 0.2 if k + 1 in drops else 1.0
            if len(alive) > left.get(k + 1, n):
                order = self._ranked(best.pick(alive))[: left[k + 1]]
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

    def _polish(self, state: State) -> State:
        """Levenberg-Marquardt on a few poses; a step is taken only if the energy falls."""
        damping = np.full(len(state.R), 1e-2)
        step = self.evaluate(state, POLISH)
        state.energy = step.energy.copy()
        for _ in range(self.schedule.polish):
            move = np.zeros((len(state.R), len(self.free)))
            for i in range(len(state.R)):
                A = step.curvature[i][np.ix_(self.free, self.free)]
                g = step.gradient[i][self.free]
                diagonal = np.diag(A) + 1e-9
                move[i, self.free] = -np.linalg.solve(A + damping[i] * np.diag(diagonal), g)
            tried = _moved(state, np.clip(move, -LONGEST, LONGEST))
            new = self.evaluate(tried, POLISH)
            tried.energy = new.energy
            better: Bool[np.ndarray, " n"] = new.energy < state.energy
            state.put(better, tried.pick(better))
            damping = np.where(better, damping * 0.3, damping * 6)
            step = _choose(better, new, step)
        return state


def _own_parameters(s: State) -> Float64[np.ndarray, "n p p"]:
    """Return the derivative of the kernel's parameters with respect to the optimiser's own.

    Translation counts in fifths of the distance. A longer lens takes the camera back with it, so
    that the object keeps its size and only the strength of perspective changes.
    """
    n, p = len(s.R), 6 + s.bend.shape[1]
    matrix = np.zeros((n, p, p))
    matrix[:, range(POSE), range(POSE)] = 1.0
    matrix[:, range(POSE, p), range(POSE, p)] = LATENT
    matrix[:, range(3, 6), range(3, 6)] = s.t[:, 2:] * SHIFT
    matrix[:, 5, 6] = s.t[:, 2]
    return matrix


def _own_gradient(s: State, gradient: Float64[np.ndarray, "n p"]) -> Float64[np.ndarray, "n p"]:
    """Return the gradient times :func:`_own_parameters`, which is nearly diagonal."""
    own = gradient * LATENT
    own[:, :POSE] = gradient[:, :POSE]
    own[:, 3:6] *= s.t[:, 2:] * SHIFT
    own[:, 6] += gradient[:, 5] * s.t[:, 2]
    return own


def _choose(which: Bool[np.ndarray, " n"], new: Step, old: Step) -> Step:
    """Return the new numbers where ``which`` says so, the old ones elsewhere."""
    chosen = {
        name: np.where(which.reshape(-1, *[1] * (value.ndim - 1)), value, getattr(old, name))
        for name, value in vars(new).items()
    }
    return Step(**chosen)


def _moved(s: State, move: np.ndarray) -> State:
    """Return the poses moved by radians, fifths of the distance, log zoom, log stretch, latents."""
    R = _turned(move[:, :3], s.R)
    t = s.t + move[:, 3:6] * s.t[:, 2:] * SHIFT
    bend = s.bend + move[:, 6:]
    bend[:, :4] = np.minimum(np.maximum(bend[:, :4], LIMITS[0]), LIMITS[1])
    if bend.shape[1] > 4:
        bend[:, 4:] = np.clip(s.bend[:, 4:] + move[:, POSE:] * LATENT, -FARTHEST, FARTHEST)
    t[:, 2] *= np.exp(bend[:, 0] - s.bend[:, 0])
    t[:, 2] = np.maximum(t[:, 2], NEAREST)
    return State(R, t, bend, s.energy.copy())


@compiled
@no_type_check
def _turned(w, R):
    """so3_exp(w) @ R (:mod:`featmesh.geometry.pose`) of a few, without the cost of a tensor."""
    out = np.empty_like(R)
    for i in range(R.shape[0]):
        x, y, z = w[i, 0], w[i, 1], w[i, 2]
        square = x * x + y * y + z * z
        angle = math.sqrt(square)
        a = math.sin(angle) / angle if square > 1e-8 else 1 - square / 6
        b = (1 - math.cos(angle)) / square if square > 1e-8 else 0.5 - square / 24
        for j in range(3):
            p, q, r = R[i, 0, j], R[i, 1, j], R[i, 2, j]
            along = b * (x * p + y * q + z * r)
            c = 1 - b * square
            out[i, 0, j] = c * p + a * (y * r - z * q) + along * x
            out[i, 1, j] = c * q + a * (z * p - x * r) + along * y
            out[i, 2, j] = c * r + a * (x * q - y * p) + along * z
    return out
