"""Local group norm: the crop's statistics in the map of a whole photo."""

import torch

from featmesh.model.norm import LocalGroupNorm


def norm() -> LocalGroupNorm:
    torch.manual_seed(0)
    made = LocalGroupNorm(2, 6)
    with torch.no_grad():
        made.weight.uniform_(0.5, 2)
        made.bias.uniform_(-1, 1)
    return made


def test_without_a_window_it_is_torchs():
    x, made = torch.randn(2, 6, 9, 11), norm()
    there = torch.nn.functional.group_norm(x, 2, made.weight, made.bias, made.eps)
    assert torch.equal(made(x), there)
    assert torch.equal(made(x, (9, 11)), there)


def test_a_cell_is_normalised_by_the_window_about_it():
    x, made = torch.randn(1, 6, 20, 30), norm()
    crop = made(x[..., 4:11, 6:15])  # 7 x 9 about row 7, column 10
    assert torch.allclose(made(x, (7, 9))[..., 7, 10], crop[..., 3, 4], atol=1e-5)


def test_what_lies_far_away_changes_nothing():
    x, made = torch.randn(1, 6, 20, 40), norm()
    loud = x.clone()
    loud[..., 25:] *= 50
    assert torch.allclose(made(x, (5, 7))[..., :20], made(loud, (5, 7))[..., :20], atol=1e-5)
    assert not torch.allclose(made(x)[..., :20], made(loud)[..., :20], atol=0.1)


def test_at_the_border_the_window_is_what_lies_inside():
    x, made = torch.randn(1, 6, 12, 12), norm()
    corner = made(x[..., :4, :4])
    assert torch.allclose(made(x, (7, 7))[..., 0, 0], corner[..., 0, 0], atol=1e-5)
