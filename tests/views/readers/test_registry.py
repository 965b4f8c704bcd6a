"""Every reader has a layout, every layout a reader, and all say what is missing."""

from pathlib import Path

import pytest
from views.readers.folders import kitti_folder, lines, pascal_folder, write_json

from featmesh.errors import DatasetError
from featmesh.views.readers.layouts import LAYOUTS, recognised, splits_in
from featmesh.views.readers.registry import READERS


def test_readers_and_layouts_belong_together() -> None:
    assert list(READERS) == list(LAYOUTS)


@pytest.mark.parametrize("name", list(READERS))
def test_a_folder_without_the_data_set_is_told_what_to_hold(name: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError) as caught:
            READERS[name](root, None, None, None)
        told = str(caught.value)
        assert caught.value.code == "E_DATASET" and LAYOUTS[name].tree in told
        assert f"data {name}: expected" in told and "got" in told and "try:" in told


def test_folders_are_recognised(tmp_path: Path) -> None:
    assert recognised(tmp_path) is None
    pascal_folder(tmp_path / "PASCAL3D+_release1.1")
    assert recognised(tmp_path) == "pascal3d"
    assert recognised(kitti_folder(tmp_path / "streets")) == "kitti"


def test_splits_that_share_no_photo(tmp_path: Path) -> None:
    pascal_folder(tmp_path / "p")
    assert splits_in("pascal3d", tmp_path / "p") == ["train", "val"]
    root = kitti_folder(tmp_path / "k")
    assert splits_in("kitti", root) == []
    for split in ("train", "trainval", "val"):
        lines(root / "ImageSets" / f"{split}.txt", "000000")
    assert splits_in("kitti", root) == ["train", "val"]
    for split in ("train2017", "val2017"):
        write_json(tmp_path / "c" / "annotations" / f"instances_{split}.json", {})
    assert splits_in("coco", tmp_path / "c") == ["train2017", "val2017"]
