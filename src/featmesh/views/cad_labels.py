"""Part labels of CADs, face by face, so that rendered photos come with label images. Ours."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from featmesh.errors import InputError
from featmesh.geometry.mesh import read_mesh
from featmesh.geometry.mesh_groups import NameKind, read_named_faces

from .cad_model import FRAMES, Cad, CadPart, normalised

MOST = 254  # parts: label images have 8 bits, 0 is no part


def with_group_labels(cad: Cad, path: str | Path, kind: NameKind | None = None) -> Cad:
    """Return the CAD with the names of an OBJ file's groups, objects or materials as parts.

    Args:
        cad: read from the same file, in any frame.
        path: the OBJ file.
        kind: which lines name the faces; None = the first that tells faces apart.

    Raises:
        InputError: as :func:`featmesh.geometry.mesh_groups.read_named_faces`; E_LABELS (too many).
    """
    named = read_named_faces(path, kind)
    names = tuple(name for name in named.names if name)
    number = {name: names.index(name) + 1 if name else 0 for name in named.names}
    of_name = np.array([number[name] for name in named.names])
    return _labelled(cad, named.mesh.corners.numpy(), of_name[named.name_of], names, str(path))


def with_vertex_labels(cad: Cad, path: str | Path, labels: str | Path) -> Cad:
    """Return the CAD with the labels of a file: a face is what most of its vertices are.

    Args:
        cad: read from ``path``, in any frame.
        path: the mesh file.
        labels: JSON ``{"names": [...], "vertices": [k, ...]}``; ``k`` = 1, 2, ... stands for
            ``names[k - 1]``, 0 for no part; vertices in the order of the mesh file.

    Raises:
        InputError: E_IO; E_LABELS (no such JSON, another number of vertices, too many names).
    """
    try:
        document = json.loads(Path(labels).read_text("utf-8"))
        names = tuple(str(name) for name in document["names"])
        of_vertex = np.array(document["vertices"], np.int64).reshape(-1)
    except OSError as error:
        raise InputError("E_IO", f"labels {labels}: {error}; try: check the path") from error
    except (ValueError, TypeError, KeyError) as error:
        raise _bad(str(labels), 'JSON {"names": [...], "vertices": [...]}', str(error)) from error
    mesh = read_mesh(path)
    if len(of_vertex) != len(mesh.vertices):
        raise _bad(str(labels), f"{len(mesh.vertices)} vertices", str(len(of_vertex)))
    if len(of_vertex) and not 0 <= of_vertex.min() <= of_vertex.max() <= len(names):
        raise _bad(str(labels), f"numbers 0 to {len(names)}", str(of_vertex.max()))
    corner = of_vertex[mesh.faces.numpy()]
    most = np.where(corner[:, 1] == corner[:, 2], corner[:, 1], corner[:, 0])
    return _labelled(cad, mesh.corners.numpy(), most, names, str(labels))


def joined(cads: Sequence[Cad]) -> list[Cad]:
    """Return the CADs with one list of part names for all, in the order of first use."""
    names = tuple(dict.fromkeys(name for cad in cads for name in cad.part_names))
    if len(names) > MOST:
        raise _bad("CADs", f"at most {MOST} part names", str(len(names)))
    found = []
    for cad in cads:
        number = np.array([0, *(names.index(name) + 1 for name in cad.part_names)])
        parts = [p if p.labels is None else replace(p, labels=number[p.labels]) for p in cad.parts]
        found.append(replace(cad, parts=tuple(parts), part_names=names if cad.part_names else ()))
    return found


def _labelled(
    cad: Cad,
    corners: Float[np.ndarray, "f 3 3"],
    numbers: Int[np.ndarray, " f"],
    names: tuple[str, ...],
    who: str,
) -> Cad:
    """Return the CAD whose faces take the number of the same face of the labelled mesh.

    Both are centred and of diagonal 1, so a face is found by its middle, in the frame (of those a
    mesh file may have) in which the middles agree.
    """
    from scipy.spatial import cKDTree

    if not 0 < len(names) <= MOST:
        raise _bad(who, f"1 to {MOST} part names", str(len(names)))
    flat = np.arange(3 * len(corners)).reshape(-1, 3)
    raw = [CadPart(corners.reshape(-1, 3).astype(float), flat, None, None, (0.0, 0.0, 0.0))]
    own = np.concatenate([p.vertices[p.faces].mean(1) for p in cad.parts])
    best, nearest = np.inf, np.zeros(len(own), np.int64)
    for frame in FRAMES.values():
        (part,) = normalised(raw, frame)
        distance, index = cKDTree(part.vertices[part.faces].mean(1)).query(own)
        if distance.mean() < best:
            best, nearest = float(distance.mean()), index
    if best > 1e-3:
        raise _bad(who, "labels of this CAD's mesh", f"another mesh ({best:.3f} apart)")
    labels = np.split(numbers[nearest], np.cumsum([len(p.faces) for p in cad.parts])[:-1])
    parts = [replace(p, labels=one) for p, one in zip(cad.parts, labels, strict=True)]
    return replace(cad, parts=tuple(parts), part_names=names)


def _bad(who: str, expected: str, got: str) -> InputError:
    hint = "an OBJ with groups, or a JSON of names and vertices"
    return InputError("E_LABELS", f"labels {who}: expected {expected}, got {got}; try: {hint}")
