"""The script that draws the method from a photo."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixtures import box_of, car_model, look, photo_of

from featmesh.apps.sight import Sight, look_closely
from featmesh.geometry.camera import Camera
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig

CAMERA = Camera(330.0, 330.0, 168.0, 112.0, 224, 336)
POSE = look(70.0, 12.0, 3.0, 2.6)
CONFIG = EstimateConfig(ScanConfig(azimuths=12), RefineConfig(steps=20, polish=3))


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    path = Path(__file__).parents[1] / "examples" / "figure1.py"
    return SimpleNamespace(**runpy.run_path(str(path), run_name="figure1"))


@pytest.fixture(scope="module")
def sight() -> Sight:
    return look_closely(car_model(), photo_of(POSE, CAMERA), box_of(POSE, CAMERA), config=CONFIG)


def test_the_figure_has_six_panels(script: SimpleNamespace, sight: Sight) -> None:
    pixels = np.asarray(script.draw_figure(sight))
    height, width = script.PANEL
    for row in range(2):
        for column in range(3):
            y = script.GAP + row * (height + script.CAPTION + script.GAP)
            x = script.GAP + column * (width + script.GAP)
            panel = pixels[y : y + height, x : x + width].reshape(-1, 3)
            assert len(np.unique(panel, axis=0)) > 40, (row, column)


def test_equal_features_have_equal_colours(script: SimpleNamespace) -> None:
    some = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(1))
    first, second = script.common_colours(some, some[2:4].reshape(10, 8))
    assert first.shape == (6, 5, 3) and second.shape == (1, 10, 3)
    assert np.array_equal(first[2:4].reshape(10, 3), second[0])
