import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from present.samples import found, shaped

from featmesh.apps import photos
from featmesh.apps.photos import Request, camera_of, estimate_photos, faults, folders, show
from featmesh.errors import CheckpointError, InputError
from featmesh.photo.photo import Photo

SIZES = ("length", "width", "height")


@dataclass
class FakeModel:
    category: str = "car"
    hash: str = "0123"
    has_shapes: bool = True

    def shape_space(self, who: str) -> None:
        if not self.has_shapes:
            raise CheckpointError("E_CKPT_PART", f"{who}: expected a shape space, got none")


def fake_estimate(model, photo, box=None, camera=None, task="pose", config=None, on_step=None):
    if box is not None and box[0] > photo.width:
        raise InputError("E_BOX", "box: expected a box inside the photo, got another; try: again")
    if photo.width == 121:
        raise RuntimeError("a fault in the network")
    plain = found(photo, maps=False)
    return shaped(plain) if task == "shape" else plain


@pytest.fixture
def estimator(fake_module) -> None:
    fake_module("featmesh.inference.estimator", estimate=fake_estimate)


def write_photo(path: Path, width: int = 120) -> Path:
    Image.fromarray(np.full((90, width, 3), 100, dtype=np.uint8)).save(path)
    return path


def test_each_photo_gets_a_folder_with_three_files(tmp_path: Path, estimator: None) -> None:
    path = write_photo(tmp_path / "a.png")
    (result,) = estimate_photos(("car", FakeModel()), [path], tmp_path / "out", Request())
    files = {file.name for file in (tmp_path / "out" / "a").iterdir()}
    assert files == {"overlay.png", "result.json", "result.html"}
    written = json.loads((result.folder / "result.json").read_text("utf-8"))
    assert written == result.document
    assert written["photo"] == str(path) and written["model"] == {"name": "car", "hash": "0123"}
    with Image.open(result.folder / "overlay.png") as overlay:
        assert overlay.size == (240, 180)


