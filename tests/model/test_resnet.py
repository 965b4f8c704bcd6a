"""Claims about ResNet-50 and its head: sizes, strides, the published counts and names."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from trunks import published_resnet50

from featmesh.draws import generator
from featmesh.learn.trainer import freeze
from featmesh.model.backbones import build_backbone
from featmesh.model.config import ModelConfig
from featmesh.model.efficientnet import frozen_statistics
from featmesh.model.resnet import DoubleConv, ResNet50, UpsamplingHead, from_torchvision_names

NEMO = ModelConfig(backbone="resnet50", channels=128)


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(generator(0, "resnet", 0, 0).normal(size=shape)).float()


@pytest.fixture(scope="module")
def trunk() -> ResNet50:
    torch.manual_seed(0)
    return ResNet50().eval()


@pytest.fixture(scope="module")
def head() -> UpsamplingHead:
    torch.manual_seed(0)
    return UpsamplingHead(ResNet50.channels, NEMO).eval()


@pytest.mark.parametrize("size", [(64, 96), (32, 160)])
def test_maps_have_the_strides_and_channels_they_state(trunk, size) -> None:
    with torch.no_grad():
        maps = trunk(noise(1, 3, *size))
    assert (trunk.channels, trunk.strides) == ((512, 1024, 2048), (8, 16, 32))
    for found, channels, stride in zip(maps, trunk.channels, trunk.strides, strict=True):
        assert found.shape == (1, channels, size[0] // stride, size[1] // stride)


def test_the_trunk_has_as_many_weights_as_the_published_one(trunk) -> None:
    # 25,557,032 of torchvision's ResNet-50, less the classifier of 2048 x 1000 + 1000
    assert sum(p.numel() for p in trunk.parameters()) == 25_557_032 - 2_049_000
    assert len(trunk.blocks) == 16


def test_public_names_are_those_of_torchvision(trunk) -> None:
    public = published_resnet50(frozen_statistics(trunk.state_dict()))
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer2.3.bn3.bias": (512,),
        "layer3.5.conv1.weight": (256, 1024, 1, 1),
        "layer4.0.downsample.1.running_mean": (2048,),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "fc.weight": (1000, 2048),
    }
    assert {name: tuple(public[name].shape) for name in shapes} == shapes
    # 53 convolutions, 53 norms of 5 values, a classifier of 2
    assert len(public) == 53 + 53 * 5 + 2


def test_a_state_survives_the_way_through_the_public_names(trunk) -> None:
    state = frozen_statistics(trunk.state_dict())
    for prefix in ("", "module."):
        public = {prefix + k: v for k, v in published_resnet50(state).items()}
        found = from_torchvision_names(public)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[k], v) for k, v in state.items())


def test_the_trunk_computes_what_the_public_weights_mean(trunk) -> None:
    """The first block of layer2, step by step, out of the public names."""
    w = published_resnet50(trunk.state_dict())

    def step(x: Tensor, layer: str, norm: str, stride: int = 1) -> Tensor:
        weight = w[f"{layer}.weight"]
        x = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
        parts = [w[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts)

    x = noise(1, 256, 8, 8)
    y = step(x, "layer2.0.conv1", "layer2.0.bn1").relu()
    y = step(y, "layer2.0.conv2", "layer2.0.bn2", 2).relu()  # the stride is in the 3x3
    y = step(y, "layer2.0.conv3", "layer2.0.bn3")
    y = (y + step(x, "layer2.0.downsample.0", "layer2.0.downsample.1", 2)).relu()
    with torch.no_grad():
        torch.testing.assert_close(trunk.blocks[3](x), y)


def test_the_head_has_the_published_sizes(head) -> None:
    sizes = {
        "up_0.first": (1024, 2048),
        "up_0.second": (1024, 1024),
        "up_1.first": (1024, 2048),
        "up_1.second": (512, 1024),
        "up_2.first": (512, 1024),
        "up_2.second": (256, 512),
    }
    state = head.state_dict()
    assert {k: tuple(state[f"{k}.conv.weight"].shape) for k in sizes} == {
        k: (*pair, 3, 3) for k, pair in sizes.items()
    }
    assert tuple(state["out.weight"].shape) == (128, 256, 1, 1)
    assert "out.bias" not in state


def test_the_network_gives_unit_vectors_of_128_channels_at_stride_8(trunk, head) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(NEMO).eval()
    with torch.no_grad():
        for size in ((64, 96), (72, 40)):  # the second is continued to multiples of 32
            found = backbone(255 * noise(1, 3, *size).abs())
            assert found.shape == (1, 128, size[0] // 8, size[1] // 8)
            torch.testing.assert_close(found.norm(dim=1), torch.ones(1, *found.shape[2:]))
        assert torch.equal(
            head(trunk(noise(1, 3, 64, 64)), (4, 4)), head(trunk(noise(1, 3, 64, 64)))
        )


def test_upsampling_keeps_corners_and_fills_odd_sides_with_zeros() -> None:
    from featmesh.model.resnet import _doubled

    x = noise(1, 2, 3, 4)
    large = _doubled(x, torch.zeros(1, 1, 6, 8))
    assert large.shape == (1, 2, 6, 8)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(large[..., corner[0], corner[1]], x[..., corner[0], corner[1]])
    odd = _doubled(x, torch.zeros(1, 1, 7, 9))
    assert torch.equal(odd[..., :6, :8], large) and not odd[..., 6, :].any()


def test_batch_norms_of_frozen_layers_keep_their_statistics() -> None:
    trunk = ResNet50()
    freeze(trunk, 3)  # the stem and three blocks, as --freeze-blocks has it
    trunk.train()
    learning = {name for name, module in trunk.named_modules() if module.training}
    assert "stem.norm" not in learning and "blocks.2.widen.norm" not in learning
    assert {"blocks.3.reduce.norm", "blocks.15.widen.norm"} <= learning
    assert not any(p.requires_grad for p in trunk.blocks[:3].parameters())
    assert all(p.requires_grad for p in trunk.blocks[3:].parameters())


def test_batch_norms_learn_in_training() -> None:
    block = DoubleConv(3, 4, 5).train()
    before = block.first.norm.running_mean.clone()
    block(noise(2, 3, 8, 8))
    assert not torch.equal(block.first.norm.running_mean, before)
