"""PASCAL3D+ and the data sets that share its annotations, on folders made here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from views.readers.folders import (
    NOTHING,
    SEEN,
    lines,
    pascal_folder,
    pascal_object,
    photo,
    write_mat,
)

from featmesh.errors import DatasetError
from featmesh.evaluate.metrics import rotation_error
from featmesh.geometry.pose import Pose
from featmesh.views.readers.common import Notes, without_camera
from featmesh.views.readers.imagenet3d import read_annotations, read_imagenet3d
from featmesh.views.readers.objectnet3d import read_objectnet3d
from featmesh.views.readers.occluded import read_occluded
from featmesh.views.readers.ood_cv import read_ood_cv
from featmesh.views.readers.pascal3d import read_pascal3d
from featmesh.views.readers.pascal_record import read_record
from featmesh.views.readers.prepared import read_prepared
from featmesh.views.record import View, read_views, write_views

POINTS = torch.tensor(
    [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1], [0.2, -0.3, 0.15]], dtype=torch.float64
)
# spec 6.4: azimuth, elevation, theta, distance, pixels of the five points
GOLDEN = [
    (
        (30, 20, 10, 5),
        [(400, 320), (453.4562, 321.092), (426.0344, 297.6524), (390.142, 264.0926)],
        (412.848, 305.9128),
    ),
    (
        (210, -15, -25, 3.5),
        [(400, 320), (329.0158, 298.9719), (368.5255, 283.6057), (434.7333, 245.5143)],
        (400.6526, 276.2156),
    ),
]


def projected(view: View, points: torch.Tensor = POINTS) -> np.ndarray:
    assert view.camera is not None and view.R is not None and view.t is not None
    pose = Pose(torch.from_numpy(view.R), torch.from_numpy(view.t))
    pixels, front = view.camera.project(pose.apply(points))
    assert bool(front.all())
    return pixels.numpy()


def viewpoint(**changed: float | np.ndarray) -> dict[str, float | np.ndarray]:
    return SEEN | changed


def test_the_annotation_of_the_specification_reads_as_it_says(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "n0_1.mat", pascal_object(), pascal_object("bus", NOTHING))
    record = read_record(path)
    car, bus = record.objects
    assert record.size == (375, 500) and bus.label is None
    assert car.category == "car" and car.cad_index == 3 and car.bbox == (60, 80, 420, 300)
    assert car.label is not None
    told = np.radians([car.label.azimuth, car.label.elevation, car.label.theta])
    np.testing.assert_allclose(told, [0.5235988, 0.2094395, -0.0698132], atol=1e-7)
    assert (car.label.distance, car.label.focal, car.label.viewport) == (6.5, 1, 3000)
    assert (car.label.px, car.label.py) == (245, 188)
    assert car.keypoints == {"left_front_wheel": [110, 250]} and not car.coarse


@pytest.mark.parametrize(("pose", "pixels", "last"), GOLDEN)
def test_the_camera_of_a_view_is_the_benchmarks(tmp_path: Path, pose, pixels, last) -> None:
    names = ("azimuth", "elevation", "theta", "distance")
    seen = viewpoint(px=400.0, py=320.0, **dict(zip(names, map(float, pose), strict=True)))
    view = read_pascal3d(pascal_folder(tmp_path, viewpoint=seen), "val", "car")[0]
    np.testing.assert_allclose(projected(view), [*pixels, last], atol=1e-4)
    assert (view.azimuth, view.elevation, view.theta) == pytest.approx(pose[:3])
    assert view.t is not None and view.t.tolist() == [0, 0, pose[3]] and view.t_unit == "object"


def test_a_split_is_the_first_object_of_the_listed_photos(tmp_path: Path) -> None:
    root, notes = pascal_folder(tmp_path / "PASCAL3D+_release1.1"), Notes()
    assert [v.image.stem for v in read_pascal3d(root, "train", "car", notes)] == ["n02_1"]
    assert [v.image.stem for v in read_pascal3d(tmp_path, "val", "car", notes)] == ["n02_2"]
    assert notes.left_out == {"photos whose first object is of another category": 1}
    every = read_pascal3d(root, None, None, Notes())
    assert [(v.image.stem, v.extras["object"]) for v in every] == [
        ("n02_1", 0),
        ("n02_2", 0),
        ("n02_3", 1),
    ]


def test_without_its_camera_a_view_keeps_its_rotation(tmp_path: Path) -> None:
    view = read_pascal3d(pascal_folder(tmp_path), "val", "car")[0]
    bare = without_camera(view)
    assert bare.K is None and bare.t is None and bare.distance == 6.5
    np.testing.assert_array_equal(bare.R, view.R)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"viewpoint": NOTHING}, "objects without a viewpoint"),
        ({"viewpoint": viewpoint(distance=0.0)}, "coarse viewpoint only"),
        ({"viewpoint": viewpoint(theta=NOTHING)}, "objects without a viewpoint"),
        ({"bbox": np.array([[600.0, 80.0, 700.0, 300.0]])}, "box misses the photo"),
    ],
)
def test_objects_without_a_usable_pose_are_counted(tmp_path: Path, changed, reason: str) -> None:
    notes = Notes()
    views = read_pascal3d(pascal_folder(tmp_path, **changed), "val", "car", notes)
    assert not views and any(reason in told for told in notes.left_out)


def test_a_coarse_angle_stands_in_and_is_marked(tmp_path: Path) -> None:
    seen = viewpoint(elevation=NOTHING, px=np.array([[245.0]]))
    view = read_pascal3d(pascal_folder(tmp_path, viewpoint=seen), "val", "car")[0]
    assert view.elevation == pytest.approx(10) and view.extras["coarse"] is True


def test_flags_are_kept(tmp_path: Path) -> None:
    flags = {"truncated": 1.0, "occluded": 1.0, "difficult": 0.0}
    view = read_pascal3d(pascal_folder(tmp_path, **flags), "val", "car")[0]
    assert view.extras["flags"] == ["truncated", "occluded"] and view.occluded == 1


def test_labels_of_another_picture_are_not_used(tmp_path: Path) -> None:
    root, notes = pascal_folder(tmp_path), Notes()
    photo(root / "Images" / "car_imagenet" / "n02_2.JPEG", 250, 375)
    assert not read_pascal3d(root, "val", "car", notes)
    assert notes.left_out["objects in photos of another size than annotated"] == 1


def test_a_principal_point_far_outside_leaves_rotation_and_distance(tmp_path: Path) -> None:
    seen = viewpoint(px=-900.0)
    view = read_pascal3d(pascal_folder(tmp_path, viewpoint=seen), "val", "car")[0]
    assert view.K is None and view.t is None and view.distance == 6.5
    usual = read_pascal3d(pascal_folder(tmp_path / "usual"), "val", "car")[0]
    np.testing.assert_array_equal(view.R, usual.R)


def test_a_missing_folder_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_pascal3d(tmp_path / "nowhere")
    told = str(caught.value)
    assert caught.value.code == "E_DATASET" and "no such folder" in told
    assert "Annotations/car_imagenet/" in told and "downloads no data set" in told
    (tmp_path / "Images" / "car_imagenet").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no Annotations/"):
        read_pascal3d(tmp_path)


def test_an_unknown_split_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    root = pascal_folder(tmp_path)
    with pytest.raises(DatasetError, match=r"E_SPLIT.*train, val.*'test'"):
        read_pascal3d(root, "test")
    (root / "Annotations" / "car_imagenet" / "n02_2.mat").write_bytes(b"MATLAB 5.0 no more")
    with pytest.raises(DatasetError, match=r"E_DATA.*n02_2\.mat"):
        read_pascal3d(root, "val", "car")


def test_the_views_can_be_written_and_read(tmp_path: Path) -> None:
    views = read_pascal3d(pascal_folder(tmp_path), None, "car")
    write_views(tmp_path / "views.json", views)
    again = read_views(tmp_path / "views.json", need_R=True)
    np.testing.assert_array_equal(again[0].R, views[0].R)
    assert again[0].extras["keypoints"] == {"left_front_wheel": [110, 250]}


# --- Occluded PASCAL3D+


def occluded_folder(root: Path, level: str = "FGL2_BGL2") -> Path:
    pascal_folder(root / "PASCAL3D+_release1.1")
    place = f"car{level}"
    photo(root / "images" / place / "n02_2.JPEG", 500, 375)
    mask, hidden = np.zeros((375, 500), np.uint8), np.zeros((375, 500), bool)
    mask[100:200, 100:300], hidden[100:150] = 255, True
    (root / "annotations" / place).mkdir(parents=True)
    boxes = np.array([None, [1, 2, 3, 4, 375, 500]], dtype=object)  # only unpickling reads these
    path = root / "annotations" / place / "n02_2.npz"
    np.savez(path, mask=mask, occluder_mask=hidden, occluder_box=boxes, source="n02_2")
    return root


def test_occluded_views_have_the_originals_pose_and_masks(tmp_path: Path) -> None:
    root, notes = occluded_folder(tmp_path), Notes(tmp_path / "masks")
    view = read_occluded(root, "L2", "car", notes)[0]
    original = read_pascal3d(root, "val", "car")[0]
    np.testing.assert_array_equal(view.R, original.R)
    assert view.image.parent.name == "carFGL2_BGL2" and view.extras["level"] == "L2"
    assert view.extras["occlusion"] == 0.5 and view.occluded == 2 and view.mask is not None
    assert np.count_nonzero(np.asarray(Image.open(view.mask))) == 50 * 200
    amodal = np.asarray(Image.open(tmp_path / view.extras["amodal_mask"]))
    assert np.count_nonzero(amodal) == 100 * 200


def test_levels_choose_folders_and_l0_is_the_original(tmp_path: Path) -> None:
    root = occluded_folder(tmp_path)
    assert not read_occluded(root, "L1") and len(read_occluded(root)) == 1
    assert read_occluded(root, "L2")[0].mask is None  # no folder for them
    assert [v.image.parent.name for v in read_occluded(root, "L0", "car")] == ["car_imagenet"]


def test_without_the_original_annotations_there_is_no_pose(tmp_path: Path) -> None:
    root = occluded_folder(tmp_path / "a" / "occluded")
    (root / "PASCAL3D+_release1.1").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"E_DATASET.*no PASCAL3D\+_release1\.1 in it or beside"):
        read_occluded(root)


# --- OOD-CV


def ood_folder(root: Path) -> Path:
    seen = {"n1": SEEN, "n2": SEEN, "n3": viewpoint(px=-5.0)}
    for name, point in seen.items():
        other = pascal_object("bus", NOTHING)
        write_mat(root / f"annotations/bus/{name}.mat", other, pascal_object("bus", point))
        photo(root / f"images/bus/{name}.JPEG", 500, 375)
    lines(root / "lists" / "bus_all.txt", "n1 1", "n2 1", "n2 1", "n3 1", "n4 0", "n1 7")
    lines(root / "lists" / "bus_weather.txt", "n2 1")
    return root


def test_ood_cv_views_know_their_nuisance_and_come_once(tmp_path: Path) -> None:
    root, notes = ood_folder(tmp_path / "ood_cv"), Notes()
    views = read_ood_cv(root, None, None, notes)
    assert sorted((v.image.stem, v.extras["nuisance"]) for v in views) == [
        ("n1", "iid"),
        ("n2", "weather"),
    ]
    assert notes.left_out == {
        "objects with a negative principal point": 1,
        "listed photos without a file or an annotation": 1,
        "listed objects that the annotation has not": 1,
    }
    assert [v.image.stem for v in read_ood_cv(root, "weather")] == ["n2"]


# --- ObjectNet3D


def test_objectnet3d_has_its_own_viewport_and_lists(tmp_path: Path) -> None:
    seen = {key: value for key, value in SEEN.items() if key != "viewport"}
    beds = [pascal_object("filing cabinet", seen), pascal_object("bed", seen)]
    for name in ("n1", "n2"):
        write_mat(tmp_path / "Annotations" / f"{name}.mat", *beds)
        photo(tmp_path / "Images" / f"{name}.JPEG", 500, 375)
    lines(tmp_path / "Image_sets" / "test.txt", "n2")
    lines(tmp_path / "lists" / "bed_imagenet_val.txt", "n1")
    every = read_objectnet3d(tmp_path)
    assert [v.category for v in every] == ["filing_cabinet", "bed"] * 2
    assert every[0].K is not None and every[0].K[0, 0] == 2000
    assert [v.image.stem for v in read_objectnet3d(tmp_path, "test")] == ["n2", "n2"]
    assert [v.image.stem for v in read_objectnet3d(tmp_path, "val", "bed")] == ["n1"]
    with pytest.raises(DatasetError, match=r"no Image_sets/train\.txt"):
        read_objectnet3d(tmp_path, "train")


# --- prepared crops


def prepared(path: Path, **changed) -> Path:
    """A crop of 224x160: resized by 1.3, 20 columns added on the left, cut from (0, 30)."""
    rate, label = 1.3, SEEN
    held = {key: np.float64(np.radians(label[key])) for key in ("azimuth", "elevation", "theta")}
    held |= {"distance": np.float64(6.5), "focal": np.uint8(1), "viewport": np.uint16(3000)}
    held |= {"principal": np.array([80.0, 75.0]), "bbox": np.array([20.0, 35.0, 150.0, 120.0])}
    held |= {"resize_rate": np.float64(rate), "padding": np.array([[0, 0], [20, 9], [0, 0]])}
    held |= {"box": np.array([30, 190, 0, 224, 200, 224], np.float32), "cad_index": np.uint8(9)}
    held |= {"cropped_kp_list": np.zeros((12, 2)), "visible": np.full(12, 2), "name": "n02_7"}
    held["cropped_kp_list"][0], held["visible"][0] = (55.0, 140.0), 1
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(held | changed))
    return path


def test_a_prepared_crop_has_the_exact_camera_of_its_pixels(tmp_path: Path) -> None:
    photo(prepared(tmp_path / "a_car.npz").with_suffix(".jpg"), 224, 160)
    view = read_prepared(tmp_path, None, "car")[0]
    original = replace(view, K=np.array([[3000.0, 0, 80], [0, 3000.0, 75], [0, 0, 1]]))
    moved = projected(original) * 1.3 + [20, -30]  # original pixels to the crop's
    np.testing.assert_allclose(projected(view), moved, atol=1e-9)
    assert view.box == pytest.approx((46, 15.5, 215, 126)) and view.distance == 6.5
    assert view.extras["keypoints"] == {"left_front_wheel": [140, 55]}  # rows stand first


def test_both_forms_of_prepared_files_give_the_same_view(tmp_path: Path) -> None:
    photo(prepared(tmp_path / "flat" / "a.npz").with_suffix(".jpg"), 224, 160)
    newer = {"padding_params": np.array([0, 0, 20, 9, 0, 0]), "distance": np.float64(6.5 / 1.3)}
    newer |= {"px": np.float64(112), "py": np.float64(80), "occ_mask": np.array(None, object)}
    prepared(tmp_path / "tree" / "val" / "annotations" / "car" / "a.npz", **newer)
    photo(tmp_path / "tree" / "val" / "images" / "car" / "a.JPEG", 224, 160)
    flat = read_prepared(tmp_path / "flat", None, "car")[0]
    tree = read_prepared(tmp_path / "tree", "val")[0]
    np.testing.assert_allclose(tree.K, flat.K)
    np.testing.assert_allclose(tree.t, flat.t)
    assert tree.category == flat.category == "car" and tree.box == flat.box
    assert read_prepared(tmp_path / "tree" / "val", "val", "car")[0].category == "car"
    with pytest.raises(DatasetError, match="no --category"):
        read_prepared(tmp_path / "flat")


# --- ImageNet3D


def imagenet_folder(root: Path, *objects: object) -> Path:
    (root / "annotations" / "sports car").mkdir(parents=True)
    held = np.zeros(len(objects), object)
    held[:] = objects
    np.savez(root / "annotations" / "sports car" / "n1.npz", annotations=held)
    photo(root / "images" / "sports car" / "n1.JPEG", 500, 375)
    lines(root / "lists" / "sports car_imagenet_val.txt", "n1")
    return root


def imagenet_object(**changed) -> dict[str, object]:
    told = {"azimuth": 0.5, "elevation": 2 * np.pi - 0.2, "theta": np.float32(0.1), "ignore": 0}
    told |= {"distance": 4.0, "px": 240.0, "py": 190.0, "focal": 1.0, "viewport": 2000}
    told |= {"bbox": np.array([60, 80, 420, 300]), "height": 375, "width": np.int64(500)}
    return told | {"object_status": "status_partially", "cad_index": 4} | changed


def test_imagenet3d_in_radians_with_elevations_around_the_circle(tmp_path: Path) -> None:
    left_out = imagenet_object(ignore=1), imagenet_object(distance=-1.0), {"azimuth": 1.0}
    root, notes = imagenet_folder(tmp_path, imagenet_object(), *left_out), Notes()
    views = read_imagenet3d(root, "val", None, notes)
    assert len(views) == 1 and sum(notes.left_out.values()) == 3
    view = views[0]
    assert view.category == "sports_car" and view.occluded == 1 and view.extras["cad_index"] == 4
    assert view.elevation == pytest.approx(np.degrees(-0.2)) and view.K is not None
    assert view.K[0, 0] == 2000 and view.distance == 4


def test_an_annotation_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return print, ("boom",)

    root = imagenet_folder(tmp_path, Bomb())
    with pytest.raises(DatasetError, match=r"E_DATA.*the name builtins\.print"):
        read_annotations(root / "annotations" / "sports car" / "n1.npz")


def test_the_rotation_is_the_metrics_own(tmp_path: Path) -> None:
    pair = []
    for k, (a, e, th) in enumerate(((30, 20, 10), (50, 5, -10))):
        seen = viewpoint(azimuth=float(a), elevation=float(e), theta=float(th))
        pair.append(
            read_pascal3d(pascal_folder(tmp_path / str(k), viewpoint=seen), "val", "car")[0]
        )
    angle = rotation_error(np.asarray(pair[0].R), np.asarray(pair[1].R))
    assert np.degrees(float(angle)) == pytest.approx(34.49894, abs=1e-5)
