"""Claims about key points in photos: drawn where the surface is, seen where it is seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import aside, box_of, car_mesh, car_model, look, photo_of

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.inference.estimator import estimate
from featmesh.inference.keypoints import keypoints_json, seen_keypoints
from featmesh.model.keypoints import KeyPoints

CAMERA = Camera(500.0, 500.0, 240.0, 160.0, 320, 480)
PLACES = {"nose": (0.0, -0.44, 0.0), "tail": (0.0, 0.44, 0.0), "left": (0.18, 0.0, 0.0)}


def test_points_are_seen_where_the_surface_is() -> None:
    pose = aside(look(50, 10, 0, 2.5), CAMERA, (230, 150))  # nose and left side
    points = torch.tensor(list(PLACES.values()), dtype=torch.float64)
    keys = KeyPoints.nearest(car_mesh(), tuple(PLACES), points)
    found = estimate(car_model(), photo_of(pose, CAMERA), box_of(pose, CAMERA), CAMERA, "segment")
    seen = seen_keypoints(found, keys)
    true, _ = CAMERA.project(pose.apply(keys.on(car_mesh()).double()))
    assert np.abs(seen.pixels - true.numpy()).max() < 6
    assert seen.visible.tolist() == [True, False, True]
    rows = keypoints_json(seen)
    assert [row["name"] for row in rows] == list(PLACES)
    assert [row["state"] for row in rows] == ["visible", "invisible", "visible"]
    assert rows[0]["x"] == pytest.approx(seen.pixels[0, 0], abs=0.01)
    # an occluder over the whole car, seen from before
    covered = np.where(found.segmentation.states > 0, 2, 0).astype(np.uint8)
    states = replace(found.segmentation, states=covered)
    told = seen_keypoints(replace(found, segmentation=states), keys)
    assert [row["state"] for row in keypoints_json(told)] == ["occluded", "invisible", "occluded"]
    with pytest.raises(InputError, match=r"E_POSE.*segmented"):
        seen_keypoints(replace(found, segmentation=None), keys)
    with pytest.raises(InputError, match=r"E_POSE.*seen_keypoints.*no_object"):
        seen_keypoints(replace(found, status="no_object", cam_from_obj=None), keys)
    behind = replace(found, cam_from_obj=replace(found.cam_from_obj, t=-found.cam_from_obj.t))
    assert keypoints_json(seen_keypoints(behind, keys))[0]["x"] is None
