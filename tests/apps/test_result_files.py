import json
from pathlib import Path

import numpy as np
from PIL import Image
from present.samples import found, grey_photo, labels_of, seen, segmented, shaped

from featmesh.apps.result_files import Found, suffix, with_files, write
from featmesh.inference.result import Estimate, result_json

PAGE = {"overlay.png", "result.json", "result.html"}
MASKS = {"amodal.png", "visible.png", "occluded.png"}


def test_the_first_object_has_plain_names() -> None:
    assert [suffix(k) for k in range(3)] == ["", "-2", "-3"]


def test_the_document_that_is_given_stays_as_it_is() -> None:
    photo = grey_photo()
    estimate = segmented(photo, shaped(found(photo)))
    document = result_json("a.png", photo, "car", "0123", [estimate])
    told = with_files(document, Found(photo, [estimate]))
    assert "masks" not in document["objects"][0] and "file" not in document["objects"][0]["shape"]
    assert told["objects"][0]["masks"] and told["objects"][0]["shape"]["file"] == "shape.glb"
    assert {key: told[key] for key in told if key != "objects"} == {
        key: document[key] for key in document if key != "objects"
    }


def test_without_a_pose_there_are_page_and_nulls(tmp_path: Path) -> None:
    photo, none = grey_photo(), Estimate("no_object", "car")
    result = Found(photo, [none], dense=True)
    document = with_files(result_json("a.png", photo, "car", "0123", [none]), result)
    write(tmp_path / "a", result, document)
    assert {file.name for file in (tmp_path / "a").iterdir()} == PAGE
    (row,) = json.loads((tmp_path / "a" / "result.json").read_text("utf-8"))["objects"]
    assert row["masks"] is None and row["parts"] is None and "depth" not in row


def test_two_objects_have_numbered_files(tmp_path: Path) -> None:
    photo = grey_photo()
    one = segmented(photo, shaped(found(photo, maps=False)))
    two = segmented(photo, found(photo, seen(azimuth=2.5, distance=4.0), maps=False))
    result = Found(photo, (one, two), labels_of(one.mesh), dense=True)
    document = with_files(result_json("a.png", photo, "car", "0123", result.estimates), result)
    folder = tmp_path / "a"
    folder.mkdir()
    others = {"notes.txt", "parts-x.png", "amodal-0.png", "my-depth.png"}
    stale = {"amodal-3.png", "shape-2.glb", "surface-12.png"}
    for name in others | stale:
        (folder / name).write_text("")
    write(folder, result, document)
    dense = {"parts.png", "depth.png", "surface.png"}
    second = {name.replace(".", "-2.") for name in MASKS | dense}
    files = {file.name for file in folder.iterdir()}
    assert files == PAGE | MASKS | dense | second | {"shape.glb"} | others
    told = json.loads((folder / "result.json").read_text("utf-8"))["objects"]
    assert told[0]["shape"]["file"] == "shape.glb" and "shape" not in told[1]
    assert told[1]["surface"]["file"] == "surface-2.png"
    for row, estimate in zip(told, (one, two), strict=True):
        drawn = np.asarray(Image.open(folder / row["masks"]["amodal"]["file"])) > 0
        np.testing.assert_array_equal(drawn, estimate.segmentation.amodal)
    page = (folder / "result.html").read_text("utf-8")
    assert page.count('<section class="object">') == 2
