"""A model's template, or the shape of a latent code, as GLB, OBJ or PLY: ``featmesh export mesh``.

OBJ and PLY stay in the object frame (front -y, up +z) and say so in their first lines; GLB is
turned into glTF's own (front +z, up +y) by :func:`featmesh.present.meshfile.glb`. Texture
coordinates go along where the template has them; the vertices keep their order, so that row k of
the model's ``texture`` is the feature of vertex k (of GLB: of the vertex that ``_ANCHOR`` names).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import featmesh
from featmesh.errors import InputError
from featmesh.files import write_bytes_atomic
from featmesh.geometry.mesh import Mesh
from featmesh.model.category import CategoryModel
from featmesh.present.meshfile import glb

FRAMES = {
    ".glb": "glTF: front +z, up +y, left +x",
    ".obj": "object frame: front -y, up +z, left +x",
    ".ply": "object frame: front -y, up +z, left +x",
}
UNIT = "1 = diagonal of the bounding box of the category's mean shape, whose centre is the origin"


def shape_of(model: CategoryModel, latent: Sequence[float] = ()) -> Mesh:
    """Return the template, or the shape of a latent code, object frame and units.

    Args:
        model: of the category.
        latent: standard deviations along each direction of the shape space; () is the mean shape.

    Raises:
        CheckpointError: E_CKPT_PART for a code where the model has no shape space.
        InputError: E_SHAPE for a code of another length, E_NONFINITE for one with NaN or infinity.
    """
    if not latent:
        return model.mesh()
    length = model.shape_space("export mesh").latents
    if len(latent) != length:
        raise InputError(
            "E_SHAPE",
            f"export mesh: expected a latent code of {length} numbers, got {len(latent)}; "
            "try: the latent of a result.json",
        )
    code = torch.tensor(latent, dtype=torch.float64)
    if not bool(code.isfinite().all()):
        raise InputError(
            "E_NONFINITE", f"export mesh: expected a finite code, got {list(latent)}; try: 0 0 ..."
        )
    return model.mesh(code)


def write_mesh(path: Path, mesh: Mesh, name: str) -> dict[str, Any]:
    """Write a mesh, whole or not at all, and return what there is to say about the file.

    Args:
        path: ends in .glb, .obj or .ply.
        mesh: object frame and units.
        name: said in the first lines of OBJ and PLY.

    Raises:
        InputError: E_IO for another ending, or where it cannot be written; E_MESH_EMPTY,
            E_MESH_INDEX, E_MESH_NONFINITE.
    """
    kind = path.suffix.lower()
    if kind not in WRITERS:
        raise InputError(
            "E_IO",
            f"export mesh: expected a file name ending in {' '.join(WRITERS)}, got {path.name}; "
            "try: --out mesh.glb",
        )
    mesh = mesh.checked("export mesh")
    write_bytes_atomic(path, WRITERS[kind](mesh, " ".join(name.split())))
    return {
        "file": str(path),
        "frame": FRAMES[kind],
        "unit": UNIT,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "texture_coordinates": mesh.uv is not None,
        "watertight": mesh.is_watertight(),
    }


def _remarks(kind: str, name: str) -> list[str]:
    return [f"featmesh {featmesh.__version__}: {name}", FRAMES[kind], f"unit: {UNIT}"]


def _obj(mesh: Mesh, name: str) -> bytes:
    """Return OBJ text; v of texture coordinates grows upwards there."""
    lines = [f"# {remark}" for remark in _remarks(".obj", name)]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.double().tolist()]
    faces = mesh.faces.numpy() + 1
    if mesh.uv is None:
        lines += [f"f {a} {b} {c}" for a, b, c in faces.tolist()]
    else:
        points, corner = np.unique(_upwards(mesh).reshape(-1, 2), axis=0, return_inverse=True)
        lines += [f"vt {u:.9g} {v:.9g}" for u, v in points.tolist()]
        named = zip(faces.tolist(), (corner.reshape(-1, 3) + 1).tolist(), strict=True)
        lines += ["f " + " ".join(f"{i}/{t}" for i, t in zip(*f, strict=True)) for f in named]
    return ("\n".join(lines) + "\n").encode()


def _ply(mesh: Mesh, name: str) -> bytes:
    """Return binary PLY; texture coordinates are a list of each face, as MeshLab reads them."""
    told = [("count", "u1"), ("vertex", "<i4", 3)]
    told += [] if mesh.uv is None else [("pairs", "u1"), ("uv", "<f4", 6)]
    faces = np.zeros(len(mesh.faces), dtype=told)
    faces["count"], faces["vertex"] = 3, mesh.faces.numpy()
    lists = ["property list uchar int vertex_indices"]
    if mesh.uv is not None:
        faces["pairs"], faces["uv"] = 6, _upwards(mesh).reshape(-1, 6)
        lists.append("property list uchar float texcoord")
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {remark}" for remark in _remarks(".ply", name)),
        f"element vertex {len(mesh.vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(mesh.faces)}",
        *lists,
        "end_header",
    ]
    points = mesh.vertices.double().numpy().astype("<f4")
    return ("\n".join(header) + "\n").encode() + points.tobytes() + faces.tobytes()


def _glb(mesh: Mesh, name: str) -> bytes:
    """Return GLB; a vertex with several texture coordinates is repeated, its normal too."""
    return glb(mesh, textured=True)


def _uv(mesh: Mesh) -> Float[np.ndarray, "f 3 2"]:
    return np.zeros((0, 3, 2)) if mesh.uv is None else mesh.uv.double().numpy()


def _upwards(mesh: Mesh) -> Float[np.ndarray, "f 3 2"]:
    """Return texture coordinates whose v grows upwards, as OBJ and PLY have it; ours downwards."""
    return np.stack([_uv(mesh)[..., 0], 1 - _uv(mesh)[..., 1]], -1)


WRITERS: dict[str, Callable[[Mesh, str], bytes]] = {".glb": _glb, ".obj": _obj, ".ply": _ply}
