"""A category from CAD files: one command, whole or stopped, ends with the same model."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import car_views
from PIL import Image

import featmesh
from featmesh.apps import new_category as program
from featmesh.apps.new_category_config import NewCategoryConfig, meddled
from featmesh.apps.new_category_held_out import joined, scored
from featmesh.apps.new_category_run import Run
from featmesh.errors import DatasetError, FeatmeshError, InputError
from featmesh.geometry.mesh import read_mesh
from featmesh.learn import session
from featmesh.model.checkpoint import find_model
from featmesh.model.config import ModelConfig
from featmesh.views.presets import Look
from featmesh.views.record import read_views

from .nose_cads import write_cads

SMALL = ModelConfig(channels=16, width=16, crop_height=64, crop_width=64, clutter_centres=4)
PLAIN = NewCategoryConfig(cad="")


@pytest.fixture(autouse=True)
def _as_before():
    """A run sets torch's threads and its determinism for the whole process."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


def config_of(folder, out, **changes):
    config = NewCategoryConfig(
        cad=str(folder),
        out=str(out),
        front=0.0,
        up="z",
        views=6,
        test_views=2,
        jobs=1,
        look=Look(width=(96, 112), share_small=0.0),
        shape=replace(PLAIN.shape, points=1200, threads=1),
        train=replace(
            PLAIN.train,
            epochs=2,
            samples_per_epoch=8,
            batch=4,
            anchors_per_view=32,
            clutter_queue=64,
            threads=1,
            lr_trunk=0.0,
            model=SMALL,
        ),
    )
    return replace(config, **changes)


def make(config):
    said = []
    code, told = program.new_category("tug", config, said.append)
    return code, told, said


@pytest.fixture(scope="module")
def cads(tmp_path_factory):
    folder = write_cads(tmp_path_factory.mktemp("new") / "cads")
    (folder / "broken.off").write_text("OFF\n0 0 0\n")
    return folder


@pytest.fixture(scope="module")
def whole(cads, tmp_path_factory):
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "tug"
    code, told, said = make(config_of(cads, out))
    assert code == 0
    return out, told, said


def test_the_model_loads_and_estimates_a_view_of_a_cad_kept_out(whole):
    out, told, _ = whole
    model = featmesh.load(out / "model")
    assert model.category == "tug" and model.hash == told["hash"]
    assert model.deformation is not None and model.deformation.latents == 2
    (view, *_) = read_views(out / "test" / "clean" / "views.json")
    assert view.model_name == "3.obj"
    photo = featmesh.read_photo(view.image)
    found = featmesh.estimate(model, photo, box=view.box, camera=view.camera)
    assert found.status in ("ok", "uncertain") and found.cam_from_obj is not None


def test_what_is_told_and_the_card(whole):
    out, told, said = whole
    assert told["learnt"] == ["0.obj", "1.obj", "2.obj"] and told["held_out"] == ["3.obj"]
    assert [row["code"] for row in told["refused"]] == ["E_MESH_EMPTY"]
    assert any(line.startswith("left out: broken.off: E_MESH_EMPTY") for line in said)
    assert set(told["figures"]) == {"clean", "L2"} and told["figures"]["L2"]["count"] == 2
    assert set(told["seconds"]) == {"cads", "shape", "views", "train", "test", "model"}
    card = (out / "model" / "CARD.md").read_text()
    assert "CADs: CC0, made here" in card and "held-out CADs, clean" in card
    assert "trained on renders alone" in card
    for picture in ("cads.png", "views.png", "estimates.png"):
        with Image.open(out / "model" / picture) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_a_frozen_trunk_is_the_one_most_bundled_models_share(whole):
    bundled = json.loads((find_model("chair") / "model.json").read_text())
    own = json.loads((whole[0] / "model" / "model.json").read_text())
    assert own["backbone"] == bundled["backbone"]


def test_a_second_run_does_nothing_again(whole, cads):
    out, told, _ = whole
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    code, again, said = make(config_of(cads, out))
    assert (code, again, said) == (0, told, [])
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == files


