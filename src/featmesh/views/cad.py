"""Reading CADs for rendering: textured (Sweet Home 3D catalogues, OBJ) and plain (OFF, PLY, ...).

Stands at the start of ``render-views``: CADs in, parts with colour in the object frame out. Ours.
"""

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from featmesh.errors import InputError
from featmesh.geometry.mesh import read_mesh
from featmesh.geometry.mesh_file import FILE_LIMIT
from featmesh.paths import safe_join

from .cad_model import FRAMES, PLAIN_COLOUR, Cad, CadPart, bad, normalised, turned
from .cad_obj import checked, fan, parse_obj

__all__ = ["Cad", "CadPart", "read_cad", "read_plain", "read_sweethome3d", "turned"]

MEMBER_LIMIT = 64_000_000  # bytes of one unpacked file of a catalogue: a zip bomb stops here
Up = Literal["z", "y"]


def read_sweethome3d(
    catalogue_file: str | Path, name_pattern: str, leave_out: str | None = None
) -> list[Cad]:
    """Return the CADs of a catalogue (``.sh3f``, a zip) whose name matches, in its order.

    Args:
        catalogue_file: e.g. ``/usr/share/sweethome3d/furniture/Scopia.sh3f``.
        name_pattern: regular expression, searched in the item's name, whatever its case.
        leave_out: regular expression, searched in the model's path inside; those are passed over.

    Raises:
        InputError: E_IO (no such catalogue), E_MESH_EMPTY, E_MESH_INDEX, E_MESH_NONFINITE.
    """
    path = Path(catalogue_file)
    if not zipfile.is_zipfile(path):
        raise bad("E_IO", "a Sweet Home 3D catalogue (.sh3f)", str(path), "check the path")
    with zipfile.ZipFile(path) as archive:
        text = _member(archive, "PluginFurnitureCatalog.properties").decode("latin-1")
        terms = re.search(r"^license=(.*)$", text, re.M)
        found = [
            _catalogue_cad(archive, item, terms.group(1).strip() if terms else "not stated")
            for item in _items(text)
            if re.search(name_pattern, item.get("name", ""), re.IGNORECASE)
            and not (leave_out and re.search(leave_out, item["model"], re.IGNORECASE))
        ]
    return found


def read_plain(path: str | Path, licence: str = "not stated") -> Cad:
    """Return a CAD of one material, stored in the PASCAL3D+ frame as ``.off`` or ``.obj``.

    Raises:
        InputError: E_IO (another kind of file), E_MESH_EMPTY, E_MESH_INDEX, E_MESH_NONFINITE.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in (".off", ".obj") or not file.is_file():
        raise bad("E_IO", "a mesh file .off or .obj", str(file), "convert it, check the path")
    with _readable(str(file)):
        if kind == ".off":
            vertices, faces = _parse_off(file.read_text(encoding="latin-1"), str(file))
        else:
            parts = parse_obj(file.read_bytes(), lambda _: None, str(file))
            vertices = np.concatenate([p.vertices for p in parts])
            start = np.cumsum([0, *[len(p.vertices) for p in parts]])
            faces = np.concatenate([p.faces + s for p, s in zip(parts, start, strict=False)])
    plain = [CadPart(vertices, faces, None, None, PLAIN_COLOUR)]
    return Cad(f"{file.parent.name}/{file.stem}", normalised(plain), licence, file.name)


def read_cad(path: str | Path, licence: str = "not stated", up: Up = "z") -> Cad:
    """Return the CAD of a mesh file, called as it; of an OBJ with its materials and bitmaps.

    Args:
        path: ``.obj``, or what :func:`featmesh.geometry.mesh.read_mesh` reads. Material file and
            bitmaps lie in the same folder, or below.
        licence: quoted with renders of it.
        up: the file's frame: ``z`` = front -y, up +z (the object frame); ``y`` = front +z, up +y.
            GLB has its own.

    Raises:
        InputError: E_IO, E_PATH (a bitmap elsewhere), E_MESH_EMPTY, E_MESH_INDEX,
            E_MESH_NONFINITE, E_IMG_TOO_LARGE.
    """
    file = Path(path)
    if file.suffix.lower() != ".obj":
        mesh = read_mesh(file)
        vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
        parts = [CadPart(vertices, faces, None, None, PLAIN_COLOUR)]
    else:
        if not file.is_file() or file.stat().st_size > FILE_LIMIT:
            raise bad("E_IO", f"a file of at most {FILE_LIMIT} bytes", str(file), "the path")

        def beside(name: str) -> bytes | None:
            found = safe_join(file.parent, name.replace("\\", "/").removeprefix("./"))
            if not os.path.isfile(found) or found.stat().st_size > MEMBER_LIMIT:
                return None  # os.path: a name too long for a file is just no file
            return found.read_bytes()

        with _readable(str(file)):
            parts = parse_obj(file.read_bytes(), beside, str(file))
    frame = FRAMES["z" if file.suffix.lower() == ".glb" else up]
    return Cad(file.name, normalised(parts, frame), licence, file.name)


@contextmanager
def _readable(who: str) -> Iterator[None]:
    """Turn what a parser stumbles over into the fault of an unreadable mesh."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, IndexError) as error:
        got = f"{error} in {who}"
        raise bad("E_MESH_EMPTY", "a readable mesh", got, "export it again") from error
    except OSError as error:  # a bitmap that may not be read
        raise bad("E_IO", "readable files", f"{error} for {who}", "their rights") from error
    except OverflowError as error:  # of a face
        got = f"{error} in {who}"
        raise bad("E_MESH_INDEX", "indices of vertices", got, "export it again") from error


