"""Training on a frozen trunk: crops are drawn once, go through it once and are learnt from often.

``RUN/crops/part-NNN.safetensors`` keeps what the trunk says of CHUNK crops each; parts that are
there are not drawn again, so that a run that was killed goes on (ours).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from featmesh.draws import generator
from featmesh.errors import DatasetError, InputError
from featmesh.files import read_tensors, write_tensors_atomic
from featmesh.model.backbones import Backbone
from featmesh.progress import track

from .augment import TrainCrop
from .config import TrainConfig
from .data import Batch, TrainData, collate, draw_crops, with_background

FOLDER = "crops"
CHUNK = 64  # crops of one file
OTHERS = 64  # crops taken of each other category


@dataclass(frozen=True, eq=False)
class FrozenCrops:
    """What a frozen trunk says of crops, and where their anchors lie.

    Attributes:
        maps: the trunk's feature maps, half precision, one tensor a level.
        anchors, visible, background: as in :class:`TrainCrop`, of all crops.
    """

    maps: tuple[Float[Tensor, "n _ _ _"], ...]
    anchors: Float32[np.ndarray, "n v 2"]
    visible: Bool[np.ndarray, "n v"]
    background: Bool[np.ndarray, "n p q"]

    def __len__(self) -> int:
        return len(self.anchors)

    def crop(self, k: int) -> TrainCrop:
        """Return a crop without its pixels."""
        return TrainCrop(NO_PIXELS, self.anchors[k], self.visible[k], self.background[k])


NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class FrozenDraw:
    """Draws batches out of crops that have gone through the trunk.

    Attributes:
        own: crops of the category.
        others: the trunk's maps of crops of other categories; None without any.
    """

    own: FrozenCrops
    others: tuple[Float[Tensor, "m _ _ _"], ...] | None = None

    def __call__(self, data: TrainData, config: TrainConfig, step: int) -> Batch:
        """Return the batch of a step: each own crop once a pass, then some of others."""
        foreign = round(config.others_share * config.batch) if self.others else 0
        count = config.batch - foreign
        drawn = [generator(config.seed, "frozen", step, k) for k in range(count)]
        first = step * count
        chosen = [_nth(config.seed, len(self.own), n) for n in range(first, first + count)]
        batch = collate([self.own.crop(k) for k in chosen], data, config, drawn)
        maps = tuple(level[chosen] for level in self.own.maps)
        if not self.others or not foreign:
            return replace(batch, maps=maps)
        rng = generator(config.seed, "others", step)
        which = rng.integers(len(self.others[0]), size=foreign)
        maps = tuple(torch.cat([a, b[which]]) for a, b in zip(maps, self.others, strict=True))
        return replace(with_background(batch, foreign), maps=maps)


def _nth(seed: int, count: int, n: int) -> int:
    """Return the crop of draw ``n``: each pass has an order of its own."""
    return int(_order(seed, count, n // count)[n % count])


@lru_cache(maxsize=4)
def _order(seed: int, count: int, turn: int) -> Int[np.ndarray, " n"]:
    return generator(seed, "frozen order", turn).permutation(count)


@torch.no_grad()
def frozen_draw(config: TrainConfig, data: TrainData, backbone: Backbone) -> FrozenDraw:
    """Return the run's crops, drawn and put through the trunk where that is not done yet.

    Raises:
        InputError: E_CONFIG where the trunk is to be trained.
        DatasetError: E_DATA where a folder of others' crops holds none.
    """
    if config.lr_trunk > 0:
        raise InputError(
            "E_CONFIG",
            f"train: expected a frozen trunk for crops that go through it once, got lr_trunk "
            f"{config.lr_trunk}; try: --lr-trunk 0, or --crops 0",
        )
    folder = Path(config.out) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    backbone.eval()
    parts = -(-config.crops // CHUNK)
    for part in track(range(parts), parts, f"{CHUNK} crops through the trunk"):
        path = folder / _name(part)
        if not path.is_file():
            write_tensors_atomic(path, _part(config, data, backbone, part))
    others = [_some(Path(o)) for o in config.others]
    joined = tuple(torch.cat(level) for level in zip(*others, strict=True)) if others else None
    return FrozenDraw(_read([folder / _name(part) for part in range(parts)]), joined)


def _name(part: int) -> str:
    return f"part-{part:03d}.safetensors"


def _part(config: TrainConfig, data: TrainData, backbone: Backbone, part: int) -> dict[str, Tensor]:
    """Return what is kept of CHUNK crops."""
    drawn = [generator(config.seed, "train", part, k) for k in range(CHUNK)]
    crops = draw_crops(data, config, drawn)
    maps = []
    for first in range(0, CHUNK, config.batch):
        pixels = np.stack([c.pixels for c in crops[first : first + config.batch]])
        maps.append(backbone.maps(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()))
    levels = zip(*maps, strict=True)
    found = {f"map.{k}": torch.cat(level).half() for k, level in enumerate(levels)}
    for name in ("anchors", "visible", "background"):
        found[name] = torch.from_numpy(np.stack([getattr(c, name) for c in crops]))
    return found


def _read(files: Sequence[Path]) -> FrozenCrops:
    """Return the crops of files."""
    parts = [read_tensors(path) for path in files]
    joined = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
    levels = sorted(name for name in joined if name.startswith("map."))
    anchors, visible, background = (
        joined[name].numpy() for name in ("anchors", "visible", "background")
    )
    return FrozenCrops(tuple(joined[k] for k in levels), anchors, visible, background)


def _some(folder: Path) -> tuple[Tensor, ...]:
    """Return the maps of the first OTHERS crops of a folder.

    Raises:
        DatasetError: E_DATA where it holds none.
    """
    files = sorted(folder.glob("part-*.safetensors"))[: -(-OTHERS // CHUNK)]
    if not files:
        raise DatasetError(
            "E_DATA",
            f"train: expected part-NNN.safetensors in {folder}, got none; try: the crops folder "
            "of a run on the same trunk",
        )
    return tuple(level[:OTHERS] for level in _read(files).maps)
