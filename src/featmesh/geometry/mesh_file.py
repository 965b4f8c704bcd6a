"""Mesh files as arrays; what a header promises is held against the file before memory is spent.

Stands below :func:`featmesh.geometry.mesh.read_mesh`. The parsers are trimesh's; the guards ours.
"""

import io
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from featmesh.errors import InputError

FILE_LIMIT = 500_000_000  # bytes
INSTANCE_LIMIT = 50_000_000  # vertices after a GLB's nodes have repeated its meshes
_HEADER = 65_536  # bytes in which a PLY or OFF header ends
_PLY_SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64", "int64", "uint64"), 8),
}
_GLB_SIZES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_GLB_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
# glTF is y up with the front along +z: x' = x, y' = -z, z' = y
_OBJECT_FROM_GLTF = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def parse_mesh_file(path: Path) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Return vertices (float64) and triangles (int64) of an OFF, OBJ, PLY, STL or GLB file.

    All parts of a file are put together; materials are not read. GLB is turned from its own frame
    (up y, front z) into the object frame; other formats know no frame and stay as they are.
    Indices are checked in OBJ and OFF files; in others they are not, nor are numbers.

    Raises:
        InputError: E_IO (no such file, another kind, too large), E_MESH_EMPTY (unreadable, or its
            header promises more than the file holds), E_MESH_INDEX.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        raise _bad("E_IO", "a file", str(path), "check the path")
    if kind not in MESH_KINDS:
        raise _bad("E_IO", f"a mesh file {' '.join(MESH_KINDS)}", path.name, "convert it")
    if path.stat().st_size > FILE_LIMIT:
        got = f"{path.stat().st_size} in {path.name}"
        raise _bad("E_IO", f"at most {FILE_LIMIT} bytes", got, "simplify the mesh")
    data = b""
    try:
        data = MESH_KINDS[kind](path.read_bytes(), path.name)
        vertices, faces = _parsed(data, kind)
    except InputError:
        raise
    except OSError as error:
        raise _bad("E_IO", "a readable file", f"{path.name} ({error})", "its rights") from error
    except Exception as error:  # a parser on a hostile file raises anything
        index = any(words in str(error) for words in ("face index", "out of bounds"))
        code = "E_MESH_INDEX" if index else "E_MESH_EMPTY"
        said = " ".join(str(error).split())[:200]
        where = _faulty_line(data, kind) if index else ""
        got = f"{path.name}{where} ({type(error).__name__}: {said})"
        raise _bad(code, "a mesh", got, "export it again as OBJ or PLY") from error
    return (vertices @ _OBJECT_FROM_GLTF.T if kind == ".glb" else vertices), faces


def _parsed(data: bytes, kind: str) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    loaded: Any = trimesh.load(
        io.BytesIO(data), file_type=kind[1:], force="mesh", process=False, skip_materials=True
    )
    vertices = np.asarray(loaded.vertices).astype(np.float64).reshape(-1, 3)
    faces = np.asarray(loaded.faces).astype(np.int64).reshape(-1, 3)
    beyond = faces.max(initial=-1) >= len(vertices) or faces.min(initial=0) < 0
    if beyond and kind in (".obj", ".off"):  # trimesh before version 5 lets it through
        raise IndexError("face index out of bounds")
    return vertices, faces


def _faulty_line(data: bytes, kind: str) -> str:
    """Return in words where an OBJ or OFF file first names no vertex; nothing if it cannot say."""
    lines = data.decode("utf-8", "replace").splitlines()
    split = ((number, line.partition("#")[0].split()) for number, line in enumerate(lines, 1))
    rows = [(number, words) for number, words in split if words]
    find = {".obj": _faulty_in_obj, ".off": _faulty_in_off}.get(kind)
    try:
        number = find(rows) if find else None
    except (ValueError, IndexError):  # no numbers where they should be
        number = None
    return f" line {number}" if number else ""


def _faulty_in_obj(rows: list[tuple[int, list[str]]]) -> int | None:
    total, seen = sum(words[0] == "v" for _, words in rows), 0
    for number, words in rows:
        seen += words[0] == "v"
        if words[0] == "f":
            index = [int(word.partition("/")[0]) for word in words[1:]]
            if any(not -seen <= i <= total for i in index):
                return number
    return None


def _faulty_in_off(rows: list[tuple[int, list[str]]]) -> int | None:
    start = next(k for k, (_, words) in enumerate(rows) if len(words) > 1)
    total = int(rows[start][1][-3])
    for number, words in rows[start + 1 + total :]:
        if any(not 0 <= int(i) < total for i in words[1 : 1 + int(words[0])]):
            return number
    return None


