"""Render photos of CADs with exact pose, mask and camera: training views for any category.

A folder of CAD files is enough; the PASCAL3D+ categories are known by name. The same command goes
on where it was interrupted, and adds views when --count is larger.
"""

import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from featmesh.views.presets import Look, chosen

from . import exits


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh render-views``."""

    cad: str
    """Folder of CAD files (OFF, OBJ with materials, PLY, STL, GLB), or a PASCAL3D+ category."""
    out: Path
    """Folder to write: views.json, photos, masks, amodal masks, records."""
    count: int = 1000
    """How many photos."""
    category: str | None = None
    """Name written into the views, and whose settings are used; default: the folder's name."""
    backgrounds: Path | None = None
    """Folder of pictures that do not show the category; without it backgrounds are colours."""
    half: Literal["first", "second", "all"] = "all"
    """Which of those pictures, by name: the first half to train, the second to evaluate."""
    leave_out: tuple[int, ...] = ()
    """Numbers NNNN of background pictures *_NNNN.jpg that show the category."""
    pascal3d: Path | None = None
    """For a category: folder with <category>/NN.off; reported CADs are never rendered."""
    furniture: Path | None = None
    """For a category: folder of the Sweet Home 3D catalogues, if not where Debian puts it."""
    up: Literal["z", "y"] = "z"
    """Frame of the files of a folder: z = front -y, up +z; y = front +z, up +y."""
    parts: Literal["g", "o", "usemtl"] | None = None
    """Lines of OBJ files that name parts, for label images; NAME.labels.json needs no option."""
    seed: int = 0
    """Of every draw; photo k of a seed is the same whatever else is rendered."""
    jobs: int = 0
    """Processes; 0 = one a core."""
    json: bool = False
    """Print JSON instead of a line."""
    look: Look = field(default_factory=Look)
    """Settings that differ from the category's own."""


def run(arguments: Arguments) -> int:
    """Render the views and tell where they are."""
    if arguments.count < 1 or arguments.jobs < 0:
        got = f"--count {arguments.count} --jobs {arguments.jobs}"
        raise exits.UsageError(
            f"E_USAGE: render-views: expected one view or more, got {got}; try: --count 1000"
        )
    from featmesh.apps.render_views import Source, pictures_of, read_source, render

    category = arguments.category or Path(arguments.cad).resolve().name
    source = Source(
        arguments.cad, arguments.pascal3d, arguments.furniture, arguments.up, arguments.parts
    )
    cads, weights, refused = read_source(source, category)
    for line in refused:
        sys.stderr.write(f"left out: {line}\n")
    config = chosen(category, arguments.look)
    config = config if config.weights else replace(config, weights=weights)
    pictures = pictures_of(arguments.backgrounds, arguments.half, arguments.leave_out)
    amount = (arguments.count, arguments.seed, arguments.jobs or os.cpu_count() or 1)
    told = render(cads, pictures, arguments.out, amount, config) | {"refused": refused}
    if arguments.json:
        sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(f"{told['views']}: {told['count']} views of {told['cads']} CADs\n")
    return 0
