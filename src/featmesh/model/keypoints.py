"""Named points of the surface, carried along by pose and shape like the texture."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh


@dataclass(frozen=True)
class KeyPoints:
    """Named points on a template.

    Attributes:
        names: of the points.
        faces: face of the template each lies in.
        bary: where in it, rows sum to 1.
    """

    names: tuple[str, ...]
    faces: Int[Tensor, " n"]
    bary: Float[Tensor, "n 3"]

    def checked(self, template: Mesh, who: str = "keypoints") -> "KeyPoints":
        """Return these points, or raise E_KEYPOINTS where they do not belong to the template."""
        sizes = {len(self.names), len(self.faces), len(self.bary)}
        if len(sizes) != 1 or len(set(self.names)) != len(self.names):
            raise _bad(who, "as many names that differ as points", f"{sorted(sizes)}")
        if bool(((self.faces < 0) | (self.faces >= len(template.faces))).any()):
            raise _bad(who, f"faces below {len(template.faces)}", f"{self.faces.tolist()}")
        if not bool(((self.bary.sum(1) - 1).abs() < 1e-3).all()):
            raise _bad(who, "weights that sum to 1", f"{self.bary.sum(1).tolist()}")
        return self

    def on(self, mesh: Mesh) -> Float[Tensor, "n 3"]:
        """Return where the points lie on a mesh with the template's faces, in its frame."""
        return (mesh.corners[self.faces] * self.bary.to(mesh.vertices)[..., None]).sum(1)

    @classmethod
    def nearest(
        cls, mesh: Mesh, names: tuple[str, ...], points: Float[Tensor, "n 3"]
    ) -> "KeyPoints":
        """Return the points of a mesh's surface that lie nearest to some places.

        Args:
            mesh: the template, in whatever shape.
            names: of the points.
            points: places in the mesh's frame.
        """
        chosen, places = [], []
        corners = mesh.corners.double()
        for point in points.double():
            bary = _closest(corners, point)
            found = (corners * bary[..., None]).sum(1)
            best = int((found - point).norm(dim=1).argmin())
            chosen.append(best)
            places.append(bary[best])
        empty = torch.zeros(0, 3, dtype=torch.float64)
        bary = torch.stack(places) if places else empty
        return cls(names, torch.tensor(chosen, dtype=torch.int64), bary.float()).checked(mesh)


def _closest(corners: Float[Tensor, "f 3 3"], point: Float[Tensor, " 3"]) -> Float[Tensor, "f 3"]:
    """Return barycentrics of the place of each triangle nearest to a point.

    The foot of the perpendicular where it lies inside, else the nearest place of the three edges.
    """
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    twice = (normal**2).sum(1).clamp_min(1e-30)
    way = point - a
    v = (torch.linalg.cross(way, c - a) * normal).sum(1) / twice
    w = (torch.linalg.cross(b - a, way) * normal).sum(1) / twice
    best = torch.stack([1 - v - w, v, w], 1)
    inside = (best >= 0).all(1)
    away = torch.where(inside, ((corners * best[..., None]).sum(1) - point).norm(dim=1), torch.inf)
    for start in range(3):
        end = (start + 1) % 3
        edge = corners[:, end] - corners[:, start]
        along = ((point - corners[:, start]) * edge).sum(1) / (edge**2).sum(1).clamp_min(1e-30)
        share = torch.zeros_like(best)
        share[:, end] = along.clamp(0, 1)
        share[:, start] = 1 - share[:, end]
        far = ((corners * share[..., None]).sum(1) - point).norm(dim=1)
        nearer = ~inside & (far < away)
        best, away = torch.where(nearer[:, None], share, best), torch.where(nearer, far, away)
    return best


def _bad(who: str, expected: str, got: str) -> InputError:
    hint = "points of this model's template"
    return InputError("E_KEYPOINTS", f"{who}: expected {expected}, got {got}; try: {hint}")
