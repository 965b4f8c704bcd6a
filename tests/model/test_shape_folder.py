"""Claims about shape spaces on disk: what was written is read, what was damaged is refused."""

import json

import pytest
import torch
from fixtures import car_mesh

from featmesh.errors import CheckpointError
from featmesh.model.checkpoint import load
from featmesh.model.config import DeformationConfig
from featmesh.model.deformation import build_deformation
from featmesh.model.shape_folder import ShapeSpace, find_shape_space


@pytest.fixture
def space():
    torch.manual_seed(0)
    config = DeformationConfig(kind="field", latents=3, width=8, layers=2)
    deformation = build_deformation(config, car_mesh())
    torch.nn.init.normal_(deformation.last, std=0.1)
    return ShapeSpace("car", car_mesh(), deformation, {"shape": {"unit": 4.5}})


def test_what_was_written_is_read(space, tmp_path):
    space.save(tmp_path)
    found = ShapeSpace.read(tmp_path)
    assert (found.category, found.extra) == ("car", {"shape": {"unit": 4.5}})
    code = torch.randn(2, 3)
    assert torch.equal(found.deformation(code), space.deformation(code))
    assert torch.equal(found.template.faces, space.template.faces)
    torch.testing.assert_close(found.template.vertices, space.template.vertices)
    assert not any(p.requires_grad for p in found.deformation.parameters())


def test_damage_is_refused(space, tmp_path):
    space.save(tmp_path)
    file = tmp_path / "shape.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError) as raised:
        ShapeSpace.read(tmp_path)
    assert raised.value.code == "E_CKPT_HASH"
    with pytest.raises(CheckpointError) as raised:
        ShapeSpace.read(tmp_path / "elsewhere")
    assert raised.value.code == "E_CKPT_MISSING"


def test_sizes_that_do_not_fit_are_refused(space, tmp_path):
    space.save(tmp_path)
    manifest = json.loads((tmp_path / "shape.json").read_text())
    manifest["config"]["width"] = 16
    (tmp_path / "shape.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="fit the configuration") as raised:
        ShapeSpace.read(tmp_path)
    assert raised.value.code == "E_CKPT_CONFIG"


def test_the_folder_is_found_from_its_file_too(space, tmp_path):
    space.save(tmp_path)
    assert find_shape_space(tmp_path) == find_shape_space(str(tmp_path / "shape.json")) == tmp_path
    assert find_shape_space(tmp_path / "elsewhere") is None
    assert find_shape_space("x" * 400) is None


@pytest.mark.parametrize("name", ["", "shape.json"])
def test_it_is_no_category_model(space, tmp_path, name):
    space.save(tmp_path)
    said = "expected a category model, got a shape space.*try: featmesh shape-space"
    with pytest.raises(CheckpointError, match=said) as raised:
        load(tmp_path / name)
    assert raised.value.code == "E_CKPT_NAME"
