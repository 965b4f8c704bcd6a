"""Claims about an estimate: what can be drawn of it is there, or it says why not."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures import CELLS, car_mesh, look

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.inference.result import Estimate, Maps, posed

CAMERA = Camera(500.0, 500.0, 240.0, 160.0, 320, 480)


def test_what_can_be_drawn_is_all_there_or_refused() -> None:
    crop = Crop.from_box(CAMERA, (100.0, 80.0, 300.0, 240.0), (224, 336))
    cells = np.zeros((CELLS.height, CELLS.width, 4), np.float32)
    maps = Maps(cells, cells[..., 0], crop, np.zeros((224, 336, 3), np.uint8))
    found = Estimate("ok", "car", look(50, 10, 0, 2.5), camera=CAMERA, mesh=car_mesh(), maps=maps)
    told = posed(found, "draw()")
    parts = (told.pose, told.mesh, told.camera, told.maps)
    assert parts == (found.cam_from_obj, found.mesh, found.camera, found.maps)
    for name in ("cam_from_obj", "mesh", "camera", "maps"):
        with pytest.raises(InputError, match=r"^E_POSE: draw\(\): .*status 'uncertain'"):
            posed(replace(found, status="uncertain", **{name: None}), "draw()")
