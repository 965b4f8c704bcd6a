"""Meshes as GLB files (binary glTF 2.0), which browsers, Blender and office programs open."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

import featmesh
from featmesh.errors import InputError
from featmesh.files import write_bytes_atomic
from featmesh.geometry.mesh import Mesh

from .overlay import TINT

Unit = Literal["object", "metre"]
# glTF is y up with the front along +z, the object frame z up with the front along -y: a rotation
GLTF_FROM_OBJECT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_GLB, _JSON, _BIN = b"glTF", b"JSON", b"BIN\0"
_FLOAT, _BYTE, _INDEX = 5126, 5121, 5125  # component types: float32, uint8, uint32
_VERTICES, _FACES = 34962, 34963  # what a buffer view holds


def write_glb(
    path: Path, mesh: Mesh, unit: Unit = "object", colours: UInt8[np.ndarray, "v 3"] | None = None
) -> None:
    """Write a mesh as GLB, whole or not at all; arguments and errors as :func:`glb`.

    Raises:
        FeatmeshError: E_DISK_FULL, E_IO.
    """
    write_bytes_atomic(path, glb(mesh, unit, colours))


def glb(
    mesh: Mesh,
    unit: Unit = "object",
    colours: UInt8[np.ndarray, "v 3"] | None = None,
    textured: bool = False,
) -> bytes:
    """Return a mesh as binary glTF 2.0 with vertex normals, its first vertices those of the mesh.

    The object frame (front -y, up +z) is turned into that of glTF (front +z, up +y), left stays
    left: (x, y, z) becomes (x, z, -y). glTF has no unit but the metre: a mesh in object units is
    shown as large as if its diagonal were a metre, and ``asset.extras.unit`` says "object".

    Args:
        mesh: in the object frame.
        unit: of the vertices, kept in ``asset.extras``.
        colours: RGB of each vertex; one tint by default.
        textured: whether texture coordinates go along, where the mesh has some. A vertex with
            several is repeated then, and ``_ANCHOR`` names the vertex of the mesh each one is of.

    Raises:
        InputError: E_MESH_EMPTY, E_MESH_INDEX, E_MESH_NONFINITE, or E_SHAPE where there is not one
            colour for each vertex.
    """
    mesh = mesh.checked("glb()")
    if colours is not None and len(colours) != len(mesh.vertices):
        raise InputError(
            "E_SHAPE",
            f"glb(): expected a colour for each of {len(mesh.vertices)} vertices, got "
            f"{len(colours)}; try: None",
        )
    points = _turned(mesh.vertices.detach().double().numpy())
    columns: list[tuple[str, np.ndarray]] = [
        ("POSITION", points),
        ("NORMAL", _unit(_turned(mesh.with_vertices(mesh.vertices.double()).vertex_normals))),
    ]
    if colours is not None:
        # linear light, as glTF wants it; four bytes a vertex keep the rows aligned
        linear = np.rint(255 * (colours / 255.0) ** 2.2).astype(np.uint8)
        opaque = np.full((len(colours), 1), 255, dtype=np.uint8)
        columns.append(("COLOR_0", np.hstack([linear, opaque])))
    faces = mesh.faces.numpy()
    if textured and mesh.uv is not None:
        source, uv, faces = _corners(mesh.faces.numpy(), mesh.uv.double().numpy())
        columns = [(name, values[source]) for name, values in columns]
        columns += [("TEXCOORD_0", uv.astype("<f4")), ("_ANCHOR", source.astype("<f4"))]
    columns.append(("indices", faces.astype("<u4").reshape(-1)))
    return _packed(_described(columns, unit), b"".join(values.tobytes() for _, values in columns))


def _corners(
    faces: Int[np.ndarray, "f 3"], uv: Float[np.ndarray, "f 3 2"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2"], Int[np.ndarray, "f 3"]]:
    """Return vertex and coordinates of each distinct corner, and the faces over these."""
    corners = np.concatenate([faces.reshape(-1, 1).astype(np.float64), uv.reshape(-1, 2)], axis=1)
    kept, place = np.unique(corners, axis=0, return_inverse=True)
    return kept[:, 0].astype(np.int64), kept[:, 1:], place.reshape(-1, 3)


def _turned(vectors: Any) -> Float[np.ndarray, "v 3"]:
    """Return vectors of the object frame in glTF's, little-endian float32."""
    return (np.asarray(vectors) @ GLTF_FROM_OBJECT.T).astype("<f4")


def _unit(normals: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Return the normals with those of vertices without a surface pointing up: glTF has no zero."""
    bare = ~(np.linalg.norm(normals, axis=1) > 0.5)
    normals[bare] = (0.0, 1.0, 0.0)
    return normals


def _described(columns: list[tuple[str, np.ndarray]], unit: Unit) -> dict[str, Any]:
    """Return the glTF document: one mesh whose buffer holds the columns one after another."""
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    start = 0
    for name, values in columns:
        target = _FACES if name == "indices" else _VERTICES
        size = values.nbytes
        views.append({"buffer": 0, "byteOffset": start, "byteLength": size, "target": target})
        accessors.append({"bufferView": len(accessors), **_accessor(name, values)})
        start += size
    attributes = {name: k for k, (name, _) in enumerate(columns[:-1])}
    base = [1.0, 1.0, 1.0] if "COLOR_0" in attributes else [round(v**2.2, 4) for v in TINT]
    surface = {"baseColorFactor": [*base, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
    return {
        "asset": {
            "version": "2.0",
            "generator": f"featmesh {featmesh.__version__}",
            "extras": {"unit": unit, "axes": "y up, front +z; object frame (x, -z, y)"},
        },
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {"primitives": [{"attributes": attributes, "indices": len(attributes), "material": 0}]}
        ],
        "materials": [{"pbrMetallicRoughness": surface}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": start}],
    }


def _accessor(name: str, values: np.ndarray) -> dict[str, Any]:
    """Return what a column is made of; glTF asks for the bounds of positions only."""
    if name == "indices":
        return {"componentType": _INDEX, "count": len(values), "type": "SCALAR"}
    if name == "COLOR_0":
        kind = {"componentType": _BYTE, "normalized": True, "type": "VEC4"}
        return {**kind, "count": len(values)}
    bounds = {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
    told = bounds if name == "POSITION" else {}
    rank = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
    return {"componentType": _FLOAT, "count": len(values), "type": rank, **told}


def _packed(document: dict[str, Any], buffer: bytes) -> bytes:
    """Return document and buffer in the container of GLB: chunks of whole four bytes."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    buffer += b"\0" * (-len(buffer) % 4)
    total = 12 + 8 + len(text) + 8 + len(buffer)
    head = _GLB + np.array([2, total], dtype="<u4").tobytes()
    return head + _chunk(_JSON, text) + _chunk(_BIN, buffer)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return np.array([len(content)], dtype="<u4").tobytes() + kind + content
