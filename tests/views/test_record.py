"""The views file: what is read, what is refused with file, record and key, and the way back."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featmesh.errors import DatasetError
from featmesh.views.record import (
    View,
    displayed_size,
    parse_view,
    raw_records,
    read_views,
    write_views,
)

K = [[700.0, 0.0, 320.0], [0.0, 700.0, 240.0], [0.0, 0.0, 1.0]]
R = [[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]]  # spec 6.4: azimuth 90


def record(**changes):
    least = {"image": "photos/a.png", "width": 640, "height": 480, "category": "car"}
    return {**least, "R": R, **changes}


def written(folder, *records, name="views.json"):
    path = folder / name
    path.write_text(json.dumps(list(records)))
    return path


def refusal(path, **options):
    with pytest.raises(DatasetError) as caught:
        read_views(path, **options)
    return caught.value


def test_reads_every_key(tmp_path):
    full = record(
        box=[10, 20, 300.5, 400],
        K=K,
        t=[1, 2, 13.5],
        t_unit="metre",
        distance=3.2,
        dimensions_lhw=[4.15, 1.57, 1.73],
        azimuth=90,
        elevation=0,
        theta=-1.5,
        f_over_image_width=1.1,
        mask="masks/a.png",
        parts="parts/a.png",
        occluded=2,
        truncated=-1,
        model_name="Audi 100",
        shapenet_id="aebd",
    )
    (view,) = read_views(written(tmp_path, full))
    assert view.image == tmp_path / "photos/a.png" and view.image_name == "photos/a.png"
    assert view.image.is_absolute() and view.mask == tmp_path / "masks/a.png"
    assert np.array_equal(view.R, R) and view.R.dtype == np.float64
    assert view.box == (10.0, 20.0, 300.5, 400.0) == view.box_or_image
    assert view.camera.fx == 700 and (view.camera.height, view.camera.width) == (480, 640)
    assert view.t.tolist() == [1, 2, 13.5] and view.t_unit == "metre"
    assert view.azimuth == 90.0 and view.extras == {"shapenet_id": "aebd"}
    assert (view.index, view.no_object, view.occluded, view.truncated) == (0, False, 2, -1.0)


def test_absent_means_none_and_the_whole_image(tmp_path):
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"schema": 1, "views": [record(box=None), record(no_object=True)]}))
    view, negative = read_views(path)
    assert view.camera is None and view.box is None
    assert view.box_or_image == (0.0, 0.0, 640.0, 480.0)
    assert negative.no_object and negative.index == 1


BAD = [
    ("image", None, "key 'image'"),
    ("image", 3, "a text"),
    ("width", 0, "whole number of pixels"),
    ("width", 640.0, "whole number of pixels"),
    ("height", True, "whole number of pixels"),
    ("category", "Car", "lower-case word"),
    ("no_object", "yes", "true or false"),
    ("R", [[1, 0], [0, 1]], "3 x 3 finite numbers"),
    ("R", [[1, 0, 0], [0, 1, 0], [0, 0, float("nan")]], "3 x 3 finite numbers"),
    ("R", [["1", 0, 0], [0, 1, 0], [0, 0, 1]], "3 x 3 finite numbers"),
    ("R", [[1, 0, 0], [0, 1, 0], [0, 0, 1.01]], "off by 0.0201"),
    ("R", [[1, 0, 0], [0, 1, 0], [0, 0, -1]], "det R = -1"),
    ("box", [float("nan")] * 4, "four finite numbers"),
    ("box", [1, 2, 3], "four finite numbers"),
    ("box", [10, 10, 10, 20], "x0 < x1"),
    ("box", [700, 10, 800, 20], "inside the 640x480 photo"),
    ("box", [0, 0, 10**400, 5], "four finite numbers"),
    ("K", [[1, 0, 320], [0, 700, 240], [0, 0, 1]], "fx between"),
    ("K", [[700, 5, 320], [0, 700, 240], [0, 0, 1]], "skew"),
    ("t", [1, 2], "three finite numbers"),
    ("t_unit", "cm", "one of object, metre"),
    ("distance", 0, "above 0"),
    ("dimensions_lhw", [4, 0, 2], "above 0"),
    ("azimuth", "90", "degrees"),
    ("mask", "../m.png", "stays in the file's folder"),
    ("parts", "/etc/passwd", "stays in the file's folder"),
    ("occluded", 0.5, "whole number"),
    ("model_name", 7, "a text"),
]


@pytest.mark.parametrize(("key", "value", "says"), BAD)
def test_a_bad_value_names_file_record_and_key(tmp_path, key, value, says):
    path = written(tmp_path, record(), record(**{key: value}))
    error = refusal(path)
    assert error.code == "E_VIEWS" and says in str(error)
    assert f"views {path} record 1 key {key!r}: expected " in str(error)
    assert ", got " in str(error) and ", try: " in str(error)


@pytest.mark.parametrize("key", ["image", "width", "height", "category"])
def test_a_missing_key_is_named(tmp_path, key):
    incomplete = record()
    del incomplete[key]
    assert f"record 0 key {key!r}" in str(refusal(written(tmp_path, incomplete)))


def test_t_needs_its_unit(tmp_path):
    assert "key 't_unit'" in str(refusal(written(tmp_path, record(t=[0, 0, 5]))))


def test_a_long_wrong_value_is_cut_short(tmp_path):
    assert len(str(refusal(written(tmp_path, record(t_unit="x" * 10**6))))) < 600


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("\xff\xfe", "at least one record"),
        ("[]", "at least one record"),
        ("[3]", "record 0 key '*'"),
        ('{"views": []}', '"schema": 1'),
        ('{"schema": 2, "views": []}', "newer"),
        ('{"schema": true, "views": []}', '"schema": 1'),
        ('{"schema": 1}', "at least one record"),
    ],
)
def test_a_broken_file_is_refused_as_a_whole(tmp_path, text, says):
    path = tmp_path / "views.json"
    path.write_bytes(b'"\xff\xfe"' if text == "\xff\xfe" else text.encode())
    error = refusal(path)
    assert error.code == "E_VIEWS" and str(path) in str(error)
    assert says in str(error) or "expected JSON" in str(error)


def test_a_missing_file_is_an_io_error(tmp_path):
    assert refusal(tmp_path / "none.json").code == "E_IO"
    assert "a folder" in str(refusal(tmp_path))


def test_categories_and_rotations_on_demand(tmp_path):
    unlabelled = {key: value for key, value in record().items() if key != "R"}
    path = written(tmp_path, record(category="spaceship"), unlabelled)
    assert len(read_views(path)) == 2
    error = refusal(path, categories={"car", "bus"})
    assert "record 0 key 'category': expected one of bus, car, got spaceship" in str(error)
    assert "record 1 key 'R'" in str(refusal(path, need_R=True))
    negative = written(tmp_path, {**unlabelled, "no_object": True}, name="n.json")
    assert len(read_views(negative, need_R=True)) == 1


def test_the_size_is_that_of_the_photo_as_displayed(tmp_path):
    (tmp_path / "photos").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (480, 640)).save(tmp_path / "photos/a.png", exif=turned)
    assert len(read_views(written(tmp_path, record()))) == 1
    path = written(tmp_path, record(), record(width=480, height=640))
    assert "record 1 key 'width': expected the size of photos/a.png, 640x480" in str(refusal(path))
    assert len(read_views(path, sizes=False)) == 2


def test_a_size_is_read_off_the_header_and_turned_as_displayed(tmp_path):
    photo, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 30)).save(photo, exif=exif)
    assert displayed_size(photo) == (30, 40)
    assert displayed_size(tmp_path / "none.jpg") is None
    photo.write_bytes(b"no photo")
    assert displayed_size(photo) is None


def test_records_can_be_read_one_by_one(tmp_path):
    path = written(tmp_path, record(), record(width=-1))
    rows = raw_records(path)
    assert [row["width"] for row in rows] == [640, -1]
    good = parse_view(path, 0, rows[0])
    assert (good.index, good.image) == (0, tmp_path / "photos" / "a.png")
    with pytest.raises(DatasetError, match="record 1 key 'width'"):
        parse_view(path, 1, rows[1])
    path.write_text("[]")
    with pytest.raises(DatasetError) as caught:
        raw_records(path)
    assert caught.value.code == "E_VIEWS"


def test_a_photo_that_is_missing_or_broken_is_left_to_others(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"<html>no photo</html>")
    path = written(tmp_path, record(), record(image="photos/none.png"))
    assert len(read_views(path)) == 2


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (inside / "a.png").symlink_to(tmp_path / "secret.png")
    (inside / "out").symlink_to(tmp_path)
    for name in ("a.png", "out/secret.png"):
        assert "key 'image'" in str(refusal(written(inside, record(image=name))))


def rotations():
    return st.tuples(*[st.floats(-1, 1)] * 9).map(lambda v: np.linalg.qr(np.reshape(v, (3, 3))))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rotations(),
    st.none() | st.tuples(st.floats(0, 300), st.floats(0, 200)),
    st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
)
def test_what_is_written_is_read_back(tmp_path, factors, corner, extras):
    Q = factors[0] * np.sign(np.linalg.det(factors[0]))
    view = View(
        image=tmp_path / "photos/ä b.png",
        width=640,
        height=480,
        category="diningtable",
        R=Q,
        box=None if corner is None else (*corner, corner[0] + 50.5, corner[1] + 60),
        K=np.array(K),
        t=Q[0],
        t_unit="object",
        mask=tmp_path / "m.png",
        extras={f"x-{key}": value for key, value in extras.items()},
    )
    path = tmp_path / "round.json"
    write_views(path, [view, View(tmp_path / "n.png", 20, 30, "car", no_object=True)])
    back, negative = read_views(path)
    for name in ("image", "width", "height", "category", "box", "t_unit", "mask", "extras"):
        assert getattr(back, name) == getattr(view, name)
    for name in ("R", "K", "t"):
        assert np.array_equal(getattr(back, name), getattr(view, name))
    assert negative.no_object and negative.R is None and negative.index == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_writing_keeps_the_old_file_where_it_cannot_write_the_new(tmp_path):
    path = tmp_path / "views.json"
    write_views(path, [View(tmp_path / "a.png", 20, 30, "car")])
    before = path.read_text()
    with pytest.raises(DatasetError, match=r"record 0 key 'image': expected a path inside"):
        write_views(path, [View(tmp_path.parent / "a.png", 20, 30, "car")])
    with pytest.raises(DatasetError, match="key 'extras'"):
        write_views(path, [View(tmp_path / "a.png", 20, 30, "car", extras={"x": float("nan")})])
    assert path.read_text() == before
