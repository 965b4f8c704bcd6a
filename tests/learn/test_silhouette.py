"""Silhouette losses: values by hand, and slopes against a supersampled loss."""

import pytest
import torch
from fixtures import car_mesh, look
from scipy import ndimage
from torch.nn import functional

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.learn.silhouette import (
    MISSING,
    Silhouette,
    SilhouetteWeights,
    covered_samples,
    project,
    shares,
    silhouette_loss,
)

MESH = car_mesh()
CAMERA = Camera(150.0, 150.0, 48.0, 32.0, 64, 96)
OVERLAP = SilhouetteWeights(1.0, 0.0, 0.0)
OUTSIDE = SilhouetteWeights(0.0, 1.0, 0.0)
LACKING = SilhouetteWeights(0.0, 0.0, 1.0)


def directions() -> torch.Tensor:
    """Ways to bend the car: length, width, height, cabin, nose, waves."""
    x, y, z = MESH.vertices.unbind(1)
    o = torch.zeros_like(x)
    fields = [
        (x, o, o),
        (o, y, o),
        (o, o, z),
        (o, o, z.clamp_min(0) * torch.sigmoid((y + 0.1) / 0.05)),
        (x * torch.sigmoid(-(y + 0.2) / 0.05), o, o),
        (o, o, 0.1 * torch.sin(8 * y)),
    ]
    return torch.stack([torch.stack(field, 1) for field in fields])


BENDS = directions()


def bent(code: torch.Tensor) -> torch.Tensor:
    return MESH.vertices + torch.einsum("d,dvx->vx", code, BENDS)


def area_of(vertices: torch.Tensor, pose: Pose, fine: int) -> tuple[torch.Tensor, torch.Tensor]:
    screen = project(pose.apply(vertices), CAMERA)
    samples = covered_samples(screen, MESH.faces, (64, 96), fine)
    return shares(samples.numpy(), fine).double(), samples


def seen(code: torch.Tensor, pose: Pose, known: torch.Tensor | None = None) -> Silhouette:
    return Silhouette.of(area_of(bent(code), pose, 8)[0], CAMERA, pose, known)


