"""Boxes in metres and furniture: KITTI, nuScenes, Pix3D; and COCO's masks, on folders made here."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from views.readers.folders import kitti_folder, lines, nuscenes_folder, photo, write_json

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.crop import box_iou
from featmesh.geometry.pose import Pose
from featmesh.views.readers.coco import mask_of, read_coco
from featmesh.views.readers.common import Notes, without_camera
from featmesh.views.readers.kitti import read_kitti
from featmesh.views.readers.nuscenes import quaternion_matrix, read_nuscenes
from featmesh.views.readers.pix3d import read_pix3d
from featmesh.views.record import View, read_views, write_views

FRONT, LEFT, UP = (0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def camera_direction(view: View, axis: tuple[float, float, float]) -> np.ndarray:
    """Where an axis of the object points in the camera: x right, y down, z away."""
    assert view.R is not None
    return (view.R @ np.array(axis)).round(9)


def kitti_line(turn: float, kind: str = "Car", where: str = "2.0 1.7 20.0", **more: str) -> str:
    rest = {"truncated": "0.00", "occluded": "0", "box": "560 150 700 250"} | more
    seen = f"{rest['truncated']} {rest['occluded']} -1.2 {rest['box']}"
    return f"{kind} {seen} 1.5 1.6 4.0 {where} {turn}"


@pytest.mark.parametrize(
    ("turn", "front"),
    [(0.0, (1, 0, 0)), (-math.pi / 2, (0, 0, 1)), (math.pi / 2, (0, 0, -1))],
)
def test_a_kitti_car_heads_where_its_angle_says(tmp_path: Path, turn: float, front) -> None:
    view = read_kitti(kitti_folder(tmp_path, kitti_line(turn)))[0]
    np.testing.assert_allclose(camera_direction(view, FRONT), front, atol=1e-9)
    np.testing.assert_allclose(camera_direction(view, UP), (0, -1, 0), atol=1e-9)
    assert view.R is not None and np.linalg.det(view.R) == pytest.approx(1)


def test_a_kitti_box_stands_on_its_location_beside_the_grey_camera(tmp_path: Path) -> None:
    view = read_kitti(kitti_folder(tmp_path, kitti_line(0.3)))[0]
    assert view.t is not None and view.t_unit == "metre" and view.dimensions_lhw == (4, 1.5, 1.6)
    offset = np.array([(42 - 600 * 0.003) / 700, (0.2 - 180 * 0.003) / 700, 0.003])
    np.testing.assert_allclose(view.t, np.array([2.0, 1.7 - 0.75, 20.0]) + offset, atol=1e-12)
    length = float(np.linalg.norm(view.t)) / math.sqrt(4**2 + 1.5**2 + 1.6**2)
    assert view.distance == pytest.approx(length)


def test_kitti_angles_are_along_the_ray_and_r_is_the_cameras(tmp_path: Path) -> None:
    ahead = kitti_line(-math.pi / 2, where="12.0 1.7 12.0", box="1100 150 1200 250")
    view = read_kitti(kitti_folder(tmp_path, ahead))[0]
    # it drives away along z and stands 45 degrees to the right: we see its left rear
    assert view.azimuth == pytest.approx(180 - 45, abs=0.2)
    assert camera_direction(view, FRONT)[2] == pytest.approx(1)
    bare = without_camera(view)
    seen = math.degrees(math.asin(-camera_direction(bare, FRONT)[0]))
    middle = math.degrees(math.atan2(1150 - 600, 700))  # of the box, which is not quite t's ray
    assert bare.K is None and bare.t is None and seen == pytest.approx(middle, abs=0.1)


def test_kitti_objects_that_do_not_count(tmp_path: Path) -> None:
    rows = [
        kitti_line(0.1, truncated="0.20"),
        kitti_line(0.1, box="560 150 590 170"),
        kitti_line(0.1, "Pedestrian", occluded="2"),
        kitti_line(-10, "DontCare", "-1000 -1000 -1000"),
        kitti_line(0.1, "Van", "2.0 1.7 -20.0"),
    ]
    root, notes = kitti_folder(tmp_path, *rows), Notes()
    views = read_kitti(root, None, None, notes)
    assert [(v.category, v.extras.get("difficulty")) for v in views] == [
        ("car", "moderate"),
        ("car", None),
        ("pedestrian", "hard"),
    ]
    assert notes.left_out == {"objects behind the camera": 1}
    assert [v.occluded for v in read_kitti(root, None, "pedestrian")] == [2]


def test_kitti_lists_are_splits(tmp_path: Path) -> None:
    root = kitti_folder(tmp_path, kitti_line(0.1))
    lines(root / "ImageSets" / "val.txt", "000000", "000001")
    notes = Notes()
    assert len(read_kitti(root, "val", None, notes)) == 1 and sum(notes.left_out.values()) == 1
    with pytest.raises(DatasetError, match=r"E_SPLIT.*val"):
        read_kitti(root, "train")
    lines(root / "training" / "calib" / "000000.txt", "P0: 1")
    with pytest.raises(DatasetError, match=r"E_DATA.*P2"):
        read_kitti(root)


def test_kitti_in_metres_survives_the_file(tmp_path: Path) -> None:
    views = read_kitti(kitti_folder(tmp_path, kitti_line(0.3), kitti_line(1.3)))
    write_views(tmp_path / "views.json", views)
    for view, again in zip(views, read_views(tmp_path / "views.json"), strict=True):
        np.testing.assert_array_equal(again.t, view.t)
        assert again.dimensions_lhw == view.dimensions_lhw


# --- nuScenes

# the car's own frame turned by 90 degrees to the left in the world, at (10, 5, 0)
EGO = {"rotation": [math.sqrt(0.5), 0, 0, math.sqrt(0.5)], "translation": [10.0, 5.0, 0.0]}


def scene_box(heading: float, *, ahead: float = 20.0, side: float = 0.0) -> dict[str, object]:
    """A box ``ahead`` and to the left of the camera, metres; heading from the world's x."""
    turn = [math.cos(heading / 2), 0.0, 0.0, math.sin(heading / 2)]
    # the ego looks along the world's y, and its left is the world's -x
    where = [10.0 - side, 5.0 + 1.5 + ahead, 1.6]
    return {"translation": where, "size": [2.0, 5.0, 1.5], "rotation": turn}


