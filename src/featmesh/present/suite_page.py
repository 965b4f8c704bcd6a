"""The report of a robustness suite: one file with curves, tables and photos, offline (ours)."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from featmesh.evaluate.suite_text import model_hash
from featmesh.paths import write_whole

from .charts import Chart, Interval, Line, chart_html
from .figures import data_uri
from .fill import fill, house_style, page_text

Figures = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

LONGEST = 560  # pixels of a photo's longer side in the report
GROUPS = {"noise": "s1", "blur": "s2", "weather": "s3", "digital": "s4"}  # colours of the curves
POOLS = {"clean": "s1", "occlusion": "s2", "corruption": "s3"}
WORST = 9  # conditions listed
HEAT = 62  # percent of colour in a full cell of the table


@dataclass(frozen=True, eq=False)
class Shot:
    """A photo of the report.

    Attributes:
        pixels: with whatever is drawn over it.
        name: which photo.
        told: how wrong its estimate is.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    name: str
    told: str


def write_suite_page(
    path: str | Path, figures: Figures, shots: Mapping[str, Sequence[Shot]]
) -> None:
    """Write the report of a suite; it loads nothing from anywhere.

    Args:
        path: file to write.
        figures: what stands in ``suite.json``.
        shots: photos under a heading each.
    """
    sections = [_curves(figures), _table(figures), _azimuths(figures), _flips(figures)]
    sections += [_calibration(figures), _timing(figures)]
    sections += [_photos(heading, found) for heading, found in shots.items()]
    name = str(figures["model"]["name"])
    page = fill(
        page_text("suite_page.html"),
        {
            "style": house_style(),
            "title": html.escape(f"Robustness: {name} - featmesh"),
            "heading": html.escape(f"Robustness: {name}"),
            "told": html.escape(_told(figures)),
            "tiles": _tiles(figures),
            "sections": "".join(sections),
        },
    )
    write_whole(path, page)


def charts_of(figures: Figures) -> list[Chart]:
    """Return the report's charts: curves by kind, azimuth, confusion, calibration."""
    found = [_occlusion(figures), _severities(figures), _resolution(figures), _rotation(figures)]
    found += [_azimuth(figures), _azimuth_median(figures), _confusion(figures)]
    return [one for one in (*found, _reliability(figures)) if one is not None]


def _section(heading: str, told: str, *content: str) -> str:
    shown = "".join(content)
    if not shown:
        return ""
    return f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(told)}</p>{shown}</section>"


def _grid(charts: Sequence[Chart | None]) -> str:
    drawn = "".join(chart_html(chart) for chart in charts if chart is not None)
    return f"<div class='pictures'>{drawn}</div>" if drawn else ""


def _told(figures: Figures) -> str:
    told = [
        f"{figures['count']} records, model {model_hash(figures)}, "
        f"featmesh {figures['featmesh']}, seed {figures['seed']}."
    ]
    if figures["symmetry"] != 1:
        told.append(f"Errors are up to the model's symmetry ({figures['symmetry']}).")
    if figures["left_out"]:
        told.append(f"These photos cannot show: {', '.join(figures['left_out'])}.")
    if figures["pictures"] is None:
        told.append("Occluders are grey noise: no pictures were given.")
    return " ".join(told)


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _kind(figures: Figures, *kinds: str) -> list[Mapping[str, Any]]:
    return [row for row in figures["conditions"] if row["kind"] in kinds]


def _tiles(figures: Figures) -> str:
    """Return the few numbers that sum it up."""
    (clean,) = _kind(figures, "clean")
    tiles = [
        ("Clean", _percent(clean["acc_30"]), _range(clean["interval"]["acc_30"])),
        ("Clean, below 10°", _percent(clean["acc_10"]), f"median {clean['median_deg']:.1f}°"),
    ]
    for row in _kind(figures, "occlusion")[-1:]:
        tiles.append((f"Occlusion {row['what']}", _percent(row["acc_30"]), _range_of(row)))
    for severity, mean in figures["corruption"].items():
        told = f"{_percent(mean['relative_acc_30'])} of clean"
        tiles.append((f"Corruptions, severity {severity}", _percent(mean["acc_30"]), told))
    for row in _kind(figures, "resolution")[-1:]:
        tiles.append((f"Resolution {row['what']}", _percent(row["acc_30"]), _range_of(row)))
    flipped = figures["front_back"]["clean"]
    tiles.append(("Front taken for back", _percent(flipped), "clean photos"))
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        f"<dd class='soft'>{html.escape(told)}</dd></div>"
        for name, value, told in tiles
    )


def _range(interval: Sequence[float] | None) -> str:
    if interval is None:
        return ""
    return f"{_percent(interval[0])} to {_percent(interval[1])}"


def _range_of(row: Mapping[str, Any]) -> str:
    return _range(row["interval"]["acc_30"])


def _pair(interval: Sequence[float] | None) -> Interval | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))


def _curves(figures: Figures) -> str:
    charts = [_occlusion(figures), _severities(figures), _resolution(figures), _rotation(figures)]
    told = "Share of poses less than 30° and 10° off; whiskers: 95 % bootstrap intervals."
    return _section("Curves", told, _grid(charts))


