"""``featmesh evaluate --suite robustness``: the suite, its report, a few lines to print."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from featmesh.errors import InputError
from featmesh.evaluate.conditions import Condition
from featmesh.evaluate.suite import Subject, SuiteResult, run_suite, shown
from featmesh.evaluate.suite_config import SuiteConfig
from featmesh.evaluate.suite_table import RIGHT
from featmesh.evaluate.suite_text import percent, with_interval
from featmesh.inference.result import Estimate
from featmesh.photo.photo import Photo
from featmesh.present.overlay import overlay
from featmesh.present.suite_page import Shot, write_suite_page
from featmesh.progress import Stream
from featmesh.views.generate import read_backgrounds
from featmesh.views.record import View

PAGE = "suite.html"
SHOTS = 8  # photos under each heading of the report


def robustness(
    subject: Subject,
    views: Sequence[View],
    out: Path,
    config: SuiteConfig,
    backgrounds: Path | None = None,
    stream: Stream | None = None,
) -> dict[str, Any]:
    """Run the suite, write ``suite.json``, ``suite.md`` and ``suite.html``, return the figures.

    Args:
        subject: the model and how it estimates.
        views: labelled photos.
        out: folder to write to.
        config: which conditions.
        backgrounds: folder of pictures without the object, whose second half by name gives
            occluders (the first one may have been trained on).
        stream: where progress is shown; default is the standard error output.

    Raises:
        DatasetError: E_VIEWS, E_IO (no pictures in the folder).
        InputError: E_CONFIG.
    """
    pictures = () if backgrounds is None else read_backgrounds(backgrounds, second_half=True)
    result = run_suite(subject, views, out, config, pictures, stream)
    write_suite_page(Path(out) / PAGE, result.figures, shots_of(subject, result))
    return result.figures


def shots_of(subject: Subject, result: SuiteResult, most: int = SHOTS) -> dict[str, list[Shot]]:
    """Return the photos of the report: worst and best clean ones, and the surest mistakes."""
    table = result.table
    errors = np.where(np.isnan(table.errors), math.pi, table.errors)
    (clean,) = table.of("clean").tolist()
    order = np.argsort(errors[clean], kind="stable").tolist()
    half = min(most, (len(order) + 1) // 2)
    picked = {
        "Worst clean photos": [(clean, n) for n in order[::-1][:half]],
        "Best clean photos": [(clean, n) for n in order[:half]],
        "Surest mistakes under other conditions": _mistakes(result, errors)[:most],
    }
    return {
        heading: [shot for c, n in pairs if (shot := _shot(subject, result, c, n)) is not None]
        for heading, pairs in picked.items()
    }


def _mistakes(result: SuiteResult, errors: Float64[np.ndarray, "c n"]) -> list[tuple[int, int]]:
    """Return (condition, record) of wrong poses, the surest first, each photo once."""
    table = result.table
    sure = np.where(np.isnan(table.confidence), 0.0, table.confidence)
    wrong = [
        (-float(sure[c, n]), -float(errors[c, n]), int(c), int(n))
        for c, n in np.argwhere(errors >= RIGHT)
        if table.conditions[c].kind != "clean"
    ]
    first: dict[int, tuple[int, int]] = {}
    for _, _, c, n in sorted(wrong):
        first.setdefault(n, (c, n))
    return list(first.values())


def _shot(subject: Subject, result: SuiteResult, c: int, n: int) -> Shot | None:
    """Return a photo with the mesh over it; None where it cannot be read."""
    table = result.table
    view, condition = table.views[n], table.conditions[c]
    try:
        pixels, estimate = shown(subject, view, condition, result.scene)
        drawn = overlay(Photo.from_array(pixels), estimate)
    except InputError:
        return None
    error = table.errors[c, n]
    told = "no pose" if math.isnan(error) else f"{math.degrees(error):.1f}° off"
    return Shot(drawn, view.image_name or view.image.name, _caption(condition, estimate, told))


def _caption(condition: Condition, estimate: Estimate, told: str) -> str:
    name = condition.name.replace("_", " ")
    sure = "" if estimate.confidence is None else f", confidence {estimate.confidence:.2f}"
    return f"{name}, {told}{sure}"


def measured(
    subject: Subject,
    views: Sequence[View],
    out: Path,
    config: SuiteConfig,
    backgrounds: Path | None = None,
) -> tuple[str, str]:
    """Run :func:`robustness` and return what the command prints: a few lines, and the JSON."""
    figures = robustness(subject, views, out, config, backgrounds)
    text = "".join(f"{line}\n" for line in lines(figures, out))
    return text, json.dumps(figures, indent=1, allow_nan=False) + "\n"


def lines(figures: Mapping[str, Any], out: Path) -> list[str]:
    """Return the figures in a few lines."""
    told = [f"{'condition':<26}{'acc@30 %':<24}{'acc@10 %':<24}{'median':>8}"]
    for row in figures["conditions"]:
        if row["kind"] != "corruption":
            cells = [with_interval(row[k], row["interval"][k]) for k in ("acc_30", "acc_10")]
            told.append(f"{row['name']:<26}{cells[0]:<24}{cells[1]:<24}{row['median_deg']:>7.1f}°")
    for severity, mean in figures["corruption"].items():
        cells = [with_interval(mean[k], mean[f"interval_{k}"]) for k in ("acc_30", "acc_10")]
        name = f"{mean['conditions']} corruptions, {severity}"
        relative = percent(mean["relative_acc_30"])
        told.append(f"{name:<26}{cells[0]:<24}{cells[1]:<24}{relative:>5} % of clean")
    return [*told, f"written to {out}: suite.json, suite.md, {PAGE}"]
