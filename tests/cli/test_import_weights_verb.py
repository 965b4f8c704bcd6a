"""``featmesh import-weights`` tells what it found and how to go on."""

import json
from pathlib import Path
from typing import Any

import pytest

from featmesh.apps import import_weights
from featmesh.cli.main import execute

FACTS = {
    "source": "car.pth",
    "backbone": "resnet50",
    "file": "resnet50-0123abcd.safetensors",
    "tensors": 300,
    "taken": 265,
    "numbers": 23_500_000,
    "left": {"out_layer": 2},
    "banks": {"memory": [3456, 128]},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def imported(source: Path, out: Path) -> dict[str, Any]:
        calls.append((source, out))
        return FACTS

    monkeypatch.setattr(import_weights, "import_weights", imported)
    return calls


def test_what_was_found_is_told(asked: list[Any], capsys) -> None:
    assert execute(["import-weights", "car.pth", "--out", "o"]) == 0
    assert asked == [(Path("car.pth"), Path("o"))]
    out = capsys.readouterr().out
    assert "resnet50, 265 of 300 tensors, 23.5 M numbers" in out
    assert "memory bank memory: 3456 x 128, not taken" in out
    assert f"featmesh train --preset nemo --trunk {Path('o', FACTS['file'])}" in out


def test_or_as_json(asked: list[Any], capsys) -> None:
    assert execute(["import-weights", "car.pth", "--json"]) == 0
    assert asked == [(Path("car.pth"), Path("imported"))]
    assert json.loads(capsys.readouterr().out) == FACTS


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys) -> None:
    assert execute(["import-weights", str(tmp_path / "none.pth"), "--out", str(tmp_path)]) == 1
    assert "E_CKPT_MISSING" in capsys.readouterr().err