def _accuracies(title: str, told: str, rows: Rows, ticks: Sequence[str]) -> Chart | None:
    """Return both accuracies of some conditions."""
    if len(rows) < 2:
        return None
    lines = [
        Line(
            f"below {degrees}°",
            [row[key] for row in rows],
            [_pair(row["interval"][key]) for row in rows],
            colour,
        )
        for key, degrees, colour in (("acc_30", 30, "s1"), ("acc_10", 10, "s2"))
    ]
    return Chart(title, told, ticks, lines)


def _occlusion(figures: Figures) -> Chart | None:
    rows = _kind(figures, "clean", "occlusion")
    told = "L1, L2, L3: 20-40, 40-60, 60-80 % of the object hidden"
    return _accuracies("Occlusion", told, rows, [row["what"] for row in rows])


def _resolution(figures: Figures) -> Chart | None:
    rows = _kind(figures, "clean", "resolution")
    ticks = ["1" if row["kind"] == "clean" else row["what"] for row in rows]
    return _accuracies(
        "Resolution", "share of the pixels along each side that is left", rows, ticks
    )


def _rotation(figures: Figures) -> Chart | None:
    rows = _kind(figures, "clean", "rotation")
    turned = sorted(rows, key=lambda r: 0 if r["kind"] == "clean" else int(r["what"]))
    ticks = ["0°" if row["kind"] == "clean" else f"{row['what']}°" for row in turned]
    return _accuracies("Turned in the picture", "degrees, counter-clockwise", turned, ticks)


def _severities(figures: Figures) -> Chart | None:
    means = figures["corruption"]
    if not means:
        return None
    (clean,) = _kind(figures, "clean")
    first = clean["acc_30"]
    lines = [
        Line(
            group,
            [first, *(mean["groups"].get(group, {}).get("acc_30") for mean in means.values())],
            colour=colour,
        )
        for group, colour in GROUPS.items()
        if any(group in mean["groups"] for mean in means.values())
    ]
    values = [first, *(mean["acc_30"] for mean in means.values())]
    spans = [None, *(_pair(mean["interval_acc_30"]) for mean in means.values())]
    lines.append(Line("mean", values, spans, "text", thick=True))
    told = "poses below 30°, mean over the corruptions of a group; severity 0 is clean"
    return Chart("Corruptions by severity", told, ["0", *means], lines)


def _table(figures: Figures) -> str:
    """Return accuracies of each corruption and severity, coloured."""
    means = figures["corruption"]
    found = {(row["what"], row["severity"]): row for row in _kind(figures, "corruption")}
    names = list(dict.fromkeys(what for what, _ in found))
    if not names:
        return ""
    head = "".join(f"<th>severity {severity}</th>" for severity in means)
    rows = [
        f"<tr><th scope='row'>{html.escape(name.replace('_', ' '))}</th>"
        + "".join(_cell(found[name, int(severity)]["acc_30"]) for severity in means)
        + "</tr>"
        for name in names
    ]
    for label, key in (("mean", "acc_30"), ("relative to clean", "relative_acc_30")):
        cells = "".join(
            f"<td title='{_range(mean[f'interval_{key}'])}'>{_percent(mean[key])}</td>"
            for mean in means.values()
        )
        rows.append(f"<tr class='sum'><th scope='row'>{label}</th>{cells}</tr>")
    table = f"<table class='heat'><thead><tr><th></th>{head}</tr></thead>{''.join(rows)}</table>"
    told = "Poses less than 30° off under each corruption of ImageNet-C (frost is drawn)."
    return _section("Corruptions", told, f"<div class='card wide-table'>{table}</div>")


def _cell(value: float) -> str:
    """Return a share on a ground the redder the smaller it is."""
    share = round(HEAT * min(1.0, 2 * (1 - value)))
    ground = f"background:color-mix(in srgb,#d64545 {share}%,transparent)"
    return f"<td style='{ground}'>{_percent(value)}</td>"


def _azimuths(figures: Figures) -> str:
    charts = [_azimuth(figures), _azimuth_median(figures)]
    told = "By the true azimuth, bins of 30°: 0° is seen from the front, 180° from behind."
    return _section("Azimuth", told, _grid(charts), _unseen(figures))


def _by_azimuth(figures: Figures, key: str) -> tuple[list[str], list[Line]]:
    bins = figures["azimuth"]
    lines = [
        Line(name, [one[name][key] for one in bins], colour=colour)
        for name, colour in POOLS.items()
        if name in bins[0]
    ]
    return [f"{one['azimuth']:.0f}°" for one in bins], lines


def _azimuth(figures: Figures) -> Chart:
    ticks, lines = _by_azimuth(figures, "acc_30")
    counts = ", ".join(str(one["count"]) for one in figures["azimuth"])
    return Chart("Poses below 30° by azimuth", f"records a bin: {counts}", ticks, lines)


