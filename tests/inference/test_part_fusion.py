"""Claims about parts by two witnesses: each is believed where the other knows nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import aside, box_of, car_model, look, picture
from part_scenes import NAMES, label_image, true_labels

from featmesh.apps.bundled import photos
from featmesh.errors import CheckpointError
from featmesh.geometry.camera import Camera
from featmesh.inference.config import SegmentConfig
from featmesh.inference.estimator import estimate
from featmesh.inference.part_fusion import Prior, joined
from featmesh.inference.segment import hide, segment
from featmesh.model.checkpoint import load
from featmesh.model.part_evidence import PartEvidence
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo

CAMERA = Camera(600.0, 600.0, 320.0, 180.0, 360, 640)
POSE = aside(look(60, 14, 0, 2.2), CAMERA, (330, 190))
BOX = box_of(POSE, CAMERA)
USUAL = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1])
CONFIG = SegmentConfig()


class Witness(PartEvidence):
    """Evidence that says what it is told."""

    def __init__(self, say, classes: int = 5) -> None:
        super().__init__({"frequency": USUAL})
        self.say, self.classes = say, classes

    def log_shares(self, backbone, pixels, maps=()):
        height, width = (side // 4 for side in pixels.shape[:2])
        shares = torch.full((self.classes, height, width), 1e-4)
        shares += torch.as_tensor(self.say(height, width)).float()
        return (shares / shares.sum(0)).log()


def only(part: int):
    return lambda h, w: torch.eye(5)[part][:, None, None].expand(5, h, w)


def even(h: int, w: int):
    return torch.ones(5, h, w)


@pytest.fixture(scope="module")
def scene():
    photo = Photo.from_array(picture(POSE, CAMERA))
    return photo, estimate(car_model(), photo, BOX, CAMERA, "segment")


def told(scene, say, classes: int = 5):
    labels = replace(true_labels(), evidence=Witness(say, classes))
    return segment(car_model(), *scene, labels)


def test_evidence_that_knows_nothing_leaves_the_drawing(scene) -> None:
    found, truth = told(scene, even), label_image(POSE, CAMERA)
    alone = segment(car_model(), *scene, true_labels())
    assert np.array_equal(found.rendered_parts, alone.parts)
    assert alone.rendered_parts is not None and np.array_equal(alone.rendered_parts, alone.parts)
    assert np.array_equal(alone.seen_parts, alone.parts * alone.visible)
    inside = truth > 0
    assert (found.parts == alone.parts)[inside].mean() > 0.85
    assert found.shares == alone.shares


def test_sure_evidence_is_believed(scene) -> None:
    found = told(scene, only(4))
    assert (found.seen_parts == 4).mean() > 0.2  # wherever the crop is, off the object too
    assert (found.rendered_parts == 4).mean() < 0.1
    none = told(scene, only(0))
    drawn = none.rendered_parts > 0
    assert not none.seen_parts.any()
    assert (none.parts > 0)[drawn].mean() < 0.1  # not hidden, so there is none


def test_what_is_hidden_is_what_is_drawn(scene) -> None:
    photo, found = scene
    far = replace(CONFIG, hidden=9.0)  # all of it counts as hidden
    labels = replace(true_labels(), evidence=Witness(only(0)))
    s = segment(car_model(), photo, found, labels, far)
    drawn = s.rendered_parts > 0
    assert not s.seen_parts.any()
    assert (s.parts == s.rendered_parts)[drawn].mean() > 0.8


def test_the_answer_is_the_photos_and_outside_the_crop_the_drawings(scene) -> None:
    photo, _ = scene
    half = (BOX[0], BOX[1], (BOX[0] + BOX[2]) / 2, BOX[3])
    found = estimate(car_model(), photo, half, CAMERA, "segment")
    s = told((photo, found), only(4))
    assert s.parts.shape == (photo.height, photo.width)
    left = found.maps.crop.pixel_map()[:, 0, 0].min().item()
    beside = np.arange(photo.width)[None] < left - 1
    assert np.array_equal((s.parts * beside), (s.rendered_parts * beside))


def test_another_object_hides_its_parts(scene) -> None:
    s = told(scene, even)
    by = np.zeros_like(s.amodal)
    by[:, :320] = True
    behind = hide(s, by)
    assert not behind.seen_parts[by].any()
    assert np.array_equal(behind.seen_parts[~by], s.seen_parts[~by])
    assert np.array_equal(behind.parts, s.parts)


def test_the_trunk_runs_once_for_features_and_parts() -> None:
    model, photo = load("car"), read_photo(photos()[0])
    box, runs = (60.0, 58.0, 235.0, 121.0), []
    camera = Camera.assumed(photo.height, photo.width)
    hook = model.backbone.trunk.register_forward_hook(lambda *_: runs.append(1))
    found = estimate(model, photo, box, camera, "segment")
    assert len(runs) == 1 and found.maps.trunk
    assert model.labels is not None and model.labels.evidence is not None
    again = segment(model, photo, replace(found, maps=replace(found.maps, trunk=())))
    hook.remove()
    assert len(runs) == 2
    for name in ("parts", "seen_parts", "rendered_parts", "visible"):
        assert np.array_equal(getattr(again, name), getattr(found.segmentation, name))


def test_other_parts_than_the_labels_are_refused(scene) -> None:
    with pytest.raises(CheckpointError, match=f"2 parts for {len(NAMES)} names"):
        told(scene, lambda h, w: torch.ones(3, h, w), classes=3)


def test_the_posterior_is_the_product_of_both() -> None:
    usual_ = USUAL.numpy()
    undecided = np.log(np.array([[[0.1, 0.4, 0.4, 0.05, 0.05]]], np.float32))
    left = Prior(np.eye(5, dtype=np.float32)[None, None, 1], np.zeros((1, 1), np.float32))
    right = replace(left, shares=np.eye(5, dtype=np.float32)[None, None, 2])
    assert joined(undecided, left, usual_, CONFIG)[0].argmax() == 1
    assert joined(undecided, right, usual_, CONFIG)[0].argmax() == 2
    nothing = replace(left, shares=usual_[None, None])
    flat = replace(CONFIG, rare=1.0)  # a prior that says what is usual says nothing
    seen, whole = joined(undecided, nothing, usual_, flat)
    assert np.allclose(np.exp(seen) / np.exp(seen).sum(), np.exp(undecided), atol=1e-6)
    assert np.allclose(np.exp(whole), np.exp(undecided), atol=1e-6)
    bare = np.log(np.array([[[0.96, 0.01, 0.01, 0.01, 0.01]]], np.float32))
    behind = replace(left, hidden=np.ones((1, 1), np.float32))
    seen, whole = joined(bare, behind, usual_, CONFIG)
    assert seen.argmax() == 0 and whole.argmax() == 1
    assert np.exp(whole).sum() == pytest.approx(1, abs=1e-5)
