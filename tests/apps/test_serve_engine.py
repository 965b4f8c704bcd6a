import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from present.samples import found

from featmesh.apps import serve_engine
from featmesh.apps.serve_config import ServeConfig
from featmesh.apps.serve_engine import PhotoEngine
from featmesh.apps.serve_options import Options
from featmesh.config import config_to_dict
from featmesh.errors import InputError

from .test_photos import FakeModel, fake_estimate, fake_segment


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, fake_module) -> PhotoEngine:
    named = [("car", FakeModel()), ("bus", FakeModel("bus", "4567"))]
    monkeypatch.setattr(serve_engine, "asked_models", lambda told: named)
    monkeypatch.setattr(serve_engine, "estimate", fake_estimate)
    monkeypatch.setattr(serve_engine.torch, "set_num_threads", lambda count: None)
    fake_module("featmesh.inference.estimator", estimate=fake_estimate)
    fake_module("featmesh.inference.segment", segment=fake_segment)
    return PhotoEngine(config_to_dict(ServeConfig(model="car,bus", megapixels=0.02)))


def ask(engine: PhotoEngine, folder: Path, options: Options, size=(120, 90)) -> dict:
    Image.new("RGB", size, (90, 90, 90)).save(folder / "photo", "PNG")
    return engine(options.record(str(folder), "a.png"))


def test_the_card_names_the_models(engine: PhotoEngine) -> None:
    assert engine.card == {
        "models": [{"name": "car", "hash": "0123"}, {"name": "bus", "hash": "4567"}]
    }


def test_the_document_is_result_json(engine: PhotoEngine, tmp_path: Path) -> None:
    result = ask(engine, tmp_path, Options(model="bus"))
    document = result["document"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == 1 and document["photo"] == "a.png"
    assert document["model"] == {"name": "bus", "hash": "4567"}
    (told,) = document["objects"]
    assert told["status"] == "ok" and "masks" in told and len(told["R"]) == 3
    assert result["bytes"] > 10_000_000
    assert {file.name for file in tmp_path.iterdir()} == {"photo"}


def test_page_and_overlay_are_written_where_asked(engine: PhotoEngine, tmp_path: Path) -> None:
    ask(engine, tmp_path, Options(model="car", format="html"))
    assert "a.png" in (tmp_path / "result.html").read_text("utf-8")
    ask(engine, tmp_path, Options(model="car", format="png"))
    with Image.open(io.BytesIO((tmp_path / "overlay.png").read_bytes())) as overlay:
        assert overlay.size == (240, 180)


def test_the_camera_is_the_clients(engine: PhotoEngine, tmp_path: Path, monkeypatch) -> None:
    seen = []

    def watching(model, photo, box=None, camera=None, *rest):
        seen.append(camera)
        return found(photo, maps=False)

    engine_module = __import__("sys").modules["featmesh.inference.estimator"]
    monkeypatch.setattr(engine_module, "estimate", watching)
    camera = {"K": [[200, 0, 60], [0, 200, 45], [0, 0, 1]], "width": 120, "height": 90}
    (tmp_path / "camera.json").write_text(json.dumps(camera), "utf-8")
    ask(engine, tmp_path, Options(model="car"))
    (tmp_path / "camera.json").unlink()
    ask(engine, tmp_path, Options(model="car", focal_px=300.0))
    assert [float(camera.fx) for camera in seen] == [200, 300]


def test_errors_name_no_folder(engine: PhotoEngine, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"<html>no photo")
    with pytest.raises(InputError, match=r"'a\.png'") as caught:
        engine(Options(model="car").record(str(tmp_path), "a.png"))
    assert caught.value.code == "E_IMG_FORMAT" and str(tmp_path) not in str(caught.value)
    (tmp_path / "camera.json").write_text("{}", "utf-8")
    with pytest.raises(InputError) as caught:
        ask(engine, tmp_path, Options(model="car"))
    assert caught.value.code == "E_CAMERA" and str(tmp_path) not in str(caught.value)


def test_too_many_pixels_are_refused_by_header(engine: PhotoEngine, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ask(engine, tmp_path, Options(model="car"), (200, 101))
    assert caught.value.code == "E_IMG_TOO_LARGE"
    assert ask(engine, tmp_path, Options(model="car"), (200, 100))["document"]["width"] == 200


def test_settings_hold_no_surprise() -> None:
    assert np.isclose(ServeConfig().body_bytes, 20e6)
