"""Claims about training crops: whatever is done to the pixels is done to the anchors.

The photos show a car painted with its own coordinates, so that each pixel says which point of the
surface it shows.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_views, paint, picture
from PIL import Image

from featmesh.draws import generator
from featmesh.evaluate.metrics import rotation_error
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import procrustes
from featmesh.geometry.template import mirror_index
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.learn import augment
from featmesh.learn.augment import Scenery, draw_crop
from featmesh.learn.config import AugmentConfig
from featmesh.learn.correspondence import sample_of

SIZE = (96, 144)
MIRROR = mirror_index(car_mesh()).numpy()
BLACK = Scenery((np.zeros((80, 90, 3), np.uint8),), MIRROR)
PLAIN = AugmentConfig(occlude=0.0, context=0.0, coarse=0.0)
PAINT = paint(car_mesh()).numpy()
DARK = 130  # the background's colours and grey lie below, the car's above
SEEDS = range(12)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    return [sample_of(v, car_mesh()) for v in car_views(folder, 6, (160, 224))]


@pytest.fixture
def same_light(monkeypatch):
    """Crops keep the photo's colours."""
    monkeypatch.setattr(augment, "_recolour", lambda pixels, rng: pixels)
    monkeypatch.setattr(augment, "_coarsen", lambda pixels, height, config, rng: pixels)


def crop_of(sample, seed, config=PLAIN, scenery=BLACK, size=SIZE):
    return draw_crop(sample, size, scenery, config, generator(seed, "augment"))


def is_mirrored(seed):
    return generator(seed, "augment").random() < 0.5


