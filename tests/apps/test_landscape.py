"""The landscape holds the refinement's energy; what follows it leaves the views as they are."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from fixtures import box_of, car_model, look, photo_of
from PIL import Image

from featmesh.apps.landscape import FILES, settle, survey, turned_to, views_of, write_landscape
from featmesh.apps.sight import Poses, Sight, look_closely
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig
from featmesh.present.landscape import Landscape

CAMERA = Camera(330.0, 330.0, 168.0, 112.0, 224, 336)
POSE = look(70.0, 12.0, 3.0, 2.6)
CONFIG = EstimateConfig(ScanConfig(azimuths=12), RefineConfig(steps=20, polish=3))


@pytest.fixture(scope="module")
def sight() -> Sight:
    photo = photo_of(POSE, CAMERA)
    return look_closely(car_model(), photo, box_of(POSE, CAMERA), config=CONFIG)


@pytest.fixture(scope="module")
def landscape(sight: Sight) -> Landscape:
    return survey(sight, 15.0, 4)


def test_the_grid_goes_round_and_holds_all_that_is_drawn(landscape: Landscape) -> None:
    assert np.allclose(np.degrees(landscape.azimuths), np.arange(0, 360, 15))
    drawn = np.concatenate([landscape.path, landscape.starts])[:, 1]
    assert landscape.elevations[0] <= drawn.min() and drawn.max() <= landscape.elevations[-1]
    assert landscape.held.shape == (len(landscape.elevations), 24)


def test_held_is_the_energy_of_the_pose_turned(sight: Sight, landscape: Landscape) -> None:
    found = Poses.of(sight.trial.refined, 0)
    turned = turned_to(found, landscape.azimuths[[3]], landscape.elevations[[1]])
    assert sight.energy.evaluate(turned).energy[0] == landscape.held[1, 3]
    assert np.allclose(views_of(turned), [[landscape.azimuths[3], landscape.elevations[1]]])
    same = turned_to(found, *views_of(found).T)
    assert np.allclose(same.R, found.R) and np.array_equal(same.t, found.t)


def test_optimised_is_nowhere_higher_and_keeps_the_view(sight: Sight, landscape: Landscape) -> None:
    assert (landscape.optimised <= landscape.held).all()
    assert landscape.optimised.mean() < landscape.held.mean()
    found = Poses.of(sight.trial.refined, 0)
    views = np.radians([[60.0, 5.0], [75.0, 20.0], [250.0, -10.0]])
    for free in ((True, True), (False, True), (False, False)):
        begin = turned_to(found, *views.T)
        poses, energy = settle(sight.energy, begin, free, 6)
        assert np.allclose(views_of(poses), views, atol=1e-9)
        assert np.allclose(sight.energy.evaluate(poses).energy, energy)
        assert (poses.log_zoom != begin.log_zoom).any() == free[0]
        assert (poses.log_stretch != begin.log_stretch).any() == free[1]


def test_the_deepest_valley_is_where_the_path_ends(landscape: Landscape) -> None:
    azimuth, elevation, energy = landscape.valleys()[0]
    end = np.degrees(landscape.path[-1])
    assert abs(math.remainder(azimuth - end[0], 360)) <= 15 and abs(elevation - end[1]) <= 15
    assert energy == pytest.approx(landscape.optimised.min(), abs=1e-6)
    assert landscape.path_energy[-1] <= landscape.optimised.min() + 1e-3


def test_the_files_tell_the_same(sight: Sight, landscape: Landscape, tmp_path: Path) -> None:
    files = write_landscape(sight, landscape, "a<b>.jpg", tmp_path / "out")
    assert [file.name for file in files] == list(FILES)
    told = json.loads(files[2].read_text())
    assert told["photo"] == "a<b>.jpg"
    assert told["end"]["energy"] == pytest.approx(sight.trial.refined.energy[0], abs=1e-6)
    assert told["end"]["azimuth"] == pytest.approx(70, abs=10)
    assert np.shape(told["energy"]["held"]) == landscape.held.shape
    with Image.open(files[0]) as picture:
        assert picture.width > 900
    page = files[1].read_text()
    assert "a&lt;b&gt;.jpg" in page and "<b>.jpg" not in page
    assert "http://" not in page and "https://" not in page


@pytest.mark.parametrize("grid", [0.5, 7.0, 90.0])
def test_a_grid_divides_the_half_turn(sight: Sight, grid: float) -> None:
    with pytest.raises(InputError, match="E_CONFIG"):
        survey(sight, grid)
