"""PASCAL3D+ release 1.1: original annotations in MATLAB files (spec 3.1).

A split is the benchmark: the ImageNet photos of its list, of each photo the first object, if that
is of the category. Without a split: every object with a viewpoint in every annotated photo.
"""

from pathlib import Path

from featmesh.views.record import View

from .common import Notes, check_split, photo_of, read_names
from .layouts import located, misplaced
from .pascal_record import first_object, read_record, record_views

NAME = "pascal3d"
CATEGORIES = (
    *("aeroplane", "bicycle", "boat", "bottle", "bus", "car"),
    *("chair", "diningtable", "motorbike", "sofa", "train", "tvmonitor"),
)


def read_pascal3d(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of PASCAL3D+.

    R and K are those of the annotation's camera (focal length 3000 px, principal point where the
    object's centre lies), t = (0, 0, distance) in CAD units, whose bounding-box diagonal is 1.

    Args:
        root: ``PASCAL3D+_release1.1``, or the folder it lies in.
        split: ``train`` or ``val`` of the benchmark; None: every object of every photo.
        category: one of the twelve; None: all.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
    """
    notes = notes or Notes()
    check_split(NAME, split)
    folder = located(NAME, root)
    views: list[View] = []
    for name in CATEGORIES if category is None else (category,):
        if split is not None:
            views += _listed(folder, split, name, notes)
        else:
            views += _annotated(folder, name, notes)
    return views


def _listed(folder: Path, split: str, category: str, notes: Notes) -> list[View]:
    listing = folder / "Image_sets" / f"{category}_imagenet_{split}.txt"
    if not listing.is_file():
        raise misplaced(NAME, str(folder), f"no Image_sets/{listing.name}")
    views: list[View] = []
    for name in read_names(listing):
        image = photo_of(folder / "Images" / f"{category}_imagenet", name)
        label = folder / "Annotations" / f"{category}_imagenet" / f"{name}.mat"
        if image is None or not label.is_file():
            notes.skip("listed photos without a file or an annotation")
            continue
        record = read_record(label)
        chosen = first_object(record, category)
        if not chosen:
            notes.skip("photos whose first object is of another category")
        views += record_views(image, record, chosen, notes)
    return views


def _annotated(folder: Path, category: str, notes: Notes) -> list[View]:
    views: list[View] = []
    for source in ("imagenet", "pascal"):
        for label in sorted((folder / "Annotations" / f"{category}_{source}").glob("*.mat")):
            image = photo_of(folder / "Images" / f"{category}_{source}", label.stem)
            if image is None:
                notes.skip("annotations without a photo")
                continue
            record = read_record(label)
            chosen = [one for one in record.objects if one.category == category]
            views += record_views(image, record, chosen, notes)
    return views
