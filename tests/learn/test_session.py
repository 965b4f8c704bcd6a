"""Claims about a run on disk: killed, interrupted or whole, it ends on the same bits."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import background, car_mesh, car_views, write_obj
from PIL import Image
from safetensors.torch import save_file

import featmesh
from featmesh.errors import CheckpointError, FeatmeshError
from featmesh.geometry.camera import Camera
from featmesh.learn import session
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import load_data
from featmesh.model.checkpoint import load
from featmesh.model.config import ModelConfig
from featmesh.model.efficientnet import EfficientNetLite0
from featmesh.store import RunLock, Steps

CAMERA = Camera(80.0, 80.0, 32.0, 32.0, 64, 64)
MODEL = ModelConfig(channels=16, width=16, crop_height=64, crop_width=64, clutter_centres=4)


@pytest.fixture(scope="module")
def stuff(tmp_path_factory):
    """Views, a template, a trunk, backgrounds: all that a run is begun with."""
    folder = tmp_path_factory.mktemp("stuff")
    car_views(folder, 8)
    (folder / "cad").mkdir()
    write_obj(folder / "cad" / "template.obj", car_mesh())
    torch.manual_seed(0)
    save_file(EfficientNetLite0().state_dict(), str(folder / "trunk.safetensors"))
    (folder / "walls").mkdir()
    Image.fromarray(background((60, 80), 1)).save(folder / "walls" / "wall.png")
    return folder


def config_of(stuff, out, **changes):
    config = TrainConfig(
        views=(str(stuff / "views.json"),),
        out=str(out),
        cad=str(stuff / "cad"),
        trunk=str(stuff / "trunk.safetensors"),
        backgrounds=str(stuff / "walls"),
        epochs=2,
        samples_per_epoch=6,
        batch=2,
        anchors_per_view=32,
        clutter_queue=64,
        save_every=2,
        gist=4,
        threads=1,
        model=MODEL,
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def whole(stuff, tmp_path_factory):
    """An uninterrupted run: its last state, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert session.train(config_of(stuff, out)) == 0
    return Steps(out).latest(), out


def assert_same_end(out, whole):
    (step, tensors, _), folder = whole
    found_step, found, _ = Steps(out).latest()
    assert found_step == step == 6
    assert found.keys() == tensors.keys()
    assert not [k for k in tensors if not torch.equal(found[k], tensors[k])]
    one, two = (load(Path(f) / "models" / "car") for f in (out, folder))
    assert one.hash == two.hash


def interrupted_at(monkeypatch, step, number):
    """Send this process a signal after a step, as the user would."""
    inner = session.run

    def run(state, data, on_step, *rest):
        def watched(report):
            on_step(report)
            if report.step == step:
                signal.raise_signal(number)

        return inner(state, data, watched, *rest)

    monkeypatch.setattr(session, "run", run)


def test_a_run_leaves_a_model_a_log_and_its_last_states(whole):
    _, out = whole
    assert sorted(p.name for p in out.glob("step-*")) == ["step-000004", "step-000006"]
    assert len((out / "log.jsonl").read_text().splitlines()) == 2
    model = load(out / "models" / "car")
    assert (model.category, model.config, model.threshold) == ("car", MODEL, None)
    assert model.texture.shape == (len(car_mesh().vertices), 16)
    assert model.clutter.shape == (4, 16)
    assert model.extra["training"]["photos"] == [8]
    assert model.extra["training"]["steps"] == 6
    torch.testing.assert_close(model.template.vertices, car_mesh().vertices, atol=1e-6, rtol=0)
    pixels = np.zeros((64, 64, 3), np.uint8)
    cells = model.extract(pixels, np.ones((64, 64), bool), featmesh.Camera.assumed(64, 64))
    assert bool(cells.features.isfinite().all())


def test_an_interrupted_run_saves_and_goes_on_bit_for_bit(stuff, tmp_path, whole, monkeypatch):
    config = config_of(stuff, tmp_path / "run")
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupted_at(patch, 3, signal.SIGINT)
        assert session.train(config) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert Steps(config.out).latest()[0] == 3
    assert not (tmp_path / "run" / "models").exists()
    assert session.train(config) == 0
    assert_same_end(config.out, whole)


def test_a_terminated_run_saves_too(stuff, tmp_path, monkeypatch):
    config = config_of(stuff, tmp_path / "run")
    interrupted_at(monkeypatch, 1, signal.SIGTERM)
    assert session.train(config) == 143
    assert Steps(config.out).latest()[0] == 1