def _utf8(data: bytes) -> bytes:
    """Return text as UTF-8: authors' names in comments are often in another encoding."""
    try:
        return data.decode("utf-8-sig").encode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()


def _off(data: bytes, name: str) -> bytes:
    head = re.sub(rb"#[^\n]*", b"", data[:_HEADER])
    found = re.match(rb"\s*[A-Za-z]*?(?:OFF)?\s*(\d{1,30})\s+(\d{1,30})", head, re.IGNORECASE)
    if found:
        vertices, faces = int(found[1]), int(found[2])
        # the shortest lines are "0 0 0\n" and "1 0\n"
        _hold(6 * vertices + 4 * faces, data, f"{vertices} vertices, {faces} faces", name)
    return _utf8(data)


def _obj(data: bytes, name: str) -> bytes:
    zero = re.search(rb"^[ \t]*f[ \t](?:[^\n]*[ \t])?0+(?:[/\s]|$)", data, re.MULTILINE)
    if zero:
        line = data.count(b"\n", 0, zero.start()) + 1
        got = f"0 in line {line} of {name}"
        raise _bad("E_MESH_INDEX", "indices from 1 on", got, "export the mesh again")
    return _utf8(data)


def _ply(data: bytes, name: str) -> bytes:
    end = data.find(b"end_header", 0, _HEADER)
    if end < 0:
        raise _bad("E_MESH_EMPTY", "a PLY header", f"none in {name}", "export the mesh again")
    header = data[:end].decode("latin-1")
    text = re.search(r"^format\s+ascii", header, re.MULTILINE) is not None
    need, count = 0, 0
    for line in header.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "element":
            count = int(words[2]) if len(words[2]) < 30 else 10**30
        elif len(words) > 2 and words[0] == "property":
            kind = words[2] if words[1] == "list" else words[1]  # an empty list is its count
            need += max(count, 0) * (2 if text else _PLY_SIZES.get(kind, 1))
    _hold(need, data, f"at least {need} bytes", name)
    return _utf8(data) if text else data


def _stl(data: bytes, name: str) -> bytes:
    count = struct.unpack_from("<I", data, 80)[0] if len(data) >= 84 else 0
    need = 84 + 50 * count
    if data[:512].lstrip()[:5].lower() == b"solid" and len(data) != need:
        return _utf8(data)
    if len(data) < 84:
        raise _bad("E_MESH_EMPTY", "an STL header", f"none in {name}", "export the mesh again")
    _hold(need, data, f"{count} triangles", name)
    return data[:need]


def _glb(data: bytes, name: str) -> bytes:
    if len(data) < 20 or data[:4] != b"glTF":
        raise _bad("E_MESH_EMPTY", "a GLB header", f"none in {name}", "export the mesh again")
    total, chunk = struct.unpack_from("<I", data, 8)[0], struct.unpack_from("<I", data, 12)[0]
    _hold(max(total, 20 + chunk), data, f"{max(total, chunk)} bytes", name)
    tree = json.loads(data[20 : 20 + chunk])
    squeezed = [x for x in tree.get("extensionsRequired", []) if x in _COMPRESSED]
    if squeezed:
        got = f"{squeezed[0]} in {name}"
        raise _bad("E_MESH_EMPTY", "a GLB without compression", got, "export without it")
    accessors = tree.get("accessors", [])
    for accessor in accessors:
        size = _GLB_SIZES[accessor["componentType"]] * _GLB_WIDTHS[accessor["type"]]
        _hold(size * accessor["count"], data, f"{accessor['count']} elements", name)
    sizes = [
        sum(accessors[p["attributes"]["POSITION"]]["count"] for p in mesh["primitives"])
        for mesh in tree.get("meshes", [])
    ]
    shown = sum(sizes[node["mesh"]] for node in tree.get("nodes", []) if "mesh" in node)
    if shown > INSTANCE_LIMIT:
        got = f"{shown} in {name}"
        raise _bad("E_MESH_EMPTY", f"at most {INSTANCE_LIMIT} vertices", got, "simplify the mesh")
    return data


# guards: each returns the bytes to parse, or refuses them
MESH_KINDS: dict[str, Callable[[bytes, str], bytes]] = {
    ".off": _off,
    ".obj": _obj,
    ".ply": _ply,
    ".stl": _stl,
    ".glb": _glb,
}


def _hold(need: int, data: bytes, promised: str, name: str) -> None:
    """Refuse a file that holds fewer bytes than its header promises."""
    if need > len(data):
        got = f"{len(data)} bytes in {name}"
        raise _bad("E_MESH_EMPTY", f"{promised} as its header says", got, "export the mesh again")


def _bad(code: str, expected: str, got: str, hint: str) -> InputError:
    return InputError(code, f"read_mesh(): expected {expected}, got {got}; try: {hint}")
