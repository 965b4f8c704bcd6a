"""Claims about the list of models."""

import json

import pytest

from featmesh.apps.models import kinds, list_models, measured
from featmesh.cli.main import execute
from featmesh.errors import CheckpointError
from featmesh.model.checkpoint import bundled_models


def write(folder, **stated):
    folder.mkdir(parents=True)
    whole = {"schema": 1, "category": "cup", "config": {"deformation": None}}
    whole |= {"backbone": {"file": "net-1.safetensors"}, **stated}
    (folder / "model.json").write_text(json.dumps(whole))
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    return folder


def test_a_model_says_what_its_file_says(tmp_path):
    figures = {"acc_30": 0.9, "acc_10": 0.5, "symmetric": {"acc_30": 1.0, "acc_10": 0.75}}
    folder = write(tmp_path / "models" / "cup", metrics={"renders": figures}, licence="CC0")
    (tmp_path / "backbones").mkdir()
    (tmp_path / "backbones" / "net-1.safetensors").write_bytes(b"y" * 50)
    (row,) = list_models({"cup": folder})
    assert row["measured"] == {"renders": figures} and row["licence"] == "CC0"
    assert row["trunk_bytes"] == 50 and row["latents"] == 0 and row["symmetry"] == 1
    assert row["bytes"] == 1000 + (folder / "model.json").stat().st_size
    told = measured(row["measured"])
    assert told == "renders: 0.90 / 0.50 (up to symmetry 1.00 / 0.75)"


def test_what_is_not_stated_is_called_that(tmp_path):
    (row,) = list_models({"cup": write(tmp_path / "cup")})
    assert measured(row["measured"]) == kinds(row["licence"]) == "not stated"
    assert row["trunk_bytes"] is None
    assert measured({"dev": "not yet"}) == "dev: not yet"
    authors = [f"CADs: Creative Commons Attribution 3.0 license; by {who}" for who in "xyz"]
    assert kinds([*authors, "trunk: Apache-2.0"]) == "Apache-2.0, CC-BY" and kinds("mine") == "mine"


def test_a_broken_file_is_named(tmp_path):
    folder = write(tmp_path / "cup")
    (folder / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"model.json: expected JSON"):
        list_models({"cup": folder})


def test_the_bundled_models_are_listed(capsys):
    assert execute(["models", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in whole["models"]] == sorted(bundled_models())
    assert all(row["bytes"] > 1e5 and row["trunk_bytes"] > 1e6 for row in whole["models"])
    assert execute(["models"]) == 0
    out = capsys.readouterr().out
    assert "licence" in out and "the trunk they share" in out and "not stated" not in out
    assert len(out.splitlines()) < 80
