"""Claims about ``featmesh evaluate``: the preset decides which search is measured, a suite how."""

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


@pytest.fixture
def suites(measured, fake_module) -> list[dict]:
    """What suites were asked for."""
    calls: list[dict] = []

    def run(subject, views, out, config, backgrounds):
        calls.append({"subject": subject, "config": config, "backgrounds": backgrounds})
        return "few lines\n", "{}\n"

    fake_module("featmesh.apps.suite", Subject=lambda *a, **k: (a, k), measured=run)
    return calls


def test_a_suite_is_measured_instead(suites, measured, tmp_path: Path, capsys) -> None:
    more = ["--suite", "robustness", "--severity", "2", "5", "--photos", "7", "--backgrounds", "b"]
    more += ["--unseen", "30", "60", "120", "150", "--search.refine.steps", "7"]
    assert execute(words(tmp_path, *more)) == 0
    (call,) = suites
    assert not measured and capsys.readouterr().out == "few lines\n"
    config = call["config"]
    assert (config.severity, config.photos) == ((2, 5), 7)
    assert config.unseen == ((30.0, 60.0), (120.0, 150.0)) and call["backgrounds"] == Path("b")
    (model, estimate), told = call["subject"]
    assert model.category == "car" and estimate.keywords["config"].refine.steps == 7
    assert told["locate"] is False and told["settings"]["refine"]["steps"] == 7


def test_a_quick_suite_is_short(suites, tmp_path: Path, capsys) -> None:
    more = ["--suite", "robustness", "--quick", "--severity", "5", "--json"]
    assert execute(words(tmp_path, *more)) == 0
    config = suites[0]["config"]
    assert config.severity == (5,) and config.photos == 8 and "fog" in config.conditions
    assert capsys.readouterr().out == "{}\n"


def test_a_severity_that_is_none_is_refused(suites, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        execute(words(tmp_path, "--suite", "robustness", "--severity", "6"))
    assert "severities from 1 to 5" in capsys.readouterr().err and not suites
