"""The AC3D files (.ac, TORCS .acc) of CADs: objects inside objects, polygons, bitmaps. Ours.

The format is the one its maker describes (Inivis, "The AC3D file format", version b). Used by
:mod:`featmesh.views.cad_sources`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from featmesh.errors import InputError
from featmesh.paths import safe_join

from .cad_model import PLAIN_COLOUR, Cad, CadPart, bad, normalised
from .cad_obj import checked, fan, opaque, read_bitmap

TEXT_LIMIT = 64_000_000  # bytes of one file; the largest of FlightGear's has 13 million
SKIN_SIDE = 512  # pixels of a bitmap's longer side: a photo shows a CAD with fewer
# object frame from FlightGear's (nose -x, up +y); determinant +1
FLIGHTGEAR = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
# objects that no photo shows as a body: lamps and halos, turning propellers, flames, wakes
NO_BODY = (
    r"(?<!f)light(?!ning)|lamp|strobe|beacon|flare|halo|glow|shadow|prop.*(dis[ck]|blur|fast)"
    r"|flame|burner|wake|contrail|condens|rain|chock|place-?holder|dirt"
)
NOTHING = r"(?!)"  # matches no name
_LINES = (1, 2)  # kinds of surface: closed line, line
_STRIP = 4  # TORCS: a strip of triangles
_MOST_CUT = 64  # corners of a polygon that is looked at whether it bulges inwards


@dataclass(frozen=True)
class _Material:
    colour: tuple[float, float, float] = PLAIN_COLOUR
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class _Surface:
    material: int
    triangles: Int[np.ndarray, "t 3"]  # vertices of the object
    uv: Float[np.ndarray, "t 3 2"]


@dataclass(eq=False)
class _Object:
    """One object; ``turn`` and ``shift`` lead into its parent, then into the file."""

    name: str = ""
    texture: str = ""
    repeat: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.ones(2))
    offset: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.zeros(2))
    turn: Float[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    shift: Float[np.ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))
    vertices: Float[np.ndarray, "v 3"] = field(default_factory=lambda: np.zeros((0, 3)))
    surfaces: list[_Surface] = field(default_factory=list)
    kids: int = 0
    left_out: bool = False


class _Lines:
    """The lines of a file, from the first to the last."""

    def __init__(self, data: bytes, who: str) -> None:
        self.lines, self.at, self.who = data.decode("latin-1").split("\n"), 0, who

    def next(self) -> str:
        """Return the next line that is not blank, "" at the end."""
        while self.at < len(self.lines):
            self.at += 1
            if line := self.lines[self.at - 1].strip():
                return line
        return ""

    def rows(self, count: int) -> list[list[str]]:
        """Return the words of that many lines; the file must have them."""
        left = len(self.lines) - self.at
        if not 0 <= count <= left:
            raise self.broken(f"{count} more lines", f"{left}")
        return [self.next().split() for _ in range(count)]

    def pass_text(self, count: int) -> None:
        """Pass over a text of that many characters, which may have line ends of its own."""
        passed = len(self.lines[self.at]) if self.at < len(self.lines) else 0
        self.at += 1
        while passed < count and self.at < len(self.lines):
            passed += 1 + len(self.lines[self.at])
            self.at += 1

    def broken(self, expected: str, got: str) -> InputError:
        where = f"{got} at line {self.at} of {self.who}"
        return bad("E_MESH_EMPTY", expected, where, "copy or export the file again")


def read_ac3d(
    path: str | Path,
    frame: Float[np.ndarray, "3 3"] = FLIGHTGEAR,
    licence: str = "not stated",
    skins: Sequence[Path] = (),
    leave_out: str = NO_BODY,
    behind: Sequence[Path] = (),
) -> Cad:
    """Return the CAD of an AC3D file, called as it, with its bitmaps; a part for each material.

    Lines are left out, and faces that are seen through. Bitmaps (PNG, SGI, ...) are shrunk to
    :data:`SKIN_SIDE`; one that is not there is done without. Where a file promises more objects
    inside another than it holds, as some of FlightGear's do, those it holds are all.

    Args:
        path: ``.ac`` or ``.acc``.
        frame: object frame (front -y, up +z) from the file's, a rotation.
        licence: quoted with renders of it.
        skins: folders in which bitmaps are looked for before the file's own.
        leave_out: regular expression found, whatever its case, in names of objects that are left
            out with all that is inside them; "" = none.
        behind: files of the same frame that stand behind it, as coaches behind a locomotive.

    Raises:
        InputError: E_IO (no such file, too large, an unreadable bitmap), E_MESH_EMPTY (not AC3D,
            broken off, nothing to be seen), E_MESH_INDEX, E_MESH_NONFINITE, E_IMG_TOO_LARGE.
    """
    parts: list[CadPart] = []
    for file in (Path(path), *behind):
        more = [
            replace(part, vertices=part.vertices @ frame.T)
            for part in _parts(file, (*skins, file.parent), leave_out)
        ]
        gap = np.zeros(3)
        if parts:
            gap[1] = max(p.vertices[:, 1].max() for p in parts)
            gap[1] -= min(p.vertices[:, 1].min() for p in more)
        parts += [replace(part, vertices=part.vertices + gap) for part in more]
    name = Path(path).name
    return Cad(name, normalised(parts), licence, name)


def _parts(file: Path, folders: Sequence[Path], leave_out: str) -> list[CadPart]:
    """Return the parts of a file in its own frame and units."""
    if not file.is_file() or file.stat().st_size > TEXT_LIMIT:
        raise bad("E_IO", f"an AC3D file of at most {TEXT_LIMIT} bytes", str(file), "the path")
    lines = _Lines(file.read_bytes(), str(file))
    try:
        materials, objects = _parsed(lines, re.compile(leave_out or NOTHING, re.IGNORECASE))
    except InputError:
        raise
    except (ValueError, IndexError, OverflowError) as error:
        raise lines.broken("AC3D as its maker describes it", str(error)) from error
    groups: dict[tuple[str, _Material], list[tuple[_Object, _Surface]]] = defaultdict(list)
    for one in objects:
        for surface in one.surfaces:
            known = 0 <= surface.material < len(materials)
            material = materials[surface.material] if known else _Material()
            groups[one.texture, material].append((one, surface))
    bitmaps = {name: _bitmap(name, folders) for name in {name for name, _ in groups}}
    made = [_part(group, key[1], bitmaps[key[0]], str(file)) for key, group in groups.items()]
    parts = [part for part in made if part is not None]
    if not parts:
        raise bad("E_MESH_EMPTY", "polygons", f"none in {file}", "leave out fewer objects")
    return parts


def _parsed(lines: _Lines, leave_out: re.Pattern[str]) -> tuple[list[_Material], list[_Object]]:
    """Return the materials and the objects, those placed into the file's frame."""
    if not lines.next().startswith("AC3D"):
        raise lines.broken("a first line AC3D", "another")
    materials: list[_Material] = []
    objects: list[_Object] = []
    above: list[_Object] = []  # those that still wait for kids
    while line := lines.next():
        if line.startswith("MATERIAL"):
            materials.append(_material(line))
        elif line.startswith("OBJECT"):
            one = _object(lines)
            parent = above[-1] if above else _Object()
            one.shift = parent.shift + parent.turn @ one.shift
            one.turn = parent.turn @ one.turn
            one.texture = one.texture or parent.texture
            one.left_out = parent.left_out or leave_out.search(one.name) is not None
            if not one.left_out:
                objects.append(one)
            parent.kids -= 1
            above.append(one)
            while above and above[-1].kids <= 0:
                above.pop()
    return materials, objects


