"""Poses written for other programs say the same when they are read back."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures import aside, box_of, look
from PIL import Image
from scipy.io import loadmat

from featmesh import rle
from featmesh.apps.export_poses import export_poses
from featmesh.apps.export_rows import read_poses
from featmesh.errors import DatasetError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.viewpoint import ray_rotation
from featmesh.views.readers.coco import read_coco
from featmesh.views.readers.common import Notes
from featmesh.views.readers.pascal3d import read_pascal3d
from featmesh.views.record import View, write_views

SIZE = (96, 128)
CAMERA = Camera(166.0, 166.0, 60.0, 50.0, *SIZE)
SEEN = [aside(look(40, 15, 5, 2.0), CAMERA, (50, 40)), aside(look(200, -5), CAMERA, (90, 70))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, three records (a car, another car, a bus without a pose), their predictions."""
    (tmp_path / "photos").mkdir()
    records, rows = [], []
    for k, (name, category) in enumerate([("a", "car"), ("b", "car"), ("b", "bus")]):
        image = tmp_path / "photos" / f"{name}.png"
        Image.new("RGB", SIZE[::-1], (90, 90, 90)).save(image)
        record = View(image, SIZE[1], SIZE[0], category, K=CAMERA.K.numpy(), extras={})
        records.append(record)
        row: dict[str, Any] = {"index": k, "image": f"photos/{name}.png", "status": "no_object"}
        if category == "car":
            pose = SEEN[k]
            row |= {"status": "ok", "R": pose.R.tolist(), "t": pose.t.tolist(), "score": 0.25}
            row |= {"t_unit": "object", "K": CAMERA.K.tolist(), "box": [*box_of(pose, CAMERA)]}
        rows.append(row | {"seconds": 0.5, "confidence": None})
    write_views(tmp_path / "views.json", records)
    write_rows(tmp_path, rows)
    return tmp_path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "predictions.jsonl").write_text(text)


def export(folder: Path, to: Any, out: str, **more: Any) -> dict[str, Any]:
    return export_poses(
        folder / "predictions.jsonl", folder / "views.json", to, folder / out, **more
    )


