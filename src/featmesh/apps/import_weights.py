"""A foreign PyTorch checkpoint as a trunk that ``featmesh train --trunk`` takes; runs none of it.

Knows the names of NeMo's two releases (``Angtian/NeMo``, ``wufeim/NeMo``; there torchvision's
``layer1`` is ``module.net.extractor.4``, ...), of torchvision's ResNet-50 and of the packages that
:mod:`featmesh.model.weights` reads, behind any of the usual wrappers. Only the trunk is taken: what
else there is (head, memory bank, clutter, classifier) is told and stays behind.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featmesh.files import broken, tensor_bytes, write_bytes_atomic
from featmesh.model.dinov2 import DinoV2, from_transformers_names
from featmesh.model.efficientnet import EfficientNetLite0, from_lite_package, frozen_statistics
from featmesh.model.foreign import read_foreign
from featmesh.model.resnet import ResNet50, from_torchvision_names

WRAPPERS = r"(?:state|state_dict|model|model_state|module|net|network|backbone|trunk|dinov2)\."
# NeMo puts the layers of torchvision's ResNet-50 into sequences of its own
NEMO = {
    r"^(?:extractor\.)?0\.": "conv1.",
    r"^(?:extractor\.)?1\.": "bn1.",
    r"^(?:extractor\.)?4\.": "layer1.",
    r"^(?:extractor\.5|extractor0|5)\.": "layer2.",
    r"^(?:extractor\.6|extractor1|6)\.": "layer3.",
    r"^(?:extractor\.7|extractor2|7)\.": "layer4.",
}
BANK = re.compile(r"(?:^|[._])(?:memory|bank|clutter)(?:$|[._])")
TRUNKS: dict[str, tuple[type[nn.Module], Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
    "resnet50": (ResNet50, from_torchvision_names),
    "efficientnet_lite0": (EfficientNetLite0, from_lite_package),
    "dinov2_vits14": (DinoV2, from_transformers_names),
}


@dataclass(frozen=True, eq=False)
class Imported:
    """What was found in a checkpoint.

    Attributes:
        backbone: name of the trunk it fits.
        trunk: its weights in our names, float32.
        used: how many of the file's tensors these are.
        left: how many tensors stay behind, by the first part of their names.
        banks: shapes of what is called memory, bank or clutter, by name.
    """

    backbone: str
    trunk: dict[str, Tensor]
    used: int
    left: dict[str, int]
    banks: dict[str, list[int]]


def public_name(name: str) -> str:
    """Return a tensor's name without wrappers, in torchvision's names where NeMo has its own."""
    bare = re.sub(rf"^(?:{WRAPPERS})+", "", name)
    for pattern, layer in NEMO.items():
        plain, hits = re.subn(pattern, layer, bare)
        if hits:
            return plain
    return bare


def recognise(path: Path, tensors: dict[str, Tensor]) -> Imported:
    """Return the trunk among the tensors of a checkpoint, and what stays behind.

    Args:
        path: named in errors.
        tensors: of :func:`featmesh.model.foreign.read_foreign`.

    Raises:
        CheckpointError: E_CKPT_FORMAT where no trunk is whole, naming the nearest one and what it
            lacks; E_CKPT_NONFINITE.
    """
    public: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in tensors.items():
        plain = public_name(name)
        if plain not in public:  # the first of several copies (a running average, say)
            public[plain], origin[plain] = tensor, name
    near = []
    for backbone, (network, renamed) in TRUNKS.items():
        state, wrong, count = _fitted(network, renamed, public)
        if not wrong:
            return _imported(backbone, state, tensors)
        near.append((len(wrong) / count, backbone, wrong))
    share, backbone, wrong = min(near)
    got = f"{share:.0%} of {backbone}'s missing or of another shape, first {wrong[0]}"
    if share == 1:
        got = f"none of them ({', '.join(sorted(tensors)[:3])}, ...)"
    raise broken(
        "FORMAT", path, f"the weights of {', '.join(TRUNKS)}", got, "a checkpoint of one of these"
    )


def _fitted(
    network: type[nn.Module],
    renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    public: dict[str, Tensor],
) -> tuple[dict[str, Tensor], list[str], int]:
    """Return a trunk's state, the names that do not fit, and how many there should be."""
    with torch.device("meta"):
        expected = frozen_statistics(network().state_dict())
    try:
        state = frozen_statistics(renamed(public))
    except (KeyError, IndexError, RuntimeError):  # a name or a shape these weights always have
        state = {}
    wrong = [k for k, v in expected.items() if k not in state or state[k].shape != v.shape]
    return state, wrong, len(expected)


def _imported(backbone: str, state: dict[str, Tensor], tensors: dict[str, Tensor]) -> Imported:
    banks = {name: list(t.shape) for name, t in tensors.items() if BANK.search(name)}
    left: dict[str, int] = {}
    _, renamed = TRUNKS[backbone]
    used = 0
    for name, tensor in tensors.items():
        if name in banks or name.endswith("num_batches_tracked"):
            continue
        try:
            taken = bool(renamed({public_name(name): tensor}))
        except KeyError:  # DINOv2's are renamed together or not at all
            taken = True
        if taken:
            used += 1
        else:
            first = re.sub(rf"^(?:{WRAPPERS})+", "", name).partition(".")[0]
            left[first] = left.get(first, 0) + 1
    return Imported(backbone, {k: v.float() for k, v in state.items()}, used, left, banks)


def import_weights(source: Path, out: Path) -> dict[str, Any]:
    """Write ``<backbone>-<hash>.safetensors`` and ``import.json`` and return what the latter says.

    Args:
        source: the checkpoint.
        out: folder, made where it is missing.

    Raises:
        CheckpointError: see :func:`featmesh.model.foreign.read_foreign` and :func:`recognise`.
        InputError: E_IO.
    """
    tensors = read_foreign(source)
    found = recognise(source, tensors)
    data = tensor_bytes(found.trunk, source)
    digest = hashlib.sha256(data).hexdigest()
    file = out / f"{found.backbone}-{digest[:8]}.safetensors"
    write_bytes_atomic(file, data)
    facts: dict[str, Any] = {
        "source": source.name,
        "backbone": found.backbone,
        "file": file.name,
        "sha256": digest,
        "tensors": len(tensors),
        "taken": found.used,
        "numbers": sum(t.numel() for t in found.trunk.values()),
        "left": found.left,
        "banks": found.banks,
    }
    text = json.dumps(facts, indent=1) + "\n"
    write_bytes_atomic(out / "import.json", text.encode())
    return facts
