"""Claims about the losses: the golden values of spec 6.4, and what pushes and what does not."""

import math

import pytest
import torch

from featmesh.learn.losses import background_loss, contrastive_logits, contrastive_loss

D = torch.float64
FEATURES = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0.6, 0.8, 0, 0]], dtype=D)
TEXTURE = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.6, 0.8, 0]], dtype=D)
CLUTTER = torch.tensor([[0, 0, 0, 1], [0.6, 0, 0.8, 0]], dtype=D)
ANCHOR = torch.tensor([0, 1, 2])
NEAR = torch.tensor([[False, True, False], [True, False, False], [False, False, False]])


def test_golden_values():
    rows = contrastive_loss(FEATURES, ANCHOR, TEXTURE, CLUTTER, NEAR)
    torch.testing.assert_close(
        rows, torch.tensor([1.7e-5, 0.003293, 4.637015], dtype=D), atol=6e-7, rtol=0
    )
    assert float(rows.mean()) == pytest.approx(1.546775, abs=6e-7)


def test_the_formula_written_out():
    rows = contrastive_loss(FEATURES, ANCHOR, TEXTURE, CLUTTER, NEAR, 0.2, 0.1)
    for i, f in enumerate(FEATURES):
        own = math.exp(float(f @ TEXTURE[i]) / 0.2)
        others = sum(
            math.exp(float(f @ TEXTURE[r]) / 0.2) for r in range(3) if r != i and not NEAR[i, r]
        )
        clutter = 0.1 * sum(math.exp(float(f @ b) / 0.2) for b in CLUTTER)
        assert float(rows[i]) == pytest.approx(-math.log(own / (own + others + clutter)))


def test_near_anchors_are_not_told_apart():
    """The wrong one of two near anchors costs nothing; of two far ones it costs much."""
    middle = torch.tensor([[0.5**0.5, 0.5**0.5, 0, 0]], dtype=D)
    near = contrastive_loss(middle, ANCHOR[:1], TEXTURE, CLUTTER, NEAR)
    far = contrastive_loss(middle, ANCHOR[:1], TEXTURE, CLUTTER, torch.zeros_like(NEAR))
    assert float(far) == pytest.approx(math.log(2), abs=0.02)
    assert float(near) < 0.02
    logits = contrastive_logits(FEATURES, ANCHOR, TEXTURE, CLUTTER, NEAR, 0.07, 0.005)
    assert logits.shape == (3, 5)
    assert bool((logits.softmax(1)[:, :3][NEAR] == 0).all())


def test_clutter_counts_with_its_weight():
    f, anchor, texture = FEATURES[:1], ANCHOR[:1], TEXTURE[:1]
    near = torch.zeros(1, 1, dtype=torch.bool)
    same = FEATURES[:1]  # clutter that looks like the anchor
    for weight in (0.005, 0.5):
        loss = contrastive_loss(f, anchor, texture, same, near, 0.07, weight)
        assert float(loss) == pytest.approx(math.log(1 + weight))
        twice = contrastive_loss(f, anchor, texture, same.repeat(2, 1), near, 0.07, weight)
        assert float(twice) == pytest.approx(math.log(1 + 2 * weight))
        back = background_loss(f, texture, same, 0.07, weight)
        assert float(back) == pytest.approx(-math.log(weight / (1 + weight)))


def test_the_background_loss_written_out():
    rows = background_loss(FEATURES, TEXTURE, CLUTTER, 0.2, 0.1)
    for i, f in enumerate(FEATURES):
        objects = sum(math.exp(float(f @ a) / 0.2) for a in TEXTURE)
        others = 0.1 * sum(math.exp(float(f @ b) / 0.2) for b in CLUTTER)
        assert float(rows[i]) == pytest.approx(-math.log(others / (objects + others)))


def test_no_overflow_where_all_is_alike():
    f = FEATURES[:1].float()
    for loss in (
        contrastive_loss(f, ANCHOR[1:2], TEXTURE.float(), CLUTTER.float(), NEAR, 1e-3),
        background_loss(f, TEXTURE.float(), CLUTTER.float(), 1e-3),
    ):
        assert bool(loss.isfinite().all())


def test_gradients():
    f = FEATURES.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: contrastive_loss(x, ANCHOR, TEXTURE, CLUTTER, NEAR, 0.2), f
    )
    assert torch.autograd.gradcheck(lambda x: background_loss(x, TEXTURE, CLUTTER, 0.2), f)
    contrastive_loss(f, ANCHOR, TEXTURE, CLUTTER, NEAR).sum().backward()
    assert float(f.grad[2] @ (TEXTURE[2] - TEXTURE[1])) < 0  # downhill lies the right anchor
