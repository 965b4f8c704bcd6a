"""What the result page's viewer paints: mesh, poses, shapes, and colours of the surface."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from featmesh.geometry.mesh import Mesh
from featmesh.inference.result import INVISIBLE, Estimate
from featmesh.model.labels import Labels
from featmesh.photo.photo import Photo

from .masks import STATE_COLOURS, STATE_NAMES, Colour, part_colour
from .overlay import AXES, TINT, axis_length, front_arrow


def scene(photo: Photo, estimate: Estimate, labels: Labels | None = None) -> dict[str, Any] | None:
    """Return what the page's painter needs, or None without a pose; lengths in the unit of t.

    Args:
        photo: as displayed.
        estimate: of one object.
        labels: parts of the surface, to colour those by that the photo does not show too.
    """
    pose, camera, mesh = estimate.cam_from_obj, estimate.camera, estimate.mesh
    if not estimate.has_pose or pose is None or camera is None or mesh is None:
        return None
    names = ["best", *(f"{i}" for i in range(2, len(estimate.modes) + 2))]
    poses = [pose, *(mode.cam_from_obj for mode in estimate.modes)]
    length = axis_length(mesh)
    return {
        "width": photo.width,
        "height": photo.height,
        "K": camera.K.tolist(),
        "poses": [
            {"name": name, "R": p.R.tolist(), "t": p.t.tolist()}
            for name, p in zip(names, poses, strict=True)
        ],
        "box": _shown_box(photo, estimate),
        "shapes": _shapes(estimate, mesh),
        "faces": mesh.faces.tolist(),
        "colourings": _colourings(estimate, mesh, labels),
        "axes": [[[length * v for v in axis], colour] for axis, colour in AXES],
        "front": front_arrow(mesh),
    }


def face_parts(labels: Labels, mesh: Mesh) -> UInt8[np.ndarray, " f"]:
    """Return the likeliest part of each face, 0 for none."""
    return labels.weights[mesh.faces].sum(1).argmax(1).numpy().astype(np.uint8)


def _colourings(estimate: Estimate, mesh: Mesh, labels: Labels | None) -> list[dict[str, Any]]:
    """Return the ways to colour the mesh: a palette, the entry of each face, what entries mean."""
    tint = [round(255 * v) for v in TINT]
    ways: list[dict[str, Any]] = [{"name": "plain", "palette": [tint], "of": None, "key": []}]
    found = estimate.segmentation
    if found is not None:
        states = sorted(STATE_COLOURS)
        named = [STATE_NAMES[k] for k in states]
        palette = [STATE_COLOURS[k] for k in states]
        ways.append(_colouring("visibility", palette, found.states.tolist(), named))
    if labels is not None:
        bare = STATE_COLOURS[INVISIBLE]
        palette = [bare, *(part_colour(k) for k in range(1, len(labels.names) + 1))]
        named = ["", *(name.replace("_", " ") for name in labels.names)]
        ways.append(_colouring("parts", palette, face_parts(labels, mesh).tolist(), named))
    return ways


def _colouring(name: str, palette: list[Colour], of: list[int], named: list[str]) -> dict[str, Any]:
    return {"name": name, "palette": palette, "of": of, "key": named}


def _shapes(estimate: Estimate, mesh: Mesh) -> list[dict[str, Any]]:
    """Return the vertices to choose from, the last one first shown; all share their faces."""
    shape = estimate.shape
    if shape is None or not shape.accepted:
        return [{"name": "mean shape", "vertices": _rounded(mesh)}]
    return [
        {"name": "before", "vertices": _rounded(shape.mean)},
        {"name": "fitted", "vertices": _rounded(shape.mesh)},
    ]


def _shown_box(photo: Photo, estimate: Estimate) -> list[float]:
    """Return the object's box, no farther outside the photo than a quarter of it."""
    w, h = photo.width, photo.height
    x0, y0, x1, y1 = estimate.box or (0.0, 0.0, float(w), float(h))
    return [max(x0, -w / 4), max(y0, -h / 4), min(x1, 1.25 * w), min(y1, 1.25 * h)]


def _rounded(mesh: Mesh) -> list[list[float]]:
    """Return the vertices with as many digits as a picture needs."""
    return [[round(v, 5) for v in row] for row in mesh.vertices.tolist()]
