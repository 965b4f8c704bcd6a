"""The rival of parts on the surface: a head for parts of pixels, on the same backbone and photos.

python benchmarks/part_head.py --data DATA     chooses how it is trained, on photos 241-320

The trunk stays as the bundled model has it. Each photo is varied, mirrored, recoloured and, every
second time, put behind occluders; each variant goes through the trunk once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from car_parts import (
    CLASSES,
    NAMES,
    STEPS,
    PartPhoto,
    behind,
    counts,
    first_half,
    read_parts,
    scores,
)
from common import arguments, spread
from output import save, table
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional

from featmesh import load
from featmesh.draws import generator
from featmesh.files import read_tensors, sha256_of, write_tensors_atomic
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL, Crop
from featmesh.model.backbones import Mix, PyramidHead, normalise
from featmesh.model.category import CategoryModel
from featmesh.model.config import ModelConfig
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample
from featmesh.views.occlude import LEVELS

CHOOSE, CHECK = range(1, 241), range(241, 321)  # photos to train on, and to choose on
LEARN = range(1, 321)
FINE = 64  # channels at stride 4
GRID = 2  # crop pixels per label that is trained on


@dataclass(frozen=True)
class HeadConfig:
    """How the head is trained; the values were chosen on photos 241-320."""

    variants: int = 8
    """of each photo"""
    epochs: int = 30
    """passes over the photos, one variant of each"""
    rate: float = 3e-3
    """highest learning rate"""
    warm: bool = True
    """whether it begins with the weights of the model's own head"""
    balance: float = 0.0
    """power of 1 / (pixels of a part) that its pixels weigh in the loss"""
    batch: int = 8
    decay: float = 0.02
    hidden: bool = False
    """whether it is trained to name the parts behind an occluder too"""


class PartHead(nn.Module):
    """The house's head, one level finer: maps of strides 4 to 32 -> a score of each part."""

    def __init__(self, channels: tuple[int, ...], config: ModelConfig) -> None:
        super().__init__()
        self.base = PyramidHead(channels, config)
        self.drop = nn.Dropout2d(0.1)
        self.down = nn.Conv2d(config.width, FINE, 1)
        self.side = nn.Conv2d(channels[0], FINE, 1)
        self.mix = Mix(FINE)
        self.out = nn.Conv2d(FINE, CLASSES, 1)
        self.base.out = nn.Identity()

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the scores at stride 4, (B, 19, H / 4, W / 4)."""
        x = self.down(self.drop(self.coarse(maps)))
        size = maps[0].shape[-2:]
        x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return self.out(functional.silu(self.mix(x + self.side(maps[0]))))

    def coarse(self, maps: list[Tensor]) -> Tensor:
        """Return what the house's head knows at stride 8, before its last layer."""
        # the house's head ends on unit vectors: back to the size that a group norm leaves
        return self.base(maps) * self.base.norm.num_channels**0.5


def warmed(head: PartHead, model: CategoryModel) -> None:
    """Copy the weights of the model's own head, all but its last layer."""
    own = {k: v for k, v in model.backbone.head.state_dict().items() if not k.startswith("out.")}
    head.base.load_state_dict(own)


@torch.no_grad()
def maps_of(model: CategoryModel, crops: np.ndarray) -> list[Tensor]:
    """Return the trunk's maps of crops uint8 (B, H, W, 3), fine to coarse."""
    x = normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
    multiple = model.backbone.multiple
    x = functional.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple))
    return model.backbone.eval().trunk(x.contiguous(memory_format=torch.channels_last))


def crop_of(model: CategoryModel, box: Sequence[float], fill: float = FILL) -> Crop:
    """Return the crop that the estimator would make of a photo of car_parts."""
    size = (model.config.crop_height, model.config.crop_width)
    x0, y0, x1, y1 = box
    return Crop.from_box(Camera.assumed(512, 512), (x0, y0, x1, y1), size, fill)