def test_a_training_stopped_half_way_goes_on_to_the_same_model(whole, cads, tmp_path, monkeypatch):
    out = tmp_path / "tug"
    shutil.copytree(whole[0], out)
    shutil.rmtree(out / "train")
    inner = session.run

    def run(state, data, on_step, *rest):
        def watched(report):
            on_step(report)
            if report.step == 1:
                signal.raise_signal(signal.SIGINT)

        return inner(state, data, watched, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(session, "run", run)
        code, told, said = make(config_of(cads, out))
        assert (code, told) == (130, None)
        assert said == ["4/6 train: train the features"]
    assert not (out / "train" / "done.json").exists()
    assert make(config_of(cads, out))[0] == 0
    one, two = (featmesh.load(folder / "train" / "models" / "tug") for folder in (out, whole[0]))
    assert one.hash == two.hash


def test_rendering_that_was_stopped_keeps_its_views(whole, cads, tmp_path, monkeypatch):
    out = tmp_path / "tug"
    shutil.copytree(whole[0], out)
    for path in ("done.json", "views.json", "records/000005.json"):
        (out / "views" / path).unlink()
    before = {p.name: p.stat().st_mtime_ns for p in (out / "views" / "photos").iterdir()}
    monkeypatch.setitem(program.WORK, "train", ("", None))  # it is done: not called
    assert make(config_of(cads, out))[0] == 0
    after = {p.name: p.stat().st_mtime_ns for p in (out / "views" / "photos").iterdir()}
    assert [name for name in after if after[name] != before[name]] == ["000005.jpg"]


def test_other_options_need_another_folder(whole, cads):
    for changes in ({"views": 7}, {"front": 90.0}, {"up": "y"}):
        with pytest.raises(
            FeatmeshError, match=f"got other values of {next(iter(changes))}; try"
        ) as got:
            make(config_of(cads, whole[0], **changes))
        assert got.value.code == "E_CONFIG"
    assert make(config_of(cads, whole[0], front=None, up="auto"))[0] == 0  # as settled before


def test_nothing_begins_before_the_fronts_are_known(cads, tmp_path):
    with pytest.raises(InputError, match="neither --front nor --yes; try: look whether") as got:
        make(config_of(cads, tmp_path / "run", front=None))
    assert got.value.code == "E_CAD_FRONT"
    assert (tmp_path / "run" / "cads" / "contact.png").is_file()
    assert not (tmp_path / "run" / "run.json").exists()


def test_two_cads_are_too_few(tmp_path):
    folder = write_cads(tmp_path / "cads", 2)
    (folder / "2.off").write_text("OFF\n")
    with pytest.raises(DatasetError, match=r"3 CADs or more in .*got 2; 2.off: E_MESH_EMPTY") as e:
        make(config_of(folder, tmp_path / "run"))
    assert e.value.code == "E_DATA"


def test_a_front_elsewhere_is_turned_to_where_it_belongs(tmp_path, monkeypatch):
    folder = write_cads(tmp_path / "cads")
    for path in folder.glob("*.obj"):  # the nose now points to +x
        rows = [line.split() for line in path.read_text().splitlines()]
        turned = [["v", str(-float(r[2])), r[1], r[3]] if r[0] == "v" else r for r in rows]
        path.write_text("\n".join(" ".join(r) for r in turned) + "\n")
    monkeypatch.setattr(program, "WORK", {"shape": ("", lambda run: 130)})
    assert make(config_of(folder, tmp_path / "run", front=90.0))[0] == 130
    aligned = read_mesh(tmp_path / "run" / "cads" / "learn" / "0.obj.off").vertices
    low = aligned[aligned[:, 1] < -0.4]  # only the nose reaches there: narrow, not tall
    assert float(low[:, 0].abs().max()) < 0.5 * float(aligned[:, 0].abs().max())
    assert float(aligned[aligned[:, 2] > 0.12][:, 1].min()) > 0  # the cabin is behind


def test_photos_of_another_category_are_refused_first(cads, tmp_path, monkeypatch):
    car_views(tmp_path, 1)
    monkeypatch.setattr(program, "WORK", {})
    with pytest.raises(DatasetError, match=r"records of 'tug' with R in .*got car; try") as got:
        make(config_of(cads, tmp_path / "run", photos=str(tmp_path / "views.json")))
    assert got.value.code == "E_VIEWS"


def test_options_that_the_command_sets_itself_are_refused(cads, tmp_path):
    config = config_of(cads, tmp_path)
    config = replace(config, train=replace(config.train, start="car"))
    assert meddled(config) == ["--train.start"]
    with pytest.raises(InputError, match=r"got --train.start; try") as got:
        make(config)
    assert got.value.code == "E_CONFIG"
    for wrong in ({"views": 0}, {"symmetry": 0}):
        with pytest.raises(InputError, match="amounts of 1 or more"):
            make(config_of(cads, tmp_path, **wrong))
    for name in ("", "a/b", ".."):
        with pytest.raises(InputError, match="a name that can be a folder's"):
            program.new_category(name, config_of(cads, tmp_path), print)


def test_a_model_states_its_symmetry_before_it_is_measured(whole, cads):
    out, _, _ = whole
    run = Run("tug", config_of(cads, out), "z", 0.0, print)
    assert "symmetry" not in joined(run).extra
    run = replace(run, config=replace(run.config, symmetry="any"))
    assert joined(run).extra["symmetry"] == "any"


def test_figures_up_to_symmetry_are_told_beside_the_official_ones():
    pose = {"count": 3, "failed": 0, "acc_30": 0.5, "acc_10": 0.25, "acc_5": 0.0}
    official = {"pose": {**pose, "median_deg": 40.0}, "seconds": {"total": 1.0}}
    told = {"count": 3, "acc_30": 0.5, "acc_10": 0.25, "median_deg": 40.0}
    assert scored(official) == told
    turned = {"symmetry": 4, "pose": {**pose, "acc_30": 1.0, "median_deg": 3.0}}
    both = scored({**official, "symmetric": turned})
    assert both == {**told, "symmetric": {**told, "acc_30": 1.0, "median_deg": 3.0}}
