"""Training with a texture map or a graph-painted texture, from first step to model folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures import car_mesh, car_views
from safetensors.torch import save_file

from featmesh.errors import CheckpointError, InputError
from featmesh.geometry.mesh import Mesh
from featmesh.learn import session
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import draw_batch, load_data, validation_batch
from featmesh.learn.trainer import TrainState, surface_of, train_step, validate
from featmesh.model.backbones import Backbone, build_backbone
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import load, read_model
from featmesh.model.config import ModelConfig
from featmesh.model.efficientnet import EfficientNetLite0

MODEL = ModelConfig(
    channels=16,
    width=16,
    crop_height=64,
    crop_width=96,
    clutter_centres=4,
    texture="uv",
    texture_height=64,
    texture_width=96,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    car_views(folder, 12)
    torch.manual_seed(0)
    save_file(EfficientNetLite0().state_dict(), str(folder / "trunk.safetensors"))
    return TrainConfig(
        views=(str(folder / "views.json"),),
        out=str(folder / "run"),
        trunk=str(folder / "trunk.safetensors"),
        epochs=1,
        samples_per_epoch=12,
        batch=3,
        lr_trunk=0.0,
        anchors_per_view=64,
        clutter_queue=64,
        near=0.15,
        save_every=2,
        validation_models=2,
        threads=1,
        model=MODEL,
    )


@pytest.fixture(scope="module")
def data(config):
    return load_data(config, car_mesh())


def begin(config) -> TrainState:
    torch.manual_seed(0)
    backbone: Backbone = build_backbone(config.model)
    return TrainState(config, car_mesh(), backbone)


def test_a_batch_for_a_map_shows_points_between_the_anchors(config, data):
    batch = draw_batch(data, config, 0)
    face, bary = surface_of(batch)
    anchor = torch.cat(list(batch.anchor))
    assert len(face) == len(anchor) == sum(len(p) for p in batch.points) == 3 * 64
    assert bary.amax(1).median() < 0.9
    nearest = car_mesh().faces[face].gather(1, bary.argmax(1, keepdim=True))[:, 0]
    assert torch.equal(nearest, anchor)
    assert validation_batch(data, config, 0).surface is None  # measured at the anchors
    plain = replace(config, model=replace(MODEL, texture="vertex"))
    assert draw_batch(data, plain, 0).surface is None


def test_a_map_learns_where_points_are_seen(config, data):
    state = begin(config)
    before = state.map
    assert state.texture.shape == (len(car_mesh().vertices), 16)
    for step in range(3):
        batch = draw_batch(data, config, step)
        loss, _ = train_step(state, data, batch)
        assert loss > 0
    assert 0.2 < state.map.coverage().vertices < 1
    assert torch.equal(state.texture, state.map.at_vertices())
    assert not before.weight.any()
    assert 0 <= validate(state, data) <= 1


def test_a_state_with_a_map_goes_on_bit_for_bit(config, data):
    whole, first, second = begin(config), begin(config), begin(config)
    for step in range(3):
        train_step(whole, data, draw_batch(data, config, step))
    train_step(first, data, draw_batch(data, config, 0))
    second.restore(first.step, {k: v.clone() for k, v in first.tensors().items()})
    for step in (1, 2):
        train_step(second, data, draw_batch(data, config, step))
    one, two = whole.tensors(), second.tensors()
    assert one.keys() == two.keys() and "map.texels" in one
    assert not [k for k in one if not torch.equal(one[k], two[k])]


def test_a_run_leaves_a_model_with_its_map(config, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_template", lambda _config: car_mesh())
    run = replace(config, out=str(tmp_path / "run"))
    assert session.train(run) == 0
    folder = tmp_path / "run" / "models" / "car"
    model = load(folder)
    assert model.config == MODEL and model.texture_map is not None
    assert 0 < model.extra["training"]["surface_seen"] < 1
    # texels are kept in half precision
    assert (model.texture_map.at_vertices() * model.texture).sum(1).min() > 0.999
    model.save(str(tmp_path / "again" / "car"))
    assert load(tmp_path / "again" / "car").hash == model.hash
    files = read_model(folder)
    for name in ("texture_map.texels", "texture_map.weight"):
        short = {k: v for k, v in files.tensors.items() if k != name}
        with pytest.raises(CheckpointError, match="got no UV map; try"):
            CategoryModel.from_files(replace(files, tensors=short))
    cut = {**files.tensors, "texture_map.texels": files.tensors["texture_map.texels"][:9]}
    with pytest.raises(CheckpointError, match="a UV map of"):
        CategoryModel.from_files(replace(files, tensors=cut))


def test_a_graph_network_paints_the_texture_of_its_run(config, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_template", lambda _config: car_mesh())
    seen = {}

    def fit(graph, texture):
        seen["texture"] = texture
        return 0.0

    monkeypatch.setattr(session, "fit_graph_texture", fit)
    run = replace(config, out=str(tmp_path / "run"), model=replace(MODEL, texture="gcn"))
    assert session.train(run) == 0
    model = load(Path(run.out) / "models" / "car")
    assert model.texture_map is None and model.texture.shape == seen["texture"].shape
    assert not torch.equal(model.texture, seen["texture"])


def test_a_template_without_charts_has_no_map(config):
    mesh = car_mesh()
    with pytest.raises(InputError, match="texture coordinates, got one without") as got:
        TrainState(config, Mesh(mesh.vertices, mesh.faces), build_backbone(MODEL))
    assert got.value.code == "E_MESH_UV"
