"""Claims about NeMo's training by name: its published numbers, its template, its trunk."""

from dataclasses import replace

import pytest
import torch
from fixtures import car_mesh, car_views, write_obj
from model.trunks import published_resnet50
from safetensors.torch import save_file

from featmesh.errors import DatasetError
from featmesh.evaluate.protocols import NEMO_SIZES, ONE_SIZE
from featmesh.files import read_tensors
from featmesh.geometry.cuboid_template import cuboid_template
from featmesh.geometry.mesh import read_mesh
from featmesh.learn import session
from featmesh.learn.config import TrainConfig
from featmesh.learn.presets import PRESETS, prepared
from featmesh.model.efficientnet import frozen_statistics
from featmesh.model.resnet import ResNet50


@pytest.fixture(scope="module")
def stuff(tmp_path_factory):
    """Views, two CADs, a ResNet-50 in torchvision's names."""
    folder = tmp_path_factory.mktemp("stuff")
    car_views(folder, 5)
    (folder / "cad").mkdir()
    mesh = car_mesh()
    write_obj(folder / "cad" / "01.obj", mesh)
    write_obj(folder / "cad" / "02.obj", mesh.with_vertices(mesh.vertices * 1.1))
    torch.manual_seed(0)
    state = frozen_statistics(ResNet50().state_dict())
    save_file(published_resnet50(state), folder / "r50.safetensors")
    return folder


def config_of(stuff, out, **changes) -> TrainConfig:
    config = replace(
        PRESETS["nemo"],
        views=(str(stuff / "views.json"),),
        out=str(out),
        cad=str(stuff / "cad"),
        trunk=str(stuff / "r50.safetensors"),
    )
    return replace(config, **changes)


def test_the_numbers_are_the_published_ones() -> None:
    c = PRESETS["nemo"]
    assert (c.epochs, c.batch, c.lr_head, c.lr_trunk, c.weight_decay) == (800, 48, 1e-4, 1e-4, 1e-4)
    assert (c.momentum, c.temperature, c.clutter_weight, c.near) == (0.96, 0.07, 0.005, 0.1)
    assert (c.clutter_queue, c.model.clutter_centres) == (5 * 512, 1)
    assert (c.model.backbone, c.model.channels, c.model.stride) == ("resnet50", 128, 8)
    assert (c.model.texture, c.template, c.freeze_blocks) == ("vertex", "cuboid", 0)


@pytest.mark.parametrize(("category", "size"), [*NEMO_SIZES.items(), ("bed", ONE_SIZE)])
def test_the_crop_is_the_benchmarks(category: str, size) -> None:
    config = replace(PRESETS["nemo"], category=category, start="models/x", samples_per_epoch=9)
    model = prepared(config).model
    assert (model.crop_height, model.crop_width) == size


def test_our_own_configuration_stays_as_it_is() -> None:
    config = TrainConfig(views=("a.json",), out="run", trunk="t.safetensors", cad="cads")
    assert prepared(config) == config
    assert PRESETS["featmesh"] == TrainConfig(views=(), out="")


def test_the_template_is_the_cuboid_of_the_cads_bit_for_bit(stuff, tmp_path) -> None:
    config = prepared(config_of(stuff, tmp_path, trunk=""))
    expected = cuboid_template([read_mesh(f) for f in sorted((stuff / "cad").iterdir())])
    found = session._template(config)
    assert torch.equal(found.vertices, expected.vertices)
    assert torch.equal(found.faces, expected.faces)
    assert config.samples_per_epoch == 5  # a pass is every record once, on the average
    assert prepared(config) == config  # a run that goes on


def test_the_run_begins_with_the_trunk_that_was_given(stuff, tmp_path) -> None:
    config = prepared(config_of(stuff, tmp_path, model=replace(PRESETS["nemo"].model, channels=8)))
    given = read_tensors(stuff / "r50.safetensors")
    state = session.begin(config)
    found = state.backbone.trunk.state_dict()
    assert torch.equal(found["stem.conv.weight"], given["conv1.weight"])
    assert torch.equal(found["blocks.15.widen.norm.bias"], given["layer4.2.bn3.bias"])
    assert all(p.requires_grad for p in state.backbone.parameters())
    weights = sum(len(group["params"]) for group in state.optimiser.param_groups)
    assert weights == len(list(state.backbone.parameters()))


def test_a_cuboid_needs_cads(stuff, tmp_path) -> None:
    for cad in ("", str(tmp_path)):
        with pytest.raises(DatasetError, match="CADs of the category") as caught:
            prepared(config_of(stuff, tmp_path / "run", cad=cad))
        assert caught.value.code == "E_DATA"
