"""Claims about batches: which sample is drawn when depends on its key alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_views
from PIL import Image
from safetensors.numpy import save_file

from featmesh.errors import DatasetError
from featmesh.learn.config import TrainConfig
from featmesh.learn.correspondence import Sample
from featmesh.learn.data import _even_weights, draw_batch, load_data, validation_batch
from featmesh.model.config import ModelConfig

MODEL = ModelConfig(channels=16, crop_height=64, crop_width=96)


def config_of(folder, **changes):
    config = TrainConfig(
        views=(str(folder / "views.json"),),
        out=str(folder / "run"),
        batch=3,
        anchors_per_view=24,
        validation_models=2,
        model=MODEL,
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    car_views(folder, 16)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return load_data(config_of(folder), car_mesh())


def same(a, b):
    return (
        torch.equal(a.pixels, b.pixels)
        and torch.equal(a.background, b.background)
        and all(map(torch.equal, a.points, b.points))
        and all(map(torch.equal, a.anchor, b.anchor))
    )


def test_batches_do_not_depend_on_what_was_drawn_before(folder, data):
    config = config_of(folder)
    forward = [draw_batch(data, config, step) for step in range(4)]
    backward = [draw_batch(data, config, step) for step in reversed(range(4))][::-1]
    assert all(map(same, forward, backward))
    assert not same(forward[0], forward[1])
    assert not same(forward[0], draw_batch(data, replace(config, seed=1), 0))


def test_a_batch_is_what_the_step_needs(folder, data):
    config = config_of(folder)
    batch = draw_batch(data, config, 0)
    assert batch.pixels.shape == (3, 3, 64, 96)
    assert batch.background.shape == (3, 8, 12)
    assert 0 <= float(batch.pixels.min()) and 60 < float(batch.pixels.max()) <= 255
    for points, anchor in zip(batch.points, batch.anchor, strict=True):
        assert 0 < len(anchor) <= 24 and points.shape == (len(anchor), 2)
        assert bool((points.abs() <= 1).all())
        assert int(anchor.max()) < len(car_mesh().vertices)
        assert len(anchor.unique()) == len(anchor)


def test_the_first_steps_may_see_small_crops(folder, data):
    config = config_of(folder, epochs=2, samples_per_epoch=12, small=0.25)
    assert config.steps == 8
    seen = [draw_batch(data, config, step) for step in range(4)]
    assert [b.pixels.shape[2:] for b in seen] == [(32, 64)] * 2 + [(64, 96)] * 2
    again = draw_batch(data, replace(config, small=0.0), 2)
    assert torch.equal(seen[2].pixels, again.pixels)  # the whole ones are as they were
    assert all(p.abs().max() <= 1 for p in seen[0].points)
    assert seen[0].background.shape[1:] == (4, 8)


def test_points_are_in_units_of_the_crop(data, folder):
    """x then y from -1 to 1, as grid_sample reads them: the car's middle lies near the middle."""
    batch = validation_batch(data, config_of(folder), 0)
    for points in batch.points:
        middle = (points.amin(0) + points.amax(0)) / 2
        assert float(middle.abs().max()) < 0.35
        assert float(points.abs().amax()) > 0.5


def test_whole_models_are_kept_out(folder, data):
    used = {s.name for group in data.groups for s in group}
    held = {s.name for s in data.held_out}
    assert len(held) == 2 and len(used) == 6 and not used & held
    assert sum(map(len, data.groups)) + len(data.held_out) == 16
    again = load_data(config_of(folder), car_mesh())
    assert [s.image for s in again.held_out] == [s.image for s in data.held_out]
    few = load_data(config_of(folder, validation_models=4), car_mesh())
    assert few.held_out == () and sum(map(len, few.groups)) == 16


def test_held_out_views_are_seen_in_turn_and_unvaried(folder, data):
    config = config_of(folder)
    one = validation_batch(data, config, 0)
    assert same(one, validation_batch(data, config, 0))
    assert len(one.pixels) == 3
    last = validation_batch(data, config, 3)
    assert len(last.pixels) == len(data.held_out) - 3


def test_photos_may_be_left_out(folder):
    data = load_data(config_of(folder, exclude=("003.png", "004.png")), car_mesh())
    names = {s.image.name for g in (*data.groups, data.held_out) for s in g}
    assert len(names) == 14 and not names & {"003.png", "004.png"}


