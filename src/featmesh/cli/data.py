"""Turn a data set's folder into a views file, check labelled photos, show how folders look.

No data set is downloaded: obtain it from its authors; what lies where, featmesh data layout NAME.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from featmesh.errors import DatasetError
from featmesh.views.readers.layouts import LAYOUTS, layout_text, unknown

from . import exits


@dataclass(frozen=True)
class Convert:
    """Write the views file of a data set's folder."""

    name: tyro.conf.Positional[str]
    """Data set; featmesh data layout lists them."""
    root: tyro.conf.Positional[Path]
    """Its folder."""
    out: Path
    """Views file to write, in the data set's folder or above it (or --copy)."""
    split: str | None = None
    """Split of the data set; default: everything that is labelled."""
    category: str | None = None
    """Category; default: all."""
    only: Path | None = None
    """File with names of photos, one a line: leave the others out."""
    no_camera: bool = False
    """Leave the labels' cameras out: R as the virtual camera of the box sees it."""
    copy: bool = False
    """Put photos and masks beside the views file."""
    crops: bool = False
    """Write the benchmark's crops (object in the middle, at distance 5) and take these instead."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Check:
    """Check labelled photos: structure, files, poses, duplicates; exit code 1 if some are bad."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Views files (each a split), folders with views files, or folders of data sets."""
    category: str | None = None
    """Of a data set's folder; default: all."""
    json: bool = False
    """Print every finding as JSON instead of a table."""


@dataclass(frozen=True)
class Layout:
    """Show what a data set's folder must hold."""

    name: tyro.conf.Positional[str | None] = None
    """Data set; default: all."""


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh data``."""

    do: tyro.conf.OmitArgPrefixes[
        Annotated[Convert, tyro.conf.subcommand("convert", prefix_name=False)]
        | Annotated[Check, tyro.conf.subcommand("check", prefix_name=False)]
        | Annotated[Layout, tyro.conf.subcommand("layout", prefix_name=False)]
    ]
    """What to do."""


def run(arguments: Arguments) -> int:
    """Convert, check or show; a missing folder is told over several lines."""
    do = arguments.do
    name = None if isinstance(do, Check) else do.name
    if name is not None and name not in LAYOUTS:
        raise exits.UsageError(unknown(name))
    if isinstance(do, Layout):
        sys.stdout.write(layout_text(name))
        return 0
    from featmesh.apps.data import Wish, check_folders, convert_folder

    try:
        if isinstance(do, Check):
            text, good = check_folders(do.paths, do.category, do.json)
        else:
            wish = Wish(**{key: value for key, value in vars(do).items() if key != "json"})
            text, good = convert_folder(wish, do.json), True
    except DatasetError as error:
        if error.code != "E_DATASET":
            raise
        sys.stderr.write(f"featmesh: {error}\n")
        return exits.FAILED
    sys.stdout.write(f"{text}\n")
    return 0 if good else exits.FAILED
