"""The report of a suite: everything in one file that loads nothing."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from featmesh.present.suite_page import Shot, charts_of, write_suite_page

HOSTILE = "<script>alert(1)</script>{{sections}}"
SPAN = [0.5, 0.9]


def condition(kind: str, what: str, severity: int | None = None, share: float = 0.75) -> dict:
    name = kind if kind == "clean" else f"{what} {severity}" if severity else f"{kind} {what}"
    return {
        "name": name,
        "kind": kind,
        "what": what,
        "severity": severity,
        "acc_30": share,
        "acc_10": share / 2,
        "median_deg": 8.0,
        "failed": 0,
        "interval": {"acc_30": SPAN, "acc_10": SPAN, "median_deg": [5.0, 9.0]},
        "front_back": 0.1 if kind == "occlusion" else 0.0,
    }


def mean(share: float, groups: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"conditions": 2}
    for name in ("acc_30", "acc_10"):
        found |= {name: share, f"relative_{name}": share, f"interval_{name}": SPAN}
        found |= {f"interval_relative_{name}": SPAN}
    return found | ({"groups": {"noise": mean(share, False)}} if groups else {})


def figures(**changes) -> dict[str, Any]:
    conditions = [condition("clean", "L0", share=0.96875)]
    conditions += [condition("occlusion", level) for level in ("L1", "L2", "L3")]
    conditions += [condition("corruption", "shot_noise", s, 1 - s / 10) for s in (1, 5)]
    conditions += [condition("resolution", what) for what in ("1/2", "1/8")]
    conditions += [condition("rotation", what) for what in ("-30", "+30")]
    pool = {"acc_30": 0.9, "median_deg": 12.0, "front_back": 0.05}
    bins = [{"azimuth": 30.0 * k, "count": 3, "clean": pool, "corruption": pool} for k in range(12)]
    share = {"count": 5, "acc_30": 0.4, "acc_10": 0.2}
    told = {"low": 0.9, "high": 1.0, "count": 9, "confidence": 0.95, "right": 0.8}
    sure = {"count": 9, "ece": 0.15, "auroc_right": 0.875, "bins": [told]}
    return {
        "model": {"name": "car", "hash": "0123456789abcdef"},
        "featmesh": "9.9",
        "seed": 0,
        "count": 36,
        "symmetry": 1,
        "left_out": ["context removed"],
        "pictures": "ab",
        "conditions": conditions,
        "corruption": {"1": mean(0.9), "5": mean(0.5)},
        "azimuth": bins,
        "unseen": {"ranges": [[0.0, 30.0]], "seen": share, "unseen": share},
        "front_back": {"clean": 0.03125, "all": 0.1},
        "calibration": {"clean": sure, "all": sure},
        "timing": {"estimates": 99, "median": 0.123, "p90": 0.2, "total": 60.0, "wall": 120.0},
    } | changes


def written(tmp_path: Path, found: dict[str, Any], shots: int = 2) -> str:
    pixels = np.full((40, 60, 3), 90, np.uint8)
    shot = Shot(pixels, "a.jpg", "fog 3, 179.0° off")
    write_suite_page(tmp_path / "suite.html", found, {"Worst": [shot] * shots, "None": []})
    return (tmp_path / "suite.html").read_text("utf-8")


def test_the_report_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    page = written(tmp_path, figures())
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 2 and all(one.startswith("data:image/jpeg") for one in sources)
    assert not re.search(r"https?:|url\(|@import|<script|//[a-z]+\.", page)
    assert "default-src 'none'" in page and "{{" not in page


def test_the_report_shows_all_that_was_measured(tmp_path: Path) -> None:
    page = written(tmp_path, figures())
    shown = "Robustness: car|36 records|0123456789ab|cannot show: context removed|96.9 %|+30°|"
    shown += "Occlusion L3|90.0 % of clean|Resolution 1/8|shot noise|severity 5|relative to clean|"
    shown += "Turned in the picture|Poses below 30° by azimuth|Azimuths not trained on|3.1 %|"
    shown += "Front taken for back|occlusion L2|10.0 %|ECE 0.150|AUROC 0.875|0.123 s|2.0 min|"
    shown += "<h2>Worst</h2>|179.0° off"
    for words in shown.split("|"):
        assert words in page, words
    assert "<h2>None</h2>" not in page
    assert page.count("<svg") == len(charts_of(figures())) == 8


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    bare = figures(
        conditions=[condition("clean", "L0")],
        corruption={},
        unseen={},
        calibration={"clean": None, "all": None},
        pictures=None,
        timing={"estimates": 0, "median": None, "p90": None, "total": 0.0, "wall": 1.0},
    )
    page = written(tmp_path, bare, 0)
    assert "states no confidence" in page and "grey noise" in page
    for absent in ("Corruptions", "<h2>Curves", "<h2>Time", "not trained on", "Worst</h2>"):
        assert absent not in page
    assert page.count("<svg") == 3


def test_names_cannot_break_out(tmp_path: Path) -> None:
    page = written(tmp_path, figures(model={"name": HOSTILE, "hash": None}))
    assert "<script>" not in page and "{{sections}}" in page and "without a hash" in page