def fake(azimuths):
    empty = np.zeros(0)
    return [
        Sample(Path("none.png"), None, (0.0, 0.0, 1.0, 1.0), empty, empty, empty, np.eye(3), a, "")
        for a in azimuths
    ]


def test_azimuths_are_drawn_evenly():
    """Many from the right front, some from behind; a mirrored view is one of the other side."""
    many, some = [0.3] * 60, [3.0] * 20
    weights = _even_weights(fake(many + some))
    assert weights.sum() == pytest.approx(1)
    assert weights[:60].sum() == pytest.approx(weights[60:].sum())
    rare = _even_weights(fake([0.3] * 1000 + [3.0]))
    assert rare[-1] / rare[0] == pytest.approx(5)  # at most five times
    both_sides = _even_weights(fake([0.3] * 10 + [2 * np.pi - 0.3] * 10 + [3.0] * 20))
    np.testing.assert_allclose(both_sides, 1 / 40)


def test_views_files_are_drawn_from_in_turn(folder, tmp_path):
    car_views(tmp_path, 6)
    two = config_of(folder, views=(str(folder / "views.json"), str(tmp_path / "views.json")))
    data = load_data(two, car_mesh())
    assert [len(g) for g in data.groups] == [12, 4]
    assert [len(w) for w in data.weights] == [12, 4]


def rewrite(source, target, change):
    records = json.loads((source / "views.json").read_text())["views"]
    for k, record in enumerate(records):
        change(k, record)
        photo = target / record["image"]
        if (source / photo.name).exists() and not photo.exists():
            photo.write_bytes((source / photo.name).read_bytes())
    (target / "views.json").write_text(json.dumps({"schema": 1, "views": records}))


def test_a_category_without_views_is_refused(folder):
    with pytest.raises(
        DatasetError, match="views of 'bus' with R and K or distance, got none"
    ) as e:
        load_data(config_of(folder, category="bus"), car_mesh())
    assert e.value.code == "E_DATA"


def test_missing_photos_are_refused(folder, tmp_path):
    rewrite(folder, tmp_path, lambda k, r: r.update(image="gone.png") if k == 2 else None)
    with pytest.raises(DatasetError, match=r"got 1 of 16 missing or .*, first .*gone\.png") as e:
        load_data(config_of(tmp_path), car_mesh())
    assert e.value.code == "E_DATA"


def test_negatives_and_unlabelled_photos_are_passed_over(folder, tmp_path):
    def change(k, record):
        if k == 0:
            for key in ("R", "K", "t", "t_unit", "box"):
                record.pop(key)
            record["no_object"] = True
        if k == 1:  # a rotation alone: neither camera nor distance
            for key in ("K", "t", "t_unit"):
                record.pop(key)

    rewrite(folder, tmp_path, change)
    data = load_data(config_of(tmp_path), car_mesh())
    assert sum(map(len, data.groups)) + len(data.held_out) == 14


def test_pictures_for_the_surroundings(folder, tmp_path, data):
    """Without a folder, blurred views stand in; a folder without pictures is refused."""
    assert all(p.shape == (128, 192, 3) and p.dtype == np.uint8 for p in data.scenery.pictures)
    with pytest.raises(DatasetError, match=r"expected pictures in .*, got none; try: --backg") as e:
        load_data(config_of(folder, backgrounds=str(tmp_path)), car_mesh())
    assert e.value.code == "E_DATA"
    Image.fromarray(np.full((50, 70, 3), 7, np.uint8)).save(tmp_path / "wall.png")
    found = load_data(config_of(folder, backgrounds=str(tmp_path)), car_mesh())
    assert [p.shape for p in found.scenery.pictures] == [(50, 70, 3)]


def test_shapes_of_another_template_are_refused(tmp_path):
    car_views(tmp_path, 4)
    save_file({"model 0": np.zeros((5, 3), np.float32)}, tmp_path / "shapes.safetensors")
    config = TrainConfig(
        views=(str(tmp_path / "views.json"),), out="", shapes=str(tmp_path / "shapes.safetensors")
    )
    with pytest.raises(DatasetError, match=r"expected shapes of \d+ vertices") as got:
        load_data(config, car_mesh())
    assert got.value.code == "E_DATA"
