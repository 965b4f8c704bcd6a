"""``CARD.md`` of a model folder: what ``model.json`` says, for people."""

from pathlib import Path
from typing import Any

from featmesh.files import write_bytes_atomic

CARD = "CARD.md"
_SECTIONS = {"data": "Data", "licence": "Licences", "metrics": "Measured", "limits": "Limits"}
_MARK = "<!-- written by featmesh with the model; remove this line to keep your own text -->"


def write_card(folder: Path, manifest: dict[str, Any], digest: str) -> None:
    """Write the card, unless there is one written by hand.

    Args:
        folder: of the model.
        manifest: ``model.json``.
        digest: the model's hash.
    """
    path = folder / CARD
    if path.is_file() and _MARK not in path.read_text("utf-8", "replace"):
        return
    backbone = manifest["backbone"]
    lines = [
        f"# {manifest['category']}",
        *("", _MARK, ""),
        f"A featmesh model, hash `{digest[:12]}`, format {manifest['schema']}; "
        f"trunk {backbone['name']} (`{backbone['file']}`).",
    ]
    for key, title in _SECTIONS.items():
        lines += ["", f"## {title}", "", *(_bullets(manifest.get(key)) or ["Not stated."])]
    write_bytes_atomic(path, ("\n".join(lines) + "\n").encode())


def _bullets(value: Any, indent: str = "") -> list[str]:
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            nested = isinstance(item, dict | list)
            lines.append(f"{indent}- {key}:" + ("" if nested else f" {_told(item)}"))
            lines += _bullets(item, indent + "  ") if nested else []
        return lines
    if isinstance(value, list | tuple):
        return [f"{indent}- {_told(item)}" for item in value]
    return [] if value is None else [f"{indent}{_told(value)}"]


def _told(value: Any) -> str:
    """Return a value as text; of numbers as many digits as say something."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
