"""A head that names parts in pixels, trained on annotated photos; the trunk stays as it is (ours).

Each photo is varied, and each variant goes through the trunk once: what is trained is small, and
takes minutes on a CPU. It begins with the weights of the model's own head.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from featmesh.draws import generator
from featmesh.errors import DatasetError, FeatmeshError
from featmesh.model.category import CategoryModel
from featmesh.model.part_evidence import STRIDE, PartEvidence, PartHead, head_for, trunk_maps
from featmesh.photo.read import read_photo
from featmesh.progress import Stream, track
from featmesh.views.part_photos import PartPhoto

from .part_variants import GRID, PixelParts, varied
from .part_votes import mirrored_names
from .parts_config import EvidenceConfig

Pictures = Sequence[UInt8[np.ndarray, "_ _ 3"]]


@dataclass(frozen=True, eq=False)
class Cache:
    """Variants as the trunk sees them, those of a photo together, and the labels of each.

    Attributes:
        maps: of the trunk, fine to coarse, half precision.
        visible: parts that are seen, every ``GRID`` pixels of the crop.
        whole: parts behind an occluder too.
        variants: of each photo.
    """

    maps: list[Tensor]
    visible: UInt8[Tensor, "n p q"]
    whole: UInt8[Tensor, "n p q"]
    variants: int

    def shares(self, classes: int) -> Float[Tensor, " n1"]:
        """Return how frequent each part is among the pixels, column 0 none."""
        count = torch.bincount(self.visible.reshape(-1).long(), minlength=classes)
        return count.double() / self.visible.numel()


def learn_evidence(
    model: CategoryModel,
    photos: Sequence[PartPhoto],
    config: EvidenceConfig | None = None,
    occluders: Pictures = (),
    seed: int = 0,
    stream: Stream | None = None,
) -> PartEvidence:
    """Return evidence of the parts of annotated photos; a photo that cannot be read is left out.

    Args:
        model: its network's trunk is used, unchanged.
        photos: all with the same names.
        config: of the training.
        occluders: pictures without the object, to hide parts behind; none: grey noise.
        seed: of variants and order.
        stream: where progress is shown; default is the standard error output.

    Raises:
        DatasetError: E_DATA where fewer photos can be read than a step needs.
        CheckpointError: E_CKPT_PART for a network without maps of several strides.
    """
    config = config or EvidenceConfig()
    names = photos[0].names if photos else ()
    classes = len(names) + 1
    head_for(model.backbone, model.config, classes)  # refused before the work
    mirror = mirrored_names(names)
    followed = track(_readable(photos), len(photos), "evidence: photos", stream)
    cache = prepared(model, followed, mirror, occluders, config.variants, seed)
    head = train(model, cache, classes, config, seed, stream=stream)
    return PartEvidence.of(head, cache.shares(classes), model.backbone)


def _readable(photos: Sequence[PartPhoto]) -> Iterator[PixelParts]:
    """Yield the photos that can be read; the others were named when they could not vote."""
    for photo in photos:
        try:
            pixels = read_photo(photo.image).pixels
            if pixels.shape[:2] == (photo.height, photo.width):
                nothing = np.zeros(pixels.shape[:2], bool)
                yield PixelParts(photo.id, pixels, photo.labels(), photo.box, nothing)
        except FeatmeshError:
            continue


def prepared(
    model: CategoryModel,
    photos: Iterable[PixelParts],
    mirror: Int[np.ndarray, " n1"],
    occluders: Pictures,
    variants: int,
    seed: int,
) -> Cache:
    """Return ``variants`` varied crops of each photo, as the trunk sees them."""
    size = (model.config.crop_height, model.config.crop_width)
    rows: list[list[Tensor]] = []
    visible, whole = [], []
    for photo in photos:
        made = [varied(photo, size, mirror, occluders, seed, k) for k in range(variants)]
        maps = trunk_maps(model.backbone, np.stack([v.pixels for v in made]))
        rows.append([m.half() for m in maps])
        visible += [v.visible for v in made]
        whole += [v.whole for v in made]
    if not rows:
        raise DatasetError(
            "E_DATA",
            "learn_evidence(): expected photos that can be read, got none, try: other photos",
        )
    levels = [torch.cat(level) for level in zip(*rows, strict=True)]
    seen, there = (torch.from_numpy(np.stack(kind)) for kind in (visible, whole))
    return Cache(levels, seen, there, variants)


def train(
    model: CategoryModel,
    cache: Cache,
    classes: int,
    config: EvidenceConfig,
    seed: int,
    begin: PartHead | None = None,
    stream: Stream | None = None,
) -> PartHead:
    """Return a head trained on a cache: AdamW, one cosine, cross-entropy over parts and none.

    It begins with the weights of ``begin``, or of the model's own head, or at random.
    """
    torch.manual_seed(seed)
    head = head_for(model.backbone, model.config, classes)
    if begin is not None:
        head.load_state_dict(begin.state_dict())
    elif config.warm:
        _warm(head, model)
    labels = cache.whole if config.hidden else cache.visible
    weights = _balanced(labels, classes, config.balance)
    count = len(labels) // cache.variants
    batch = min(config.batch, count)
    steps = config.epochs * (count // batch)
    optimiser = torch.optim.AdamW(head.parameters(), config.rate, weight_decay=config.decay)
    plan = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _cycle(step / steps))
    head.train()
    for epoch in track(range(config.epochs), config.epochs, "evidence: passes", stream):
        order = generator(seed, "order", epoch).permutation(count)
        offset = generator(seed, "variant", epoch).integers(cache.variants, size=count)
        for first in range(0, count - batch + 1, batch):
            some = order[first : first + batch]
            chosen = torch.from_numpy(some * cache.variants + offset[some])
            answer = _grown(head([m[chosen].float() for m in cache.maps]), labels)
            loss = functional.cross_entropy(answer, labels[chosen].long(), weights)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(head.parameters(), 5.0)
            optimiser.step()
            plan.step()
    return head.eval()


def _warm(head: PartHead, model: CategoryModel) -> None:
    """Copy the weights of the model's own head, all but its last layer."""
    own = {k: v for k, v in model.backbone.head.state_dict().items() if not k.startswith("out.")}
    head.base.load_state_dict(own)


def _cycle(done: float) -> float:
    """Return the share of the highest learning rate: up over a twentieth, then half a cosine."""
    return float(min(1.0, (done + 1e-3) / 0.05) * (1 + np.cos(np.pi * done)) / 2)


def _grown(answer: Tensor, labels: Tensor) -> Tensor:
    """Return scores at the labels' places; what the trunk's padding added is cut."""
    answer = functional.interpolate(
        answer, scale_factor=STRIDE // GRID, mode="bilinear", align_corners=False
    )
    return answer[..., : labels.shape[-2], : labels.shape[-1]]


def _balanced(labels: Tensor, classes: int, power: float) -> Tensor:
    """Return the weight of each class in the loss, 1 on average over the pixels."""
    share = torch.bincount(labels.reshape(-1).long(), minlength=classes).float() / labels.numel()
    weights = share.clamp_min(1e-6) ** -power
    return weights / (weights * share).sum()
