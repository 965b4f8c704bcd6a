"""Claims about learning a gist: it finds what maps show, and does not take others for it."""

import math

import pytest
import torch

from featmesh.errors import FeatmeshError
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.learn.gist_training import Seen, learn_gist, view_labels
from featmesh.model.gist import AZIMUTHS

GREY = 0.3  # of noise


def shown(count, seed, there=True):
    """Maps on which a view is written: sine and cosine of the azimuth, the elevation."""
    draw = torch.Generator().manual_seed(seed)
    azimuth = torch.rand(count, generator=draw, dtype=torch.float64) * 2 * math.pi
    elevation = torch.rand(count, generator=draw, dtype=torch.float64) * 0.8 - 0.2
    told = torch.stack([azimuth.cos(), azimuth.sin(), 2 * elevation, torch.ones(count)], 1)
    told = told if there else 0 * told
    maps = told[:, :, None, None].expand(-1, -1, 4, 6)
    noise = torch.randn(maps.shape, generator=draw, dtype=torch.float64)
    R = rotation_from_angles(azimuth, elevation, torch.zeros_like(azimuth))
    return Seen((maps + GREY * noise).half(), R.float())


def test_it_tells_presence_and_view_of_crops_it_has_not_seen():
    head = learn_gist(shown(320, 0), [shown(200, 1, False).maps, shown(120, 2, False).maps])
    new, bare = shown(100, 3), shown(100, 4, False)
    there = [g.presence for g in head.look([torch.zeros(100, 0, 8, 12), new.maps.float()])]
    away = [g.presence for g in head.look([torch.zeros(100, 0, 8, 12), bare.maps.float()])]
    assert sum(p > 0 for p in there) >= 97 and sum(p < 0 for p in away) >= 97
    looks = head.look([torch.zeros(100, 0, 8, 12), new.maps.float()])
    near = [float(g.log_view(R[None])[0]) > -2 for g, R in zip(looks, new.R, strict=True)]
    assert sum(near) >= 90
    far = new.R @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))  # seen from the other side
    assert sum(float(g.log_view(R[None])[0]) > -2 for g, R in zip(looks, far, strict=True)) <= 3


def test_maps_that_are_not_finite_teach_nothing():
    broken = shown(64, 0)
    broken.maps[5, 0, 0, 0] = math.nan
    with pytest.raises(FeatmeshError, match="finite gist loss") as got:
        learn_gist(broken, [shown(64, 1, False).maps])
    assert got.value.code == "E_NONFINITE"


def test_the_same_seed_learns_the_same():
    own, others = shown(64, 0), [shown(64, 1, False).maps]
    one, two, other = (learn_gist(own, others, seed) for seed in (0, 0, 1))
    assert all(v.equal(two.state_dict()[k]) for k, v in one.state_dict().items())
    assert not one.azimuth.weight.equal(other.azimuth.weight)


def test_labels_are_probabilities_around_the_view():
    around, up = view_labels(shown(50, 5).R)
    torch.testing.assert_close(around.sum(1), torch.ones(50))
    torch.testing.assert_close(up.sum(1), torch.ones(50))
    angles = torch.tensor([[5.0, 25.0, 355.0], [5.0, 35.0, 15.0], [0.0] * 3]).double().deg2rad()
    around, up = view_labels(rotation_from_angles(*angles).float())
    assert around.argmax(1).tolist() == [0, 2, AZIMUTHS - 1]
    assert up.argmax(1).tolist() == [3, 6, 4]
