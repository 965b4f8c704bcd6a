import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from trunks import published_dinov2, published_lite0, published_resnet50

from featmesh.errors import BackendUnavailable, CheckpointError
from featmesh.files import read_tensors
from featmesh.model.backbones import BACKBONES
from featmesh.model.dinov2 import DinoV2
from featmesh.model.efficientnet import EfficientNetLite0, frozen_statistics
from featmesh.model.resnet import ResNet50
from featmesh.model.weights import (
    IMPORTERS,
    dinov2_from_onnx,
    lite0_from_package,
    resnet50_from_torchvision,
    trunk_weights,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trunk() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = DinoV2().state_dict()
    return {k: torch.randn(v.shape) for k, v in state.items()}


def exported(state: dict[str, Tensor]) -> SimpleNamespace:
    """Return the graph an export makes: matrices transposed and nameless, the position cut."""
    position = torch.full((384,), 0.5)
    weights = published_dinov2(state, position)
    whole = weights.pop("embeddings.position_embeddings")
    stored = {"onnx::Concat_1": whole[:, :1], "onnx::Reshape_2": whole[:, 1:]}
    nodes = []
    for name, value in weights.items():
        matrix = value.dim() == 2 and name.endswith(".weight")
        if not matrix:
            stored[f"backbone.{name}"] = value
            continue
        number = len(nodes)
        stored[f"onnx::MatMul_{number}"] = value.T.contiguous()
        bias = f"backbone.{name.removesuffix('weight')}bias"
        product = f"/product_{number}"
        nodes.append(SimpleNamespace(op_type="Relu", input=["x"], output=["y"]))
        nodes.append(
            SimpleNamespace(
                op_type="MatMul", input=["x", f"onnx::MatMul_{number}"], output=[product]
            )
        )
        nodes.append(SimpleNamespace(op_type="Add", input=[bias, product], output=["z"]))
    tensors = [SimpleNamespace(name=k, value=v.numpy()) for k, v in stored.items()]
    return SimpleNamespace(graph=SimpleNamespace(initializer=tensors, node=nodes))


@pytest.fixture
def fake_onnx(fake_module):
    """Return a function that makes ``onnx.load`` give an object, or raise it."""

    def put(content: object) -> None:
        def load(path: str) -> object:
            if isinstance(content, Exception):
                raise content
            return content

        helper = SimpleNamespace(to_array=lambda tensor: tensor.value)
        fake_module("onnx.numpy_helper", to_array=helper.to_array)
        fake_module("onnx", load=load, numpy_helper=helper)

    return put


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.onnx"
    path.write_bytes(b"weights")
    return path


def test_the_trunk_comes_out_of_an_export(trunk, fake_onnx, file: Path) -> None:
    fake_onnx(exported(trunk))
    found = dinov2_from_onnx(file)
    assert found.keys() == trunk.keys()
    for name, value in trunk.items():
        torch.testing.assert_close(found[name], value, msg=name)
    DinoV2().load_state_dict(found)


def test_an_export_of_something_else_is_refused(trunk, fake_onnx, file: Path) -> None:
    whole = exported(trunk)
    for cut in ("onnx::Reshape_2", "backbone.encoder.layer.3.norm1.bias"):
        fewer = [t for t in whole.graph.initializer if t.name != cut]
        fake_onnx(SimpleNamespace(graph=SimpleNamespace(initializer=fewer, node=whole.graph.node)))
        with pytest.raises(CheckpointError, match="expected the weights of the trunk") as caught:
            dinov2_from_onnx(file)
        assert caught.value.code == "E_CKPT_FORMAT"


def test_a_weight_of_another_size_is_named(trunk, fake_onnx, file: Path) -> None:
    whole = exported(trunk)
    for tensor in whole.graph.initializer:
        if tensor.name == "backbone.layernorm.bias":
            tensor.value = np.zeros(768, np.float32)
    fake_onnx(whole)
    with pytest.raises(CheckpointError, match=r"1 that do not fit, first norm\.bias"):
        dinov2_from_onnx(file)


def test_a_damaged_onnx_file_is_told(fake_onnx, file: Path) -> None:
    fake_onnx(Exception("Error parsing message"))
    with pytest.raises(CheckpointError, match="expected an ONNX file, got Error parsing") as caught:
        dinov2_from_onnx(file)
    assert caught.value.code == "E_CKPT_FORMAT"


def test_without_onnx_the_message_says_what_to_install(file: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendUnavailable, match="pip install onnx") as caught:
        dinov2_from_onnx(file)
    assert caught.value.code == "E_BACKEND"


def lite_file(path: Path, cut: str = "") -> dict[str, Tensor]:
    """Write a pickle as the package holds it; return the state that is to come out."""
    state = frozen_statistics(EfficientNetLite0().state_dict())
    public = published_lite0(state)
    public.pop(cut, None)
    torch.save(public, path)  # noqa: TID251  (what the package holds)
    return state


def test_lite0_comes_out_of_its_package(tmp_path: Path) -> None:
    expected = lite_file(tmp_path / "lite0.pth")
    found = lite0_from_package(tmp_path / "lite0.pth")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], v) for k, v in expected.items())


