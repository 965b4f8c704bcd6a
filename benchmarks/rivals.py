"""Our pose stage, and what it is timed against: NeMo's own schedule on three renderers.

The best of 144 rendered poses; Adam, betas (.4, .6), on ``1 - (mean max(object, clutter) - mean
clutter)``, rate .05, times .2 after each third; shifts in fifths of the distance (spec 2.10).
Rotation and translation are all free here, for the objects of the cases are not centred; the
published search, which knows the centre, is ``featmesh.inference.nemo``.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from synthetic import Case
from torch import Tensor
from torch.nn.functional import embedding_bag

from featmesh.geometry.pose import Pose, so3_exp
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig, nemo_config
from featmesh.inference.descent import BETAS
from featmesh.inference.energy import Comparison
from featmesh.inference.energy_numba import FusedEnergy
from featmesh.inference.refine import render_and_compare
from featmesh.inference.scan import scan
from featmesh.inference.tables import pose_table
from featmesh.render.rasterize import BACKENDS
from featmesh.render.shade import barycentric

# cells are four times as fine as in a photo's crop; the mesh is known, as NeMo takes it to be
OURS = EstimateConfig(scan=ScanConfig(pool=4), refine=RefineConfig(proportions=False))
DISTANCE = 5.0  # of NeMo's camera
Method = Callable[[Case], Pose]


class Engine(Protocol):
    """A renderer with the loss on top."""

    def value(self, R: np.ndarray, t: np.ndarray) -> float:
        """Return the loss of a pose."""

    def step(self, R: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient (rotation vector, translation)."""


class Autograd:
    """The loss in float32 torch: visibility by a backend, shading and gradient by autograd."""

    def __init__(self, comparison: Comparison, backend: str) -> None:
        cells = comparison.cells
        self.cover, self.camera = BACKENDS[backend], cells.camera
        self.faces, self.texture = comparison.mesh.faces, comparison.texture
        self.vertices = comparison.mesh.vertices.float()
        self.features = cells.features.reshape(-1, cells.features.shape[-1])
        self.clutter = cells.clutter.reshape(-1)

    def value(self, R: np.ndarray, t: np.ndarray) -> float:
        """Return the loss of a pose."""
        with torch.no_grad():
            turned = self.vertices @ torch.from_numpy(R.T).float()
            return self.loss(turned + torch.from_numpy(t).float()).item()

    def step(self, R: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss of a pose and its gradient."""
        xi = torch.zeros(6, requires_grad=True)
        turn = so3_exp(xi[:3]) @ torch.from_numpy(R).float()
        loss = self.loss(self.vertices @ turn.T + torch.from_numpy(t).float() + xi[3:])
        loss.backward()
        return loss.item(), xi.grad.double().numpy()

    def loss(self, points: Tensor) -> Tensor:
        """Return the loss of vertices in camera axes; only the covered cells are shaded."""
        with torch.no_grad():
            pixels, _ = self.camera.project(points)
            seen = torch.cat([pixels, 1 / points[:, 2:]], 1)[None]
            face_id = self.cover(seen, self.faces, self.camera.height, self.camera.width, True)
        flat = face_id.reshape(-1)
        index = (flat >= 0).nonzero()[:, 0]
        weights = barycentric(points[None], self.faces, face_id, self.camera)
        weights, corners = weights.reshape(-1, 3)[index], self.faces[flat[index]]
        rendered = embedding_bag(corners, self.texture, per_sample_weights=weights, mode="sum")
        scores = (rendered * self.features[index]).sum(1)
        thing = torch.zeros_like(self.clutter).index_copy(0, index, scores)
        return 1 - (torch.maximum(thing, self.clutter).mean() - self.clutter.mean())


class Fused:
    """The same loss, less a constant, on the fused kernel."""

    def __init__(self, comparison: Comparison) -> None:
        self.kernel = FusedEnergy(comparison)

    def value(self, R: np.ndarray, t: np.ndarray) -> float:
        """Return the loss of a pose."""
        return self.step(R, t)[0]

    def step(self, R: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss of a pose and its gradient."""
        found = self.kernel.evaluate(R[None], t[None])
        return float(found.energy[0]), found.gradient[0, :6]


ENGINES: dict[str, Callable[[Comparison], Engine]] = {
    "NeMo, torch renderer": lambda comparison: Autograd(comparison, "torch"),
    "NeMo, numba renderer": lambda comparison: Autograd(comparison, "numba"),
    "NeMo, fused kernel": Fused,
}


def adam(engine: Engine, R: np.ndarray, t: np.ndarray, config: RefineConfig) -> Pose:
    """Return the best pose that NeMo's schedule sees from a start."""
    m, v, lr = np.zeros(6), np.zeros(6), config.lr
    best, lowest = (R, t), np.inf
    for k in range(config.steps + 1):
        loss, gradient = engine.step(R, t)
        if loss < lowest:
            best, lowest = (R, t), loss
        unit = np.array([1, 1, 1, *[t[2] / DISTANCE] * 3])
        m = BETAS[0] * m + (1 - BETAS[0]) * gradient * unit
        v = BETAS[1] * v + (1 - BETAS[1]) * (gradient * unit) ** 2
        size = np.sqrt(v / (1 - BETAS[1] ** (k + 1))) + 1e-12
        move = -lr * m / (1 - BETAS[0] ** (k + 1)) / size * unit
        R, t = so3_exp(torch.from_numpy(move[:3])).numpy() @ R, t + move[3:]
        if k + 1 in (config.steps // 3, 2 * config.steps // 3):
            lr *= 0.2
    return Pose(torch.from_numpy(best[0]), torch.from_numpy(best[1]))


def best_rendered(case: Case, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of NeMo's poses, each laid into the crop and rendered by the engine."""
    table = pose_table(case.model, nemo_config().scan)
    t = table.t.copy()
    t[:, 2] *= case.cells.camera.fx / table.focal  # the size in the map stays
    k = int(np.argmin([engine.value(table.R[i], t[i]) for i in range(len(t))]))
    return table.R[k], t[k]


def ours(case: Case) -> Pose:
    """Return the answer of our pose stage."""
    table = pose_table(case.model, OURS.scan)
    starts = scan(case.cells, case.model, table, OURS.scan, camera_known=True)
    return render_and_compare(case.cells, case.model, starts, config=OURS.refine).pose


def theirs(name: str) -> Method:
    """Return NeMo's schedule on a renderer."""

    def solve(case: Case) -> Pose:
        engine = ENGINES[name](Comparison(case.cells, case.model.mesh(), case.model.texture))
        return adam(engine, *best_rendered(case, engine), nemo_config().refine)

    return solve


METHODS: dict[str, Method] = {"featmesh": ours} | {name: theirs(name) for name in ENGINES}
