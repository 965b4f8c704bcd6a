"""The verbs view and landscape, from a photo file to the page."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tyro
from fixtures import box_of, car_model, look, picture
from PIL import Image

from featmesh.cli import landscape, view
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig

ROOT = Path(__file__).parents[2]
CAMERA = Camera(330.0, 330.0, 168.0, 112.0, 224, 336)
POSE = look(70.0, 12.0, 3.0, 2.6)
CONFIG = EstimateConfig(ScanConfig(azimuths=12), RefineConfig(steps=20, polish=3))


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photo of the painted car, which every name loads."""
    monkeypatch.setattr("featmesh.model.checkpoint.load", lambda name: car_model())
    Image.fromarray(picture(POSE, CAMERA)).save(tmp_path / "car.png")
    return tmp_path / "car.png"


def test_the_page_about_it_shows_pictures_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "see.md").read_text("utf-8")
    pictures = [ROOT / "docs" / name for name in re.findall(r"\]\((pictures/[^)]+)\)", page)]
    assert len(pictures) == 3 and all(p.stat().st_size <= 120_000 for p in pictures)
    monkeypatch.chdir(ROOT)
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(lines, "see.md", "exec"), {})
    azimuth, elevation, energy = ast.literal_eval(capsys.readouterr().out)
    assert azimuth == pytest.approx(80, abs=16) and abs(elevation) < 31 and energy < -0.1


def read(verb: Any, words: str) -> Any:
    return tyro.cli(verb.Arguments, args=words.split(), config=(tyro.conf.FlagCreatePairsOff,))


def test_options_are_read() -> None:
    told = read(view, "a.jpg --box 1 2 3 4 --port 9000 --host 0.0.0.0 --no-browser")
    assert (told.box, told.port, told.host, told.no_browser) == (
        (1, 2, 3, 4),
        9000,
        "0.0.0.0",
        True,
    )
    told = read(view, "a.jpg")
    assert (told.host, told.no_browser, told.model) == ("127.0.0.1", False, "car")
    told = read(landscape, "a.jpg --out o --grid 10 --json")
    assert (told.out, told.grid, told.json) == (Path("o"), 10, True)


def test_landscape_writes_and_tells(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = {"box": box_of(POSE, CAMERA), "grid": 30.0, "search": CONFIG}
    assert landscape.run(landscape.Arguments(photo, out, **asked)) == 0
    told = capsys.readouterr().out
    assert "valley 1" in told and str(out / "landscape.html") in told
    assert landscape.run(landscape.Arguments(photo, out, **asked, json=True, focal_px=330.0)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["end"]["azimuth"] == pytest.approx(70, abs=8)
    assert all(Path(file).is_file() for file in said["files"])
    with pytest.raises(InputError, match="E_BOX"):
        landscape.run(landscape.Arguments(photo, out, box=(9.0, 9.0, 2.0, 2.0)))


def test_view_serves_until_it_is_stopped(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "wait_for_ever", stop)
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    asked = {"box": box_of(POSE, CAMERA), "port": 18080, "search": CONFIG}
    assert view.run(view.Arguments(photo, **asked)) == 0
    told = capsys.readouterr().out
    assert told.startswith("http://127.0.0.1:") and told.endswith("stopped\n")
    assert opened == [told.split()[0]]
    assert view.run(view.Arguments(photo, **asked, no_browser=True)) == 0
    assert len(opened) == 1
