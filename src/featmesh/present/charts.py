"""Charts as inline SVG that need nothing else and follow the page's light or dark colours (ours).

Colours are CSS variables ``--s1`` to ``--s5`` and ``--text``; the page defines them.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520.0, 290.0  # units of the drawing; it is as wide as its frame
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 34.0  # margins
STEPS = 5  # spaces between the lines of the grid
Number = float | int
Interval = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One series of a chart.

    Attributes:
        name: in the legend.
        values: one a tick; None leaves a gap.
        intervals: drawn as whiskers, none or one a tick.
        colour: CSS colour, or name of one of the page's.
        thick: drawn to stand out.
    """

    name: str
    values: Sequence[Number | None]
    intervals: Sequence[Interval | None] = ()
    colour: str = "s1"
    thick: bool = False


@dataclass(frozen=True)
class Chart:
    """What a chart shows; values run from 0 to ``top``.

    Attributes:
        title: above it.
        told: what the axes are.
        ticks: label of each place along x.
        lines: the series.
        top: largest value.
        unit: of the values: ``%`` shows shares as percent, any other stands behind the number.
        places: where the ticks are, shares of the width; evenly where empty.
        diagonal: draw the line where y is x.
    """

    title: str
    told: str
    ticks: Sequence[str]
    lines: Sequence[Line]
    top: Number = 1.0
    unit: str = "%"
    places: Sequence[Number] = ()
    diagonal: bool = False


def chart_html(chart: Chart) -> str:
    """Return a chart with title, legend and caption, as a figure of the page."""
    chips = "".join(
        f"<span><i style='background:{_colour(line)}'></i>{html.escape(line.name)}</span>"
        for line in chart.lines
    )
    key = f"<div class='key'>{chips}</div>" if len(chart.lines) > 1 else ""
    return (
        f"<figure class='card wide chart'><h3>{html.escape(chart.title)}</h3>{svg(chart)}{key}"
        f"<figcaption>{html.escape(chart.told)}</figcaption></figure>"
    )


def svg(chart: Chart) -> str:
    """Return the drawing alone."""
    parts = [*_grid(chart), *_ticks(chart)]
    if chart.diagonal:
        (x0, y0), (x1, y1) = _at(chart, 0.0, 0.0), _at(chart, 1.0, chart.top)
        style = "stroke:var(--soft);stroke-dasharray:4 4"
        parts.append(f"<path style='{style}' d='M{x0:.1f} {y0:.1f} L{x1:.1f} {y1:.1f}'/>")
    for k, line in enumerate(chart.lines):
        parts += _line(chart, line, k)
    told = html.escape(chart.title, quote=True)
    size = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}"'
    return f'<svg {size} role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _places(chart: Chart) -> list[Number]:
    """Return where the ticks are, shares of the width; a little away from both ends."""
    if chart.places:
        return list(chart.places)
    count = len(chart.ticks)
    return [(k + 0.5) / count for k in range(count)]


def _at(chart: Chart, x: Number, y: Number) -> tuple[float, float]:
    """Return the drawing's point of a share of the width and a value."""
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return LEFT + x * across, HEIGHT - BOTTOM - min(max(y / chart.top, 0.0), 1.0) * up


def shown(chart: Chart, value: Number) -> str:
    """Return a value as the chart tells it."""
    if chart.unit == "%":
        return f"{100 * value:.0f} %"
    return f"{value:.3g}{chart.unit}"


def _grid(chart: Chart) -> list[str]:
    parts = []
    for k in range(STEPS + 1):
        value = chart.top * k / STEPS
        (x0, y), (x1, _) = _at(chart, 0.0, value), _at(chart, 1.0, value)
        parts.append(f"<path style='stroke:var(--line)' d='M{x0} {y:.1f} H{x1}'/>")
        parts.append(_text(x0 - 7, y + 4, shown(chart, value), "end"))
    return parts


def _ticks(chart: Chart) -> list[str]:
    return [
        _text(_at(chart, place, 0.0)[0], HEIGHT - BOTTOM + 19, tick, "middle")
        for place, tick in zip(_places(chart), chart.ticks, strict=True)
    ]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    style = f"fill:var(--soft);font-size:12px;text-anchor:{anchor}"
    return f"<text style='{style}' x='{x:.1f}' y='{y:.1f}'>{html.escape(text)}</text>"


def _line(chart: Chart, line: Line, k: int) -> list[str]:
    """Return path, whiskers and points of a series; whiskers of several stand side by side."""
    colour, parts, path = _colour(line), [], ""
    aside = (k - (len(chart.lines) - 1) / 2) * 5  # so that points of several are all seen
    intervals = [*line.intervals, *[None] * (len(line.values) - len(line.intervals))]
    told = zip(_places(chart), chart.ticks, line.values, intervals, strict=True)
    for place, tick, value, interval in told:
        if value is None:
            path += " "  # the next point begins anew
            continue
        x, y = _at(chart, place, value)
        x += 0 if chart.diagonal else aside
        path += f"{'L' if path and path[-1] != ' ' else 'M'}{x:.1f} {y:.1f}"
        if interval is not None:
            low, high = (_at(chart, 0.0, end)[1] for end in interval)
            style = f"stroke:{colour};stroke-width:1.5;opacity:.55"
            parts.append(f"<path style='{style}' d='M{x:.1f} {low:.1f} V{high:.1f}'/>")
        label = html.escape(f"{line.name}, {tick}: {shown(chart, value)}")
        dot = f"<circle style='fill:{colour}' cx='{x:.1f}' cy='{y:.1f}' r='3.5'>"
        parts.append(f"{dot}<title>{label}</title></circle>")
    width = 3 if line.thick else 2
    return [f"<path style='fill:none;stroke:{colour};stroke-width:{width}' d='{path}'/>", *parts]


def _colour(line: Line) -> str:
    return f"var(--{line.colour})"
