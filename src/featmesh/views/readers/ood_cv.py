"""OOD-CV, pose track: PASCAL3D+'s annotations, test photos by nuisance (spec 3.3)."""

from pathlib import Path

from featmesh.errors import DatasetError
from featmesh.views.record import View

from .common import Notes, check_split, photo_of, read_rows
from .layouts import LAYOUTS, located
from .pascal_record import read_record, record_views

NAME = "ood-cv"
NUISANCES = LAYOUTS[NAME].splits[1:]
CATEGORIES = (
    *("aeroplane", "bicycle", "boat", "bus", "car"),
    *("chair", "diningtable", "motorbike", "sofa", "train"),
)

Key = tuple[str, int]  # photo and object


def read_ood_cv(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the test views of OOD-CV, each once; ``extras["nuisance"]`` says which it is.

    Its training photos are PASCAL3D+'s: ``pascal3d``, with the names of ``lists/TrainSet.txt``.
    Objects with a negative principal point are left out, as the benchmark does.

    Args:
        root: the folder ``ood_cv``, or the one it lies in.
        split: a nuisance, or ``iid`` for what is in no nuisance's list; None: all.
        category: one of the ten; None: all.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
    """
    notes = notes or Notes()
    check_split(NAME, split)
    folder = located(NAME, root)
    views: list[View] = []
    for name in CATEGORIES if category is None else (category,):
        for (photo, number), nuisance in _listed(folder, name).items():
            if split in (None, nuisance):
                views += _views(folder, name, (photo, number), nuisance, notes)
    return views


def _listed(folder: Path, category: str) -> dict[Key, str]:
    """Return the nuisance of every object of the category's lists."""
    found: dict[Key, str] = {}
    for nuisance in (*NUISANCES, "iid"):
        listed = "all" if nuisance == "iid" else nuisance
        path = folder / "lists" / f"{category}_{listed}.txt"
        for key in _keys(path) if path.is_file() else []:
            found.setdefault(key, nuisance)
    return found


def _keys(path: Path) -> list[Key]:
    rows = read_rows(path)
    try:
        return [(row[0], int(row[1]) if len(row) > 1 else 0) for row in rows]
    except ValueError as error:
        raise DatasetError(
            "E_DATA", f"data {path}: expected lines NAME OBJECT, got {error}, try: copy it again"
        ) from error


def _views(folder: Path, category: str, key: Key, nuisance: str, notes: Notes) -> list[View]:
    name = Path(key[0]).stem if key[0].endswith((".JPEG", ".jpg", ".mat")) else key[0]
    image = photo_of(folder / "images" / category, name)
    label = folder / "annotations" / category / f"{name}.mat"
    if image is None or not label.is_file():
        notes.skip("listed photos without a file or an annotation")
        return []
    record = read_record(label)
    if key[1] >= len(record.objects):
        notes.skip("listed objects that the annotation has not")
        return []
    one = record.objects[key[1]]
    if one.label is not None and min(one.label.px, one.label.py) < 0:
        notes.skip("objects with a negative principal point")
        return []
    return record_views(image, record, [one], notes, nuisance=nuisance)
