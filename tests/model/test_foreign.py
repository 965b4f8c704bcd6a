"""Checkpoints of others: their tensors by name, none of their code, no more than the file holds."""

import argparse
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from featmesh.errors import CheckpointError
from featmesh.model import foreign
from featmesh.model.foreign import read_foreign
from featmesh.model.weights import lite0_from_package, resnet50_from_torchvision

READERS = (read_foreign, lite0_from_package, resnet50_from_torchvision)
LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def save(content: Any, path: Path, legacy: bool = False) -> Path:
    """Write a file as others give it to us."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)  # noqa: TID251
    return path


@LEGACY
def test_tensors_come_by_dotted_name(legacy: bool, tmp_path: Path) -> None:
    options = argparse.Namespace(category="car")
    content = {"state": {"a.weight": torch.ones(2)}, "memory": [torch.zeros(3)], "args": options}
    found = read_foreign(save(content, tmp_path / "car.pth", legacy))
    assert {name: t.tolist() for name, t in found.items()} == {
        "state.a.weight": [1, 1],
        "memory.0": [0, 0, 0],
    }


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert read_foreign(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]


@LEGACY
@pytest.mark.parametrize("read", READERS)
def test_row_23_code_in_a_pickle_is_named_and_not_run(read, legacy: bool, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = save({"conv1.weight": Trap()}, tmp_path / "trap.pth", legacy)
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert caught.value.code == "E_CKPT_FOREIGN"
    assert "mkdir" in str(caught.value) and "weights_only" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def refused(path: Path) -> set[str]:
    """The codes with which each reader refuses a file."""
    codes = set()
    for read in READERS:
        with pytest.raises(CheckpointError) as caught:
            read(path)
        codes.add(caught.value.code)
    return codes


def test_files_that_promise_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    wide = torch.zeros(1).expand(1000, 1000)  # a million numbers out of one
    paths = [save({"conv1.weight": wide}, tmp_path / "wide.pth")]
    whole = save({"conv1.weight": torch.zeros(200_000)}, tmp_path / "whole.pth")
    paths.append(tmp_path / "packed.pth")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(paths[1], "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    paths.append(tmp_path / "cut.pth")
    paths[2].write_bytes(whole.read_bytes()[:5000])
    paths.append(tmp_path / "text.pth")
    paths[3].write_text("no checkpoint")
    paths.append(save([1, "a"], tmp_path / "empty.pth"))
    for path in paths:
        assert refused(path) == {"E_CKPT_FORMAT"}, path
    assert refused(tmp_path / "none.pth") == {"E_CKPT_MISSING"}
    assert len(read_foreign(whole)) == 1


def test_a_large_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({"conv1.weight": torch.zeros(1000)}, tmp_path / "large.pth")
    monkeypatch.setattr(foreign, "FILE_LIMIT", 1000)
    monkeypatch.setattr(foreign.torch, "load", None)
    assert refused(path) == {"E_CKPT_FORMAT"}
