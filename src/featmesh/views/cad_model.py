"""What a CAD is for rendering: parts with colour, bitmap or material, in the object frame. Ours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, UInt8

from featmesh.errors import InputError

PLAIN_COLOUR = (0.7, 0.7, 0.7)  # where a file names no colour
# object frame from the file's: object frame already, or y up and front +z as GLB and catalogues
FRAMES = {
    "z": np.eye(3),
    "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}


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
        material: name of a palette that gives it a look of its own in every view, or "".
        labels: of each face the number of its part from 1 on, 0 for none; None = not labelled.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "f 3 2"] | None
    texture: UInt8[np.ndarray, "h w 3"] | None
    colour: tuple[float, float, float]
    opacity: float = 1.0
    material: str = ""
    labels: Int[np.ndarray, " f"] | None = None


@dataclass(frozen=True, eq=False)
class Cad:
    """One CAD in the PASCAL3D+ frame (front -y, up +z), centred, bounding-box diagonal 1.

    Attributes:
        name: what its catalogue or file calls it.
        parts: its materials.
        licence: terms and author, to be quoted wherever renders of it are used.
        source: where it came from: catalogue or file name, and the path inside.
        part_names: of the parts 1, 2, ... of its labels.
    """

    name: str
    parts: tuple[CadPart, ...]
    licence: str
    source: str
    part_names: tuple[str, ...] = ()

    @property
    def extent(self) -> Float[np.ndarray, " 3"]:
        """Sides of the bounding box, object units."""
        used = np.concatenate([p.vertices for p in self.parts])
        return used.max(0) - used.min(0)


def normalised(
    parts: Sequence[CadPart], frame: Float[np.ndarray, "3 3"] | None = None
) -> tuple[CadPart, ...]:
    """Return the parts turned by ``frame``, centred, with a bounding-box diagonal of 1."""
    frame = np.eye(3) if frame is None else frame
    moved = [p.vertices @ frame.T for p in parts]
    used = np.concatenate([v[np.unique(p.faces)] for v, p in zip(moved, parts, strict=True)])
    low, high = used.min(0), used.max(0)
    diagonal = float(np.linalg.norm(high - low)) or 1.0
    return tuple(
        replace(p, vertices=(v - (low + high) / 2) / diagonal)
        for v, p in zip(moved, parts, strict=True)
    )


def turned(cad: Cad, degrees: float) -> Cad:
    """Return the CAD turned about the z axis, counter-clockwise from above, degrees."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    frame = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return replace(cad, parts=normalised(cad.parts, frame))


def bad(code: str, expected: str, got: str, hint: str) -> InputError:
    """Return the error of a CAD that cannot be read."""
    return InputError(code, f"read CAD: expected {expected}, got {got}; try: {hint}")
