"""The result page: one file that shows photo, mesh, feature map, scores and numbers, offline."""

import base64
import html
import importlib.resources
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from featmesh.geometry.mesh import Mesh
from featmesh.inference.describe import Estimate, Maps
from featmesh.paths import write_whole
from featmesh.photo.photo import Photo

from .overlay import (
    AXES,
    COLD,
    LONGEST,
    MIDDLE,
    TINT,
    WARM,
    axis_length,
    feature_rgb,
    front_arrow,
    heat_limit,
    heat_map,
    overlay,
)

STATUS_TEXT = {
    "ok": "pose found",
    "uncertain": "uncertain",
    "no_object": "no object found",
    "bad_input": "input not usable",
}


def write_html(path: Path, photo: Photo, estimate: Estimate, result: dict[str, Any]) -> None:
    """Write the page of one estimate; it loads nothing from anywhere.

    Args:
        path: file to write.
        photo: as displayed.
        estimate: what the page shows.
        result: the whole ``result.json`` (:func:`featmesh.inference.describe.result_json`).
    """
    scene = _scene(photo, estimate)
    name = re.split(r"[\\/]", str(result["photo"]))[-1]
    notes = [*result["warnings"], *([estimate.message] if estimate.message else [])]
    page = fill(
        importlib.resources.files(__package__).joinpath("result_page.html").read_text("utf-8"),
        {
            "title": html.escape(f"{name} - featmesh"),
            "photo": html.escape(name),
            "status": html.escape(estimate.status),
            "status_text": html.escape(STATUS_TEXT[estimate.status]),
            "summary": html.escape(_summary(estimate)),
            "top_class": "" if scene else "plain",
            "viewer_hidden": "" if scene else "hidden",
            "rows": "".join(_row(key, value) for key, value in _numbers(estimate, result)),
            "shape_hidden": "" if estimate.shape else "hidden",
            "shape": "".join(_shape_numbers(estimate)),
            "notes_hidden": "" if notes else "hidden",
            "notes": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
            "figures": "".join(_figures(photo, estimate)),
            # "<" never stands in the page's JSON, so that no text can end the script element
            "scene": json.dumps(scene, allow_nan=False).replace("<", "\\u003c"),
        },
    )
    write_whole(path, page)


def fill(template: str, values: dict[str, str]) -> str:
    """Return the template with each ``{{name}}`` replaced once; inserted text is not read again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _summary(estimate: Estimate) -> str:
    """Return the estimate in a sentence."""
    row = estimate.to_json()
    if not estimate.has_pose:
        return f"Looked for: {estimate.category}."
    return (
        f"A {estimate.category} seen from azimuth {row['azimuth']:.1f}° (0° is its front), "
        f"elevation {row['elevation']:.1f}°, turned {row['theta']:.1f}° in the picture."
    )


def _numbers(estimate: Estimate, result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table."""
    row, camera = estimate.to_json(), result["camera"]
    focal = f"{camera['K'][0][0]:.1f} px ({camera['source']})" if camera["K"] else "not known"
    numbers = [("Status", row["status"]), ("Category", row["category"])]
    if estimate.code:
        numbers.append(("Code", estimate.code))
    length = " m" if row["t_unit"] == "metre" else " object units"
    shown = [("score", "Score", "", 3), ("confidence", "Confidence", "", 2)]
    if estimate.has_pose:
        angles = ("azimuth", "Azimuth"), ("elevation", "Elevation"), ("theta", "In-plane rotation")
        turned = [(key, label, "°", 1) for key, label in angles]
        shown = [*turned, ("distance", "Distance", length, 2), *shown]
    for key, label, unit, digits in shown:
        if row[key] is not None:
            numbers.append((label, f"{row[key]:.{digits}f}{unit}"))
    numbers += [("Focal length", focal), ("Photo", f"{result['width']} x {result['height']} px")]
    numbers.append(("Model", f"{result['model']['name']} {(result['model']['hash'] or '')[:8]}"))
    stages = result["seconds"]
    numbers += [(f"Seconds, {stage}", f"{spent:.3f}") for stage, spent in stages.items()]
    return numbers


def _row(key: str, value: str) -> str:
    return f"<tr><th scope='row'>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"


def _shape_numbers(estimate: Estimate) -> list[str]:
    """Return the row of numbers about the shape: each with what it was before fitting."""
    shape = estimate.shape
    if shape is None:
        return []
    unit, digits = ("m", 2) if shape.unit == "metre" else ("object units", 3)
    width, length, height = shape.mean.extent.tolist()
    named = zip(
        ("Length", "Width", "Height"), shape.dimensions, (length, width, height), strict=True
    )
    cells = [
        (name, f"{now:.{digits}f} {unit}", f"before {before:.{digits}f}")
        for name, now, before in named
    ]
    norm, count = float(np.linalg.norm(shape.latent)), len(shape.latent)
    cells.append(("Latent norm", f"{norm:.2f}", f"{count} numbers; all 0: mean"))
    if shape.accepted:
        cells.append(("Fitted shape", "kept", "it explains the photo better"))
    else:
        cells.append(("Fitted shape", "not kept", "it explains the photo no better"))
    return [
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        f"<dd class='soft'>{html.escape(told)}</dd></div>"
        for name, value, told in cells
    ]


