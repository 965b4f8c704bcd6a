import json
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from present.samples import PARTS, found, labels_of, seen, segmented, shaped

from featmesh.apps import photos, result_files
from featmesh.apps.photos import Request, camera_of, estimate_photos, faults, folders, show
from featmesh.errors import CheckpointError, InputError
from featmesh.inference.result import Estimate, result_json
from featmesh.model.labels import Labels
from featmesh.photo.photo import Photo
from featmesh.rle import decode

SIZES = ("length", "width", "height")
PAGE = {"overlay.png", "result.json", "result.html"}
MASKS = {"amodal.png", "visible.png", "occluded.png"}


@dataclass
class FakeModel:
    category: str = "car"
    hash: str = "0123"
    has_shapes: bool = True
    labels: Labels | None = None

    def shape_space(self, who: str) -> None:
        if not self.has_shapes:
            raise CheckpointError("E_CKPT_PART", f"{who}: expected a shape space, got none")


def fake_estimate(model, photo, box=None, camera=None, task="pose", config=None, on_step=None):
    if box is not None and box[0] > photo.width:
        raise InputError("E_BOX", "box: expected a box inside the photo, got another; try: again")
    if photo.width == 121:
        raise RuntimeError("a fault in the network")
    plain = found(photo, maps=False)
    if photo.width == 122:
        return Estimate("no_object", "car")
    return shaped(plain) if task == "shape" else plain


def fake_segment(model, photo, estimate):
    return segmented(photo, estimate, parts=model.labels is not None).segmentation


@pytest.fixture
def estimator(fake_module) -> None:
    fake_module("featmesh.inference.estimator", estimate=fake_estimate)
    fake_module("featmesh.inference.segment", segment=fake_segment)


def labelled() -> FakeModel:
    return FakeModel(labels=labels_of(found(Photo(np.zeros((9, 12, 3), np.uint8))).mesh))


