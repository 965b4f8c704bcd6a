"""The template drawn onto a CAD of any topology: one vertex set for all CADs of a category (ours).

Nearest points with like normals pull the vertices, both ways; a smoothness of the displacement,
weaker from step to step, carries the vertices that nothing pulls. Only what can be seen from
outside pulls: interiors, doubled walls and gaps between parts do not matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csc_matrix, diags, identity
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from torch import Tensor

from featmesh.geometry.mesh import Mesh
from featmesh.geometry.solid import Grid, distance, filled, outer_points
from featmesh.geometry.template import averaging, mirror_index

STEPS = 40
STIFF, SOFT = 30.0, 0.3  # weight of smoothness in the first and in the last step
TURN = 0.05  # object units: how far away opposite normals put a point
REACH = 0.1  # object units: pairs farther apart pull less, or not at all
EDGE = 0.01  # share of points beyond what counts as an object's size, each way
OWN, BACK, FAR = 0.5, 0.7, 0.1  # pull of a vertex' nearest point, of points it is nearest to, far
MIRROR = np.array([-1.0, 1.0, 1.0])
SPREAD = 2 / 3  # of CADs' sizes, for a prior: that of the cars' CADs gives the one chosen on photos
LEAST = 0.03  # standard deviation of a logarithm: a few CADs may be alike by chance


@dataclass(frozen=True, eq=False)
class Surface:
    """Points drawn evenly over the outside of an object, with outward unit normals."""

    points: Float[Tensor, "n 3"]
    normals: Float[Tensor, "n 3"]


def outer_surface(cad: Mesh, n: int, rng: np.random.Generator) -> Surface:
    """Return points on what can be reached of a mesh from outside, with normals.

    Args:
        cad: of any topology: open, with interiors, in several pieces, wound either way.
        n: how many points.
        rng: draws them.

    Raises:
        InputError: E_MESH_EMPTY where the mesh has no surface seen from outside.
    """
    points = outer_points(cad, n, rng)
    grid = Grid.around([cad])
    field = distance(filled(cad, grid, rng), grid.voxel)
    places = points.double().numpy()
    slope = [
        grid.sample(field, places + step) - grid.sample(field, places - step)
        for step in np.eye(3) * grid.voxel
    ]
    normals = torch.from_numpy(np.stack(slope, 1)).to(points)
    return Surface(points, torch.nn.functional.normalize(normals, dim=1))


def register(template: Mesh, surface: Surface, symmetric: bool = True) -> Float[Tensor, "v 3"]:
    """Return the template's vertices drawn onto a surface.

    Args:
        template: closed mesh.
        surface: where to, in the template's frame and unit.
        symmetric: whether left and right move as mirror images; the template must be symmetric.
    """
    start = _stretched(template, surface.points)
    points, normals = (t.double().numpy() for t in (surface.points, surface.normals))
    tree = cKDTree(np.concatenate([points, TURN / 2 * normals], 1))
    smooth = _smoothness(template)
    mirror = mirror_index(template).numpy() if symmetric else None
    if mirror is not None:
        start = (start + start[mirror] * torch.from_numpy(MIRROR)) / 2
    moved = np.zeros(start.shape)
    for stiffness in np.geomspace(STIFF, SOFT, STEPS):
        mesh = template.with_vertices(start + torch.from_numpy(moved))
        weight, pull = _pulls(mesh, tree, points, normals)
        goal = weight[:, None] * moved + pull
        moved = splu((diags(weight) + stiffness * smooth).tocsc()).solve(goal)
        if mirror is not None:
            moved = (moved + moved[mirror] * MIRROR) / 2
    return start + torch.from_numpy(moved)


def _stretched(template: Mesh, points: Float[Tensor, "n 3"]) -> Float[Tensor, "v 3"]:
    """Return the vertices stretched along the axes to the size of the points."""
    draws = template.sample_surface(len(points), np.random.default_rng(0)).double()
    ends = torch.tensor([EDGE, 1 - EDGE], dtype=torch.float64)
    low, high = draws.quantile(ends, 0)
    least, most = points.double().quantile(ends, 0)  # an aerial or a mirror is not its size
    return (template.vertices.double() - low) * (most - least) / (high - low) + least


def _pulls(
    mesh: Mesh, tree: cKDTree, points: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how strongly each vertex is pulled, and that times the way it should go."""
    vertices = mesh.vertices.numpy()
    own = np.concatenate([vertices, TURN / 2 * mesh.vertex_normals.numpy()], 1)
    nearest = points[tree.query(own)[1]] - vertices
    weight = np.where(np.linalg.norm(nearest, axis=1) < REACH, OWN, FAR)
    pull = weight[:, None] * nearest
    back = cKDTree(own).query(np.concatenate([points, TURN / 2 * normals], 1))[1]
    way = points - vertices[back]
    near = np.linalg.norm(way, axis=1) < REACH
    back, way = back[near], way[near]
    count = np.bincount(back, minlength=len(vertices))
    for k in range(3):
        total = np.bincount(back, weights=way[:, k], minlength=len(vertices))
        pull[:, k] += BACK * total / np.maximum(count, 1)
    return weight + BACK * (count > 0), pull


def _smoothness(mesh: Mesh) -> csc_matrix:
    """Return L'L of the graph's Laplacian: what keeps a displacement smooth."""
    laplacian = averaging(mesh) - identity(len(mesh.vertices))
    return (laplacian.T @ laplacian).tocsc()


def stretch_prior(shapes: Iterable[Float[Tensor, "v 3"]]) -> tuple[float, float, float]:
    """Return how CADs differ in width, length and height: a model's ``stretch_prior`` (ours).

    Args:
        shapes: where the template's vertices lie on each CAD, at least two.
    """
    extents = torch.stack([(v.amax(0) - v.amin(0)).double() for v in shapes])
    spread = (SPREAD * extents.log().std(0)).clamp_min(LEAST)
    width, length, height = (round(float(s), 4) for s in spread)
    return width, length, height
