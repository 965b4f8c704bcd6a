"""The result page's pictures: photo, overlays, what each pixel shows, what the network saw."""

import base64
import html
import io
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from featmesh.inference.result import OCCLUDED, VISIBLE, Estimate, Maps, Segmentation
from featmesh.photo.photo import Photo

from .masks import STATE_COLOURS, STATE_NAMES, Colour, parts_overlay, state_overlay
from .overlay import (
    COLD,
    LONGEST,
    MIDDLE,
    WARM,
    feature_rgb,
    heat_limit,
    heat_map,
    overlay,
)

WIDTHS = {2: "wide", 3: "", 4: "quarter"}  # frames of pictures that share a row


class Figure(NamedTuple):
    """A picture with its caption; cells stay squares; below it HTML that explains its colours."""

    pixels: UInt8[np.ndarray, "h w 3"]
    name: str
    told: str
    cells: bool = False
    below: str = ""


def figures(photo: Photo, estimate: Estimate, first: bool = True) -> str:
    """Return the pictures of one object: the large ones, then the small ones in a row of their own.

    Args:
        photo: as displayed.
        estimate: of one object.
        first: of the page; the others do without the photo.
    """
    small = _map_figures(estimate.maps) if estimate.maps is not None else []
    large = _overlays(photo, estimate)
    if first and (not large or (estimate.shape is not None and estimate.shape.accepted)):
        small.insert(0, _bare(photo))
    elif first:
        large.insert(0, _bare(photo))
    frame = WIDTHS[3] if len(large) == 3 else WIDTHS[2]
    shown = [_html(figure, frame) for figure in large]
    return "".join(shown + [_html(figure, WIDTHS.get(len(small), "")) for figure in small])


def _bare(photo: Photo) -> Figure:
    """Return the photo."""
    small = Image.fromarray(photo.pixels)
    small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return Figure(np.asarray(small), "Photo", "as displayed")


def _overlays(photo: Photo, estimate: Estimate) -> list[Figure]:
    """Return the pictures of what was found; two of the mesh where a shape was fitted."""
    if not estimate.has_pose:
        return []
    if estimate.shape is not None and estimate.shape.accepted:
        before = overlay(photo, replace(estimate, mesh=estimate.shape.mean))
        after = overlay(photo, replace(estimate, mesh=estimate.shape.mesh))
        told = "the mesh before its shape was fitted, in the final pose"
        shown = [
            Figure(before, "Before", told),
            Figure(after, "Fitted shape", "the object's own, in the same pose"),
        ]
    else:
        told = "the mesh in the estimated pose; x red, y green, z blue, arrow: front"
        shown = [Figure(overlay(photo, estimate), "Overlay", told)]
    return shown if estimate.segmentation is None else [*shown, *_masks(photo, estimate)]


def _masks(photo: Photo, estimate: Estimate) -> list[Figure]:
    """Return the pictures of what each pixel shows."""
    found = estimate.segmentation
    if found is None:
        return []
    states = state_overlay(photo, found)
    told = "what is seen, and what something else hides"
    shown = [Figure(states, "Visible and occluded", told, below=_state_key(found))]
    if found.parts is not None:
        told = "of the whole object; striped where something else hides them"
        shown.append(Figure(parts_overlay(photo, found), "Parts", told))
    return shown


def _state_key(found: Segmentation) -> str:
    """Return the colours of the states, each with its share of the object's pixels."""
    seen = visible_percent(found)
    shares = {VISIBLE: seen, OCCLUDED: 100 - seen}
    chips = [
        chip(STATE_COLOURS[state], f"{STATE_NAMES[state]} {share:.0f} %")
        for state, share in shares.items()
    ]
    return f"<div class='key'>{''.join(chips)}</div>"


def visible_percent(found: Segmentation) -> float:
    """Return how much of the object in the photo is seen, percent of its pixels."""
    drawn = int(np.count_nonzero(found.amodal))
    return 100 * int(np.count_nonzero(found.visible)) / drawn if drawn else 0.0


def chip(colour: Colour, text: str) -> str:
    """Return a sample of a colour and what it means."""
    return f"<span><i style='background:rgb{colour}'></i>{html.escape(text)}</span>"


def _map_figures(maps: Maps) -> list[Figure]:
    """Return the pictures of what the network saw and made of it."""
    similar = "similar colours: similar features (three principal components)"
    scores = "red: the object explains the cell better, blue: the background does"
    legend = _legend(heat_limit(maps.score))
    return [
        Figure(maps.pixels, "Crop", "what the network is shown"),
        Figure(feature_rgb(maps.features), "Features", similar, cells=True),
        Figure(score_picture(maps), "Score", scores, below=legend),
    ]


def _html(figure: Figure, frame: str) -> str:
    """Return a captioned picture in a frame: wide, quarter or third of the page."""
    source = data_uri(figure.pixels, "PNG" if figure.cells else "JPEG")
    shown, alt = "cells" if figure.cells else "", html.escape(figure.name)
    return (
        f"<figure class='card {frame}'><img class='{shown}' alt='{alt}' src='{source}'>"
        f"{figure.below}<figcaption><b>{alt}</b>: {html.escape(figure.told)}</figcaption></figure>"
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
