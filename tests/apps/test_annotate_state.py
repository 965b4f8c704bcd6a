"""Clicks lead to the pose of the photo, and the pose to a record that training reads."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import box_of, car_mesh, car_model, look, photo_of, picture
from PIL import Image

from featmesh.apps.annotate_session import Session
from featmesh.apps.annotate_state import Click, Desk, Marks, Spot, pixel_under, spot_under
from featmesh.apps.sight import look_closely
from featmesh.apps.view_state import Stage, backdrop
from featmesh.errors import InputError
from featmesh.evaluate.predict import evaluate
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import load_data
from featmesh.views.record import View, read_views, write_views

CAMERA = Camera(330.0, 330.0, 150.0, 122.0, 224, 336)
POSE = look(70.0, 12.0, 3.0, 2.6)
CONFIG = EstimateConfig(ScanConfig(azimuths=12), RefineConfig(steps=12, polish=3))
FACES = (40, 190, 333, 470, 610, 720)


def clicks_of(pose: Pose, camera: Camera = CAMERA, count: int = 6) -> tuple[Click, ...]:
    """Where places of the painted car are seen, hidden ones too."""
    mesh, third = car_mesh(), (0.5, 0.25, 0.25)
    clicks = []
    for face in FACES[:count]:
        place = (mesh.corners[face] * torch.tensor(third, dtype=torch.float64)[:, None]).sum(0)
        x, y = camera.project(pose.apply(place[None]))[0][0].tolist()
        clicks.append(Click(Spot(face, third), (x, y)))
    return tuple(clicks)


@lru_cache
def stage_of(known: bool) -> Stage:
    photo = photo_of(POSE, CAMERA, known)
    return Stage(look_closely(car_model(), photo, box_of(POSE, CAMERA), config=CONFIG))


def desk_of(known: bool, path: Path = Path("car.png")) -> Desk:
    return Desk(path, stage_of(known), CONFIG)


def angle_to(desk: Desk, view: View) -> float:
    """Radians between a record's rotation and the true one."""
    assert view.R is not None
    R = POSE.R if view.K is not None else look(70.0, 12.0, 3.0).R
    return float(geodesic_angle(torch.from_numpy(view.R), R))


@pytest.mark.parametrize("known", [True, False], ids=["known lens", "unknown lens"])
def test_clicks_bring_a_wrong_pose_to_the_right_one(known: bool) -> None:
    desk, marks = desk_of(known), Marks(clicks_of(POSE))
    wrong = replace(desk.stage.found, azimuth=desk.stage.found.azimuth + np.pi, elevation=0.6)
    before = desk.quality(wrong, marks)
    state = desk.solved(wrong, marks)
    after = desk.quality(state, marks)
    assert before.reprojection is not None and after.reprojection is not None
    assert after.reprojection < 4 < 30 < before.reprojection
    assert after.evidence > 2 * before.evidence and after.share == pytest.approx(
        after.reprojection
        / np.hypot(*np.diff(np.reshape(box_of(POSE, CAMERA), (2, 2)), axis=0)[0]),
        rel=0.1,
    )
    assert angle_to(desk, desk.label(state, marks)) < (0.06 if known else 0.15)


def test_where_the_photo_says_otherwise_the_clicks_count() -> None:
    desk, other = desk_of(True), look(110.0, 25.0, 3.0, 2.6)
    marks = Marks(clicks_of(other))
    state = desk.solved(desk.stage.found, marks)
    quality = desk.quality(state, marks)
    assert quality.share is not None and quality.share < 0.031


def test_clicks_elsewhere_in_the_photo_make_it_look_there() -> None:
    photo = photo_of(POSE, CAMERA, True)
    stage = Stage(look_closely(car_model(), photo, (2.0, 2.0, 60.0, 50.0), config=CONFIG))
    desk, marks = Desk(Path("car.png"), stage, CONFIG), Marks(clicks_of(POSE))
    state = desk.solved(stage.found, marks)
    assert desk.stage is not stage
    assert desk.stage.sight.box == pytest.approx(box_of(POSE, CAMERA), abs=25)
    assert angle_to(desk, desk.label(state, marks)) < 0.06