def _items(text: str) -> Iterator[dict[str, str]]:
    items: dict[int, dict[str, str]] = defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.M):
        items[int(number)][key] = value.strip()
    for _, item in sorted(items.items()):
        if "model" in item:
            yield item


def _catalogue_cad(archive: zipfile.ZipFile, item: dict[str, str], terms: str) -> Cad:
    model = PurePosixPath(item["model"].lstrip("/"))

    def beside(name: str) -> bytes | None:
        target = _inside(model.parent, name)
        return _member(archive, target) if target in archive.NameToInfo else None

    who = f"{archive.filename}:{model}"
    with _readable(who):
        parts = parse_obj(_member(archive, str(model)), beside, who)
    turn = np.eye(3)
    if "modelRotation" in item:
        turn = np.array(item["modelRotation"].split(), float).reshape(3, 3)
    frame = FRAMES["y"] @ turn  # determinant +1, or left and right are swapped
    licence = f"{terms}; by {item.get('creator', 'unknown')}"
    source = f"{Path(str(archive.filename)).name}:{model}"
    return Cad(item["name"], normalised(parts, frame), licence, source)


def _inside(folder: PurePosixPath, name: str) -> str:
    """Return the archive path of a file named beside a model; never one outside its folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in name:
        raise bad("E_PATH", "a file beside the model", repr(name), "repair the material file")
    return str(folder.joinpath(*parts))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.NameToInfo.get(name)
    if info is None:
        raise bad("E_IO", f"{name} in the archive", "nothing", "install the catalogue again")
    if info.file_size > MEMBER_LIMIT:
        got = f"{info.file_size} bytes in {name}"
        raise bad("E_IO", f"at most {MEMBER_LIMIT} bytes a file", got, "split the model")
    try:
        with archive.open(info) as member:  # archive.read() unpacks more than the size stated
            return member.read(info.file_size)
    except Exception as error:  # decoders of damaged archives raise anything
        got = f"{type(error).__name__}: {error}"
        raise bad("E_IO", f"{name} as it was packed", got, "install the catalogue again") from error


def _parse_off(text: str, who: str) -> tuple[np.ndarray, np.ndarray]:
    lines = [line for line in (raw.split("#")[0].split() for raw in text.splitlines()) if line]
    if lines and lines[0][0].upper() == "OFF":
        lines[0] = lines[0][1:]
        lines = [line for line in lines if line]
    if not lines or len(lines[0]) < 2:
        raise bad("E_MESH_EMPTY", "vertices and faces", f"none in {who}", "export the mesh again")
    n_vertices, n_faces = int(lines[0][0]), int(lines[0][1])
    if n_vertices + n_faces > len(lines) - 1:
        got = f"{len(lines) - 1} lines in {who}"
        raise bad("E_MESH_EMPTY", f"{n_vertices} vertices, {n_faces} faces", got, "export again")
    vertices = np.array([line[:3] for line in lines[1 : n_vertices + 1]], float).reshape(-1, 3)
    polygons = [
        [int(token) for token in line[1 : int(line[0]) + 1]]
        for line in lines[n_vertices + 1 : n_vertices + 1 + n_faces]
    ]
    return vertices, checked(vertices, fan(polygons), who)