def test_bop_has_a_line_a_pose_in_millimetres(folder: Path) -> None:
    told = export(folder, "bop", "bop.csv", diagonal=4.5)
    with (folder / "bop.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert (told["poses"], told["left_out"], told["notes"]) == (2, {"status no_object": 1}, [])
    assert [row["im_id"] for row in lines] == ["0", "1"]
    assert {(row["scene_id"], row["obj_id"], row["time"]) for row in lines} == {("1", "2", "0.5")}
    for row, pose in zip(lines, SEEN, strict=True):
        R = np.array(row["R"].split(), dtype=float).reshape(3, 3)
        t = np.array(row["t"].split(), dtype=float)
        assert np.allclose(R, pose.R.numpy(), atol=1e-9) and float(row["score"]) == 0.25
        assert np.allclose(t, 4500 * pose.t.numpy(), rtol=1e-9)


def test_bop_says_what_it_takes_an_object_unit_for(folder: Path) -> None:
    told = export(folder, "bop", "bop.csv")
    (note,) = told["notes"]
    assert "2 with t in object units" in note and "taken as 1 m" in note
    first = (folder / "bop.csv").read_text().splitlines()[1]
    t = [float(v) for v in first.split(",")[5].split()]
    assert t == pytest.approx([1000 * v for v in SEEN[0].t.tolist()])


def test_bop_takes_the_records_own_numbers_and_metres(folder: Path) -> None:
    views = json.loads((folder / "views.json").read_text())
    for view in views["views"]:
        view |= {"scene_id": 48, "im_id": 7, "obj_id": 21}
    (folder / "views.json").write_text(json.dumps(views))
    write_rows(folder, [row | {"t_unit": "metre"} for row in rows_of(folder)])
    assert export(folder, "bop", "bop.csv", diagonal=9.0)["notes"] == []
    first = (folder / "bop.csv").read_text().splitlines()[1].split(",")
    assert first[:3] == ["48", "7", "21"]
    assert [float(v) for v in first[5].split()] == pytest.approx(
        [1000 * v for v in SEEN[0].t.tolist()]
    )


def test_coco_has_boxes_inside_the_photo_and_masks_where_there_are_some(folder: Path) -> None:
    rows = rows_of(folder)
    mask = np.zeros(SIZE, bool)
    mask[20:50, 30:70] = True
    rows[0]["masks"] = {"visible": {"file": "visible.png", "rle": rle.encode(mask)}}
    rows[1]["box"] = [-10.0, 20.0, 200.0, 60.0]
    write_rows(folder, rows)
    told = export(folder, "coco", "annotations/instances_val.json")
    assert told["poses"] == 2
    document = json.loads((folder / "annotations" / "instances_val.json").read_text())
    first, second = document["annotations"]
    assert (rle.decode(first["segmentation"]) == mask).all() and first["area"] == mask.sum()
    assert second["bbox"] == [0, 20, 128, 40] and second["segmentation"] == []
    assert first["pose"]["R"] == SEEN[0].R.tolist() and first["pose"]["t_unit"] == "object"
    assert [one["name"] for one in document["categories"]] == ["bus", "car"]
    assert [one["file_name"] for one in document["images"]] == ["photos/a.png", "photos/b.png"]


def test_our_reader_of_coco_reads_what_is_written(folder: Path) -> None:
    export(folder, "coco", "annotations/instances_val.json")
    shutil.copytree(folder / "photos", folder / "val" / "photos")
    views = read_coco(folder, notes=Notes())
    assert [(view.category, view.image.name) for view in views] == [
        ("car", "a.png"),
        ("car", "b.png"),
    ]
    expected = box_of(SEEN[0], CAMERA)
    assert views[0].box == pytest.approx(
        (max(expected[0], 0), max(expected[1], 0), min(expected[2], 128), min(expected[3], 96))
    )


def test_our_reader_of_pascal3d_gives_the_poses_back(folder: Path) -> None:
    told = export(folder, "pascal3d", "p3d")
    assert (told["files"], told["poses"]) == (2, 2)
    shutil.copytree(folder / "photos", folder / "p3d" / "Images" / "car_imagenet")
    views = read_pascal3d(folder / "p3d", category="car")
    for view, pose in zip(views, SEEN, strict=True):
        along = ray_rotation(pose.t) @ pose.R  # as seen along the ray to the object's centre
        assert view.R is not None and np.allclose(view.R, along.numpy(), atol=1e-9)
        assert view.t is not None and view.t[2] == pytest.approx(float(pose.t.norm()))
        assert view.camera is not None and view.camera.fx == pytest.approx(CAMERA.fx)
        centre = CAMERA.project(pose.t)[0].tolist()
        assert (view.camera.cx, view.camera.cy) == pytest.approx(centre)


def test_the_mat_file_has_the_benchmarks_fields_and_no_date(folder: Path) -> None:
    export(folder, "pascal3d", "p3d")
    export(folder, "pascal3d", "again")
    path = Path("Annotations", "car_imagenet", "a.mat")
    assert (folder / "p3d" / path).read_bytes() == (folder / "again" / path).read_bytes()
    record = loadmat(folder / "p3d" / path, squeeze_me=True, struct_as_record=False)["record"]
    seen = record.objects.viewpoint
    assert getattr(record.objects, "class") == "car" and record.filename == "a.png"
    assert (seen.azimuth, seen.elevation, seen.theta) == pytest.approx((40, 15, 5), abs=0.01)
    assert seen.focal * seen.viewport == pytest.approx(CAMERA.fx)


def test_metres_go_into_pascal3d_only_with_the_length_of_a_unit(folder: Path) -> None:
    write_rows(folder, [row | {"t_unit": "metre"} for row in rows_of(folder)])
    told = export(folder, "pascal3d", "p3d")
    assert told["poses"] == 0 and any("--diagonal" in reason for reason in told["left_out"])
    assert export(folder, "pascal3d", "p3d", diagonal=2.0)["poses"] == 2
    path = folder / "p3d" / "Annotations" / "car_imagenet" / "a.mat"
    record = loadmat(path, squeeze_me=True, struct_as_record=False)["record"]
    assert record.objects.viewpoint.distance == pytest.approx(float(SEEN[0].t.norm()) / 2)


def test_an_assumed_camera_is_told(folder: Path) -> None:
    views = json.loads((folder / "views.json").read_text())
    for view in views["views"]:
        del view["K"]
    (folder / "views.json").write_text(json.dumps(views))
    write_rows(folder, [row | {"K": None} for row in rows_of(folder)])
    found = read_poses(folder / "predictions.jsonl", folder / "views.json")
    assert found.posed[0].camera == Camera.assumed(*SIZE)
    assert "2 without a known camera" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"index": 9}, "E_RUN"),
        ({"index": [0]}, "E_RUN"),
        ({"image": "other.png"}, "E_RUN"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "E_DATA"),
        ({"R": "no"}, "E_DATA"),
        ({"t": [0, 0, math.inf]}, "E_DATA"),
        ({"t_unit": "inch"}, "E_DATA"),
    ],
)
def test_rows_that_cannot_be_are_refused(folder: Path, change: dict[str, Any], code: str) -> None:
    rows = rows_of(folder)
    write_rows(folder, [rows[0] | change, *rows[1:]])
    with pytest.raises(DatasetError) as caught:
        export(folder, "bop", "bop.csv")
    assert caught.value.code == code and not (folder / "bop.csv").exists()


def test_a_cut_line_and_a_length_of_nothing_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="E_CONFIG"):
        export(folder, "bop", "bop.csv", diagonal=0.0)
    with (folder / "predictions.jsonl").open("a") as file:
        file.write('{"index": 3, "im')
    with pytest.raises(DatasetError, match="line 4"):
        export(folder, "bop", "bop.csv")


def test_an_object_behind_the_camera_is_left_out_of_pascal3d(folder: Path) -> None:
    rows = rows_of(folder)
    rows[0]["t"] = [0.0, 0.0, -2.0]
    write_rows(folder, rows)
    told = export(folder, "pascal3d", "p3d")
    assert told["poses"] == 1 and "E_CAMERA" in str(told["left_out"])
