"""From views files to batches: which sample is drawn when, and how it is cut (contracts 7)."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor

from featmesh.draws import generator
from featmesh.errors import DatasetError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import mirror_index
from featmesh.progress import track
from featmesh.views.record import View, displayed_size, read_views

from .augment import Scenery, TrainCrop, draw_crop
from .config import STILL, TrainConfig
from .correspondence import Sample, sample_of
from .surface_points import SurfacePoints, surface_points

AZIMUTH_BINS = 24  # views are drawn evenly over them
SMALL, STRIDE = 2 / 3, 32  # small crops against whole ones, and what their sides are multiples of
MOST_BROKEN = 0.01  # of a views file's photos; with more the file is refused


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes:
        pixels: 0..255.
        points: where features are read, in [-1, 1] of the crop, x then y.
        anchor: which anchor each point shows.
        background: cells that do not show the object.
        surface: for a UV map, which surface point each point shows; ``anchor`` is the nearest one.
        maps: what a frozen trunk says of the pixels; none: it is to be asked.
    """

    pixels: Float[Tensor, "b 3 h w"]
    points: tuple[Float[Tensor, "_ 2"], ...]
    anchor: tuple[Int[Tensor, " _"], ...]
    background: Bool[Tensor, "b p q"]
    surface: tuple[SurfacePoints, ...] | None = None
    maps: tuple[Float[Tensor, "b _ _ _"], ...] | None = None


@dataclass(frozen=True)
class TrainData:
    """Samples to train on, grouped by file, and those kept out for the inner validation."""

    groups: tuple[tuple[Sample, ...], ...]
    weights: tuple[Float[np.ndarray, " _"], ...]
    held_out: tuple[Sample, ...]
    scenery: Scenery
    faces: Int[np.ndarray, "f 3"]


def load_data(config: TrainConfig, template: Mesh) -> TrainData:
    """Return the samples of all views files, split by model name (contracts 6).

    Raises:
        DatasetError: E_VIEWS for a bad record; E_DATA where nothing is left to train on, or more
            than 1 % of the photos cannot be opened.
    """
    groups, held_out, shapes = [], [], _shapes(config, template)
    for file in config.views:
        views = [v for v in read_views(file) if v.category == config.category and v.R is not None]
        views = [v for v in views if v.K is not None or v.distance is not None]
        views = _with_photos(file, [v for v in views if v.image_name not in config.exclude])
        kept_out = held_out_names(views, config)
        samples = [
            sample_of(v, template, shapes) for v in track(views, len(views), f"views {file}")
        ]
        held_out += [s for s in samples if s.name in kept_out]
        groups.append(tuple(s for s in samples if s.name not in kept_out))
    if not any(groups):
        raise DatasetError(
            "E_DATA",
            f"train: expected views of {config.category!r} with R and K or distance, got "
            "none; try: check the category of the records",
        )
    groups = [g for g in groups if g]
    pictures = _pictures(config, groups)
    scenery = Scenery(pictures, mirror_index(template).numpy())
    order = generator(config.seed, "validation").permutation(len(held_out))
    held_out = [held_out[i] for i in order[: config.validation_views]]
    return TrainData(
        tuple(groups),
        tuple(_even_weights(g) for g in groups),
        tuple(held_out),
        scenery,
        template.faces.numpy(),
    )


def _shapes(config: TrainConfig, template: Mesh) -> dict[str, np.ndarray]:
    """Return the known shapes by model name."""
    if not config.shapes:
        return {}
    shapes = {k: v.astype(np.float64) for k, v in load_file(config.shapes).items()}
    wrong = [k for k, v in shapes.items() if v.shape != tuple(template.vertices.shape)]
    if wrong:
        raise DatasetError(
            "E_DATA",
            f"train: expected shapes of {len(template.vertices)} vertices in {config.shapes}, got "
            f"{shapes[wrong[0]].shape} for {wrong[0]!r}; try: register them to this template",
        )
    return shapes


def _with_photos(file: str, views: Sequence[View]) -> list[View]:
    """Return the views whose photos are there and begin as photos do; tell of the others."""
    opens = {path: displayed_size(path) is not None for path in {v.image for v in views}}
    bad = [v for v in views if not opens[v.image]]
    if len(bad) > MOST_BROKEN * len(views):
        raise DatasetError(
            "E_DATA",
            f"train: expected the photos of {file}, got {len(bad)} of {len(views)} missing or "
            f"unreadable, first {bad[0].image}; try: put them beside the views file",
        )
    if bad:
        names = ", ".join(sorted({str(v.image_name) for v in bad}))
        sys.stderr.write(f"views {file}: {len(bad)} of {len(views)} left out, no photo: {names}\n")
    return [v for v in views if opens[v.image]]


def held_out_names(views: Sequence[View], config: TrainConfig) -> set[str]:
    """Return the model names that are not trained on: the inner validation (contracts 6)."""
    names = sorted({v.model_name for v in views if v.model_name})
    if len(names) <= 2 * config.validation_models:
        return set()
    drawn = generator(config.seed, "held-out").permutation(len(names))[: config.validation_models]
    return {names[i] for i in drawn}


def _even_weights(samples: Sequence[Sample]) -> Float[np.ndarray, " _"]:
    """Return drawing probabilities that make azimuth uniform, rare bins at most 5 times."""
    turn = np.array([s.azimuth for s in samples]) / (2 * np.pi) * AZIMUTH_BINS
    bins = np.floor(turn).astype(int) % AZIMUTH_BINS
    count = np.bincount(bins, minlength=AZIMUTH_BINS)
    # a mirrored view belongs to the mirrored bin: both count
    count = count + count[::-1]
    weight = 1 / np.maximum(count[bins], count.max() / 5)
    return weight / weight.sum()


