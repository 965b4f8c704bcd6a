"""Claims about measuring conventional networks: frames, rows, which model is which."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import aside, box_of, car_mesh, car_views, look, photo_of
from tiny_trunk import NETWORK, tiny_backbone, tiny_state

from featmesh.cli.main import execute
from featmesh.errors import CheckpointError, InputError
from featmesh.evaluate.baselines import estimate_direct, opened, placed
from featmesh.evaluate.predict import evaluate, predict
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.viewpoint import ray_rotation
from featmesh.model.backbones import BACKBONES
from featmesh.model.direct import DirectModel, Views, answer, build_direct
from featmesh.model.direct_config import DirectConfig
from featmesh.photo.read import read_photo
from featmesh.photo.resize import resample, squeezed


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(BACKBONES, "hf", tiny_backbone)


def untrained(kind):
    config = DirectConfig(kind=kind, width=16, level=1)
    backbone = build_direct(config, NETWORK)
    backbone.trunk.load_state_dict(tiny_state())
    return DirectModel("car", config, NETWORK, backbone, car_mesh())


def told(R):
    """Return a model that says one rotation whatever it sees."""
    model = untrained("nearest")
    d = math.prod(model.config.cells) * 24
    model.views = Views(torch.zeros(1, d).half(), R[None].float())
    return model


def knowing(views):
    """Return a model that has seen the crops of these views."""
    model = untrained("nearest")
    features, rotations = [], []
    for view in views:
        seen = squeezed(read_photo(view.image).pixels, view.box, model.size)
        pixels = torch.from_numpy(seen).permute(2, 0, 1)[None].float()
        features.append(answer(model.backbone, pixels).detach().half())
        rotations.append(ray_rotation(torch.from_numpy(view.t)) @ torch.from_numpy(view.R))
    model.views = Views(torch.cat(features), torch.stack(rotations).float())
    return model


CAMERA = Camera(420.0, 420.0, 160.0, 120.0, 240, 320)


PLACES = [(160.0, 120.0), (60.0, 70.0), (290.0, 200.0)]


@pytest.mark.parametrize("at", PLACES)
def test_the_pose_belongs_to_the_photos_camera(at):
    """What is seen along the ray to the object is taken back to the camera of the whole photo."""
    seen = look(40.0, 12.0, 3.0, 3.0)
    pose = aside(seen, CAMERA, at)
    camera = replace(CAMERA, cx=400.0, cy=300.0, width=800, height=600)  # nothing is cut off
    found = estimate_direct(told(seen.R), photo_of(pose, camera), box_of(pose, camera), camera)
    assert (found.status, found.category, found.camera_source) == ("ok", "car", "given")
    off = geodesic_angle(found.cam_from_obj.R, pose.R)
    assert float(off.rad2deg()) < 0.01
    np.testing.assert_allclose(found.cam_from_obj.t.numpy(), pose.t.numpy(), atol=1e-3)
    assert found.viewpoint.azimuth == pytest.approx(math.radians(40), abs=1e-6)
    assert found.viewpoint.elevation == pytest.approx(math.radians(12), abs=1e-6)
    assert found.viewpoint.distance == pytest.approx(3.0, rel=1e-3)
    assert found.mesh is not None  # reports draw it over the photo


@pytest.mark.parametrize("at", PLACES)
def test_without_a_camera_the_object_lies_at_the_boxs_centre(at):
    pose = aside(look(40.0, 12.0, 3.0, 3.0), CAMERA, at)
    R, box = look(200.0).R, box_of(pose, CAMERA)
    placed_at = placed(R, car_mesh().vertices, CAMERA, box, centred=True)
    point, _ = CAMERA.project(placed_at.t)
    np.testing.assert_allclose(point.numpy(), [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    torch.testing.assert_close(ray_rotation(placed_at.t) @ placed_at.R, R)


def test_a_box_as_large_as_the_photo_does_not_put_the_camera_into_the_object():
    box = (-500.0, -500.0, 900.0, 900.0)
    for centred in (True, False):
        pose = placed(look(0.0).R, car_mesh().vertices, CAMERA, box, centred)
        assert float(pose.t.norm()) == pytest.approx(0.75) and bool(pose.R.isfinite().all())


def test_rows_of_a_network_are_rows_of_a_prediction(tmp_path):
    """A network that has seen the very crops is right on each of them: nothing is lost between."""
    views = car_views(tmp_path, 8)
    model = knowing(views)
    rows = predict(model, views, tmp_path / "out", estimate_direct)
    for row in rows:
        R = np.array(row["R"])
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
        assert row["status"] == "ok" and row["confidence"] is None and row["score"] > 0.99
        assert row["t"][2] > 0 and row["t_unit"] == "object" and len(row["box"]) == 4
    metrics = evaluate(replace(model, hash="x"), views, tmp_path / "again", estimate_direct)
    pose = metrics["pose"]
    assert (pose["failed"], pose["acc_10"]) == (0, 1.0) and pose["median_deg"] < 0.5


def test_without_a_camera_the_rotation_is_that_along_the_ray(tmp_path):
    views = car_views(tmp_path, 6)
    model = knowing(views)
    bare = []
    for view in views:
        R = ray_rotation(torch.from_numpy(view.t)).numpy() @ view.R
        bare.append(replace(view, K=None, t=None, t_unit=None, R=R, distance=1.8))
    metrics = evaluate(model, bare, tmp_path / "out", estimate_direct)
    assert metrics["pose"]["acc_10"] == 1.0


def test_networks_see_the_crop_that_the_estimator_sees(monkeypatch):
    model, seen = untrained("6d"), []
    monkeypatch.setattr(DirectModel, "read", lambda self, said: 1 / 0)
    monkeypatch.setattr("featmesh.model.direct.answer", lambda net, x: seen.append(x))
    photo, pose = photo_of(look(30.0), CAMERA), look(30.0)
    with pytest.raises(ZeroDivisionError):
        estimate_direct(model, photo, box_of(pose, CAMERA))
    crop = Crop.from_box(Camera.assumed(240, 320), box_of(pose, CAMERA), model.size)
    expected = torch.from_numpy(resample(photo, crop)[0]).permute(2, 0, 1).float()
    assert torch.equal(seen[0][0], expected)


@pytest.mark.parametrize("kind", ["bins", "6d"])
def test_a_score_that_is_not_known_is_null(kind, tmp_path):
    views = car_views(tmp_path, 2)
    (first, _) = predict(untrained(kind), views, tmp_path / "out", estimate_direct)
    assert first["status"] == "ok" and (first["score"] is None) == (kind == "6d")


def test_it_looks_for_no_object(tmp_path):
    with pytest.raises(CheckpointError, match="finds no objects; try: without --locate") as got:
        predict(told(torch.eye(3)), car_views(tmp_path, 1), tmp_path / "o", estimate_direct, True)
    assert got.value.code == "E_CKPT_PART"
    photo = photo_of(look(0.0), CAMERA)
    with pytest.raises(InputError, match="x0 < x1"):
        estimate_direct(told(torch.eye(3)), photo, (9.0, 9.0, 9.0, 20.0))


def test_a_model_is_opened_as_what_it_is(tmp_path):
    untrained("bins").save(tmp_path / "net")

    def ours():
        raise AssertionError("not asked")

    model, estimate = opened(tmp_path / "net", ours)
    assert isinstance(model, DirectModel) and estimate is estimate_direct and model.hash
    model, estimate = opened("car", ours)
    assert model.category == "car" and not isinstance(model, DirectModel) and estimate is ours


def test_evaluate_takes_its_folder(tmp_path, capsys):
    car_views(tmp_path, 3)
    untrained("bins").save(tmp_path / "net")
    words = ["evaluate", "--views", str(tmp_path / "views.json"), "--model", str(tmp_path / "net")]
    assert execute([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["pose"]["count"] == 3 and metrics["status"] == {"ok": 3}
    assert execute([*words, "--out", str(tmp_path / "other"), "--locate"]) == 1
    assert "E_CKPT_PART" in capsys.readouterr().err
