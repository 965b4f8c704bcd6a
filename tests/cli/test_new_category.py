"""Options of new-category, and what it tells."""

import json

import pytest

from featmesh.apps.new_category_config import NewCategoryConfig
from featmesh.cli.main import execute

TOLD = {
    "model": "runs/cup/model",
    "figures": {"clean": {"count": 2, "acc_30": 1.0, "symmetric": {"count": 2, "acc_30": 0.5}}},
}


@pytest.fixture
def asked(fake_module) -> list:
    """What the program was asked to make; it is stopped when called ``stopped``."""
    calls: list = []

    def new_category(name, config, say):
        calls.append((name, config))
        say("1/6 cads")
        return (130, None) if name == "stopped" else (0, TOLD)

    fake_module("featmesh.apps.new_category", new_category=new_category)
    return calls


def test_options_are_those_of_the_config(asked, capsys) -> None:
    words = ["--cad", "cups", "--front", "90", "--symmetry", "any", "--shape.deformation.latents"]
    assert execute(["new-category", "cup", *words, "2", "--train.epochs", "3"]) == 0
    ((name, config),) = asked
    assert name == "cup" and isinstance(config, NewCategoryConfig)
    assert (config.front, config.symmetry, config.train.epochs) == (90.0, "any", 3)
    assert config.shape.deformation.latents == 2 and config.shape.deformation.kind == "pca"
    out, err = capsys.readouterr()
    assert err == "1/6 cads\n"
    assert "acc_30 1" in out and "up to symmetry: acc_30 0.5" in out and "runs/cup/model" in out


def test_json_and_a_number_of_turns(asked, capsys) -> None:
    assert execute(["new-category", "cup", "--cad", "cups", "--symmetry", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == TOLD
    assert asked[0][1].symmetry == 4


def test_a_stopped_run_says_that_it_goes_on(asked, capsys) -> None:
    assert execute(["new-category", "stopped", "--cad", "cups"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
