"""Shapes from masks: the true code is found again, from known cameras and from none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import look
from PIL import Image

from featmesh.draws import generator
from featmesh.errors import DatasetError
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import cuboid
from featmesh.learn.silhouette import covered_samples, project
from featmesh.learn.silhouette_fit import (
    ShapeView,
    SilhouetteFitConfig,
    box_camera,
    cut,
    fit_shapes_to_masks,
    shape_view,
)
from featmesh.model.config import DeformationConfig
from featmesh.model.deformation import LinearDeformation
from featmesh.views.record import View

HEIGHT, WIDTH = 240, 320
CAMERA = Camera(420.0, 420.0, 160.0, 120.0, HEIGHT, WIDTH)
STRETCH = ((0.15, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.2))  # of one standard deviation
QUICK = SilhouetteFitConfig(steps=50, prior=1e-4)


def ellipsoid() -> Mesh:
    ball = cuboid((2.0, 2.0, 2.0), (8, 8, 8))
    round_ = ball.vertices / ball.vertices.norm(dim=1, keepdim=True)
    return ball.with_vertices(round_ * torch.tensor([0.2, 0.42, 0.16]))


TEMPLATE = ellipsoid()


def stretchy() -> LinearDeformation:
    """A shape space whose coordinates are width, length and height."""
    config = DeformationConfig(kind="pca", latents=3, symmetric=False)
    space = LinearDeformation(config, TEMPLATE)
    ways = torch.tensor(STRETCH)[:, None] * TEMPLATE.vertices.float()
    space.directions.data.copy_(ways)
    return space


def shaped(code: torch.Tensor) -> torch.Tensor:
    return (TEMPLATE.vertices.float() + stretchy()(code[None])[0]).double().detach()


def mask_of(vertices: torch.Tensor, pose) -> np.ndarray:
    screen = project(pose.apply(vertices), CAMERA)
    return covered_samples(screen, TEMPLATE.faces, (HEIGHT, WIDTH), 1).numpy()


def around(count: int, seed: int = 0):
    rng = generator(seed, "silhouette poses")
    return [
        look(20 + 360 * k / count, rng.uniform(-5, 35), 3 * rng.normal(), 1.8) for k in range(count)
    ]


def views_of(code: torch.Tensor, count: int, name: str = "a", seed: int = 0) -> list[ShapeView]:
    vertices = shaped(code)
    return [ShapeView(cut(mask_of(vertices, p), CAMERA, p), name) for p in around(count, seed)]


@pytest.mark.parametrize("count", [4, 8])
def test_the_true_code_is_found_from_masks(count: int) -> None:
    true = torch.tensor([1.0, -0.8, 0.6])
    fit = fit_shapes_to_masks(stretchy(), TEMPLATE, views_of(true, count), QUICK)
    assert fit.names == ("a",)
    assert (fit.latents[0] - true).abs().max() < 0.06  # standard deviations: 1 % of a side
    assert fit.before.mean() < 0.93 and fit.after.min() > 0.975
    assert not fit.frames.any()


def test_objects_keep_their_own_codes() -> None:
    codes = torch.tensor([[1.0, 0.0, -0.5], [-0.7, 0.5, 0.3]])
    views = views_of(codes[0], 3, "a") + views_of(codes[1], 3, "b", seed=1)
    views = [views[k] for k in (0, 3, 1, 4, 2, 5)]
    fit = fit_shapes_to_masks(stretchy(), TEMPLATE, views, QUICK)
    assert fit.names == ("a", "b")
    assert (fit.latents - codes).abs().max() < 0.06


def test_without_cameras_the_proportions_are_found() -> None:
    """Zoom and size cannot be told apart; which side is how long can."""
    true = torch.tensor([1.0, -0.8, 0.6])
    vertices, views = shaped(true), []
    for pose in around(6):
        mask = mask_of(vertices, pose)
        views.append(ShapeView(cut(mask, box_camera(mask, TEMPLATE, pose), pose), "a", free=True))
    fit = fit_shapes_to_masks(stretchy(), TEMPLATE, views, replace(QUICK, steps=80))
    found = shaped(fit.latents[0]).amax(0) / vertices.amax(0)
    assert (found / found.mean() - 1).abs().max() < 0.01
    assert fit.after.min() > 0.975
    assert (fit.frames != 0).any(1).all()


def test_what_an_occluder_hides_does_not_shrink_the_shape() -> None:
    true = torch.tensor([0.5, 0.8, 0.5])
    vertices, hidden, honest = shaped(true), [], []
    for pose in around(4):
        mask = mask_of(vertices, pose)
        known = np.ones(mask.shape, bool)
        known[:, :110] = known[:, 210:] = False
        hidden.append(ShapeView(cut(mask & known, CAMERA, pose), "a"))
        honest.append(ShapeView(cut(mask & known, CAMERA, pose, known), "a"))
    wrong = fit_shapes_to_masks(stretchy(), TEMPLATE, hidden, QUICK).latents[0]
    right = fit_shapes_to_masks(stretchy(), TEMPLATE, honest, QUICK).latents[0]
    assert (right - true).abs().max() < 0.1
    assert (wrong - true).abs().max() > 0.5


def test_the_shape_space_itself_learns_beside_cads() -> None:
    """Directions that are too short grow, in turns with a loss that knows one of them."""
    space = stretchy()
    with torch.no_grad():
        space.directions.mul_(0.3)
    before, calls = space.directions.detach().clone(), []

    def cad_loss(step: int) -> torch.Tensor:
        calls.append(step)
        return (space.directions - before).square().mean()

    config = replace(QUICK, steps=20, lr_weights=2e-3, batch=3, alternate=True, prior=0.05)
    views = views_of(torch.tensor([1.5, -1.2, 1.0]), 4)
    fit = fit_shapes_to_masks(space, TEMPLATE, views, config, cad_loss)
    assert calls == list(range(1, 20, 2))
    assert not torch.equal(space.directions, before)
    assert fit.after.mean() > fit.before.mean() + 0.02
    calls.clear()
    seen: list[int] = []
    together = replace(config, steps=3, alternate=False)
    fit_shapes_to_masks(space, TEMPLATE, views, together, cad_loss, lambda k, _: seen.append(k))
    assert calls == seen == [0, 1, 2]


def test_the_space_stays_as_it_is_and_the_same_call_gives_the_same_codes() -> None:
    space, views = stretchy(), views_of(torch.tensor([0.5, 0.5, 0.5]), 3)
    before = space.directions.detach().clone()
    config = replace(QUICK, steps=5, batch=2)
    one, two = (fit_shapes_to_masks(space, TEMPLATE, views, config) for _ in range(2))
    assert torch.equal(one.latents, two.latents) and one.latents.any()
    assert torch.equal(space.directions, before) and space.directions.requires_grad


def test_a_part_of_a_photo_keeps_its_camera() -> None:
    pose = around(1)[0]
    mask = mask_of(shaped(torch.zeros(3)), pose)
    small = cut(mask, CAMERA, pose, size=64)
    assert max(small.mask.shape) == 64
    scale = small.camera.fx / CAMERA.fx
    assert float(small.mask.sum()) == pytest.approx(mask.sum() * scale**2, rel=0.03)
    whole = cut(mask, CAMERA, pose, size=1000)  # not enlarged
    assert whole.camera.fx == CAMERA.fx
    views = [ShapeView(part, "a") for part in (small, whole)]
    fit = fit_shapes_to_masks(stretchy(), TEMPLATE, views, replace(QUICK, steps=0))
    assert fit.before.min() > 0.96


def test_outside_the_photo_nothing_is_known() -> None:
    pose = look(40.0, 10.0, 0.0, 1.8)
    mask = mask_of(shaped(torch.zeros(3)), pose)
    left = mask[:, :150]
    part = cut(left, replace(CAMERA, width=150), pose)
    assert 0.1 < float((part.known == 0).float().mean()) < 0.5
    assert float(part.mask[part.known == 0].sum()) == 0
    fit = fit_shapes_to_masks(stretchy(), TEMPLATE, [ShapeView(part, "a")], replace(QUICK, steps=0))
    assert fit.before.min() > 0.96


def record(tmp_path, **changes) -> View:
    pose = look(40.0, 10.0, 0.0, 1.8)
    mask = mask_of(shaped(torch.zeros(3)), pose)
    Image.fromarray(mask.astype(np.uint8) * 7).save(tmp_path / "mask.png")
    view = View(
        image=tmp_path / "photo.png",
        width=WIDTH,
        height=HEIGHT,
        category="car",
        R=pose.R.numpy(),
        K=CAMERA.K.numpy(),
        t=pose.t.numpy(),
        t_unit="object",
        mask=tmp_path / "mask.png",
        model_name="round",
    )
    return replace(view, **changes)


def overlap(view: ShapeView) -> float:
    still = replace(QUICK, steps=0)
    return float(fit_shapes_to_masks(stretchy(), TEMPLATE, [view], still).before)


def test_labelled_photos_become_silhouettes(tmp_path) -> None:
    known = shape_view(record(tmp_path), TEMPLATE)
    assert known.name == "round" and not known.free
    assert overlap(known) > 0.97
    metres = record(tmp_path)
    metres = replace(
        metres, t=metres.t * 5, t_unit="metre", dimensions_lhw=(4.0, 0.0, 3.0), model_name=None
    )
    other = shape_view(metres, TEMPLATE)
    assert other.name == "view 0" and overlap(other) == pytest.approx(overlap(known))
    weak = shape_view(record(tmp_path, K=None, t=None, distance=1.8), TEMPLATE)
    assert weak.free and overlap(weak) > 0.95


def test_views_without_what_is_needed_are_refused(tmp_path) -> None:
    whole = record(tmp_path)
    for changes, got in (
        ({"mask": None}, "no mask"),
        ({"R": None}, "no R"),
        ({"t_unit": "metre"}, "t in metres without dimensions_lhw"),
    ):
        with pytest.raises(DatasetError, match=rf"record 0, got {got}; try: leave") as error:
            shape_view(replace(whole, **changes), TEMPLATE)
        assert error.value.code == "E_VIEWS"
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(DatasetError, match="an empty one"):
        shape_view(whole, TEMPLATE)
    with pytest.raises(DatasetError, match="expected views, got none"):
        fit_shapes_to_masks(stretchy(), TEMPLATE, [])
