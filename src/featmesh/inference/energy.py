"""How well a rendered pose explains a feature map: the energies, readable, in float64 torch.

The heart of render-and-compare. ``scan`` and ``refine`` descend on the compiled twin,
:mod:`featmesh.inference.energy_numba`; this is the oracle it is tested against.
Each cell p of a feature map F is explained by the object, whose rendered feature is F̄_p, or by
clutter of score c_p. With s = <F̄_p, F_p> and n = |F̄_p|^2 a covered cell counts

* ``cosine``: ``max(0, c) - max(s - e, c - p)``, the choice between object and clutter (spec 2.10);
  e is what s - c is at an outline, p the price of calling a covered cell occluded, both 0 in the
  lineage;
* ``truncated``: ``min(n - 2 s + 1, 2 - 2 c) - (2 - 2 c)``, its squared form (contracts 9);
* ``l2``: ``n - 2 s + 1 - background_cost``, without clutter: occluders pull the pose (spec 1.6).

Uncovered cells count 0 and so do cells outside the photo; the sum is divided by the number of
cells inside the photo. Lower is better.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.render.reference import coverage_reference
from featmesh.render.shade import barycentric

EnergyForm = Literal["cosine", "truncated", "l2"]
FORMS: tuple[EnergyForm, ...] = get_args(EnergyForm)


@runtime_checkable
class CellMap(Protocol):
    """What an energy needs of a feature map."""

    @property
    def features(self) -> Float[Tensor, "h w c"]:
        """Unit features of the cells."""

    @property
    def clutter(self) -> Float[Tensor, "h w"]:
        """Score of the best clutter feature in each cell."""

    @property
    def valid(self) -> Bool[Tensor, "h w"]:
        """Where a cell lies inside the photo."""

    @property
    def camera(self) -> Camera:
        """The camera whose pixels are the cells."""


@dataclass(frozen=True)
class Comparison:
    """All that a pose is judged by: what is rendered, what it is compared with, and how.

    Attributes:
        cells: feature map of the photo's crop, with clutter scores and the camera of the cells.
        mesh: the object, its frame and unit.
        texture: unit feature of each vertex.
        form: which energy, see the module.
        background_cost: ``l2`` only: cost of an uncovered cell, the squared distance of its unit
            feature to what stands for the background; 1 is the distance to the zero vector.
        price: ``cosine`` only: of a covered cell that is called occluded. Without it nothing keeps
            an outline from reaching over the background.
        edge: ``cosine`` only: s - c of a cell on an outline. Features of the background beside an
            object resemble the object's, so that at 0 the outline lies a cell too far out.
    """

    cells: CellMap
    mesh: Mesh
    texture: Float[Tensor, "v c"]
    form: EnergyForm = "cosine"
    background_cost: float = 1.0
    price: float = 0.0
    edge: float = 0.0

    def __post_init__(self) -> None:
        """Raise E_CONFIG or E_SHAPE where the parts do not belong together."""
        if self.form not in FORMS:
            raise InputError(
                "E_CONFIG",
                f"Comparison: expected form to be one of {', '.join(FORMS)}, got {self.form!r}; "
                "try: cosine",
            )
        wanted = (len(self.mesh.vertices), self.cells.features.shape[-1])
        if tuple(self.texture.shape) != wanted:
            raise InputError(
                "E_SHAPE",
                f"Comparison: expected texture of shape {wanted} (vertices, channels), "
                f"got {tuple(self.texture.shape)}; try: mesh, texture and features of one model",
            )


def render_features(
    comparison: Comparison,
    pose: Pose,
    log_zoom: Float[Tensor, ""] | None = None,
    face_id: Int[Tensor, "h w"] | None = None,
    log_stretch: Float[Tensor, " 3"] | None = None,
    offset: Float[Tensor, "v 3"] | None = None,
) -> tuple[Float[Tensor, "h w c"], Bool[Tensor, "h w"]]:
    """Return the rendered features, float64, 0 where nothing, and which cells are covered.

    Interpolated, not normalised again: shorter than 1 inside a face. Differentiable in the pose and
    the zoom where the surface stays visible; moving outlines have no gradient.

    Args:
        comparison: mesh, texture and camera.
        pose: ``cam_from_obj``, one.
        log_zoom: logarithm of a factor on the focal length, None for 0.
        face_id: visible faces (:func:`visible_faces`) kept fixed, None to find them.
        log_stretch: logarithms of factors on the object's own x, y, z, None for 0.
        offset: displacements of the mesh's vertices before they are stretched, None for 0.
    """
    if face_id is None:
        face_id = visible_faces(comparison, pose, log_zoom, log_stretch, offset)
    faces = comparison.mesh.faces
    bary = barycentric(
        _points(comparison, pose, log_zoom, log_stretch, offset)[None],
        faces,
        face_id[None],
        comparison.cells.camera,
    )[0]
    covered = face_id >= 0
    corners = comparison.texture.double()[faces[face_id.clamp_min(0)]]
    return (bary[..., None] * corners).sum(-2) * covered[..., None], covered


def visible_faces(
    comparison: Comparison,
    pose: Pose,
    log_zoom: Float[Tensor, ""] | None = None,
    log_stretch: Float[Tensor, " 3"] | None = None,
    offset: Float[Tensor, "v 3"] | None = None,
) -> Int[Tensor, "h w"]:
    """Return the visible face of each cell, -1 where nothing; see :func:`render_features`."""
    camera = comparison.cells.camera
    points = _points(comparison, pose, log_zoom, log_stretch, offset).detach()
    pixels, _ = camera.project(points)
    seen = torch.cat([pixels, 1 / points[:, 2:]], -1).float()
    return coverage_reference(seen[None], comparison.mesh.faces, camera.height, camera.width, True)[
        0
    ].long()


def energy(
    comparison: Comparison,
    pose: Pose,
    log_zoom: Float[Tensor, ""] | None = None,
    face_id: Int[Tensor, "h w"] | None = None,
    log_stretch: Float[Tensor, " 3"] | None = None,
    offset: Float[Tensor, "v 3"] | None = None,
) -> Float[Tensor, ""]:
    """Return the energy of a pose, float64; arguments as in :func:`render_features`."""
    rendered, covered = render_features(comparison, pose, log_zoom, face_id, log_stretch, offset)
    cells = comparison.cells
    s = (rendered * cells.features.double()).sum(-1)
    n = (rendered * rendered).sum(-1)
    cost = cell_energy(comparison, s, n)
    total = torch.where(covered & cells.valid, cost, torch.zeros_like(cost)).sum()
    return total / cells.valid.sum().clamp_min(1)


def cell_energy(
    comparison: Comparison, s: Float[Tensor, "h w"], n: Float[Tensor, "h w"]
) -> Float[Tensor, "h w"]:
    """Return what each cell would count if it were covered (the formulas of the module).

    Args:
        comparison: form and clutter scores.
        s: inner product of rendered and extracted feature.
        n: squared length of the rendered feature.
    """
    c = comparison.cells.clutter.to(s.dtype)
    if comparison.form == "cosine":
        return c.clamp_min(0) - torch.maximum(s - comparison.edge, c - comparison.price)
    square = n - 2 * s + 1
    if comparison.form == "l2":
        return square - comparison.background_cost
    return torch.minimum(square, 2 - 2 * c) - (2 - 2 * c)


def gain_from_scores(s: Float[Tensor, "h w"], c: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """Return ``mean max(s, c) - mean c`` over a whole map; 1 less it is the loss of spec 2.10.

    Args:
        s: object scores, 0 where nothing is rendered.
        c: clutter scores.
    """
    return torch.maximum(s, c).mean() - c.mean()


def _points(
    comparison: Comparison,
    pose: Pose,
    log_zoom: Float[Tensor, ""] | None,
    log_stretch: Float[Tensor, " 3"] | None,
    offset: Float[Tensor, "v 3"] | None,
) -> Float[Tensor, "v 3"]:
    """Return the vertices in camera axes, x and y stretched by the zoom: the same pixels."""
    vertices = comparison.mesh.vertices.double()
    if offset is not None:
        vertices = vertices + offset.double()
    if log_stretch is not None:
        vertices = vertices * log_stretch.double().exp()
    points = Pose(pose.R.double(), pose.t.double()).apply(vertices)
    if log_zoom is None:
        return points
    zoom = log_zoom.double().exp()
    return points * torch.stack([zoom, zoom, torch.ones_like(zoom)])
