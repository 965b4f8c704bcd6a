import pytest
import torch
from torch.nn import functional

from featmesh.model.clutter import cluster, clutter_score, push


def groups(seed: int, count: int = 4, each: int = 60, spread: float = 0.05):
    """Return unit features around orthogonal directions, and these directions."""
    draw = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(16, 16, generator=draw))[0][:count]
    noise = spread * torch.randn(count, each, 16, generator=draw)
    features = functional.normalize((directions[:, None] + noise).reshape(-1, 16), dim=1)
    return features[torch.randperm(len(features), generator=draw)], directions


@pytest.mark.parametrize("seed", range(5))
def test_every_separated_group_gets_a_centre_of_its_own(seed: int) -> None:
    features, directions = groups(seed)
    centres = cluster(features, 16, torch.Generator().manual_seed(seed))
    assert centres.shape == (16, 16)
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(16))
    nearest = directions @ centres.T
    assert float(nearest.amax(1).min()) > 0.97  # no group without a centre
    assert float(nearest.amax(0).min()) > 0.95  # no centre between groups


def test_one_centre_is_the_direction_of_the_mean() -> None:
    features, _ = groups(0)
    centre = cluster(features, 1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(centre, functional.normalize(features.mean(0, keepdim=True), dim=1))


def test_more_centres_explain_the_background_better() -> None:
    features, _ = groups(1, count=12, spread=0.2)
    told = []
    for k in (1, 4, 16, 64):
        centres = cluster(features, k, torch.Generator().manual_seed(0))
        told.append(float(clutter_score(features, centres).mean()))
    assert told == sorted(told)


def test_centres_come_from_their_key_and_leave_the_features() -> None:
    features, _ = groups(2)
    before = features.clone()
    first, again = (cluster(features, 5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(features, before)


def test_a_centre_nobody_is_near_stays_where_it_is() -> None:
    features = torch.eye(4)[[0, 0, 0]]  # three centres on one spot: the first takes all
    centres = cluster(features, 3, torch.Generator().manual_seed(0))
    assert torch.equal(centres, torch.eye(4)[[0, 0, 0]])


def test_the_queue_keeps_its_length_newest_first() -> None:
    queue = torch.arange(8.0).view(4, 2)
    fresh = torch.tensor([[50.0, 51], [60, 61]], requires_grad=True)
    moved = push(queue, fresh)
    assert moved.tolist() == [[50, 51], [60, 61], [0, 1], [2, 3]]
    assert not moved.requires_grad
    assert torch.equal(push(queue, torch.zeros(0, 2)), queue)
    assert push(queue, torch.ones(9, 2)).tolist() == [[1, 1]] * 4


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_the_score_is_the_cosine_of_the_best_centre(shape: tuple[int, ...]) -> None:
    centres = torch.eye(4)[:2]
    features = torch.tensor([0.6, 0.8, 0.0, 0.0]).expand(*shape, 4)
    torch.testing.assert_close(clutter_score(features, centres), torch.full(shape, 0.8))
