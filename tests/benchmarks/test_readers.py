"""What benchmarks/readers.py writes is what the readers read: poses drawn here, there and back."""

import importlib
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from views.readers.folders import photo

from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.views.readers.common import metric_view
from featmesh.views.record import View

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("readers")


def street(folder: Path) -> list[View]:
    """Eight cars on a flat street before two cameras, each whole in the picture."""
    camera, views = Camera(700.0, 700.0, 600.0, 180.0, 370, 1200), []
    for k in range(8):
        rng = generator(0, "street", 0, k)
        azimuth = torch.tensor(rng.uniform(0, 2 * math.pi), dtype=torch.float64)
        flat = torch.zeros_like(azimuth)
        where = [rng.uniform(-8, 8), rng.uniform(0, 1), rng.uniform(15, 30)]
        pose = Pose(rotation_from_angles(azimuth, flat, flat), torch.tensor(where).double())
        image = photo(folder / f"00000{k % 2}.jpg", 1200, 370)
        more = {"occluded": 0, "truncated": 0.0, "box": (1.0, 1.0, 9.0, 9.0)}
        views.append(metric_view(image, "car", camera, pose, (4.0, 1.5, 1.7), **more))
    return views


def test_kitti_and_nuscenes_there_and_back(readers: ModuleType, tmp_path: Path) -> None:
    views = street(tmp_path / "photos")
    for write, read in (
        (readers.kitti_tree, readers.read_kitti),
        (readers.nuscenes_tree, readers.read_nuscenes),
    ):
        folder = tmp_path / write.__name__
        write(views, folder)
        told = readers.compared(views, read(folder))
        assert told["matched"] == told["read"] == 8
        assert told["rotation_deg_max"] < 1e-6 and told["t_metre_max"] < 1e-9
        assert told["azimuth_deg_max"] < 1e-6


def test_quaternions_are_those_of_the_reader(readers: ModuleType) -> None:
    from featmesh.views.readers.nuscenes import quaternion_matrix

    turn = quaternion_matrix([0.3, -0.5, 0.1, 0.8])
    np.testing.assert_allclose(quaternion_matrix(readers.quaternion(turn)), turn, atol=1e-12)
