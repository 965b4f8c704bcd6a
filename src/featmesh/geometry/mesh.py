"""Triangle meshes as values, their normals and surface samples, and guarded mesh files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from featmesh.errors import InputError

from .mesh_file import parse_mesh_file


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the object frame (front -y, up +z).

    Attributes:
        vertices: positions, object units unless said otherwise.
        faces: vertex indices, counter-clockwise seen from outside.
        uv: texture coordinates in [0, 1] of each face's corners, or None.
    """

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    uv: Float[Tensor, "f 3 2"] | None = None

    def checked(self, who: str = "mesh") -> "Mesh":
        """Return this mesh, or raise E_MESH_EMPTY, E_MESH_INDEX or E_MESH_NONFINITE."""
        if not len(self.vertices) or not len(self.faces):
            raise InputError(
                "E_MESH_EMPTY",
                f"{who}: expected vertices and faces, got {len(self.vertices)} and "
                f"{len(self.faces)}; try: open the file in a mesh viewer",
            )
        wrong = ((self.faces < 0) | (self.faces >= len(self.vertices))).any(1)
        if wrong.any():
            k = int(wrong.nonzero()[0])
            raise InputError(
                "E_MESH_INDEX",
                f"{who}: expected indices below {len(self.vertices)}, got "
                f"{self.faces[k].tolist()} in face {k}; try: export the mesh again",
            )
        if not bool(self.vertices.isfinite().all()):
            k = int((~self.vertices.isfinite()).any(1).nonzero()[0])
            raise InputError(
                "E_MESH_NONFINITE",
                f"{who}: expected finite vertices, got "
                f"{self.vertices[k].tolist()} at vertex {k}; try: export the mesh again",
            )
        return self

    @property
    def corners(self) -> Float[Tensor, "f 3 3"]:
        """Positions of each face's three vertices."""
        return self.vertices[self.faces]

    @property
    def face_normals(self) -> Float[Tensor, "f 3"]:
        """Outward normals whose length is twice the face's area."""
        a, b, c = self.corners.unbind(1)
        return torch.linalg.cross(b - a, c - a)

    @property
    def vertex_normals(self) -> Float[Tensor, "v 3"]:
        """Unit normals, area-weighted over the faces around a vertex."""
        total = torch.zeros_like(self.vertices)
        total = total.index_add(
            0, self.faces.reshape(-1), self.face_normals.repeat_interleave(3, 0)
        )
        return total / total.norm(dim=-1, keepdim=True).clamp_min(1e-12)

    @property
    def extent(self) -> Float[Tensor, " 3"]:
        """Size of the bounding box (width x, length y, height z)."""
        return self.vertices.amax(0) - self.vertices.amin(0)

    @property
    def volume(self) -> float:
        """Signed volume; positive where faces wind outwards."""
        a, b, c = self.corners.unbind(1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)

    def normalised(self) -> "Mesh":
        """Return the mesh centred on its bounding box, whose diagonal becomes 1."""
        used = self.vertices[self.faces.unique()]
        low, high = used.amin(0), used.amax(0)
        return self.with_vertices((self.vertices - (low + high) / 2) / (high - low).norm())

    def with_vertices(self, vertices: Float[Tensor, "v 3"]) -> "Mesh":
        """Return the same surface with its vertices elsewhere."""
        return Mesh(vertices, self.faces, self.uv)

    def is_watertight(self) -> bool:
        """Return whether each edge belongs to exactly two faces that wind consistently."""
        directed = torch.cat([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        key = directed[:, 0] * len(self.vertices) + directed[:, 1]
        back = directed[:, 1] * len(self.vertices) + directed[:, 0]
        return bool(len(key.unique()) == len(key) and torch.equal(key.sort()[0], back.sort()[0]))

    def sample_surface(self, n: int, rng: np.random.Generator) -> Float[Tensor, "n 3"]:
        """Return ``n`` points drawn evenly over the surface."""
        area = self.face_normals.norm(dim=-1).double().numpy()
        face = torch.from_numpy(rng.choice(len(area), n, p=area / area.sum()))
        u = torch.from_numpy(rng.random((n, 2))).to(self.vertices.dtype)
        root = u[:, :1].sqrt()
        weights = torch.cat([1 - root, root * (1 - u[:, 1:]), root * u[:, 1:]], 1)
        return (self.corners[face] * weights[..., None]).sum(1)


def read_mesh(path: str | Path, checked: bool = True) -> Mesh:
    """Return the mesh of an OFF, OBJ, PLY, STL or GLB file, all its parts in one.

    GLB, which is y up, is turned into the object frame; other formats stay as they are.

    Args:
        path: the file.
        checked: refuse what :meth:`Mesh.checked` refuses; else the mesh is as the file has it.

    Raises:
        InputError: E_IO, E_MESH_EMPTY, E_MESH_INDEX or E_MESH_NONFINITE.
    """
    path = Path(path)
    vertices, faces = parse_mesh_file(path)
    mesh = Mesh(torch.from_numpy(vertices), torch.from_numpy(faces))
    return mesh.checked(f"read_mesh() of {path.name}") if checked else mesh