def _material(line: str) -> _Material:
    """``MATERIAL "a name" rgb 1 1 1 amb ... trans 0``."""
    numbers = {
        key: [float(x) for x in values.split()]
        for key, values in re.findall(r"\b(rgb|trans)((?:\s+[-+]?[\d.][-+.\deE]*)+)", line)
    }
    red, green, blue = numbers.get("rgb", PLAIN_COLOUR)
    return _Material((red, green, blue), 1 - numbers.get("trans", [0.0])[0])


def _object(lines: _Lines) -> _Object:
    """Read an object up to its ``kids``, the last of its lines."""
    one = _Object()
    while line := lines.next():
        key, _, rest = line.partition(" ")
        words = rest.split()
        if key == "name":
            one.name = rest.strip().strip('"')
        elif key == "data":
            lines.pass_text(int(words[0]))
        elif key == "texture" and (not one.texture or words[-1] == "base"):
            one.texture = rest.split('"')[1] if '"' in rest else words[0]
        elif key == "texrep":
            one.repeat = np.array(words[:2], float)
        elif key == "texoff":
            one.offset = np.array(words[:2], float)
        elif key == "rot":
            one.turn = np.array(words[:9], float).reshape(3, 3)
        elif key == "loc":
            one.shift = np.array(words[:3], float).reshape(3)
        elif key == "numvert":
            rows = lines.rows(int(words[0]))
            one.vertices = np.array([row[:3] for row in rows], float).reshape(-1, 3)
        elif key == "numsurf":
            one.surfaces = list(_surfaces(lines, int(words[0]), one.vertices))
        elif key == "kids":
            one.kids = int(words[0])
            return one
    raise lines.broken("kids of an object", "the end")


