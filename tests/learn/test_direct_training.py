"""Claims about training the conventional networks: what they see, what they learn, resuming."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from fixtures import car_mesh, car_views, write_obj
from safetensors.torch import save_file
from tiny_trunk import NETWORK, tiny_backbone, tiny_state

from featmesh.draws import generator
from featmesh.errors import FeatmeshError, InputError
from featmesh.geometry.rotations import geodesic_angle
from featmesh.learn import direct
from featmesh.learn.config import AugmentConfig, TrainConfig
from featmesh.learn.data import draw_batch, load_data
from featmesh.learn.direct import NetLearner, train_direct, untrained, validation_errors
from featmesh.learn.direct_data import TurnedCrops, drawn_crops, still_crops
from featmesh.learn.nearest import IndexLearner
from featmesh.learn.session import begin
from featmesh.model.backbones import BACKBONES
from featmesh.model.direct import MIRROR, load_direct
from featmesh.model.direct_config import DirectConfig
from featmesh.store import Steps

SMALL = {"width": 32, "level": 1, "cells": (2, 3)}
LEARNERS = {"bins": NetLearner, "6d": NetLearner, "nearest": IndexLearner}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(BACKBONES, "hf", tiny_backbone)


@pytest.fixture(scope="module")
def stuff(tmp_path_factory):
    """Views, a template, a trunk."""
    folder = tmp_path_factory.mktemp("stuff")
    car_views(folder, 12)
    (folder / "cad").mkdir()
    write_obj(folder / "cad" / "template.obj", car_mesh())
    save_file(tiny_state(), str(folder / "trunk.safetensors"))
    return folder


def config_of(stuff, out, **changes):
    config = TrainConfig(
        views=(str(stuff / "views.json"),),
        out=str(out),
        cad=str(stuff / "cad"),
        trunk=str(stuff / "trunk.safetensors"),
        epochs=2,
        samples_per_epoch=6,
        batch=2,
        validation_models=2,
        clutter_queue=64,
        save_every=2,
        freeze_blocks=0,
        threads=1,
        model=NETWORK,
    )
    return replace(config, **changes)


def learner_of(config, kind):
    state = begin(config)
    data = load_data(config, state.template)
    return LEARNERS[kind](config, untrained(state, DirectConfig(kind=kind, **SMALL)), data)


def test_a_step_sees_the_crops_of_a_category_models_step(stuff, tmp_path):
    config = config_of(stuff, tmp_path)
    data = load_data(config, begin(config).template)
    crops = drawn_crops(data, config, 3)
    assert torch.equal(crops.pixels, draw_batch(data, config, 3).pixels)
    drawn = generator(config.seed, "train", 3, 0)
    sample = data.groups[0][drawn.choice(len(data.groups[0]), p=data.weights[0])]
    mirrored = bool(drawn.random() < 0.5)
    off = geodesic_angle(crops.R[0], torch.from_numpy(sample.R))
    assert crops.R.shape == (2, 3, 3) and (off > 0.5) == mirrored


def test_unvaried_crops_are_turned_only_by_the_mirror(stuff, tmp_path):
    config = config_of(stuff, tmp_path, batch=12)
    data = load_data(config, begin(config).template)
    crops = still_crops(data.groups[0], data, config, 0)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    for k, sample in enumerate(data.groups[0]):
        R = torch.from_numpy(sample.R).float()
        off = [geodesic_angle(crops.R[k], each) for each in (R, mirror @ R @ mirror)]
        assert min(off) < 1e-3


@pytest.mark.parametrize(("kind", "steps", "lr"), [("bins", 100, 1e-2), ("6d", 100, 1e-2)])
def test_a_network_learns_a_few_crops_by_heart(stuff, tmp_path, kind, steps, lr):
    config = config_of(stuff, tmp_path, batch=steps, epochs=1, lr_head=lr, lr_trunk=lr)
    config = replace(config, samples_per_epoch=steps**2)
    learner = learner_of(config, kind)
    crops = still_crops(learner.data.groups[0], learner.data, config, 0)
    before = learner.learn(crops)
    for _ in range(steps - 1):
        after = learner.learn(crops)
    assert after.loss < 0.3 * before.loss and after.accuracy > before.accuracy
    found, _ = learner.trained().rotations(crops.pixels.permute(0, 2, 3, 1).byte())
    assert float(geodesic_angle(found, crops.R).rad2deg().median()) < 10


def test_who_looks_up_finds_each_view_and_its_mirror(stuff, tmp_path):
    config = config_of(stuff, tmp_path, batch=5, epochs=0, validation_models=0)
    learner = learner_of(config, "nearest")
    assert learner.steps == learner.still_steps == 3
    seen = []
    while learner.step < learner.steps:
        seen.append(learner.draw(learner.step))
        learner.learn(seen[-1])
    model = learner.trained()
    assert model.views.features.shape == (24, 24 * 6)
    for crops in seen:
        found, cosine = model.rotations(crops.pixels.permute(0, 2, 3, 1).byte())
        assert float(geodesic_angle(found, crops.R).max()) < 1e-3
        assert float(cosine.min()) > 0.999


def test_the_views_kept_out_are_measured(stuff, tmp_path):
    config = config_of(stuff, tmp_path, batch=4, epochs=0)
    learner = learner_of(config, "nearest")
    while learner.step < learner.steps:
        learner.learn(learner.draw(learner.step))
    names = {s.name for s in learner.data.held_out}
    assert len(names) == 2 and names.isdisjoint(s.name for s in learner.samples)
    errors = validation_errors(learner)
    assert errors.shape == (len(learner.data.held_out),)
    assert float(errors.median()) < 1.3  # 12 views are 30 degrees apart; chance is 2.2


def interrupted_at(monkeypatch, kind, step):
    """Send this process a signal in a step, as the user would."""
    inner = LEARNERS[kind].learn

    def learn(self, crops):
        report = inner(self, crops)
        if report.step == step:
            signal.raise_signal(signal.SIGINT)
        return report

    monkeypatch.setattr(LEARNERS[kind], "learn", learn)


@pytest.mark.parametrize("kind", sorted(LEARNERS))
def test_an_interrupted_run_goes_on_bit_for_bit(stuff, tmp_path, monkeypatch, kind):
    kept = DirectConfig(kind=kind, **SMALL)
    whole, config = config_of(stuff, tmp_path / "whole"), config_of(stuff, tmp_path / "run")
    assert train_direct(whole, kept) == 0
    with monkeypatch.context() as patch:
        interrupted_at(patch, kind, 3)
        assert train_direct(config, kept) == 130
    assert Steps(config.out).latest()[0] == 3
    assert not (tmp_path / "run" / "models").exists()
    assert train_direct(config, kept) == 0
    (step, tensors, _), (again, found, _) = Steps(whole.out).latest(), Steps(config.out).latest()
    assert step == again and found.keys() == tensors.keys()
    assert not [k for k in tensors if not torch.equal(found[k], tensors[k])]
    one, two = (load_direct(tmp_path / run / "models" / "car") for run in ("whole", "run"))
    assert one.hash == two.hash and one.config == kept
    assert one.extra["training"]["photos"] == [9]
    torch.testing.assert_close(one.template.vertices, car_mesh().vertices, atol=1e-6, rtol=0)
    rows = [json.loads(row) for row in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert len(rows) == (1 if kind == "nearest" else 2)
    assert rows[-1]["step"] == step and rows[-1]["count"] == 3


def test_another_network_in_the_same_folder_is_refused(stuff, tmp_path):
    config = config_of(stuff, tmp_path / "run", epochs=1)
    assert train_direct(config, DirectConfig(**SMALL)) == 0
    with pytest.raises(
        FeatmeshError, match="got other values of direct; try: another --out"
    ) as got:
        train_direct(config, DirectConfig(kind="6d", **SMALL))
    assert got.value.code == "E_CONFIG"
    with pytest.raises(FeatmeshError, match="got other values of lr_head") as got:
        train_direct(replace(config, lr_head=1.0), DirectConfig(**SMALL))


def test_a_run_stopped_before_its_first_step_leaves_nothing(stuff, tmp_path, monkeypatch):
    learner = learner_of(config_of(stuff, tmp_path), "nearest")
    assert not direct.run(learner, lambda: pytest.fail("nothing to save"), [130])


def test_crops_of_a_frozen_trunk_are_refused(stuff, tmp_path):
    config = config_of(stuff, tmp_path, crops=10, lr_trunk=0.0)
    with pytest.raises(InputError, match="no --crops with this method") as got:
        train_direct(config, DirectConfig())
    assert got.value.code == "E_CONFIG"


def test_a_loss_that_is_not_finite_changes_nothing(stuff, tmp_path):
    learner = learner_of(config_of(stuff, tmp_path), "bins")
    before = {k: v.clone() for k, v in learner.tensors().items()}
    crops = learner.draw(0)
    broken = TurnedCrops(crops.pixels * float("inf"), crops.R)
    with pytest.raises(FeatmeshError) as got:
        learner.learn(broken)
    assert got.value.code == "E_NONFINITE"
    assert all(torch.equal(before[k], v) for k, v in learner.tensors().items())


def test_varied_crops_follow_the_views_as_they_are(stuff, tmp_path):
    plain = AugmentConfig(occlude=0.0, context=0.0, coarse=0.0, fill_high=0.8)
    learner = learner_of(config_of(stuff, tmp_path, augment=plain), "nearest")
    assert learner.steps == learner.still_steps + 2 * learner.per_epoch
    later = learner.draw(learner.still_steps + 1)
    assert torch.equal(later.R, drawn_crops(learner.data, learner.config, 1).R)
    first = learner.draw(0)
    assert torch.equal(first.pixels[:2].flip(3), first.pixels[2:])
    mirror = MIRROR.float()
    assert torch.equal(first.R[2:], mirror @ first.R[:2] @ mirror)


def test_who_looks_up_sees_the_object_from_edge_to_edge(stuff, tmp_path):
    """Bright columns and rows reach all borders, in views as they are and in varied ones."""
    plain = AugmentConfig(occlude=0.0, context=0.0, coarse=0.0, fill_high=0.8, shift=0.0)
    learner = learner_of(config_of(stuff, tmp_path, augment=plain, batch=4), "nearest")
    for step in (0, learner.still_steps):
        shows = learner.draw(step).pixels.amax(1) > 130
        columns, rows = shows.any(1).float(), shows.any(2).float()
        assert float(columns.mean()) > 0.9 and float(rows.mean()) > 0.9
