"""Views files out of other data sets' folders, and the tables of ``featmesh data``."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featmesh.errors import DatasetError
from featmesh.evaluate.protocols import PROTOCOLS
from featmesh.views.data_check import KINDS, Report, check_splits, read_splits
from featmesh.views.readers.common import Notes, read_names, without_camera
from featmesh.views.readers.layouts import located
from featmesh.views.readers.registry import READERS
from featmesh.views.record import View, write_views

from .benchmark_crops import write_crops

SHOWN = 3  # examples of each kind of finding


@dataclass(frozen=True)
class Wish:
    """What is to be converted.

    Attributes:
        name: of the data set, a key of ``READERS``.
        root: its folder.
        out: the views file to write.
        split: one the data set has; None: everything labelled.
        category: None: all.
        only: file with names of photos, the first word of each line; None: all.
        no_camera: leave the labels' cameras out; R is turned where it was the whole photo's.
        copy: put photos and masks beside the views file, which else must lie above them.
        crops: instead of the photos write the benchmark's crops, beside the views file.
    """

    name: str
    root: Path
    out: Path
    split: str | None = None
    category: str | None = None
    only: Path | None = None
    no_camera: bool = False
    copy: bool = False
    crops: bool = False


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        views: number of records.
        photos: number of different photos.
        categories: number of records by category.
        left_out: number of objects or photos left out, by reason.
    """

    views: int
    photos: int
    categories: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


def convert(wish: Wish) -> Converted:
    """Write the views file of a data set's folder.

    Masks that a data set has inside other files are written to ``<out stem>_masks``.

    Raises:
        DatasetError: those of the reader; E_DATA where no view is left; E_VIEWS where photos lie
            outside the folder of the views file.
    """
    out = wish.out
    located(wish.name, wish.root)
    if wish.crops and wish.name not in PROTOCOLS:
        raise DatasetError(
            "E_DATA",
            f"data convert {wish.name}: expected --crops of {', '.join(PROTOCOLS)}, got another "
            "data set, try: leave --crops out",
        )
    if not (wish.copy or wish.crops) and not wish.root.resolve().is_relative_to(
        out.resolve().parent
    ):
        raise DatasetError(
            "E_VIEWS",
            f"data convert: expected the views file above its photos in {wish.root}, got {out}, "
            f"try: --out {wish.root / out.name}, or --copy",
        )
    notes = Notes(out.resolve().parent / f"{out.stem}_masks")
    views = READERS[wish.name](wish.root, wish.split, wish.category, notes)
    if wish.only is not None:
        wanted = {Path(name).stem for name in read_names(wish.only)}
        views = [view for view in views if view.image.stem in wanted]
    if not views:
        reasons = "; ".join(f"{count} {why}" for why, count in notes.left_out.items())
        raise DatasetError(
            "E_DATA",
            f"data convert {wish.name}: expected labelled objects in {wish.root}, got none"
            f"{f' ({reasons})' if reasons else ''}, try: another --split or --category",
        )
    if wish.crops:
        views = write_crops(views, out.parent / f"{out.stem}_crops", PROTOCOLS[wish.name], notes)
    if wish.no_camera:
        views = [without_camera(view) for view in views]
    if wish.copy:
        views = _copied(views, wish.root.resolve(), out.resolve())
    out.parent.mkdir(parents=True, exist_ok=True)
    write_views(out, views)
    kinds = Counter(view.category for view in views)
    photos = len({view.image for view in views})
    return Converted(len(views), photos, dict(sorted(kinds.items())), dict(notes.left_out))


def _copied(views: Sequence[View], root: Path, out: Path) -> list[View]:
    """Return the views with their photos and masks copied beside the views file."""
    place = out.parent / f"{out.stem}_photos"

    def moved(path: Path | None) -> Path | None:
        if path is None or path.resolve().is_relative_to(out.parent):
            return path
        source = path.resolve()
        inside = source.relative_to(root) if source.is_relative_to(root) else Path(source.name)
        target = place / inside
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return target

    return [
        replace(view, image=moved(view.image) or view.image, mask=moved(view.mask))
        for view in views
    ]


def convert_folder(wish: Wish, as_json: bool = False) -> str:
    """Write the views file and return what is told of it; errors are those of :func:`convert`."""
    done = convert(wish)
    return (
        json.dumps(vars(done), indent=1) if as_json else "\n".join(converted_lines(done, wish.out))
    )


def check_folders(
    paths: Sequence[Path], category: str | None = None, as_json: bool = False
) -> tuple[str, bool]:
    """Check views files and folders; return what is told and whether all is well.

    Raises:
        DatasetError: E_IO, E_VIEWS, E_DATASET, E_DATA.
    """
    report = check_splits(read_splits(paths, category))
    text = json.dumps(report_json(report), indent=1) if as_json else "\n".join(report_lines(report))
    return text, report.good


def converted_lines(done: Converted, out: Path) -> list[str]:
    """Return what a person reads after a conversion."""
    rows = [f"{done.views} views of {done.photos} photos written to {out}"]
    rows += [f"  {count:>8}  {kind}" for kind, count in done.categories.items()]
    if done.left_out:
        rows.append("left out")
        rows += [f"  {count:>8}  {why}" for why, count in done.left_out.items()]
    return rows


def report_lines(report: Report) -> list[str]:
    """Return what a person reads of a check: a table of kinds, examples below each."""
    total = sum(report.records.values())
    rows = [f"{total} records, {report.photos} photos"]
    rows += [f"  {count:>8}  {name}" for name, count in report.records.items()]
    if report.shared_models:
        some = ", ".join(report.shared_models[:SHOWN])
        rows.append(f"note: {len(report.shared_models)} model names in several splits ({some} ...)")
    if not report.findings:
        return [*rows, "nothing wrong was found"]
    rows.append(f"{'found':<12}{'count':>7}   what")
    for kind, count in report.counts.items():
        mark = "" if KINDS[kind].grave else " (a note)"
        rows.append(f"{kind:<12}{count:>7}   {KINDS[kind].told}{mark}")
        examples = [one for one in report.findings if one.kind == kind][:SHOWN]
        for one in examples:
            number = "" if one.index is None else f" record {one.index}"
            rows.append(f"{'':<22}{one.split}{number} {one.image}: {one.told}")
        if count > SHOWN:
            rows.append(f"{'':<22}... and {count - SHOWN} more (--json lists all)")
    return rows


def report_json(report: Report) -> dict[str, Any]:
    """Return a check's result as JSON values."""
    return {
        "records": report.records,
        "photos": report.photos,
        "good": report.good,
        "counts": report.counts,
        "shared_models": list(report.shared_models),
        "findings": [vars(one) for one in report.findings],
    }
