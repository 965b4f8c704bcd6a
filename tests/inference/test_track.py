"""Claims about following an object: pictures of a painted car that turns (see fixtures)."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, car_model, look, photo_of

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference import track as module
from featmesh.inference.config import EstimateConfig
from featmesh.inference.result import Mode
from featmesh.inference.track import TrackedFrame, Tracker, smoothed, track
from featmesh.inference.track_config import TrackConfig
from featmesh.photo.photo import Photo

CAMERA = Camera(420.0, 420.0, 160.0, 120.0, 240, 320)
TURN = 4.0  # degrees a frame
ABOUT = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))  # front to back


def pose_of(k: int) -> Pose:
    seen = look(30 + TURN * k, 12 + 3 * math.sin(k / 5), 2, 2.6 + 0.02 * k)
    return aside(seen, CAMERA, (150 + 2.0 * k, 118))


@lru_cache
def frame_of(k: int, known: bool = True) -> Photo:
    return photo_of(pose_of(k), CAMERA, known, seed=k)


def empty() -> Photo:
    return Photo.from_array(background((240, 320), 3), CAMERA)


def degrees(a: Pose | None, b: Pose) -> float:
    assert a is not None
    return math.degrees(float(geodesic_angle(a.R, b.R)))


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The boxes in which the object was searched."""
    asked, real = [], module.estimate

    def counted(model, photo, box=None, camera=None, **rest):
        asked.append(box)
        return real(model, photo, box, camera, **rest)

    monkeypatch.setattr(module, "estimate", counted)
    return asked


def test_a_turning_car_is_searched_once_and_followed(searches) -> None:
    frames = list(track(car_model(), map(frame_of, range(12)), box_of(pose_of(0), CAMERA)))
    assert [f.how for f in frames] == ["started"] + ["tracked"] * 11
    assert len(searches) == 1 and [f.frame for f in frames] == list(range(12))
    for k, f in enumerate(frames):
        assert f.track == 0 and f.estimate.status == "ok"
        assert (
            degrees(f.measured, pose_of(k)) < 3 and degrees(f.estimate.cam_from_obj, pose_of(k)) < 3
        )
        assert np.allclose(f.estimate.box, box_of(pose_of(k), CAMERA), atol=6)


def test_without_a_camera_the_lens_found_first_is_kept(searches) -> None:
    shown = [frame_of(k, False) for k in range(6)]
    frames = list(track(car_model(), shown, box_of(pose_of(0), CAMERA)))
    assert {round(f.estimate.camera.fx, 6) for f in frames} == {
        round(frames[0].estimate.camera.fx, 6)
    }
    assert len(searches) == 1 and frames[-1].estimate.camera_source == "assumed"
    for k, f in enumerate(frames):
        centre = f.estimate.camera.project(f.estimate.cam_from_obj.t)[0].tolist()
        assert np.allclose(centre, (150 + 2.0 * k, 118), atol=6)


def test_a_car_that_goes_and_comes_back_is_lost_and_found_on_the_same_track(searches) -> None:
    shown = [frame_of(0), frame_of(1), empty(), empty(), frame_of(2), frame_of(3)]
    frames = list(track(car_model(), shown, box_of(pose_of(0), CAMERA)))
    assert [f.how for f in frames[:4]] == ["started", "tracked", "lost", "lost"]
    assert [f.track for f in frames] == [0, 0, None, None, 0, 0]
    assert frames[2].estimate.status == "no_object" and frames[2].measured is None
    assert searches[0] is not None and searches[-1] is None  # in the whole frame at last
    assert degrees(frames[-1].estimate.cam_from_obj, pose_of(3)) < 4


def test_a_cut_begins_another_track() -> None:
    other = photo_of(aside(look(220, 5, 0, 4), CAMERA, (90, 90)), CAMERA, True)
    frames = list(track(car_model(), [frame_of(0), frame_of(1), other, other]))
    assert [f.how for f in frames] == ["started", "tracked", "restarted", "tracked"]
    assert [f.track for f in frames] == [0, 0, 1, 1]
    assert degrees(frames[3].measured, look(220, 5, 0, 4)) < 25  # R turns with the ray


def test_another_size_of_frames_is_another_film() -> None:
    small = Camera(300.0, 300.0, 100.0, 80.0, 160, 200)
    other = photo_of(look(100, 10, 0, 2.6), small, True)
    frames = list(track(car_model(), [frame_of(0), other]))
    assert [f.track for f in frames] == [0, 1]


