import pytest
import torch
from torch import Tensor, nn
from trunks import published_lite0

from featmesh.draws import generator
from featmesh.model.efficientnet import EfficientNetLite0, from_lite_package, frozen_statistics

REACH = 425  # pixels that the coarsest cell sees to either side


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(generator(0, "lite0", 0, 0).normal(size=shape)).float()


@pytest.fixture(scope="module")
def trunk() -> EfficientNetLite0:
    torch.manual_seed(0)
    built = EfficientNetLite0()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.constant_(module.running_var, 0.2)  # else signals fade with depth
    return built.eval()


@pytest.mark.parametrize("size", [(64, 96), (224, 352)])
def test_maps_have_the_strides_and_channels_they_state(trunk, size) -> None:
    with torch.no_grad():
        maps = trunk(noise(1, 3, *size))
    assert len(maps) == len(trunk.channels) == len(trunk.strides)
    for found, channels, stride in zip(maps, trunk.channels, trunk.strides, strict=True):
        assert found.shape == (1, channels, size[0] // stride, size[1] // stride)


def test_a_picture_moved_by_32_pixels_moves_the_maps_by_whole_cells(trunk) -> None:
    x = noise(1, 3, 32, 1120)
    with torch.no_grad():
        before, after = trunk(x[..., 32:]), trunk(x[..., :-32])
    for a, b, stride in zip(before, after, trunk.strides, strict=True):
        cells, border = 32 // stride, -(-(REACH + 32) // stride)
        here = a[..., border:-border]
        there = b[..., border + cells : b.shape[-1] - border + cells]
        assert here.shape[-1] > 0
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)
        assert float(here.std()) > 1e-3  # something is there to be moved


def test_batch_norms_stay_as_they_are_in_training(trunk) -> None:
    net = EfficientNetLite0()
    net.load_state_dict(trunk.state_dict())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = noise(2, 3, 64, 64)
    with torch.no_grad():
        quiet = net.eval()(x)
        net.train()
        training, alone = net(x), net(x[:1])
    assert net.training and net.blocks[0].training
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    for a, b, c in zip(quiet, training, alone, strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a[:1], c, atol=1e-5, rtol=1e-4)  # the batch has no say
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_the_public_names_fill_the_whole_trunk(trunk) -> None:
    ours = frozen_statistics(trunk.state_dict())
    found = frozen_statistics(from_lite_package(published_lite0(ours)))
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[k], v) for k, v in ours.items())
    missing, unknown = EfficientNetLite0().load_state_dict(found, strict=False)
    assert not unknown and all(k.endswith("num_batches_tracked") for k in missing)