def test_task_shape_writes_the_shape_and_says_where(
    tmp_path: Path, estimator: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_photo(tmp_path / "a.png")
    (result,) = estimate_photos(("car", FakeModel()), [path], tmp_path, Request(task="shape"))
    files = {file.name for file in result.folder.iterdir()}
    assert files == {"overlay.png", "result.json", "result.html", "shape.glb"}
    told = json.loads((result.folder / "result.json").read_text("utf-8"))["objects"][0]["shape"]
    assert told["file"] == "shape.glb" and told["unit"] == "object" and told["accepted"]
    assert told["latent"] == [0.6, -0.8, 0.0] and set(told["dimensions"]) == set(SIZES)
    loaded = trimesh.load(result.folder / "shape.glb", force="mesh")
    width, height, length = loaded.extents  # glTF is y up
    written = [told["dimensions"][name] for name in SIZES]
    np.testing.assert_allclose([length, width, height], written, atol=1e-4)
    show([result])
    out = capsys.readouterr().out
    for shown in (f"{length:.3f}", f"{width:.3f}", f"{height:.3f}", "1.00", "fitted"):
        assert shown in out
    estimate_photos(("car", FakeModel()), [path], tmp_path, Request())
    assert not (result.folder / "shape.glb").exists()  # of an earlier run


def test_a_model_without_shapes_is_told_once(tmp_path: Path, estimator: None) -> None:
    paths = [write_photo(tmp_path / "a.png"), write_photo(tmp_path / "b.png")]
    with pytest.raises(CheckpointError, match="E_CKPT_PART"):
        estimate_photos(
            ("car", FakeModel(has_shapes=False)), paths, tmp_path, Request(task="shape")
        )
    assert not (tmp_path / "a").exists()


def test_a_bad_photo_stops_no_other(tmp_path: Path, estimator: None) -> None:
    (tmp_path / "b.jpg").write_text("<html>not a photo</html>")
    paths = [tmp_path / "gone.png", tmp_path / "b.jpg", write_photo(tmp_path / "c.png")]
    results = estimate_photos(("car", FakeModel()), paths, tmp_path / "out", Request())
    assert [r.estimate.status for r in results] == ["bad_input", "bad_input", "ok"]
    assert [r.estimate.code for r in results] == ["E_IO", "E_IMG_FORMAT", None]
    for result in results[:2]:
        assert [file.name for file in result.folder.iterdir()] == ["result.json"]
        document = json.loads((result.folder / "result.json").read_text("utf-8"))
        assert document["objects"][0]["code"] == result.estimate.code
    told = faults(results)
    assert [line.partition(": ")[0] for line in told] == [str(path) for path in paths[:2]]
    assert "E_IMG_FORMAT" in told[1]


def test_a_fault_of_our_own_is_told_and_stops_no_other(tmp_path: Path, estimator: None) -> None:
    paths = [write_photo(tmp_path / "a.png", 121), write_photo(tmp_path / "b.png")]
    results = estimate_photos(("car", FakeModel()), paths, tmp_path / "out", Request())
    assert [r.estimate.code for r in results] == ["E_INTERNAL", None]
    assert "a fault in the network" in faults(results)[0]


def test_pictures_of_an_earlier_run_do_not_stay(tmp_path: Path, estimator: None) -> None:
    path = write_photo(tmp_path / "a.png")
    estimate_photos(("car", FakeModel()), [path], tmp_path, Request())
    outside = Request(box=(500.0, 0.0, 600.0, 10.0))
    (result,) = estimate_photos(("car", FakeModel()), [path], tmp_path, outside)
    assert result.estimate.code == "E_BOX" and result.document["width"] == 120
    assert {file.name for file in result.folder.iterdir()} == {"result.json"}


def test_a_full_disk_is_not_a_bad_photo(
    tmp_path: Path, estimator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(photos, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        estimate_photos(
            ("car", FakeModel()), [write_photo(tmp_path / "a.png")], tmp_path, Request()
        )


def test_equal_stems_are_numbered() -> None:
    paths = [Path(p) for p in ("x/a.jpg", "y/a.png", "a-2.jpg", "A.jpg", "..", "b.c.jpg")]
    names = [folder.name for folder in folders(paths, Path("out"))]
    assert names == ["a", "a-2", "a-2-2", "A-3", "photo", "b.c"]


@given(st.lists(st.sampled_from(["a", "A", "a-2", "..", ".a", "a.jpg", "/", "ü b"]), max_size=8))
def test_folders_are_distinct_and_lie_in_out(names: list[str]) -> None:
    chosen = folders([Path(name) for name in names], Path("out"))
    assert len({folder.name.casefold() for folder in chosen}) == len(names)
    assert all(folder.parent == Path("out") for folder in chosen)


def test_the_camera_comes_from_focal_length_field_of_view_or_file(tmp_path: Path) -> None:
    photo = Photo(np.zeros((60, 80, 3), dtype=np.uint8))
    assert camera_of(Request(), photo) is None
    given = camera_of(Request(focal_px=100.0), photo)
    assert given is not None and (given.fx, given.fy, given.cx, given.cy) == (100, 100, 40, 30)
    wide = camera_of(Request(fov=90.0), photo)
    assert wide is not None and math.isclose(wide.fx, 40)
    K = [[90, 0, 41], [0, 91, 29], [0, 0, 1]]
    file = tmp_path / "K.json"
    file.write_text(json.dumps({"K": K, "width": 80, "height": 60}))
    read = camera_of(Request(camera_file=file), photo)
    assert read is not None and read.K.tolist() == K


@pytest.mark.parametrize("request_", [Request(focal_px=-5.0), Request(fov=180.0)])
def test_no_lens_is_like_that(request_: Request) -> None:
    with pytest.raises(InputError) as caught:
        camera_of(request_, Photo(np.zeros((60, 80, 3), dtype=np.uint8)))
    assert caught.value.code == "E_CAMERA"


def test_the_table_shows_names_as_they_are(
    tmp_path: Path, estimator: None, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_photo(tmp_path / "[red]a.png"), tmp_path / "gone.png"]
    show(estimate_photos(("car", FakeModel()), paths, tmp_path / "o", Request()))
    out = capsys.readouterr().out
    assert "[red]" in out and "E_IO" in out and "34.4°" in out
