"""Reading textured CADs (Sweet Home 3D catalogues, OBJ) and plain ones (OFF, OBJ) for rendering.

Stands at the start of ``render-views``: CADs in, parts with colour in the object frame out. Ours.
"""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, Int, UInt8

from featmesh.errors import InputError

MEMBER_LIMIT = 64_000_000  # bytes of one unpacked file of a catalogue: a zip bomb stops here
TEXTURE_LIMIT = 4096 * 4096  # pixels of one bitmap
PLAIN_COLOUR = (0.7, 0.7, 0.7)  # where a file names no colour


@dataclass(frozen=True, eq=False)
class CadPart:
    """The faces of one material.

    Attributes:
        vertices: corners, object frame, object units.
        faces: vertex indices; winding is not to be trusted.
        uv: texture coordinates of each face's corners, v up, or None.
        texture: bitmap, first row on top, or None.
        colour: RGB in 0..1, used where there is no texture.
        opacity: 1 solid, less for glass.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "f 3 2"] | None
    texture: UInt8[np.ndarray, "h w 3"] | None
    colour: tuple[float, float, float]
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class Cad:
    """One CAD in the PASCAL3D+ frame (front -y, up +z), centred, bounding-box diagonal 1.

    Attributes:
        name: what its catalogue or file calls it.
        parts: its materials.
        licence: terms and author, to be quoted wherever renders of it are used.
        source: where it came from: catalogue or file name, and the path inside.
    """

    name: str
    parts: tuple[CadPart, ...]
    licence: str
    source: str

    @property
    def extent(self) -> Float[np.ndarray, " 3"]:
        """Sides of the bounding box, object units."""
        used = np.concatenate([p.vertices for p in self.parts])
        return used.max(0) - used.min(0)


@dataclass(frozen=True)
class _Material:
    colour: tuple[float, float, float] = PLAIN_COLOUR
    opacity: float = 1.0
    texture: UInt8[np.ndarray, "h w 3"] | None = None


def read_sweethome3d(catalogue_file: str | Path, name_pattern: str) -> list[Cad]:
    """Return the CADs of a catalogue (``.sh3f``, a zip) whose name matches, in its order.

    Args:
        catalogue_file: e.g. ``/usr/share/sweethome3d/furniture/Scopia.sh3f``.
        name_pattern: regular expression, searched in the item's name, whatever its case.

    Raises:
        InputError: E_IO (no such catalogue), E_MESH_EMPTY, E_MESH_INDEX, E_MESH_NONFINITE.
    """
    path = Path(catalogue_file)
    if not zipfile.is_zipfile(path):
        raise _bad("E_IO", "a Sweet Home 3D catalogue (.sh3f)", str(path), "check the path")
    with zipfile.ZipFile(path) as archive:
        text = _member(archive, "PluginFurnitureCatalog.properties").decode("latin-1")
        terms = re.search(r"^license=(.*)$", text, re.M)
        found = [
            _catalogue_cad(archive, item, terms.group(1).strip() if terms else "not stated")
            for item in _items(text)
            if re.search(name_pattern, item.get("name", ""), re.IGNORECASE)
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
        raise _bad("E_IO", "a mesh file .off or .obj", str(file), "convert it, check the path")
    with _readable(str(file)):
        if kind == ".off":
            vertices, faces = _parse_off(file.read_text(encoding="latin-1"), str(file))
        else:
            parts = _parse_obj(file.read_bytes(), lambda _: None, str(file))
            vertices = np.concatenate([p.vertices for p in parts])
            start = np.cumsum([0, *[len(p.vertices) for p in parts]])
            faces = np.concatenate([p.faces + s for p, s in zip(parts, start, strict=False)])
    plain = [CadPart(vertices, faces, None, None, PLAIN_COLOUR)]
    return Cad(f"{file.parent.name}/{file.stem}", _normalised(plain), licence, file.name)


@contextmanager
def _readable(who: str) -> Iterator[None]:
    """Turn what a parser stumbles over into the fault of an unreadable mesh."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, IndexError) as error:
        got = f"{error} in {who}"
        raise _bad("E_MESH_EMPTY", "a readable mesh", got, "export it again") from error


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
        parts = _parse_obj(_member(archive, str(model)), beside, who)
    turn = np.eye(3)
    if "modelRotation" in item:
        turn = np.array(item["modelRotation"].split(), float).reshape(3, 3)
    # catalogue frame: y up, front +z; determinant +1, or left and right are swapped
    frame = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turn
    licence = f"{terms}; by {item.get('creator', 'unknown')}"
    source = f"{Path(str(archive.filename)).name}:{model}"
    return Cad(item["name"], _normalised(parts, frame), licence, source)


