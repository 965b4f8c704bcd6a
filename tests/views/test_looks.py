"""Looks of dressed CADs: of every category they are drawn, keyed, and show what they should."""

import numpy as np
import pytest
from views.cad_samples import chair, screen

from featmesh.draws import generator
from featmesh.views.looks import LIVERIES, PALETTES, draw_colour, draw_looks
from featmesh.views.materials import RULES, dressed
from featmesh.views.scene import build_scene

PICTURES = [np.full((20, 30, 3), (250, 10, 10), np.uint8)]


def looks(category, seed, cad=None):
    scene = build_scene(dressed(cad or chair(), category))
    return scene, draw_looks(generator(seed, "t"), scene, category, PICTURES)


@pytest.mark.parametrize("category", list(RULES))
def test_every_part_gets_a_colour_a_surface_and_its_bitmap(category):
    scene, (paint, surface, bitmaps, texels) = looks(category, 0)
    assert paint.shape == (len(scene.materials), 3) and surface.shape == (len(paint), 4)
    assert ((paint >= 0) & (paint <= 1)).all()
    assert ((surface[:, 3] > 0.3) & (surface[:, 3] <= 1)).all()
    ends = bitmaps[:, 0] + bitmaps[:, 1] * bitmaps[:, 2]
    assert ends.max() <= len(texels)
    assert np.isfinite(texels).all() and texels.min() >= 0
    for name in scene.materials:
        assert name.split(".")[0] in PALETTES


def test_the_key_decides():
    first, again = looks("bus", 3)[1], looks("bus", 3)[1]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], looks("bus", 4)[1][0])


def test_some_screens_show_a_picture():
    shown = 0
    for seed in range(20):
        _, (_, _, bitmaps, texels) = looks("tvmonitor", seed, screen())
        first, height, width = bitmaps[0]
        bitmap = texels[first : first + height * width].reshape(height, width, 5)
        front = bitmap[: height // 2, width // 2 :]
        red = (front[..., 3] == 0) & (front[..., 0] > 0.9) & (front[..., 1] < 0.01)
        assert not (bitmap[height // 2 :, :, 0] > 0.9).any()  # only in front
        shown += red.mean() > 0.5
    assert 4 <= shown <= 16


@pytest.mark.parametrize("kind", ["any", "white", "grey", "dark", "metal", "wood", "brown"])
def test_colours_are_colours(kind):
    for seed in range(30):
        colour = draw_colour(generator(seed, "c"), kind)
        assert colour.shape == (3,) and ((colour >= 0) & (colour <= 1)).all()
        if kind in ("wood", "brown"):
            assert colour[0] > colour[1] > colour[2]


def test_liveries_are_of_categories_that_are_dressed():
    assert set(LIVERIES) <= set(RULES)