def _figures(photo: Photo, estimate: Estimate) -> list[str]:
    """Return the pictures with captions: photo, overlay and what the maps show.

    Where a shape was fitted there are two overlays, and the rest stands below them.
    """
    small = Image.fromarray(photo.pixels)
    small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    photo_told = (np.asarray(small), "Photo", "as displayed")
    figures = []
    if estimate.has_pose and estimate.shape is not None and estimate.shape.accepted:
        rest = "quarter"
        before = overlay(photo, replace(estimate, mesh=estimate.shape.mean))
        after = overlay(photo, replace(estimate, mesh=estimate.shape.mesh))
        told = "the mesh before its shape was fitted, in the final pose"
        figures.append(_figure(before, "Before", told, "wide"))
        figures.append(_figure(after, "Fitted shape", "the object's own, in the same pose", "wide"))
        figures.append(_figure(*photo_told, rest))
    elif estimate.has_pose:
        rest = ""
        told = "the mesh in the estimated pose; x red, y green, z blue, arrow: front"
        figures.append(_figure(*photo_told, "wide"))
        figures.append(_figure(overlay(photo, estimate), "Overlay", told, "wide"))
    else:
        rest = ""
        figures.append(_figure(*photo_told, rest))
    return figures + ([] if estimate.maps is None else _map_figures(estimate.maps, rest))


def _map_figures(maps: Maps, frame: str) -> list[str]:
    """Return the pictures of what the network saw and made of it."""
    figures = [_figure(maps.pixels, "Crop", "what the network is shown", frame)]
    told = "similar colours: similar features (three principal components)"
    figures.append(_figure(feature_rgb(maps.features), "Features", told, frame, cells=True))
    told = "red: the object explains the cell better, blue: the background does"
    legend = _legend(heat_limit(maps.score))
    figures.append(_figure(score_picture(maps), "Score", told, frame, extra=legend))
    return figures


def _figure(
    pixels: UInt8[np.ndarray, "h w 3"],
    name: str,
    told: str,
    frame: str,
    *,
    cells: bool = False,
    extra: str = "",
) -> str:
    """Return a captioned picture, its frame also wide or quarter; cells stay squares."""
    source = data_uri(pixels, "PNG" if cells else "JPEG")
    shown, alt = "cells" if cells else "", html.escape(name)
    return (
        f"<figure class='card {frame}'><img class='{shown}' alt='{alt}' src='{source}'>"
        f"{extra}<figcaption><b>{alt}</b>: {html.escape(told)}</figcaption></figure>"
    )


def _legend(limit: float) -> str:
    """Return the colour bar of the score map."""
    stops = ",".join(f"rgb{colour}" for colour in (COLD, MIDDLE, WARM))
    ends = f"<span>{-limit:.2f}</span><span>0</span><span>+{limit:.2f}</span>"
    bar = f"<div class='legend' style='background:linear-gradient(90deg,{stops})'></div>"
    return f"{bar}<div class='scale'>{ends}</div>"


def score_picture(maps: Maps) -> UInt8[np.ndarray, "y x 3"]:
    """Return the score of each cell in colours over the grey crop; bare where there is no score."""
    size = (maps.pixels.shape[1], maps.pixels.shape[0])
    grey = np.asarray(Image.fromarray(maps.pixels).convert("L"), dtype=np.float64)[..., None]
    heat = np.asarray(Image.fromarray(heat_map(maps.score)).resize(size, Image.Resampling.NEAREST))
    known = Image.fromarray(np.isfinite(maps.score)).resize(size, Image.Resampling.NEAREST)
    share = np.where(np.asarray(known), 0.7, 0.0)[..., None]
    return np.rint(heat * share + grey * (1 - share)).astype(np.uint8)


def data_uri(pixels: UInt8[np.ndarray, "h w 3"], kind: str) -> str:
    """Return a picture as text that stands in a page; ``kind`` is PNG or JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=88, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _scene(photo: Photo, estimate: Estimate) -> dict[str, Any] | None:
    """Return what the page's painter needs, or None without a pose; lengths in the unit of t."""
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
        "tint": [round(255 * v) for v in TINT],
        "axes": [[[length * v for v in axis], colour] for axis, colour in AXES],
        "front": front_arrow(mesh),
    }


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
