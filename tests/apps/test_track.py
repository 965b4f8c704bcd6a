"""A video in, a line a frame and an overlay out; what follows the object is made by hand."""

import json
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from present.samples import found, seen

from featmesh.apps import track as module
from featmesh.apps.photos import Request
from featmesh.apps.track import TrackRequest, captioned, run_track
from featmesh.errors import BackendUnavailable
from featmesh.inference.result import Estimate
from featmesh.inference.track import TrackedFrame


@dataclass
class FakeModel:
    category: str = "car"
    hash: str = "0123"


class FakeTracker:
    """Follows the object; the third frame shows none."""

    asked: tuple = ()

    def __init__(self, model, camera, config, search) -> None:
        FakeTracker.asked, self.count = (camera, config.smoothing), 0

    def _next(self, estimate: Estimate, pose=None) -> TrackedFrame:
        self.count += 1
        how = "lost" if pose is None else "tracked" if self.count > 1 else "started"
        return TrackedFrame(self.count - 1, how, None if pose is None else 0, estimate, pose)

    def see(self, photo, box=None) -> TrackedFrame:
        if self.count == 2:
            return self._next(Estimate("no_object", "car"))
        pose = seen(0.6 + 0.1 * self.count)
        return self._next(replace(found(photo, pose), confidence=0.9), pose)

    def skip(self, error) -> TrackedFrame:
        return self._next(Estimate.refused("car", error))


@pytest.fixture
def video(tmp_path: Path, monkeypatch) -> Path:
    """A folder of six frames, the last of which is broken."""
    monkeypatch.setattr(module, "Tracker", FakeTracker)
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(5):
        Image.new("RGB", (121, 91), (90, 100, 20 * k)).save(folder / f"{k}.png")
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def run(video: Path, out: Path, **asked):
    told = StringIO()
    summary = run_track(("car", FakeModel()), [video], out, TrackRequest(**asked), told)
    assert "track: 6/6 done" in told.getvalue()
    return summary, [json.loads(line) for line in (out / "track.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("smooth", ["causal", "both", "none"])
def test_each_frame_has_its_line(video: Path, tmp_path: Path, smooth: str) -> None:
    summary, rows = run(video, tmp_path / "o", smooth=smooth, overlay="none")
    assert [row["frame"] for row in rows] == list(range(6))
    kinds = ["started", "tracked", "lost", "tracked", "tracked", "lost"]
    assert [row["how"] for row in rows] == kinds
    assert summary.how == {"started": 1, "tracked": 3, "lost": 2} and summary.tracks == 1
    assert rows[0]["schema"] == 1 and rows[0]["photo"].endswith("0.png")
    assert rows[0]["model"] == {"name": "car", "hash": "0123"} and rows[0]["width"] == 121
    assert rows[0]["objects"][0]["confidence"] == 0.9
    assert rows[1]["measured"]["azimuth"] == pytest.approx(np.degrees(0.7), abs=1e-3)
    assert rows[2]["measured"] is None and rows[2]["objects"][0]["R"] is None
    assert rows[5]["objects"][0]["status"] == "bad_input" and sum(summary.codes.values()) == 1
    assert summary.files == ("track.jsonl",) and summary.frames == 6
    assert FakeTracker.asked[1] == (0.0 if smooth == "none" else 0.6)
    json.dumps(summary.to_json(), allow_nan=False)


def test_the_overlay_is_a_film_or_a_gif(video: Path, tmp_path: Path) -> None:
    run(video, tmp_path / "a", overlay="auto", fps=10.0)
    with av.open(str(tmp_path / "a" / "overlay.mp4")) as film:
        pictures = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
        assert float(film.streams.video[0].average_rate) == pytest.approx(10)
    assert len(pictures) == 5 and pictures[0].shape == (182, 242, 3)  # of those that could be read
    run(video, tmp_path / "a", overlay="gif", fps=10.0)
    assert not (tmp_path / "a" / "overlay.mp4").exists()
    with Image.open(tmp_path / "a" / "overlay.gif") as gif:
        assert gif.n_frames == 5 and gif.info["duration"] == 100 and max(gif.size) <= 480


def test_without_the_library_the_overlay_is_a_gif(video, tmp_path, monkeypatch) -> None:
    def missing(why: str):
        raise BackendUnavailable("E_BACKEND", "track: expected av, got none; try: gif")

    monkeypatch.setattr(module, "film_library", missing)
    assert run(video, tmp_path / "a")[0].files == ("track.jsonl", "overlay.gif")
    with pytest.raises(BackendUnavailable):
        run(video, tmp_path / "a", overlay="mp4")


def test_the_camera_is_the_one_of_the_frames(video: Path, tmp_path: Path) -> None:
    run(video, tmp_path / "o", each=Request(focal_px=150.0), overlay="none")
    camera = FakeTracker.asked[0]
    assert (camera.fx, camera.width, camera.height) == (150.0, 121, 91)


def test_the_caption_tells_lost_frames_apart() -> None:
    black = np.zeros((200, 300, 3), np.uint8)
    lost = captioned(black, TrackedFrame(3, "lost", None, Estimate("no_object", "car")))
    kept = captioned(black, TrackedFrame(3, "tracked", 0, Estimate("no_object", "car")))
    reds, greens = (np.asarray(p)[:40].reshape(-1, 3).max(0) for p in (lost, kept))
    assert reds[0] > 200 > greens[0] and greens[1] > 200
