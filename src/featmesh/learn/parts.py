"""Part labels of a template's surface, learned from annotated photos: no network is trained (ours).

Each photo's pose and shape say which surface point each of its pixels shows; the pixel's annotation
is a vote for that point, and by symmetry for its mirror image. A surface seen at a slant has few
pixels and little to say. The votes are smoothed over the surface, which also carries them to where
no photo has looked; then the labels ascend the overlap of drawn and annotated parts, or small parts
would be outvoted by what surrounds them. Photos that the labels so found contradict (a car taken
for its own mirror image, or turned around) are left out of another count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from featmesh.errors import DatasetError, FeatmeshError
from featmesh.geometry.mesh import Mesh
from featmesh.inference.config import EstimateConfig
from featmesh.inference.estimator import estimate
from featmesh.inference.result import Estimate
from featmesh.model.category import CategoryModel
from featmesh.model.labels import Labels
from featmesh.photo.read import read_photo
from featmesh.progress import Stream, track
from featmesh.views.part_photos import PartPhoto

from .part_overlap import raise_overlap
from .part_votes import Sighting, agreement, elect, overlap, sighting_of
from .parts_config import PartsConfig


@dataclass(frozen=True)
class PartRow:
    """What was learned of one part.

    Attributes:
        name: of the part.
        vertices: how many are likeliest this part's.
        photos: how many showed it and voted.
        agreement: overlap (IoU) of labels and annotations over these photos, each photo's pixels
            in units of its object's.
    """

    name: str
    vertices: int
    photos: int
    agreement: float


@dataclass(frozen=True)
class LearnedLabels:
    """A labelling and how it came about.

    Attributes:
        labels: of the template's vertices.
        rows: one a part.
        voted: ids of the photos that voted.
        dropped: ids of those whose annotations the labels contradict.
        skipped: why other photos did not vote, and their ids: an error code, ``unsure`` (no pose
            to be relied on) or ``hidden``.
    """

    labels: Labels
    rows: tuple[PartRow, ...]
    voted: tuple[int, ...]
    dropped: tuple[int, ...]
    skipped: Mapping[str, tuple[int, ...]]


def learn_labels(
    model: CategoryModel,
    photos: Sequence[PartPhoto],
    config: PartsConfig | None = None,
    search: EstimateConfig | None = None,
    stream: Stream | None = None,
) -> LearnedLabels:
    """Return the labels that annotated photos vote for; a photo that cannot be used harms no other.

    Args:
        model: estimates each photo's pose and shape; its template gets the labels.
        photos: all with the same names.
        config: of the count.
        search: of the estimates of pose and shape.
        stream: where progress is shown; default is the standard error output.

    Raises:
        DatasetError: E_PARTS where the photos' names differ, E_DATA where no photo can vote.
    """
    config = config or PartsConfig()
    names = photos[0].names if photos else ()
    if any(photo.names != names for photo in photos):
        raise _bad("E_PARTS", "photos of the same parts", "other names", "one annotation file")
    seen, skipped = [], dict[str, list[int]]()
    for photo in track(photos, len(photos), "label-parts", stream):
        found = look(model, photo, config, search)
        if isinstance(found, Sighting):
            seen.append(found)
        else:
            skipped.setdefault(found, []).append(photo.id)
    return count(model.template, seen, names, config, skipped)


def look(
    model: CategoryModel,
    photo: PartPhoto,
    config: PartsConfig,
    search: EstimateConfig | None = None,
) -> Sighting | str:
    """Return what a photo says of the surface, or why it says nothing: an error code or a word."""
    try:
        pixels = read_photo(photo.image)
        if (pixels.height, pixels.width) != (photo.height, photo.width):
            return "E_SIZE"
        found = estimate(model, pixels, photo.box, photo.camera, "segment", search)
        if found.status != "ok" or found.score < config.score:
            return "unsure"
        return sighting(photo, photo.labels(), found)
    except FeatmeshError as error:
        return error.code


def sighting(photo: PartPhoto, labels: UInt8[np.ndarray, "h w"], found: Estimate) -> Sighting | str:
    """Return what a segmented photo says, ``"hidden"`` where the object is not seen in it."""
    if found.segmentation is None or not found.segmentation.visible.any():
        return "hidden"
    return sighting_of(photo.id, labels, found.segmentation, len(photo.names))


def count(
    template: Mesh,
    seen: Sequence[Sighting],
    names: tuple[str, ...],
    config: PartsConfig,
    skipped: Mapping[str, Sequence[int]] | None = None,
) -> LearnedLabels:
    """Return the labels that sightings vote for, those left out that the others contradict.

    Raises:
        DatasetError: E_DATA where there is none.
    """
    left = {why: tuple(ids) for why, ids in (skipped or {}).items()}
    if not seen:
        told = ", ".join(f"{len(ids)} {why}" for why, ids in left.items()) or "no photo"
        raise _bad("E_DATA", "photos whose pose is sure", told, "other photos or another model")
    kept = list(seen)
    labels = elect(template, kept, names, config)
    for _ in range(config.passes - 1):
        agreeing = [s for s in seen if agreement(template, labels, s) >= config.agree]
        if not agreeing or [s.id for s in agreeing] == [s.id for s in kept]:
            break
        kept = agreeing
        labels = elect(template, kept, names, config)
    labels = raise_overlap(template, labels, kept, config)
    voted = tuple(s.id for s in kept)
    dropped = tuple(s.id for s in seen if s.id not in set(voted))
    return LearnedLabels(labels, _rows(template, labels, kept), voted, dropped, left)


def _rows(template: Mesh, labels: Labels, kept: Sequence[Sighting]) -> tuple[PartRow, ...]:
    size = len(labels.names) + 1
    shared, either, photos = np.zeros(size), np.zeros(size), np.zeros(size, np.int64)
    for s in kept:
        one, other = overlap(template, labels, s)
        shown = np.bincount(s.part, minlength=size) > 0
        shared, either, photos = shared + one, either + other, photos + shown
    held = np.bincount(labels.hard.numpy(), minlength=size)
    return tuple(
        PartRow(name, int(held[k]), int(photos[k]), float(shared[k] / max(either[k], 1e-9)))
        for k, name in enumerate(labels.names, 1)
    )


def _bad(code: str, expected: str, got: str, hint: str) -> DatasetError:
    return DatasetError(code, f"learn_labels(): expected {expected}, got {got}, try: {hint}")
