"""``featmesh export`` hands its options on and tells what was written; its page's commands hold."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
from fixtures import shaped_model

from featmesh.apps import export_network, export_poses
from featmesh.cli import export, import_weights
from featmesh.cli.main import execute
from featmesh.geometry.mesh import read_mesh
from featmesh.model import checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
VERBS = {"export": export, "import-weights": import_weights}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models asked for; each is the painted car with three shapes."""
    names: list[str] = []

    def load(name: str) -> Any:
        names.append(name)
        return shaped_model()

    monkeypatch.setattr(checkpoint, "load", load)
    return names


def test_a_mesh_of_a_latent_code(loaded: list[str], tmp_path: Path, capsys) -> None:
    words = ["--model", "runs/car", "--latent", "0", "-1.5", "0", "--out", str(tmp_path / "m.ply")]
    assert execute(["export", "mesh", *words]) == 0
    assert loaded == ["runs/car"] and "frame: object frame: front -y" in capsys.readouterr().out
    mean = shaped_model().template.vertices
    assert float((read_mesh(tmp_path / "m.ply").extent - (mean.amax(0) - mean.amin(0)))[1]) < -0.01
    assert execute(["export", "mesh", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(tmp_path / "m.ply")


def test_errors_are_told_in_one_line(loaded: list[str], tmp_path: Path, capsys) -> None:
    assert execute(["export", "mesh", "--latent", "1", "--out", str(tmp_path / "m.ply")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("featmesh: E_SHAPE: export mesh: expected a latent code of 3")


def test_the_network_is_asked_for_with_its_size(loaded, monkeypatch, capsys) -> None:
    asked: list[Any] = []

    def write(path: Path, model: Any, to: str, size: Any) -> dict[str, Any]:
        asked.append((path, model.category, to, size))
        return {"file": str(path), "difference": None}

    monkeypatch.setattr(export_network, "write_network", write)
    words = ["--to", "onnx", "--size", "64", "96", "--out", "n.onnx"]
    assert execute(["export", "network", *words]) == 0
    assert asked == [(Path("n.onnx"), "car", "onnx", (64, 96))]
    assert capsys.readouterr().out == "file: n.onnx\n"


def test_poses_are_asked_for_with_their_views(monkeypatch, capsys) -> None:
    asked: list[Any] = []

    def write(*given: Any) -> dict[str, Any]:
        asked.append(given)
        return {"poses": 3, "left_out": {"status no_object": 1}, "notes": []}

    monkeypatch.setattr(export_poses, "export_poses", write)
    words = ["p.jsonl", "--views", "v.json", "--to", "coco", "--out", "c.json", "--diagonal", "4.5"]
    assert execute(["export", "poses", *words]) == 0
    assert asked == [(Path("p.jsonl"), Path("v.json"), "coco", Path("c.json"), 4.5)]
    assert capsys.readouterr().out == "poses: 3\nleft_out: {'status no_object': 1}\n"


def test_the_pages_commands_can_be_read() -> None:
    lines = re.findall(r"^featmesh (export|import-weights) (.*)$", PAGE.read_text("utf-8"), re.M)
    assert len(lines) == 8
    for verb, words in lines:
        tyro.cli(VERBS[verb].Arguments, args=shlex.split(words, comments=True))
