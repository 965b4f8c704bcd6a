"""What is done to photos, and whether the labels still hold afterwards."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, look, picture
from PIL import Image

from featmesh.errors import InputError
from featmesh.evaluate.conditions import KINDS, Condition, Scene, conditions_of, labelled, under
from featmesh.evaluate.suite_config import SuiteConfig
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import box_iou
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.photo.photo import GREY
from featmesh.views.corruptions import CORRUPTIONS, corrupt
from featmesh.views.record import View

CAMERA = Camera(200.0, 190.0, 70.0, 55.0, 100, 150)
POSE = aside(look(40, 12, 5, 1.9), CAMERA, (82.0, 47.0))
PIXELS = picture(POSE, CAMERA)


def view(**changes) -> View:
    known = {
        "R": POSE.R.numpy(),
        "t": POSE.t.numpy(),
        "t_unit": "object",
        "K": CAMERA.K.numpy(),
        "box": box_of(POSE, CAMERA),
        "theta": 170.0,
    }
    return View(Path("a.png"), CAMERA.width, CAMERA.height, "car", **(known | changes))


def covered(pixels: np.ndarray) -> np.ndarray:
    """Pixels of the painted car: brighter than the background and what is outside."""
    return pixels.max(-1) > 135


def names(config: SuiteConfig, *views: View) -> list[str]:
    return [one.name for one in conditions_of(config, views or [view()])[0]]


def test_the_suite_has_all_conditions() -> None:
    found = names(SuiteConfig(severity=(1, 2, 3, 4, 5)))
    assert len(found) == 1 + 3 + 19 * 5 + 3 + 6 + 1 == len(set(found))
    for name in ("clean", "occlusion L3", "fog 5", "resolution 1/8", "rotation -45"):
        assert name in found
    slugs = {one.slug for one in conditions_of(SuiteConfig(), [view()])[0]}
    assert not any(set(slug) & set(" /") for slug in slugs)


def test_some_conditions_can_be_chosen() -> None:
    assert names(SuiteConfig(severity=(3,), conditions=("fog", "occlusion"))) == [
        "clean",
        "occlusion L1",
        "occlusion L2",
        "occlusion L3",
        "fog 3",
    ]
    with pytest.raises(InputError, match=r"E_CONFIG: .*'fogg'; try: 'fog'"):
        names(SuiteConfig(conditions=("fogg",)))


def test_context_is_left_out_where_boxes_are_whole_photos() -> None:
    found, void = conditions_of(SuiteConfig(), [view(box=None)])
    assert void == ["context removed"] and "context" not in {one.kind for one in found}


def test_a_turned_photo_shows_the_turned_pose() -> None:
    for what in KINDS["rotation"].whats:
        pixels, moved = under(PIXELS, view(), Condition("rotation", what), Scene())
        assert pixels.shape[:2] == (moved.height, moved.width)
        pose = Pose(torch.from_numpy(moved.R), torch.from_numpy(moved.t))
        again = picture(pose, moved.camera)
        a, b = covered(pixels), covered(again)
        assert (a & b).sum() / (a | b).sum() > 0.96
        assert box_iou(moved.box, box_of(pose, moved.camera)) > 0.6
        turned = Viewpoint.from_pose(pose).theta - Viewpoint.from_pose(POSE).theta
        assert math.degrees(turned) == pytest.approx(float(what), abs=1e-6)
        assert moved.theta == pytest.approx((170 + float(what) + 180) % 360 - 180)


def test_without_a_camera_the_label_rolls_too() -> None:
    bare = view(K=None, t=None, t_unit=None, box=None)
    moved = labelled(bare, Condition("rotation", "+30"))
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    roll = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    np.testing.assert_allclose(moved.R, roll @ bare.R, atol=1e-12)
    x0, y0, x1, y1 = moved.box
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    assert centre == pytest.approx((moved.width / 2, moved.height / 2), abs=1.0)
    assert moved.K is None


def test_labels_of_other_conditions_stay() -> None:
    one = view()
    for condition in conditions_of(SuiteConfig(), [one])[0]:
        if condition.kind != "rotation":
            pixels, moved = under(PIXELS, one, condition, Scene())
            assert moved is one and pixels.shape == PIXELS.shape
            assert (pixels != PIXELS).any() == (condition.kind != "clean")


def test_outside_of_the_box_is_grey() -> None:
    pixels, _ = under(PIXELS, view(box=(30.0, 20.0, 90.0, 70.0)), Condition("context", ""), Scene())
    np.testing.assert_array_equal(pixels[20:70, 30:90], PIXELS[20:70, 30:90])
    pixels[20:70, 30:90] = GREY
    assert (pixels == np.array(GREY)).all()


def test_fewer_pixels_blur_the_more() -> None:
    far = []
    for what in KINDS["resolution"].whats:
        pixels, _ = under(PIXELS, view(), Condition("resolution", what), Scene())
        far.append(np.abs(pixels.astype(int) - PIXELS).mean())
    assert far == sorted(far) and far[0] > 0


def test_corruptions_are_as_large_as_the_box() -> None:
    whole, name = background((300, 400), 1), "gaussian_blur"
    small = replace(view(K=None), width=400, height=300, box=(10.0, 10.0, 60.0, 50.0))
    found, _ = under(whole, small, Condition("corruption", name, 3), Scene(5))
    np.testing.assert_array_equal(found, corrupt(whole, name, 3, 5, 0, scale=1.0))
    assert tuple(CORRUPTIONS) == KINDS["corruption"].whats


def test_occluders_hide_the_mask_where_there_is_one(tmp_path: Path) -> None:
    mask = np.zeros(PIXELS.shape[:2], np.uint8)
    mask[40:60, 60:100] = 3
    Image.fromarray(mask).save(tmp_path / "mask.png")
    masked = view(mask=tmp_path / "mask.png")
    pixels, _ = under(PIXELS, masked, Condition("occlusion", "L3"), Scene(1))
    share = (pixels != PIXELS).any(-1)[mask > 0].mean()
    assert 0.55 < share < 0.85
    lost = replace(masked, mask=tmp_path / "gone.png")
    with_box, _ = under(PIXELS, lost, Condition("occlusion", "L3"), Scene(1))
    expected, _ = under(PIXELS, view(), Condition("occlusion", "L3"), Scene(1))
    np.testing.assert_array_equal(with_box, expected)