def inner(sample):
    """Anchors that lie well inside the surface seen: the photo has their colour all around them."""
    photo = np.asarray(Image.open(sample.image)).astype(int)
    reach = max(2, photo.shape[0] // 40)
    found = np.zeros(len(PAINT), dtype=bool)
    for v in np.flatnonzero(sample.visible):
        x, y = sample.anchors[v].astype(int)
        around = photo[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        found[v] = np.abs(around - PAINT[v]).max() < 30
    return found


def assert_in_step(sample, crop, mirrored, share=0.03):
    """The pixel at each anchor has the colour of the point of the surface it should show."""
    order = MIRROR if mirrored else np.arange(len(PAINT))
    use = crop.visible & inner(sample)[order]
    assert use.sum() > 40
    x, y = np.floor(crop.anchors[use]).astype(int).T
    errors = np.abs(crop.pixels[y, x] - PAINT[order][use]).max(1)
    assert np.median(errors) < 6 and (errors > 20).mean() < share


@pytest.mark.usefixtures("same_light")
@pytest.mark.parametrize("seed", SEEDS)
def test_an_anchor_stays_on_its_point_of_the_surface(samples, seed):
    crop = crop_of(samples[seed % 6], seed)
    assert crop.pixels.shape == (*SIZE, 3) and crop.background.shape == (12, 18)
    assert (crop.pixels.dtype, crop.anchors.dtype) == (np.uint8, np.float32)
    assert_in_step(samples[seed % 6], crop, is_mirrored(seed))


def test_both_hands_are_drawn():
    assert 0 < sum(is_mirrored(seed) for seed in SEEDS) < len(SEEDS)


@pytest.mark.usefixtures("same_light")
def test_a_mirrored_crop_has_mirrored_anchors(samples):
    """The same placement with and without the mirror: pixels and anchors are reflections."""
    sample = samples[1]
    still = replace(PLAIN, shift=0.0, rotate=0.0, aspect=0.0)

    class Hand(np.random.Generator):
        """Draws as the generator does, but for the first number, which decides the hand."""

        def __init__(self, first):
            super().__init__(generator(3, "augment").bit_generator)
            self.first = [first]

        def random(self, *args):
            value = super().random(*args)
            return self.first.pop() if self.first else value

    one, two = (draw_crop(sample, SIZE, BLACK, still, Hand(first)) for first in (0.9, 0.1))
    np.testing.assert_allclose(two.anchors[MIRROR][:, 0], SIZE[1] - one.anchors[:, 0], atol=1e-3)
    np.testing.assert_allclose(two.anchors[MIRROR][:, 1], one.anchors[:, 1], atol=1e-3)
    np.testing.assert_array_equal(two.visible[MIRROR], one.visible)
    assert np.abs(two.pixels[:, ::-1].astype(int) - one.pixels).mean() < 1
    assert (two.background[:, ::-1] == one.background).mean() > 0.95


@pytest.mark.usefixtures("same_light")
@pytest.mark.parametrize("large", [(800, 1120), (500, 703)])
def test_large_photos_stay_in_step(tmp_path, large):
    sample = sample_of(car_views(tmp_path, 1, large)[0], car_mesh())
    for seed in range(4):
        assert_in_step(sample, crop_of(sample, seed, size=(48, 72)), is_mirrored(seed), 0.12)


@pytest.mark.usefixtures("same_light")
def test_hidden_anchors_are_not_visible(samples):
    """Occluders are black: what is still called visible shows the car."""
    hidden = 0
    for seed in range(6):
        config = replace(PLAIN, occlude=1.0)
        crop, free = crop_of(samples[seed], seed, config), crop_of(samples[seed], seed)
        hidden += int(free.visible.sum() - crop.visible.sum())
        assert crop.visible.sum() > 0
        x, y = np.floor(crop.anchors[crop.visible]).astype(int).T
        assert (crop.pixels[y, x].max(1) < 1).mean() < 0.02
        black = (crop.pixels == 0).all(-1)[4::8, 4::8]
        assert crop.background[black].mean() > 0.98  # an occluder is background
    assert hidden > 30


@pytest.mark.usefixtures("same_light")
@pytest.mark.parametrize("seed", SEEDS)
def test_background_cells_do_not_show_the_car(samples, seed):
    crop = crop_of(samples[seed % 6], seed)
    shows = (crop.pixels.max(-1) > DARK).reshape(12, 8, 18, 8).mean((1, 3))
    assert shows[crop.background].mean() < 0.06
    assert (shows[crop.background] < 0.6).all()
    assert shows[~crop.background].mean() > 0.75


@pytest.mark.usefixtures("same_light")
def test_what_lies_outside_the_photo_is_grey_or_another_picture(samples):
    far = replace(PLAIN, fill_low=0.4, fill_high=0.4, shift=0.5)
    red = Scenery((np.full((40, 60, 3), (255, 0, 0), np.uint8),), MIRROR)
    grey = other = 0
    for seed in range(8):
        one = crop_of(samples[0], seed, far)
        two = crop_of(samples[0], seed, replace(far, context=1.0), red)
        outside = (one.pixels == augment.GREY).all(-1)
        grey += outside.sum()
        other += (two.pixels[outside] == (255, 0, 0)).all(-1).sum()
    assert grey > 1000
    assert other / grey > 0.97


def test_visible_anchors_lie_in_the_crop(samples):
    for seed in SEEDS:
        crop = crop_of(samples[seed % 6], seed, AugmentConfig(shift=0.4, fill_high=1.5))
        x, y = crop.anchors[crop.visible].T
        assert (x >= 0).all() and (x < SIZE[1]).all() and (y >= 0).all() and (y < SIZE[0]).all()


@pytest.mark.usefixtures("same_light")
def test_a_mask_says_what_is_visible(samples, tmp_path):
    """The left half of the photo's car is labelled as hidden."""
    sample = samples[2]
    photo = np.asarray(Image.open(sample.image))
    mask = (photo.max(-1) > DARK).astype(np.uint8) * 255
    middle = int((sample.box[0] + sample.box[2]) / 2)
    mask[:, :middle] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    masked = replace(sample, mask=tmp_path / "mask.png")
    for seed in range(4):
        free, crop = crop_of(sample, seed), crop_of(masked, seed)
        expected = sample.visible & (sample.anchors[:, 0] >= middle)
        expected = expected[MIRROR] if is_mirrored(seed) else expected
        both = free.visible & expected
        assert (crop.visible == both).mean() > 0.97
        assert crop.background.sum() > free.background.sum()


@pytest.mark.parametrize("config", [AugmentConfig(), PLAIN])
def test_draws_repeat_with_their_key(samples, config):
    one, again, other = (crop_of(samples[0], seed, config) for seed in (4, 4, 5))
    for name in ("pixels", "anchors", "visible", "background"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(one.pixels, other.pixels)


def test_light_and_resolution_change_pixels_but_no_label(samples, monkeypatch):
    changed = crop_of(samples[3], 1, AugmentConfig(occlude=0.0, context=0.0, coarse=1.0))
    monkeypatch.setattr(augment, "_recolour", lambda pixels, rng: pixels)
    monkeypatch.setattr(augment, "_coarsen", lambda pixels, height, config, rng: pixels)
    plain = crop_of(samples[3], 1, AugmentConfig(occlude=0.0, context=0.0, coarse=1.0))
    np.testing.assert_array_equal(changed.anchors, plain.anchors)
    np.testing.assert_array_equal(changed.visible, plain.visible)
    assert not np.array_equal(changed.pixels, plain.pixels)


def framed(crop, R):
    """Return the camera whose picture of a car so turned is framed as the crop, and the pose."""
    pose = Pose(torch.from_numpy(R), torch.tensor([0.0, 0.0, 1.8], dtype=torch.float64))
    points = pose.apply(car_mesh().vertices).numpy()
    flat = points[:, :2] / points[:, 2:]
    middle, shown = flat.mean(0), crop.anchors.mean(0)
    focal = float(((flat - middle) * (crop.anchors - shown)).sum() / ((flat - middle) ** 2).sum())
    cx, cy = (shown - focal * middle).tolist()
    return Camera(focal, focal, cx, cy, *SIZE), pose


@pytest.mark.usefixtures("same_light")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_rotation_goes_with_a_turned_and_mirrored_crop(samples, seed):
    """The car rendered in that rotation looks as the crop does; in another one it does not."""
    sample = samples[seed % 6]
    config = replace(PLAIN, aspect=0.0, shift=0.05, fill_low=0.6, fill_high=0.8, rotate=0.3)
    crop = crop_of(sample, seed, config)
    assert crop.R.shape == (3, 3) and np.linalg.det(crop.R) == pytest.approx(1)
    camera, pose = framed(crop, crop.R)
    points, _ = camera.project(pose.apply(car_mesh().vertices))
    width = np.ptp(crop.anchors[:, 0])
    assert np.abs(points.numpy() - crop.anchors).max() < 0.02 * width
    if rotation_error(crop.R, sample.R) > 0.2:
        before, unturned = framed(crop, sample.R)
        points, _ = before.project(unturned.apply(car_mesh().vertices))
        assert np.abs(points.numpy() - crop.anchors).max() > 0.05 * width
    drawn, shown = picture(pose, camera).astype(int), crop.pixels.astype(int)
    if is_mirrored(seed):  # the paint says x, which has changed its sign
        shown[..., 0] = np.where(shown.max(-1) > DARK, 2 * 195 - shown[..., 0], shown[..., 0])
    one, two = drawn.max(-1) > DARK, shown.max(-1) > DARK
    assert (one & two).sum() / (one | two).sum() > 0.93
    assert np.median(np.abs(drawn - shown)[one & two].max(-1)) < 6


def test_the_rotation_is_the_nearest_to_a_squeezed_one(samples):
    R, turn = samples[1].R, np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    squeeze = np.diag([1.2, 0.9])
    moved = np.eye(3)
    moved[:2, :2] = turn @ squeeze
    nearest = procrustes(torch.from_numpy(moved @ R)).numpy()
    found = augment.turned(R, turn @ squeeze)
    assert np.degrees(rotation_error(found, augment.turned(R, turn))) < 1e-6
    assert rotation_error(found, nearest) < 1e-6


@pytest.mark.parametrize("azimuth", [10.0, 60.0, 200.0])
def test_what_a_squeeze_may_mean_else_is_a_degree_of_elevation(azimuth):
    """Without perspective a squeezed car is a higher car seen from a little higher, exactly."""
    k, elevation = 1.08, math.radians(15)
    seen = [torch.tensor(a, dtype=torch.float64) for a in (math.radians(azimuth), elevation, 0.0)]
    R = rotation_from_angles(*seen).numpy()
    squeezed = np.diag([1.0, k]) @ R[:2]
    seen[1] = torch.asin(k * torch.sin(seen[1]))
    other = rotation_from_angles(*seen).numpy()
    height = k * math.cos(elevation) / math.cos(float(seen[1]))
    np.testing.assert_allclose(squeezed, other[:2] @ np.diag([1, 1, height]), atol=1e-12)
    label = augment.turned(R, np.diag([1.0, k]))
    assert np.degrees(rotation_error(label, other)) == pytest.approx(1.23, abs=0.01)
