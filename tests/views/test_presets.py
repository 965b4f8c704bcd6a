"""Settings of the categories: all twelve are there and can be rendered."""

import numpy as np
import pytest
from views.cad_samples import chair

from featmesh.views.cad_sources import SOURCES
from featmesh.views.generate import GenerateConfig, generate_view
from featmesh.views.materials import dressed
from featmesh.views.presets import PRESETS, SHOWN_IN_CALTECH, preset

TWELVE = (
    "aeroplane bicycle boat bottle bus car chair diningtable motorbike sofa train tvmonitor"
).split()


def test_the_twelve_categories_have_settings():
    assert list(PRESETS) == TWELVE == list(SOURCES)
    assert set(SHOWN_IN_CALTECH) <= set(TWELVE)
    for name, config in PRESETS.items():
        assert config.category == name


def test_cars_keep_the_settings_the_bundled_car_was_trained_with():
    assert preset("car") == GenerateConfig()


def test_a_category_of_ones_own_has_settings():
    assert preset("teapot").category == "teapot"
    assert preset("teapot") != preset("car")


@pytest.mark.parametrize("name", [*TWELVE, "teapot"])
def test_every_category_renders(name):
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    cad = dressed(chair(), name)
    for index in range(4):
        view = generate_view([cad], [picture], 0, index, preset(name))
        assert view.record["category"] == name
        assert view.amodal.any()
        low, high = preset(name).elevation_wide
        mean, deviation = preset(name).elevation
        low, high = min(low, mean - 5 * deviation), max(high, mean + 5 * deviation)
        assert low <= view.record["elevation"] <= high
