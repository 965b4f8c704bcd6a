"""What was learned of an object's parts, as a table or as plain values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.table import Table

from featmesh.learn.parts import LearnedLabels, PartRow
from featmesh.model.labels import Labels
from featmesh.views.generate import read_backgrounds

SCHEMA = 1


def summary(labels: Labels, out: Path, learned: LearnedLabels | None = None) -> dict[str, Any]:
    """Return what ``--json`` prints; counts of photos are null where the labels are a mesh's."""
    if learned is None:
        held = labels.hard.bincount(minlength=len(labels.names) + 1).tolist()
        rows = [
            {"name": name, "vertices": held[k], "photos": None, "agreement": None}
            for k, name in enumerate(labels.names, 1)
        ]
        return {"schema": SCHEMA, **_files(labels, out), "parts": rows, "photos": None}
    return {
        "schema": SCHEMA,
        **_files(labels, out),
        "parts": [_plain(row) for row in learned.rows],
        "photos": {
            "voted": list(learned.voted),
            "dropped": list(learned.dropped),
            "skipped": {why: list(ids) for why, ids in learned.skipped.items()},
        },
    }


def pictures_of(folder: Path | None) -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
    """Return the pictures of a folder that parts are hidden behind; none without a folder."""
    return () if folder is None else tuple(read_backgrounds(folder, first_half=False))


def _files(labels: Labels, out: Path) -> dict[str, str | None]:
    evidence = None if labels.evidence is None else str(out.with_suffix(".safetensors"))
    return {"labels": str(out), "evidence": evidence}


def _plain(row: PartRow) -> dict[str, Any]:
    agreement = round(row.agreement, 4) if row.photos else None
    return {
        "name": row.name,
        "vertices": row.vertices,
        "photos": row.photos,
        "agreement": agreement,
    }


def show(model: str, told: Mapping[str, Any]) -> None:
    """Print the table of a summary, and which photos did not vote."""
    table = Table("part", title=f"{model}: parts of the surface", title_justify="left")
    for heading in ("vertices", "photos", "agreement"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in told["parts"]:
        agreement = "-" if row["agreement"] is None else f"{row['agreement']:.2f}"
        photos = "-" if row["photos"] is None else str(row["photos"])
        table.add_row(row["name"], str(row["vertices"]), photos, agreement)
    console = Console()
    console.print(table)
    if told["photos"] is not None:
        _show_photos(console, told["photos"])
    files = ", ".join(told[kind] for kind in ("labels", "evidence") if told[kind])
    console.print(f"written: {files}", markup=False, soft_wrap=True)


def _show_photos(console: Console, photos: Mapping[str, Any]) -> None:
    console.print("agreement: overlap (IoU) of labels and annotations over the photos that voted")
    console.print(f"{len(photos['voted'])} photos voted")
    groups = {"contradicted by the others": photos["dropped"], **photos["skipped"]}
    for why, ids in groups.items():
        if ids:
            console.print(f"{len(ids)} did not, {why}: {_listed(ids)}", markup=False)


def _listed(ids: Sequence[int], most: int = 12) -> str:
    told = ", ".join(map(str, ids[:most]))
    return told if len(ids) <= most else f"{told}, ..."
