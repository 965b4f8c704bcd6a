import json
from pathlib import Path

import pytest
import torch
from fixtures import shaped_model

from featmesh.apps.info import describe_model, info_text
from featmesh.errors import CheckpointError
from featmesh.model.checkpoint import save_model
from featmesh.model.shape_folder import ShapeSpace


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "car"
    save_model(
        folder,
        "car",
        {"stride": 8},
        {"w": torch.ones(4, 4)},
        "trunk",
        {"texture": torch.ones(5, 3)},
        {"threshold": 0.25, "metrics": {"acc_30": 0.9}},
    )
    return folder


def test_the_facts_of_a_model(model: Path) -> None:
    facts = describe_model(model)
    assert (facts["name"], facts["category"], facts["config"]) == ("car", "car", {"stride": 8})
    assert facts["tensors"] == {"trunk trunk": 16, "texture": 15}
    assert facts["stated"] == {"threshold": 0.25, "metrics": {"acc_30": 0.9}}
    names = [file["name"] for file in facts["files"]]
    assert names[:3] == ["model.json", "model.safetensors", "CARD.md"]
    assert names[3].startswith("trunk-")
    for file in facts["files"]:
        assert file["bytes"] > 0 and len(file["sha256"]) == 64
    json.dumps(facts, allow_nan=False)


def test_the_page_shows_hash_card_sizes_and_what_was_measured(model: Path) -> None:
    facts = describe_model(model)
    text = info_text(facts)
    for shown in (facts["hash"], "# car", "31 in 2 parts", "acc_30", "model.safetensors"):
        assert shown in text


def test_the_shape_space_is_told(model: Path) -> None:
    assert describe_model(model)["shape_space"] is None
    assert "shape   the mean shape only" in info_text(describe_model(model))
    tensors = {"deformation.directions": torch.ones(4, 7, 3)}
    config = {"deformation": {"kind": "pca", "latents": 4}}
    save_model(model, "car", config, {"w": torch.ones(4, 4)}, "trunk", tensors)
    facts = describe_model(model)
    assert facts["shape_space"] == {"kind": "pca", "latents": 4, "numbers": 84}
    assert "shape   pca, 4 latents" in info_text(facts)


def test_a_changed_file_is_refused(model: Path) -> None:
    with open(model / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(CheckpointError, match="E_CKPT_HASH"):
        describe_model(model)


def test_a_shape_space_without_a_network_is_told(tmp_path: Path) -> None:
    model, folder = shaped_model(), tmp_path / "cars"
    space = ShapeSpace("car", model.template, model.deformation, {"shape": {"unit": 4.5}})
    space.save(folder)
    facts = describe_model(folder)
    assert facts == describe_model(folder / "shape.json")
    assert (facts["name"], facts["category"], facts["hash"]) == ("cars", "car", None)
    learnt = sum(t.numel() for t in model.deformation.state_dict().values())
    kind = model.deformation.config.kind
    assert facts["shape_space"] == {"kind": kind, "latents": 3, "numbers": learnt}
    assert facts["tensors"]["template.vertices"] == model.template.vertices.numel()
    assert [file["name"] for file in facts["files"]] == ["shape.json", "shape.safetensors"]
    assert facts["stated"] == {"shape": {"unit": 4.5}}
    json.dumps(facts, allow_nan=False)
    text = info_text(facts)
    for shown in ("# cars", "a shape space without a network", f"shape   {kind}, 3 latents"):
        assert shown in text


def test_a_changed_shape_space_is_refused(tmp_path: Path) -> None:
    model = shaped_model()
    ShapeSpace("car", model.template, model.deformation).save(tmp_path)
    with open(tmp_path / "shape.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(CheckpointError, match="E_CKPT_HASH"):
        describe_model(tmp_path)
