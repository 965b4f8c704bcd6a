"""Charts are valid SVG, points lie where their values say, text cannot break out."""

import re
from xml.etree import ElementTree

import pytest

from featmesh.present.charts import BOTTOM, HEIGHT, TOP, Chart, Line, chart_html, svg

HOSTILE = "<b>&\"'"


def chart(*lines: Line, **changes) -> Chart:
    return Chart("Title", "what it is", ("a", "b", "c"), lines, **changes)


def dots(drawing: str) -> list[tuple[float, float, str]]:
    root = ElementTree.fromstring(drawing)
    found = root.iter("circle")
    return [(float(c.attrib["cx"]), float(c.attrib["cy"]), c[0].text or "") for c in found]


def test_points_are_as_high_as_their_values() -> None:
    found = dots(svg(chart(Line("one", (0.0, 0.5, 1.0)))))
    assert [y for _, y, _ in found] == [HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2, TOP]
    xs = [x for x, _, _ in found]
    assert xs == sorted(xs) and xs[2] - xs[1] == pytest.approx(xs[1] - xs[0], abs=0.2)
    assert found[1][2] == "one, b: 50 %"


def test_a_gap_begins_the_line_anew() -> None:
    drawing = svg(chart(Line("one", (0.1, None, 0.2))))
    (path,) = re.findall(r"fill:none[^>]*d='([^']*)'", drawing)
    assert path.count("M") == 2 and "L" not in path and len(dots(drawing)) == 2


def test_whiskers_span_their_interval_and_series_stand_side_by_side() -> None:
    lines = (Line("one", (0.5,) * 3, ((0.0, 1.0), None, None)), Line("two", (0.5,) * 3))
    drawing = svg(chart(*lines))
    assert f"{HEIGHT - BOTTOM:.1f} V{TOP:.1f}" in drawing and drawing.count("opacity") == 1
    xs = {x for x, _, _ in dots(drawing)}
    assert len(xs) == 6


def test_values_beyond_the_top_stay_in_the_frame() -> None:
    assert dots(svg(chart(Line("one", (3.0, 45.0, 99.0)), top=45.0, unit="°")))[2][1] == TOP
    assert "45°" in svg(chart(Line("one", (3.0, 4.0, 5.0)), top=45.0, unit="°"))


def test_text_is_escaped_and_one_series_needs_no_legend() -> None:
    line = Line(HOSTILE, (0.1, 0.2, 0.3))
    page = chart_html(Chart(HOSTILE, HOSTILE, (HOSTILE, "b", "c"), (line,)))
    assert "<b>" not in page and "class='key'" not in page
    ElementTree.fromstring(page)
    assert "class='key'" in chart_html(chart(line, line))


def test_places_and_the_diagonal_are_drawn() -> None:
    drawing = svg(chart(Line("one", (0.1, 0.5, 0.9)), places=(0.0, 0.5, 1.0), diagonal=True))
    assert "stroke-dasharray" in drawing
    (x0, *_), (x1, *_), (x2, *_) = dots(drawing)
    assert x1 - x0 == pytest.approx(x2 - x1)
