"""Claims about the gist of a crop: it ranks views, and comes back with its model."""

import math

import pytest
import torch
from fixtures import look

from featmesh.errors import CheckpointError
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.model.gist import AZIMUTHS, DOUBT, ELEVATIONS, Gist, GistHead, gist_of, write_gist


def certain(azimuth_deg, elevation_deg):
    """A look that is all but certain of one bin of each."""
    around, up = torch.full((AZIMUTHS,), -30.0), torch.full((ELEVATIONS[2],), -30.0)
    around[int(azimuth_deg / (360 / AZIMUTHS))] = 30.0
    up[round((elevation_deg - ELEVATIONS[0]) / 10)] = 30.0
    return Gist(0.0, around.log_softmax(0), up.log_softmax(0))


def rotation(azimuth, elevation, theta=0.0):
    return rotation_from_angles(*torch.tensor([azimuth, elevation, theta]).double().deg2rad())


@pytest.mark.parametrize("azimuth", [5.0, 95.0, 275.0, 355.0])
def test_the_view_it_is_sure_of_is_the_likeliest(azimuth):
    told = certain(azimuth, 15.0)
    grid = [(a, e) for a in range(0, 360, 5) for e in range(-20, 60, 5)]
    likely = told.log_view(torch.stack([rotation(a, e) for a, e in grid]))
    best = grid[int(likely.argmax())]
    assert best == (azimuth, 15)
    assert float(likely.max()) == pytest.approx(0.0, abs=1e-9)


def test_turns_in_the_picture_plane_say_nothing():
    told = certain(45.0, 5.0)
    turned = told.log_view(torch.stack([rotation(45, 5, t) for t in (-20, 0, 20)]))
    torch.testing.assert_close(turned, torch.zeros(3, dtype=turned.dtype), atol=1e-6, rtol=0)


def test_a_look_may_be_wrong():
    """However sure it is, it leaves every view possible."""
    worst = float(certain(45.0, 5.0).log_view(rotation(225, 65)[None])[0])
    floor = math.log(DOUBT / AZIMUTHS) + math.log(DOUBT / ELEVATIONS[2])
    assert floor - 0.2 < worst < floor + 0.2


def test_it_goes_round_without_a_seam():
    told = certain(355.0, 5.0)
    left, right = told.log_view(torch.stack([rotation(359.99, 5), rotation(0.01, 5)]))
    assert float(left) == pytest.approx(float(right), abs=0.05)
    assert float(left) > float(told.log_view(rotation(20, 5)[None])[0])


def test_elevations_beyond_the_bins_are_those_of_the_last():
    told = certain(45.0, 85.0)
    high = told.log_view(look(45, 89, 0, 2.0).R[None].double())
    assert float(high[0]) == pytest.approx(0.0, abs=0.05)


def test_it_reads_the_coarsest_maps_of_each_picture():
    torch.manual_seed(0)
    head = GistHead(12)
    maps = [torch.randn(3, c, 32 // s, 48 // s) for c, s in ((4, 1), (5, 2), (7, 4))]
    told = head.look(maps)
    again = head.look([torch.full_like(maps[0], math.nan), maps[1], maps[2]])
    assert [t.presence for t in told] == [t.presence for t in again]
    assert len({t.presence for t in told}) == 3
    assert float(told[0].azimuth.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    alone = head.look([m[1:2] for m in maps])[0]
    torch.testing.assert_close(alone.azimuth, told[1].azimuth, atol=1e-5, rtol=0)


def test_a_folder_without_one_has_none_and_a_broken_one_is_refused(tmp_path):
    assert gist_of({"texture": torch.zeros(3)}, tmp_path) is None
    state = {f"gist.{k}": v for k, v in GistHead(12).state_dict().items()}
    assert gist_of(state, tmp_path) is not None  # as folders were written at first
    for bad in ({**state, "gist.enter.weight": torch.zeros(3)}, {"gist.mean": torch.zeros(12)}):
        with pytest.raises(CheckpointError, match="the tensors of a gist") as got:
            gist_of(bad, tmp_path)
        assert got.value.code == "E_CKPT_CONFIG"


def test_it_lies_in_a_file_of_its_own_that_cannot_be_changed_unnoticed(tmp_path):
    torch.manual_seed(1)
    row = write_gist(GistHead(12), tmp_path)
    found = gist_of({}, tmp_path, row)
    again = gist_of({"gist.mean": torch.zeros(3)}, tmp_path, row)  # the file counts
    assert found is not None and again is not None
    maps = [torch.randn(1, 5, 8, 12), torch.randn(1, 7, 4, 6)]
    assert found.look(maps)[0].presence == again.look(maps)[0].presence
    path = tmp_path / row["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for wrong, code in ((row, "HASH"), ({**row, "file": "../a.safetensors"}, "PATH")):
        with pytest.raises(CheckpointError) as got:
            gist_of({}, tmp_path, wrong)
        assert got.value.code == f"E_CKPT_{code}"
    path.unlink()
    with pytest.raises(CheckpointError, match=r"E_CKPT_MISSING.*gist"):
        gist_of({}, tmp_path, row)
