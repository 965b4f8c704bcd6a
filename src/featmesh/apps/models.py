"""The bundled models side by side: ``featmesh models``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from featmesh.files import read_json
from featmesh.model.card import CARD
from featmesh.model.checkpoint import MANIFEST, TENSORS, bundled_models

SCHEMA = 1
NONE = "not stated"
# what a licence's text holds, and what it is called in the table
KINDS = {
    "Attribution": "CC-BY",
    "CC BY": "CC-BY",
    "CC-BY": "CC-BY",
    "CC0": "CC0",
    "Public domain": "public domain",
    "MIT": "MIT",
    "GPL": "GPL",
    "Apache": "Apache-2.0",
    "research": "research only",
}


def list_models(folders: Mapping[str, Path] | None = None) -> list[dict[str, Any]]:
    """Return what each model says of itself, by name; tensors are not read.

    ``measured`` has what its card has under that head: figures by what they were measured on;
    ``bytes`` counts its own files, ``trunk_bytes`` the shared network (None where it lies
    elsewhere).

    Args:
        folders: model folders by name; default: the bundled ones.

    Raises:
        CheckpointError: E_CKPT_FORMAT where a ``model.json`` cannot be read.
    """
    found = bundled_models() if folders is None else folders
    return [_row(name, Path(folder)) for name, folder in sorted(found.items())]


def _row(name: str, folder: Path) -> dict[str, Any]:
    stated = read_json(folder / MANIFEST)
    trunk = str(stated.get("backbone", {}).get("file", ""))
    places = [folder / trunk, folder.absolute().parents[1] / "backbones" / trunk]
    sizes = [place.stat().st_size for place in places if place.is_file()]
    evidence = (stated.get("evidence") or {}).get("file", "")
    own = [folder / file for file in (MANIFEST, TENSORS, CARD, evidence) if file]
    space = stated.get("config", {}).get("deformation")
    return {
        "name": name,
        "category": stated.get("category"),
        "folder": str(folder),
        "measured": stated.get("metrics"),
        "data": stated.get("data"),
        "licence": stated.get("licence"),
        "latents": space["latents"] if space else 0,
        "parts": len(stated.get("labels") or ()),
        "symmetry": stated.get("symmetry", 1),
        "trunk": trunk,
        "bytes": sum(path.stat().st_size for path in own if path.is_file()),
        "trunk_bytes": sizes[0] if sizes else None,
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the models as a table, and what a model weighs beside the shared trunks."""
    table = Table(box=None, pad_edge=False)
    for head in ("model", "measured (acc@30 / acc@10)", "licence"):
        table.add_column(head, overflow="fold")
    table.add_column("MB", justify="right")
    for row in rows:
        told = [row["name"], measured(row["measured"]), kinds(row["licence"])]
        table.add_row(*told, f"{row['bytes'] / 1e6:.1f}")
    console = Console()
    console.print(table, markup=False)
    trunks = {row["trunk"]: row["trunk_bytes"] for row in rows if row["trunk_bytes"]}
    for trunk, size in trunks.items():
        console.print(f"and the trunk they share: {trunk}, {size / 1e6:.1f} MB", markup=False)


def measured(value: Any) -> str:
    """Return figures in one line each: accuracies where there are some, else as they stand."""
    if not isinstance(value, Mapping) or not value:
        return NONE if not value else str(value)
    lines = []
    for name, one in value.items():
        if isinstance(one, Mapping) and one.get("acc_30") is not None:
            figures = f"{one['acc_30']:.2f} / {one['acc_10']:.2f}"
            turned = one.get("symmetric")
            if isinstance(turned, Mapping) and turned.get("acc_30") is not None:
                figures += f" (up to symmetry {turned['acc_30']:.2f} / {turned['acc_10']:.2f})"
            lines.append(f"{name}: {figures}")
        elif not isinstance(one, Mapping):
            lines.append(f"{name}: {one}")
    return "\n".join(lines) or NONE


def kinds(value: Any) -> str:
    """Return which kinds of licences are stated, each once; ``featmesh info MODEL`` has it all."""
    if not value:
        return NONE
    stated = [str(item) for item in (value if isinstance(value, list | tuple) else [value])]
    known = [next((short for part, short in KINDS.items() if part in s), s) for s in stated]
    return ", ".join(sorted(dict.fromkeys(known)))
