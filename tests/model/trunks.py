"""States of the trunks under the names their public weights have."""

import re

import torch
from torch import Tensor

from featmesh.model.dinov2 import WIDTH

LINEARS = {
    "attention.output.dense": "project",
    "mlp.fc1": "expand",
    "mlp.fc2": "shrink",
    "norm1": "norm_1",
    "norm2": "norm_2",
}
LITE = {  # part of a block -> public name
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
}
STEM = {"stem.conv": "_conv_stem", "stem.norm": "_bn0"}


def published_dinov2(state: dict[str, Tensor], position: Tensor) -> dict[str, Tensor]:
    """Return a trunk's state under the public names; ``position`` is that of the class token."""
    grid = state["embed.position"].reshape(WIDTH, -1).T
    weights = {
        "embeddings.mask_token": torch.zeros(1, WIDTH),
        "embeddings.cls_token": (state["embed.token"] - position)[None, None],
        "embeddings.position_embeddings": torch.cat([position[None], grid])[None],
    }
    for last in ("weight", "bias"):
        name = "embeddings.patch_embeddings.projection"
        weights[f"{name}.{last}"] = state[f"embed.patches.{last}"]
        weights[f"layernorm.{last}"] = state[f"norm.{last}"]
        for k in range(12):
            theirs, ours = f"encoder.layer.{k}.", f"blocks.{k}."
            for a, b in LINEARS.items():
                weights[f"{theirs}{a}.{last}"] = state[f"{ours}{b}.{last}"]
            parts = state[f"{ours}qkv.{last}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                weights[f"{theirs}attention.attention.{name}.{last}"] = part
            for part in (1, 2):
                weights[f"{theirs}layer_scale{part}.lambda1"] = state[f"{ours}scale_{part}"]
    return weights


def published_lite0(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a trunk's state under the names of the Lite0 package, with what we do not need."""
    weights = {"_conv_head.weight": torch.ones(4), "_bn1.weight": torch.ones(4)}
    for name, value in state.items():
        stem, last = name.rsplit(".", 1)
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)", stem)
        theirs = f"_blocks.{block[1]}.{LITE[block[2]]}" if block else STEM[stem]
        weights[f"{theirs}.{last}"] = value
        weights[f"{theirs}.num_batches_tracked"] = torch.tensor(3)
    return weights


def published_resnet50(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a trunk's state under torchvision's names, with the classifier and the counters."""
    parts = {
        "reduce.conv": "conv1",
        "reduce.norm": "bn1",
        "spread.conv": "conv2",
        "spread.norm": "bn2",
        "widen.conv": "conv3",
        "widen.norm": "bn3",
        "skip.conv": "downsample.0",
        "skip.norm": "downsample.1",
        "stem.conv": "conv1",
        "stem.norm": "bn1",
    }
    # the number of each stage's first block
    starts = {0: 1, 3: 2, 7: 3, 13: 4}
    weights = {"fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)}
    for name, value in state.items():
        stem, last = name.rsplit(".", 1)
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)", stem)
        theirs = parts[block[2] if block else stem]
        if block:
            first = max(k for k in starts if k <= int(block[1]))
            theirs = f"layer{starts[first]}.{int(block[1]) - first}.{theirs}"
        weights[f"{theirs}.{last}"] = value
        if last == "running_var":
            weights[f"{theirs}.num_batches_tracked"] = torch.tensor(3)
    return weights
