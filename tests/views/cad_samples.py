"""Small CADs made of blocks, as several tests of rendering need them."""

import numpy as np

from featmesh.views.cad_model import Cad, CadPart

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
SQUARES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([t for a, b, c, d in SQUARES for t in ((a, b, c), (a, c, d))])


def blocks(*boxes):
    """A CAD of one part without material; a box is (low corner, high corner)."""
    vertices = [CUBE * np.subtract(high, low) + low for low, high in boxes]
    faces = [FACES + 8 * k for k in range(len(boxes))]
    everything = np.concatenate(vertices)
    middle = (everything.min(0) + everything.max(0)) / 2
    diagonal = np.linalg.norm(np.ptp(everything, axis=0))
    part = CadPart((everything - middle) / diagonal, np.concatenate(faces), None, None, (0.7,) * 3)
    return Cad("blocks", (part,), "CC0", "made here")


def chair():
    """Four legs, a seat and a back at +y."""
    legs = [((x, y, 0), (x + 0.1, y + 0.1, 0.5)) for x in (0.02, 0.88) for y in (0.02, 0.88)]
    return blocks(*legs, ((0, 0, 0.5), (1, 1, 0.6)), ((0.01, 0.9, 0.6), (0.99, 0.99, 1.2)))


def screen():
    """A panel on a small foot; its picture faces -y."""
    return blocks(((0, 0.4, 0.2), (1, 0.5, 0.8)), ((0.3, 0.2, 0), (0.7, 0.7, 0.2)))


def obj_text(cad, group_of=lambda piece: None):
    """The text of an OBJ file, a group for each block."""
    (part,) = cad.parts
    rows = [f"v {x} {y} {z}" for x, y, z in part.vertices.tolist()]
    for k, (a, b, c) in enumerate(part.faces.tolist()):
        if k % 12 == 0 and group_of(k // 12) is not None:
            rows.append(f"g {group_of(k // 12)}")
        rows.append(f"f {a + 1} {b + 1} {c + 1}")
    return "\n".join(rows) + "\n"
