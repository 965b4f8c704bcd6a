"""``featmesh data``: converts, checks and tells what is missing, on hand-made folders."""

import json
from pathlib import Path

import numpy as np
import pytest
from views.readers.folders import kitti_folder, pascal_folder

from featmesh.cli import exits
from featmesh.cli.main import execute
from featmesh.views.readers.layouts import LAYOUTS
from featmesh.views.record import read_views

CAR = "Car 0.00 0 1.5 560 150 700 250 1.5 1.6 4.0 2.0 1.7 20.0 0.3"


def test_convert_writes_a_views_file_and_says_what_was_left_out(tmp_path: Path, capsys) -> None:
    root = pascal_folder(tmp_path / "PASCAL3D+_release1.1")
    out = tmp_path / "views.json"
    assert execute(["data", "convert", "pascal3d", str(root), "--out", str(out), "--split", "val",
                    "--category", "car"]) == 0  # fmt: skip
    told = capsys.readouterr().out
    assert "1 views of 1 photos" in told and "another category" in told
    assert read_views(out, need_R=True)[0].category == "car"


def test_convert_takes_listed_photos_and_leaves_cameras_out(tmp_path: Path, capsys) -> None:
    root, out = pascal_folder(tmp_path), tmp_path / "views.json"
    (tmp_path / "some.txt").write_text("n02_2 0\nn02_9 0\n")
    words = ["--out", str(out), "--only", str(tmp_path / "some.txt"), "--no-camera", "--json"]
    assert execute(["data", "convert", "pascal3d", str(root), *words]) == 0
    assert json.loads(capsys.readouterr().out)["views"] == 1
    view = read_views(out)[0]
    assert view.image.stem == "n02_2" and view.K is None and view.distance == 6.5


def test_photos_stay_where_they_are_or_are_copied(tmp_path: Path, capsys) -> None:
    root = kitti_folder(tmp_path / "data", CAR)
    words = ["data", "convert", "kitti", str(root), "--out", str(tmp_path / "mine" / "views.json")]
    assert execute(words) == exits.FAILED and "--copy" in capsys.readouterr().err
    assert execute([*words, "--copy"]) == 0
    view = read_views(tmp_path / "mine" / "views.json")[0]
    assert view.image.is_file() and view.image.is_relative_to(tmp_path / "mine")
    assert view.t is not None and np.linalg.norm(view.t) > 19


def test_a_missing_folder_is_told_over_several_lines(tmp_path: Path, capsys) -> None:
    words = ["data", "convert", "nuscenes", str(tmp_path / "no"), "--out", str(tmp_path / "a.json")]
    assert execute(words) == exits.FAILED
    told = capsys.readouterr().err
    assert told.startswith("featmesh: E_DATASET") and "\n  samples/CAM_FRONT/NAME.jpg" in told


def test_an_unknown_data_set_is_a_usage_error(tmp_path: Path, capsys) -> None:
    words = ["data", "convert", "pascal3", str(tmp_path), "--out", str(tmp_path / "a.json")]
    assert execute(words) == exits.USAGE and "pascal3d" in capsys.readouterr().err
    assert execute(["data", "layout", "kiti"]) == exits.USAGE


def test_an_empty_category_is_told(tmp_path: Path, capsys) -> None:
    root = kitti_folder(tmp_path, CAR)
    words = ["data", "convert", "kitti", str(root), "--out", str(root / "a.json")]
    assert execute([*words, "--category", "tram"]) == exits.FAILED
    assert "E_DATA" in capsys.readouterr().err


def test_check_tells_good_from_bad_by_its_exit_code(tmp_path: Path, capsys) -> None:
    root, out = kitti_folder(tmp_path, CAR), tmp_path / "views.json"
    assert execute(["data", "convert", "kitti", str(root), "--out", str(out)]) == 0
    capsys.readouterr()
    assert execute(["data", "check", str(out)]) == exits.FAILED  # the label's box is nowhere near
    assert "far " in capsys.readouterr().out
    held = json.loads(out.read_text())
    held["views"][0]["box"] = [600, 185, 770, 245]
    out.write_text(json.dumps(held))
    assert execute(["data", "check", str(out)]) == 0
    assert "nothing wrong was found" in capsys.readouterr().out
    assert execute(["data", "check", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["good"] is True


def test_check_reads_the_folder_of_a_data_set(tmp_path: Path, capsys) -> None:
    root = pascal_folder(tmp_path / "a")
    assert execute(["data", "check", str(root), "--category", "car", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == {"train": 1, "val": 1}
    assert execute(["data", "check"]) == exits.FAILED


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_layouts_can_be_looked_up(name: str, capsys) -> None:
    assert execute(["data", "layout", name]) == 0
    assert LAYOUTS[name].tree in capsys.readouterr().out