@dataclass(frozen=True)
class Cache:
    """Crops as the trunk sees them: half-precision maps, and labels every ``GRID`` pixels."""

    maps: list[Tensor]
    visible: Tensor
    whole: Tensor


def prepared(
    model: CategoryModel,
    photos: Sequence[PartPhoto],
    pictures: Sequence[np.ndarray],
    variants: int,
    seed: int,
) -> Cache:
    """Return ``variants`` varied crops of each photo, variant by variant."""
    rows: list[list[Tensor]] = []
    labels: list[tuple[np.ndarray, np.ndarray]] = []
    for k in range(variants):
        for first in range(0, len(photos), 8):
            made = [varied(model, p, pictures, seed, k) for p in photos[first : first + 8]]
            rows.append([m.half() for m in maps_of(model, np.stack([m[0] for m in made]))])
            labels += [(m[1], m[2]) for m in made]
    maps = [torch.cat(level) for level in zip(*rows, strict=True)]
    visible, whole = (torch.from_numpy(np.stack(kind)) for kind in zip(*labels, strict=True))
    return Cache(maps, visible, whole)


def varied(
    model: CategoryModel,
    photo: PartPhoto,
    pictures: Sequence[np.ndarray],
    seed: int,
    variant: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a crop and its labels (seen, whole): mirrored, shifted, turned, hidden, recoloured."""
    rng = generator(seed, "part_head", variant, photo.number)
    if rng.random() < 0.5:
        photo = mirrored(photo)
    if (photo.number + variant) % 2:
        level = list(LEVELS)[int(rng.integers(len(LEVELS)))]
        photo = behind([photo], level, seed + 1000 * (variant + 1), pictures)[0]
    if rng.random() < 0.5:
        photo = turned(photo, rng)
    x0, y0, x1, y1 = photo.box
    dx, dy = rng.uniform(-0.08, 0.08, 2) * (x1 - x0, y1 - y0)
    wide, high = np.exp(rng.normal(0, 0.06, 2)) * (x1 - x0, y1 - y0) / 2
    x, y = (x0 + x1) / 2 + dx, (y0 + y1) / 2 + dy
    crop = crop_of(model, (x - wide, y - high, x + wide, y + high), rng.uniform(0.65, 0.95))
    pixels, _ = resample(Photo.from_array(photo.pixels), crop)
    at = crop.pixel_map()[GRID // 2 :: GRID, GRID // 2 :: GRID].numpy()
    return recoloured(pixels, rng), looked_up(photo.visible, at), looked_up(photo.parts, at)


def mirrored(photo: PartPhoto) -> PartPhoto:
    """Return the mirror image: left parts become right ones."""
    swap = {"left": "right", "right": "left"}
    names = ["_".join(swap.get(word, word) for word in name.split("_")) for name in NAMES]
    table = np.array([0, *(NAMES.index(name) + 1 for name in names)], np.uint8)
    x0, y0, x1, y1 = photo.box
    width = photo.parts.shape[1]
    return replace(
        photo,
        pixels=np.ascontiguousarray(photo.pixels[:, ::-1]),
        parts=table[photo.parts[:, ::-1]],
        box=(width - x1, y0, width - x0, y1),
        hidden=photo.hidden[:, ::-1],
    )


def turned(photo: PartPhoto, rng: np.random.Generator) -> PartPhoto:
    """Return the photo turned by a few degrees and squeezed, about the middle of the box."""
    angle, squeeze = np.deg2rad(rng.normal(0, 4)), np.exp(rng.normal(0, 0.1))
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]) @ np.diag([squeeze, 1 / squeeze])  # result to photo
    x0, y0, x1, y1 = photo.box
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    data = np.concatenate([matrix, (middle - matrix @ middle)[:, None]], 1).reshape(-1)

    def moved(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
        image, affine = Image.fromarray(picture), Image.Transform.AFFINE
        return np.array(image.transform(image.size, affine, tuple(data), how))

    nearest = Image.Resampling.NEAREST
    return replace(
        photo,
        pixels=moved(photo.pixels, Image.Resampling.BILINEAR),
        parts=moved(photo.parts, nearest),
        hidden=moved(photo.hidden.astype(np.uint8), nearest) > 0,
    )


def recoloured(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop in another light: gain, cast, gamma, saturation, blur, noise."""
    x = pixels.astype(np.float32) / 255
    if rng.random() < 0.8:
        gain = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
        x = x * gain.astype(np.float32) + np.float32(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.5:
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * np.float32(rng.uniform(0, 1.5))
    if rng.random() < 0.4:
        x = np.clip(x, 0, 1) ** np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.3:
        noise = rng.standard_normal(x.shape, dtype=np.float32)
        x = x + np.float32(rng.uniform(0.01, 0.05)) * noise
    image = Image.fromarray((np.clip(x, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.5))))
    return np.array(image)


def looked_up(labels: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the labels at places (h, w, 2) x, y; 0 outside the picture."""
    x, y = np.floor(at[..., 0]).astype(int), np.floor(at[..., 1]).astype(int)
    ok = (x >= 0) & (y >= 0) & (x < labels.shape[1]) & (y < labels.shape[0])
    out = np.zeros(ok.shape, np.uint8)
    out[ok] = labels[y[ok], x[ok]]
    return out


def train(
    model: CategoryModel,
    cache: Cache,
    config: HeadConfig,
    seed: int,
    begin: PartHead | None = None,
) -> PartHead:
    """Return a head trained on a cache: AdamW, one cosine, cross-entropy over parts and none.

    It begins with the weights of ``begin``, or of the model's own head, or at random.
    """
    torch.manual_seed(seed)
    head = PartHead(model.backbone.trunk.channels, model.config)
    if begin is not None:
        head.load_state_dict(begin.state_dict())
    elif config.warm:
        warmed(head, model)
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    labels = cache.whole if config.hidden else cache.visible
    weights = balanced(labels, config.balance)
    count = len(labels) // config.variants
    steps = config.epochs * (count // config.batch)
    optimiser = torch.optim.AdamW(head.parameters(), config.rate, weight_decay=config.decay)
    plan = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cycle(step / steps))
    head.train()
    for epoch in range(config.epochs):
        order = generator(seed, "order", epoch).permutation(count)
        offset = generator(seed, "variant", epoch).integers(config.variants, size=count)
        for first in range(0, count - config.batch + 1, config.batch):
            some = order[first : first + config.batch]
            chosen = torch.from_numpy(some + count * offset[some])
            answer = head([m[chosen].float() for m in cache.maps])
            loss = functional.cross_entropy(grown(answer, labels), labels[chosen].long(), weights)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 5.0)
            optimiser.step()
            plan.step()
        if epoch % 5 == 4:
            print(f"  epoch {epoch + 1}/{config.epochs}: loss {loss.item():.3f}", flush=True)
    return head.eval()


def cycle(done: float) -> float:
    """Return the share of the highest learning rate: up over a twentieth, then half a cosine."""
    return min(1.0, (done + 1e-3) / 0.05) * (1 + np.cos(np.pi * done)) / 2


def grown(answer: Tensor, labels: Tensor) -> Tensor:
    """Return scores at the labels' places; what the trunk's padding added is cut."""
    answer = functional.interpolate(
        answer, scale_factor=4 // GRID, mode="bilinear", align_corners=False
    )
    return answer[..., : labels.shape[-2], : labels.shape[-1]]


def balanced(labels: Tensor, power: float) -> Tensor:
    """Return the weight of each class in the loss, 1 on average over the pixels."""
    share = torch.bincount(labels.reshape(-1).long(), minlength=CLASSES).float() / labels.numel()
    weights = share.clamp_min(1e-6) ** -power
    return weights / (weights * share).sum()


@torch.no_grad()
def answer_of(
    head: PartHead, model: CategoryModel, photo: PartPhoto, none: bool = True
) -> np.ndarray:
    """Return the likeliest part of each pixel of the photo, uint8 (512, 512), 0 off the crop.

    With ``none`` false each pixel has to be some part: what the head would name inside an object.
    """
    crop = crop_of(model, photo.box)
    pixels, _ = resample(Photo.from_array(photo.pixels), crop)
    values = head(maps_of(model, pixels[None]))
    height, width = values.shape[-2:]
    ys, xs = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in (512, 512)),
                            indexing="ij")  # fmt: skip
    rays = crop.photo_camera.unproject(torch.stack([xs, ys], -1)) @ crop.Q.T
    at, _ = crop.camera.project(rays)
    grid = (at / torch.tensor([4 * width, 4 * height]) * 2 - 1).float()
    looked = functional.grid_sample(values, grid[None], align_corners=False, padding_mode="border")
    size = torch.tensor([crop.camera.width, crop.camera.height])
    inside = ((at >= 0) & (at < size)).all(-1)
    first = 0 if none else 1
    return ((looked[0, first:].argmax(0) + first) * inside).numpy().astype(np.uint8)


def measured(
    head: PartHead, model: CategoryModel, photos: Sequence[PartPhoto], whole: bool = False
) -> dict[str, Any]:
    """Return the scores of a head on photos."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for photo in photos:
        total += counts(photo.parts if whole else photo.visible, answer_of(head, model, photo))
    return scores(total)


def write_head(path: Path, head: PartHead) -> None:
    """Write a head's weights."""
    write_tensors_atomic(path, {k: v.contiguous() for k, v in head.state_dict().items()})


def read_head(path: Path, model: CategoryModel) -> PartHead:
    """Return the head of a file."""
    head = PartHead(model.backbone.trunk.channels, model.config)
    head.load_state_dict(read_tensors(path, sha256_of(path)))
    return head.eval()


BASE = HeadConfig()
WHOLE = HeadConfig(epochs=8, rate=1e-3, hidden=True)  # from the weights of the chosen head on
SHORT = replace(BASE, epochs=12)
CANDIDATES = {
    "as chosen": BASE,
    "parts weigh more": replace(BASE, balance=0.5),
    "12 passes": SHORT,
    "12 passes, rate .001": replace(SHORT, rate=1e-3),
    "12 passes, rate .001, parts weigh more": replace(SHORT, rate=1e-3, balance=0.5),
    "12 passes, random weights at first": replace(SHORT, warm=False),
}


def main() -> None:
    args = arguments(__doc__.splitlines()[0])
    model, pictures = load(args.model), first_half(args.data)
    learn = spread(read_parts(args.data, CHOOSE), args.limit)
    check = spread(read_parts(args.data, CHECK), args.limit)
    mine = [p for k, p in enumerate(pictures) if k % 5]
    tests = {level: behind(check, level, args.seed, pictures[::5]) for level in STEPS}
    begin = time.monotonic()
    cache = prepared(model, learn, mine, BASE.variants, args.seed)
    print(f"{len(cache.visible)} crops in {time.monotonic() - begin:.0f} s", flush=True)
    results: dict[str, Any] = {}
    for name, config in CANDIDATES.items():
        begin = time.monotonic()
        head = train(model, cache, config, args.seed)
        seconds = time.monotonic() - begin
        found = {level: measured(head, model, photos) for level, photos in tests.items()}
        mean = float(np.mean([v["miou"] for v in found.values()]))
        results[name] = {"levels": found, "mean": mean, "seconds": seconds}
        print(name, f"{mean:.3f}", [f"{v['miou']:.3f}" for v in found.values()], flush=True)
    columns = ["training", *[f"mIoU {x}" for x in STEPS], *[f"accuracy {x}" for x in STEPS], "mean"]
    rows = [
        [name, *[row["levels"][x]["miou"] for x in STEPS],
         *[row["levels"][x]["accuracy"] for x in STEPS], row["mean"]]
        for name, row in results.items()
    ]  # fmt: skip
    title = "Head for parts of pixels, trained on photos 1-240 of car_parts, photos 241-320"
    save("part_head", args, model, results, [table(title, columns, rows)])


if __name__ == "__main__":
    main()
