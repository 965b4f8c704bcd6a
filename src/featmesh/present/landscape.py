"""The energy over azimuth and elevation as a picture, and as a page that tells it at the pointer.

Bright is low: from there the rendered features explain the photo. Azimuth goes round, so the
picture's left and right borders are one line.
"""

import html
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw, ImageFont

from .figures import data_uri
from .fill import fill, house_style, page_text

# colours of equal steps of energy, highest to lowest; their brightness rises evenly
RAMP = ((14, 17, 46), (36, 46, 108), (37, 94, 141), (34, 145, 140), (110, 194, 105), (250, 233, 92))
BANDS = 24  # steps of colour: their borders are lines of equal energy
SCALE = 2.5  # pixels of a degree
FINE = 2  # lines are drawn this much finer
LEFT, RIGHT, TOP, BOTTOM = 76, 96, 40, 58  # margins, pixels
PAPER, INK, SOFT = (255, 255, 255), (27, 31, 36), (102, 112, 124)
WAY, START, END = (255, 255, 255), (255, 140, 60), (240, 40, 60)
NEAR = math.cos(math.radians(25))  # of two views that count as one valley
TICK = 15  # pixels, height of letters
CURVE = (520.0, 200.0)  # width and height of the energy curve
TOLD = {
    "optimised": "all but the view optimised (place, distance, in-plane turn, lens, proportions)",
    "held": "all but the view held as found",
}


@dataclass(frozen=True)
class Landscape:
    """The energy over views, and the way through it.

    Attributes:
        azimuths: radians, ascending from 0, evenly over the full turn.
        elevations: radians, ascending, evenly.
        held: energy with all else as found.
        optimised: energy after all else has followed.
        path: azimuth and elevation, radians, of the steps that led to the pose found.
        path_energy: of each step.
        stages: of each step.
        starts: views, radians, that the refinement began with.
    """

    azimuths: Float64[np.ndarray, " a"]
    elevations: Float64[np.ndarray, " e"]
    held: Float64[np.ndarray, "e a"]
    optimised: Float64[np.ndarray, "e a"]
    path: Float64[np.ndarray, "k 2"]
    path_energy: Float64[np.ndarray, " k"]
    stages: tuple[str, ...]
    starts: Float64[np.ndarray, "n 2"]

    def valleys(self, most: int = 5) -> list[tuple[float, float, float]]:
        """Return azimuth, elevation (degrees) and energy of the deepest valleys, deepest first.

        A valley is a view of the grid, of the optimised map, none of whose neighbours is lower, and
        more than 25 degrees from every deeper one.
        """
        lowest = self.optimised.copy()
        rows = np.pad(lowest, ((1, 1), (0, 0)), constant_values=np.inf)
        for down in (0, 1, 2):
            for across in (-1, 0, 1):
                near = np.roll(rows[down : down + len(lowest)], across, 1)
                lowest = np.minimum(lowest, near)
        at = np.argwhere(lowest == self.optimised)
        order = np.argsort(self.optimised[tuple(at.T)], kind="stable")
        azimuth, elevation = self.azimuths[at[order, 1]], self.elevations[at[order, 0]]
        flat = np.cos(elevation)
        views = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], -1)
        kept: list[int] = []
        for k in range(len(order)):
            if len(kept) < most and all(views[k] @ views[j] < NEAR for j in kept):
                kept.append(k)
        energy = self.optimised[tuple(at[order].T)]
        return [(*_degrees(azimuth[k], elevation[k]), round(float(energy[k]), 6)) for k in kept]

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, angles in degrees; ``energy`` rows are elevations."""
        steps = zip(self.path, self.path_energy, self.stages, strict=True)
        rows = [
            dict(zip(("azimuth", "elevation"), _degrees(*view), strict=True))
            | {"energy": round(float(energy), 6), "stage": stage}
            for view, energy, stage in steps
        ]
        keys = ("azimuth", "elevation", "energy")
        return {
            "schema": 1,
            "azimuths": np.degrees(self.azimuths).round(4).tolist(),
            "elevations": np.degrees(self.elevations).round(4).tolist(),
            "energy": {name: getattr(self, name).round(6).tolist() for name in TOLD},
            "told": TOLD,
            "start": rows[0],
            "end": rows[-1],
            "path": rows,
            "starts": [list(_degrees(*view)) for view in self.starts],
            "valleys": [dict(zip(keys, valley, strict=True)) for valley in self.valleys()],
        }


class Pictures(NamedTuple):
    """The photo with the mesh over it, where the path begins and where it ends."""

    start: UInt8[np.ndarray, "h w 3"]
    end: UInt8[np.ndarray, "h w 3"]


def _degrees(azimuth: float, elevation: float) -> tuple[float, float]:
    return round(math.degrees(azimuth), 3) % 360, round(math.degrees(elevation), 3)


def landscape_picture(
    landscape: Landscape, which: str = "optimised", title: str | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Return one of the maps with axes in degrees, colour bar, path, start and end.

    Args:
        landscape: what is drawn.
        which: ``optimised`` or ``held``.
        title: above it; None tells which map it is.
    """
    values = getattr(landscape, which)
    plot, frame = _plot(landscape, values)
    width, height = frame.width, frame.height
    picture = Image.new("RGB", (LEFT + width + RIGHT, TOP + height + BOTTOM), PAPER)
    picture.paste(Image.fromarray(plot).resize((width, height), Image.Resampling.BOX), (LEFT, TOP))
    draw = ImageDraw.Draw(picture)
    _axes(picture, draw, frame)
    _bar(draw, frame, values)
    told = title or f"Energy of render-and-compare; {TOLD[which]}"
    _write(draw, (LEFT, TOP / 2), told, INK, anchor="lm")
    return np.asarray(picture)


