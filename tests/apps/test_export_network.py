"""A network written for other programs says the same as the model's, without featmesh."""

import builtins
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixtures import car_model
from torch import Tensor, nn

from featmesh.apps.export_network import FACTS, write_network
from featmesh.errors import BackendUnavailable, InputError
from featmesh.model.backbones import Backbone, PyramidHead
from featmesh.model.category import CategoryModel
from featmesh.model.config import ModelConfig

NETWORK = ModelConfig(backbone="hf", crop_height=64, crop_width=96, width=16)


class Trunk(nn.Module):
    """Pixels -> maps of strides 4, 8 and 16."""

    multiple = 16
    channels = (8, 12, 16)

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            [nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 12, 2, 2), nn.Conv2d(12, 16, 2, 2)]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for step in self.steps:
            x = step(x).relu()
            maps.append(x)
        return maps


@pytest.fixture(scope="module")
def model() -> CategoryModel:
    """A model whose trunk is three convolutions; the head is the real one."""
    torch.manual_seed(0)
    backbone = Backbone(Trunk(), PyramidHead(Trunk.channels, NETWORK), NETWORK)
    return replace(car_model(), config=NETWORK, backbone=backbone.eval())


def test_torch_export_comes_back_equal_for_any_number_of_pictures(model, tmp_path: Path) -> None:
    told = write_network(tmp_path / "n.pt2", model, "torch")
    held = {FACTS: ""}
    program = torch.export.load(tmp_path / "n.pt2", extra_files=held).module()
    pixels = 255 * torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    for some in (pixels, pixels[:1]):
        with torch.no_grad():
            found, expected = program(some), model.backbone(some)
        assert found.shape == (len(some), 64, 8, 12)
        assert float((found - expected).abs().max()) <= 1e-5
    assert told["difference"] <= 1e-5 and told["bytes"] == (tmp_path / "n.pt2").stat().st_size
    assert json.loads(held[FACTS])["input"] == "pixels: float32 [batch, 3, 64, 96], RGB, 0..255"


def test_another_size_of_pictures(model, tmp_path: Path) -> None:
    told = write_network(tmp_path / "n.pt2", model, "torch", (40, 48))
    found = torch.export.load(tmp_path / "n.pt2").module()(torch.zeros(1, 3, 40, 48))
    assert found.shape == (1, 64, 5, 6) and "[batch, 64, 5, 6]" in told["output"]


@pytest.mark.parametrize("size", [(60, 96), (64, 0)])
def test_sides_that_are_no_multiples_of_the_stride_are_refused(model, size, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_SHAPE"):
        write_network(tmp_path / "n.pt2", model, "torch", size)


def test_onnx_names_the_packages_that_are_missing(model, tmp_path: Path, monkeypatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in ("onnx", "onnxscript"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(BackendUnavailable) as caught:
        write_network(tmp_path / "n.onnx", model, "onnx")
    assert caught.value.code == "E_BACKEND"
    assert "try: pip install onnx onnxscript" in str(caught.value)
    assert not (tmp_path / "n.onnx").exists()


def test_onnx_is_written_with_the_facts(model, tmp_path: Path, monkeypatch, fake_module) -> None:
    asked: dict[str, Any] = {}
    entries: list[SimpleNamespace] = []

    def add() -> SimpleNamespace:
        entries.append(SimpleNamespace(key="", value=""))
        return entries[-1]

    proto = SimpleNamespace(
        metadata_props=SimpleNamespace(add=add), SerializeToString=lambda: b"ONNX"
    )

    def export(network: Any, inputs: Any, **options: Any) -> SimpleNamespace:
        asked.update(options, features=network(*inputs))
        return SimpleNamespace(model_proto=proto)

    fake_module("onnx")
    fake_module("onnxscript")
    monkeypatch.setattr(torch.onnx, "export", export)
    told = write_network(tmp_path / "n.onnx", model, "onnx")
    assert (tmp_path / "n.onnx").read_bytes() == b"ONNX" and told["difference"] is None
    assert asked["input_names"] == ["pixels"] and asked["features"].shape == (2, 64, 8, 12)
    assert {entry.key for entry in entries} >= {"category", "input", "output"}
