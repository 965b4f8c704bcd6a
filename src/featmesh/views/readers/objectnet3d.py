"""ObjectNet3D: PASCAL3D+'s annotations with a viewport of 2000 pixels (spec 3.5)."""

from pathlib import Path

from featmesh.views.record import View

from .common import Notes, category_name, check_split, photo_of, read_names
from .layouts import located, misplaced
from .pascal_record import read_record, record_views

NAME = "objectnet3d"
VIEWPORT = 2000.0  # pixels per unit focal length where a file does not tell


def read_objectnet3d(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of ObjectNet3D: every object with a viewpoint in the photos.

    Frames and units are PASCAL3D+'s.

    Args:
        root: the folder ``ObjectNet3D``, or the one it lies in.
        split: ``train``, ``val`` or ``test``, by ``lists/CATEGORY_imagenet_SPLIT.txt`` where a
            category is given and there is that list, else by ``Image_sets/SPLIT.txt``; None: every
            annotated photo.
        category: one of the hundred; None: all.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
    """
    notes = notes or Notes()
    check_split(NAME, split)
    folder = located(NAME, root)
    views: list[View] = []
    for name in _names(folder, split, category):
        image, label = photo_of(folder / "Images", name), folder / "Annotations" / f"{name}.mat"
        if image is None or not label.is_file():
            notes.skip("photos without a file or an annotation")
            continue
        record = read_record(label, VIEWPORT)
        wanted = None if category is None else category_name(category)
        chosen = [one for one in record.objects if wanted in (None, one.category)]
        views += record_views(image, record, chosen, notes)
    return views


def _names(folder: Path, split: str | None, category: str | None) -> list[str]:
    if split is None:
        return sorted(path.stem for path in (folder / "Annotations").glob("*.mat"))
    listing = folder / "Image_sets" / f"{split}.txt"
    if category is not None:
        own = folder / "lists" / f"{category}_imagenet_{split}.txt"
        listing = own if own.is_file() else listing
    if not listing.is_file():
        raise misplaced(NAME, str(folder), f"no {listing.relative_to(folder).as_posix()}")
    return read_names(listing)