@pytest.mark.parametrize(
    ("heading", "front"), [(math.pi / 2, (0, 0, 1)), (math.pi, (-1, 0, 0)), (0.0, (1, 0, 0))]
)
def test_a_nuscenes_box_is_seen_where_the_tables_put_it(tmp_path: Path, heading, front) -> None:
    views = read_nuscenes(nuscenes_folder(tmp_path, scene_box(heading, side=3.0), EGO))
    assert len(views) == 1  # neither the lidar nor the frame without labels
    view = views[0]
    assert view.t is not None and view.dimensions_lhw == (5, 1.5, 2) and view.category == "car"
    np.testing.assert_allclose(view.t, [-3, 0, 20], atol=1e-9)
    np.testing.assert_allclose(camera_direction(view, FRONT), front, atol=1e-9)
    np.testing.assert_allclose(camera_direction(view, UP), (0, -1, 0), atol=1e-9)
    assert view.occluded == 1 and view.truncated == 0


def test_a_nuscenes_box_reaches_over_the_photo_and_behind(tmp_path: Path) -> None:
    cut = read_nuscenes(nuscenes_folder(tmp_path / "a", scene_box(0.0, ahead=10, side=5.0), EGO))[0]
    assert cut.box is not None and cut.box[0] == 0 and 0.4 < (cut.truncated or 0) < 0.6
    notes = Notes()
    for k, box in enumerate((scene_box(math.pi / 2, ahead=2), scene_box(0.0, ahead=-20))):
        root = nuscenes_folder(tmp_path / f"b{k}", box, EGO)
        assert not read_nuscenes(root, "v1.0-mini", None, notes)
    assert notes.left_out == {"objects that reach behind the camera": 1}


