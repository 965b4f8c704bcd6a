"""The gradient with moving outlines against finite differences of a supersampled loss."""

import pytest
import torch
from scenes import CAMERA, car, look, rng, smooth_features

from featmesh.geometry.pose import Pose
from featmesh.render.edges import edge_gradient
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import render_features

CHANNELS = 4
FINE = 6  # samples of the expected loss, across and down each pixel


def _squared(shown, wanted):
    return (shown - wanted).square().sum(-1)


def _truncated(shown, wanted):
    """The choice between object and clutter."""
    return _squared(shown, wanted).clamp_max(0.5)


COSTS = (_squared, _truncated)


class _Comparison:
    """A feature picture of a true pose, compared with renderings of another."""

    def __init__(self, start: Pose, truth: Pose, seed: int) -> None:
        self.start = start
        self.vertices, self.faces = car(10)
        self.features = smooth_features(self.vertices, CHANNELS, seed)
        background = torch.randn(CHANNELS, generator=rng(seed), dtype=torch.float64)
        self.background = background / background.norm()
        _, _, self.target = self.render(truth, CAMERA)

    def render(self, pose, camera):
        points = pose.apply(self.vertices)[None]
        fragments = rasterize(points, self.faces, camera)
        image = render_features(self.features, self.faces, fragments, self.background)
        return points, fragments, image[0]

    def enlarged(self, factor):
        target = self.target.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        return target.reshape(-1, CHANNELS)

    def gradient(self, cost, outline=True, factor=1):
        twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        camera = CAMERA.scale(float(factor))
        points, fragments, image = self.render(self.start.update(twist), camera)
        image, target = image.reshape(-1, CHANNELS), self.enlarged(factor)
        loss = cost(image, target).sum()
        if outline:
            term = edge_gradient(
                points,
                self.faces,
                fragments,
                camera,
                lambda source, goal: cost(image[source], target[goal]),
            )
            assert term.item() == 0
            loss = loss + term
        (gradient,) = torch.autograd.grad(loss, twist)
        return gradient / factor**2

    @torch.no_grad()
    def expected(self, step=3e-3):
        """Central differences of the supersampled losses, one row a cost."""
        target = self.enlarged(FINE)

        def losses(twist):
            image = self.render(self.start.update(twist), CAMERA.scale(float(FINE)))[2]
            image = image.reshape(-1, CHANNELS)
            return torch.stack([cost(image, target).sum() for cost in COSTS]) / FINE**2

        steps = step * torch.eye(6, dtype=torch.float64)
        return torch.stack([losses(step) - losses(-step) for step in steps], 1) / (2 * step)


def _cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def _error(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("seed", range(5))
def test_with_outlines_the_gradient_points_where_the_supersampled_loss_falls(seed):
    start = look(0.5 + 1.3 * seed, 0.25, 0.1, 2.4)
    truth = look(0.6 + 1.3 * seed, 0.17, 0.18, 2.55)
    comparison = _Comparison(start, truth, seed)
    for cost, expected in zip(COSTS, comparison.expected(), strict=True):
        blind, whole = comparison.gradient(cost, outline=False), comparison.gradient(cost)
        assert _cosine(whole, expected) > 0.98
        assert _error(whole, expected) < 0.3
        assert _error(whole, expected) < 0.8 * _error(blind, expected)


@pytest.mark.parametrize("seed", range(3, 5))
def test_within_a_pixel_of_the_optimum_a_finer_camera_gives_the_gradient(seed):
    azimuth = 0.5 + 1.3 * seed
    comparison = _Comparison(
        look(azimuth, 0.25, 0.1, 2.4), look(azimuth + 0.06, 0.22, 0.07, 2.45), seed
    )
    for cost, expected in zip(COSTS, comparison.expected(), strict=True):
        coarse, fine = (comparison.gradient(cost, factor=factor) for factor in (1, 4))
        assert _cosine(fine, expected) > 0.97
        assert _error(fine, expected) < 0.8 * _error(coarse, expected)


def test_a_moving_square_changes_the_loss_by_its_outline_only():
    """A square of one feature over background: the loss is an area, its slope a length."""
    camera = CAMERA.crop(40.0, 24.0, 32, 32)
    corners = camera.unproject(torch.tensor([[8.0, 8], [24, 8], [8, 24], [24, 24]])) * 5
    corners = corners.double()
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    points = (corners + shift)[None]
    fragments = rasterize(points, faces, camera)
    inside = fragments.covered.reshape(-1)
    right_half = torch.arange(32 * 32) % 32 >= 16

    def cost(source, target):  # shows the object: 1 on the right half of the picture, 0 elsewhere
        return (inside[source] & right_half[target]).double()

    edge_gradient(points, faces, fragments, camera, cost).backward()
    per_pixel = 190.0 / 5
    expected = torch.tensor([16 * per_pixel, 0, 0]).double()
    # towards the camera (z falls) the right half grows by 8 px at the right, top and bottom edges
    expected[2] = -(16 * 8 + 8 * 8 + 8 * 8) / 5
    torch.testing.assert_close(shift.grad[:2], expected[:2])
    torch.testing.assert_close(shift.grad[2], expected[2], rtol=0.07, atol=0)


def test_folds_of_one_surface_are_no_outlines():
    vertices, faces = car(10)
    points = look(0.5, 0.3).apply(vertices)[None].requires_grad_()
    fragments = rasterize(points, faces, CAMERA)
    count = fragments.covered.numel()
    seen = torch.zeros(count, dtype=torch.bool)

    def cost(source, target):
        seen[source] = True
        return torch.zeros(len(source), dtype=torch.float64)

    edge_gradient(points, faces, fragments, CAMERA, cost).backward()
    assert (points.grad == 0).all()
    empty = torch.nn.functional.pad(~fragments.covered[0], (1, 1, 1, 1))
    beside = empty[:-2, 1:-1] | empty[2:, 1:-1] | empty[1:-1, :-2] | empty[1:-1, 2:]
    covered, silhouette = fragments.covered.reshape(-1), beside.reshape(-1)
    assert seen[covered & silhouette].all()
    assert seen[covered & ~silhouette].double().mean() < 0.05  # the car's own occlusions


def test_nothing_visible_gives_no_gradient():
    vertices, faces = car(4)
    points = (vertices - torch.tensor([0.0, 0, 9]).double())[None].requires_grad_()
    fragments = rasterize(points, faces, CAMERA)
    term = edge_gradient(points, faces, fragments, CAMERA, lambda s, t: torch.ones(len(s)))
    term.backward()
    assert (points.grad == 0).all()
