"""Claims about annotated photos: polygons become the label images one would draw by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from part_scenes import NAMES, coco, part_views, square
from PIL import Image

from featmesh.errors import DatasetError, InputError
from featmesh.views.part_photos import parse_ids, read_part_photos


def edited(path: Path, edit) -> Path:
    document = json.loads(path.read_text("utf-8"))
    edit(document)
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_polygons_fill_the_pixels_they_enclose(tmp_path: Path) -> None:
    wheels = [square(4.5, 30.5, 9.5, 35.5), square(40.5, 30.5, 45.5, 35.5)]
    path = coco(tmp_path, [(1, 2, [square(10.5, 5.5, 30.5, 20.5)]), (1, 5, wheels)])
    (photo,) = read_part_photos(path)
    assert (photo.id, photo.names) == (1, NAMES)
    assert photo.image == (tmp_path / "photos" / "1.png").resolve()
    labels = photo.labels()
    assert labels.dtype == np.uint8 and labels.shape == (40, 60)
    assert set(np.unique(labels)) == {0, 1, 4}
    assert (labels[6:20, 11:30] == 1).all() and (labels[:5] == 0).all()
    assert (labels[31:35, 5:9] == 4).all() and (labels[31:35, 41:45] == 4).all()
    assert (labels[31:35, 12:38] == 0).all()
    assert abs(int((labels == 1).sum()) - 20 * 15) <= 36  # to a pixel along the outline
    assert photo.box == (4.5, 5.5, 45.5, 35.5)


@pytest.mark.parametrize("first", [0, 1])
def test_the_smaller_part_lies_over_the_larger(tmp_path: Path, first: int) -> None:
    rows = [(1, 2, [square(0, 0, 50, 40)]), (1, 3, [square(10, 10, 20, 20)])]
    (photo,) = read_part_photos(coco(tmp_path, rows if first else rows[::-1]))
    labels = photo.labels()
    assert labels[15, 15] == 2 and labels[30, 30] == 1


def test_background_is_no_part_and_photos_without_parts_are_left_out(tmp_path: Path) -> None:
    path = coco(tmp_path, [(1, 1, [square(0, 0, 60, 40)]), (2, 5, [square(3, 3, 9, 9)])])
    (photo,) = read_part_photos(path)
    assert photo.id == 2 and photo.box == (3, 3, 9, 9)


def test_ids_and_names_choose(tmp_path: Path) -> None:
    rows = [(k, c, [square(5 * c, 5, 5 * c + 9, 20)]) for k in (1, 2, 3) for c in (2, 5)]
    path = coco(tmp_path, rows, images=3)
    assert [p.id for p in read_part_photos(path, ids=parse_ids("2:3"))] == [2, 3]
    (photo, *_) = read_part_photos(path, names=("wheel", "hood"))
    assert photo.names == ("wheel", "hood")
    assert photo.labels()[10, 12] == 2 and photo.labels()[10, 30] == 1
    with pytest.raises(DatasetError, match=r"E_PARTS.*names of categories, got roof"):
        read_part_photos(path, names=("wheel", "roof"))
    with pytest.raises(DatasetError, match="E_DATA"):
        read_part_photos(path, ids=(9,))


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda d: d.pop("images"), "a list 'images'"),
        (lambda d: d.update(annotations={}), "a list 'annotations'"),
        (lambda d: d["categories"].append({"id": 2, "name": "roof"}), r"categories\[5\]"),
        (lambda d: d["categories"][1].update(name=3), r"categories\[1\].*a name, got 3"),
        (lambda d: d["images"].append(d["images"][0]), r"images\[2\].*ids that differ"),
        (lambda d: d["images"][0].update(width=None), r"images\[0\].*'width', got None"),
        (lambda d: d["images"][0].update(height=0), r"images\[0\].*60x0"),
        (lambda d: d["images"][0].update(path="../x.png"), r"images\[0\].*the path of a photo"),
        (lambda d: d["annotations"][0].update(image_id=7), r"annotations\[0\].*image_id 7"),
        (lambda d: d["annotations"][0].update(category_id=70), r"annotations\[0\].*category_id 70"),
        (lambda d: d["annotations"][0].update(image_id=True), r"annotations\[0\].*whole number"),
        (lambda d: d["annotations"][0].update(segmentation={"counts": [1]}), "got dict"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "3 pairs"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5]]), "3 pairs"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, "x"]]), "finite"),
        (lambda d: d["annotations"][0].update(segmentation=[[90, 90, 99, 90, 99, 99]]), "inside"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, edit, told: str) -> None:
    path = edited(coco(tmp_path, [(1, 2, [square(1, 1, 9, 9)])]), edit)
    with pytest.raises(DatasetError, match=told) as caught:
        read_part_photos(path)
    assert caught.value.code == "E_PARTS"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="E_IO"):
        read_part_photos(tmp_path / "gone.json")
    (tmp_path / "bad.json").write_text("{", "utf-8")
    with pytest.raises(DatasetError, match="E_PARTS"):
        read_part_photos(tmp_path / "bad.json")
    (tmp_path / "other.json").write_text('{"schema": 1, "views": []}', "utf-8")
    with pytest.raises(DatasetError, match="E_VIEWS"):
        read_part_photos(tmp_path / "other.json")


def test_a_views_file_with_label_images(tmp_path: Path) -> None:
    path = part_views(tmp_path, 4)
    photos = read_part_photos(path, NAMES, ids=(0, 2))
    assert [p.id for p in photos] == [0, 2]
    for photo in photos:
        stored = np.asarray(Image.open(photo.label_image))
        assert np.array_equal(photo.labels(), stored) and stored.max() > 0
        assert photo.camera is not None and photo.camera.width == photo.width
    with pytest.raises(DatasetError, match=r"names for a views file"):
        read_part_photos(path)


def test_a_label_image_that_does_not_fit(tmp_path: Path) -> None:
    photo = read_part_photos(part_views(tmp_path, 1), NAMES)[0]
    good = photo.labels()
    wrong = {
        "numbers up to 4, got 9": np.full_like(good, 9),
        "8 bits, 128x96": good[:-1],
        "8 bits": np.stack([good] * 3, -1),
    }
    for told, pixels in wrong.items():
        Image.fromarray(pixels).save(photo.label_image)
        with pytest.raises(DatasetError, match=told):
            photo.labels()
    photo.label_image.unlink()
    with pytest.raises(DatasetError, match="E_PARTS"):
        photo.labels()


def test_ids_are_read_as_ranges() -> None:
    assert parse_ids("1:3") == {1, 2, 3}
    assert parse_ids("7") == {7}
    assert parse_ids("3,5, 9:10") == {3, 5, 9, 10}


@pytest.mark.parametrize("text", ["", "a", "1:2:3", "5:1", "1,", "1:99999999999"])
def test_ids_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="E_IDS"):
        parse_ids(text)
