"""The readers against true annotations: frames, boxes, names of key points; and the data check.

KITTI's and nuScenes' samples are put back into their authors' form (label lines, tables; with a
camera offset and a car's place made up) and read again: R, t and boxes must come out as they were.
"""

import argparse
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from common import arguments
from output import save
from output import table as as_table

from featmesh.evaluate.metrics import box_iou, rotation_error
from featmesh.geometry.mesh import read_mesh
from featmesh.geometry.pose import Pose, so3_exp, so3_log
from featmesh.views.data_check import check_splits, read_splits
from featmesh.views.readers.kitti import KITTI_FROM_OBJECT, read_kitti
from featmesh.views.readers.nuscenes import BOX_FROM_OBJECT, read_nuscenes
from featmesh.views.readers.prepared import read_prepared
from featmesh.views.record import View, read_views

OFFSET = np.array([0.06, -0.001, 0.003])  # metres, of KITTI's colour camera, made up


def pose_of(view: View) -> Pose:
    return Pose(torch.from_numpy(np.asarray(view.R)), torch.from_numpy(np.asarray(view.t)))


def projected(view: View, points: torch.Tensor) -> np.ndarray:
    if view.camera is None:
        raise SystemExit("readers.py: a view without a camera")
    return view.camera.project(pose_of(view).apply(points))[0].numpy()


def box_around(pixels: np.ndarray) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = pixels.min(0).tolist(), pixels.max(0).tolist()
    return (x0, y0, x1, y1)


def corners(view: View) -> torch.Tensor:
    l, h, w = view.dimensions_lhw or (0, 0, 0)
    unit = torch.cartesian_prod(*(torch.tensor([-0.5, 0.5], dtype=torch.float64),) * 3)
    return unit * torch.tensor([w, l, h], dtype=torch.float64)


def clipped(view: View) -> tuple[float, float, float, float]:
    pixels = projected(view, corners(view)).clip(0, [view.width, view.height])
    return box_around(pixels)


def pascal(args: argparse.Namespace) -> dict[str, Any]:
    """Return how the annotated car's CAD and key points lie in its prepared crop."""
    folder = args.data / "pascal3d_sample"
    view = read_prepared(folder, None, "car")[0]
    box = box_around(projected(view, read_mesh(folder / "voge_car.off").vertices.double()))
    named = json.loads((args.data / "pascal3d_cad" / "keypoints.json").read_text())
    cars = [points for name, points in named.items() if name.startswith("car")]
    side = float(np.sign(-np.asarray(view.R)[2, 0]))  # of the object, on which the camera stands
    away: dict[str, dict[str, float]] = {}
    for name, seen in view.extras["keypoints"].items():
        where = np.mean([points[name] for points in cars if name in points], axis=0)
        off = np.linalg.norm(projected(view, torch.tensor(where[None])) - seen, axis=1)
        away[name] = {"x": float(where[0]), "off": float(off[0])}
    return {
        "box_iou": box_iou(box, view.box or box),
        "azimuth": view.azimuth,
        "camera_side": side,
        "keypoints": away,
        "visible": len(away),
        "on_the_cameras_side": sum(row["x"] * side > 0 for row in away.values()),
        "off_median": float(np.median([row["off"] for row in away.values()])),
    }


def kitti_tree(views: Sequence[View], root: Path) -> None:
    """Write label lines and calibrations whose camera stands beside the grey one."""
    training = root / "training"
    for part in ("image_2", "label_2", "calib"):
        (training / part).mkdir(parents=True)
    for view in views:
        K, R, t = (np.asarray(v) for v in (view.K, view.R, view.t))
        l, h, w = view.dimensions_lhw or (0, 0, 0)
        turn = R @ KITTI_FROM_OBJECT.T
        location = t + np.array([0, h / 2, 0]) - OFFSET
        numbers = [view.truncated, view.occluded, -10, *(view.box or ()), h, w, l, *location]
        numbers.append(math.atan2(turn[0, 2], turn[0, 0]))
        words = [repr(float(v)) if k != 1 else str(int(v)) for k, v in enumerate(numbers)]
        name = view.image.stem
        with (training / "label_2" / f"{name}.txt").open("a") as file:
            file.write(" ".join(["Car", *words]) + "\n")
        P2 = np.hstack([K, (K @ OFFSET)[:, None]])
        told = "P2: " + " ".join(repr(float(v)) for v in P2.ravel())
        (training / "calib" / f"{name}.txt").write_text(told + "\n")
        shutil.copyfile(view.image, training / "image_2" / view.image.name)


def quaternion(R: np.ndarray) -> list[float]:
    """Return w, x, y, z of a rotation."""
    vector = so3_log(torch.from_numpy(R)).numpy()
    angle = float(np.linalg.norm(vector))
    axis = vector / angle if angle > 0 else vector
    return [math.cos(angle / 2), *(math.sin(angle / 2) * axis).tolist()]


