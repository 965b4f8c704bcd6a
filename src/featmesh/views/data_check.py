"""Checks labelled photos: files, sizes, poses, duplicates between splits (contracts 2).

``read_splits`` finds views in a views file, in a folder of views files or in the folder of a known
data set; ``check_splits`` looks at every record and every photo.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from featmesh.errors import DatasetError, FeatmeshError
from featmesh.geometry.crop import box_iou, check_box
from featmesh.photo.read import read_photo
from featmesh.progress import Stream, track

from .duplicates import content_hash, nearly_same, same_content, thumbnail
from .pose_check import pose_findings
from .readers.layouts import LAYOUTS, recognised, splits_in
from .readers.registry import READERS
from .record import View, parse_view, raw_records

SAME_BOX = 0.95  # overlap from which on two boxes in the same picture are one object


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        told: what it means.
        grave: the data must not be used as they are; else a person should know.
    """

    told: str
    grave: bool = True


KINDS: dict[str, Kind] = {
    "record": Kind("records that break the views file's rules"),
    "rotation": Kind("R, K or t that can be none"),
    "missing": Kind("photos, masks or part images that are not there"),
    "unreadable": Kind("photos, masks or part images that do not open"),
    "size": Kind("photos or masks of another size than the record says"),
    "mask": Kind("masks that show nothing inside the box"),
    "angles": Kind("angles out of range, or other ones than R's"),
    "behind": Kind("objects behind the camera, or around it"),
    "far": Kind("objects whose projection lies far from their box"),
    "shared": Kind("photos that two splits have in common"),
    "alike": Kind("photos of two splits that look the same"),
    "repeated": Kind("objects that a split has twice", grave=False),
}


