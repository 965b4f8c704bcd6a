"""The gist of a crop: is the category in it, and seen from which side (ours).

Features tell surface points apart by what is around them; whether an object is seen from its front
or its back shows better from farther away. The gist only ranks poses and categories: where an
object lies, render-and-compare says. It is read off the trunk's two coarsest maps, which are there.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from featmesh.errors import CheckpointError
from featmesh.files import read_tensors, write_tensors_atomic
from featmesh.geometry.viewpoint import angles_from_rotation

from .beside import stated_file

GIST = "gist.safetensors"  # in a model folder
AZIMUTHS = 36  # bins of a turn
ELEVATIONS = (-25.0, 85.0, 12)  # centres of the first and the last bin, degrees, and their number
LEVELS = 2  # coarsest maps that are read
WIDTH = 64
PLACES = (4, 6)  # rows and columns that keep what is seen where apart
DOUBT = 0.05  # probability that it is wrong, and any view as likely


@dataclass(frozen=True)
class Gist:
    """What the whole of a crop says.

    Attributes:
        presence: logit of the category being there, against other objects and bare scenes.
        azimuth, elevation: logarithms of the probability of each bin.
    """

    presence: float
    azimuth: Float[Tensor, " a"]
    elevation: Float[Tensor, " e"]

    def log_view(self, R: Float[Tensor, "n 3 3"]) -> Float[Tensor, " n"]:
        """Return how likely views are: log probability over that of the likeliest view, <= 0.

        Args:
            R: rotations in the virtual camera of the crop.
        """
        azimuth, elevation, _ = angles_from_rotation(R.double()).unbind(-1)
        around = self._doubted(self.azimuth)
        turn = azimuth / (2 * math.pi) * AZIMUTHS - 0.5
        wrapped = torch.cat([around[-1:], around, around[:1]])
        low, high, count = ELEVATIONS
        rise = (elevation.rad2deg() - low) / (high - low) * (count - 1)
        up = self._doubted(self.elevation)
        told = _between(wrapped, turn % AZIMUTHS + 1) + _between(up, rise.clamp(0, count - 1))
        return told - around.max() - up.max()

    @staticmethod
    def _doubted(log_p: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        p = log_p.double().exp()
        return ((1 - DOUBT) * p + DOUBT / len(p)).log()


def _between(values: Float[Tensor, " k"], place: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return values at fractional indices, linearly between their neighbours."""
    low = place.floor().long().clamp(0, len(values) - 2)
    share = place - low
    return values[low] * (1 - share) + values[low + 1] * share


class GistHead(nn.Module):
    """The trunk's coarsest maps -> presence, azimuth and elevation.

    Args:
        channels: of the maps that are read, joined.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.enter = nn.Conv2d(channels, WIDTH, 1)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.drop = nn.Dropout(0.3)
        self.presence = nn.Linear(WIDTH, 1)
        places = WIDTH * PLACES[0] * PLACES[1]
        self.azimuth = nn.Linear(places, AZIMUTHS)
        self.elevation = nn.Linear(places, ELEVATIONS[2])

    def forward(self, seen: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of presence (b,), azimuth (b, a) and elevation (b, e)."""
        x = (seen - self.mean[:, None, None]) / self.spread[:, None, None]
        x = functional.relu(self.enter(self.drop(x)))
        x = functional.relu(self.mix(x) + x)
        whole = self.drop(x.mean((2, 3)))
        placed = self.drop(functional.adaptive_avg_pool2d(x, PLACES).flatten(1))
        return self.presence(whole)[:, 0], self.azimuth(placed), self.elevation(placed)

    @torch.no_grad()
    def look(self, maps: list[Tensor]) -> list[Gist]:
        """Return what is said of each picture whose maps the trunk gave."""
        if self.training:
            self.eval()
        presence, azimuth, elevation = self(coarsest(maps))
        rows = zip(presence, azimuth.log_softmax(1), elevation.log_softmax(1), strict=True)
        return [Gist(float(p), a, e) for p, a, e in rows]


def coarsest(maps: list[Tensor]) -> Float[Tensor, "b c h w"]:
    """Return the maps that are looked at, joined at the coarsest one's cells."""
    size = (maps[-1].shape[-2], maps[-1].shape[-1])
    finer = [functional.adaptive_avg_pool2d(level, size) for level in maps[-LEVELS:-1]]
    return torch.cat([maps[-1], *finer], 1)


def write_gist(head: GistHead, folder: str | Path) -> dict[str, str]:
    """Write the head into a model folder and return the ``gist`` of its ``model.json``.

    Raises:
        FeatmeshError: as :func:`featmesh.files.write_tensors_atomic`.
    """
    tensors = {k: v.half() for k, v in head.state_dict().items()}
    return {"file": GIST, "sha256": write_tensors_atomic(Path(folder) / GIST, tensors)}


def gist_of(tensors: dict[str, Tensor], folder: Path, row: Any = None) -> GistHead | None:
    """Return a model folder's gist; None where there is none.

    Args:
        tensors: of the model; those called ``gist.*`` are the head of older folders.
        folder: of the model.
        row: ``gist`` of its ``model.json``, which names the head's file.

    Raises:
        CheckpointError: E_CKPT_CONFIG for tensors that do not fit it, or as
            :func:`featmesh.model.beside.stated_file` and :func:`featmesh.files.read_tensors`.
    """
    stated = stated_file(folder, row, "gist")
    held = {k[5:]: v for k, v in tensors.items() if k.startswith("gist.")}
    own = {k: v.float() for k, v in (read_tensors(*stated) if stated else held).items()}
    if not own:
        return None
    try:
        head = GistHead(len(own["mean"]))
        head.load_state_dict(own)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            "E_CKPT_CONFIG",
            "load(): expected the tensors of a gist, got "
            f"{str(error).splitlines()[-1].strip()}; try: fetch the model folder again",
        ) from error
    return head.requires_grad_(False).eval()
