from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from featmesh.errors import BackendUnavailable
from featmesh.model.backbones import build_backbone
from featmesh.model.config import ModelConfig
from featmesh.model.hf import adapt

CONFIG = ModelConfig(backbone="hf", channels=16, width=32)


class FakeVit(nn.Module):
    """A patch convolution with tokens in front, as a transformers vision transformer gives."""

    def __init__(self, patch: int | tuple[int, int], prefix: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(patch_size=patch, hidden_size=24)
        self.patches = nn.Conv2d(3, 24, patch, patch)
        self.prefix = prefix
        self.seen: list[tuple[int, ...]] = []

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        self.seen.append(tuple(pixel_values.shape))
        tokens = self.patches(pixel_values).flatten(2).transpose(1, 2)
        front = torch.full((len(tokens), self.prefix, 24), torch.nan)
        return SimpleNamespace(last_hidden_state=torch.cat([front, tokens], 1))


class AskedVit(FakeVit):
    """A plain ViT takes pictures of another size only when told to interpolate."""

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False):
        assert interpolate_pos_encoding
        return super().forward(pixel_values)


class FakePyramid(nn.Module):
    """Maps of strides 4, 16 and 32, as the ``AutoBackbone`` of a convolutional network gives."""

    channels = (3, 3, 3)

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            out_features=["a", "b", "c"], depths=[1, 1, 1], patch_size=4, hidden_sizes=[3, 3, 3]
        )

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        maps = tuple(nn.functional.avg_pool2d(pixel_values, s) for s in (4, 16, 32))
        return SimpleNamespace(feature_maps=maps)


def pixels(height: int, width: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return 255 * torch.rand(2, 3, height, width, generator=draw)


@pytest.mark.parametrize("patch", [14, 16, (14, 14), 8])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_become_unit_features_of_stride_8(patch, prefix) -> None:
    model = FakeVit(patch, prefix)
    backbone = adapt(model, CONFIG)
    with torch.no_grad():
        found = backbone(pixels(64, 112))
    assert found.shape == (2, CONFIG.channels, 8, 14)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 8, 14))
    side = patch if isinstance(patch, int) else patch[0]
    assert model.seen == [(2, 3, 4 * side, 7 * side)]


def test_tokens_in_front_are_dropped_and_the_rest_keeps_its_place() -> None:
    model = FakeVit(16, 5)
    x = pixels(64, 96)
    with torch.no_grad():
        (found,) = adapt(model, CONFIG).trunk(x)
        expected = model.patches(x)
    torch.testing.assert_close(found, expected)


def test_a_plain_vit_is_told_to_interpolate_its_position() -> None:
    assert adapt(AskedVit(16, 1), CONFIG)(pixels(32, 64)).shape == (2, 16, 4, 8)


@pytest.mark.parametrize("size", [(64, 128), (224, 336), (48, 80)])
def test_maps_of_a_pyramid_come_to_one_aligned_grid(size) -> None:
    trunk = adapt(FakePyramid(), CONFIG).trunk
    assert trunk.channels == (3, 3, 3)
    rows, columns = size[0] // 16, size[1] // 16
    u = (torch.arange(size[1]) + 0.5).expand(1, 3, *size)
    maps = trunk(u)
    centres = (torch.arange(columns) + 0.5) * 16
    for found in maps:
        assert found.shape == (1, 3, rows, columns)
        # at the edges the coarse map has nothing to interpolate between
        torch.testing.assert_close(found[0, 0, 0, 1:-3], centres[1:-3])


def test_only_the_head_learns_where_the_model_is_frozen() -> None:
    model = FakeVit(14, 1).requires_grad_(False)
    backbone = adapt(model, CONFIG)
    backbone(pixels(32, 64)).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in backbone.head.parameters())


def refused(model: nn.Module, config: ModelConfig = CONFIG) -> str:
    with pytest.raises(BackendUnavailable) as caught:
        adapt(model, config)(pixels(64, 64))
    assert caught.value.code == "E_BACKEND"
    return str(caught.value)


def test_what_cannot_be_adapted_is_refused_with_a_way_out() -> None:
    nameless = FakeVit(16, 1)
    del nameless.config.hidden_size
    assert "config.hidden_size" in refused(nameless)
    assert "'efficientnet_lite0'" in refused(FakeVit(16, 1), ModelConfig())
    few = FakeVit(16, 1)
    few.config.patch_size = 64  # resized to 64 pixels a patch, and cut into 16
    few.patches = nn.Conv2d(3, 24, 256, 256)
    assert "a token for each of 4 x 4 patches, got 2" in refused(few)


def test_maps_of_another_shape_are_refused() -> None:
    class Cut(FakePyramid):
        def forward(self, pixel_values: Tensor) -> SimpleNamespace:
            return super().forward(pixel_values[..., :-16])

    assert "a map shaped as 4 x 4" in refused(Cut())


def test_the_name_alone_says_what_to_do() -> None:
    with pytest.raises(BackendUnavailable, match=r"featmesh\.model\.hf\.adapt"):
        build_backbone(CONFIG)
