"""The OBJ files of CADs: polygons by material, their bitmaps, the names of groups. Ours.

Used by :mod:`featmesh.views.cad`; :mod:`featmesh.views.cad_ac3d` has its bitmaps read here too.
"""

import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from .cad_model import PLAIN_COLOUR, CadPart, bad

TEXTURE_LIMIT = 4096 * 4096  # pixels of one bitmap
CUT = 0.25  # mean opacity of a face in its alpha bitmap below which the face is left out


@dataclass(frozen=True)
class _Material:
    colour: tuple[float, float, float] = PLAIN_COLOUR
    opacity: float = 1.0
    texture: UInt8[np.ndarray, "h w 3"] | None = None
    alpha: UInt8[np.ndarray, "h w"] | None = None  # cuts spokes or leaves out of a face


def fan(polygons: list[list[int]]) -> np.ndarray:
    """Return the triangles of polygons, each from its first corner."""
    triangles = [
        (polygon[0], polygon[k], polygon[k + 1])
        for polygon in polygons
        for k in range(1, len(polygon) - 1)
    ]
    return np.array(triangles, dtype=np.int64).reshape(-1, 3)


def checked(vertices: np.ndarray, faces: np.ndarray, who: str) -> np.ndarray:
    """Return the faces, or raise the fault the mesh has."""
    if not len(vertices) or not len(faces):
        got = f"{len(vertices)} vertices, {len(faces)} faces in {who}"
        raise bad("E_MESH_EMPTY", "a mesh with vertices and faces", got, "export it again")
    wrong = ((faces < 0) | (faces >= len(vertices))).any(1)
    if wrong.any():
        k = int(wrong.argmax())
        got = f"face {k} = {faces[k].tolist()} in {who}"
        raise bad("E_MESH_INDEX", f"indices below {len(vertices)}", got, "repair the mesh")
    used = np.unique(faces)
    broken = used[~np.isfinite(vertices[used]).all(1)]
    if len(broken):
        row = int(broken[0])
        got = f"vertex {row} = {vertices[row].tolist()} in {who}"
        raise bad("E_MESH_NONFINITE", "finite vertices", got, "repair the mesh")
    return faces


def parse_obj(data: bytes, beside: Callable[[str], bytes | None], who: str) -> list[CadPart]:
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
    everything = fan([corners for group in polygons.values() for corners, _ in group])
    checked(vertices, everything, who)
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
    faces = fan([corners for corners, _ in polygons])
    used, inverse = np.unique(faces, return_inverse=True)
    texture, corner_uv = material.texture, None
    if texture is not None:
        which = fan([corners for _, corners in polygons])
        if len(uv) and which.min() >= 0 and which.max() < len(uv) and np.isfinite(uv).all():
            corner_uv = uv[which]
        else:
            texture = None
    if corner_uv is not None and material.alpha is not None:
        seen = opaque(material.alpha, corner_uv)
        if seen.any() and not seen.all():  # half-tone of spokes is little; a filled disc is wrong
            used, inverse = np.unique(faces[seen], return_inverse=True)
            corner_uv = corner_uv[seen]
    local = inverse.reshape(-1, 3)
    return CadPart(vertices[used], local, corner_uv, texture, material.colour, material.opacity)


def opaque(alpha: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Return which faces an alpha bitmap leaves mostly to be seen."""
    height, width = alpha.shape
    weights = np.array([(a, b, 8 - a - b) for a in range(9) for b in range(9 - a)]) / 8
    u, v = np.moveaxis(np.einsum("nk,fkc->fnc", weights, uv) % 1, -1, 0)
    x, y = (u * width).astype(int), ((1 - v) * height).astype(int)
    return alpha[y.clip(0, height - 1), x.clip(0, width - 1)].mean(1) > CUT * 255


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
    texture = alpha = None
    if "map_Kd" in fields and (data := beside(fields["map_Kd"])) is not None:
        texture = read_bitmap(data)[..., :3]
    if "map_d" in fields and (data := beside(fields["map_d"])) is not None:
        bitmap = read_bitmap(data)
        solid = (bitmap[..., 3] == 255).all()
        alpha = bitmap[..., 0] if solid else bitmap[..., 3]
    return _Material((red, green, blue), opacity, texture, alpha)


def read_bitmap(data: bytes) -> UInt8[np.ndarray, "h w 4"]:
    """Return a bitmap's colour and opacity, first row on top."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > TEXTURE_LIMIT:
            got = f"{image.width} x {image.height}"
            raise bad("E_IMG_TOO_LARGE", f"at most {TEXTURE_LIMIT} pixels", got, "shrink it")
        return np.array(image.convert("RGBA"))
