"""``featmesh track`` hands its options on and tells what came of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tyro

from featmesh.apps.track import TrackSummary
from featmesh.cli import track
from featmesh.cli.exits import UsageError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def run_track(model, paths, out, request):
        calls.append((model, paths, out, request))
        how = {"lost": 2} if "empty" in str(paths[0]) else {"started": 1, "tracked": 3, "lost": 1}
        frames = sum(how.values())
        files = ("track.jsonl", "overlay.gif")
        return TrackSummary(out, files, frames, how, {"E_IO": 1}, 1, 2.5, 0.05)

    monkeypatch.setattr("featmesh.apps.track.run_track", run_track)
    models = {"any": [("car", 1), ("bus", 2)]}
    monkeypatch.setattr(
        "featmesh.apps.photos.asked_models",
        lambda told: models.get(told, [(told, SimpleNamespace())]),
    )
    return calls


def run(*words: str) -> int:
    return track.run(tyro.cli(track.Arguments, args=words))


def test_the_options_reach_the_tracker(asked, capsys) -> None:
    words = "clip --model bus --box 1 2 30 40 --smooth both --overlay gif --fps 12"
    assert run(*words.split(), "--patience", "7", "--search.refine.steps", "50") == 0
    (name, _), paths, out, request = asked[0]
    assert (name, paths, out) == ("bus", (Path("clip"),), Path("results/track"))
    assert request.each.box == (1, 2, 30, 40) and request.each.search.refine.steps == 50
    assert (request.smooth, request.overlay, request.fps) == ("both", "gif", 12)
    assert request.config.patience == 7
    told = capsys.readouterr().out
    assert "5: 1 started, 3 tracked, 1 lost; 1 E_IO" in told and "50 ms a tracked frame" in told
    assert "overlay.gif" in told


def test_the_summary_as_json(asked, capsys) -> None:
    assert run("clip", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["how"]["tracked"] == 3 and told["frame_seconds"] == 0.05


def test_a_video_without_the_object_fails(asked) -> None:
    assert run("empty") == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [("a --fov 60 --focal-px 500", "E_CAMERA"), ("a --model any", "E_MODEL")],
)
def test_options_that_do_not_go_together(asked, words: str, code: str) -> None:
    with pytest.raises(UsageError, match=code):
        run(*words.split())
