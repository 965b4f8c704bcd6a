import pytest
import torch

from featmesh.errors import BackendUnavailable, InputError
from featmesh.model.backbones import BACKBONES, Backbone, PyramidHead, build_backbone, normalise
from featmesh.model.config import ModelConfig


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return build_backbone(ModelConfig()).eval()


def pixels(*size: int) -> torch.Tensor:
    return 255 * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def test_pixels_are_normalised_as_imagenet() -> None:
    grey = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None] * 255
    white = torch.full((1, 3, 1, 1), 255.0)
    torch.testing.assert_close(normalise(grey), torch.zeros(1, 3, 1, 1), atol=1e-6, rtol=0)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(normalise(white).flatten(), torch.tensor(expected))


@pytest.mark.parametrize("size", [(64, 96), (224, 336), (96, 32)])
def test_features_are_unit_vectors_on_the_grid_of_stride_8(backbone, size) -> None:
    with torch.no_grad():
        found = backbone(pixels(*size))
    assert found.shape == (2, 64, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, size[0] // 8, size[1] // 8))


def test_a_batch_is_its_pictures_one_by_one(backbone) -> None:
    x = pixels(64, 96)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x)[1:], backbone(x[1:]), atol=1e-5, rtol=1e-4)


def test_the_same_pixels_give_the_same_features(backbone) -> None:
    with torch.no_grad():
        assert torch.equal(backbone(pixels(64, 64)), backbone(pixels(64, 64)))


@pytest.mark.parametrize("size", [(201, 336), (224, 330), (4, 8)])
def test_sides_that_would_move_the_cells_are_refused(backbone, size) -> None:
    with pytest.raises(InputError, match=f"multiples of 8, got {size[0]} x {size[1]}") as caught:
        backbone(pixels(*size))
    assert caught.value.code == "E_SHAPE"


def test_a_crop_is_the_corner_of_a_picture_continued_in_grey(backbone) -> None:
    grey = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None] * 255
    larger = grey.expand(2, 3, 64, 96).clone()
    larger[..., :56, :72] = pixels(56, 72)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pixels(56, 72)), backbone(larger)[..., :7, :9])


def test_the_gradient_reaches_every_weight_of_the_head(backbone) -> None:
    config = ModelConfig(channels=16, width=32)
    head = PyramidHead((4, 6, 8, 10), config)
    draw = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(2, c, 64 // s, 96 // s, generator=draw)
        for c, s in zip((4, 6, 8, 10), (4, 8, 16, 32), strict=True)
    ]
    found = head(maps)
    (found * torch.randn(found.shape, generator=draw)).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None and bool((weight.grad != 0).any()), name


def test_an_unknown_trunk_is_refused_with_the_choices() -> None:
    config = ModelConfig()
    object.__setattr__(config, "backbone", "resnet9000")
    with pytest.raises(BackendUnavailable) as caught:
        build_backbone(config)
    assert caught.value.code == "E_BACKEND"
    assert all(name in str(caught.value) for name in (*BACKBONES, "'resnet9000'"))