def test_nuscenes_without_a_table_or_split(tmp_path: Path) -> None:
    root = nuscenes_folder(tmp_path, scene_box(0.0), EGO)
    assert not read_nuscenes(root, None, "truck") and len(read_nuscenes(root, None, "car")) == 1
    with pytest.raises(DatasetError, match=r"E_SPLIT.*v1\.0-mini"):
        read_nuscenes(root, "v1.0-test")
    (root / "v1.0-mini" / "ego_pose.json").unlink()
    with pytest.raises(DatasetError, match=r"E_DATA.*ego_pose\.json"):
        read_nuscenes(root)


def test_quaternions_need_no_length_of_one() -> None:
    turn = quaternion_matrix([2.0, 0, 0, 2.0])
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    with pytest.raises(InputError, match=r"E_NONFINITE"):
        quaternion_matrix([0, 0, 0, 0])


# --- Pix3D

CHAIR = "model/chair/A_CHAIR/model.obj"


def pix3d_folder(root: Path, *records: dict[str, object], model: bool = True) -> Path:
    told = {"category": "chair", "img": "img/chair/1.png", "mask": "mask/chair/1.png"}
    told |= {"model": CHAIR, "img_size": [640, 480], "focal_length": 35.0, "truncated": False}
    told |= {"occluded": False, "slightly_occluded": True, "bbox": [200, 100, 440, 400]}
    told |= {"rot_mat": np.eye(3).tolist(), "trans_mat": [0.2, 0.1, 3.0]}
    write_json(root / "pix3d.json", [told | record for record in records or ({},)])
    photo(root / "img" / "chair" / "1.png", 640, 480)
    photo(root / "mask" / "chair" / "1.png", 640, 480)
    if model:  # a box of 2 x 4 x 4 about (0, 1, 0): diagonal 6
        corners = [(x, 1 + y, z) for x in (-1, 1) for y in (-2, 2) for z in (-2, 2)]
        lines(root / CHAIR, *(f"v {x} {y} {z}" for x, y, z in corners), "f 1 2 3", "f 6 7 8")
    return root


def test_a_pix3d_chair_faces_the_camera_of_its_canonical_view(tmp_path: Path) -> None:
    view = read_pix3d(pix3d_folder(tmp_path))[0]
    # one looks at its front: it points back at us, its own left is on our right
    np.testing.assert_allclose(camera_direction(view, FRONT), (0, 0, -1), atol=1e-12)
    np.testing.assert_allclose(camera_direction(view, LEFT), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(camera_direction(view, UP), (0, -1, 0), atol=1e-12)
    assert view.K is not None and view.K[0, 0] == 35 * 640 / 32 and view.K[0, 2] == 320
    assert view.t is not None and view.t_unit == "object"
    # Pix3D's x points left and y up; the model's centre is at y = 1, its diagonal 6
    np.testing.assert_allclose(view.t, np.array([-0.2, -1.1, 3.0]) / 6, atol=1e-12)
    assert view.occluded == 1 and view.model_name == "A_CHAIR" and view.mask is not None


def test_pix3d_agrees_with_the_image_that_blender_renders(tmp_path: Path) -> None:
    """x_image = W/2 - f x/z, y_image = H/2 - f y/z of a point of the model in camera space."""
    a, b = 0.7, -0.4
    Ry = [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]]
    Rx = [[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]]
    R, shift = np.array(Rx) @ np.array(Ry), np.array([0.3, -0.2, 12.0])
    pose = {"rot_mat": R.tolist(), "trans_mat": shift.tolist()}
    view = read_pix3d(pix3d_folder(tmp_path, pose))[0]
    points = np.array([[1.0, 3, 2], [-1, -1, 2], [0.5, 0, -2]])
    x, y, z = (points @ R.T + shift).T
    expected = np.stack([320 - 700 * x / z, 240 - 700 * y / z], 1)
    ours = np.stack([-points[:, 0], points[:, 2], points[:, 1] - 1], 1) / 6
    assert view.camera is not None and view.R is not None and view.t is not None
    found = Pose(torch.from_numpy(view.R), torch.from_numpy(view.t)).apply(torch.from_numpy(ours))
    np.testing.assert_allclose(view.camera.project(found)[0].numpy(), expected, atol=1e-9)


