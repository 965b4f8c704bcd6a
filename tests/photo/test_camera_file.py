"""K.json (contracts 1): the camera of one photo, or E_CAMERA naming the entry; fault 47."""

import json
import math

import pytest
import torch

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.photo.camera_file import read_camera_file

GOOD = {"K": [[500, 0, 320], [0, 510.5, 240], [0, 0, 1]], "width": 640, "height": 480}


def write(folder, record):
    path = folder / "K.json"
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def refused(path, size=(480, 640)):
    with pytest.raises(InputError) as caught:
        read_camera_file(path, size)
    return caught.value


def entry(i, j, value):
    K = [list(row) for row in GOOD["K"]]
    K[i][j] = value
    return {**GOOD, "K": K}


def test_reads_the_camera(tmp_path):
    camera = read_camera_file(write(tmp_path, GOOD), (480, 640))
    assert camera == Camera(500.0, 510.5, 320.0, 240.0, 480, 640)


def test_byte_order_mark_and_unknown_keys_are_no_harm(tmp_path):
    path = write(tmp_path, "\ufeff" + json.dumps({**GOOD, "distortion": None}))
    assert read_camera_file(path, (480, 640)).fx == 500


@pytest.mark.parametrize("size", [(640, 480), (240, 320)])
def test_another_size_is_refused_and_named(tmp_path, size):
    error = refused(write(tmp_path, GOOD), size)
    assert error.code == "E_CAMERA"
    assert f"{size[1]}x{size[0]} photo" in str(error) and "got one of 640x480" in str(error)


@pytest.mark.parametrize(
    "record, words",
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "got a list"),
        ("null", "got a NoneType"),
        ({}, "the key 'K'"),
        ({"K": GOOD["K"], "width": 640}, "the key 'height'"),
        ({**GOOD, "K": [[1, 2], [3, 4]]}, "three rows of three"),
        ({**GOOD, "K": "5"}, "three rows of three"),
        ({**GOOD, "width": 640.5}, "width as a whole number"),
        ({**GOOD, "height": "480"}, "height as a whole number"),
        ({**GOOD, "height": True}, "height as a whole number"),
        ({**GOOD, "height": -480}, "height as a whole number"),
        ({**GOOD, "height": math.nan}, "height as a whole number"),
        (entry(1, 1, "f"), "K[1,1]"),
        (entry(0, 0, None), "K[0,0]"),
        (entry(0, 0, 10**400), "K[0,0]"),
        (entry(0, 0, math.nan), "fx"),
        (entry(0, 2, math.inf), "cx"),
        (entry(0, 0, 0), "fx between"),
        (entry(1, 1, -500), "fy between"),
        (entry(0, 0, 4.5), "not millimetres"),
        (entry(0, 0, 1e9), "fx between"),
        (entry(0, 2, 5000), "cx within"),
        (entry(0, 1, 3), "without skew"),
        (entry(2, 2, 2), "K[2,2]"),
    ],
)
def test_bad_files_name_the_entry(tmp_path, record, words):
    error = refused(write(tmp_path, record))
    assert error.code == "E_CAMERA"
    assert words in str(error) and "K.json" in str(error) and "try:" in str(error)


def test_files_that_are_none(tmp_path):
    assert refused(tmp_path / "none.json").code == "E_IO"
    assert refused(tmp_path).code == "E_IO"
    (tmp_path / "b").write_bytes(b"\xff\xfe\0{")
    assert refused(tmp_path / "b").code == "E_CAMERA"
    (tmp_path / "big").write_bytes(b" " * 2_000_000)
    assert "at most 1000000 bytes" in str(refused(tmp_path / "big"))


@pytest.mark.parametrize("i, j, name", [(0, 0, "fx"), (1, 1, "fy"), (0, 2, "cx"), (1, 2, "cy")])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_from_K_names_the_entry_that_is_not_finite(i, j, name, value):
    K = torch.tensor(entry(i, j, value)["K"], dtype=torch.float64)
    with pytest.raises(InputError, match=f"a finite {name}") as caught:
        Camera.from_K(K, (480, 640))
    assert caught.value.code == "E_CAMERA"


@pytest.mark.parametrize("i, j, name", [(0, 0, "fx"), (1, 1, "fy")])
@pytest.mark.parametrize("value", [0.0, -500.0, 1.0, 1e7])
def test_from_K_refuses_a_focal_length_no_lens_has(i, j, name, value):
    K = torch.tensor(entry(i, j, value)["K"], dtype=torch.float64)
    with pytest.raises(InputError, match=rf"{name} between .* got {value:g}".replace("+", r"\+")):
        Camera.from_K(K, (480, 640))
