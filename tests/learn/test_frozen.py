"""Claims about training on a frozen trunk: each crop goes through it once, and no more is lost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_views
from torch import nn
from torch.nn import functional

from featmesh.draws import generator
from featmesh.errors import DatasetError, InputError
from featmesh.learn import frozen
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import draw_crops, load_data
from featmesh.learn.frozen import frozen_draw
from featmesh.learn.trainer import TrainState, features_of, run
from featmesh.model.backbones import Backbone
from featmesh.model.config import ModelConfig

MODEL = ModelConfig(channels=16, crop_height=64, crop_width=96)


class Trunk(nn.Module):
    """Two levels; counts how often it is asked."""

    multiple = 8

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 24, 5, 4, 2)
        self.second = nn.Conv2d(24, 32, 3, 2, 1)
        self.asked = 0

    def forward(self, x):
        self.asked += len(x)
        x = functional.silu(self.first(x))
        return [x, functional.silu(self.second(x))]


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(24, 16, 1), nn.Conv2d(32, 16, 1)

    def forward(self, maps):
        found = functional.avg_pool2d(self.fine(maps[0]), 2) + self.coarse(maps[1])
        return functional.normalize(found, dim=1, eps=1e-6)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    car_views(folder, 12)
    return TrainConfig(
        views=(str(folder / "views.json"),),
        out=str(folder / "run"),
        epochs=12,
        samples_per_epoch=64,
        batch=4,
        crops=64,
        lr_head=2e-2,
        lr_trunk=0.0,
        anchors_per_view=64,
        clutter_queue=64,
        near=0.15,
        model=MODEL,
    )


@pytest.fixture(scope="module")
def data(config):
    return load_data(config, car_mesh())


def network(config):
    torch.manual_seed(0)
    return Backbone(Trunk(), Head(), config.model)


@pytest.fixture(scope="module")
def draw(config, data):
    return frozen_draw(config, data, network(config))


def test_a_batch_reads_as_its_pixels_would(config, data, draw):
    state = TrainState(config, car_mesh(), network(config))
    batch = draw(data, config, 0)
    order = generator(config.seed, "frozen order", 0).permutation(64)[: config.batch]
    drawn = [generator(config.seed, "train", 0, k) for k in range(64)]
    crops = draw_crops(data, config, drawn)
    pixels = torch.from_numpy(np.stack([crops[k].pixels for k in order])).permute(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            features_of(state, batch), state.backbone(pixels.float()), atol=5e-3, rtol=0
        )
    for k, points in zip(order, batch.points, strict=True):
        seen = torch.from_numpy(crops[k].anchors[crops[k].visible])
        pixels = (points + 1) * torch.tensor([48.0, 32.0])
        assert torch.cdist(pixels, seen).amin(1).max() < 0.1


def test_each_pass_sees_each_crop_once_in_an_order_of_its_own(config, data, draw):
    steps = len(draw.own) // config.batch

    def seen(turn):
        batches = [draw(data, config, turn * steps + s) for s in range(steps)]
        return torch.cat([b.maps[0] for b in batches]).float().sum((1, 2, 3))

    first, second = seen(0), seen(1)
    own = draw.own.maps[0].float().sum((1, 2, 3))
    assert first.sort().values.equal(own.sort().values)
    assert second.sort().values.equal(own.sort().values)
    assert not first.equal(second)


def test_the_trunk_is_asked_once_a_crop_and_never_for_what_is_there(config, data, draw):
    backbone = network(config)
    path = next((frozen.Path(config.out) / frozen.FOLDER).iterdir())
    before = path.read_bytes()
    again = frozen_draw(config, data, backbone)
    assert backbone.trunk.asked == 0
    path.unlink()
    frozen_draw(config, data, backbone)
    assert backbone.trunk.asked == 64
    assert path.read_bytes() == before
    assert again.own.maps[1].equal(draw.own.maps[1])


def test_it_learns_from_frozen_crops(config, data, draw):
    state, told = TrainState(config, car_mesh(), network(config)), []
    trunk = state.backbone.trunk.first.weight.clone()
    assert run(state, data, told.append, lambda *_: None, draw=draw)
    assert state.backbone.trunk.asked == 0
    first, last = told[:16], told[-16:]
    assert np.mean([t.accuracy for t in last]) > 1.3 * np.mean([t.accuracy for t in first])
    assert state.backbone.trunk.first.weight.equal(trunk)


def test_other_categories_are_background(config, data, draw):
    folder = str(frozen.Path(config.out) / frozen.FOLDER)
    config = replace(config, others=(folder,), others_share=0.5)
    batch = frozen_draw(config, data, network(config))(data, config, 3)
    assert len(batch.maps[0]) == 4 and len(batch.points) == 2
    assert batch.background[2:].all() and not batch.background[:2].all()
    state, told = TrainState(replace(config, epochs=1), car_mesh(), network(config)), []
    assert run(
        state, data, told.append, lambda *_: None, draw=frozen_draw(config, data, state.backbone)
    )
    assert np.isfinite([t.loss for t in told]).all()


def test_a_folder_without_crops_and_a_trunk_in_training_are_refused(config, data, tmp_path):
    with pytest.raises(DatasetError, match=r"E_DATA.*part-NNN"):
        frozen_draw(replace(config, others=(str(tmp_path),)), data, network(config))
    with pytest.raises(InputError, match=r"E_CONFIG.*lr_trunk"):
        frozen_draw(replace(config, lr_trunk=1e-3), data, network(config))
