"""OBJ files whose faces are named: the names of objects, groups or materials, face by face.

The OBJ reader of :mod:`featmesh.geometry.mesh_file` puts all parts together; this one keeps apart
what the lines ``o``, ``g`` and ``usemtl`` name.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Int

from featmesh.errors import InputError

from .mesh import Mesh
from .mesh_file import FILE_LIMIT

NameKind = Literal["g", "o", "usemtl"]
KINDS: tuple[NameKind, ...] = get_args(NameKind)


@dataclass(frozen=True, eq=False)
class NamedFaces:
    """A mesh whose faces have names.

    Attributes:
        mesh: triangles, as the file has them.
        names: in the order in which the file first uses them; "" where a face has none.
        name_of: of each face, the number of its name.
    """

    mesh: Mesh
    names: tuple[str, ...]
    name_of: Int[np.ndarray, " f"]


def read_named_faces(path: str | Path, kind: NameKind | None = None) -> NamedFaces:
    """Return the mesh of an OBJ file and what each face is called.

    Args:
        path: the file; polygons are cut into triangles that share their first corner.
        kind: which lines name the faces; None takes the first kind that gives two names or more.

    Raises:
        InputError: E_IO (no such file, no OBJ, too large), E_MESH_EMPTY, E_MESH_INDEX,
            E_MESH_NONFINITE as :func:`featmesh.geometry.mesh.read_mesh`; E_MESH_GROUPS where no
            kind of line tells faces apart.
    """
    path = Path(path)
    if not path.is_file() or path.suffix.lower() != ".obj":
        raise _bad("E_IO", "an .obj file", str(path), "export the mesh as OBJ with groups")
    if path.stat().st_size > FILE_LIMIT:
        got = f"{path.stat().st_size} in {path.name}"
        raise _bad("E_IO", f"at most {FILE_LIMIT} bytes", got, "simplify the mesh")
    vertices, faces, named = _parsed(path)
    corners = np.asarray(vertices, dtype=np.float64).reshape(-1, 3)
    triangles = np.asarray(faces, dtype=np.int64).reshape(-1, 3)
    mesh = Mesh(torch.from_numpy(corners), torch.from_numpy(triangles))
    mesh.checked(f"read_named_faces() of {path.name}")
    for one in KINDS if kind is None else (kind,):
        names = tuple(dict.fromkeys(named[one]))
        if len(names) > 1 or (kind is not None and names != ("",)):
            numbers = {name: k for k, name in enumerate(names)}
            return NamedFaces(mesh, names, np.array([numbers[name] for name in named[one]]))
    got = f"none in {path.name}"
    raise _bad("E_MESH_GROUPS", "lines g, o or usemtl that name parts", got, "name the parts")


def _parsed(path: Path) -> tuple[list[list[float]], list[list[int]], dict[NameKind, list[str]]]:
    """Return vertices, triangles and, of each kind of line, the name of each triangle."""
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    current: dict[NameKind, str] = dict.fromkeys(KINDS, "")
    named: dict[NameKind, list[str]] = {kind: [] for kind in KINDS}
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise _bad("E_IO", "a readable file", f"{path.name} ({error})", "its rights") from error
    for number, line in enumerate(text.replace("\\\n", " ").splitlines(), 1):
        word, _, rest = line.strip().partition(" ")
        try:
            if word == "v":
                vertices.append([float(v) for v in rest.split()[:3]])
            elif word == "f":
                fan = _triangles([_index(w, len(vertices)) for w in rest.split()])
                faces.extend(fan)
                for kind in KINDS:
                    named[kind].extend([current[kind]] * len(fan))
            elif word in KINDS:
                current[word] = rest.strip()
            if word == "v" and len(vertices[-1]) != 3:
                raise ValueError("fewer than three numbers")
        except ValueError as error:
            got = f"line {number} of {path.name} ({error})"
            raise _bad("E_MESH_INDEX", "numbers", got, "export the mesh again") from error
    return vertices, faces, named


def _index(word: str, count: int) -> int:
    """Return the vertex of a face's corner ``v/vt/vn``: from 1 on, or from the end below 0."""
    index = int(word.partition("/")[0])
    if index == 0 or index < -count:
        raise ValueError(f"index {index}")
    return index - 1 if index > 0 else count + index


def _triangles(polygon: list[int]) -> list[list[int]]:
    if len(polygon) < 3:
        raise ValueError("fewer than three corners")
    return [[polygon[0], b, c] for b, c in pairwise(polygon[1:])]


def _bad(code: str, expected: str, got: str, hint: str) -> InputError:
    return InputError(code, f"read_named_faces(): expected {expected}, got {got}; try: {hint}")
