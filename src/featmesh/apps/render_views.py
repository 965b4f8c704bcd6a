"""What ``featmesh render-views`` does: find CADs and pictures, render, write a contact sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from featmesh.errors import InputError
from featmesh.paths import write_whole
from featmesh.views.backdrop import read_backgrounds
from featmesh.views.cad import Up
from featmesh.views.cad_model import Cad
from featmesh.views.cad_sources import (
    FURNITURE,
    SOURCES,
    attributions,
    read_training_cads,
    training_weights,
)
from featmesh.views.cads import read_render_folder
from featmesh.views.generate import part_names, render_views
from featmesh.views.generate_config import GenerateConfig

SHEET = (8, 4)  # pictures beside and below each other in the contact sheet
TILE = 160  # pixels of the longer side of one of them


@dataclass(frozen=True)
class Source:
    """Where CADs come from.

    Attributes:
        cad: folder of mesh files, or a category of ``cad_sources``.
        pascal3d: folder with ``<category>/NN.off``, for categories.
        furniture: where the Sweet Home 3D catalogues lie; None = where Debian puts them.
        up: the frame of the files of a folder.
        parts: lines of OBJ files that name parts; None = no labels but those in files.
    """

    cad: str
    pascal3d: Path | None = None
    furniture: Path | None = None
    up: Up = "z"
    parts: Any = None


def read_source(source: Source, category: str) -> tuple[list[Cad], tuple[float, ...], list[str]]:
    """Return CADs, how often to draw each (empty = equally) and what was refused.

    Raises:
        InputError: E_IO (neither a folder nor a category), E_LABELS.
        DatasetError: E_DATA as the readers.
    """
    if Path(source.cad).is_dir():
        found = read_render_folder(source.cad, category, source.up, source.parts)
        refused = [f"{name}: {code} {message}" for name, code, message in found.refused]
        return list(found.cads), (), refused
    if source.cad not in SOURCES:
        names = ", ".join(SOURCES)
        raise InputError(
            "E_IO",
            f"render-views: expected a folder of CADs or a category ({names}), got "
            f"{source.cad!r}; try: --cad FOLDER",
        )
    cads = read_training_cads(source.cad, source.pascal3d, source.furniture or FURNITURE)
    return cads, training_weights(cads), []


def pictures_of(
    folder: Path | None, half: str, leave_out: tuple[int, ...]
) -> tuple[UInt8[np.ndarray, "_ _ 3"], ...]:
    """Return the background pictures; none without a folder, then colours are used."""
    if folder is None:
        return ()
    return read_backgrounds(folder, half == "first", leave_out, half == "second")


def render(
    cads: Sequence[Cad],
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    out: Path,
    amount: tuple[int, int, int],
    config: GenerateConfig,
) -> dict[str, Any]:
    """Render views with their contact sheet and attributions; return what is told about them.

    Args:
        cads: see :func:`featmesh.views.generate.render_views`.
        pictures: see there.
        out: folder.
        amount: number of views, seed, processes.
        config: what the photos look like.
    """
    count, seed, jobs = amount
    path = render_views(cads, pictures, out, count, seed, config, jobs)
    write_whole(out / "ATTRIBUTION.txt", "\n".join(attributions(cads)) + "\n")
    write_sheet(out, min(count, SHEET[0] * SHEET[1]))
    return {
        "views": str(path),
        "count": count,
        "category": config.category,
        "cads": len(cads),
        "parts": part_names(cads),
        "sheet": str(out / "sheet.png"),
    }


def write_sheet(out: Path, count: int) -> None:
    """Write ``sheet.png``: the first views, small, as they lie in ``out/photos``."""
    from PIL import Image

    sheet = Image.new("RGB", (SHEET[0] * TILE, SHEET[1] * TILE), "white")
    for k in range(count):
        with Image.open(out / "photos" / f"{k:06d}.jpg") as photo:
            photo.thumbnail((TILE - 2, TILE - 2))
            sheet.paste(photo, (k % SHEET[0] * TILE, k // SHEET[0] * TILE))
    sheet.save(out / "sheet.png")
