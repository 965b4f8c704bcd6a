"""What ``featmesh data convert`` writes: crops as the benchmarks have them, copies, tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from views.readers.folders import kitti_folder, pascal_folder

from featmesh.apps.data import Wish, convert, report_json, report_lines
from featmesh.errors import DatasetError
from featmesh.evaluate.metrics import rotation_error
from featmesh.evaluate.predict import score_predictions
from featmesh.geometry.camera import Camera
from featmesh.geometry.viewpoint import ray_rotation
from featmesh.views.data_check import Finding, Report
from featmesh.views.readers.common import without_camera
from featmesh.views.readers.kitti import read_kitti
from featmesh.views.readers.pascal3d import read_pascal3d
from featmesh.views.record import View, read_views

CAR = "Car 0.00 0 1.5 960 160 1145 295 1.5 1.6 4.0 9.0 1.7 14.0 0.3"


def test_crops_are_the_benchmarks(tmp_path: Path) -> None:
    root = pascal_folder(tmp_path / "PASCAL3D+_release1.1")
    original = read_pascal3d(root, "val", "car")[0]
    out = tmp_path / "elsewhere" / "val.json"
    done = convert(Wish("pascal3d", root, out, "val", "car", crops=True))
    view = read_views(out, need_R=True)[0]
    assert done.views == 1 and (view.height, view.width) == (256, 672)
    assert view.t is not None and view.t.tolist() == [0, 0, 5] and view.distance == 5
    assert view.K is not None and view.K[0].tolist() == [3000, 0, 336]
    assert float(rotation_error(np.asarray(view.R), np.asarray(original.R))) == 0
    # 60..420 x 80..300 of the photo, 1.3 times as large, about (245, 188): int(318.5), int(244.4)
    assert view.box == pytest.approx((78 + 18, 104 - 116, 546 + 18, 390 - 116))
    assert view.extras["keypoints"]["left_front_wheel"] == pytest.approx([143 + 18, 325 - 116])
    assert np.asarray(Image.open(view.image)).shape == (256, 672, 3)


def test_crops_of_metric_data_are_refused(tmp_path: Path) -> None:
    root = kitti_folder(tmp_path, CAR)
    with pytest.raises(DatasetError, match=r"E_DATA.*--crops of pascal3d"):
        convert(Wish("kitti", root, tmp_path / "a.json", crops=True))


def rows_of(view: View, R: np.ndarray, K: np.ndarray | None) -> float:
    """The error that evaluation gives a prediction."""
    row = {"index": view.index, "status": "ok", "R": R.tolist(), "seconds": 0.1}
    row["K"] = None if K is None else K.tolist()
    return float(score_predictions([view], [row])["pose"]["median_deg"])


def test_evaluation_reads_r_with_and_without_a_camera(tmp_path: Path) -> None:
    """The truth scores 0 in all four cases; a street R taken for a crop's is off by the ray."""
    seen = read_pascal3d(pascal_folder(tmp_path / "p"), "val", "car")[0]
    assert seen.R is not None and seen.K is not None
    assert rows_of(seen, seen.R, seen.K) < 1e-4
    x0, y0, x1, y1 = seen.box_or_image
    assumed = Camera.assumed(seen.height, seen.width)
    middle = np.array([(x0 + x1) / 2 - assumed.cx, (y0 + y1) / 2 - assumed.cy, assumed.fx])
    Q = ray_rotation(torch.from_numpy(middle)).numpy()
    assert rows_of(without_camera(seen), Q.T @ seen.R, None) < 1e-4

    street = read_kitti(kitti_folder(tmp_path / "k", CAR))[0]
    assert street.R is not None and street.K is not None
    assert rows_of(street, street.R, street.K) < 1e-4
    bare = without_camera(street)
    assert rows_of(bare, street.R, street.K) < 1e-4  # the estimate knows K, the record does not
    assert bare.R is not None and rows_of(street, bare.R, street.K) > 30


def test_the_report_shows_examples_and_counts_the_rest() -> None:
    findings = [Finding("far", "train", k, f"{k}.jpg", "far off") for k in range(5)]
    report = Report({"train": 9}, 8, (*findings, Finding("repeated", "train", 7, "7.jpg", "twice")))
    lines = report_lines(report)
    assert sum("far off" in line for line in lines) == 3 and "2 more" in " ".join(lines)
    assert report_json(report)["counts"] == {"far": 5, "repeated": 1} and not report.good
    assert "(a note)" in "\n".join(lines)