def _inside(folder: PurePosixPath, name: str) -> str:
    """Return the archive path of a file named beside a model; never one outside its folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in name:
        raise _bad("E_PATH", "a file beside the model", repr(name), "repair the material file")
    return str(folder.joinpath(*parts))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.NameToInfo.get(name)
    if info is None:
        raise _bad("E_IO", f"{name} in the archive", "nothing", "install the catalogue again")
    if info.file_size > MEMBER_LIMIT:
        got = f"{info.file_size} bytes in {name}"
        raise _bad("E_IO", f"at most {MEMBER_LIMIT} bytes a file", got, "split the model")
    return archive.read(info)


def _parse_off(text: str, who: str) -> tuple[np.ndarray, np.ndarray]:
    lines = [line for line in (raw.split("#")[0].split() for raw in text.splitlines()) if line]
    if lines and lines[0][0].upper() == "OFF":
        lines[0] = lines[0][1:]
        lines = [line for line in lines if line]
    if not lines or len(lines[0]) < 2:
        raise _bad("E_MESH_EMPTY", "vertices and faces", f"none in {who}", "export the mesh again")
    n_vertices, n_faces = int(lines[0][0]), int(lines[0][1])
    if n_vertices + n_faces > len(lines) - 1:
        got = f"{len(lines) - 1} lines in {who}"
        raise _bad("E_MESH_EMPTY", f"{n_vertices} vertices, {n_faces} faces", got, "export again")
    vertices = np.array([line[:3] for line in lines[1 : n_vertices + 1]], float).reshape(-1, 3)
    polygons = [
        [int(token) for token in line[1 : int(line[0]) + 1]]
        for line in lines[n_vertices + 1 : n_vertices + 1 + n_faces]
    ]
    return vertices, _checked(vertices, _fan(polygons), who)


def _fan(polygons: list[list[int]]) -> np.ndarray:
    triangles = [
        (polygon[0], polygon[k], polygon[k + 1])
        for polygon in polygons
        for k in range(1, len(polygon) - 1)
    ]
    return np.array(triangles, dtype=np.int64).reshape(-1, 3)


def _checked(vertices: np.ndarray, faces: np.ndarray, who: str) -> np.ndarray:
    """Return the faces, or raise the fault the mesh has."""
    if not len(vertices) or not len(faces):
        got = f"{len(vertices)} vertices, {len(faces)} faces in {who}"
        raise _bad("E_MESH_EMPTY", "a mesh with vertices and faces", got, "export it again")
    wrong = ((faces < 0) | (faces >= len(vertices))).any(1)
    if wrong.any():
        k = int(wrong.argmax())
        got = f"face {k} = {faces[k].tolist()} in {who}"
        raise _bad("E_MESH_INDEX", f"indices below {len(vertices)}", got, "repair the mesh")
    used = np.unique(faces)
    broken = used[~np.isfinite(vertices[used]).all(1)]
    if len(broken):
        row = int(broken[0])
        got = f"vertex {row} = {vertices[row].tolist()} in {who}"
        raise _bad("E_MESH_NONFINITE", "finite vertices", got, "repair the mesh")
    return faces


def _parse_obj(data: bytes, beside: Callable[[str], bytes | None], who: str) -> list[CadPart]:
    """Return the parts of an OBJ file, one a material, in the file's own frame."""
    rows: dict[str, list[list[str]]] = {"v": [], "vt": []}
    polygons: dict[str, list[tuple[list[int], list[int]]]] = defaultdict(list)
    materials: dict[str, _Material] = {}
    material = ""
    for line in data.decode("latin-1").replace("\\\n", " ").splitlines():
        key, _, rest = line.strip().partition(" ")
        if key in rows:
            rows[key].append(rest.split())
        elif key == "f":
            polygons[material].append(_corners(rest, len(rows["v"]), len(rows["vt"])))
        elif key == "usemtl":
            material = rest.strip()
        elif key == "mtllib" and (library := beside(rest.strip())) is not None:
            materials |= _parse_mtl(library, beside)
    vertices = np.array([row[:3] for row in rows["v"]], float).reshape(-1, 3)
    uv = np.array([row[:2] for row in rows["vt"]], float).reshape(-1, 2)
    everything = _fan([corners for group in polygons.values() for corners, _ in group])
    _checked(vertices, everything, who)
    return [
        _part(vertices, uv, group, materials.get(name, _Material()))
        for name, group in polygons.items()
        if any(len(corners) > 2 for corners, _ in group)
    ]


