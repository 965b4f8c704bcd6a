"""The result page: one file that shows photo, mesh, feature map, scores and numbers, offline."""

import base64
import html
import importlib.resources
import io
import json
import re
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


def _figures(photo: Photo, estimate: Estimate) -> list[str]:
    """Return the pictures with captions: photo, overlay and what the maps show."""
    small = Image.fromarray(photo.pixels)
    small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    posed = estimate.has_pose
    figures = [_figure(np.asarray(small), "Photo", "as displayed", wide=posed)]
    if posed:
        told = "the mesh in the estimated pose; x red, y green, z blue, arrow: front"
        figures.append(_figure(overlay(photo, estimate), "Overlay", told, wide=True))
    maps = estimate.maps
    if maps is None:
        return figures
    figures.append(_figure(maps.pixels, "Crop", "what the network is shown"))
    told = "similar colours: similar features (three principal components)"
    figures.append(_figure(feature_rgb(maps.features), "Features", told, cells=True))
    told = "red: the object explains the cell better, blue: the background does"
    limit = heat_limit(maps.score)
    figures.append(_figure(score_picture(maps), "Score", told, extra=_legend(limit)))
    return figures


def _figure(
    pixels: UInt8[np.ndarray, "h w 3"],
    name: str,
    told: str,
    *,
    wide: bool = False,
    cells: bool = False,
    extra: str = "",
) -> str:
    """Return a captioned picture; cells stay squares when enlarged."""
    source = data_uri(pixels, "PNG" if cells else "JPEG")
    frame, shown = "card wide" if wide else "card", "cells" if cells else ""
    return (
        f"<figure class='{frame}'><img class='{shown}' alt='{html.escape(name)}' src='{source}'>"
        f"{extra}<figcaption><b>{html.escape(name)}</b>: {html.escape(told)}</figcaption></figure>"
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
        "vertices": _rounded(mesh),
        "faces": mesh.faces.tolist(),
        "tint": [round(255 * v) for v in TINT],
        "axes": [[[length * v for v in axis], colour] for axis, colour in AXES],
        "front": front_arrow(mesh),
    }


def _shown_box(photo: Photo, estimate: Estimate) -> list[float]:
    """Return the object's box, no farther outside the photo than a quarter of it."""
    w, h = photo.width, photo.height
    x0, y0, x1, y1 = estimate.box or (0.0, 0.0, float(w), float(h))
    return [max(x0, -w / 4), max(y0, -h / 4), min(x1, 1.25 * w), min(y1, 1.25 * h)]


def _rounded(mesh: Mesh) -> list[list[float]]:
    """Return the vertices with as many digits as a picture needs."""
    return [[round(v, 5) for v in row] for row in mesh.vertices.tolist()]
