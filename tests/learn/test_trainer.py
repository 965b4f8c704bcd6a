"""Claims about the training loop: it learns, repeats, and goes on bit for bit where it was."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from fixtures import car_mesh, car_views
from torch import nn
from torch.nn import functional

from featmesh.errors import FeatmeshError
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import draw_batch, load_data
from featmesh.learn.trainer import (
    TrainState,
    anchor_accuracy,
    freeze,
    learning_rate,
    read_at,
    run,
    torch_generator,
    train_step,
    validate,
)
from featmesh.model.backbones import Backbone
from featmesh.model.config import ModelConfig

MODEL = ModelConfig(channels=16, crop_height=64, crop_width=96)


class TinyTrunk(nn.Module):
    """Three convolutions of stride 2, called blocks as those of a real trunk."""

    multiple = 8

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.blocks = nn.ModuleList([nn.Conv2d(16, 24, 3, 2, 1), nn.Conv2d(24, 32, 3, 2, 1)])

    def forward(self, x):
        x = functional.silu(self.stem(x))
        for block in self.blocks:
            x = functional.silu(block(x))
        return [x]


class TinyHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Conv2d(32, 16, 1)

    def forward(self, maps):
        return functional.normalize(self.out(maps[0]), dim=1, eps=1e-6)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    car_views(folder, 24)
    return TrainConfig(
        views=(str(folder / "views.json"),),
        out=str(folder / "run"),
        epochs=2,
        samples_per_epoch=80,
        batch=4,
        lr_head=1e-2,
        lr_trunk=5e-3,
        freeze_blocks=0,
        anchors_per_view=64,
        clutter_queue=64,
        near=0.15,
        validation_models=2,
        model=MODEL,
    )


@pytest.fixture(scope="module")
def data(config):
    return load_data(config, car_mesh())


def begin(config):
    torch.manual_seed(0)
    return TrainState(config, car_mesh(), Backbone(TinyTrunk(), TinyHead(), config.model))


def train(state, data, **options):
    reports, epochs = [], []
    done = run(state, data, reports.append, lambda *row: epochs.append(row), **options)
    return done, reports, epochs


def assert_same(one, two):
    one, two = one.tensors(), two.tensors()
    assert one.keys() == two.keys()
    assert not [k for k in one if not torch.equal(one[k], two[k])]


def test_it_learns(config, data):
    state = begin(config)
    done, reports, epochs = train(state, data)
    losses, right = [r.loss for r in reports], [r.accuracy for r in reports]
    assert done and state.step == state.steps == len(reports) == 40
    assert sum(losses[-5:]) / 5 < 0.8 * sum(losses[:5]) / 5
    assert sum(right[-10:]) / 10 > 1.2 * sum(right[:5]) / 5
    assert [r.step for r in reports] == list(range(1, 41))
    assert [e for e, _ in epochs] == [1, 2]
    assert 0.05 < epochs[-1][1] <= 1
    assert epochs[-1][1] == validate(state, data)
    unit = torch.ones(len(state.texture))
    torch.testing.assert_close(state.texture.norm(dim=1), unit)


def test_the_same_run_twice_is_the_same(config, data):
    short = replace(config, samples_per_epoch=12)
    one, two = begin(short), begin(short)
    train(one, data)
    train(two, data)
    assert_same(one, two)


def test_a_state_taken_up_goes_on_bit_for_bit(config, data):
    short = replace(config, samples_per_epoch=16)
    whole = begin(short)
    train(whole, data)
    first = begin(short)
    done, reports, _ = train(first, data, stop=lambda: first.step == 3)
    assert not done and len(reports) == 3
    kept = {k: v.clone() for k, v in first.tensors().items()}
    second = begin(short)
    with torch.no_grad():
        for p in second.backbone.parameters():
            p.add_(1.0)  # whatever was there before
    second.restore(first.step, kept)
    assert_same(second, first)
    done, _, epochs = train(second, data)
    assert done and [e for e, _ in epochs] == [1, 2]
    assert_same(second, whole)


def test_a_loss_that_is_not_finite_stops_before_anything_changes(config, data):
    state = begin(config)
    train_step(state, data, draw_batch(data, config, 0))
    before = {k: v.clone() for k, v in state.tensors().items()}
    state.backbone.head.forward = lambda maps: torch.full((len(maps[0]), 16, 8, 12), math.nan)
    with pytest.raises(FeatmeshError, match=r"finite loss, got nan at step 1; try: a lower") as got:
        train_step(state, data, draw_batch(data, config, 1))
    assert got.value.code == "E_NONFINITE"
    assert state.step == 1
    after = state.tensors()
    assert not [k for k in before if not torch.equal(before[k], after[k])]


def test_the_learning_rate_warms_up_and_fades():
    rates = [learning_rate(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert rates[105] == pytest.approx((1 + 0.01) / 2)
    assert all(0 < learning_rate(step, 3) <= 1 for step in range(3))


def test_freezing(config):
    trunk = TinyTrunk()
    freeze(trunk, 1)
    free = {name for name, p in trunk.named_parameters() if p.requires_grad}
    assert free == {"blocks.1.weight", "blocks.1.bias"}
    freeze(trunk, None)
    assert not any(p.requires_grad for p in trunk.parameters())
    whole = TinyTrunk()
    freeze(whole, 0)
    assert all(p.requires_grad for p in whole.parameters())
    frozen = begin(replace(config, lr_trunk=0.0))
    assert not any(p.requires_grad for p in frozen.backbone.trunk.parameters())
    assert all(p.requires_grad for p in frozen.backbone.head.parameters())


def test_frozen_parts_stay_as_they_are(config, data):
    state = begin(replace(config, lr_trunk=0.0))
    before = {k: v.clone() for k, v in state.tensors().items()}
    for step in range(2):
        train_step(state, data, draw_batch(data, config, step))
    after = state.tensors()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert not {k for k in moved if k.startswith("net.trunk")}
    assert {"net.head.out.weight", "texture", "queue"} <= moved


def test_biases_do_not_decay(config):
    groups = begin(config).optimiser.param_groups
    decays = {p.dim() > 1: g["weight_decay"] for g in groups for p in g["params"]}
    assert decays == {True: config.weight_decay, False: 0.0}
    assert {g["peak"] for g in groups} == {config.lr_head, config.lr_trunk}


def test_features_are_read_where_the_anchors_lie(config, data):
    """A map whose cells hold their own coordinates gives the points back."""
    batch = draw_batch(data, config, 0)
    y, x = torch.meshgrid(
        (torch.arange(8) + 0.5) / 4 - 1, (torch.arange(12) + 0.5) / 6 - 1, indexing="ij"
    )
    cells = torch.stack([x, y, torch.ones_like(x)])[None].repeat(4, 1, 1, 1)
    found, anchor = read_at(cells, batch)
    points = torch.cat(list(batch.points))
    inside = (points[:, 0].abs() < 11 / 12) & (points[:, 1].abs() < 7 / 8)
    torch.testing.assert_close((found[:, :2] / found[:, 2:])[inside], points[inside])
    assert torch.equal(anchor, torch.cat(list(batch.anchor)))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))


def test_accuracy_counts_the_right_anchor_and_its_neighbours(config):
    state = begin(config)
    near = int(state.near[5].nonzero()[0])
    far = int((~state.near[5]).nonzero()[-1])
    shown = state.texture[[5, near, far]]
    assert anchor_accuracy(shown, torch.tensor([5, 5, 5]), state) == pytest.approx(2 / 3)
    assert anchor_accuracy(shown[:0], torch.zeros(0, dtype=torch.long), state) == 0


def test_without_held_out_views_there_is_no_validation(config, data):
    assert math.isnan(validate(begin(config), replace(data, held_out=())))


def test_generators_are_keyed():
    def drawn(*key):
        return torch.rand(3, generator=torch_generator(*key))

    assert torch.equal(drawn(0, "a"), drawn(0, "a"))
    assert not torch.equal(drawn(0, "a"), drawn(0, "b"))
    assert not torch.equal(drawn(0, "a", 1), drawn(0, "a", 2))