def test_a_package_with_a_weight_missing_is_refused(tmp_path: Path) -> None:
    lite_file(tmp_path / "lite0.pth", cut="_blocks.4._bn1.running_var")
    with pytest.raises(CheckpointError, match=r"first blocks\.4\.depthwise\.norm\.running_var"):
        lite0_from_package(tmp_path / "lite0.pth")


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return frozen_statistics(ResNet50().state_dict())


@pytest.mark.parametrize("kind", ["r50.pth", "nested.pth", "r50.safetensors"])
def test_resnet50_comes_out_of_a_state_in_torchvision_names(resnet, kind, tmp_path: Path) -> None:
    public = published_resnet50(resnet)
    if kind.endswith(".pth"):
        whole = {"state_dict": public, "epoch": 3} if kind == "nested.pth" else public
        torch.save(whole, tmp_path / kind)  # noqa: TID251  (what torchvision gives)
    else:
        save_file(public, tmp_path / kind)
    found = trunk_weights("resnet50", tmp_path / kind)
    assert found.keys() == resnet.keys()
    assert all(torch.equal(found[k], v) for k, v in resnet.items())


def test_a_trunk_in_our_names_is_taken_as_it_is(resnet, tmp_path: Path) -> None:
    save_file(resnet, tmp_path / "ours.safetensors")
    found = trunk_weights("resnet50", tmp_path / "ours.safetensors")
    assert found.keys() == resnet.keys()
    expected = lite_file(tmp_path / "lite0.pth")
    assert trunk_weights("efficientnet_lite0", tmp_path / "lite0.pth").keys() == expected.keys()


def test_a_resnet_of_another_depth_is_refused(resnet, tmp_path: Path) -> None:
    public = published_resnet50(resnet)
    public.pop("layer3.5.conv2.weight")
    save_file(public, tmp_path / "r.safetensors")
    with pytest.raises(CheckpointError, match=r"first blocks\.12\.spread\.conv\.weight") as caught:
        resnet50_from_torchvision(tmp_path / "r.safetensors")
    assert caught.value.code == "E_CKPT_FORMAT"
    torch.save([1, 2], tmp_path / "list.pth")  # noqa: TID251  (not a state)
    with pytest.raises(CheckpointError, match="expected tensors that the file holds, got 0"):
        resnet50_from_torchvision(tmp_path / "list.pth")


@pytest.mark.parametrize("read", IMPORTERS.values(), ids=IMPORTERS)
def test_a_file_that_is_not_there_is_told(read, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "none")
    assert caught.value.code == "E_CKPT_MISSING"


def test_every_named_trunk_has_an_importer() -> None:
    assert set(IMPORTERS) == set(BACKBONES) - {"hf"}


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_the_script_writes_a_trunk_that_fits(tmp_path: Path) -> None:
    expected = lite_file(tmp_path / "lite0.pth")
    command = [
        *(sys.executable, "benchmarks/import_trunk.py", "--backbone", "efficientnet_lite0"),
        *("--source", str(tmp_path / "lite0.pth"), "--out", str(tmp_path / "out.safetensors")),
    ]
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert "efficientnet_lite0, 3.0 M numbers" in done.stdout
    found = read_tensors(tmp_path / "out.safetensors")
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    command[command.index("--source") + 1] = str(tmp_path / "none.pth")
    done = run(command)
    assert done.returncode == 1 and "E_CKPT_MISSING" in done.stderr
