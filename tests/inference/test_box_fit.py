"""Claims about clues beside the energy, the box and the gist: they rank poses, and move none."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import CELLS, car_model, cells_of, look

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL, Crop, box_iou
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import angles_from_rotation
from featmesh.inference.box_fit import box_fit
from featmesh.inference.config import RefineConfig, ScanConfig
from featmesh.inference.refine import render_and_compare
from featmesh.inference.scan import Starts, scan
from featmesh.inference.tables import pose_table
from featmesh.model.gist import AZIMUTHS, ELEVATIONS, Gist

PHOTO = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)


def box_of(pose, camera=PHOTO):
    points, _ = camera.project(pose.apply(car_model().template.vertices.double()))
    return (*points.amin(0).tolist(), *points.amax(0).tolist())


def row(*poses):
    n = len(poses)
    R = torch.stack([p.R for p in poses]).double().numpy()
    t = torch.stack([p.t for p in poses]).double().numpy()
    return R, t, np.zeros(n), np.zeros((n, 3))


def seen(crop):
    """The map of a crop, its features of no concern."""
    cells = cells_of(look(0, 0, 0, 2.0))
    scale = cells.features.shape[0] / crop.camera.height
    return replace(cells, camera=crop.camera.scale(scale))


def test_the_pose_the_box_was_drawn_for_overlaps_fully():
    pose = look(35, 10, 5, 2.3)
    pose = Pose(pose.R, pose.t + torch.tensor([0.3, -0.1, 0.0], dtype=pose.t.dtype))
    crop = Crop.from_box(PHOTO, box_of(pose), (224, 336), FILL)
    fit = box_fit(car_model().template.vertices.double().numpy(), seen(crop), crop)
    other = Pose(pose.R, pose.t * 1.4)  # farther away: smaller, inside the map
    overlap = fit.overlap(*row(crop.from_photo(pose), crop.from_photo(other)))
    # a box of the tilted virtual camera is the photo's but for the tilt
    assert overlap[0] > 0.97
    assert overlap[1] == pytest.approx(box_iou(box_of(other), box_of(pose)), abs=0.03)


def test_what_lies_outside_the_photo_does_not_count():
    pose = look(90, 10, 0, 1.2)
    x0, y0, x1, y1 = box_of(pose)
    cut = (x0, y0, (x0 + x1) / 2, y1)
    crop = Crop.from_box(PHOTO, cut, (224, 336), FILL)
    cells = seen(crop)
    vertices = car_model().template.vertices.double().numpy()
    whole = box_fit(vertices, cells, crop).overlap(*row(crop.from_photo(pose)))
    column = torch.arange(cells.valid.shape[1]) + 0.5
    edge = cells.valid.shape[1] * (1 + FILL) / 2  # where the box ends, if it fills the crop's width
    inside = cells.valid & (column < edge)
    ended = box_fit(vertices, replace(cells, valid=inside), crop)
    assert ended.overlap(*row(crop.from_photo(pose)))[0] > whole[0] + 0.08


def test_of_two_poses_that_look_alike_the_one_in_the_box_wins():
    # clutter everywhere: no cell speaks for either pose, so only the box does
    right = look(30, 10, 0, 2.0)
    crop = Crop.from_box(PHOTO, box_of(right), (CELLS.height * 8, CELLS.width * 8), FILL)
    cells = seen(crop)
    cells = replace(cells, clutter=torch.ones_like(cells.clutter))
    wrong = Pose(right.R, right.t * 1.6)
    R, t, zoom, _ = row(crop.from_photo(wrong), crop.from_photo(right))
    start, still = Starts(R, t, zoom, np.zeros(2)), RefineConfig(steps=0, polish=0)
    plain = render_and_compare(cells, car_model(), start, False, still)
    np.testing.assert_allclose(plain.energy[0], plain.energy[1], atol=1e-9)
    boxed = render_and_compare(cells, car_model(), start, False, still, crop=crop)
    np.testing.assert_allclose(boxed.t[0], t[1])
    blind = replace(still, box_worth=0.0)
    np.testing.assert_array_equal(
        render_and_compare(cells, car_model(), start, False, blind, crop=crop).t, plain.t
    )


def sure_of(azimuth):
    """A look that is all but certain of the azimuth, radians."""
    around = torch.full((AZIMUTHS,), -30.0)
    around[int(azimuth % (2 * math.pi) / (2 * math.pi) * AZIMUTHS)] = 30.0
    flat = torch.zeros(ELEVATIONS[2])
    return Gist(0.0, around.log_softmax(0), flat.log_softmax(0))


def test_of_two_poses_that_look_alike_the_likelier_view_wins():
    # clutter everywhere: only the gist speaks, and a little energy outweighs it
    front, back = look(35, 10, 0, 2.0), look(215, 10, 0, 2.0)
    cells = cells_of(front)
    hidden = replace(cells, clutter=torch.ones_like(cells.clutter))
    R, t, zoom, _ = row(front, back)
    start, still = Starts(R, t, zoom, np.zeros(2)), RefineConfig(steps=0, polish=0)
    for told, wanted in ((35, 0), (215, 1)):
        said = replace(hidden, gist=sure_of(math.radians(told)))
        found = render_and_compare(said, car_model(), start, False, still)
        np.testing.assert_allclose(found.R[0], R[wanted])
        deaf = render_and_compare(said, car_model(), start, False, replace(still, view_worth=0.0))
        np.testing.assert_allclose(deaf.R[0], R[0])
    wrong = replace(cells, gist=sure_of(math.radians(215)))
    found = render_and_compare(wrong, car_model(), start, False, still)
    np.testing.assert_allclose(found.R[0], R[0])


def test_starts_are_views_that_are_likely_by_the_gist():
    model, config = car_model(), ScanConfig(azimuths=18, distances=(2.2,), starts=3)
    cells = cells_of(look(40, 10, 0, 2.2))
    hidden = replace(cells, clutter=torch.ones_like(cells.clutter))
    table = pose_table(model, config, 1.0)
    said = replace(hidden, gist=sure_of(math.radians(205)))
    starts = scan(said, model, table, config, True)
    azimuth = angles_from_rotation(torch.from_numpy(starts.R[0]))[0]
    assert math.degrees(float(azimuth)) % 360 == pytest.approx(200, abs=11)
    deaf = scan(said, model, table, replace(config, view_worth=0.0), True)
    np.testing.assert_array_equal(deaf.R, scan(hidden, model, table, config, True).R)