def test_a_ray_meets_the_mesh_and_the_photo_where_it_is_seen() -> None:
    stage = stage_of(True)
    shown = stage.show(stage.found)
    depth = backdrop(shown).centre[2]
    assert shown.pose is not None
    x0, y0, x1, y1 = box_of(POSE, CAMERA)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    ray = CAMERA.unproject(torch.tensor(middle, dtype=torch.float64)).tolist()
    spot = spot_under(stage, shown, (0.0, 0.0, 0.0), tuple(ray))
    assert spot is not None and sum(spot.bary) == pytest.approx(1) and min(spot.bary) >= 0
    place = desk_of(True).places(shown, [Click(spot, middle)])
    seen = shown.camera.project(shown.pose.apply(torch.from_numpy(place)))[0][0].tolist()
    assert seen == pytest.approx(middle, abs=1e-3)
    aside = (0.3, -0.2, 0.1)  # an eye that has walked off sees the same pixel along another ray
    way = tuple(depth * v - a for v, a in zip(ray, aside, strict=True))
    assert pixel_under(shown, depth, aside, way) == pytest.approx(middle)
    assert spot_under(stage, shown, (0.0, 0.0, 0.0), (0.0, -1.0, 0.1)) is None
    assert pixel_under(shown, depth, (0.0, 0.0, 0.0), (5.0, 0.0, 1.0)) is None
    assert pixel_under(shown, depth, (0.0, 0.0, 0.0), (0.0, 0.0, -1.0)) is None


def test_the_last_click_is_taken_back_first() -> None:
    clicks = clicks_of(POSE, count=2)
    waiting = Marks(clicks, clicks[0].spot)
    assert waiting.undone() == Marks(clicks) and Marks(clicks).undone() == Marks(clicks[:1])
    assert not waiting.enough and Marks().undone() == Marks()


def test_a_mesh_outside_the_photo_is_no_label() -> None:
    desk = desk_of(True)
    away = replace(desk.stage.found, across=1.2)
    for ask in (desk.here, lambda state: desk.label(state, Marks())):
        with pytest.raises(InputError, match="E_POSE"):
            ask(away)


def test_labels_are_trained_on_and_evaluated(tmp_path: Path) -> None:
    views = []
    for known in (True, False):
        path = tmp_path / f"{known}.png"
        Image.fromarray(picture(POSE, CAMERA)).save(path)
        desk = desk_of(known, path)
        marks = Marks(clicks_of(POSE)) if known else Marks()
        state = desk.solved(desk.stage.found, marks) if known else desk.stage.found
        views += [desk.label(state, marks)]
    write_views(tmp_path / "views.json", [*views, desk.absent()])
    read = read_views(tmp_path / "views.json", {"car"}, need_R=True)
    assert [view.extras["annotation"]["by"] for view in read[:2]] == ["clicks", "proposal"]
    assert len(read[0].extras["annotation"]["clicks"]) == 6
    assert read[0].t == pytest.approx(POSE.t.numpy(), abs=0.1) and read[1].K is None
    assert read[1].distance is not None and read[2].no_object
    data = load_data(TrainConfig(views=(str(tmp_path / "views.json"),), out=""), car_mesh())
    samples = [sample for group in data.groups for sample in group]
    assert len(samples) == 2
    for sample, limit in zip(samples, (4, 10), strict=True):
        assert sample.box == pytest.approx(box_of(POSE, CAMERA), abs=limit)
        assert sample.azimuth == pytest.approx(np.radians(70), abs=0.15)
    found = {known: stage_of(known).sight.estimate() for known in (True, False)}
    metrics = evaluate(
        car_model(),
        read[:2],
        tmp_path / "out",
        lambda model, photo, box, camera=None, **_: found[camera is not None],
    )
    assert metrics["pose"]["median_deg"] < 5


def test_a_folder_is_gone_through_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.png", "a.png", "c.png"):
        Image.fromarray(picture(POSE, CAMERA)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no photo")
    (tmp_path / "notes.txt").write_text("none either")
    out = tmp_path / "views.json"
    session = Session(car_model(), tmp_path, out, CONFIG, lambda photo: CAMERA)
    assert [path.name for path in session.left] == ["a.png", "b.png", "broken.png", "c.png"]
    desk = session.next()
    assert desk is not None and desk.path.name == "a.png"
    session.save(desk.label(desk.stage.found, Marks()))
    assert len(read_views(out)) == 1
    skipped = session.next()
    assert skipped is not None and skipped.path.name == "b.png"
    last = session.next()
    assert last is not None and last.path.name == "c.png" and "broken.png left out" in caplog.text
    session.save(last.absent())
    assert session.next() is None
    session.close()
    again = Session(car_model(), tmp_path, out, CONFIG, lambda photo: CAMERA)
    assert [path.name for path in again.left] == ["b.png", "broken.png"]
    assert len(again.views) == 2
