"""Claims about the names of ImageNet: what a photo is called, and what follows for categories."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featmesh.errors import CheckpointError
from featmesh.model import imagenet
from featmesh.model.imagenet import (
    CLASSES,
    NAMES,
    Namer,
    bundled_namer,
    category_odds,
    namer_from_package,
    write_namer,
)
from featmesh.photo.read import read_photo

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def said(**shares: float) -> torch.Tensor:
    """What is said of a picture: shares of categories, the rest of what is none of them."""
    p = torch.zeros(NAMES)
    for category, share in shares.items():
        p[list(CLASSES[category])] = share / len(CLASSES[category])
    p[0] = 1 - p.sum()
    return p


def test_a_photo_of_a_car_is_called_one():
    namer = bundled_namer()
    for name in ("car_side_0013.jpg", "car_side_0003.jpg"):
        photo = read_photo(PHOTOS / name)
        whole = photo.whole
        names = namer.named(photo.pixels, [whole])[0]
        assert float(names.sum()) == pytest.approx(1, abs=1e-4)
        told = category_odds(names, sorted(CLASSES))
        assert sorted(CLASSES)[max(range(12), key=lambda k: told[k])] == "car"
        assert sum(told) == pytest.approx(1, abs=1e-4)


def test_no_name_stands_for_two_categories():
    every = [k for classes in CLASSES.values() for k in classes]
    assert len(every) == len(set(every)) and 0 <= min(every) and max(every) < NAMES


def test_what_is_called_something_else_is_shared_out_evenly():
    assert category_odds(said(chair=0.6, sofa=0.1), ["chair", "sofa", "boat"]) == pytest.approx(
        [0.7, 0.2, 0.1]
    )
    assert category_odds(said(), ["chair", "teapot"]) == pytest.approx([0.5, 0.5])
    # a category of one's own has no name: it is as probable as what is left to one of them
    assert category_odds(said(chair=0.9), ["chair", "teapot"]) == pytest.approx([0.95, 0.05])
    # twice the same category: both are as probable
    twice = category_odds(said(car=0.8), ["car", "car", "boat"])
    assert twice == pytest.approx([0.8667, 0.8667, 0.0667], abs=1e-3)


def test_the_package_is_read_name_by_name(tmp_path: Path):
    torch.manual_seed(0)
    namer = Namer().eval()
    theirs = {
        "_conv_head.weight": namer.enter.conv.weight,
        "_fc.weight": namer.out.weight,
        "_fc.bias": namer.out.bias,
    }
    theirs |= {f"_bn1.{k}": v for k, v in namer.enter.norm.state_dict().items()}
    stages = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    stages["project"] = ("_project_conv", "_bn2")
    names = {"stem": ("_conv_stem", "_bn0")}
    for k, block in enumerate(namer.trunk.blocks):
        known = [p for p in stages if hasattr(getattr(block, p), "conv")]
        names |= {
            f"blocks.{k}.{p}": tuple(f"_blocks.{k}.{name}" for name in stages[p]) for p in known
        }
    for key, value in namer.trunk.state_dict().items():
        part, kind, last = key.rsplit(".", 2)
        conv, norm = names[part]
        theirs[f"{conv if kind == 'conv' else norm}.{last}"] = value
    read = namer_from_package({k: v.detach().clone() for k, v in theirs.items()})
    pixels = torch.rand(1, 3, 64, 64) * 255
    torch.testing.assert_close(read(pixels), namer(pixels))
    digest = write_namer(read, tmp_path / "n.safetensors")
    assert len(digest) == 64


def test_another_file_is_refused_and_none_is_no_namer(tmp_path: Path, monkeypatch):
    bundled_namer.cache_clear()
    try:
        monkeypatch.setattr(imagenet, "FILE", "nowhere.safetensors")
        assert bundled_namer() is None
        bundled_namer.cache_clear()
        save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
        monkeypatch.setattr(imagenet, "bundled_backbone", lambda _: tmp_path / "other.safetensors")
        with pytest.raises(CheckpointError, match="E_CKPT_HASH"):
            bundled_namer()
    finally:
        bundled_namer.cache_clear()
