"""Labels and key points carried over from another mesh of the category, by geometry alone (ours).

The template is drawn onto the other mesh, as in learning shapes; then a point of the template is
called what the nearest place of the mesh that faces the same way is called. Names say nothing about
sides here: left and right come out as they lie on the mesh.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.mesh_groups import NamedFaces
from featmesh.model.keypoints import KeyPoints
from featmesh.model.labels import Labels

from .part_votes import smoothed
from .register import outer_surface, register

DRAWN = 20_000  # points of the other mesh that the template is drawn onto
FROM, TO = 200_000, 100_000  # points compared, of the other mesh and of the template
TURN = 0.05  # object units: how far away opposite normals put a point
SMOOTH = 1e-3


def labels_from_mesh(
    template: Mesh,
    source: NamedFaces,
    names: Sequence[str] | None = None,
    seed: int = 0,
    fit: bool = True,
) -> Labels:
    """Return the labels of a mesh of the category whose faces are named.

    Args:
        template: gets the labels.
        source: in the object frame, of any size; its names are the parts'.
        names: of the parts, in the order wanted; faces of other names are no part. None takes all
            names that are not empty, ``none`` or begin with ``_``.
        seed: of the points compared.
        fit: whether the template is first drawn onto the mesh; no: both are laid into one another
            as they are, centres and diagonals alike.

    Raises:
        InputError: E_LABELS where a name is none of the mesh's, E_MESH_EMPTY where the mesh has no
            surface seen from outside.
    """
    given = [n for n in source.names if n and n.lower() != "none" and not n.startswith("_")]
    wanted = tuple(given if names is None else names)
    unknown = [name for name in wanted if name not in source.names]
    if unknown or not wanted:
        raise InputError(
            "E_LABELS",
            f"labels_from_mesh(): expected names of the mesh ({', '.join(source.names)[:200]}), "
            f"got {', '.join(unknown) or 'none'}; try: leave the names out",
        )
    number = {name: k for k, name in enumerate(wanted, 1)}
    part = np.array([number.get(name, 0) for name in source.names])[source.name_of]
    mesh = source.mesh.normalised()
    placed = template.with_vertices(_placed(template, mesh, seed, fit))
    rng = generator(seed, "labels from a mesh")
    face, _, there = _draws(mesh, FROM, rng)
    own, bary, here = _draws(placed, TO, rng)
    nearest = cKDTree(there).query(here)[1]
    cell = template.faces.numpy()[own] * (len(wanted) + 1) + part[face[nearest]][:, None]
    size = len(template.vertices) * (len(wanted) + 1)
    total = np.bincount(cell.ravel(), bary.ravel(), size).reshape(-1, len(wanted) + 1)
    shares = torch.from_numpy(smoothed(template, total, SMOOTH)).float()
    return Labels(wanted, shares).checked(template, "labels_from_mesh()")


def keypoints_from_mesh(
    template: Mesh,
    source: Mesh,
    points: Mapping[str, Sequence[float]],
    seed: int = 0,
    fit: bool = True,
) -> KeyPoints:
    """Return the points of a template where a mesh of the category has its own.

    Args:
        template: gets the points.
        source: in the object frame, of any size.
        points: name and place in the frame of ``source``; they need not lie on its surface.
        seed: of the points that the template is drawn onto.
        fit: as in :func:`labels_from_mesh`.
    """
    used = source.vertices[source.faces.unique()]
    low, high = used.amin(0), used.amax(0)
    places = torch.tensor([list(map(float, p)) for p in points.values()], dtype=torch.float64)
    inside = (places.reshape(-1, 3) - ((low + high) / 2).double()) / (high - low).double().norm()
    placed = template.with_vertices(_placed(template, source.normalised(), seed, fit))
    return KeyPoints.nearest(placed, tuple(points), inside)


def _placed(template: Mesh, mesh: Mesh, seed: int, fit: bool) -> Float[Tensor, "v 3"]:
    """Return where the template's vertices lie on a normalised mesh."""
    if not fit:
        return template.vertices.double()
    surface = outer_surface(mesh, DRAWN, generator(seed, "outer surface"))
    return register(template, surface).double()


def _draws(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"], Float[np.ndarray, "n 6"]]:
    """Return points drawn evenly over a surface: face, barycentrics, place and scaled normal."""
    normal = mesh.face_normals.double()
    area = normal.norm(dim=1).numpy()
    face = rng.choice(len(area), count, p=area / area.sum())
    bary = rng.dirichlet(np.ones(3), count)
    place = np.einsum("nk,nkd->nd", bary, mesh.corners.double().numpy()[face])
    unit = torch.nn.functional.normalize(normal, dim=1).numpy()
    return face, bary, np.concatenate([place, TURN / 2 * unit[face]], 1)
