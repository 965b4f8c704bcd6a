"""Whatever is broken on purpose is found, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from featmesh.draws import generator
from featmesh.errors import DatasetError
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.views.data_check import KINDS, check_splits, read_splits
from featmesh.views.duplicates import nearly_same, same_content, thumbnail
from featmesh.views.pose_check import pose_findings
from featmesh.views.record import View, write_views


def picture(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    """A picture of soft blobs, like no other seed's."""
    noise = generator(seed, "blobs").integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    small = Image.fromarray(noise)
    return small.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.BLUR)


def street_view(image: Path, index: int = 0, **changed) -> View:
    """A car 15 m ahead of a camera of 100 px, seen from its left front; the box fits."""
    pose = Viewpoint(0.6, 0.1, 0.0, 15.0).to_pose()
    K = np.array([[100.0, 0, 48], [0, 100, 32], [0, 0, 1]])
    told = {"azimuth": float(np.degrees(0.6)), "elevation": float(np.degrees(0.1)), "theta": 0.0}
    known = {"R": pose.R.numpy(), "K": K, "t": pose.t.numpy(), "t_unit": "metre", **told}
    lhw = (4.2, 1.5, 1.8)
    view = View(image, 96, 64, "car", box=(36.4, 26.0, 60.2, 38.9), index=index, **known)
    return replace(view, dimensions_lhw=lhw, image_name=image.name, **changed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of three and two different photos, all in order."""
    for split, seeds in {"train": (1, 2, 3), "test": (4, 5)}.items():
        views = []
        for k, seed in enumerate(seeds):
            path = tmp_path / split / f"{seed}.png"
            path.parent.mkdir(exist_ok=True)
            picture(seed).save(path)
            views.append(street_view(path, k))
        write_views(tmp_path / f"{split}.json", views)
    return tmp_path


def found(*paths: Path) -> dict[str, int]:
    return check_splits(read_splits(list(paths))).counts


def change(path: Path, number: int, **keys) -> None:
    held = json.loads(path.read_text())
    held["views"][number] |= keys
    path.write_text(json.dumps(held))


def test_good_data_has_no_findings(folder: Path) -> None:
    report = check_splits(read_splits([folder]))
    assert report.records == {"test": 2, "train": 3} and report.photos == 5
    assert report.findings == () and report.good


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "rotation"),
        ({"R": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "rotation"),
        ({"K": [[0, 0, 48], [0, 100, 32], [0, 0, 1]]}, "rotation"),
        ({"width": "96"}, "record"),
        ({"box": [60, 20, 30, 40]}, "record"),
        ({"image": "../elsewhere.png"}, "record"),
        ({"image": "train/9.png"}, "missing"),
        ({"mask": "train/9.png"}, "missing"),
        ({"width": 97}, "size"),
        ({"azimuth": 120.0}, "angles"),
        ({"theta": 400.0}, "angles"),
        ({"t": [0.0, 0.0, -15.0]}, "behind"),
        ({"t": [0.0, 0.0, 0.5], "box": [0, 0, 96, 64]}, "behind"),
        ({"box": [5, 5, 30, 20]}, "far"),
    ],
)
def test_each_fault_is_found_by_its_kind(folder: Path, keys, kind: str) -> None:
    change(folder / "train.json", 1, **keys)
    report = check_splits(read_splits([folder / "train.json"]))
    assert kind in report.counts and not report.good
    hits = [one for one in report.findings if one.kind == kind]
    assert hits[0].index == 1 and hits[0].split == "train"


def test_one_bad_record_hides_no_other(folder: Path) -> None:
    change(folder / "train.json", 0, width=None)
    change(folder / "train.json", 2, azimuth=200.0)
    assert found(folder / "train.json") == {"record": 1, "angles": 1}


def test_photos_that_do_not_open_and_masks_beside_the_object(folder: Path) -> None:
    data = (folder / "train" / "1.png").read_bytes()
    (folder / "train" / "1.png").write_bytes(data[: len(data) // 2])
    mask = np.zeros((64, 96), np.uint8)
    mask[:10, :10] = 255
    Image.fromarray(mask).save(folder / "train" / "mask.png")
    change(folder / "train.json", 1, mask="train/mask.png")
    Image.fromarray(mask[:32]).save(folder / "train" / "half.png")
    change(folder / "train.json", 2, mask="train/half.png")
    assert found(folder / "train.json") == {"unreadable": 1, "size": 1, "mask": 1}


def test_a_photo_of_two_splits_is_found_by_bytes_and_by_looks(folder: Path) -> None:
    (folder / "test" / "4.png").write_bytes((folder / "train" / "1.png").read_bytes())
    copy = picture(2).resize((48, 32), Image.Resampling.BILINEAR)
    mirrored = copy.resize((96, 64)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored.save(folder / "test" / "5.png")
    report = check_splits(read_splits([folder]))
    assert report.counts == {"shared": 1, "alike": 1} and not report.good
    shared, alike = report.findings
    assert shared.told == "the same bytes as train/1.png" and "mirrored" in alike.told


def test_the_same_file_in_two_views_files(folder: Path) -> None:
    views = read_splits([folder / "test.json"]).views["test"]
    write_views(folder / "more.json", views[:1])
    assert found(folder / "test.json", folder / "more.json") == {"shared": 1}


def test_an_object_that_comes_twice_is_a_note(folder: Path) -> None:
    views = read_splits([folder / "test.json"]).views["test"]
    write_views(
        folder / "test.json", [*views, views[0], replace(views[1], box=(1.0, 1.0, 9.0, 9.0))]
    )
    report = check_splits(read_splits([folder / "test.json"]))
    notes = [one for one in report.findings if one.kind == "repeated"]
    assert len(notes) == 1 and notes[0].index == 2 and not KINDS["repeated"].grave


def test_models_that_splits_share_are_named(folder: Path) -> None:
    for split in ("train", "test"):
        change(folder / f"{split}.json", 0, model_name="a saloon")
    report = check_splits(read_splits([folder]))
    assert report.shared_models == ("a saloon",) and report.good


def test_a_folder_with_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("[1]")
    with pytest.raises(DatasetError, match=r"E_DATASET.*neither.*pascal3d"):
        read_splits([tmp_path])
    with pytest.raises(DatasetError, match="E_IO"):
        read_splits([tmp_path / "nothing.json"])


def unit_view(**changed) -> View:
    """PASCAL3D+'s camera: f 3000, the object's centre at the principal point, 5 units away."""
    pose = Viewpoint(0.6, 0.1, 0.0, 5.0).to_pose()
    K = np.array([[3000.0, 0, 400], [0, 3000, 300], [0, 0, 1]])
    known = {"R": pose.R.numpy(), "K": K, "t": pose.t.numpy(), "t_unit": "object", "distance": 5.0}
    known |= {"box": (150.0, 200.0, 640.0, 400.0)}
    return View(Path("a.png"), 800, 600, "car", **known | changed)


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ({}, []),
        ({"box": (20.0, 20.0, 90.0, 60.0)}, ["far"]),  # t projects elsewhere
        ({"box": (390.0, 290.0, 410.0, 310.0)}, ["far"]),  # far too small for the distance
        ({"box": (0.0, 0.0, 40.0, 60.0)}, []),  # cut by the photo: its box tells nothing
        ({"t": np.array([0.0, 0, 60.0])}, ["far"]),  # far too large
        ({"K": None, "t": None, "t_unit": None}, []),
        ({"K": None, "t": None, "distance": 0.1}, ["behind"]),
        ({"extras": {"extent_xyz": [0.4, 0.85, 0.3]}}, []),
        ({"extras": {"extent_xyz": [0.1, 0.2, 0.1]}}, ["far"]),
        ({"azimuth": 34.0, "elevation": 95.0, "theta": 0.0}, ["angles", "angles"]),
    ],
)
def test_poses_in_object_units(changed, kinds: list[str]) -> None:
    assert [kind for kind, _ in pose_findings(unit_view(**changed))] == kinds


def test_angles_are_compared_along_the_ray() -> None:
    """A car 40 degrees off the axis of a wide camera: its angles are not those of R."""
    seen = Viewpoint(0.5, 0.1, 0.0, 10.0)
    t = np.array([8.0, 0.0, 10.0])
    from featmesh.geometry.viewpoint import ray_rotation

    R = ray_rotation(torch.from_numpy(t)).numpy().T @ seen.to_pose().R.numpy()
    told = {"azimuth": float(np.degrees(0.5)), "elevation": float(np.degrees(0.1)), "theta": 0.0}
    view = unit_view(R=R, t=t, box=None, **told)
    assert list(pose_findings(view)) == []
    assert [k for k, _ in pose_findings(replace(view, R=seen.to_pose().R.numpy()))] == ["angles"]


def test_thumbnails_know_copies_and_no_others() -> None:
    pictures = {Path(str(seed)): picture(seed) for seed in range(40)}
    one = {p: thumbnail(np.asarray(image)) for p, image in pictures.items()}
    half = {p: thumbnail(np.asarray(image.resize((48, 32)))) for p, image in pictures.items()}
    pairs = [(a, b) for a, b, mirrored in nearly_same(one, half) if not mirrored]
    assert sorted(pairs) == sorted((p, p) for p in pictures)
    assert thumbnail(np.full((32, 32, 3), 7, np.uint8)) is None


def test_files_with_the_same_bytes_are_grouped() -> None:
    hashes = {Path("a"): "1", Path("b"): "2", Path("c"): "1"}
    assert same_content(hashes) == [[Path("a"), Path("c")]]