def read(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


def write_photo(path: Path, width: int = 120) -> Path:
    Image.fromarray(np.full((90, width, 3), 100, dtype=np.uint8)).save(path)
    return path


def test_each_photo_gets_a_folder_with_its_files(tmp_path: Path, estimator: None) -> None:
    path = write_photo(tmp_path / "a.png")
    (result,) = estimate_photos([("car", FakeModel())], [path], tmp_path / "out", Request())
    files = {file.name for file in (tmp_path / "out" / "a").iterdir()}
    assert files == PAGE | MASKS
    written = json.loads((result.folder / "result.json").read_text("utf-8"))
    assert written == result.document
    assert written["photo"] == str(path) and written["model"] == {"name": "car", "hash": "0123"}
    with Image.open(result.folder / "overlay.png") as overlay:
        assert overlay.size == (240, 180)


def test_only_the_first_of_photos_without_a_bar_is_waited_for_with_patience(
    tmp_path: Path, estimator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(photos, "patience", lambda told: nullcontext(said.append(told)))
    paths = [write_photo(tmp_path / f"{k}.png") for k in range(photos.MANY)]
    estimate_photos([("car", FakeModel())], paths[:2], tmp_path / "few", Request())
    assert said == [photos.SLOW]
    estimate_photos([("car", FakeModel())], paths, tmp_path / "many", Request())
    assert len(said) == 1  # these have a progress of their own


def test_any_asks_one_model_of_each_category(fake_module) -> None:
    fake_module(
        "featmesh.model.checkpoint", bundled_categories=lambda: ["bus", "car"], load_all=list
    )
    fake_module("featmesh.model.labels", read_labels=None)
    assert photos.asked_models("any") == [("bus", "bus"), ("car", "car")]
    assert photos.asked_models("car-cad,bus") == [("car-cad", "car-cad"), ("bus", "bus")]


def test_task_shape_writes_the_shape_and_says_where(
    tmp_path: Path, estimator: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_photo(tmp_path / "a.png")
    (result,) = estimate_photos([("car", FakeModel())], [path], tmp_path, Request(task="shape"))
    files = {file.name for file in result.folder.iterdir()}
    assert files == PAGE | MASKS | {"shape.glb"}
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
    estimate_photos([("car", FakeModel())], [path], tmp_path, Request())
    assert not (result.folder / "shape.glb").exists()  # of an earlier run


def test_every_task_writes_masks_at_the_photos_own_size(tmp_path: Path, estimator: None) -> None:
    path = write_photo(tmp_path / "a.png")
    (result,) = estimate_photos([("car", labelled())], [path], tmp_path, Request())
    assert {file.name for file in result.folder.iterdir()} == PAGE | MASKS | {"parts.png"}
    document = json.loads((result.folder / "result.json").read_text("utf-8"))
    assert document["seconds"]["segment"] >= 0 and document["warnings"] == [
        "the focal length is assumed"
    ]
    (row,) = document["objects"]
    segmentation = result.estimate.segmentation
    for name in ("amodal", "visible", "occluded"):
        mask = read(result.folder / row["masks"][name]["file"])
        assert mask.shape == (90, 120)
        np.testing.assert_array_equal(mask, 255 * getattr(segmentation, name))
        np.testing.assert_array_equal(decode(row["masks"][name]["rle"]), mask > 0)
    numbers = read(result.folder / row["masks"]["parts"]["file"])
    np.testing.assert_array_equal(numbers, segmentation.parts)
    assert [(part["number"], part["name"]) for part in row["parts"]] == list(enumerate(PARTS, 1))
    assert "depth" not in row and "surface" not in row
    assert '"name": "parts"' in (result.folder / "result.html").read_text("utf-8")


def test_what_is_written_may_be_let_go_of(tmp_path: Path, estimator: None) -> None:
    # of many photos the masks, as large as the photos, would fill the memory
    path, models = write_photo(tmp_path / "a.png"), [("car", FakeModel())]
    (kept,) = estimate_photos(models, [path], tmp_path / "k", Request())
    (result,) = estimate_photos(models, [path], tmp_path / "o", Request(), keep=False)
    assert kept.estimate.segmentation is not None
    assert result.estimate.segmentation is None and result.estimate.maps is None
    assert {f.name for f in result.folder.iterdir()} == {f.name for f in kept.folder.iterdir()}
    seconds = {"seconds": {}}
    assert result.document | seconds == kept.document | seconds
    show([result])


def test_every_object_gets_its_files(tmp_path: Path, estimator: None, fake_module) -> None:
    def find_all(model, photo, camera=None, task="pose", config=None):
        one, two = found(photo, maps=False), found(photo, seen(azimuth=1.0), maps=False)
        return [segmented(photo, one), segmented(photo, two)] if photo.width == 120 else []

    fake_module("featmesh.inference.several", find_all=find_all)
    paths = [write_photo(tmp_path / "a.png"), write_photo(tmp_path / "b.png", 119)]
    both, none = estimate_photos([("car", FakeModel())], paths, tmp_path, Request(every=True))
    assert [row["status"] for row in both.document["objects"]] == ["ok", "ok"]
    assert {"amodal.png", "amodal-2.png"} <= {file.name for file in both.folder.iterdir()}
    assert [row["status"] for row in none.document["objects"]] == ["no_object"]


def test_task_segment_also_writes_depth_and_surface(tmp_path: Path, estimator: None) -> None:
    path, ask = write_photo(tmp_path / "a.png"), Request(task="segment")
    (result,) = estimate_photos([("car", labelled())], [path], tmp_path, ask)
    files = {file.name for file in result.folder.iterdir()}
    assert files == PAGE | MASKS | {"parts.png", "depth.png", "surface.png"}
    row = result.document["objects"][0]
    depth = read(result.folder / row["depth"]["file"]) * row["depth"]["scale"]
    drawn = result.estimate.segmentation.amodal
    np.testing.assert_allclose(depth[drawn], result.estimate.segmentation.depth[drawn], atol=1e-4)
    assert read(result.folder / row["surface"]["file"]).shape == (90, 120, 3)
    assert not result.document["warnings"][1:]


def test_what_a_model_lacks_for_segmentation_is_a_warning(tmp_path: Path, estimator: None) -> None:
    paths = [write_photo(tmp_path / "a.png"), write_photo(tmp_path / "b.png", 122)]
    found_, none = estimate_photos(
        [("car", FakeModel(has_shapes=False))], paths, tmp_path, Request(task="segment")
    )
    assert found_.document["warnings"][1:] == [photos.NO_SHAPES, photos.NO_LABELS]
    assert found_.document["objects"][0]["parts"] is None
    assert none.document["warnings"] == [] and none.document["objects"][0]["masks"] is None
    assert {file.name for file in none.folder.iterdir()} == PAGE


def test_an_estimate_that_has_a_segmentation_keeps_it(
    tmp_path: Path, estimator: None, fake_module
) -> None:
    def done(model, photo, *rest):
        return segmented(photo, found(photo, maps=False))

    fake_module("featmesh.inference.estimator", estimate=done)
    fake_module("featmesh.inference.segment", segment=None)
    path = write_photo(tmp_path / "a.png")
    (result,) = estimate_photos([("car", labelled())], [path], tmp_path, Request(task="segment"))
    assert result.estimate.code is None and "segment" not in result.document["seconds"]


def test_a_table_has_a_row_for_each_object(capsys: pytest.CaptureFixture[str]) -> None:
    photo = Photo(np.full((90, 120, 3), 100, np.uint8))
    one, two = found(photo, maps=False), found(photo, seen(azimuth=1.0), maps=False)
    two = replace(two, seconds={})
    document = result_json("a.png", photo, "car", "0123", [one, two])
    show([photos.PhotoResult(Path("a.png"), Path("o"), (one, two), document)])
    out = capsys.readouterr().out
    assert "34.4°" in out and "57.3°" in out and out.count("a.png") == 1


def test_a_photo_that_cannot_be_read_is_of_no_category(capsys: pytest.CaptureFixture[str]) -> None:
    one = replace(found(Photo(np.zeros((90, 120, 3), np.uint8))), rivals=(("bus", 0.1),))
    bad = Estimate.refused("bus,car", InputError("E_IO", "read_photo: expected a file"))
    told = []
    for name, each in {"a.png": one, "gone.png": bad}.items():
        document = result_json(Path(name), None, "car", "0123", (each,))
        told.append(photos.PhotoResult(Path(name), Path("o"), (each,), document))
    show(told)
    out = capsys.readouterr().out
    assert "bus,car" not in out and "E_IO" in out and "car" in out


def test_a_model_without_shapes_is_told_once(tmp_path: Path, estimator: None) -> None:
    paths = [write_photo(tmp_path / "a.png"), write_photo(tmp_path / "b.png")]
    with pytest.raises(CheckpointError, match="E_CKPT_PART"):
        estimate_photos(
            [("car", FakeModel(has_shapes=False))], paths, tmp_path, Request(task="shape")
        )
    assert not (tmp_path / "a").exists()


def test_a_bad_photo_stops_no_other(tmp_path: Path, estimator: None) -> None:
    (tmp_path / "b.jpg").write_text("<html>not a photo</html>")
    paths = [tmp_path / "gone.png", tmp_path / "b.jpg", write_photo(tmp_path / "c.png")]
    results = estimate_photos([("car", FakeModel())], paths, tmp_path / "out", Request())
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
    results = estimate_photos([("car", FakeModel())], paths, tmp_path / "out", Request())
    assert [r.estimate.code for r in results] == ["E_INTERNAL", None]
    assert "a fault in the network" in faults(results)[0]


def test_pictures_of_an_earlier_run_do_not_stay(tmp_path: Path, estimator: None) -> None:
    path = write_photo(tmp_path / "a.png")
    estimate_photos([("car", FakeModel())], [path], tmp_path, Request())
    outside = Request(box=(500.0, 0.0, 600.0, 10.0))
    (result,) = estimate_photos([("car", FakeModel())], [path], tmp_path, outside)
    assert result.estimate.code == "E_BOX" and result.document["width"] == 120
    assert {file.name for file in result.folder.iterdir()} == {"result.json"}


def test_a_full_disk_is_not_a_bad_photo(
    tmp_path: Path, estimator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result_files, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        estimate_photos(
            [("car", FakeModel())], [write_photo(tmp_path / "a.png")], tmp_path, Request()
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
    show(estimate_photos([("car", FakeModel())], paths, tmp_path / "o", Request()))
    out = capsys.readouterr().out
    assert "[red]" in out and "E_IO" in out and "34.4°" in out


def test_a_photo_that_several_models_cannot_use_says_what_was_looked_for(
    tmp_path: Path, estimator: None
) -> None:
    models = [("car", FakeModel()), ("bus", FakeModel("bus"))]
    (result,) = estimate_photos(models, [tmp_path / "gone.png"], tmp_path / "o", Request())
    assert (result.estimate.status, result.estimate.category) == ("bad_input", "car,bus")
    with pytest.raises(CheckpointError):
        wanting = [models[0], ("bus", FakeModel("bus", has_shapes=False))]
        estimate_photos(wanting, [], tmp_path / "o", Request(task="shape"))
