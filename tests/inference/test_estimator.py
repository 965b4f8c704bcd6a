"""Claims about the whole estimate: pictures of a painted car, a network that reads colours."""

import inspect
import io
import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, car_mesh, car_model, look, photo_of, picture
from PIL import Image

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.inference import estimator
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig, nemo_config
from featmesh.inference.estimator import estimate, surer
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo

CAMERA = Camera(700.0, 690.0, 330.0, 235.0, 480, 640)
# (pose as seen along the ray, where the object's centre lies in the photo)
VIEWS = [
    (look(40, 12, 5, 2.5), (330, 235)),
    (look(200, 5, -8, 4.0), (450, 300)),
    (look(300, 20, 3, 5.0), (560, 90)),  # far from the axis: R differs by 18 degrees from there
    (look(90, 25, 0, 3.0), (150, 380)),
]
# stored pixels of a displayed picture, by EXIF orientation
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.flipud(np.fliplr(a)),
    4: np.flipud,
    5: lambda a: np.transpose(a, (1, 0, 2)),
    6: lambda a: np.flipud(np.transpose(a, (1, 0, 2))),
    7: lambda a: np.flipud(np.fliplr(np.transpose(a, (1, 0, 2)))),
    8: lambda a: np.fliplr(np.transpose(a, (1, 0, 2))),
}


def degrees(found, pose):
    return math.degrees(float(geodesic_angle(found.R, pose.R)))


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both)


@pytest.mark.parametrize(
    ("view", "boxed"), [(0, True), (1, True), (2, True), (1, False), (2, False), (3, False)]
)
def test_with_a_known_camera_the_pose_is_that_of_the_photo(view, boxed):
    seen, at = VIEWS[view]
    pose = aside(seen, CAMERA, at)
    photo, box = photo_of(pose, CAMERA), box_of(pose, CAMERA)
    found = estimate(car_model(), photo, box if boxed else None, CAMERA)
    assert (found.status, found.camera_source, found.t_unit) == ("ok", "given", "object")
    assert degrees(found.cam_from_obj, pose) < 3
    assert float((found.cam_from_obj.t - pose.t).norm() / pose.t.norm()) < 0.03
    assert overlap(found.box, box) > 0.9
    assert found.camera == CAMERA
    upright = Viewpoint.from_pose(pose)
    for name in ("azimuth", "elevation", "theta"):
        assert math.degrees(
            abs(getattr(found.viewpoint, name) - getattr(upright, name))
        ) == pytest.approx(0, abs=3)
    assert found.score > 0.5 and found.converged
    assert found.maps.features.shape[:2] == found.maps.score.shape == (28, 42)


def test_the_photos_own_camera_is_taken():
    seen, at = VIEWS[1]
    pose = aside(seen, CAMERA, at)
    photo = photo_of(pose, CAMERA, known=True)
    one = estimate(car_model(), photo, box_of(pose, CAMERA))
    two = estimate(car_model(), photo_of(pose, CAMERA), box_of(pose, CAMERA), CAMERA)
    assert torch.equal(one.cam_from_obj.R, two.cam_from_obj.R)
    assert degrees(one.cam_from_obj, pose) < 3


@pytest.mark.parametrize(("view", "boxed"), [(0, True), (3, True), (1, False)])
def test_without_a_camera_the_viewpoint_is_right(view, boxed):
    """R turns with the focal length that is assumed; what is seen along the ray does not."""
    seen, at = VIEWS[view]
    pose = aside(seen, CAMERA, at)
    found = estimate(car_model(), photo_of(pose, CAMERA), box_of(pose, CAMERA) if boxed else None)
    assert (found.status, found.camera_source) == ("ok", "assumed")
    assert degrees(found.viewpoint.to_pose(), seen) < 8
    assert overlap(found.box, box_of(pose, CAMERA)) > 0.75
    assert any("camera assumed" in words for words in found.warnings)
    # camera and pose belong together: the car's centre projects where it is
    centre = found.camera.project(found.cam_from_obj.t)[0]
    assert float((centre - torch.tensor(at)).norm()) < 10