def test_pix3d_without_models_has_no_translation(tmp_path: Path) -> None:
    view = read_pix3d(pix3d_folder(tmp_path, model=False))[0]
    assert view.R is not None and view.t is None and view.distance is None


def test_pix3d_paths_and_records_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E_PATH"):
        read_pix3d(pix3d_folder(tmp_path / "a", {"img": "../secret.png"}))
    with pytest.raises(DatasetError, match=r"E_DATA.*record 0"):
        read_pix3d(pix3d_folder(tmp_path / "b", {"img_size": None}))
    notes = Notes()
    root = pix3d_folder(tmp_path / "c", {"focal_length": 0.0}, {"img": "img/chair/2.png"})
    assert not read_pix3d(root, None, None, notes) and sum(notes.left_out.values()) == 2


# --- COCO


def coco_folder(root: Path) -> Path:
    square = [[10, 20, 30, 20, 30, 40, 10, 40]]
    runs = {"size": [60, 80], "counts": [60 * 40, 60 * 20, 60 * 20]}
    rows = [
        {"id": 5, "category_id": 1, "bbox": [10, 20, 20, 20], "segmentation": square},
        {"id": 6, "category_id": 2, "bbox": [40, 0, 20, 60], "segmentation": runs},
        {"id": 7, "category_id": 2, "bbox": [0, 0, 9, 9], "segmentation": runs, "iscrowd": 1},
    ]
    images = [{"id": 9, "file_name": "a.jpg", "height": 60, "width": 80}]
    kinds = [{"id": 1, "name": "dining table"}, {"id": 2, "name": "couch"}]
    rows = [{"image_id": 9, "iscrowd": 0} | row for row in rows]
    told = {"images": images, "categories": kinds, "annotations": rows}
    write_json(root / "annotations" / "instances_val2017.json", told)
    photo(root / "val2017" / "a.jpg", 80, 60)
    return root


def test_coco_masks_are_written_beside_the_views(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "masks")
    views = read_coco(coco_folder(tmp_path), None, None, notes)
    assert [v.category for v in views] == ["diningtable", "sofa"] and notes.left_out == {
        "crowds": 1
    }
    table, sofa = (np.asarray(Image.open(v.mask)) > 0 for v in views if v.mask)
    assert table.sum() == 20 * 20 and table[20:40, 10:30].all() and views[0].R is None
    assert sofa[:, 40:60].all() and sofa.sum() == 60 * 20
    write_views(tmp_path / "views.json", views)
    assert read_views(tmp_path / "views.json")[1].mask == views[1].mask


def test_coco_categories_and_boxes(tmp_path: Path) -> None:
    root = coco_folder(tmp_path)
    views = read_coco(root, "val2017", "couch")
    assert len(views) == 1 and views[0].box == (40, 0, 60, 60) and views[0].mask is None
    with pytest.raises(DatasetError, match=r"E_SPLIT.*val2017"):
        read_coco(root, "train2017")
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps({"images": []}))
    with pytest.raises(DatasetError, match=r"E_DATA.*categories"):
        read_coco(root)


def test_compressed_run_lengths_are_read_too() -> None:
    from featmesh.rle import encode

    mask = np.zeros((60, 80), bool)
    mask[5:30, 7:50] = True
    np.testing.assert_array_equal(mask_of(dict(encode(mask)), (60, 80)), mask)


def test_the_projected_box_of_a_metric_view_meets_its_own_box(tmp_path: Path) -> None:
    view = read_nuscenes(nuscenes_folder(tmp_path, scene_box(0.4, side=2.0), EGO))[0]
    assert view.camera is not None and view.R is not None and view.t is not None and view.box
    l, h, w = view.dimensions_lhw or (0, 0, 0)
    corners = torch.cartesian_prod(*(torch.tensor([-0.5, 0.5], dtype=torch.float64),) * 3)
    pose = Pose(torch.from_numpy(view.R), torch.from_numpy(view.t))
    points, _ = view.camera.project(pose.apply(corners * torch.tensor([w, l, h])))
    (x0, y0), (x1, y1) = points.min(0).values.tolist(), points.max(0).values.tolist()
    assert box_iou(view.box, (x0, y0, x1, y1)) == pytest.approx(1)