def supersampled(code: torch.Tensor, truth: Silhouette, fine: int = 16) -> torch.Tensor:
    """The three terms from a picture of 16 x 16 samples a pixel, no outline anywhere."""
    area, samples = area_of(bent(code), truth.cam_from_obj, fine)
    m, k, size = truth.mask, truth.known, truth.size
    overlap = (torch.minimum(area, m) * k).sum() / (torch.maximum(area, m) * k).sum()
    outside = (area * truth.outside * k).sum() / size**3
    away = torch.from_numpy(ndimage.distance_transform_edt(~samples.numpy())) / fine
    away = away[fine // 2 :: fine, fine // 2 :: fine]
    lacking = functional.threshold((m - area) * k, MISSING, 0.0)
    missing = (((away.square() + 0.25).sqrt() - 0.5) * lacking).sum() / size**3
    return torch.stack([1 - overlap, outside, missing])


@pytest.mark.parametrize("case", range(4))
def test_the_slope_is_that_of_the_supersampled_loss(case: int) -> None:
    draw = torch.Generator().manual_seed(case)
    true = 0.2 * torch.randn(len(BENDS), generator=draw).double()
    known = None
    if case == 3:  # something stands before the car
        known = torch.ones(64, 96).double()
        known[:, 35:50] = 0
    truth = seen(true, look(20 + 70.0 * case, 5 + 8.0 * case, 3.0, 2.0), known)
    here, step = torch.zeros(len(BENDS)).double(), 0.006
    steps = step * torch.eye(len(BENDS)).double()
    pairs = [(supersampled(s, truth), supersampled(-s, truth)) for s in steps]
    wanted = torch.stack([(a - b) / (2 * step) for a, b in pairs], 1)
    for weights, expected, tight in (
        (OVERLAP, wanted[0], 0.975),
        (OUTSIDE, wanted[1], 0.995),
        (LACKING, wanted[2], 0.97),
        (SilhouetteWeights(), wanted.sum(0), 0.975),
    ):
        code = here.clone().requires_grad_()
        loss = silhouette_loss(bent(code), MESH.faces, truth, weights)
        (slope,) = torch.autograd.grad(loss.total, code)
        assert functional.cosine_similarity(slope, expected, dim=0) > tight
        assert (slope - expected).norm() < 0.2 * expected.norm()
    values = torch.tensor([1 - loss.iou, loss.outside, loss.missing]).double()
    torch.testing.assert_close(values, supersampled(here, truth), atol=2e-3, rtol=0)


def square(at: tuple[float, float], side: float) -> torch.Tensor:
    """The corners of a square that faces the camera of ``BOARD``, pixels there."""
    x, y = at
    return torch.tensor(
        [[x, y, 5.0], [x + side, y, 5], [x, y + side, 5], [x + side, y + side, 5]]
    ).double() * torch.tensor([0.01, 0.01, 1.0])


BOARD = Camera(500.0, 500.0, 0.0, 0.0, 32, 40)
FACES = torch.tensor([[0, 2, 1], [1, 2, 3]])
STILL = Pose.identity()


def board(known: torch.Tensor | None = None) -> Silhouette:
    """A mask of 10 x 10 pixels, its corner at (10, 10)."""
    mask = torch.zeros(32, 40).double()
    mask[10:20, 10:20] = 1
    return Silhouette.of(mask, BOARD, STILL, known)


def test_a_perfect_fit_costs_nothing() -> None:
    loss = silhouette_loss(square((10, 10), 10), FACES, board())
    assert (loss.iou, loss.outside, loss.missing) == (1, 0, 0)
    assert float(loss.total) == 0


def test_a_shifted_square_by_hand() -> None:
    loss = silhouette_loss(square((14, 10), 10), FACES, board())
    assert loss.iou == pytest.approx(60 / 140)
    # four columns of ten pixels outside, .5 to 3.5 pixels from the mask, whose size is 10
    assert loss.outside == pytest.approx(10 * (0.5 + 1.5 + 2.5 + 3.5) / 1000)
    # and four that lack, as far from the outline; smoothed below a pixel
    distances = torch.tensor([0.5, 1.5, 2.5, 3.5]).double()
    lacking = 10 * ((distances**2 + 0.25).sqrt() - 0.5).sum() / 1000
    assert loss.missing == pytest.approx(float(lacking), rel=0.02)
    assert float(loss.total.detach()) == pytest.approx(1 - loss.iou + loss.outside + loss.missing)


def test_the_slope_of_a_shift_by_hand() -> None:
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    vertices = square((14, 10), 10) + shift
    silhouette_loss(vertices, FACES, board(), OUTSIDE).total.backward()
    # to the right its last column, 4 pixels off, grows, and the first, inside, shrinks for nothing
    expected = 100.0 * 10 * 4.0 / 1000  # 100 pixels for each unit
    assert float(shift.grad[0]) == pytest.approx(expected, rel=0.01)
    assert abs(float(shift.grad[1])) < 0.02 * expected


def test_what_is_not_known_costs_nothing() -> None:
    known = torch.ones(32, 40).double()
    known[:, 20:] = 0
    truth = board(known)
    assert (truth.outside[:, 20:] == 0).all()
    vertices = square((10, 10), 10)
    vertices[[1, 3], 0] += 0.08  # 8 pixels wider, behind the occluder
    vertices.requires_grad_()
    loss = silhouette_loss(vertices, FACES, truth)
    assert (loss.iou, loss.outside, loss.missing) == (1, 0, 0)
    loss.total.backward()
    assert vertices.grad[[1, 3], 0].abs().max() == 0


def test_far_from_the_mask_the_missing_part_still_pulls() -> None:
    """No overlap, no slope of the overlap; the outline is drawn to the mask all the same."""
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    vertices = square((28, 10), 8) + shift
    loss = silhouette_loss(vertices, FACES, board())
    loss.total.backward()
    assert loss.iou == 0 and loss.missing > 0.5
    assert shift.grad[0] > 0.1  # to the left the loss falls


def test_a_mesh_outside_the_picture_is_no_error() -> None:
    vertices = square((100, 100), 8).requires_grad_()
    loss = silhouette_loss(vertices, FACES, board())
    loss.total.backward()
    assert loss.iou == 0 and float(vertices.grad.abs().max()) == 0


def test_masks_and_poses_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="mask that shows the object, got 0 pixels") as got:
        Silhouette.of(torch.zeros(8, 8), BOARD, STILL)
    assert got.value.code == "E_MASK"
    with pytest.raises(InputError, match="none of them known"):
        Silhouette.of(torch.ones(8, 8), BOARD, STILL, torch.zeros(8, 8))
    with pytest.raises(InputError, match="4 vertices behind it; try: check t") as got:
        silhouette_loss(-square((10, 10), 10), FACES, board())
    assert got.value.code == "E_POSE"
