"""Claims about what each pixel shows: a painted car, bare and behind a dark occluder."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, car_mesh, car_model, look, paint, shaped_model

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.inference.estimator import estimate
from featmesh.inference.result import INVISIBLE, OCCLUDED, VISIBLE, Estimate
from featmesh.inference.segment import hide, segment
from featmesh.model.labels import Labels
from featmesh.photo.photo import Photo
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate

CAMERA = Camera(600.0, 600.0, 320.0, 180.0, 360, 640)
POSE = aside(look(60, 14, 0, 2.2), CAMERA, (330, 190))


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


@lru_cache
def scene(hidden: bool) -> tuple[Photo, np.ndarray, np.ndarray]:
    """A photo, the car's pixels, and those of them behind a block of background."""
    mesh = car_mesh()
    shown = background((CAMERA.height, CAMERA.width), 5).copy()
    drawn = rasterize(POSE.apply(mesh.vertices)[None], mesh.faces, CAMERA)
    car = drawn.covered[0].numpy()
    bare = shown.copy()
    shown[car] = interpolate(paint(mesh), mesh.faces, drawn)[0].numpy().round()[car]
    block = np.zeros_like(car)
    if hidden:
        x0, _, x1, _ = (round(v) for v in box_of(POSE, CAMERA))
        block[:, x0 : round(0.6 * x0 + 0.4 * x1)] = True
        shown[block] = bare[block]
    return Photo.from_array(shown), car, car & block


@lru_cache
def found(hidden: bool) -> Estimate:
    return estimate(car_model(), scene(hidden)[0], box_of(POSE, CAMERA), CAMERA, "segment")


@pytest.mark.parametrize("hidden", [False, True])
def test_masks_are_those_of_the_photo(hidden):
    photo, car, behind = scene(hidden)
    s = found(hidden).segmentation
    assert s.amodal.shape == (photo.height, photo.width)
    assert iou(s.amodal, car) > 0.95
    assert iou(s.visible, car & ~behind) > 0.9
    assert np.array_equal(s.occluded, s.amodal & ~s.visible)
    if hidden:
        assert iou(s.occluded, behind) > 0.75
    else:
        assert s.occluded.sum() < 0.02 * car.sum()


def test_depth_and_surface_are_those_of_the_object():
    e = found(False)
    s, mesh = e.segmentation, car_mesh()
    drawn = rasterize(POSE.apply(mesh.vertices)[None], mesh.faces, CAMERA)
    both = s.amodal & drawn.covered[0].numpy()
    assert np.abs(s.depth[both] - drawn.depth[0].numpy()[both]).mean() < 0.01
    assert np.isinf(s.depth[~s.amodal]).all()
    truth = interpolate(mesh.vertices, mesh.faces, drawn)[0].numpy() / mesh.extent.norm().item()
    seen = s.surface(e.mesh)
    assert np.abs(seen - 0.5 - truth)[both].mean() < 0.01
    assert not seen[~s.amodal].any()


def test_faces_know_whether_they_are_seen():
    s = found(True).segmentation
    mesh = car_mesh()
    corners = POSE.apply(mesh.vertices)[mesh.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    away = (normals * corners.mean(1)).sum(1).numpy() > 0
    assert (s.states[away] == INVISIBLE).mean() > 0.97
    assert (s.states == VISIBLE).sum() > (s.states == OCCLUDED).sum() > 20
    bare = found(False).segmentation.states
    assert (bare == OCCLUDED).sum() < 0.02 * (bare == VISIBLE).sum()


def test_labels_are_drawn_where_they_lie_on_the_surface():
    mesh = car_mesh()
    front = (mesh.vertices[:, 1] < 0).float()
    labels = Labels(("front", "rear"), torch.stack([0 * front, front, 1 - front], 1))
    e = found(True)
    s = segment(car_model(), scene(True)[0], e, labels)
    place = s.surface(e.mesh)[..., 1] - 0.5
    sure = s.amodal & (np.abs(place) > 0.03)
    assert np.array_equal(s.parts[sure] == 1, place[sure] < 0)
    assert (s.parts[~s.amodal] == 0).all()
    assert set(s.names) == set(s.shares) == {"front", "rear"}
    for number, name in enumerate(s.names, 1):
        drawn = s.parts == number
        assert s.shares[name] == pytest.approx((s.visible & drawn).sum() / drawn.sum())


def test_another_object_hides():
    s = found(False).segmentation
    by = np.zeros_like(s.amodal)
    by[:, :320] = True
    behind = hide(s, by)
    assert np.array_equal(behind.visible, s.visible & ~by)
    assert np.array_equal(behind.amodal, s.amodal)
    assert (behind.states == OCCLUDED).any()


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_masks_have_the_resolution_of_the_photo(factor):
    photo, car, _ = scene(False)
    size = (round(photo.height * factor), round(photo.width * factor))
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) / factor, m - 1).astype(int)
        for n, m in zip(size, car.shape, strict=True)
    )
    large = Photo.from_array(np.ascontiguousarray(photo.pixels[rows][:, columns]))
    box = tuple(v * factor for v in box_of(POSE, CAMERA))
    s = estimate(car_model(), large, box, CAMERA.scale(factor), "segment").segmentation
    assert s.amodal.shape == size
    assert iou(s.visible, car[rows][:, columns]) > 0.93


def test_the_shape_is_fitted_first_where_there_is_a_space():
    photo, _, _ = scene(False)
    e = estimate(shaped_model(), photo, box_of(POSE, CAMERA), CAMERA, "segment")
    assert e.shape is not None and e.segmentation is not None
    assert "segment" in e.seconds and "shape" in e.seconds


def test_without_a_pose_there_is_nothing_to_draw():
    refused = replace(found(False), status="no_object", cam_from_obj=None)
    with pytest.raises(InputError, match="E_POSE"):
        segment(car_model(), scene(False)[0], refused)
    few = Labels(("all",), torch.tensor([[0.0, 1.0]]))
    with pytest.raises(InputError, match="E_LABELS"):
        segment(car_model(), scene(False)[0], found(False), few)


def test_a_refused_photo_has_no_masks():
    model = replace(car_model(), threshold=0.99)
    e = estimate(model, scene(False)[0], box_of(POSE, CAMERA), CAMERA, "segment")
    assert e.status == "no_object" and e.segmentation is None
