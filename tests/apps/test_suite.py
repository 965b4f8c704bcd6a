"""The suite as a program: files, photos with the mesh over them, lines to print."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import car_views
from PIL import Image
from present.samples import box_mesh

from featmesh.apps.suite import Subject, lines, measured, robustness, shots_of
from featmesh.evaluate.suite import run_suite
from featmesh.evaluate.suite_config import SuiteConfig
from featmesh.geometry.pose import Pose, so3_exp
from featmesh.inference.result import Estimate

CONFIG = SuiteConfig(severity=(3,), conditions=("brightness", "resolution"), resamples=10)


class Model:
    category, hash = "car", "0123"


@pytest.fixture
def views(tmp_path: Path):
    return car_views(tmp_path, 4, (48, 64))


@pytest.fixture
def subject(views) -> Subject:
    """Sure of every answer; right of clean photos but the last, and upside down of bright ones."""

    photos = [np.asarray(Image.open(view.image)).astype(float) for view in views]

    def estimate(model, photo, box, camera) -> Estimate:
        pixels = photo.pixels.astype(float)
        view = views[int(np.argmin([np.abs(own - pixels).mean() for own in photos]))]
        off = 180.0 if pixels.mean() > 120 else 12.0 * view.index
        axis = torch.tensor([0.0, 0.0, math.radians(off)], dtype=torch.float64)
        pose = Pose(so3_exp(axis) @ torch.from_numpy(view.R), torch.from_numpy(view.t))
        return Estimate(
            "ok", "car", pose, confidence=0.9, camera=camera, camera_source="given", mesh=box_mesh()
        )

    return Subject(Model(), estimate, {"steps": 1})


def test_three_files_are_written(subject, views, tmp_path: Path) -> None:
    figures = robustness(subject, views, tmp_path / "out", CONFIG, stream=io.StringIO())
    page = (tmp_path / "out" / "suite.html").read_text("utf-8")
    assert "Robustness: car" in page and page.count("<img") >= 4
    assert json.loads((tmp_path / "out" / "suite.json").read_text("utf-8"))["count"] == 4
    assert (tmp_path / "out" / "suite.md").is_file()
    told = "\n".join(lines(figures, tmp_path / "out"))
    assert "resolution 1/8" in told and "1 corruptions, 3" in told and "% of clean" in told


def test_worst_best_and_surest_mistakes_are_shown(subject, views, tmp_path: Path) -> None:
    result = run_suite(subject, views, tmp_path / "out", CONFIG, stream=io.StringIO())
    shots = shots_of(subject, result, most=2)
    worst, best, mistakes = shots.values()
    assert [shot.name for shot in worst] == ["003.png", "002.png"]
    assert [shot.name for shot in best] == ["000.png", "001.png"]
    assert worst[0].told == "clean, 36.0° off, confidence 0.90"
    assert best[0].pixels.shape == (96, 128, 3)  # small photos are doubled
    assert len({shot.name for shot in mistakes}) == len(mistakes) <= 2
    views[3].image.unlink()
    assert [shot.name for shot in shots_of(subject, result, most=2)["Worst clean photos"]] == [
        "002.png"
    ]


def test_pictures_of_a_folder_occlude(subject, views, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(4):
        Image.new("RGB", (30, 20), (k, 60, 60)).save(folder / f"{k}.png")
    config = replace(CONFIG, conditions=("occlusion",))
    text, told = measured(subject, views, tmp_path / "out", config, folder)
    assert "occlusion L3" in text and json.loads(told)["pictures"] is not None
