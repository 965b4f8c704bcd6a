import pytest

from featmesh.apps.serve_body import shown_name
from featmesh.apps.serve_options import Options, read_options
from featmesh.errors import InputError


def test_nothing_asked_is_a_pose() -> None:
    assert (
        read_options({}, ["car"]) == read_options({"box": " ", "model": ""}, ["car"]) == Options()
    )


def test_fields() -> None:
    fields = {"box": "[1, 2,3 4.5]", "task": "shape", "fov": "60", "format": "png", "model": "car"}
    options = read_options(fields, ["car", "bus"])
    assert options == Options("car", (1.0, 2.0, 3.0, 4.5), "shape", fov=60.0, format="png")
    record = options.record("/folder", "a.jpg")
    assert record["folder"] == "/folder" and record["name"] == "a.jpg" and "camera" not in record
    assert read_options({"all": "true", "model": "car"}, ["car", "bus"]).all


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"boxs": "1"}, "E_REQUEST", "perhaps box"),
        ({"task": "dance"}, "E_REQUEST", "pose, shape, segment"),
        ({"format": "exe"}, "E_REQUEST", "json, html, png"),
        ({"all": "yes"}, "E_REQUEST", "true, false"),
        ({"model": "/etc/passwd"}, "E_MODEL", "car, bus"),
        ({"all": "true"}, "E_MODEL", "model=car"),
        ({"all": "true", "model": "car", "box": "1,2,3,4"}, "E_BOX", "both"),
        ({"box": "1,2,3"}, "E_BOX", "x0,y0,x1,y1"),
        ({"box": "1,2,3,inf"}, "E_BOX", "x0,y0,x1,y1"),
        ({"fov": "wide"}, "E_CAMERA", "fov"),
        ({"focal_px": "0"}, "E_CAMERA", "focal_px"),
        ({"fov": "60", "focal_px": "500"}, "E_CAMERA", "one camera"),
        ({"camera": "{"}, "E_CAMERA", "K"),
        ({"camera": "[" * 20_000}, "E_CAMERA", "K"),
    ],
)
def test_what_makes_no_sense_is_named(fields: dict[str, str], code: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_options(fields, ["car", "bus"])
    assert caught.value.code == code and told in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("Straße 1.jpg", "Straße 1.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("..", "photo"),
        (None, "photo"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_are_fit_to_be_shown(told: str | None, shown: str) -> None:
    assert shown_name(told) == shown
