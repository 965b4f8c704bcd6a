"""Claims about several categories that learn one trunk: all have their turn, and it resumes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_views
from test_trainer import MODEL, TinyHead, TinyTrunk

from featmesh.errors import FeatmeshError
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import load_data
from featmesh.learn.joint import JointConfig, JointState, draw_together, joint_step, run_together
from featmesh.learn.trainer import TrainState
from featmesh.model.backbones import Backbone

NAMES = ("car", "bus", "van")
JOINT = JointConfig(steps=60, together=2, crops=2, lr_trunk=5e-3, freeze_blocks=1)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    out = []
    for name in NAMES:
        folder = tmp_path_factory.mktemp(name)
        car_views(folder, 8)
        path = folder / "views.json"
        path.write_text(path.read_text().replace('"car"', f'"{name}"'))
        config = TrainConfig(
            views=(str(path),),
            out=str(folder / "run"),
            category=name,
            lr_head=1e-2,
            anchors_per_view=48,
            clutter_queue=64,
            near=0.15,
            model=MODEL,
        )
        out.append(config)
    return out


@pytest.fixture(scope="module")
def data(configs):
    return [load_data(config, car_mesh()) for config in configs]


def begin(configs, **changes):
    torch.manual_seed(0)
    states = [
        TrainState(c, car_mesh(), Backbone(TinyTrunk(), TinyHead(), c.model)) for c in configs
    ]
    return JointState(replace(JOINT, **changes), states)


def test_all_categories_have_their_turn_before_one_has_another(configs):
    state = begin(configs)
    seen = [state.chosen(step) for step in range(30)]
    assert all(1 <= len(chosen) <= 2 for chosen in seen)
    count = Counter(number for chosen in seen for number in chosen)
    assert max(count.values()) - min(count.values()) <= 4  # a step has no category twice
    assert len({tuple(chosen) for chosen in seen}) > 3


def test_there_is_one_trunk_and_it_learns_with_every_head(configs, data):
    state, told = begin(configs), []
    assert all(one.backbone.trunk is state.trunk for one in state.states)
    before = {k: v.clone() for k, v in state.tensors().items()}
    assert run_together(state, data, told.append)
    after = state.tensors()
    assert not after["trunk.blocks.1.weight"].equal(before["trunk.blocks.1.weight"])
    for still in ("trunk.stem.weight", "trunk.blocks.0.weight"):
        assert after[still].equal(before[still])
    for number in range(3):
        name = f"{number}.net.head.out.weight"
        assert not after[name].equal(before[name])
    first, last = told[:15], told[-15:]
    assert np.mean([t.loss for t in last]) < np.mean([t.loss for t in first]) - 0.3


def test_it_goes_on_bit_for_bit(configs, data):
    whole = begin(configs)
    assert run_together(whole, data, lambda _: None)
    first = begin(configs)
    assert not run_together(first, data, lambda _: None, lambda: first.step == 25)
    second = begin(configs)
    second.restore(25, {k: v.clone() for k, v in first.tensors().items()})
    assert run_together(second, data, lambda _: None)
    found, wanted = second.tensors(), whole.tensors()
    assert found.keys() == wanted.keys()
    assert not [k for k in wanted if not found[k].equal(wanted[k])]


def test_another_run_begins_with_what_was_learnt(configs, data):
    """On crops of another size, from its own first step, without the optimisers' memory."""
    first = begin(configs, steps=4)
    assert run_together(first, data, lambda _: None)
    small = [replace(c, model=replace(MODEL, crop_height=32, crop_width=48)) for c in configs]
    second = begin(small, steps=4)
    second.take_over(first.tensors())
    assert second.step == 0
    assert not second.optimiser.state[next(iter(second.trunk.parameters()))]
    learnt = {k: v for k, v in first.tensors().items() if "opt" not in k}
    assert all(v.equal(second.tensors()[k]) for k, v in learnt.items())
    assert run_together(second, data, lambda _: None)
    assert not second.tensors()["0.texture"].equal(learnt["0.texture"])


def test_others_crops_are_background_to_a_head(configs, data):
    """Each head reads its own crops and some of the next category's, without anchors in them."""
    state, read = begin(configs, foreign=2), []
    for one in state.states:
        plain = one.backbone.read

        def noted(maps, size, plain=plain):
            read.append(len(maps[0]))
            return plain(maps, size)

        one.backbone.read = noted
    batches = draw_together(state, data, 0)
    joint_step(state, batches)
    assert read == [4, 4]
    assert all(len(b.points) == len(b.background) == 2 for b in batches.values())


def test_a_loss_that_is_not_finite_stops_before_anything_changes(configs, data):
    state = begin(configs)
    batches = draw_together(state, data, 0)
    before = {k: v.clone() for k, v in state.tensors().items()}
    broken = state.states[list(batches)[1]]
    broken.backbone.head.forward = lambda maps: torch.full((len(maps[0]), 16, 8, 12), np.nan)
    with pytest.raises(FeatmeshError, match=r"finite loss, got nan") as got:
        joint_step(state, batches)
    assert got.value.code == "E_NONFINITE"
    after = state.tensors()
    assert not [k for k in before if not before[k].equal(after[k])]