class Frame(NamedTuple):
    """Where degrees are in the plot; ``low`` and ``high`` are elevations, degrees."""

    width: int
    height: int
    low: float
    high: float

    def at(self, azimuth: float | int, elevation: float | int) -> tuple[float, float]:
        """Return the plot's pixel of a view in degrees; azimuth may be beyond a turn."""
        return azimuth * SCALE, (self.high - elevation) * SCALE


def _frame(landscape: Landscape) -> Frame:
    step = math.degrees(landscape.azimuths[1] - landscape.azimuths[0])
    low, high = (math.degrees(landscape.elevations[k]) for k in (0, -1))
    low, high = max(low - step / 2, -90.0), min(high + step / 2, 90.0)
    return Frame(round(360 * SCALE), round((high - low) * SCALE), low, high)


def _plot(landscape: Landscape, values: np.ndarray) -> tuple[UInt8[np.ndarray, "h w 3"], Frame]:
    """Return the heat map with the path, ``FINE`` times its frame's size, and its frame."""
    frame = _frame(landscape)
    size = (FINE * frame.height, FINE * frame.width)
    picture = Image.fromarray(heat_colours(_between(landscape, values, frame, size)))
    draw = ImageDraw.Draw(picture)
    walked = np.degrees(np.unwrap(landscape.path[:, 0])), np.degrees(landscape.path[:, 1])
    for turn in range(-2, 3):  # what leaves at one border comes in at the other
        places = [
            tuple(FINE * v for v in frame.at(a + 360 * turn, e))
            for a, e in zip(*walked, strict=True)
        ]
        for colour, line in (((20, 20, 30), 4), (WAY, 2)):
            draw.line(places, fill=colour, width=line * FINE // 2 + 1, joint="curve")
        for azimuth, elevation in np.degrees(landscape.starts):
            _dot(draw, frame.at(azimuth + 360 * turn, elevation), 3.0, None)
        _dot(draw, (places[0][0] / FINE, places[0][1] / FINE), 5.0, START)
        _dot(draw, (places[-1][0] / FINE, places[-1][1] / FINE), 5.0, END)
    return np.asarray(picture), frame


def _between(
    landscape: Landscape, values: np.ndarray, frame: Frame, size: tuple[int, int]
) -> Float64[np.ndarray, "h w"]:
    """Return the energies at the pixels of a plot: bilinear, round the full turn."""
    step = math.degrees(landscape.azimuths[1] - landscape.azimuths[0])
    low = math.degrees(landscape.elevations[0])
    x = (np.arange(size[1]) + 0.5) / (FINE * SCALE) / step
    y = (frame.high - (np.arange(size[0]) + 0.5) / (FINE * SCALE) - low) / step
    y = np.clip(y, 0, len(values) - 1)
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    v, u = (y - rows)[:, None], (x - columns)[None]
    below, beside = np.minimum(rows + 1, len(values) - 1), (columns + 1) % values.shape[1]
    columns = columns % values.shape[1]
    upper = values[rows][:, columns] * (1 - u) + values[rows][:, beside] * u
    lower = values[below][:, columns] * (1 - u) + values[below][:, beside] * u
    return upper * (1 - v) + lower * v


def heat_colours(values: Float64[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return energies in bands of colour, the lowest brightest; their borders are contours."""
    low, high = float(values.min()), float(values.max())
    share = (high - values) / max(high - low, 1e-12)
    return _ramp(np.minimum(np.floor(share * BANDS), BANDS - 1) / (BANDS - 1))


def _ramp(share: np.ndarray) -> UInt8[np.ndarray, "... 3"]:
    stops = np.linspace(0, 1, len(RAMP))
    channels = [np.interp(share, stops, [c[k] for c in RAMP]) for k in range(3)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def _dot(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    radius: float,
    colour: tuple[int, int, int] | None,
) -> None:
    """Draw a dot with a dark and a light edge; a hollow one where it has no colour."""
    (x, y), r = (FINE * v for v in place), FINE * radius
    if colour is None:
        draw.ellipse((x - r, y - r, x + r, y + r), outline=WAY, width=FINE)
        return
    draw.ellipse((x - r - FINE, y - r - FINE, x + r + FINE, y + r + FINE), fill=(20, 20, 30))
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=WAY, width=FINE)


def _axes(picture: Image.Image, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
    bottom = TOP + frame.height
    named = {0: "0° front", 90: "90° its left", 180: "180° back", 270: "270° its right"}
    for azimuth in range(0, 361, 30):
        x = LEFT + frame.at(azimuth, 0)[0]
        draw.line((x, bottom, x, bottom + 5), fill=SOFT)
        told = named.get(azimuth, f"{azimuth}°")
        _write(draw, (x, bottom + 17), told, SOFT)
    _write(draw, (LEFT + frame.width / 2, bottom + 42), "azimuth", INK)
    for elevation in range(-90, 91, 15):
        if frame.low - 1e-6 <= elevation <= frame.high + 1e-6:
            y = TOP + frame.at(0, elevation)[1]
            draw.line((LEFT - 5, y, LEFT, y), fill=SOFT)
            _write(draw, (LEFT - 9, y), f"{elevation}°", SOFT, anchor="rm")
    upright = Image.new("RGB", (90, 20), PAPER)
    _write(ImageDraw.Draw(upright), (45, 10), "elevation", INK)
    picture.paste(upright.transpose(Image.Transpose.ROTATE_90), (2, TOP + frame.height // 2 - 45))


def _bar(draw: ImageDraw.ImageDraw, frame: Frame, values: np.ndarray) -> None:
    """Draw the colour bar and what dots mean."""
    x, low, high = LEFT + frame.width + 18, float(values.min()), float(values.max())
    for k in range(frame.height):
        share = 1 - (k + 0.5) / frame.height
        colour = tuple(int(v) for v in _ramp(np.array(1 - share)))
        draw.line((x, TOP + k, x + 14, TOP + k), fill=colour)
    for share in (0.0, 0.5, 1.0):
        y = TOP + (1 - share) * (frame.height - 1)
        _write(draw, (x + 20, y), f"{low + share * (high - low):.3f}", SOFT, anchor="lm")
    y = TOP + frame.height + 42
    for k, (colour, told) in enumerate(((START, "start"), (END, "end"))):
        left = LEFT + frame.width - 120 + 70 * k
        draw.ellipse((left - 6, y - 6, left + 6, y + 6), fill=colour, outline=(20, 20, 30))
        _write(draw, (left + 12, y), told, SOFT, anchor="lm")


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float | int, float | int],
    words: str,
    colour: tuple[int, int, int],
    anchor: str = "mm",
) -> None:
    draw.text(place, words, fill=colour, font=ImageFont.load_default(TICK), anchor=anchor)


def landscape_page(landscape: Landscape, pictures: Pictures, name: str, category: str) -> str:
    """Return the page: both maps, the energy at the pointer, the curve; it loads nothing.

    Args:
        landscape: what is shown.
        pictures: the mesh over the photo at both ends of the path.
        name: of the photo.
        category: of the object.
    """
    frame, told = _frame(landscape), landscape.to_json()
    maps = {
        which: data_uri(landscape_picture(landscape, which), "PNG")
        for which in ("optimised", "held")
    }
    shown = {key: told[key] for key in ("azimuths", "elevations", "energy", "path")} | {
        "frame": [LEFT, TOP, frame.width, frame.height, frame.low, frame.high]
    }
    return fill(
        page_text("landscape_page.html"),
        {
            "style": house_style(),
            "title": html.escape(f"{name}: energy landscape - featmesh"),
            "photo": html.escape(name),
            "told": html.escape(_sentence(told, category)),
            "optimised": maps["optimised"],
            "held": maps["held"],
            "rows": "".join(_rows(told)),
            "curve": curve(landscape),
            "start": data_uri(pictures.start, "JPEG"),
            "end": data_uri(pictures.end, "JPEG"),
            "numbers": json.dumps(shown, allow_nan=False).replace("<", "\\u003c"),
        },
    )


def _sentence(told: dict[str, Any], category: str) -> str:
    start, end = told["start"], told["end"]
    return (
        f"Render-and-compare of a {category}: from azimuth {start['azimuth']:.0f}°, elevation "
        f"{start['elevation']:.0f}° (energy {start['energy']:.4f}) to azimuth "
        f"{end['azimuth']:.1f}°, elevation {end['elevation']:.1f}° ({end['energy']:.4f})."
    )


def _rows(told: dict[str, Any]) -> list[str]:
    """Return the table of start, end and valleys."""
    named = [("Start", told["start"]), ("End", told["end"])]
    named += [(f"Valley {k}", valley) for k, valley in enumerate(told["valleys"], 1)]
    return [
        f"<tr><th scope='row'>{label}</th><td>{row['azimuth']:.1f}°</td>"
        f"<td>{row['elevation']:.1f}°</td><td>{row['energy']:.4f}</td></tr>"
        for label, row in named
    ]


def curve(landscape: Landscape) -> str:
    """Return the energy along the path as inline SVG; the polish in its own colour."""
    width, height = CURVE
    energy = landscape.path_energy
    low, high = float(energy.min()), float(energy.max())
    across = np.linspace(52, width - 10, max(len(energy), 2))[: len(energy)]
    down = 12 + (high - energy) / max(high - low, 1e-12) * (height - 44)
    places = [f"{x:.1f} {y:.1f}" for x, y in zip(across, down, strict=True)]
    dots = "".join(
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='transparent'>"
        f"<title>step {k} ({html.escape(stage)}): {value:.4f}</title></circle>"
        for k, (x, y, stage, value) in enumerate(
            zip(across, down, landscape.stages, energy, strict=True)
        )
    )
    polish = next((k for k, s in enumerate(landscape.stages) if s == "polish"), len(places))
    parts = [
        f"<path d='M{' L'.join(some)}' fill='none' stroke='{colour}' stroke-width='2'/>"
        for some, colour in ((places[:polish], "#2f7df6"), (places[polish - 1 :], "#d9730d"))
        if len(some) > 1
    ]
    style = "fill:var(--soft);font-size:12px"
    ends = (
        f"<text style='{style}' x='46' y='{down.min() + 4:.0f}' text-anchor='end'>{high:.3f}</text>"
        f"<text style='{style}' x='46' y='{down.max() + 4:.0f}' text-anchor='end'>{low:.3f}</text>"
        f"<text style='{style}' x='{width - 10:g}' y='{height - 6:g}' text-anchor='end'>"
        f"{len(energy) - 1} steps; blue: the optimiser's, orange: the polish's</text>"
    )
    label = "energy along the path"
    return (
        f"<svg viewBox='0 0 {width:g} {height:g}' role='img' aria-label='{label}'>"
        f"{''.join(parts)}{ends}{dots}</svg>"
    )
