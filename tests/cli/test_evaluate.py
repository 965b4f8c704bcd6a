"""Claims about ``featmesh evaluate``: the preset decides which search is measured."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from featmesh.cli.main import execute
from featmesh.inference.config import EstimateConfig
from featmesh.inference.presets import PRESETS


@pytest.fixture
def measured(fake_module) -> list[dict]:
    """What was to be measured."""
    calls: list[dict] = []

    def evaluate(model, views, out_dir, estimate, locate=False, settings=None):
        calls.append({"search": estimate.func.__name__, **estimate.keywords, "settings": settings})
        return {"pose": {"count": 1}, "status": {"ok": 1}}

    fake_module("featmesh.evaluate.predict", evaluate=evaluate)
    fake_module("featmesh.model.checkpoint", load=lambda name: SimpleNamespace(category="car"))
    fake_module("featmesh.views.record", read_views=lambda path: [str(path)])
    return calls


def words(tmp_path: Path, *more: str) -> list[str]:
    views, out = str(tmp_path / "views.json"), str(tmp_path / "out")
    return ["evaluate", "--views", views, "--out", out, *more]


def test_our_own_search_is_measured(measured, tmp_path: Path) -> None:
    assert execute(words(tmp_path, "--search.refine.steps", "7")) == 0
    (call,) = measured
    assert call["search"] == "estimate" and call["config"].refine.steps == 7
    assert call["settings"]["refine"]["steps"] == 7


def test_the_published_search_is_measured(measured, tmp_path: Path) -> None:
    assert execute(words(tmp_path, "--preset", "nemo")) == 0
    (call,) = measured
    assert (call["search"], call["config"]) == ("estimate_crop", PRESETS["nemo"])
    assert call["settings"]["steps"] == 300 and json.dumps(call["settings"])
    assert PRESETS["featmesh"] == EstimateConfig()


@pytest.mark.parametrize("more", [["--locate"], ["--search.refine.steps", "7"]])
def test_what_the_published_search_does_not_have_is_refused(
    more, measured, tmp_path: Path, capsys
) -> None:
    assert execute(words(tmp_path, "--preset", "nemo", *more)) == 2
    assert "E_USAGE" in capsys.readouterr().err and not measured