@dataclass(frozen=True)
class Finding:
    """Something wrong with a record or a photo.

    Attributes:
        kind: of ``KINDS``.
        split: in which set of views.
        index: number of the record, None where it is about a whole photo.
        image: file name of the photo.
        told: what was found.
    """

    kind: str
    split: str
    index: int | None
    image: str
    told: str


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        records: number of records of each split.
        photos: number of different photo files.
        findings: in the order of the records.
        shared_models: model names that occur in several splits.
    """

    records: dict[str, int]
    photos: int
    findings: tuple[Finding, ...]
    shared_models: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by kind, kinds without any left out."""
        found = Counter(one.kind for one in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    @property
    def good(self) -> bool:
        """Whether nothing grave was found."""
        return not any(KINDS[one.kind].grave for one in self.findings)


@dataclass
class Splits:
    """Views by split, and what was wrong with records that gave none.

    Attributes:
        views: by the split's name.
        findings: records that could not be read.
    """

    views: dict[str, list[View]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_splits(paths: Sequence[Path], category: str | None = None) -> Splits:
    """Return the views of files and folders; each views file is a split.

    Args:
        paths: views files, folders with views files (or with folders of these), or folders of data
            sets that have a reader.
        category: of a data set's folder; None: all.

    Raises:
        DatasetError: E_IO, E_VIEWS where a path is no views file, or there is none; E_DATASET where
            a folder holds neither views files nor a known data set.
    """
    splits = Splits()
    if not paths:
        raise DatasetError(
            "E_IO",
            "data check: expected views files or folders, got none, try: featmesh data check "
            "views.json",
        )
    for path in paths:
        if not path.is_dir():
            _read_file(splits, path, path.stem)
            continue
        files = [p for p in sorted((*path.glob("*.json"), *path.glob("*/*.json"))) if _is_views(p)]
        for file in files:
            _read_file(splits, file, file.relative_to(path).with_suffix("").as_posix())
        name = None if files else recognised(path)
        if name is not None:
            splits.views |= _of_data_set(name, path, category)
        elif not files:
            raise DatasetError(
                "E_DATASET",
                f"data check: expected views files or a data set in {path}, got neither, try: one "
                f"of {', '.join(LAYOUTS)} (featmesh data layout NAME shows its folder)",
            )
    return splits


def check_splits(splits: Splits, stream: Stream | None = None) -> Report:
    """Return what is wrong with views and their photos; every photo is decoded once.

    Args:
        splits: as :func:`read_splits` gives them.
        stream: where progress is shown; default is the standard error output.
    """
    findings = list(splits.findings)
    records = [(name, view) for name, views in splits.views.items() for view in views]
    photos = dict.fromkeys(view.image for _, view in records)
    looks = {path: _look(path) for path in track(photos, len(photos), "check", stream)}
    for name, view in records:
        for kind, told in (*_files(view, looks[view.image]), *pose_findings(view)):
            findings.append(Finding(kind, name, view.index, _name(view), told))
    findings += _duplicates(splits.views, looks)
    models = Counter(
        model
        for views in splits.views.values()
        for model in {view.model_name for view in views if view.model_name}
    )
    shared = tuple(sorted(model for model, count in models.items() if count > 1))
    counts = {name: len(views) for name, views in splits.views.items()}
    return Report(counts, len(photos), tuple(findings), shared)


@dataclass(frozen=True, eq=False)
class _Look:
    """What decoding a photo told; the size is (width, height) as displayed."""

    size: tuple[int, int] | None = None
    digest: str = ""
    thumb: np.ndarray | None = None
    problem: str = ""
    missing: bool = False


def _look(path: Path) -> _Look:
    if not path.is_file():
        return _Look(problem="no such file", missing=True)
    try:
        photo = read_photo(path)
        digest = content_hash(path)
    except FeatmeshError as error:
        return _Look(problem=" ".join(str(error).split()))
    except OSError as error:
        return _Look(problem=str(error))
    return _Look((photo.width, photo.height), digest, thumbnail(photo.pixels))


def _name(view: View) -> str:
    return view.image_name or view.image.name


def _files(view: View, look: _Look) -> Iterator[tuple[str, str]]:
    if look.problem:
        yield ("missing" if look.missing else "unreadable"), look.problem
    elif look.size != (view.width, view.height):
        got = "x".join(map(str, look.size or ()))
        yield "size", f"the photo has {got}, the record says {view.width}x{view.height}"
    for path in (view.mask, view.parts):
        if path is not None:
            yield from _label_image(view, path, path == view.mask)


def _label_image(view: View, path: Path, is_mask: bool) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        yield "missing", f"no file {path.name}"
        return
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except Exception as error:  # decoders of hostile files raise anything
        yield "unreadable", f"{path.name}: {' '.join(str(error).split())[:120]}"
        return
    if labels.shape[:2] != (view.height, view.width):
        yield "size", f"{path.name} has {labels.shape[1]}x{labels.shape[0]}"
        return
    x0, y0, x1, y1 = (round(v) for v in check_box(view.box_or_image, view.height, view.width)[0])
    if is_mask and not labels[y0:y1, x0:x1].any():
        yield "mask", f"{path.name} shows nothing inside the box"


def _duplicates(views: Mapping[str, Sequence[View]], looks: Mapping[Path, _Look]) -> list[Finding]:
    found: list[Finding] = []
    where: dict[Path, set[str]] = {}
    for name, some in views.items():
        for view in some:
            where.setdefault(view.image, set()).add(name)
    for path, names in where.items():
        if len(names) > 1:
            found.append(_pair("shared", sorted(names), path, path, "the same file"))
    hashes = {path: look.digest for path, look in looks.items() if look.digest}
    seen = {frozenset((path,)) for path in where}
    for group in same_content(hashes):
        for i, one in enumerate(group):
            for other in group[i + 1 :]:
                seen.add(frozenset((one, other)))
                if where[one] != where[other]:
                    both = sorted(where[one] | where[other])
                    found.append(_pair("shared", both, one, other, "the same bytes"))
    thumbs = {path: look.thumb for path, look in looks.items() if look.thumb is not None}
    order = list(views)
    for i, first in enumerate(order):
        for second in order[i + 1 :]:
            sets = [
                {p: t for p, t in thumbs.items() if name in where[p]} for name in (first, second)
            ]
            for one, other, mirrored in nearly_same(*sets):
                if frozenset((one, other)) not in seen:
                    seen.add(frozenset((one, other)))
                    told = "the same picture, mirrored" if mirrored else "the same picture"
                    found.append(_pair("alike", [first, second], one, other, told))
    for name, some in views.items():
        found += _repeated(name, some, hashes)
    return found


def _pair(kind: str, names: Sequence[str], one: Path, other: Path, told: str) -> Finding:
    also = "" if one == other else f" as {other.parent.name}/{other.name}"
    return Finding(kind, ", ".join(names), None, f"{one.parent.name}/{one.name}", told + also)


def _repeated(name: str, views: Sequence[View], hashes: Mapping[Path, str]) -> Iterator[Finding]:
    """Yield the records that show an object which an earlier record shows too."""
    groups: dict[tuple[str, str], list[View]] = {}
    for view in views:
        earlier = groups.setdefault((hashes.get(view.image, str(view.image)), view.category), [])
        for other in earlier:
            if box_iou(view.box_or_image, other.box_or_image) > SAME_BOX:
                told = f"the same object as record {other.index}, {_name(other)}"
                yield Finding("repeated", name, view.index, _name(view), told)
                break
        earlier.append(view)


def _read_file(splits: Splits, path: Path, name: str) -> None:
    """Read a views file record by record: one that is wrong hides no other."""
    if not path.is_file():
        hint = "featmesh data check views.json"
        raise DatasetError(
            "E_IO",
            f"data check {path}: expected a views file or a folder, got none; try: {hint}",
        )
    views = []
    for index, record in enumerate(raw_records(path)):
        try:
            views.append(parse_view(path, index, record))
        except DatasetError as error:
            said = str(error)
            pose = any(f"key {key!r}" in said for key in ("R", "K", "t", "t_unit"))
            photo = record.get("image") if isinstance(record, dict) else None
            told = said.partition(f"record {index} ")[2] or said
            kind = "rotation" if pose else "record"
            splits.findings.append(Finding(kind, name, index, str(photo), told))
    splits.views[name if name not in splits.views else path.as_posix()] = views


def _is_views(path: Path) -> bool:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    rows = data.get("views") if isinstance(data, dict) else data
    first = rows[0] if isinstance(rows, list) and rows else None
    return isinstance(first, dict) and {"image", "width", "height", "category"} <= first.keys()


def _of_data_set(name: str, path: Path, category: str | None) -> dict[str, list[View]]:
    """Return the views of a data set by its training and test splits, or all as one."""
    read, found = READERS[name], {}
    for split in splits_in(name, path):
        try:
            found[split] = read(path, split, category, None)
        except DatasetError as error:
            if error.code != "E_DATASET":  # a list may be missing, a broken file may not
                raise
    return found or {name: read(path, None, category, None)}
