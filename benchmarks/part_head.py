"""The rival of parts on the surface: a head for parts of pixels, on the same backbone and photos.

The same head is the evidence that the labels of the surface are joined with: network and training
are featmesh.model.part_evidence and featmesh.learn.evidence_training.

python benchmarks/part_head.py --data DATA     chooses how it is trained, on photos 241-320

The trunk stays as the bundled model has it. Each photo is varied, mirrored, recoloured and, every
second time, put behind occluders; each variant goes through the trunk once.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
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
from torch.nn import functional

from featmesh import load
from featmesh.files import read_tensors, write_tensors_atomic
from featmesh.learn.evidence_training import Cache, train
from featmesh.learn.evidence_training import prepared as prepared_for
from featmesh.learn.part_variants import crop_of
from featmesh.learn.part_votes import mirrored_names
from featmesh.learn.parts_config import EvidenceConfig
from featmesh.model.category import CategoryModel
from featmesh.model.part_evidence import STRIDE, PartHead, head_for, trunk_maps
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample

CHOOSE, CHECK = range(1, 241), range(241, 321)  # photos to train on, and to choose on
LEARN = range(1, 321)
MIRROR = mirrored_names(NAMES)


def prepared(
    model: CategoryModel,
    photos: Sequence[PartPhoto],
    pictures: Sequence[np.ndarray],
    variants: int,
    seed: int,
) -> Cache:
    """Return ``variants`` varied crops of each photo, as the trunk sees them."""
    return prepared_for(model, photos, MIRROR, pictures, variants, seed)


@torch.no_grad()
def answer_of(
    head: PartHead, model: CategoryModel, photo: PartPhoto, none: bool = True
) -> np.ndarray:
    """Return the likeliest part of each pixel of the photo, uint8 (512, 512), 0 off the crop.

    With ``none`` false each pixel has to be some part: what the head would name inside an object.
    """
    size = (model.config.crop_height, model.config.crop_width)
    crop = crop_of(photo, photo.box, size)
    pixels, _ = resample(Photo.from_array(photo.pixels), crop)
    values = head(trunk_maps(model.backbone, pixels[None]))
    height, width = values.shape[-2:]
    ys, xs = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in (512, 512)),
                            indexing="ij")  # fmt: skip
    rays = crop.photo_camera.unproject(torch.stack([xs, ys], -1)) @ crop.Q.T
    at, _ = crop.camera.project(rays)
    grid = (at / torch.tensor([STRIDE * width, STRIDE * height]) * 2 - 1).float()
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
    head = head_for(model.backbone, model.config, CLASSES)
    head.load_state_dict(read_tensors(path))
    return head.eval()


BASE = EvidenceConfig()
WHOLE = EvidenceConfig(epochs=8, rate=1e-3, hidden=True)  # from the weights of the chosen head on
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
        head = train(model, cache, CLASSES, config, args.seed)
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
