"""Hand-made folders in the form of the data sets; every number is ours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featmesh.draws import generator

NAMES = ["class", "bbox", "cad_index", "viewpoint", "anchors", "truncated", "occluded", "difficult"]
SEEN: dict[str, Any] = {
    "azimuth": 30.0,
    "elevation": 12.0,
    "theta": -4.0,
    "distance": 6.5,
    "focal": 1.0,
    "px": 245.0,
    "py": 188.0,
    "viewport": 3000.0,
    "azimuth_coarse": 30.0,
    "elevation_coarse": 10.0,
}
NOTHING = np.zeros((0, 0))


def photo(path: Path, width: int, height: int) -> Path:
    """A picture that no other file name gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = generator(0, path.stem).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def pascal_object(kind: str = "car", viewpoint: Any = None, **fields: Any) -> dict[str, Any]:
    seen = SEEN if viewpoint is None else viewpoint
    wheel = {"location": np.array([[110.0, 250.0]]), "status": 1.0}
    hidden = {"location": NOTHING, "status": 2.0}
    return {
        "class": kind,
        "bbox": np.array([[60.0, 80.0, 420.0, 300.0]]),
        "cad_index": 3.0,
        "viewpoint": seen,
        "anchors": {"left_front_wheel": wheel, "right_front_wheel": hidden},
        **fields,
    }


def write_mat(path: Path, *objects: dict[str, Any], size: tuple[int, int] = (500, 375)) -> Path:
    """Write an annotation in PASCAL3D+'s own nesting (spec 3.1); ``size`` is width, height."""
    from scipy.io import savemat

    held = np.zeros((1, len(objects)), dtype=[(name, object) for name in NAMES])
    for k, one in enumerate(objects):
        for name in NAMES:
            held[0, k][name] = one.get(name, NOTHING)
    record = {"filename": f"{path.stem}.JPEG", "imgsize": np.array([[*size, 3.0]])}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"record": record | {"objects": held}})
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def lines(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def pascal_folder(root: Path, **objects: Any) -> Path:
    """PASCAL3D+: one photo in the training list, two in the other; the last begins with a bus."""
    bus = pascal_object("bus", NOTHING)
    content = {
        "n02_1": [pascal_object(), bus],
        "n02_2": [pascal_object(**objects)],
        "n02_3": [pascal_object("bus"), pascal_object()],
    }
    for name, held in content.items():
        write_mat(root / "Annotations" / "car_imagenet" / f"{name}.mat", *held)
        photo(root / "Images" / "car_imagenet" / f"{name}.JPEG", 500, 375)
    lines(root / "Image_sets" / "car_imagenet_train.txt", "n02_1")
    lines(root / "Image_sets" / "car_imagenet_val.txt", "n02_2", "n02_3")
    return root


def kitti_folder(root: Path, *labels: str) -> Path:
    """One street photo, focal length 700 px; the colour camera stands 6 cm beside the grey one."""
    photo(root / "training" / "image_2" / "000000.png", 1200, 370)
    P2 = "P2: 700 0 600 42 0 700 180 0.2 0 0 1 0.003"
    lines(root / "training" / "calib" / "000000.txt", "P0: " + "0 " * 12, P2)
    lines(root / "training" / "label_2" / "000000.txt", *labels)
    return root


def nuscenes_folder(root: Path, box: dict[str, Any], ego: dict[str, Any]) -> Path:
    """One front camera on a car at ``ego``, which looks along the car's x, and one box."""
    tables = root / "v1.0-mini"
    forward = [0.5, -0.5, 0.5, -0.5]  # camera right = car -y, down = -z, forward = x
    K = [[800.0, 0.0, 400.0], [0.0, 800.0, 225.0], [0.0, 0.0, 1.0]]
    shot = {"token": "d", "sample_token": "s", "ego_pose_token": "e", "is_key_frame": True}
    shot |= {"calibrated_sensor_token": "c", "filename": "samples/CAM_FRONT/1.jpg"}
    sensor = {"token": "c", "rotation": forward, "translation": [1.5, 0.0, 1.6]}
    lidar = {"token": "l", "rotation": [1, 0, 0, 0], "translation": [0, 0, 0]}
    tabled: dict[str, list[dict[str, Any]]] = {
        "category": [{"token": "k", "name": "vehicle.car"}],
        "instance": [{"token": "i", "category_token": "k"}],
        "ego_pose": [{"token": "e", **ego}],
        "calibrated_sensor": [sensor | {"camera_intrinsic": K}, lidar | {"camera_intrinsic": []}],
        "sample_data": [
            shot | {"width": 800, "height": 450},
            shot | {"token": "x", "calibrated_sensor_token": "l", "filename": "samples/L/1.bin"},
            shot | {"token": "y", "is_key_frame": False, "width": 800, "height": 450},
        ],
        "sample_annotation": [
            {"token": "a", "sample_token": "s", "instance_token": "i", "visibility_token": "3"}
            | box
        ],
    }
    for name, rows in tabled.items():
        write_json(tables / f"{name}.json", rows)
    photo(root / "samples" / "CAM_FRONT" / "1.jpg", 800, 450)
    return root
