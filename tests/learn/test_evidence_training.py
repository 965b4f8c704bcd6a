"""Claims about learning evidence: a small head learns the parts of painted cars from photos."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_model
from part_scenes import NAMES, part_views
from torch import nn

from featmesh.errors import CheckpointError, DatasetError
from featmesh.learn.evidence_training import learn_evidence
from featmesh.learn.part_variants import PixelParts, crop_of, looked_up
from featmesh.learn.parts_config import EvidenceConfig
from featmesh.model.backbones import Backbone, PyramidHead
from featmesh.model.category import CategoryModel
from featmesh.model.config import ModelConfig
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.photo.resize import resample
from featmesh.views.part_photos import read_part_photos

SMALL = ModelConfig(channels=16, width=16, crop_height=64, crop_width=96, clutter_centres=4)
QUICK = EvidenceConfig(variants=4, epochs=30, batch=4, balance=0.5, rate=0.01)


class Pools(nn.Module):
    """A trunk that knows mean colours, which tell where on the painted car a pixel lies."""

    multiple, channels = 32, (3, 3, 3, 3)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [nn.functional.avg_pool2d(x, s) * self.scale for s in (4, 8, 16, 32)]


@pytest.fixture(scope="module")
def model() -> CategoryModel:
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.ones(len(car_mesh().vertices), 16), dim=1)
    trunk = Pools()
    backbone = Backbone(trunk, PyramidHead(trunk.channels, SMALL), SMALL).eval()
    return CategoryModel("car", SMALL, car_mesh(), vectors, vectors[:4], backbone)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("photos")
    return read_part_photos(part_views(folder, 12), NAMES)


def pictured(photo):
    """Pixels and labels of a photo."""
    return read_photo(photo.image).pixels, photo.labels()


def test_the_parts_are_learned_and_the_trunk_is_not_touched(model, photos) -> None:
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    found = learn_evidence(model, photos, QUICK)
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    assert found.frequency.shape == (5,) and float(found.frequency.sum()) == pytest.approx(1)
    assert float(found.frequency[0]) > 0.5
    right = []
    for photo in photos:
        shown = PixelParts(photo.id, *pictured(photo), photo.box, pictured(photo)[1] < 0)
        crop = crop_of(shown, photo.box, (64, 96))
        pixels, _ = resample(Photo.from_array(shown.pixels), crop)
        said = found.log_shares(model.backbone, pixels).argmax(0).numpy()
        truth = looked_up(shown.parts, crop.pixel_map()[2::4, 2::4].numpy())
        right.append((said == truth)[truth > 0].mean())
    assert np.mean(right) > 0.4  # of the parts' pixels; a fifth or less by chance


def test_the_same_training_twice_is_the_same(model, photos) -> None:
    one = replace(QUICK, epochs=1)
    first, again = (learn_evidence(model, photos, one).tensors for _ in range(2))
    assert all(torch.equal(v, again[k]) for k, v in first.items())


def test_a_photo_that_cannot_be_read_harms_no_other(model, photos, tmp_path) -> None:
    gone = replace(photos[0], image=tmp_path / "gone.png")
    one = replace(QUICK, epochs=1)
    assert learn_evidence(model, [gone, *photos[1:3]], one).frequency.isfinite().all()
    with pytest.raises(DatasetError, match="E_DATA"):
        learn_evidence(model, [gone], one)


def test_a_network_without_a_pyramid_is_refused_at_once(photos) -> None:
    with pytest.raises(CheckpointError, match="E_CKPT_PART"):
        learn_evidence(car_model(), photos, QUICK)
