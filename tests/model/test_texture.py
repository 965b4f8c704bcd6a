import math

import pytest
import torch
from torch.nn import functional

from featmesh.model.texture import initial_texture, momentum_update, near_anchors

E1, E2, E3 = torch.eye(3, dtype=torch.float64)


def test_the_mean_is_over_the_times_an_anchor_was_seen() -> None:
    texture = torch.stack([E1, E1, E1])
    features = torch.stack([E2, E3, E2])
    moved, seen = momentum_update(texture, features, torch.tensor([0, 0, 2]), 0.6)
    assert seen.tolist() == [True, False, True]
    # .6 e1 + .4 (e2 + e3) / 2 and .6 e1 + .4 e2, brought to length 1
    first = torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64) / math.sqrt(0.44)
    third = torch.tensor([0.6, 0.4, 0.0], dtype=torch.float64) / math.sqrt(0.52)
    torch.testing.assert_close(moved, torch.stack([first, E1, third]))


@pytest.mark.parametrize("repeats", [1, 7])
def test_a_feature_seen_often_moves_its_anchor_as_far_as_one_seen_once(repeats: int) -> None:
    texture = torch.stack([E1, E2])
    anchor = torch.zeros(repeats, dtype=torch.long)
    moved, _ = momentum_update(texture, E3.expand(repeats, 3), anchor, 0.9)
    expected = functional.normalize(0.9 * E1 + 0.1 * E3, dim=0)
    torch.testing.assert_close(moved, torch.stack([expected, E2]))


def test_what_other_anchors_see_changes_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    texture = initial_texture(6, 8, draw)
    features = initial_texture(20, 8, draw)
    anchor = torch.arange(20) % 6
    together, _ = momentum_update(texture, features, anchor, 0.8)
    for k in range(6):
        alone, seen = momentum_update(texture, features[anchor == k], anchor[anchor == k], 0.8)
        assert seen.nonzero().flatten().tolist() == [k]
        torch.testing.assert_close(alone[k], together[k])


def test_momentum_1_keeps_and_0_replaces() -> None:
    texture, anchor = torch.stack([E1]), torch.tensor([0])
    torch.testing.assert_close(momentum_update(texture, E2[None], anchor, 1.0)[0], texture)
    torch.testing.assert_close(momentum_update(texture, E2[None], anchor, 0.0)[0], E2[None])


def test_nothing_seen_changes_nothing() -> None:
    texture = torch.stack([E1, E2])
    nothing = torch.zeros(0, dtype=torch.long)
    moved, seen = momentum_update(texture, torch.zeros(0, 3, dtype=torch.float64), nothing, 0.5)
    assert torch.equal(moved, texture) and not seen.any()


def test_the_update_passes_no_gradient_and_leaves_its_input() -> None:
    texture = torch.stack([E1])
    features = E2[None].clone().requires_grad_()
    moved, _ = momentum_update(texture, features, torch.tensor([0]), 0.5)
    assert not moved.requires_grad
    assert torch.equal(texture, E1[None])


def test_the_texture_begins_as_unit_vectors_of_its_key() -> None:
    first, again = (initial_texture(50, 8, torch.Generator().manual_seed(3)) for _ in range(2))
    other = initial_texture(50, 8, torch.Generator().manual_seed(4))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(50))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_near_anchors_are_those_within_the_radius_but_not_itself() -> None:
    line = torch.tensor([[0.0, 0, 0], [0.05, 0, 0], [0.15, 0, 0]])
    expected = [[False, True, False], [True, False, False], [False, False, False]]
    assert near_anchors(line, 0.08).tolist() == expected
    assert near_anchors(line.double(), 0.11).sum() == 4
