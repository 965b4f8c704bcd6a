"""A suite's figures as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]


def markdown(figures: Figures) -> str:
    """Return ``suite.md``: what ``suite.json`` says, in tables."""
    parts = [
        _head(figures),
        "## Conditions\n\nShare of poses less than 30 and 10 degrees off, with 95 % intervals "
        "(bootstrap over records); front/back: azimuth more than 135 degrees off.\n\n"
        + _conditions(figures),
    ]
    if figures["corruption"]:
        parts.append(f"## Corruptions, acc@30 by severity\n\n{_corruptions(figures)}")
    parts.append(f"## By azimuth (0: seen from the front)\n\n{_azimuths(figures)}")
    if figures["unseen"]:
        parts.append(f"## Azimuths not trained on (clean)\n\n{_unseen(figures)}")
    parts.append(f"## Calibration and time\n\n{_rest(figures)}")
    return "\n\n".join(parts) + "\n"


def percent(value: float | None) -> str:
    """Return a share as percent with one decimal; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """Return a share and its interval, percent."""
    if value is None or interval is None:
        return percent(value)
    return f"{percent(value)} ({percent(interval[0])} to {percent(interval[1])})"


def model_hash(figures: Figures) -> str:
    """Return the beginning of the measured model's hash."""
    return (figures["model"]["hash"] or "")[:12] or "without a hash"


def _head(figures: Figures) -> str:
    model = figures["model"]
    lines = [
        f"# Robustness: {model['name']}",
        f"{figures['count']} records, model {model_hash(figures)}, "
        f"featmesh {figures['featmesh']}, seed {figures['seed']}.",
    ]
    if figures["symmetry"] != 1:
        lines.append(f"Errors are up to the model's symmetry ({figures['symmetry']}).")
    if figures["left_out"]:
        told = ", ".join(figures["left_out"])
        lines.append(f"Left out, as these photos cannot show it: {told}.")
    if figures["pictures"] is None:
        lines.append("Occluders are grey noise: no pictures were given.")
    return "\n\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *rows))


def _conditions(figures: Figures) -> str:
    rows = [
        [
            row["name"],
            with_interval(row["acc_30"], row["interval"]["acc_30"]),
            with_interval(row["acc_10"], row["interval"]["acc_10"]),
            f"{row['median_deg']:.1f}",
            percent(row["front_back"]),
            str(row["failed"]),
        ]
        for row in figures["conditions"]
        if row["kind"] != "corruption"
    ]
    head = ("condition", "acc@30 %", "acc@10 %", "median °", "front/back %", "no pose")
    return _table(head, rows)


def _corruptions(figures: Figures) -> str:
    found = {(row["what"], row["severity"]): row for row in figures["conditions"]}
    names = list(dict.fromkeys(r["what"] for r in figures["conditions"] if r["severity"]))
    means = figures["corruption"]
    rows = [
        [name.replace("_", " "), *(percent(found[name, int(s)]["acc_30"]) for s in means)]
        for name in names
    ]
    groups = list(dict.fromkeys(g for mean in means.values() for g in mean["groups"]))
    rows += [
        [f"mean of {g}", *(percent(mean["groups"][g]["acc_30"]) for mean in means.values())]
        for g in groups
    ]
    for what, key in (
        ("**mean, acc@30**", "acc_30"),
        ("**relative to clean**", "relative_acc_30"),
        ("mean, acc@10", "acc_10"),
        ("relative to clean, acc@10", "relative_acc_10"),
    ):
        cells = [with_interval(mean[key], mean[f"interval_{key}"]) for mean in means.values()]
        rows.append([what, *cells])
    return _table(("corruption", *(f"severity {s}" for s in means)), rows)


def _azimuths(figures: Figures) -> str:
    bins = figures["azimuth"]
    pools = [name for name in ("clean", "occlusion", "corruption") if name in bins[0]]
    head = ["azimuth", "records"]
    for name in pools:
        head += [f"{name}: acc@30 %", "median °", "front/back %"]
    rows = []
    for one in bins:
        row = [f"{one['azimuth']:.0f}°", str(one["count"])]
        for name in pools:
            found = one[name]
            median = "-" if found["median_deg"] is None else f"{found['median_deg']:.1f}"
            row += [percent(found["acc_30"]), median, percent(found["front_back"])]
        rows.append(row)
    return _table(head, rows)


def _unseen(figures: Figures) -> str:
    rows = []
    for name in ("seen", "unseen"):
        found = figures["unseen"][name]
        rows.append([name, str(found["count"]), percent(found["acc_30"]), percent(found["acc_10"])])
    return _table(("azimuth", "records", "acc@30 %", "acc@10 %"), rows)


def _rest(figures: Figures) -> str:
    rows = []
    for name, found in figures["calibration"].items():
        if found is not None:
            auroc = "-" if found["auroc_right"] is None else f"{found['auroc_right']:.3f}"
            rows.append([name, str(found["count"]), f"{found['ece']:.3f}", auroc])
    told = _table(("photos", "estimates", "ECE", "AUROC right / wrong"), rows) + "\n\n"
    told = told if rows else "The model states no confidence.\n\n"
    timing = figures["timing"]
    if timing["median"] is None:
        return told + "No estimate was made."
    return told + (
        f"{timing['estimates']} estimates, {timing['median']:.3f} s each (median; 90 % below "
        f"{timing['p90']:.3f} s), {timing['total']:.0f} s together, kept ones counted."
    )