def _pictures(config: TrainConfig, groups: Sequence[Sequence[Sample]]) -> tuple[np.ndarray, ...]:
    """Return pictures for context and occluders; without a folder, blurred views stand in."""
    if config.backgrounds:
        files = sorted(Path(config.backgrounds).glob("*.[jp][pn]g"))
        files = files[: int(len(files) * config.background_share)]
        files = [f for f in files if f.name not in config.background_exclude]
        if not files:
            raise DatasetError(
                "E_DATA",
                f"train: expected pictures in {config.backgrounds}, got none; "
                "try: --backgrounds FOLDER with .jpg or .png files",
            )
        return tuple(np.asarray(Image.open(f).convert("RGB")) for f in files)
    files = [s.image for s in groups[0][:: max(1, len(groups[0]) // 200)]]
    small = [Image.open(f).convert("RGB").resize((24, 16), Image.Resampling.BOX) for f in files]
    return tuple(np.asarray(s.resize((192, 128), Image.Resampling.BICUBIC)) for s in small)


def draw_batch(
    data: TrainData, config: TrainConfig, step: int, share: range | None = None
) -> Batch:
    """Return the batch of a step, whatever was drawn before; of ``share`` its crops alone."""
    share, config = range(config.batch) if share is None else share, at_step(config, step)
    drawn = [generator(config.seed, "train", step, k) for k in share]
    return collate(draw_crops(data, config, drawn, share.start), data, config, drawn)


def at_step(config: TrainConfig, step: int) -> TrainConfig:
    """Return the settings with the size of the crops that a step sees."""
    if step >= config.small * config.steps:
        return config
    model = config.model
    height, width = (
        max(STRIDE, round(side * SMALL / STRIDE) * STRIDE)
        for side in (model.crop_height, model.crop_width)
    )
    return replace(config, model=replace(model, crop_height=height, crop_width=width))


def draw_crops(
    data: TrainData, config: TrainConfig, drawn: Sequence[np.random.Generator], first: int = 0
) -> list[TrainCrop]:
    """Return a crop for each generator, of the views files in turn; ``first`` is its number."""
    size, crops = (config.model.crop_height, config.model.crop_width), []
    for k, rng in enumerate(drawn, first):
        g = k % len(data.groups)
        sample = data.groups[g][rng.choice(len(data.groups[g]), p=data.weights[g])]
        crops.append(draw_crop(sample, size, data.scenery, config.augment, rng))
    return crops


def collate(
    crops: Sequence[TrainCrop],
    data: TrainData,
    config: TrainConfig,
    drawn: Sequence[np.random.Generator],
) -> Batch:
    """Return crops as a batch; each one's generator draws which of its visible anchors enter."""
    size = (config.model.crop_height, config.model.crop_width)
    count = config.anchors_per_view
    if config.model.texture == "uv":
        surface = [
            surface_points(c.anchors, c.visible, data.faces, count, rng)
            for c, rng in zip(crops, drawn, strict=True)
        ]
        return _collate_surface(crops, surface, data.faces, size)
    chosen = [
        np.sort(rng.permutation(np.flatnonzero(c.visible))[:count])
        for c, rng in zip(crops, drawn, strict=True)
    ]
    return _collate(list(zip(crops, chosen, strict=True)), size)


def with_background(batch: Batch, count: int) -> Batch:
    """Return a batch without pixels, behind whose crops ``count`` stand that are all background."""
    more = torch.ones((count, *batch.background.shape[1:]), dtype=torch.bool)
    background = torch.cat([batch.background, more])
    return replace(
        batch, pixels=batch.pixels.new_zeros((len(background), 3, 0, 0)), background=background
    )


def validation_batch(data: TrainData, config: TrainConfig, first: int) -> Batch:
    """Return up to a batch of unvaried crops of the views kept out."""
    size = (config.model.crop_height, config.model.crop_width)
    crops = []
    for k, sample in enumerate(data.held_out[first : first + config.batch]):
        rng = generator(config.seed, "validate", 0, first + k)
        crop = draw_crop(sample, size, data.scenery, STILL, rng)
        crops.append((crop, np.flatnonzero(crop.visible)))
    return _collate(crops, size)


def _collate_surface(
    crops: Sequence[TrainCrop],
    surface: list[SurfacePoints],
    faces: np.ndarray,
    size: tuple[int, int],
) -> Batch:
    still = _collate([(crop, np.zeros(0, dtype=np.int64)) for crop in crops], size)
    scale = torch.tensor([2 / size[1], 2 / size[0]])
    return replace(
        still,
        points=tuple((s.pixels * scale - 1).float() for s in surface),
        anchor=tuple(s.nearest_vertex(torch.from_numpy(faces)) for s in surface),
        surface=tuple(surface),
    )


def _collate(crops: list, size: tuple[int, int]) -> Batch:
    pixels = torch.from_numpy(np.stack([c.pixels for c, _ in crops]))
    scale = np.array([2 / size[1], 2 / size[0]], dtype=np.float32)
    return Batch(
        pixels.permute(0, 3, 1, 2).float(),
        tuple(torch.from_numpy(c.anchors[a] * scale - 1).float() for c, a in crops),
        tuple(torch.from_numpy(a.astype(np.int64)) for _, a in crops),
        torch.from_numpy(np.stack([c.background for c, _ in crops])),
    )