def _azimuth_median(figures: Figures) -> Chart:
    ticks, lines = _by_azimuth(figures, "median_deg")
    values = [v for line in lines for v in line.values if v is not None]
    top = next((t for t in (5, 10, 20, 45, 90) if max(values, default=0) <= t), 180)
    return Chart("Median error by azimuth", "degrees", ticks, lines, float(top), "°")


def _unseen(figures: Figures) -> str:
    found = figures["unseen"]
    if not found:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{told}</th><td>{found[key]['count']} records</td>"
        f"<td>{_percent(found[key]['acc_30'])} below 30°</td>"
        f"<td>{_percent(found[key]['acc_10'])} below 10°</td></tr>"
        for key, told in (("seen", "Azimuths trained on"), ("unseen", "Azimuths not trained on"))
    )
    return f"<div class='card'><table>{rows}</table></div>"


def _confusion(figures: Figures) -> Chart:
    ticks, lines = _by_azimuth(figures, "front_back")
    values = [v for line in lines for v in line.values if v is not None]
    top = next((t for t in (0.05, 0.1, 0.2, 0.5) if max(values, default=0) <= t), 1.0)
    told = "share of estimates whose azimuth is more than 135° off"
    return Chart("Front taken for back, by azimuth", told, ticks, lines, top)


def _flips(figures: Figures) -> str:
    """Return the confusion of front and back: by azimuth, and where it is worst."""
    worst = sorted(figures["conditions"], key=lambda row: -row["front_back"])[:WORST]
    worst = [row for row in worst if row["front_back"] > 0]
    top = worst[0]["front_back"] if worst else 1.0
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(row['name'].replace('_', ' '))}</th>"
        f"<td class='share'><u style='width:{100 * row['front_back'] / top:.0f}%'></u></td>"
        f"<td>{_percent(row['front_back'])}</td></tr>"
        for row in worst
    )
    rows = rows or "<tr><td>none</td></tr>"
    listed = f"<figure class='card wide'><h3>Worst conditions</h3><table>{rows}</table></figure>"
    drawn = f"<div class='pictures'>{chart_html(_confusion(figures))}{listed}</div>"
    told = "The azimuth is more than 135° off: the object is seen from the wrong end."
    return _section("Front taken for back", told, drawn)


def _reliability(figures: Figures) -> Chart | None:
    lines, places = [], [(k + 0.5) / 10 for k in range(10)]
    for name, colour in (("clean", "s1"), ("all", "s2")):
        found = figures["calibration"].get(name)
        if found is None:
            continue
        right = {round(10 * one["low"]): one["right"] for one in found["bins"]}
        label = f"{name}, ECE {found['ece']:.3f}"
        lines.append(Line(label, [right.get(k) for k in range(10)], colour=colour))
    if not lines:
        return None
    ticks = [f"{place:.2f}"[1:] for place in places]
    told = "stated confidence against the share of poses below 30°; dashed: as it should be"
    return Chart("Calibration", told, ticks, lines, places=places, diagonal=True)


def _calibration(figures: Figures) -> str:
    chart = _reliability(figures)
    if chart is None:
        return _section("Calibration", "The model states no confidence.", " ")
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{found['count']} estimates</td>"
        f"<td>ECE {found['ece']:.3f}</td><td>{_separation(found['auroc_right'])}</td></tr>"
        for name, found in figures["calibration"].items()
        if found is not None
    )
    table = f"<figure class='card wide'><h3>Right against wrong</h3><table>{rows}</table></figure>"
    told = "Confidence is the stated probability that a pose is less than 30° off."
    drawn = f"<div class='pictures'>{chart_html(chart)}{table}</div>"
    return _section("Calibration", told, drawn)


def _separation(value: float | None) -> str:
    return "AUROC -" if value is None else f"AUROC {value:.3f}"


def _timing(figures: Figures) -> str:
    timing = figures["timing"]
    if timing["median"] is None:
        return ""
    numbers = [
        ("One estimate, median", f"{timing['median']:.3f} s"),
        ("9 in 10 below", f"{timing['p90']:.3f} s"),
        ("Estimates", str(timing["estimates"])),
        ("All of them", f"{timing['total'] / 60:.1f} min"),
        ("This run", f"{timing['wall'] / 60:.1f} min"),
    ]
    told = "".join(f"<div><dt>{a}</dt><dd>{b}</dd></div>" for a, b in numbers)
    return _section(
        "Time", "Kept predictions of earlier runs count.", f"<dl class='card tiles'>{told}</dl>"
    )


def _photos(heading: str, shots: Sequence[Shot]) -> str:
    """Return photos with captions."""
    drawn = []
    for shot in shots:
        small = Image.fromarray(shot.pixels)
        small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        alt = html.escape(shot.name, quote=True)
        source = data_uri(np.asarray(small), "JPEG")
        drawn.append(
            f'<figure class="card quarter"><img alt="{alt}" src="{source}">'
            f"<figcaption><b>{alt}</b>: {html.escape(shot.told)}</figcaption></figure>"
        )
    shown = f"<div class='pictures'>{''.join(drawn)}</div>" if drawn else ""
    return _section(heading, "The mesh in the estimated pose; arrow: front.", shown)
