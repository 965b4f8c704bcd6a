import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from trunks import published_dinov2

from featmesh.draws import generator
from featmesh.geometry.mesh import Mesh
from featmesh.learn.config import TrainConfig
from featmesh.learn.trainer import TrainState
from featmesh.model.backbones import Backbone, build_backbone
from featmesh.model.config import ModelConfig
from featmesh.model.dinov2 import (
    GRID,
    WIDTH,
    Block,
    DinoHead,
    DinoV2,
    Embedding,
    from_transformers_names,
    shrink_to_patches,
)

CONFIG = ModelConfig(backbone="dinov2_vits14", channels=16, width=32)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(generator(seed, "dinov2", 0, 0).normal(size=shape)).float()


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    built = build_backbone(CONFIG)
    for parameter in built.trunk.parameters():
        if parameter.dim() != 2:  # norms, scales and positions begin as zeros and ones
            nn.init.normal_(parameter, 0.3, 0.2)
    return built


def test_maps_have_the_stride_and_channels_they_state(backbone: Backbone) -> None:
    with torch.no_grad():
        maps = backbone.trunk(noise(2, 3, 64, 112))
    assert len(maps) == len(DinoV2.channels) == len(DinoV2.strides)
    for found, channels, stride in zip(maps, DinoV2.channels, DinoV2.strides, strict=True):
        assert found.shape == (2, channels, 64 // stride, 112 // stride)


@pytest.mark.parametrize("size", [(224, 336), (32, 96), (64, 48)])
def test_features_are_unit_vectors_on_the_grid_of_stride_8(backbone, size) -> None:
    with torch.no_grad():
        found = backbone(127 + 50 * noise(1, 3, *size))
    assert found.shape == (1, CONFIG.channels, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1, size[0] // 8, size[1] // 8))


def test_a_patch_sees_its_own_16_pixels_and_no_others() -> None:
    torch.manual_seed(1)
    embed = Embedding()
    x = noise(1, 3, 64, 96)
    changed = x.clone()
    changed[..., 16:32, 48:64] += noise(3, 16, 16, seed=1)
    with torch.no_grad():
        before, after = (embed(shrink_to_patches(p, 14)) for p in (x, changed))
    moved = (before - after).abs().amax((0, 2)) > 0
    assert moved[0].item() is False  # the class token
    assert moved[1:].view(4, 6).nonzero().tolist() == [[1, 3]]


def test_shrinking_keeps_a_ramp_a_ramp() -> None:
    u = (torch.arange(96) + 0.5).expand(1, 3, 32, 96)
    small = shrink_to_patches(u, 14)[0, 0, 0]
    centres = (torch.arange(84) + 0.5) * 16 / 14  # in pixels of the large picture
    torch.testing.assert_close(small[1:-1], centres[1:-1])


def test_a_patch_of_16_pixels_needs_no_shrinking() -> None:
    x = noise(1, 3, 32, 48)
    assert shrink_to_patches(x, 16) is x


def test_the_position_is_interpolated_to_any_grid() -> None:
    embed = Embedding()
    nn.init.zeros_(embed.patches.weight)
    nn.init.zeros_(embed.patches.bias)
    ramp = (torch.arange(GRID) + 0.5) / GRID
    with torch.no_grad():
        embed.position.copy_(ramp.expand(1, WIDTH, GRID, GRID))
        own = embed(torch.zeros(1, 3, 14 * GRID, 14 * GRID))[0, 1:, 0].view(GRID, GRID)
        other = embed(torch.zeros(1, 3, 14 * 5, 14 * 12))[0, 1:, 0].view(5, 12)
    assert torch.equal(own, embed.position[0, 0])
    expected = ((torch.arange(12) + 0.5) / 12).expand(5, 12)
    torch.testing.assert_close(other[:, 1:-1], expected[:, 1:-1], atol=2e-3, rtol=0)


def test_a_block_is_what_the_paper_writes() -> None:
    torch.manual_seed(2)
    block = Block().double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0.1, 0.2)
    x = noise(2, 5, WIDTH).double()

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return scaled * layer.weight + layer.bias

    q, k, v = (norm(x, block.norm_1) @ block.qkv.weight.T + block.qkv.bias).chunk(3, -1)
    heads = []
    for h in range(6):
        part = slice(64 * h, 64 * h + 64)
        share = torch.softmax(q[..., part] @ k[..., part].mT / 8, -1)
        heads.append(share @ v[..., part])
    y = x + block.scale_1 * block.project(torch.cat(heads, -1))
    inner = block.expand(norm(y, block.norm_2))
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(block(x), y + block.scale_2 * block.shrink(inner))


def test_each_cell_of_the_head_lies_in_the_middle_of_the_patches_it_reads() -> None:
    torch.manual_seed(3)
    head = DinoHead((8, 8), CONFIG)
    maps = [noise(1, 8, 5, 6), noise(1, 8, 5, 6, seed=1)]
    changed = [maps[0], maps[1].clone()]
    changed[1][..., 2, 3] += 1
    with torch.no_grad():
        moved = (head(maps) - head(changed)).abs().amax((0, 1)) > 1e-7
    # patch 2 covers cells 4 and 5; one more on either side reads it
    assert sorted(set(moved.nonzero()[:, 0].tolist())) == [3, 4, 5, 6]
    assert sorted(set(moved.nonzero()[:, 1].tolist())) == [5, 6, 7, 8]


def test_what_a_cell_says_does_not_depend_on_far_parts_of_the_map() -> None:
    torch.manual_seed(3)
    head = DinoHead((8,), CONFIG)
    x = noise(1, 8, 5, 9)
    with torch.no_grad():
        whole, part = head([x]), head([x[..., :5]])
    torch.testing.assert_close(whole[..., :9], part[..., :9])


def test_the_public_names_fill_the_whole_trunk(backbone: Backbone) -> None:
    state = backbone.trunk.state_dict()
    found = from_transformers_names(published_dinov2(state, noise(WIDTH)))
    assert found.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_a_missing_weight_is_named(backbone: Backbone) -> None:
    weights = published_dinov2(backbone.trunk.state_dict(), noise(WIDTH))
    del weights["encoder.layer.7.mlp.fc1.bias"]
    with pytest.raises(KeyError, match=r"encoder\.layer\.7\.mlp\.fc1\.bias"):
        from_transformers_names(weights)


def test_only_the_head_learns_where_the_trunk_is_frozen() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([-0.3, 0.3])] * 3).double()
    template = Mesh(corners, torch.tensor([[0, 1, 2], [1, 3, 2]]), None)
    config = TrainConfig(views=(), out="", lr_trunk=0.0, model=CONFIG)
    state = TrainState(config, template, build_backbone(CONFIG))
    state.backbone.train()
    x = 127 + 50 * noise(2, 3, 32, 64)
    assert all(m.grad_fn is None for m in state.backbone.trunk(x))
    features = state.backbone(x)
    target = functional.normalize(noise(*features.shape), dim=1)
    loss = (features * target).sum(1).mean()
    loss.backward()
    learnt = [p for group in state.optimiser.param_groups for p in group["params"]]
    assert {id(p) for p in learnt} == {id(p) for p in state.backbone.head.parameters()}
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in learnt)
    assert all(p.grad is None for p in state.backbone.trunk.parameters())
    trunk = [p.clone() for p in state.backbone.trunk.parameters()]
    state.optimiser.step()
    with torch.no_grad():
        assert float((state.backbone(x) * target).sum(1).mean()) < float(loss)
    assert all(map(torch.equal, trunk, state.backbone.trunk.parameters()))


def test_fine_tuning_can_leave_out_the_first_blocks() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([-0.3, 0.3])] * 3).double()
    template = Mesh(corners, torch.tensor([[0, 1, 2], [1, 3, 2]]), None)
    config = TrainConfig(views=(), out="", lr_trunk=1e-5, freeze_blocks=10, model=CONFIG)
    trunk = TrainState(config, template, build_backbone(CONFIG)).backbone.trunk
    learnt = {n.rsplit(".", 1)[0] for n, p in trunk.named_parameters() if p.requires_grad}
    assert {".".join(n.split(".")[:2]) for n in learnt} == {"blocks.10", "blocks.11"}
