"""Options of render-views: settings of the category, and those given instead."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from featmesh.cli.main import execute
from featmesh.views.generate_config import GenerateConfig
from featmesh.views.presets import Look, chosen, preset


@pytest.fixture
def asked(fake_module) -> list:
    """What the program was asked to render."""
    calls: list = []

    def render(cads, pictures, out, amount, config):
        calls.append((amount, config))
        return {"views": str(out / "views.json"), "count": amount[0], "cads": len(cads)}

    fake_module(
        "featmesh.apps.render_views",
        Source=lambda *given: given,
        read_source=lambda source, category: (["cad"], (1.0,), ["b.off: E_MESH_EMPTY empty"]),
        pictures_of=lambda folder, half, leave_out: (),
        render=render,
    )
    return calls


def test_every_setting_can_be_given() -> None:
    assert [f.name for f in fields(Look)] == [f.name for f in fields(GenerateConfig)]
    assert "in-plane rotation" in Look.__doc__


def test_the_category_decides_and_options_override(asked, tmp_path: Path, capsys) -> None:
    words = ["render-views", "--cad", "chair", "--out", str(tmp_path), "--count", "7"]
    assert execute([*words, "--seed", "3", "--jobs", "2", "--look.share-occluded", "0"]) == 0
    ((amount, config),) = asked
    assert amount == (7, 3, 2)
    assert (config.category, config.share_occluded, config.weights) == ("chair", 0, (1.0,))
    assert config.elevation == preset("chair").elevation
    out, err = capsys.readouterr()
    assert "7 views of 1 CADs" in out and "left out: b.off" in err
    assert execute([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == ["b.off: E_MESH_EMPTY empty"]


def test_settings_that_are_not_given_are_the_categorys() -> None:
    assert chosen("teapot", Look()) == preset("teapot")
    assert chosen("bus", Look(theta=1.0)).theta == 1.0
    assert chosen("bus", Look(theta=1.0)).elevation == preset("bus").elevation


@pytest.mark.parametrize("words", [["--count", "0"], ["--jobs", "-1"]])
def test_impossible_amounts_are_usage_errors(words: list[str], capsys) -> None:
    assert execute(["render-views", "--cad", "bus", "--out", "o", *words]) == 2
    assert "E_USAGE: render-views" in capsys.readouterr().err
