"""A suite is measured, kept, resumed; what changes its answers makes it anew."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixtures import car_model, car_views

from featmesh.errors import DatasetError
from featmesh.evaluate.suite import Subject, run_suite, shown
from featmesh.evaluate.suite_config import SuiteConfig
from featmesh.geometry.pose import Pose
from featmesh.inference.estimator import estimate
from featmesh.inference.result import Estimate

SMALL = SuiteConfig(severity=(3,), conditions=("fog",), resamples=20)
CONDITIONS = 2  # clean, fog


class Fake:
    """An estimator that says one pose, counts its calls, and may be interrupted."""

    def __init__(self, stop: int | None = None) -> None:
        self.seen: list[np.ndarray] = []
        self.stop = stop

    def __call__(self, model, photo, box, camera) -> Estimate:
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        self.seen.append(photo.pixels)
        t = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
        pose = Pose(torch.eye(3, dtype=torch.float64), t)
        return Estimate("ok", "car", pose, confidence=0.7, camera=camera, camera_source="given")


def run(views, out: Path, fake: Fake, config: SuiteConfig = SMALL, **changes):
    pictures = changes.pop("pictures", ())
    model = SimpleNamespace(category="car", hash=changes.pop("hash", "0123"))
    subject = Subject(model, fake, **changes)
    return run_suite(subject, views, out, config, pictures, io.StringIO())


@pytest.fixture
def views(tmp_path: Path):
    return car_views(tmp_path, 4, (48, 64))


def test_the_painted_car_is_found_under_mild_conditions(tmp_path: Path) -> None:
    views = car_views(tmp_path, 2)
    config = SuiteConfig(severity=(1,), conditions=("pixelate", "rotation"), resamples=20)
    subject = Subject(car_model(), estimate)
    result = run_suite(subject, views, tmp_path / "out", config, stream=io.StringIO())
    found = {row["name"]: row for row in result.figures["conditions"]}
    assert len(found) == 8
    for name, row in found.items():
        assert row["acc_10"] == 1, name
    assert result.figures["corruption"]["1"]["relative_acc_30"] == 1
    kept = json.loads((tmp_path / "out" / "suite.json").read_text("utf-8"))
    assert kept == json.loads(json.dumps(result.figures))
    assert (tmp_path / "out" / "suite.md").read_text("utf-8").startswith("# Robustness: car")


def test_a_finished_suite_is_read_and_other_labels_count(views, tmp_path: Path) -> None:
    first = run(views, tmp_path / "out", fake := Fake())
    assert len(fake.seen) == 4 * CONDITIONS
    again = run(views, tmp_path / "out", fake := Fake())
    assert not fake.seen
    assert again.figures["conditions"] == first.figures["conditions"]
    eye = [replace(view, R=np.eye(3)) for view in views]
    right = run(eye, tmp_path / "out", fake := Fake())
    assert not fake.seen and right.figures["conditions"][0]["acc_5"] == 1


def test_an_interrupted_suite_goes_on(views, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(views, tmp_path / "out", Fake(stop=6))
    result = run(views, tmp_path / "out", fake := Fake())
    assert len(fake.seen) == 4 * CONDITIONS - 6
    whole = run(views, tmp_path / "whole", Fake())
    assert result.figures["conditions"][1]["acc_30"] == whole.figures["conditions"][1]["acc_30"]
    left = sorted(path.suffix for path in (tmp_path / "out" / "conditions").iterdir())
    assert left == [".json"] * CONDITIONS


def test_what_the_answers_depend_on_makes_them_anew(views, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(views, out, Fake())
    pictures = (np.full((9, 9, 3), 7, np.uint8),)
    changes = [{"hash": "other"}, {"settings": {"steps": 3}}, {"locate": True}]
    changes += [{"config": replace(SMALL, seed=1)}, {"pictures": pictures}]
    for change in changes:
        run(views, out, fake := Fake(), **change)
        assert len(fake.seen) == 4 * CONDITIONS, change
    views[2].image.write_bytes(views[1].image.read_bytes())
    run(views, out, fake := Fake())
    assert len(fake.seen) == 4 * CONDITIONS
    run(views, out, fake := Fake(), config=replace(SMALL, conditions=("fog", "jpeg")))
    assert len(fake.seen) == 4


def test_a_model_without_a_hash_is_measured_each_time(views, tmp_path: Path) -> None:
    for _ in range(2):
        run(views, tmp_path / "out", fake := Fake(), hash="")
        assert len(fake.seen) == 4 * CONDITIONS


def test_a_broken_file_is_made_anew(views, tmp_path: Path) -> None:
    run(views, tmp_path / "out", Fake())
    (path,) = (tmp_path / "out" / "conditions").glob("fog-3-*.json")
    path.write_text("{", "utf-8")
    run(views, tmp_path / "out", fake := Fake())
    assert len(fake.seen) == 4


def test_a_photo_that_cannot_be_read_is_an_error_of_180_degrees(views, tmp_path: Path) -> None:
    views[0].image.write_bytes(b"no picture")
    wrong = replace(views[1], width=99)
    result = run([views[0], wrong, *views[2:]], tmp_path / "out", Fake())
    assert all(row["failed"] == 2 for row in result.figures["conditions"])


def test_few_photos_are_spread_and_negatives_left_out(views, tmp_path: Path) -> None:
    none = replace(views[1], no_object=True, R=None)
    config = replace(SMALL, photos=2)
    result = run([views[0], none, *views[2:]], tmp_path / "out", Fake(), config)
    assert [view.index for view in result.table.views] == [0, 3]
    with pytest.raises(DatasetError, match=r"E_VIEWS: suite: .*none of 1"):
        run([none], tmp_path / "none", Fake())


def test_what_is_shown_is_what_was_measured(views, tmp_path: Path) -> None:
    result = run(views, tmp_path / "out", fake := Fake())
    condition = result.table.conditions[1]
    subject = Subject(SimpleNamespace(), again := Fake())
    pixels, found = shown(subject, views[1], condition, result.scene)
    np.testing.assert_array_equal(pixels, again.seen[0])
    np.testing.assert_array_equal(pixels, fake.seen[4 + 1])
    assert found.confidence == 0.7