def nuscenes_tree(views: Sequence[View], root: Path) -> None:
    """Write the devkit's tables with a car somewhere in the world and cameras on it."""
    tables = root / "v1.0-mini"
    tables.mkdir(parents=True)
    (root / "samples").mkdir()
    turn = torch.tensor([[0.1, -0.2, 1.1], [-1.2, 1.0, -1.3]], dtype=torch.float64)
    ego = Pose(so3_exp(turn[0]), torch.tensor([500.0, 900.0, 1.0], dtype=torch.float64))
    sensor = Pose(so3_exp(turn[1]), torch.tensor([1.7, 0.1, 1.5], dtype=torch.float64))
    rows: dict[str, list[dict[str, Any]]] = {
        "category": [{"token": "k", "name": "vehicle.car"}],
        "instance": [{"token": "i", "category_token": "k"}],
        "ego_pose": [placed("e", ego)],
        "calibrated_sensor": [],
        "sample_data": [],
        "sample_annotation": [],
    }
    photos: dict[str, View] = {view.image.name: view for view in views}
    for name, view in photos.items():
        intrinsic = {"camera_intrinsic": np.asarray(view.K).tolist()}
        rows["calibrated_sensor"].append(placed(name, sensor) | intrinsic)
        shot: dict[str, Any] = {
            "token": name,
            "sample_token": name,
            "calibrated_sensor_token": name,
        }
        shot |= {"ego_pose_token": "e", "is_key_frame": True, "filename": f"samples/{name}"}
        rows["sample_data"].append(shot | {"width": view.width, "height": view.height})
        shutil.copyfile(view.image, root / "samples" / name)
    for k, view in enumerate(views):
        own = pose_of(view)
        box = ego @ sensor @ Pose(own.R @ torch.from_numpy(BOX_FROM_OBJECT.T), own.t)
        l, h, w = view.dimensions_lhw or (0, 0, 0)
        row = placed(str(k), box) | {"size": [w, l, h], "sample_token": view.image.name}
        rows["sample_annotation"].append(row | {"instance_token": "i", "visibility_token": "4"})
    for name, held in rows.items():
        (tables / f"{name}.json").write_text(json.dumps(held))


def placed(token: str, pose: Pose) -> dict[str, Any]:
    told: dict[str, Any] = {"token": token, "translation": pose.t.tolist()}
    return told | {"rotation": quaternion(pose.R.numpy())}


def compared(given: Sequence[View], read: Sequence[View]) -> dict[str, Any]:
    """Return how far views that were read lie from those they were written from."""
    left = list(read)
    turns, shifts, overlaps, own = [], [], [], []
    for view in given:
        some = [v for v in left if v.image.name == view.image.name]
        if not some:
            continue
        near = min(some, key=lambda v: float(np.abs(np.asarray(v.t) - np.asarray(view.t)).max()))
        left.remove(near)
        turns.append(float(rotation_error(np.asarray(near.R), np.asarray(view.R))))
        shifts.append(float(np.abs(np.asarray(near.t) - np.asarray(view.t)).max()))
        overlaps.append(box_iou(clipped(near), view.box or (0, 0, 0, 0)))
        own.append(abs((near.azimuth or 0) - (view.azimuth or 0)))
    return {
        "given": len(given),
        "read": len(read),
        "matched": len(turns),
        "rotation_deg_max": math.degrees(max(turns)),
        "t_metre_max": max(shifts),
        "azimuth_deg_max": max(own),
        "box_iou_median": float(np.median(overlaps)),
        "box_iou_lowest": min(overlaps),
    }


def checked(args: argparse.Namespace) -> dict[str, Any]:
    """Return what ``featmesh data check`` says of the folders of labelled photos."""
    told: dict[str, Any] = {}
    for name in ("stanford_cars", "kitti_sample", "nuscenes_sample"):
        begin = time.perf_counter()
        report = check_splits(read_splits([args.data / name]))
        seconds = time.perf_counter() - begin
        told[name] = {"records": sum(report.records.values()), "counts": report.counts}
        told[name] |= {"good": report.good, "photos_per_second": report.photos / seconds}
    return told


def main() -> None:
    args = arguments(__doc__ or "")
    results: dict[str, Any] = {"pascal3d_sample": pascal(args)}
    with TemporaryDirectory() as folder:
        for name, write, read in (
            ("kitti", kitti_tree, read_kitti),
            ("nuscenes", nuscenes_tree, read_nuscenes),
        ):
            views = read_views(args.data / f"{name}_sample" / "views.json")
            write(views, Path(folder, name))
            results[name] = compared(views, read(Path(folder, name)))
    results["data_check"] = checked(args)
    one = results["pascal3d_sample"]
    row = [one[key] for key in ("box_iou", "off_median", "visible", "on_the_cameras_side")]
    columns = ["box IoU", "key points off, px", "visible", "of them on the camera's side"]
    tables = [as_table("PASCAL3D+ sample: CAD and key points in the crop", columns, [row])]
    keys = ("matched", "rotation_deg_max", "t_metre_max", "box_iou_median", "box_iou_lowest")
    rows = [[name, *(results[name][key] for key in keys)] for name in ("kitti", "nuscenes")]
    columns = ["data set", "objects", "R off, degrees", "t off, m", "box IoU", "lowest"]
    tables.append(as_table("read again from the authors' form", columns, rows))
    rows = [
        [name, told["records"], told["counts"] or "nothing", told["photos_per_second"]]
        for name, told in results["data_check"].items()
    ]
    tables.append(as_table("data check", ["folder", "records", "found", "photos/s"], rows))
    save("readers", args, None, results, tables)


if __name__ == "__main__":
    main()
