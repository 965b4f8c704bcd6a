"""The result page: one file that shows photo, mesh, masks, scores and numbers, offline."""

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featmesh.inference.result import Estimate
from featmesh.model.labels import Labels
from featmesh.paths import write_whole
from featmesh.photo.photo import Photo

from .figures import figures, visible_percent
from .fill import fill, page_text
from .masks import part_colour, part_rows
from .scene import scene

STATUS_TEXT = {
    "ok": "pose found",
    "uncertain": "uncertain",
    "no_object": "no object found",
    "bad_input": "input not usable",
}


def write_html(
    path: Path,
    photo: Photo,
    estimates: Sequence[Estimate],
    result: dict[str, Any],
    labels: Labels | None = None,
) -> None:
    """Write the page of one photo; it loads nothing from anywhere.

    Args:
        path: file to write.
        photo: as displayed.
        estimates: what the page shows, one an object.
        result: the whole ``result.json`` (:func:`featmesh.inference.result.result_json`).
        labels: parts of the surface, to colour the mesh by.
    """
    name = re.split(r"[\\/]", str(result["photo"]))[-1]
    scenes = [scene(photo, estimate, labels) for estimate in estimates]
    shown = [
        _object(photo, estimates, k, result, viewed=viewed is not None)
        for k, viewed in enumerate(scenes)
    ]
    alone = len(estimates) == 1
    page = fill(
        page_text("result_page.html"),
        {
            "title": html.escape(f"{name} - featmesh"),
            "photo": html.escape(name),
            "told": _told(estimates[0]) if alone else f"<p>{len(estimates)} objects</p>",
            "objects": "".join(shown),
            # "<" never stands in the page's JSON, so that no text can end the script element
            "scenes": json.dumps(scenes, allow_nan=False).replace("<", "\\u003c"),
            "viewer": page_text("viewer.js"),
        },
    )
    write_whole(path, page)


def _object(
    photo: Photo, estimates: Sequence[Estimate], k: int, result: dict[str, Any], *, viewed: bool
) -> str:
    """Return the page's section about one object; the first one tells of the photo too."""
    estimate, alone = estimates[k], len(estimates) == 1
    notes = result["warnings"] if k == 0 else []
    notes = [*notes, *([estimate.message] if estimate.message else [])]
    parts = _parts(estimate)
    return fill(
        page_text("result_object.html"),
        {
            "head_class": "alone" if alone else "",
            "heading": f"Object {k + 1}",
            "told": "" if alone else _told(estimate),
            "top_class": "" if viewed else "plain",
            "viewer_hidden": "" if viewed else "hidden",
            "rows": "".join(_row(*row) for row in _numbers(estimate, result if k == 0 else None)),
            "shape_hidden": "" if estimate.shape else "hidden",
            "shape": "".join(_shape_numbers(estimate)),
            "parts_hidden": "" if parts else "hidden",
            "parts": "".join(parts),
            "notes_hidden": "" if notes else "hidden",
            "notes": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
            "figures": figures(photo, estimate, first=k == 0),
        },
    )


def _told(estimate: Estimate) -> str:
    """Return status and summary of an object."""
    status, told = html.escape(estimate.status), html.escape(STATUS_TEXT[estimate.status])
    return f"<span class='badge {status}'>{told}</span><p>{html.escape(_summary(estimate))}</p>"


def _summary(estimate: Estimate) -> str:
    """Return the estimate in a sentence."""
    row = estimate.to_json()
    if not estimate.has_pose:
        return f"Looked for: {estimate.category}."
    return (
        f"A {estimate.category} seen from azimuth {row['azimuth']:.1f}° (0° is its front), "
        f"elevation {row['elevation']:.1f}°, turned {row['theta']:.1f}° in the picture."
    )


def _numbers(estimate: Estimate, result: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the rows of the table; those of the photo where its result is given."""
    row = estimate.to_json()
    numbers = [("Status", row["status"]), ("Category", row["category"])]
    if estimate.code:
        numbers.append(("Code", estimate.code))
    length = " m" if row["t_unit"] == "metre" else " object units"
    shown = [("score", "Score", "", 3), ("confidence", "Confidence", "", 2)]
    shown.append(("rotation_interval", "Rotation, 9 in 10 within", "°", 1))
    if estimate.has_pose:
        angles = ("azimuth", "Azimuth"), ("elevation", "Elevation"), ("theta", "In-plane rotation")
        turned = [(key, label, "°", 1) for key, label in angles]
        shown = [*turned, ("distance", "Distance", length, 2), *shown]
    for key, label, unit, digits in shown:
        if row[key] is not None:
            numbers.append((label, f"{row[key]:.{digits}f}{unit}"))
    if row["focal_interval"] is not None:
        low, high = row["focal_interval"]
        numbers.append(("Focal length, 9 in 10 within", f"{low:.0f} to {high:.0f} px"))
    if estimate.segmentation is not None:
        seen = visible_percent(estimate.segmentation)
        numbers.append(("Visible", f"{seen:.0f} % of its pixels"))
    return numbers if result is None else numbers + _photo_numbers(result)


def _photo_numbers(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows about photo, camera, model and time."""
    camera, model = result["camera"], result["model"]
    focal = f"{camera['K'][0][0]:.1f} px ({camera['source']})" if camera["K"] else "not known"
    numbers = [("Focal length", focal), ("Photo", f"{result['width']} x {result['height']} px")]
    numbers.append(("Model", f"{model['name']} {(model['hash'] or '')[:8]}"))
    stages = result["seconds"]
    return numbers + [(f"Seconds, {stage}", f"{spent:.3f}") for stage, spent in stages.items()]


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


def _parts(estimate: Estimate) -> list[str]:
    """Return the legend of the parts: colour, number, name, and how much of each is seen."""
    found = estimate.segmentation
    return [] if found is None else [_part(row) for row in part_rows(found)]


def _part(row: dict[str, Any]) -> str:
    """Return one part's entry; grey where the photo shows nothing of it."""
    seen, colour = row["visible"], part_colour(row["number"])
    told, drawn = ("not in view", "out") if seen is None else (f"{seen:.0f} %", "")
    name = html.escape(row["name"].replace("_", " "))
    bar = "" if seen is None else f"<u><s style='width:{seen:.0f}%;background:rgb{colour}'></s></u>"
    return (
        f"<li class='{drawn}'><i style='background:rgb{colour}'></i><b>{row['number']}</b>"
        f"<span>{name}</span><em>{told}</em>{bar}</li>"
    )