def test_a_real_length_gives_metres():
    seen, at = VIEWS[0]
    pose = aside(seen, CAMERA, at)
    photo, box = photo_of(pose, CAMERA), box_of(pose, CAMERA)
    config = EstimateConfig(length=4.4)
    found = estimate(car_model(), photo, box, CAMERA, config=config)
    metres = 4.4 / float(car_mesh().extent[1])
    assert found.t_unit == "metre"
    assert float((found.cam_from_obj.t - metres * pose.t).norm() / (metres * pose.t.norm())) < 0.03
    assert float(found.mesh.extent[1]) == pytest.approx(4.4)
    assert found.viewpoint.distance == pytest.approx(metres * 2.5, rel=0.03)
    assert degrees(found.cam_from_obj, pose) < 3
    # a length says nothing where the lens is not known
    assert estimate(car_model(), photo, box, config=config).t_unit == "object"


def test_the_same_photo_gives_the_same_answer():
    seen, at = VIEWS[2]
    pose = aside(seen, CAMERA, at)
    photo, box = photo_of(pose, CAMERA), box_of(pose, CAMERA)
    one, two = (estimate(car_model(), photo, box) for _ in range(2))
    assert torch.equal(one.cam_from_obj.as_matrix(), two.cam_from_obj.as_matrix())
    assert (one.score, one.box, one.camera) == (two.score, two.box, two.camera)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_pose_of_the_displayed_photo(tmp_path, orientation):
    seen, at = VIEWS[1]
    pose = aside(seen, CAMERA, at)
    stored = np.ascontiguousarray(STORED[orientation](picture(pose, CAMERA)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"{orientation}.png"
    Image.fromarray(stored).save(path, exif=exif)
    found = estimate(car_model(), read_photo(path), box_of(pose, CAMERA), CAMERA)
    assert degrees(found.cam_from_obj, pose) < 3
    assert torch.equal(found.cam_from_obj.R, plain_estimate().cam_from_obj.R)


@lru_cache
def plain_estimate():
    pose = aside(*VIEWS[1][:1], CAMERA, VIEWS[1][1])
    return estimate(car_model(), photo_of(pose, CAMERA), box_of(pose, CAMERA), CAMERA)


def test_a_photo_in_cmyk_and_a_jpeg(tmp_path):
    seen, at = VIEWS[0]
    pose = aside(seen, CAMERA, at)
    shown = Image.fromarray(picture(pose, CAMERA))
    shown.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    shown.save(tmp_path / "rgb.jpg", quality=90)
    for name in ("cmyk.jpg", "rgb.jpg"):
        found = estimate(car_model(), read_photo(tmp_path / name), box_of(pose, CAMERA), CAMERA)
        assert degrees(found.cam_from_obj, pose) < 3, name


def test_a_box_partly_outside_is_clipped_and_said():
    pose = aside(look(120, 10, 0, 3.0), CAMERA, (560, 240))  # its front is cut off
    box = box_of(pose, CAMERA)
    assert box[2] > 640
    found = estimate(car_model(), photo_of(pose, CAMERA), box, CAMERA)
    assert "box clipped to the photo" in found.warnings
    assert degrees(found.cam_from_obj, pose) < 5
    assert found.box[2] > 640  # of the whole mesh
    inside = (box[0], box[1], 640.0, box[3])
    same = estimate(car_model(), photo_of(pose, CAMERA), inside, CAMERA)
    assert "box clipped to the photo" not in same.warnings
    assert torch.equal(same.cam_from_obj.R, found.cam_from_obj.R)


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_a_box_that_is_too_small_or_too_large_still_does(scale):
    seen, at = VIEWS[0]
    pose = aside(seen, CAMERA, at)
    x0, y0, x1, y1 = box_of(pose, CAMERA)
    w, h = (x1 - x0) * scale / 2, (y1 - y0) * scale / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    found = estimate(car_model(), photo_of(pose, CAMERA), (x - w, y - h, x + w, y + h), CAMERA)
    assert degrees(found.cam_from_obj, pose) < 3


def test_an_empty_scene_is_refused_by_a_threshold_that_keeps_the_car():
    strict = replace(car_model(), threshold=0.3)
    pose = aside(*VIEWS[0][:1], CAMERA, VIEWS[0][1])
    with_car = estimate(strict, photo_of(pose, CAMERA), box_of(pose, CAMERA))
    refused = estimate(strict, Photo.from_array(background((480, 640), 5)))
    assert with_car.status == "ok"
    assert refused.status == "no_object" and not refused.converged
    assert not refused.score > 0.5 * with_car.score


def test_what_is_not_found_may_fill_the_photo(monkeypatch):
    near = look(40, 12, 5, 1.6)
    photo = photo_of(near, CAMERA)
    strict = replace(car_model(), threshold=0.3)
    monkeypatch.setattr(estimator, "find_box", lambda *_, **__: (0.0, 0.0, 60.0, 40.0))
    alone = estimate(strict, photo, (0.0, 0.0, 60.0, 40.0))
    assert alone.status == "no_object"
    found, whole = estimate(strict, photo), estimate(strict, photo, photo.whole)
    assert found.status == "ok" and degrees(found.cam_from_obj, near) < 10
    assert torch.equal(found.cam_from_obj.R, whole.cam_from_obj.R)
    assert "nothing found" not in " ".join(found.warnings)
    assert found.seconds["scan"] > 0


def test_the_surer_of_two_estimates_has_a_pose():
    seen, at = VIEWS[0]
    pose = aside(seen, CAMERA, at)
    first = estimate(car_model(), photo_of(pose, CAMERA), box_of(pose, CAMERA))
    sure, unsure = replace(first, confidence=0.9), replace(first, confidence=0.1)
    none = replace(sure, status="no_object", cam_from_obj=None)
    assert surer(unsure, sure).confidence == surer(sure, unsure).confidence == 0.9
    assert surer(unsure, none).has_pose
    assert surer(first, replace(first, score=first.score + 1)).score == first.score + 1
    assert surer(first, first).seconds == {k: 2 * v for k, v in first.seconds.items()}


def test_other_settings_run_and_find_it():
    seen, at = VIEWS[0]
    pose = aside(seen, CAMERA, at)
    photo, box = photo_of(pose, CAMERA), box_of(pose, CAMERA)
    random = EstimateConfig(ScanConfig(start="random", starts=16), RefineConfig(steps=60, keep=4))
    for config in (nemo_config(), random):
        found = estimate(car_model(), photo, box, CAMERA, config=config)
        assert degrees(found.cam_from_obj, pose) < 5


def test_an_observer_is_told_every_step():
    seen, at = VIEWS[0]
    pose = aside(seen, CAMERA, at)
    steps = []
    estimate(
        car_model(), photo_of(pose, CAMERA), box_of(pose, CAMERA), CAMERA, on_step=steps.append
    )
    assert [s.step for s in steps] == list(range(len(steps)))
    assert len(steps) > RefineConfig().steps


def test_stages_are_timed():
    seen, at = VIEWS[0]
    pose = aside(seen, CAMERA, at)
    found = estimate(car_model(), photo_of(pose, CAMERA))
    assert set(found.seconds) == {"locate", "features", "scan", "refine", "focal"}
    assert all(v >= 0 for v in found.seconds.values())


def a_photo():
    return Photo.from_array(background((480, 640), 0))


@pytest.mark.parametrize(
    ("photo", "options", "code", "words"),
    [
        (
            np.zeros((3, 480, 640), np.float32),
            {},
            "E_IMG_FORMAT",
            r"a Photo .* a float32 array of shape \(3, 480, 640\); use featmesh.read_photo",
        ),
        ("car.jpg", {}, "E_IMG_FORMAT", "a Photo"),
        (None, {"box": (700.0, 10.0, 800.0, 90.0)}, "E_BOX", "inside the 640x480 photo"),
        (None, {"box": (30.0, 10.0, 20.0, 90.0)}, "E_BOX", "x0 < x1"),
        (None, {"box": (math.nan, 10.0, 20.0, 90.0)}, "E_BOX", "finite"),
        (None, {"camera": Camera(700.0, 700.0, 320.0, 240.0, 640, 480)}, "E_CAMERA", "640x480"),
        (None, {"camera": Camera(2.0, 2.0, 320.0, 240.0, 480, 640)}, "E_CAMERA", "fx between"),
        (None, {"task": "sculpt"}, "E_TASK", "one of pose, shape, segment, got 'sculpt'"),
    ],
)
def test_what_cannot_be_used_is_refused(photo, options, code, words, monkeypatch):
    run = inspect.unwrap(estimate)  # without the tests' own check of types
    monkeypatch.setattr(estimator, "lens_of", inspect.unwrap(estimator.lens_of))
    with pytest.raises(InputError, match=f"expected .*{words}") as got:
        run(car_model(), a_photo() if photo is None else photo, **options)
    assert got.value.code == code


def test_bytes_that_are_no_photo_are_refused_by_the_reader(tmp_path):
    path = tmp_path / "car.png"
    buffer = io.BytesIO()
    Image.fromarray(background((480, 640), 0)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue()[:2000])
    with pytest.raises(InputError):
        read_photo(path)
