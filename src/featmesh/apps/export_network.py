"""The network of a model without featmesh: torch.export and ONNX, ``featmesh export network``.

What is written takes photo pixels (RGB, float32, 0..255) and gives unit feature vectors at the
model's stride; normalisation is inside. Size of the pictures is fixed, number of them free.
"""

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import featmesh
from featmesh.errors import BackendUnavailable, InputError
from featmesh.files import write_bytes_atomic
from featmesh.model.backbones import Backbone
from featmesh.model.category import CategoryModel

Target = Literal["onnx", "torch"]
FACTS = "featmesh.json"  # name of the facts inside the file
NEEDED = ("onnx", "onnxscript")  # packages that PyTorch's ONNX export imports
OPSET = 18
SAME = 1e-4  # largest difference of a feature at which a written network counts as the same


class Network(nn.Module):
    """The network of whole crops: one input, one output."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        """Return unit features (b, c, h / stride, w / stride) of pixels (b, 3, h, w)."""
        return self.backbone(pixels)


def write_network(
    path: Path, model: CategoryModel, to: Target, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Write trunk and head of a model, whole or not at all, and return the facts about the file.

    Args:
        path: the file; ``.pt2`` and ``.onnx`` are the usual endings.
        model: its backbone is written.
        to: ``torch`` for ``torch.export``, ``onnx`` for ONNX.
        size: (height, width) of the pictures, pixels; default: the crop of the model.

    Raises:
        BackendUnavailable: E_BACKEND where ONNX's packages are missing, or the written network does
            not say the same as the model's.
        InputError: E_SHAPE for sides that are no multiples of the stride; E_IO.
    """
    height, width = size or (model.config.crop_height, model.config.crop_width)
    stride = model.config.stride
    if min(height, width) < stride or height % stride or width % stride:
        raise InputError(
            "E_SHAPE",
            f"export network: expected sides that are multiples of {stride}, got {height} x "
            f"{width}; try: --size {model.config.crop_height} {model.config.crop_width}",
        )
    network = Network(model.backbone).eval()
    facts: dict[str, Any] = {
        "featmesh": featmesh.__version__,
        "category": model.category,
        "model": model.hash,
        "backbone": model.config.backbone,
        "input": f"pixels: float32 [batch, 3, {height}, {width}], RGB, 0..255",
        "output": f"features: float32 [batch, {model.config.channels}, {height // stride}, "
        f"{width // stride}], unit vectors; cell j covers pixels {stride} j to {stride} j + "
        f"{stride}",
    }
    generator = torch.Generator().manual_seed(0)
    pixels = 255 * torch.rand(2, 3, height, width, generator=generator)
    data, difference = WRITERS[to](network, pixels, facts)
    if difference is not None and not difference <= SAME:
        raise BackendUnavailable(
            "E_BACKEND",
            f"export network: expected features equal to {SAME:g}, got a difference of "
            f"{difference:.2g}; try: --to {'onnx' if to == 'torch' else 'torch'}",
        )
    write_bytes_atomic(path, data)
    return {"file": str(path), "format": to, "bytes": len(data), "difference": difference} | facts


def _dynamic() -> dict[str, Any]:
    return {"pixels": {0: torch.export.Dim("batch", min=1, max=4096)}}


@torch.no_grad()
def _torch(network: nn.Module, pixels: Tensor, facts: dict[str, Any]) -> tuple[bytes, float | None]:
    """Return a ``torch.export`` archive, and how far its features are once it is read back."""
    program = torch.export.export(network, (pixels,), dynamic_shapes=_dynamic())
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that weights share memory; what is read back is compared
        torch.export.save(program, buffer, extra_files={FACTS: json.dumps(facts)})
    again = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), float((again(pixels) - network(pixels)).abs().max())


@torch.no_grad()
def _onnx(network: nn.Module, pixels: Tensor, facts: dict[str, Any]) -> tuple[bytes, float | None]:
    """Return an ONNX file; it is not run, which would need a package more."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError, OSError) as error:
            raise BackendUnavailable(
                "E_BACKEND",
                f"export network: expected the packages {' and '.join(NEEDED)}, got {error}; "
                f"try: pip install {' '.join(NEEDED)}",
            ) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision's operators
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own versions
        program: Any = torch.onnx.export(
            network,
            (pixels,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes=_dynamic(),
            input_names=["pixels"],
            output_names=["features"],
        )
    proto = program.model_proto
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, str(value)
    return proto.SerializeToString(), None


WRITERS: dict[Target, Callable[[nn.Module, Tensor, dict[str, Any]], tuple[bytes, float | None]]] = {
    "torch": _torch,
    "onnx": _onnx,
}
