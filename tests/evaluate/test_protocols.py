"""The benchmark's crops and tables: what they promise, on pictures and poses made here."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from featmesh.errors import InputError
from featmesh.evaluate.metrics import add_symmetric_error, rotation_error, translation_error
from featmesh.evaluate.protocols import (
    NEMO_FIRST_SIZES,
    NEMO_SIZES,
    ONE_SIZE,
    BenchmarkCrop,
    benchmark_crop,
    benchmark_table,
    pose_of_principal,
    six_d_errors,
)
from featmesh.geometry.camera import Camera
from featmesh.geometry.conventions import Pascal3D
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.views.readers.common import pascal_view
from featmesh.views.readers.pascal3d import CATEGORIES
from featmesh.views.record import View

POINTS = torch.tensor([[0.2, -0.3, 0.15], [-0.2, 0.3, -0.1], [0, 0, 0]], dtype=torch.float64)


def view_of(distance: float = 6.5, px: float = 245.3, py: float = 188.7, **more) -> View:
    label = Pascal3D(40.0, 12.0, -4.0, distance, px, py)
    return pascal_view(Path("a.jpg"), (375, 500), "car", label, (60.0, 80.0, 420.0, 300.0), **more)


def shot(view: View) -> np.ndarray:
    """A photo in which each pixel's colour says where it is."""
    y, x = np.mgrid[: view.height, : view.width]
    return np.stack([x // 2, y // 2, np.full_like(x, 200)], 2).astype(np.uint8)


def places(crop: BenchmarkCrop, points: torch.Tensor = POINTS) -> np.ndarray:
    return crop.camera.project(crop.pose.apply(points))[0].numpy()


def original(view: View, points: torch.Tensor = POINTS) -> np.ndarray:
    assert view.camera is not None and view.R is not None and view.t is not None
    pose = Pose(torch.from_numpy(view.R), torch.from_numpy(view.t))
    return view.camera.project(pose.apply(points))[0].numpy()


def test_the_object_comes_to_the_middle_at_distance_5() -> None:
    view = view_of()
    crop = benchmark_crop(shot(view), view, NEMO_SIZES["car"])
    assert crop.pixels.shape == (256, 672, 3) and crop.rate == pytest.approx(1.3)
    assert crop.pose.t.tolist() == [0, 0, 5] and crop.camera.fx == 3000
    np.testing.assert_array_equal(places(crop)[2], [336, 128])
    # what stands at the principal point in the photo stands in the middle of the crop
    colour = crop.pixels[128, 336].astype(float) * 2
    np.testing.assert_allclose(colour[:2], [245.3, 188.7], atol=3)


def test_scaling_the_focal_length_keeps_every_pixel_and_the_rotation() -> None:
    view = view_of()
    crop = benchmark_crop(shot(view), view, scaling="focal")
    moved = crop.rate * original(view) + crop.shift
    np.testing.assert_allclose(places(crop), moved, atol=1e-9)
    other = benchmark_crop(shot(view), view, scaling="distance")
    assert float(rotation_error(other.pose.R.numpy(), crop.pose.R.numpy())) == 0
    # the benchmark's own way: within a pixel at the centre, a few at the object's ends
    off = np.linalg.norm(places(other) - moved, axis=1)
    assert off[2] < math.sqrt(2) and 1 < off.max() < 12


def test_black_lies_outside_the_photo() -> None:
    view = view_of(distance=5.0, px=10.0, py=370.0)
    crop = benchmark_crop(shot(view), view, ONE_SIZE)
    assert crop.pixels.shape == (640, 800, 3)
    assert not crop.inside[:, : 400 - 10].any() and crop.inside[320 - 1, 400]
    assert not crop.pixels[~crop.inside].any() and crop.inside.sum() == 410 * 325


def test_sizes_are_multiples_of_32_and_cover_the_categories() -> None:
    assert set(NEMO_SIZES) == set(NEMO_FIRST_SIZES) == set(CATEGORIES)
    sides = [
        side for table in (NEMO_SIZES, NEMO_FIRST_SIZES) for size in table.values() for side in size
    ]
    assert all(side % 32 == 0 for side in sides)
    view = view_of()
    assert benchmark_crop(shot(view), view, (100, 200)).pixels.shape == (128, 224, 3)


def test_a_distance_of_almost_nothing_is_fitted_by_the_box() -> None:
    view = view_of(distance=0.004)
    crop = benchmark_crop(shot(view), view, (256, 672))
    assert crop.rate == pytest.approx(min(256 / 220, 672 / 360))


def test_only_a_camera_that_looks_at_the_object_will_do() -> None:
    view = view_of()
    pixels = shot(view)
    with pytest.raises(InputError, match="E_IMG_FORMAT"):
        benchmark_crop(pixels[:-1], view)
    for changed in ({"t": np.array([1.0, 0, 6])}, {"t_unit": "metre"}, {"K": None}):
        from dataclasses import replace

        with pytest.raises(InputError, match="E_VIEWS"):
            benchmark_crop(pixels, replace(view, **changed))


def test_the_two_means_and_the_two_medians() -> None:
    degrees = {
        "bus": [1.0, 2.0, 40.0],
        "car": [5.0, 12.0, 20.0, 29.0, 30.0, math.nan, 8.0, 9.0, 50.0],
    }
    table = benchmark_table({k: np.radians(np.array(v)) for k, v in degrees.items()})
    assert table.categories["bus"].acc_30 == pytest.approx(2 / 3)
    assert table.categories["car"].acc_30 == pytest.approx(6 / 9)  # 30 is not below pi/6
    assert table.image_mean.acc_30 == pytest.approx(8 / 12) and table.image_mean.failed == 1
    assert table.category_mean["acc_10"] == pytest.approx((2 / 3 + 3 / 9) / 2)
    assert math.degrees(table.image_mean.median) == pytest.approx(16)
    assert math.degrees(table.weighted_median) == pytest.approx((3 * 2 + 9 * 20) / 12)
    assert math.degrees(table.category_mean["median"]) == pytest.approx((2 + 20) / 2)
    told = table.to_json()
    assert told["weighted_median_deg"] == pytest.approx(15.5)
    assert told["category_mean"]["median_deg"] == pytest.approx(11)
    assert table.lines()[-1].startswith("category mean") and len(table.lines()) == 5
    with pytest.raises(InputError, match="E_DATA"):
        benchmark_table({"car": np.zeros(0)})


def test_whole_poses_translation_and_add() -> None:
    true = Viewpoint(0.3, 0.2, 0.1, 5.0).to_pose()
    moved = Pose(true.R, true.t + torch.tensor([0.03, 0.0, 0.04], dtype=torch.float64))
    box = torch.cartesian_prod(*(torch.tensor([-0.5, 0.5], dtype=torch.float64),) * 3) / math.sqrt(
        3
    )
    errors = six_d_errors(moved, true, box)
    assert errors.translation == pytest.approx(0.05) and errors.add == pytest.approx(0.05)
    assert errors.relative == pytest.approx(0.01) and errors.hit
    assert translation_error(true, true) == 0
    turned = Viewpoint(0.3 + math.pi, 0.2, 0.1, 5.0).to_pose()
    assert not six_d_errors(turned, true, box).hit
    assert add_symmetric_error(turned, true, box) == pytest.approx(
        0, abs=1e-12
    )  # a box, half round


def test_the_lineages_six_numbers() -> None:
    camera, R = (
        Camera(3000.0, 3000.0, 400.0, 320.0, 640, 800),
        Viewpoint(0.5, 0.0, 0.0, 5.0).to_pose().R,
    )
    pose = pose_of_principal(R, (460.0, 290.0), 5.0, camera)
    np.testing.assert_allclose(camera.project(pose.t)[0], [460, 290])
    assert float(pose.t[2]) == 5