def test_a_killed_run_goes_on_bit_for_bit(stuff, tmp_path, whole):
    config = config_of(stuff, tmp_path / "run")
    code = (
        "import time\n"
        "from featmesh.learn import session\n"
        "from featmesh.learn.config import TrainConfig\n"
        "from featmesh.model.config import ModelConfig\n"
        "inner = session.save\n"
        "def save(state, steps):\n"
        "    inner(state, steps)\n"
        "    print('saved', flush=True)\n"
        "    time.sleep(60)\n"  # killed while it sleeps
        "session.save = save\n"
        f"model = ModelConfig(**{asdict(MODEL)!r})\n"
        f"config = dict({asdict(replace(config, model=MODEL))!r}, model=model)\n"
        "from featmesh.learn.config import AugmentConfig\n"
        "config['augment'] = AugmentConfig(**config['augment'])\n"
        "session.train(TrainConfig(**config))\n"
    )
    source = str(Path(featmesh.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout.readline() == b"saved\n"
        with pytest.raises(FeatmeshError, match="E_LOCKED"):
            session.train(config)  # meanwhile nobody else may
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert Steps(config.out).latest()[0] == 2
    assert session.train(config) == 0
    assert_same_end(config.out, whole)


def test_a_second_trainer_is_refused(stuff, tmp_path):
    config = config_of(stuff, tmp_path / "run")
    with RunLock(config.out), pytest.raises(FeatmeshError, match="try: ") as got:
        session.train(config)
    assert got.value.code == "E_LOCKED"


def test_a_finished_run_is_not_trained_again(stuff, whole, monkeypatch):
    _, out = whole
    begun = time.time()
    monkeypatch.setattr("featmesh.learn.trainer.train_step", None)
    assert session.train(config_of(stuff, out)) == 0
    assert (out / "log.jsonl").stat().st_mtime < begun


def test_without_held_out_views_no_picture_is_looked_at(stuff, tmp_path, monkeypatch):
    config, told = config_of(stuff, tmp_path), []

    def outcomes(model, held_out, pictures, seed):
        told.append(held_out)
        return []

    monkeypatch.setattr(session, "outcomes", outcomes)
    monkeypatch.setattr(session, "fit_calibration", lambda known: None)
    state = session.begin(config)
    data = load_data(config, state.template)
    assert data.held_out == () and data.scenery.pictures
    assert session.write_model(state, data, tmp_path).calibration is None
    assert not told
    kept = tuple(data.groups[0][:1])
    session.write_model(state, replace(data, held_out=kept), tmp_path)
    assert told == [kept]


def test_another_configuration_is_refused(stuff, whole):
    _, out = whole
    with pytest.raises(
        FeatmeshError, match="got other values of batch, lr_head; try: another --out"
    ) as e:
        session.train(config_of(stuff, out, lr_head=0.5, batch=3))
    assert e.value.code == "E_CONFIG"


def test_how_often_is_saved_may_change(stuff, whole):
    (step, _, _), out = whole
    assert session.train(config_of(stuff, out, save_every=5)) == 0
    assert Steps(out).latest()[0] == step


def test_a_trunk_of_another_network_is_refused(stuff, tmp_path):
    save_file({"stem.weight": torch.zeros(3)}, str(tmp_path / "other.safetensors"))
    config = config_of(stuff, tmp_path / "run", trunk=str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match="weights of a efficientnet_lite0 trunk") as got:
        session.begin(config)
    assert got.value.code == "E_CKPT_CONFIG"


def test_a_new_category_starts_from_the_trunk_the_bundled_models_share(
    stuff, tmp_path, monkeypatch
):
    config = config_of(stuff, tmp_path / "run", trunk="", category="kettle")
    shared = load("chair").backbone.trunk.state_dict()
    begun = session.begin(config).backbone.trunk.state_dict()
    assert all(torch.equal(begun[k], v) for k, v in shared.items())
    monkeypatch.setattr(session, "bundled_models", dict)
    with pytest.raises(CheckpointError, match="a efficientnet_lite0 trunk, got none; try") as got:
        session.begin(config)
    assert got.value.code == "E_CKPT_MISSING"


def test_a_folder_without_cads_is_refused(stuff, tmp_path):
    with pytest.raises(CheckpointError, match=r"expected CADs \(\.off, .*got none") as got:
        session.begin(config_of(stuff, tmp_path / "run", cad=str(tmp_path)))
    assert got.value.code == "E_MESH_EMPTY"


def test_beginning_twice_is_the_same(stuff, tmp_path):
    one, two = (session.begin(config_of(stuff, tmp_path / "run")).tensors() for _ in range(2))
    assert not [k for k in one if not torch.equal(one[k], two[k])]
    other = session.begin(config_of(stuff, tmp_path / "run", seed=1)).tensors()
    assert not torch.equal(one["texture"], other["texture"])
    assert not torch.equal(one["net.head.out.weight"], other["net.head.out.weight"])


def test_a_model_learns_to_look_once_where_that_is_asked_for(stuff, whole, tmp_path):
    """The head comes with the model and speaks of every crop; without it none does."""
    shown = np.full((64, 64, 3), 90, np.uint8), np.ones((64, 64), bool), CAMERA
    told = load(whole[1] / "models" / "car").extract(*shown).gist
    assert float(told.azimuth.exp().sum()) == pytest.approx(1.0, abs=1e-3)
    assert session.train(config_of(stuff, tmp_path / "none", epochs=1, gist=0)) == 0
    assert load(tmp_path / "none" / "models" / "car").gist is None


def test_a_trained_model_is_gone_on_with(stuff, whole, tmp_path):
    """Network, texture and template come from the model; its shape space stays in it."""
    trained = str(whole[1] / "models" / "car")
    first = load(trained)
    config = config_of(stuff, tmp_path / "more", start=trained, cad="")
    state = session.begin(config)
    assert torch.equal(state.texture, first.texture)
    weights = first.backbone.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in state.backbone.state_dict().items())
    assert torch.equal(state.template.vertices, first.template.vertices)
    assert any(p.requires_grad for p in state.backbone.parameters())
    larger = replace(MODEL, crop_height=2 * MODEL.crop_height, crop_width=2 * MODEL.crop_width)
    assert torch.equal(session.begin(replace(config, model=larger)).texture, first.texture)
    with pytest.raises(CheckpointError, match="of the configured network") as got:
        session.begin(replace(config, model=replace(MODEL, channels=32)))
    assert got.value.code == "E_CKPT_CONFIG"


def test_freed_memory_is_kept_for_the_next_step() -> None:
    # pages that come back from the system are counted as faults: 16,384 a tensor of 64 MiB
    script = """
import resource, torch
from featmesh.learn.session import keep_memory
keep_memory()
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 16384
