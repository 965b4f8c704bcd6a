import json
import math

import numpy as np
import pytest
import torch

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.inference.result import Estimate, Mode, result_json
from featmesh.photo.photo import Photo

PHOTO = Photo(np.zeros((60, 80, 3), dtype=np.uint8), warnings=("first frame of three",))
POSE = Viewpoint(math.radians(30), math.radians(10), math.radians(-5), 4.0).to_pose()


def test_an_object_is_told_in_degrees() -> None:
    estimate = Estimate("ok", "car", POSE, viewpoint=Viewpoint.from_pose(POSE), score=0.123456789)
    row = estimate.to_json()
    told = [row[key] for key in ("azimuth", "elevation", "theta", "distance")]
    np.testing.assert_allclose(told, [30, 10, -5, 4], atol=1e-4)
    np.testing.assert_allclose(row["R"], POSE.R.numpy(), atol=1e-8)
    assert (row["t"], row["t_unit"], row["score"]) == ([0.0, 0.0, 4.0], "object", 0.123457)
    assert row["confidence"] is None and row["box"] is None and "code" not in row


def test_the_viewpoint_follows_from_the_pose_where_none_is_given() -> None:
    assert Estimate("ok", "car", POSE).to_json()["azimuth"] == pytest.approx(30, abs=1e-4)


def test_an_azimuth_that_rounds_to_360_is_0() -> None:
    pose = Viewpoint(2 * math.pi - 1e-9, 0.1, 0.0, 2.0).to_pose()
    assert Estimate("ok", "car", pose).to_json()["azimuth"] == 0.0


def test_other_modes_have_pose_and_score() -> None:
    row = Estimate("ok", "car", POSE, modes=(Mode(POSE, 0.5),)).to_json()
    assert row["modes"][0]["azimuth"] == row["azimuth"]
    assert row["modes"][0]["score"] == 0.5


def test_without_a_pose_every_number_is_null() -> None:
    row = Estimate("no_object", "car").to_json()
    empty = ("R", "t", "azimuth", "elevation", "theta", "distance", "box", "score", "confidence")
    assert [row[key] for key in empty] == [None] * len(empty)
    assert not Estimate("no_object", "car").converged


def test_nothing_that_is_not_finite_reaches_the_file() -> None:
    broken = Pose(POSE.R, torch.tensor([math.nan, math.inf, 1.0], dtype=torch.float64))
    row = Estimate("uncertain", "car", broken, score=math.inf).to_json()
    assert row["t"] == [None, None, 1.0] and row["score"] is None
    json.dumps(row, allow_nan=False)


def test_a_refused_input_carries_its_code() -> None:
    estimate = Estimate.refused("car", InputError("E_BOX", "box: expected x, got y; try: z"))
    row = estimate.to_json()
    assert (row["status"], row["code"]) == ("bad_input", "E_BOX")
    assert row["message"] == "E_BOX: box: expected x, got y; try: z"


def test_the_result_has_the_keys_of_the_contract() -> None:
    estimate = Estimate(
        "ok", "car", POSE, camera=Camera.assumed(60, 80), seconds={"scan": 0.5}, warnings=("w", "w")
    )
    result = result_json("a/b.jpg", PHOTO, "car", "abc", [estimate, estimate])
    assert list(result) == [
        *("schema", "photo", "width", "height", "model", "camera", "seconds", "warnings"),
        "objects",
    ]
    assert (result["schema"], result["photo"]) == (1, "a/b.jpg")
    assert (result["width"], result["height"]) == (80, 60)
    assert result["model"] == {"name": "car", "hash": "abc"}
    assert result["camera"] == {
        "K": [[92.0, 0.0, 40.0], [0.0, 92.0, 30.0], [0.0, 0.0, 1.0]],
        "source": "assumed",
    }
    assert result["seconds"] == {"scan": 1.0}
    assert result["warnings"] == ["first frame of three", "w"]
    assert len(result["objects"]) == 2


def test_a_photo_that_cannot_be_read_has_no_size() -> None:
    estimate = Estimate.refused("car", InputError("E_IO", "read_photo(): expected a file"))
    result = result_json("gone.jpg", None, "car", None, [estimate])
    assert result["width"] is None and result["camera"] == {"K": None, "source": None}
    json.dumps(result, allow_nan=False)