def _corners(text: str, n_vertices: int, n_uv: int) -> tuple[list[int], list[int]]:
    """Return the 0-based vertex and texture indices of a face line; -1 = no texture."""
    vertices, uv = [], []
    for token in text.split():
        fields = token.split("/")
        index = int(fields[0])
        vertices.append(index - 1 if index > 0 else n_vertices + index)
        index = int(fields[1]) if len(fields) > 1 and fields[1] else 0
        uv.append(index - 1 if index > 0 else n_uv + index if index < 0 else -1)
    return vertices, uv


def _part(
    vertices: np.ndarray,
    uv: np.ndarray,
    polygons: list[tuple[list[int], list[int]]],
    material: _Material,
) -> CadPart:
    faces = _fan([corners for corners, _ in polygons])
    used, inverse = np.unique(faces, return_inverse=True)
    texture, corner_uv = material.texture, None
    if texture is not None:
        which = _fan([corners for _, corners in polygons])
        if len(uv) and which.min() >= 0 and which.max() < len(uv) and np.isfinite(uv).all():
            corner_uv = uv[which]
        else:
            texture = None
    local = inverse.reshape(-1, 3)
    return CadPart(vertices[used], local, corner_uv, texture, material.colour, material.opacity)


def _parse_mtl(data: bytes, beside: Callable[[str], bytes | None]) -> dict[str, _Material]:
    found: dict[str, dict[str, str]] = {}
    name = ""
    for line in data.decode("latin-1").splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "newmtl":
            name = rest.strip()
            found[name] = {}
        elif name:
            found[name][key] = rest.strip()
    return {name: _material(fields, beside) for name, fields in found.items()}


def _material(fields: dict[str, str], beside: Callable[[str], bytes | None]) -> _Material:
    red, green, blue = (float(x) for x in fields.get("Kd", "0.7 0.7 0.7").split()[:3])
    opacity = float(fields["d"].split()[-1]) if "d" in fields else 1.0
    texture = None
    if "map_Kd" in fields:
        data = beside(fields["map_Kd"])
        texture = _bitmap(data) if data is not None else None
    return _Material((red, green, blue), opacity, texture)


def _bitmap(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > TEXTURE_LIMIT:
            got = f"{image.width} x {image.height}"
            raise _bad("E_IMG_TOO_LARGE", f"at most {TEXTURE_LIMIT} pixels", got, "shrink it")
        return np.array(image.convert("RGB"))


def _normalised(
    parts: list[CadPart], frame: Float[np.ndarray, "3 3"] | None = None
) -> tuple[CadPart, ...]:
    """Return the parts turned by ``frame``, centred, with a bounding-box diagonal of 1."""
    frame = np.eye(3) if frame is None else frame
    turned = [p.vertices @ frame.T for p in parts]
    used = np.concatenate([v[np.unique(p.faces)] for v, p in zip(turned, parts, strict=True)])
    low, high = used.min(0), used.max(0)
    diagonal = float(np.linalg.norm(high - low)) or 1.0
    return tuple(
        CadPart(((v - (low + high) / 2) / diagonal), p.faces, p.uv, p.texture, p.colour, p.opacity)
        for v, p in zip(turned, parts, strict=True)
    )


def _bad(code: str, expected: str, got: str, hint: str) -> InputError:
    return InputError(code, f"read CAD: expected {expected}, got {got}; try: {hint}")
