"""Rows 1 to 14 of docs/reliability.md, photos and numbers: what no other test claims."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import aside, box_of, car_model, look, picture
from photo.pictures import bomb_png
from PIL import Image
from torch import nn

import featmesh
from featmesh.geometry.camera import Camera
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.estimator import estimate
from featmesh.learn.surface_points import read_map
from featmesh.model.backbones import PyramidHead
from featmesh.model.config import ModelConfig
from featmesh.photo.read import read_photo

CAMERA = Camera(350.0, 350.0, 160.0, 120.0, 240, 320)


def test_row_04_a_cmyk_photo_has_the_pose_of_its_rgb_twin(tmp_path: Path) -> None:
    pose = aside(look(40, 12, 5, 2.5), CAMERA, (165, 118))
    shown = Image.fromarray(picture(pose, CAMERA))
    found = []
    for mode in ("RGB", "CMYK"):
        path = tmp_path / f"{mode}.jpg"
        shown.convert(mode).save(path, quality=95)
        with Image.open(path) as stored:
            assert stored.mode == mode
        photo = read_photo(path)
        found.append(estimate(car_model(), photo, box_of(pose, CAMERA), CAMERA).cam_from_obj)
    assert math.degrees(float(geodesic_angle(found[0].R, found[1].R))) < 0.5
    assert math.degrees(float(geodesic_angle(found[1].R, pose.R))) < 4


@pytest.mark.parametrize("size", [(2000, 16), (16, 2000)])
def test_row_08_the_longest_and_narrowest_photos_are_estimated(size, tmp_path: Path) -> None:
    path = tmp_path / "strip.png"
    Image.new("RGB", size, (30, 40, 50)).save(path)
    found = estimate(car_model(), read_photo(path))
    assert found.status in ("ok", "uncertain", "no_object")


# a picture says in its header how large it is; only PNG has the pixels here
HEADERS = {
    "bomb.bmp": b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + b"\x20\x4e\0\0" * 2 + b"\1\0\x18\0",
    "bomb.gif": b"GIF89a" + b"\x20\x4e" * 2 + b"\xf0\0\0" + bytes(6) + b"," + bytes(4),
    "bomb.ppm": b"P6 20000 20000 255\n",
}
REFUSE = """
import resource, sys
from featmesh.errors import InputError
from featmesh.photo.read import read_photo
from PIL import Image
Image.init()
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
for path in sys.argv[1:]:
    try:
        read_photo(path)
    except InputError as error:
        print(error.code, end=" ")
print(peak() - before)
"""


def test_row_09_and_10_bombs_are_refused_by_their_headers_in_no_memory(tmp_path: Path) -> None:
    paths = []
    for side in (12_000, 20_000):
        paths.append(tmp_path / f"{side}.png")
        paths[-1].write_bytes(bomb_png(side))
    for name, head in HEADERS.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(head.ljust(2000, b"\0"))
    assert sum(p.stat().st_size for p in paths) < 2_000_000
    environment = os.environ | {"PYTHONPATH": str(Path(featmesh.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, *map(str, paths)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    *codes, megabytes = done.stdout.split()
    assert codes == ["E_IMG_TOO_LARGE"] * len(paths)
    assert float(megabytes) < 50  # the pixels would be 430 and 1200


def test_row_14_a_zero_feature_vector_has_a_value_and_a_gradient() -> None:
    config = ModelConfig(channels=8, width=8)
    head = PyramidHead((4, 4, 4), config)
    nn.init.zeros_(head.out.weight)
    nn.init.zeros_(head.out.bias)
    maps = [torch.randn(1, 4, s, s) for s in (16, 8, 4)]
    features = head(maps)
    assert not features.any()
    features.sum().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def test_row_14_gradients_at_zero_are_those_of_finite_differences() -> None:
    points = torch.tensor([[0.1, -0.3], [0.5, 0.2]], dtype=torch.float64)
    zero = torch.zeros(3, 4, 4, dtype=torch.float64, requires_grad=True)

    def unit(cells: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(read_map(cells, points), dim=1, eps=1e-6)

    assert unit(zero).isfinite().all()
    assert torch.autograd.gradcheck(unit, zero, eps=1e-9)


def test_row_14_an_axis_of_no_length_is_no_rotation() -> None:
    twist = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    R = featmesh.Pose.exp(torch.cat([twist, torch.zeros(3, dtype=torch.float64)])).R
    np.testing.assert_array_equal(R.detach().numpy(), np.eye(3))
    R[0, 1].backward()
    assert twist.grad.isfinite().all() and twist.grad.any()
