"""Claims about evidence: it names parts at stride 4, for one network, and comes back as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_model
from part_scenes import NAMES, true_labels

from featmesh.errors import CheckpointError
from featmesh.geometry.camera import Camera
from featmesh.model.backbones import Backbone, build_backbone
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import load
from featmesh.model.config import ModelConfig
from featmesh.model.labels import read_labels, write_labels
from featmesh.model.part_evidence import PartEvidence, head_for, trunk_maps

SMALL = ModelConfig(channels=16, width=16, crop_height=64, crop_width=96, clutter_centres=4)
FREQUENT = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1])
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return build_backbone(SMALL).eval()


@pytest.fixture(scope="module")
def evidence(backbone: Backbone) -> PartEvidence:
    torch.manual_seed(1)
    return PartEvidence.of(head_for(backbone, SMALL, 5).eval(), FREQUENT, backbone)


def test_each_part_has_a_probability(backbone: Backbone, evidence: PartEvidence) -> None:
    shares = evidence.log_shares(backbone, PIXELS).exp()
    assert shares.shape == (5, 16, 24)
    assert torch.allclose(shares.sum(0), torch.ones(16, 24), atol=1e-5)
    narrow = evidence.log_shares(backbone, PIXELS[:, :80])  # not a multiple of the trunk's
    assert narrow.shape == (5, 16, 20)


def test_maps_that_are_there_already_say_the_same(
    backbone: Backbone, evidence: PartEvidence
) -> None:
    vectors = torch.nn.functional.normalize(torch.ones(len(car_mesh().vertices), 16), dim=1)
    model = CategoryModel("car", SMALL, car_mesh(), vectors, vectors[:4], backbone)
    size = PIXELS.shape[:2]
    shown = (PIXELS, np.ones(size, bool), Camera.assumed(*size))
    cells = model.extract(*shown)
    own = trunk_maps(backbone, PIXELS[None])
    assert [torch.equal(a, b) for a, b in zip(cells.trunk, own, strict=True)] == [True] * 4
    said = evidence.log_shares(backbone, PIXELS, cells.trunk)
    assert torch.equal(said, evidence.log_shares(backbone, PIXELS))
    assert model.extract_all([shown, shown])[0].trunk == ()


def test_a_labels_file_names_its_evidence(tmp_path, backbone, evidence: PartEvidence) -> None:
    path = tmp_path / "my labels.json"
    write_labels(path, replace(true_labels(), evidence=evidence), car_mesh())
    back = read_labels(path, car_mesh()).evidence
    assert back is not None and torch.equal(back.frequency, FREQUENT)
    assert (tmp_path / "my labels.safetensors").stat().st_size < 250_000
    same = back.log_shares(backbone, PIXELS)
    assert torch.equal(same, evidence.log_shares(backbone, PIXELS))
    write_labels(path, true_labels(), car_mesh())
    assert read_labels(path, car_mesh()).evidence is None


def test_a_model_carries_evidence(tmp_path, backbone, evidence: PartEvidence) -> None:
    labels = replace(true_labels(), evidence=evidence)
    vectors = torch.nn.functional.normalize(torch.ones(len(car_mesh().vertices), 16), dim=1)
    made = CategoryModel("car", SMALL, car_mesh(), vectors, vectors[:4], backbone, labels=labels)
    made.save(str(tmp_path / "a"))
    back = load(tmp_path / "a")
    assert back.labels is not None and back.labels.names == NAMES
    assert back.labels.evidence is not None
    # the trunk is stored in half precision, and is still the same trunk
    assert back.labels.evidence.log_shares(back.backbone, PIXELS).isfinite().all()
    alone = replace(back, labels=replace(back.labels, evidence=None))
    alone.save(str(tmp_path / "b"))
    without = load(tmp_path / "b")
    assert without.labels is not None and without.labels.evidence is None
    assert without.hash != back.hash


def test_evidence_is_read_when_it_is_asked(tmp_path, backbone, evidence: PartEvidence) -> None:
    row = evidence.write(tmp_path / "e.safetensors")
    data = bytearray((tmp_path / "e.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "e.safetensors").write_bytes(data)
    changed = PartEvidence.stated(tmp_path, row)
    assert changed is not None and PartEvidence.stated(tmp_path, None) is None
    with pytest.raises(CheckpointError, match="E_CKPT_HASH"):
        changed.log_shares(backbone, PIXELS)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"file": "gone.safetensors", "sha256": "0"}, "E_CKPT_MISSING"),
        ({"file": "../e.safetensors", "sha256": "0"}, "E_CKPT_PATH"),
        ({"file": "e.bin", "sha256": "0"}, "E_CKPT_PATH"),
        ({"file": "e.safetensors"}, "E_CKPT_FORMAT"),
        ([1], "E_CKPT_FORMAT"),
    ],
)
def test_what_names_no_evidence_is_refused(tmp_path, row, code: str) -> None:
    with pytest.raises(CheckpointError, match=code):
        PartEvidence.stated(tmp_path, row)


def test_another_network_is_refused(backbone, evidence: PartEvidence) -> None:
    torch.manual_seed(7)
    other = build_backbone(SMALL).eval()
    fresh = PartEvidence(dict(evidence.tensors))
    with pytest.raises(CheckpointError, match=r"E_CKPT_CONFIG.*another one"):
        fresh.log_shares(other, PIXELS)
    with pytest.raises(CheckpointError, match="E_CKPT_PART"):
        head_for(car_model().backbone, SMALL, 5)
    half = PartEvidence({k: v for k, v in evidence.tensors.items() if "mix" not in k})
    with pytest.raises(CheckpointError, match="E_CKPT_CONFIG"):
        half.log_shares(backbone, PIXELS)
