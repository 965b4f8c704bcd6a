"""Claims about NeMo's search: its poses, its loss, its parameters and steps; and it finds poses."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import car_model, cells_of, look, photo_of

from featmesh.errors import InputError
from featmesh.evaluate.protocols import NEMO_SIZES, benchmark_crop
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.energy import Comparison, gain_from_scores, render_features
from featmesh.inference.energy_numba import FusedEnergy
from featmesh.inference.nemo import (
    best_start,
    descend,
    estimate_crop,
    looking,
    loss,
    own_gradient,
    starts,
)
from featmesh.inference.presets import PRESETS, NemoConfig
from featmesh.photo.photo import Photo
from featmesh.views.record import View

CROP = Camera(3000.0, 3000.0, 336.0, 128.0, 256, 672)  # of a car in the benchmark
CELLS = CROP.scale(1 / 8)
VIEWS = [look(20, 5, 4, 5.3), look(75, 15, 8, 4.7), look(140, 25, -8, 5), look(262, 2, -3, 5.1)]


def turned(axis, angle):
    """Rotation about an axis of the right-handed frame, by the textbook."""
    c, s = math.cos(angle), math.sin(angle)
    if axis == "z":
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def energy_of(pose, noise=0.3, seed=0):
    cells = cells_of(pose, CELLS, noise, seed)
    model = car_model()
    return FusedEnergy(Comparison(cells, model.mesh(), model.texture)), cells


def degrees(R, pose):
    return math.degrees(float(geodesic_angle(R, pose.R)))


def test_the_starts_are_the_published_grid() -> None:
    azimuths = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    elevations = np.linspace(-math.pi / 6, math.pi / 3, 4)
    thetas = np.linspace(-math.pi / 6, math.pi / 6, 3)
    R, t = starts(PRESETS["nemo"])
    assert len(R) == 144 and np.array_equal(t, np.tile([0, 0, 5.0], (144, 1)))
    flip = np.diag([1.0, -1.0, -1.0])
    grid = itertools.product(azimuths, elevations, thetas)
    expected = [
        flip @ turned("z", h) @ turned("x", e - math.pi / 2) @ turned("z", -a) for a, e, h in grid
    ]
    np.testing.assert_allclose(R, expected, atol=1e-12)


def test_the_schedule_is_the_published_one() -> None:
    config = PRESETS["nemo"]
    assert (config.steps, config.lr, config.drops) == (300, 0.05, (1 / 3, 2 / 3))


def test_energies_are_the_published_loss_up_to_a_constant() -> None:
    energy, cells = energy_of(VIEWS[0])
    comparison = energy.comparison
    R, t = starts(NemoConfig())
    found = loss(energy.evaluate(R[:20], t[:20]).energy, cells)
    for k in range(20):
        pose = Pose(torch.from_numpy(R[k]), torch.from_numpy(t[k]))
        rendered, _ = render_features(comparison, pose)  # 0 where nothing is rendered
        s = (rendered * cells.features.double()).sum(-1)
        expected = 1 - gain_from_scores(s, cells.clutter.double())
        assert found[k] == pytest.approx(float(expected), abs=1e-5)


def test_a_camera_at_a_position_looks_at_the_centre() -> None:
    position = np.array([1.5, -4.0, 2.0])
    pose = looking(position, 0.3)
    np.testing.assert_allclose(pose.t, [0, 0, np.linalg.norm(position)], atol=1e-12)
    np.testing.assert_allclose(-pose.R.T @ pose.t, position, atol=1e-12)
    upright = looking(position, 0.0).R
    assert float(upright[0, 2]) == pytest.approx(0, abs=1e-12)  # +z stands upright in the picture
    assert degrees(upright, pose) == pytest.approx(math.degrees(0.3))


def test_the_gradient_in_position_and_theta_is_that_of_poses() -> None:
    """Of any function of a pose: here a linear one, of which the numeric gradient is exact."""
    rng = np.random.default_rng(0)
    A, b = torch.from_numpy(rng.normal(size=(3, 3))), torch.from_numpy(rng.normal(size=3))

    def value(where):
        pose = looking(where[:3], where[3])
        return float((A * pose.R).sum() + b @ pose.t)

    for _ in range(5):
        where = np.array([*rng.normal(size=3) * 3, rng.normal()])
        pose = looking(where[:3], where[3])
        # d/dw of <A, exp(w) R>: w x R, row by row
        M = (A @ pose.R.T).numpy()
        turn = [M[2, 1] - M[1, 2], M[0, 2] - M[2, 0], M[1, 0] - M[0, 1]]
        found = own_gradient(where[:3], where[3], np.array([*turn, *b.tolist()]))
        eye = 1e-6 * np.eye(4)
        expected = [(value(where + d) - value(where - d)) / 2e-6 for d in eye]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_300_steps_are_made_in_thirds_of_falling_rate() -> None:
    energy, _ = energy_of(VIEWS[0])
    start = best_start(energy, NemoConfig())
    told = []
    found = descend(energy, start, NemoConfig(), told.append)
    assert [step.step for step in told] == list(range(301))
    np.testing.assert_array_equal(found.R[0], told[-1].R[0])  # the last one, not the best
    places = np.stack([-s.R[0].T @ s.t[0] for s in told])
    np.testing.assert_allclose(places[0], -start.R.T @ start.t, atol=1e-9)
    first = np.abs(places[1] - places[0])
    np.testing.assert_allclose(first, 0.05, rtol=1e-3)  # Adam begins with the rate, each way
    moved = np.abs(np.diff(places, axis=0)).max(1)
    for third, rate in enumerate((0.05, 0.01, 0.002)):
        # with betas .4 and .6 a step is at most rate * sqrt(.6 ** 2 / .4 / (1 - .16 / .6))
        assert moved[100 * third : 100 * third + 100].max() <= 1.2 * rate


@pytest.mark.parametrize("k", range(len(VIEWS)))
def test_the_pose_of_a_feature_map_is_recovered(k: int) -> None:
    energy, _ = energy_of(VIEWS[k], noise=0.5, seed=k)
    start = best_start(energy, NemoConfig())
    assert 2 < degrees(start.R, VIEWS[k]) < 45
    found = descend(energy, start, NemoConfig())
    assert degrees(torch.from_numpy(found.R[0]), VIEWS[k]) < 1.5
    assert found.t[0, 2] == pytest.approx(float(VIEWS[k].t[2]), rel=0.03)


def test_a_crop_is_looked_at_as_it_is() -> None:
    photo = photo_of(VIEWS[0], CROP)
    told = []
    found = estimate_crop(car_model(), photo, (1.0, 2.0, 30.0, 40.0), CROP, on_step=told.append)
    assert found.status == "ok" and degrees(found.cam_from_obj.R, VIEWS[0]) < 1.5
    assert found.cam_from_obj.t[:2].abs().max() == 0 and len(told) == 301
    assert set(found.seconds) == {"features", "scan", "refine"}
    strict = replace(car_model(), threshold=2.0)  # the benchmark wants a pose of every crop
    assert estimate_crop(strict, photo, None, CROP, NemoConfig(steps=3)).status == "ok"


def test_a_photo_comes_into_the_crop_as_the_benchmark_cuts_it() -> None:
    """The whole protocol of one photo: cut at distance 5 about the true centre, then searched."""
    camera = Camera(3000.0, 3000.0, 205.0, 140.0, 260, 400)  # the object 7 units away, off centre
    pose = look(205, 12, 5, 7)
    box = (20.0, 60.0, 390.0, 220.0)
    view = View(
        image=Path("p.png"),
        width=400,
        height=260,
        category="car",
        R=pose.R.numpy(),
        K=camera.K.numpy(),
        t=pose.t.numpy(),
        t_unit="object",
        box=box,
    )
    crop = benchmark_crop(photo_of(pose, camera).pixels, view, NEMO_SIZES["car"])
    assert (crop.camera.height, crop.camera.width) == (256, 672) and crop.rate == 7 / 5
    found = estimate_crop(car_model(), Photo.from_array(crop.pixels), None, crop.camera)
    assert degrees(found.cam_from_obj.R, pose) < 3
    assert float(found.cam_from_obj.t[2]) == pytest.approx(5, rel=0.03)


def test_without_a_camera_or_with_odd_sides_there_is_no_crop() -> None:
    photo = photo_of(VIEWS[0], CROP)
    with pytest.raises(InputError, match="crops") as caught:
        estimate_crop(car_model(), photo)
    assert caught.value.code == "E_CAMERA"
    odd = Camera(3000.0, 3000.0, 100.0, 50.0, 100, 201)
    with pytest.raises(InputError) as caught:
        estimate_crop(car_model(), photo_of(VIEWS[0], odd), None, odd)
    assert caught.value.code == "E_SHAPE"
