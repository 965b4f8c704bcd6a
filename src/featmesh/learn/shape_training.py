"""An auto-decoder's steps: one code per CAD and one deformation, learned together (spec 6.1).

First towards the registered vertices, which gives every code its place; then towards the CADs'
surfaces themselves, so that nothing is spent on where along a surface a vertex came to lie.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor, nn

from featmesh.draws import generator
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import mirror_index
from featmesh.model.deformation import Deformation, build_deformation
from featmesh.render.outline import mesh_edges

from .register import Surface
from .shape_config import ShapeLearnConfig
from .shape_fit import Samples

SLIDE = 0.3  # weight of the distance along the surface, which is mostly chance
ALONG = 0.1  # weight of displacement along the surface where learning starts
TURNED = math.cos(math.radians(80))
LAST = 0.1  # learning rate of the last layer beside the others
TINY = 1e-6  # object units; lengths have no gradient at 0


@dataclass(frozen=True, eq=False)
class Example:
    """A CAD to learn from: its outside, and the template drawn onto it; object units."""

    name: str
    surface: Surface
    registered: Float[Tensor, "v 3"]


class ShapeState:
    """What a training changes: the deformation, a code per CAD, the optimiser and the step.

    After the CADs come their wobbled copies, each with a code of its own: a space that can say
    them too says CADs better that it has never seen.

    Attributes:
        moved: displacements of the template drawn onto each CAD, then of the copies.
        real: how many of them are CADs.
        codes: of all.
    """

    def __init__(self, config: ShapeLearnConfig, template: Mesh, examples: list[Example]) -> None:
        self.config, self.template, self.step = config, template, 0
        torch.manual_seed(int(generator(config.seed, "shape weights").integers(2**31)))
        self.deformation = build_deformation(config.deformation, template)
        moved = torch.stack([e.registered for e in examples]) - template.vertices
        self.real = len(examples)
        if config.deformation.kind == "pca":
            codes, directions = principal(moved, self.deformation)
        else:
            moved = torch.cat([moved, wobbled(template, moved, config)])
            codes, directions = principal(moved, self.deformation, template.vertex_normals)
        self.moved = moved.float()
        self.codes = nn.Parameter(codes.float())
        self.deformation.begin(directions)
        self.optimiser = torch.optim.Adam(self._groups(), betas=(0.9, 0.99))

    def _groups(self) -> list[dict[str, Any]]:
        """Return the parameters by learning rate."""
        named = list(self.deformation.named_parameters())
        inner = [p for name, p in named if name != "last"]
        last = [p for name, p in named if name == "last"]  # starts at its place: see begin()
        rates = ((inner, 1.0), (last, LAST)) if last else ((inner, 1.0),)
        groups = [{"params": p, "peak": self.config.lr * rate} for p, rate in rates]
        return [*groups, {"params": [self.codes], "peak": self.config.lr_code}]

    @property
    def steps(self) -> int:
        """How many steps the training has; linear directions need none."""
        if self.config.deformation.kind == "pca":
            return 0
        return self.config.steps + self.config.surface_steps

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is needed to go on."""
        found = {f"deformation.{k}": v for k, v in self.deformation.state_dict().items()}
        found["codes"] = self.codes.data
        for k, slot in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{k}.{name}": torch.as_tensor(v) for name, v in slot.items()}
        return found

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take up a saved state."""
        self.step = step
        state = {k[12:]: v for k, v in tensors.items() if k.startswith("deformation.")}
        self.deformation.load_state_dict(state)
        self.codes.data = tensors["codes"]
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, k, name = key.split(".")
                slots.setdefault(int(k), {})[name] = value
        whole = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**whole, "state": slots})


def wobbled(
    template: Mesh, moved: Float[Tensor, "n v 3"], config: ShapeLearnConfig
) -> Float[Tensor, "m v 3"]:
    """Return copies of displacements with smooth random ones added (a Gaussian process on space).

    Args:
        template: whose vertices are displaced.
        moved: the displacements.
        config: how many copies of each, how far they wobble, and over what distance alike.
    """
    rng = generator(config.seed, "wobble")
    places = template.vertices.double()
    kernel = torch.exp(-torch.cdist(places, places).square() / (2 * config.wobble_reach**2))
    kernel += 1e-6 * torch.eye(len(places)).double()
    count = config.copies * len(moved)
    noise = torch.from_numpy(rng.normal(size=(len(places), count * 3)))
    smooth = (torch.linalg.cholesky(kernel) @ noise).reshape(-1, count, 3).transpose(0, 1)
    if config.deformation.symmetric:
        mirrored = smooth[:, mirror_index(template)] * torch.tensor([-1.0, 1.0, 1.0])
        smooth = (smooth + mirrored) / math.sqrt(2)
    return moved.repeat(config.copies, 1, 1) + config.wobble * smooth


def principal(
    moved: Float[Tensor, "n v 3"],
    deformation: Deformation,
    normals: Float[Tensor, "v 3"] | None = None,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "d p 3"]]:
    """Return codes of mean square 1, and the linear directions they stand for.

    The principal components about the template, not about the mean: the code 0 is the template.
    Codes beyond what the displacements span are 0.

    Args:
        moved: displacements.
        deformation: says which vertices are mirror images.
        normals: of the template; given, what moves along the surface hardly counts.
    """
    n, keep = len(moved), min(len(moved), deformation.latents)
    seen = moved
    if normals is not None:
        across = (moved * normals).sum(-1, keepdim=True) * normals
        seen = across + ALONG * (moved - across)
    u, _, _ = torch.linalg.svd(seen.flatten(1), full_matrices=False)
    codes = torch.zeros(n, deformation.latents).double()
    codes[:, :keep] = u[:, :keep] * math.sqrt(n)
    linear = (codes.T @ moved.flatten(1)).reshape(-1, *moved.shape[1:]) / n
    count = torch.bincount(deformation.index, minlength=len(deformation.place)).double()
    directions = torch.zeros(len(linear), *deformation.place.shape).double()
    directions = directions.index_add(1, deformation.index, linear * deformation.sign)
    return codes, directions / count[:, None]


class Trainer:
    """Does the steps; holds what does not change while learning."""

    def __init__(self, state: ShapeState, examples: list[Example]) -> None:
        self.state, self.examples = state, examples
        self.trees = [cKDTree(e.surface.points.double().numpy()) for e in examples]
        template = state.template
        self.base = template.vertices.float()
        drawn = [template.with_vertices(self.base + moved) for moved in state.moved]
        self.drawn_normals = torch.stack([mesh.vertex_normals for mesh in drawn])
        self.edges = mesh_edges(template.faces).ends.T.contiguous()
        self.lengths = (self.base[self.edges[0]] - self.base[self.edges[1]]).norm(dim=1)
        self.degree = torch.bincount(self.edges.reshape(-1), minlength=len(self.base)).float()
        self.turned = nn.functional.normalize(template.face_normals.float(), dim=1)

    def one_step(self) -> float:
        """Do the next step and return its loss."""
        state, config = self.state, self.state.config
        rng = generator(config.seed, "shape step", 0, state.step)
        cads = rng.permutation(state.real)[: config.batch]
        copies = state.real + rng.permutation(len(state.codes) - state.real)[: config.batch]
        chosen = np.concatenate([cads, copies])
        self._set_rate()
        codes = state.codes[chosen]
        noise = torch.from_numpy(rng.normal(size=codes.shape)).to(codes)
        moved = state.deformation(codes + config.noise * noise)
        loss = self._regularisers(moved) + config.loss.code / 2 * codes.square().sum(1).mean()
        gap = moved - state.moved[chosen]
        across = (gap * self.drawn_normals[chosen]).sum(-1, keepdim=True)
        apart = _length(torch.cat([across, SLIDE * gap], -1)).mean(1)
        if state.step < config.steps:
            loss = loss + apart.mean()
        else:
            near = self._surfaces(moved[: len(cads)], cads, rng)
            loss = loss + near + config.loss.registered * apart[: len(cads)].mean()
            if len(copies):
                loss = loss + config.loss.copies * apart[len(cads) :].mean()
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()
        state.step += 1
        return float(loss.detach())

    def _set_rate(self) -> None:
        """Let the learning rate rise for 50 steps and fall as a cosine, in each stage anew."""
        state, config = self.state, self.state.config
        second = state.step >= config.steps
        done = state.step - config.steps if second else state.step
        total = config.surface_steps if second else config.steps
        rate = min(1.0, (done + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * done / total))
        for group in state.optimiser.param_groups:
            group["lr"] = group["peak"] * max(rate, 0.01) * (0.5 if second else 1.0)

    def _regularisers(self, moved: Float[Tensor, "b v 3"]) -> Tensor:
        weights = self.state.config.loss
        one, two = self.edges
        apart = moved[:, one] - moved[:, two]
        loss = weights.amount * _length(moved).mean()
        loss = loss + weights.edges * (_length(apart) / self.lengths).mean()
        pulled = torch.zeros_like(moved).index_add(1, one, -apart).index_add(1, two, apart)
        loss = loss + weights.laplacian * _length(pulled / self.degree[:, None]).mean()
        a, b, c = (self.base + moved)[:, self.state.template.faces].unbind(2)
        normals = nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        return loss + weights.flip * (TURNED - (normals * self.turned).sum(-1)).relu().mean()

    def _surfaces(
        self, moved: Float[Tensor, "b v 3"], chosen: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        """Return the distances and the differences of normals between the surfaces, both ways."""
        config = self.state.config
        samples = Samples.draw(self.state.template, config.samples, rng)
        vertices = self.base + moved
        places, normals = samples.of(vertices), samples.normals(vertices)
        loss = torch.zeros(())
        for place, normal, k in zip(places, normals, chosen, strict=True):
            surface = self.examples[k].surface
            fixed = place.detach().double().numpy()
            some = torch.from_numpy(rng.integers(len(surface.points), size=config.samples))
            nearest = torch.from_numpy(self.trees[k].query(fixed)[1])
            owner = torch.from_numpy(cKDTree(fixed).query(surface.points[some].numpy())[1])
            own = torch.cat([torch.arange(len(place)), owner])
            other = torch.cat([nearest, some])
            gap = place[own] - surface.points[other].float()
            across = (normal[own].detach() * gap).sum(1)
            like = (normal[own] * surface.normals[other].float()).sum(1)
            loss = (
                loss
                + config.loss.chamfer * _length(torch.cat([across[:, None], SLIDE * gap], 1)).mean()
            )
            loss = loss + config.loss.normals * (1 - like).mean()
        return loss / len(chosen)


def standardise(state: ShapeState) -> None:
    """Give the codes mean square 1, uncorrelated, the strongest direction first.

    Done once after the last step: the deformation takes the new codes and moves as before.
    """
    codes = state.codes.data[: state.real].double()
    square = codes.T @ codes / len(codes)
    values, vectors = torch.linalg.eigh(square)
    root = vectors * values.clamp_min(values.max() * 1e-6).sqrt() @ vectors.T
    slopes = state.deformation.jacobian(torch.zeros(len(root))).double().flatten(1)
    effect = root @ (slopes @ slopes.T) @ root
    turn = torch.linalg.eigh(effect)[1].flip(1)
    matrix = root @ turn
    state.codes.data = torch.linalg.solve(matrix, state.codes.data.double().T).T.float()
    state.deformation.recode(matrix)


def run(
    state: ShapeState,
    examples: list[Example],
    after_step: Callable[[float], None],
    stopped: Callable[[], bool],
) -> bool:
    """Do the steps that are left; return whether all are done (not stopped before)."""
    trainer = Trainer(state, examples)
    while state.step < state.steps:
        if stopped():
            return False
        after_step(trainer.one_step())
    return True


def _length(x: Tensor) -> Tensor:
    return (x.square().sum(-1) + TINY**2).sqrt()