@pytest.mark.parametrize(("better", "changes"), [(1.05, False), (1.5, True)])
def test_a_rival_must_be_clearly_better_for_several_frames(monkeypatch, better, changes) -> None:
    """Equals never flip: the mode that is followed stays until another one is clearly better."""
    real, config = module.follow, TrackConfig(patience=3)
    asked = []

    def with_rival(model, photo, lens, expected, *rest):
        asked.append(expected.starts[0])
        found = real(model, photo, lens, expected, *rest)
        if found is None:  # the other basin, which explains nothing
            return None
        turned = Pose(found.cam_from_obj.R @ ABOUT, found.cam_from_obj.t)
        return replace(found, modes=(Mode(turned, better * found.signals["evidence"]),))

    monkeypatch.setattr(module, "follow", with_rival)
    tracker = Tracker(car_model(), CAMERA, config)
    box = box_of(pose_of(0), CAMERA)
    told = [tracker.see(frame_of(k), box if k == 0 else None) for k in range(5)]
    flips = [k for k, p in enumerate(asked) if degrees(p, pose_of(k + 1)) > 90]
    assert bool(flips) == changes
    assert all(degrees(f.estimate.cam_from_obj, pose_of(k)) < 10 for k, f in enumerate(told[:3]))


def test_a_search_goes_on_as_before_where_that_is_nearly_as_good(monkeypatch) -> None:
    tracker = Tracker(car_model(), CAMERA)
    tracker.see(frame_of(0), box_of(pose_of(0), CAMERA))
    real = module.estimate

    def flipped(*asked, **rest):
        found = real(*asked, **rest)
        turned = Pose(found.cam_from_obj.R @ ABOUT, found.cam_from_obj.t)
        right = Mode(found.cam_from_obj, 0.95 * found.signals["evidence"])
        return replace(found, cam_from_obj=turned, modes=(right,))

    monkeypatch.setattr(module, "estimate", flipped)
    monkeypatch.setattr(tracker, "_holds", lambda found, target: len(held.append(1) or held) > 1)
    held: list[int] = []
    told = tracker.see(frame_of(1))
    assert told.how == "restarted" and degrees(told.measured, pose_of(1)) < 5


def test_a_real_length_gives_metres_that_do_not_change() -> None:
    search, metres = EstimateConfig(length=4.4), []
    for f in track(car_model(), map(frame_of, range(3)), search=search):
        assert f.estimate.t_unit == "metre" and f.to_json()["measured"]["t_unit"] == "metre"
        metres.append(float(f.estimate.cam_from_obj.t.norm()))
    true = [
        4.4 / float(car_model().template.extent[1]) * float(pose_of(k).t.norm()) for k in range(3)
    ]
    assert metres == pytest.approx(true, rel=0.06)


def test_a_frame_that_cannot_be_read_is_told_and_the_track_goes_on() -> None:
    tracker = Tracker(car_model(), CAMERA)
    first = tracker.see(frame_of(0), box_of(pose_of(0), CAMERA))
    bad = tracker.skip(InputError("E_IO", "a fault"))
    last = tracker.see(frame_of(1))
    assert (first.frame, bad.frame, last.frame) == (0, 1, 2)
    assert bad.estimate.code == "E_IO" and bad.how == "lost" and last.how == "tracked"
    assert bad.to_json() == {"frame": 1, "how": "lost", "track": None, "measured": None}


def test_two_sides_smooth_within_a_track_and_leave_lost_frames() -> None:
    config = TrackConfig(smoothing=0.0)
    shown = [*map(frame_of, range(6)), empty()]
    frames = list(track(car_model(), shown, box_of(pose_of(0), CAMERA), config=config))
    after = smoothed(frames)
    assert [f.how for f in after] == [f.how for f in frames] and after[-1] is frames[-1]
    for k, (a, b) in enumerate(zip(after[:6], frames, strict=False)):
        assert isinstance(a, TrackedFrame) and a.measured is b.measured
        assert degrees(a.estimate.cam_from_obj, pose_of(k)) < 3
        assert a.estimate.viewpoint != b.estimate.viewpoint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("look", 0),
        ("patience", 0),
        ("retry", 0),
        ("smoothing", 1.0),
        ("margin", -0.1),
        ("crop", 0.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"E_CONFIG.*{name} {value}"):
        Tracker(car_model(), CAMERA, replace(TrackConfig(), **{name: value}))
