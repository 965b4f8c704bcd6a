"""What the pixels themselves say of parts: a head on the trunk's maps, beside the surface's labels.

It knows edges that the template has not, but neither the object's pose nor what an occluder hides;
:mod:`featmesh.inference.part_fusion` joins it with the labels drawn where the estimate says (ours).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from featmesh.errors import CheckpointError
from featmesh.files import read_tensors, write_tensors_atomic

from .backbones import Backbone, Mix, PyramidHead, normalise
from .beside import stated_file
from .config import ModelConfig

EVIDENCE = "evidence.safetensors"  # in a model folder
FINE = 64  # channels at stride 4
STRIDE = 4  # pixels per score


class PartHead(nn.Module):
    """The house's head, one level finer: maps of strides 4 to 32 -> a score of each part.

    Args:
        channels: of the trunk's maps, fine to coarse.
        config: the model's; its width is used.
        classes: parts and none.
    """

    def __init__(self, channels: tuple[int, ...], config: ModelConfig, classes: int) -> None:
        super().__init__()
        self.base = PyramidHead(channels, config)
        self.drop = nn.Dropout2d(0.1)
        self.down = nn.Conv2d(config.width, FINE, 1)
        self.side = nn.Conv2d(channels[0], FINE, 1)
        self.mix = Mix(FINE)
        self.out = nn.Conv2d(FINE, classes, 1)
        self.base.out = nn.Identity()  # type: ignore[assignment]

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "b n1 h w"]:
        """Return the scores at stride 4; column 0 is no part."""
        # the house's head ends on unit vectors: back to the size that a group norm leaves
        coarse = self.base(maps) * self.base.norm.num_channels**0.5
        x = self.down(self.drop(coarse))
        size = maps[0].shape[-2:]
        x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return self.out(functional.silu(self.mix(x + self.side(maps[0]))))


@torch.no_grad()
def trunk_maps(backbone: Backbone, pixels: UInt8[np.ndarray, "b h w 3"]) -> list[Tensor]:
    """Return the trunk's maps of pictures, fine to coarse, continued to its multiple in grey."""
    x = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    more = (0, -x.shape[3] % backbone.multiple, 0, -x.shape[2] % backbone.multiple)
    x = functional.pad(x, more).contiguous(memory_format=torch.channels_last)
    return backbone.eval().trunk(x)


def head_for(backbone: Backbone, config: ModelConfig, classes: int) -> PartHead:
    """Return an untrained head for a model's network.

    Raises:
        CheckpointError: E_CKPT_PART for a network without a pyramid of maps.
    """
    if not isinstance(getattr(backbone, "head", None), PyramidHead):
        raise CheckpointError(
            "E_CKPT_PART",
            "part evidence: expected a network with maps of strides 4 to 32, got "
            f"{config.backbone!r}; try: the labels of the surface alone",
        )
    head = PartHead(backbone.trunk.channels, config, classes)  # type: ignore[arg-type]
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return head


class PartEvidence:
    """A trained head and how often it saw each part; a file's is read when it is first asked.

    Args:
        source: its tensors, or a file and its SHA-256.
    """

    def __init__(self, source: dict[str, Tensor] | tuple[Path, str]) -> None:
        self._source = source
        self._head: PartHead | None = None

    @classmethod
    def of(
        cls,
        head: PartHead,
        frequency: Float[Tensor, " n1"],
        backbone: Backbone,
    ) -> "PartEvidence":
        """Return the evidence of a head trained on a network's maps.

        Args:
            head: the head.
            frequency: share of the pixels it learned from that show each part; column 0 is none.
            backbone: whose maps it reads.
        """
        held = {k: v.detach().clone() for k, v in head.state_dict().items()}
        tensors = {f"head.{k}": v.half() if v.dim() > 1 else v for k, v in held.items()}
        return cls({**tensors, "frequency": frequency.float(), "trunk": _trunk_key(backbone)})

    @classmethod
    def stated(cls, folder: Path, row: Any) -> "PartEvidence | None":
        """Return the evidence that a JSON file of a folder names, None where it names none.

        Raises:
            CheckpointError: E_CKPT_FORMAT or E_CKPT_PATH for what names no file, E_CKPT_MISSING.
        """
        stated = stated_file(folder, row, "evidence")
        return None if stated is None else cls(stated)

    def write(self, path: Path) -> dict[str, str]:
        """Write the file and return what names it; errors as in ``write_tensors_atomic``."""
        return {"file": path.name, "sha256": write_tensors_atomic(path, self.tensors)}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the file holds; errors as in :func:`featmesh.files.read_tensors`."""
        if not isinstance(self._source, dict):
            self._source = read_tensors(*self._source)
        return self._source

    @property
    def frequency(self) -> Float[Tensor, " n1"]:
        """Share of the pixels learned from that show each part; column 0 is no part."""
        return self.tensors["frequency"]

    @torch.no_grad()
    def log_shares(
        self, backbone: Backbone, pixels: UInt8[np.ndarray, "h w 3"], maps: Sequence[Tensor] = ()
    ) -> Float[Tensor, "n1 p q"]:
        """Return the logarithm of each part's probability at stride 4; column 0 is no part.

        Args:
            backbone: the one the head was trained on.
            pixels: of a picture.
            maps: the trunk's of these pixels, where the caller has them.

        Raises:
            CheckpointError: E_CKPT_CONFIG where the head was trained on another network.
        """
        if self._head is None:
            self._head = self._filled(backbone)
        scores = self._head(list(maps) or trunk_maps(backbone, pixels[None]))[0]
        height, width = -(-pixels.shape[0] // STRIDE), -(-pixels.shape[1] // STRIDE)
        return functional.log_softmax(scores[:, :height, :width], 0)

    def _filled(self, backbone: Backbone) -> PartHead:
        held = self.tensors
        try:
            width, classes = len(held["head.base.norm.weight"]), len(held["frequency"])
            head = head_for(backbone, ModelConfig(width=width), classes)
            head.load_state_dict(
                {k[5:]: v.float() for k, v in held.items() if k.startswith("head.")}
            )
            same = torch.equal(held["trunk"], _trunk_key(backbone))
        except (KeyError, RuntimeError) as error:  # parts or shapes that do not fit
            raise unfit(str(error).splitlines()[-1].strip()) from error
        if not same:
            raise unfit("evidence of another one")
        return head.requires_grad_(False).eval()


def _trunk_key(backbone: Backbone) -> UInt8[Tensor, " 8"]:
    """Return what tells trunks apart, the same before and after one is stored."""
    found = hashlib.sha256()
    for value in backbone.trunk.state_dict().values():
        if value.dim() > 1:  # matrices are stored in half precision
            found.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    return torch.tensor(list(found.digest()[:8]), dtype=torch.uint8)


def unfit(got: str) -> CheckpointError:
    """Return the error for evidence that does not fit its model."""
    return CheckpointError(
        "E_CKPT_CONFIG",
        f"part evidence: expected evidence that fits the model's network, got {got}; "
        "try: featmesh label-parts --evidence",
    )