def _surfaces(lines: _Lines, count: int, vertices: Float[np.ndarray, "v 3"]) -> Iterator[_Surface]:
    """Yield the polygons of an object; lines are passed over."""
    for _ in range(count):
        key, _, flags = lines.next().partition(" ")
        if key != "SURF":
            raise lines.broken(f"SURF, {count} of them", repr(key[:20]))
        kind, material = int(flags, 16) & 0xF, 0
        while (words := lines.next().split()) and words[0] != "refs":
            if words[0] == "mat":
                material = int(words[1])
        rows = lines.rows(int(words[1]) if words else -1)
        if kind in _LINES or len(rows) < 3:
            continue
        corners = np.array([int(row[0]) for row in rows], np.int64)
        uv = np.array([row[1:3] if len(row) > 2 else (0, 0) for row in rows], float)
        order = fan([list(range(len(rows)))])
        if kind == _STRIP:
            order = np.arange(len(rows) - 2)[:, None] + np.arange(3)
        elif 4 < len(rows) <= _MOST_CUT and 0 <= corners.min() <= corners.max() < len(vertices):
            order = _cut(vertices[corners], order)
        yield _Surface(material, corners[order], uv[order])


def _cut(points: Float[np.ndarray, "n 3"], order: Int[np.ndarray, "t 3"]) -> Int[np.ndarray, "t 3"]:
    """Return the triangles of a polygon: a fan's, or, where it bulges inwards, ears one by one."""
    a, b, c = (points[order[:, k]] for k in range(3))
    areas = np.cross(b - a, c - a)
    normal = areas.sum(0)
    if not np.isfinite(normal).all() or (areas @ normal >= 0).all():
        return order
    drop = int(np.abs(normal).argmax())
    flat = np.delete(points, drop, 1) * (1.0, (1, -1, 1)[drop] * np.sign(normal[drop]))
    ring, cut = list(range(len(points))), []
    while len(ring) > 3:
        ears = (k for k in range(len(ring)) if _is_ear(flat, ring, k))
        k = next(ears, 1)  # of a polygon that crosses itself any
        cut.append((ring[k - 1], ring[k], ring[(k + 1) % len(ring)]))
        del ring[k]
    return np.array([*cut, ring])


