"""Claims about several objects in one photo: painted cars side by side, one before another."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, car_mesh, car_model, lift, look, paint, shaped_model

import featmesh
from featmesh.errors import CheckpointError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import box_iou
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference import several
from featmesh.inference.result import OCCLUDED, Estimate
from featmesh.inference.several import estimate_all, find_all
from featmesh.photo.photo import Photo
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate

CAMERA = Camera(600.0, 600.0, 320.0, 180.0, 360, 640)
FLIP = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)  # a van is a car painted back to front


@pytest.fixture(autouse=True)
def _few_glances(monkeypatch):
    """Painted objects are clear: the likeliest boxes do."""
    monkeypatch.setattr(several, "GLANCES", 10)
    monkeypatch.setattr(several, "SIDES", (640, 452, 320, 226))


def scene(*objects, lens=CAMERA):
    """A photo of objects, each (pose, colours of the vertices), and which is seen at each pixel."""
    shown = background((lens.height, lens.width), 3).astype(float)
    nearest = np.full(shown.shape[:2], np.inf)
    owner = np.full(shown.shape[:2], -1)
    mesh = car_mesh()
    for k, (pose, colours) in enumerate(objects):
        drawn = rasterize(pose.apply(mesh.vertices)[None], mesh.faces, lens)
        depth = drawn.depth[0].numpy()
        front = depth < nearest
        shown[front] = interpolate(colours, mesh.faces, drawn)[0].numpy().round()[front]
        nearest[front], owner[front] = depth[front], k
    return Photo.from_array(shown.clip(0, 255).astype(np.uint8)), owner


def car(azimuth, at, distance=4.0, elevation=12.0):
    return aside(look(azimuth, elevation, 0, distance), CAMERA, at), paint(car_mesh())


def van(azimuth, at, distance=4.0):
    pose, _ = car(azimuth, at, distance)
    mesh = car_mesh()
    return pose, paint(mesh.with_vertices(mesh.vertices * FLIP))


@lru_cache
def van_model():
    texture = lift(car_mesh().vertices * FLIP).float()
    return replace(car_model(), category="van", texture=texture, clutter=car_model().clutter)


def matched(found, objects):
    """For each estimate the object whose box it has; each object once."""
    boxes = [box_of(pose, CAMERA) for pose, _ in objects]
    overlaps = [[box_iou(e.box, box) for box in boxes] for e in found]
    assert all(max(row) > 0.75 for row in overlaps)
    which = [int(np.argmax(row)) for row in overlaps]
    assert sorted(which) == list(range(len(objects)))
    return which


def degrees(found, pose):
    return math.degrees(float(geodesic_angle(found.cam_from_obj.R, pose.R)))


BESIDE = (car(40, (150, 200)), car(250, (450, 160), 5.0), car(120, (330, 310), 9.0))
BEHIND = (car(80, (400, 150), 4.0), car(30, (320, 200), 2.8))  # the second hides the first partly


@lru_cache
def found_of(known, *objects):
    photo, owner = scene(*objects)
    return find_all(car_model(), photo, CAMERA if known else None), owner


@pytest.mark.parametrize("known", [True, False])
def test_each_of_several_objects_is_found_once(known):
    found, owner = found_of(known, *BESIDE)
    for e, k in zip(found, matched(found, BESIDE), strict=True):
        assert e.status == "ok" and e.category == "car"
        if known:
            assert degrees(e, BESIDE[k][0]) < 4
        seen, true = e.segmentation.visible, owner == k
        assert (seen & true).sum() / (seen | true).sum() > 0.85


@pytest.mark.parametrize("known", [True, False])
def test_the_nearer_of_two_comes_first_and_takes_the_overlap(known):
    found, owner = found_of(known, *BEHIND)
    assert matched(found, BEHIND) == [1, 0]
    front, back = (e.segmentation for e in found)
    both = front.amodal & back.amodal
    assert both.sum() > 0.1 * back.amodal.sum()
    assert not (front.visible & back.visible).any()
    assert front.visible[both].mean() > 0.9
    assert not back.visible[both & front.visible].any()
    for k, one in ((1, front), (0, back)):
        true = owner == k
        assert (one.visible & true).sum() / (one.visible | true).sum() > 0.85
    # what is hidden is told per face too: faces drawn in the overlap alone are occluded
    alone = np.setdiff1d(back.face_id[both & front.visible], back.face_id[back.visible])
    assert len(alone[alone >= 0]) and (back.states[alone[alone >= 0]] == OCCLUDED).all()


def test_objects_that_do_not_overlap_are_ordered_by_distance():
    found, _ = found_of(True, *BESIDE)
    assert matched(found, BESIDE) == [0, 1, 2]
    found, _ = found_of(False, *BESIDE)
    assert matched(found, BESIDE) == [0, 1, 2]


def test_a_photo_of_one_object_gives_one_estimate_with_all_the_time():
    found, _ = found_of(True, BESIDE[0])
    assert len(found) == 1
    assert {"locate", "features", "scan", "refine", "segment"} <= set(found[0].seconds)
    assert found[0].margin is None and found[0].rivals == ()


def test_a_photo_of_nothing_gives_nothing():
    empty = Photo.from_array(background((360, 640), 5))
    assert find_all(car_model(), empty) == []
    told = estimate_all([car_model(), van_model()], empty)
    assert [(e.status, e.category) for e in told] == [("no_object", "car")]
    assert told[0].to_json()["R"] is None


def test_what_a_better_estimate_explains_is_no_second_object():
    photo, _ = scene(BESIDE[0])
    one = featmesh.estimate(car_model(), photo, box_of(BESIDE[0][0], CAMERA), CAMERA)
    x0, y0, x1, y1 = one.box
    part = featmesh.estimate(car_model(), photo, (x0, y0, (x0 + x1) / 2, y1), CAMERA)
    finds = [
        several.Found(car_model(), e, several.trace(car_model(), photo, e))
        for e in (part, one, replace(one))
    ]
    kept = several.explaining(finds, several.Found.faint)
    assert len(kept) == 1
    assert kept[0].estimate.box == pytest.approx(one.box, abs=25)


def test_an_estimate_without_pose_explains_nothing():
    photo, _ = scene(BESIDE[0])
    none = several.trace(car_model(), photo, Estimate("no_object", "car"))
    assert not none.drawn.any() and not none.gain.any()
    assert none.beside() == several.Rest(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("size", [(360, 640), (900, 1600), (61, 333)])
def test_the_grid_of_claims_covers_the_photo(size):
    photo = Photo.from_array(np.zeros((*size, 3), np.uint8))
    (rows, columns), step = several.grid_of(photo)
    assert max(rows, columns) <= several.GRID
    assert (rows - 1) * step < size[0] <= rows * step
    assert (columns - 1) * step < size[1] <= columns * step


def test_a_trace_lies_where_the_object_is_drawn():
    photo, owner = scene(BESIDE[0])
    one = featmesh.estimate(car_model(), photo, box_of(BESIDE[0][0], CAMERA), CAMERA)
    found = several.trace(car_model(), photo, one)
    step = several.grid_of(photo)[1]
    rows, columns = ((np.arange(n) + 0.5) * step for n in found.drawn.shape)
    true = owner[np.ix_(rows.astype(int), columns.astype(int))] == 0
    assert (found.drawn & true).sum() / (found.drawn | true).sum() > 0.8
    assert found.gain[found.drawn].mean() == pytest.approx(
        np.nanmean(np.maximum(one.maps.score, 0)), rel=0.15
    )


def test_each_object_gets_the_category_that_explains_it_best():
    objects = (car(40, (160, 200)), van(60, (470, 190)))
    photo, _ = scene(*objects)
    found = estimate_all([van_model(), car_model()], photo, CAMERA)
    which = matched(found, objects)
    for e, k in zip(found, which, strict=True):
        ours, other = (("car", "van"), ("van", "car"))[k]
        assert e.category == ours
        assert degrees(e, objects[k][0]) < 4
        assert [c for c, _ in e.rivals] == [other]
        assert e.margin > 0.1
        told = e.to_json()
        assert told["margin"] == pytest.approx(e.margin, abs=1e-4)
        assert told["rivals"][0]["category"] == other
        assert told["rivals"][0]["score"] == pytest.approx(e.rivals[0][1], abs=1e-4)


def test_one_model_has_no_rivals():
    photo, _ = scene(BESIDE[0])
    (one,) = estimate_all([car_model()], photo, CAMERA)
    assert (one.category, one.margin, one.rivals) == ("car", None, ())
    assert "margin" not in one.to_json()


def test_calibrated_models_are_compared_by_confidence():
    photo, _ = scene(BESIDE[0])
    one, other = (
        several.Found(m, e, several.trace(m, photo, e))
        for m, e in (
            (m, featmesh.estimate(m, photo, box_of(BESIDE[0][0], CAMERA), CAMERA))
            for m in (car_model(), van_model())
        )
    )
    doubted = replace(one, estimate=replace(one.estimate, confidence=0.3))
    sure = replace(other, estimate=replace(other.estimate, confidence=0.9))
    models = [car_model(), van_model()]

    def nobody(model, box):
        raise AssertionError("each model has looked already")

    won = several.classified([doubted, sure], models, photo, nobody)
    assert won.estimate.category == "van"
    # a painted box is hardly called a car: the names leave it at that
    assert won.estimate.margin == pytest.approx(0.6, abs=0.02)
    ((rival, score),) = won.estimate.rivals
    assert rival == "car" and score == pytest.approx(0.3, abs=0.01)
    # one that is not calibrated: what they explain counts
    won = several.classified([one, sure], models, photo, nobody)
    assert won.estimate.category == "car"


def test_tasks_and_cameras_are_those_of_estimate():
    photo, _ = scene(BESIDE[0])
    (one,) = find_all(shaped_model(), photo, CAMERA, "segment")
    assert one.shape is not None and one.segmentation.visible.any()
    with pytest.raises(CheckpointError, match="find_all"):
        find_all(car_model(), photo, task="shape")
    with pytest.raises(InputError, match="640x360"):
        find_all(car_model(), photo, Camera(600.0, 600.0, 180.0, 320.0, 640, 360))


def test_no_models_are_refused():
    photo, _ = scene()
    with pytest.raises(InputError, match="at least one model") as got:
        estimate_all([], photo)
    assert got.value.code == "E_MODEL"


def test_the_public_name_is_this_one():
    assert featmesh.estimate_all is estimate_all
