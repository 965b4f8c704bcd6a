"""The code of a shape space that fits given surface points best: what a space can say (ours).

Gauss-Newton on distances along the surface's normals, both ways, every pair weighted so that the
sum is that of the distances and not of their squares; a step is kept if the mean distance falls.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from featmesh.draws import generator
from featmesh.geometry.mesh import Mesh
from featmesh.model.deformation import Deformation

SAMPLES = 6000  # points on the template
STEPS = 25
CLOSEST = 5e-3  # object units: pairs nearer than this weigh alike
SLIDE = 0.1  # weight of the distance along the surface, which is mostly chance
DAMPING = 1e-4, 3.0, 0.3  # at first, after a failed step, after a good one
SMALL = 1e-3  # step of the code that ends the search


@dataclass(frozen=True, eq=False)
class Samples:
    """Points that stay where they are on a template's surface while it is deformed."""

    corners: Int[Tensor, "m 3"]
    weights: Float[Tensor, "m 3"]

    @classmethod
    def draw(cls, template: Mesh, n: int, rng: np.random.Generator) -> "Samples":
        """Return ``n`` points drawn evenly over the template."""
        area = template.face_normals.norm(dim=-1).double().numpy()
        face = torch.from_numpy(rng.choice(len(area), n, p=area / area.sum()))
        u = torch.from_numpy(rng.random((n, 2)))
        root = u[:, :1].sqrt()
        weights = torch.cat([1 - root, root * (1 - u[:, 1:]), root * u[:, 1:]], 1)
        return cls(template.faces[face], weights)

    def of(self, values: Float[Tensor, "*b v c"]) -> Float[Tensor, "*b m c"]:
        """Return values given at the vertices, at the points."""
        w = self.weights.to(values)
        return sum(  # type: ignore[return-value]
            values[..., self.corners[:, k], :] * w[:, k, None] for k in range(3)
        )

    def normals(self, vertices: Float[Tensor, "*b v 3"]) -> Float[Tensor, "*b m 3"]:
        """Return the unit normals of the faces the points lie on."""
        a, b, c = (vertices[..., self.corners[:, k], :] for k in range(3))
        return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)


@torch.no_grad()
def fit_latent(
    deformation: Deformation,
    template: Mesh,
    points: Float[Tensor, "n 3"],
    prior: float = 1e-5,
    start: Float[Tensor, " d"] | None = None,
) -> Float[Tensor, " d"]:
    """Return the code whose surface is nearest to points on an object's outside.

    Args:
        deformation: the shape space.
        template: the mesh it moves.
        points: in the template's frame and unit; nothing is aligned.
        prior: weight of half the squared code beside the mean distance.
        start: first code; by default 0, the template.
    """
    target = points.double().numpy()
    tree = cKDTree(target)
    samples = Samples.draw(template, SAMPLES, generator(0, "fit_latent"))
    code = torch.zeros(deformation.latents, dtype=torch.float64)
    code = code if start is None else start.double()
    state = _linearised(deformation, template, samples, tree, code, prior)
    damping, worse, better = DAMPING
    for _ in range(STEPS):
        loss, hessian, gradient = state
        scale = damping * hessian.diagonal().mean()
        step = torch.linalg.solve(hessian + scale * torch.eye(len(code)).double(), -gradient)
        tried = _linearised(deformation, template, samples, tree, code + step, prior)
        if tried[0] < loss:
            code, state, damping = code + step, tried, damping * better
        else:
            damping = max(damping, 1e-3) * worse**2
        if float(step.norm()) < SMALL or damping > 1e3:
            break
    return code


def _linearised(
    deformation: Deformation,
    template: Mesh,
    samples: Samples,
    tree: cKDTree,
    code: Tensor,
    prior: float,
) -> tuple[float, Tensor, Tensor]:
    """Return the loss at a code, and its curvature and slope there."""
    like = next(deformation.parameters())
    small = code.to(like)
    vertices = template.vertices.double() + deformation(small[None])[0].double()
    surface, normals = samples.of(vertices), samples.normals(vertices)
    jacobian = samples.of(deformation.jacobian(small).double())
    target = torch.from_numpy(tree.data)
    there, nearest = tree.query(surface.numpy())
    back, owner = cKDTree(surface.numpy()).query(tree.data)
    hessian = prior * torch.eye(len(code), dtype=torch.float64)
    gradient = prior * code
    for own, other, far in (
        (torch.arange(len(surface)), torch.from_numpy(nearest), there),
        (torch.from_numpy(owner), torch.arange(len(target)), back),
    ):
        gap = surface[own] - target[other]
        n, j = normals[own], jacobian[:, own]
        weight = 0.5 / np.maximum(far, CLOSEST) / len(far)
        root = torch.from_numpy(weight).sqrt()
        along = torch.cat([root * (n * gap).sum(1), SLIDE * (root[:, None] * gap).reshape(-1)])
        slope = torch.cat([root * (j * n).sum(-1), SLIDE * (root[:, None] * j).flatten(1)], 1)
        hessian = hessian + slope @ slope.T
        gradient = gradient + slope @ along
    loss = (there.mean() + back.mean()) / 2 + prior / 2 * float(code @ code)
    return float(loss), hessian, gradient
