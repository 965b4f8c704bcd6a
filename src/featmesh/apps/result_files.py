"""The folder of one photo's result: which files there are, what they hold, what JSON says of them.

The first object's files have plain names; those of the second end in -2, of the third in -3.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from featmesh.inference.result import Estimate
from featmesh.model.labels import Labels
from featmesh.paths import write_whole
from featmesh.photo.photo import Photo
from featmesh.present.html import write_html
from featmesh.present.masks import mask_json, mask_pictures
from featmesh.present.meshfile import write_glb
from featmesh.present.overlay import overlay

# what a run may have written, and nothing else: other files in the folder stay
OURS = re.compile(
    r"(overlay\.png|result\.html|result\.json"
    r"|(amodal|visible|occluded|parts|depth|surface)(-[1-9]\d*)?\.png|shape(-[1-9]\d*)?\.glb)"
)


@dataclass(frozen=True)
class Found:
    """What came of one photo.

    Attributes:
        photo: None where it could not be read.
        estimates: one an object.
        labels: parts of the surface, where there are any.
        dense: write depth and surface coordinates too.
    """

    photo: Photo | None
    estimates: Sequence[Estimate]
    labels: Labels | None = None
    dense: bool = False

    @property
    def usable(self) -> bool:
        """Whether there is something to show."""
        return self.photo is not None and any(e.status != "bad_input" for e in self.estimates)


def suffix(k: int) -> str:
    """Return what the names of the files of object ``k`` (from 0) end in."""
    return "" if k == 0 else f"-{k + 1}"


def with_files(document: dict[str, Any], found: Found) -> dict[str, Any]:
    """Return ``result.json`` with what the files hold: masks and parts of each object, its shape.

    Args:
        document: from :func:`featmesh.inference.result.result_json`.
        found: what it tells of.
    """
    objects = []
    pairs = zip(document["objects"], found.estimates, strict=True)
    for k, (row, estimate) in enumerate(pairs):
        told = row | mask_json(estimate, suffix(k), found.dense)
        if estimate.shape is not None:
            told["shape"] = told["shape"] | {"file": _shape_file(k)}
        objects.append(told)
    return document | {"objects": objects}


def write(folder: Path, found: Found, document: dict[str, Any]) -> None:
    """Write the folder; what an earlier run wrote there is removed first.

    ``result.json`` comes last: whoever sees it sees the files it names. The shape, ``shape.glb``,
    is the object's own surface in the unit of t.

    Args:
        folder: made where it is missing.
        found: what is written.
        document: from :func:`with_files`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [file for file in folder.iterdir() if OURS.fullmatch(file.name)]:
        stale.unlink()
    if found.photo is not None and found.usable:
        Image.fromarray(overlay(found.photo, *found.estimates)).save(folder / "overlay.png")
        page = folder / "result.html"
        write_html(page, found.photo, found.estimates, document, found.labels)
    for k, estimate in enumerate(found.estimates):
        for name, picture in mask_pictures(estimate, suffix(k), found.dense).items():
            picture.save(folder / name)
        if estimate.shape is not None:
            write_glb(folder / _shape_file(k), estimate.shape.mesh, estimate.shape.unit)
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(folder / "result.json", text)


def _shape_file(k: int) -> str:
    return f"shape{suffix(k)}.glb"