def _is_ear(flat: Float[np.ndarray, "n 2"], ring: list[int], k: int) -> bool:
    """Return whether a corner bulges outwards with none of the others inside its triangle."""
    three = flat[[ring[k - 1], ring[k], ring[(k + 1) % len(ring)]]]
    along = np.roll(three, -1, 0) - three
    if along[0, 0] * along[1, 1] <= along[0, 1] * along[1, 0]:
        return False
    towards = flat[ring][:, None] - three
    return not (along[:, 0] * towards[..., 1] > along[:, 1] * towards[..., 0]).all(1).any()


def _part(
    group: Sequence[tuple[_Object, _Surface]],
    material: _Material,
    skin: tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "y x"]] | None,
    who: str,
) -> CadPart | None:
    """Return the faces of one material and bitmap; None where all of them are seen through."""
    vertices, faces, uv = _joined(group, who)
    texture, colour = None, material.colour
    if skin is not None and np.isfinite(uv).all():
        texture = (skin[0] * np.clip(colour, 0, 1)).astype(np.uint8)
        kept = _seen(skin[1], uv)
        faces, uv = faces[kept], uv[kept]
        colour = _usual(texture, uv) if len(uv) else colour
    if not len(faces):
        return None
    used, inverse = np.unique(faces, return_inverse=True)
    corners = None if texture is None else uv
    local = inverse.reshape(-1, 3)
    return CadPart(vertices[used], local, corners, texture, colour, material.opacity)


def _joined(
    group: Sequence[tuple[_Object, _Surface]], who: str
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"], Float[np.ndarray, "f 3 2"]]:
    """Return the placed vertices, faces and texture coordinates of surfaces of several objects."""
    start: dict[int, int] = {}
    vertices: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    total = 0
    for one, surface in group:
        checked(one.vertices, surface.triangles, who)
        if id(one) not in start:
            start[id(one)] = total
            total += len(one.vertices)
            vertices.append(one.vertices @ one.turn.T + one.shift)
        faces.append(surface.triangles + start[id(one)])
    uv = [surface.uv * one.repeat + one.offset for one, surface in group]
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(uv)


def _seen(
    alpha: UInt8[np.ndarray, "h w"], uv: Float[np.ndarray, "f 3 2"]
) -> Bool[np.ndarray, " f"]:
    if (alpha == 255).all():
        return np.ones(len(uv), bool)
    return opaque(alpha, uv)


def _usual(
    texture: UInt8[np.ndarray, "h w 3"], uv: Float[np.ndarray, "f 3 2"]
) -> tuple[float, float, float]:
    """Return the median colour of a texture at the middles of faces: what gets new paint."""
    height, width = texture.shape[:2]
    u, v = uv.mean(1).T % 1
    x, y = (u * width).astype(int), ((1 - v) * height).astype(int)
    red, green, blue = np.median(texture[y.clip(0, height - 1), x.clip(0, width - 1)], 0) / 255
    return float(red), float(green), float(blue)


def _bitmap(
    name: str, folders: Sequence[Path]
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "y x"]] | None:
    """Return a bitmap's colour, shrunk, and its opacity.

    Authors left paths of their own computers in the files: only the last part counts.
    """
    from PIL import Image

    last = PurePosixPath(name.replace("\\", "/")).name
    for file in (safe_join(folder, last) for folder in folders if last):
        if file.is_file() and file.stat().st_size <= TEXT_LIMIT:
            try:
                bitmap = read_bitmap(file.read_bytes())
            except InputError:
                raise
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                got = f"{file} ({error})"
                raise bad("E_IO", "a readable bitmap", got, "convert it to PNG") from error
            small = Image.fromarray(bitmap[..., :3])
            small.thumbnail((SKIN_SIDE, SKIN_SIDE), Image.Resampling.BOX)
            return np.asarray(small), bitmap[..., 3]
    return None
