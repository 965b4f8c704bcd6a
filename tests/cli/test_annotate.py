"""The verb annotate, from a folder of photos to the page."""

import re
from pathlib import Path
from typing import Any

import pytest
import tyro
from fixtures import car_model, look, picture
from PIL import Image

from featmesh.cli import annotate, view
from featmesh.errors import DatasetError, InputError
from featmesh.geometry.camera import Camera
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig
from featmesh.views.record import read_views

PAGE = Path(__file__).parents[2] / "docs" / "annotate.md"
CAMERA = Camera(330.0, 330.0, 168.0, 112.0, 224, 336)
CONFIG = EstimateConfig(ScanConfig(azimuths=12), RefineConfig(steps=12, polish=3))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photo of the painted car, which every name loads."""

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "wait_for_ever", stop)
    monkeypatch.setattr("featmesh.model.checkpoint.load", lambda name: car_model())
    Image.fromarray(picture(look(70.0, 12.0, 3.0, 2.6), CAMERA)).save(tmp_path / "car.png")
    return tmp_path


def read(words: str) -> Any:
    return tyro.cli(annotate.Arguments, args=words.split(), config=(tyro.conf.FlagCreatePairsOff,))


def test_options_are_read() -> None:
    told = read("photos --model m --out all.json --order doubt --focal-px 900 --no-browser")
    assert (told.folder, told.model, told.out) == (Path("photos"), "m", Path("all.json"))
    assert (told.order, told.focal_px, told.no_browser) == ("doubt", 900.0, True)
    assert (read("photos").host, read("photos").order) == ("127.0.0.1", "name")


def test_it_serves_until_it_is_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    asked = annotate.Arguments(folder, port=18180, search=CONFIG, focal_px=330.0)
    assert annotate.run(asked) == 0
    told = capsys.readouterr().out
    assert opened == [told.split()[0]] and told.startswith("http://127.0.0.1:")
    assert told.endswith("views.json: 0 views, 1 photos left\n")
    with pytest.raises(DatasetError, match="E_IO"):
        annotate.run(annotate.Arguments(folder / "nowhere"))


def test_the_lines_of_the_page_label_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featmesh.load", lambda name: car_model())
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(lines, "annotate.md", "exec"), names)
    names["accept_all"](folder)
    (view,) = read_views(folder / "views.json", need_R=True)
    assert view.azimuth == pytest.approx(70, abs=8)
    with pytest.raises(InputError, match=r"E_IO.*not in views.json yet"):
        annotate.run(annotate.Arguments(folder, no_browser=True, search=CONFIG))
