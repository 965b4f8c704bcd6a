"""What a model is, what it was made of and what was measured on it: ``featmesh info``."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from featmesh.config import config_to_dict
from featmesh.errors import CheckpointError
from featmesh.files import sha256_of
from featmesh.model import shape_folder
from featmesh.model.card import CARD
from featmesh.model.checkpoint import (
    MANIFEST,
    TENSORS,
    bundled_models,
    find_model,
    read_model,
)
from featmesh.model.shape_folder import ShapeSpace, find_shape_space

SCHEMA = 1
ALONE = "a shape space without a network (featmesh shape-space shows it)"


def describe_model(name_or_folder: str | Path) -> dict[str, Any]:
    """Return the facts about a model, after the checks of :func:`featmesh.load`.

    ``shape_space`` is None for a model of the mean shape only; ``tensors`` counts numbers;
    ``files`` have bytes and SHA-256; every key of ``model.json`` that was measured or stated
    (threshold, metrics, data, licence, limits, ...) stands in ``stated``. A shape space without a
    network has the same facts, and no ``hash``.

    Raises:
        CheckpointError: the model is unknown or cannot be trusted.
    """
    try:
        folder = find_model(name_or_folder)
    except CheckpointError:
        alone = find_shape_space(name_or_folder)
        if alone is None:
            raise
        return _describe_shape_space(alone)
    files = read_model(folder)
    names = [folder / name for name in (MANIFEST, TENSORS, CARD)]
    listed = [path for path in (*names, _trunk_file(folder)) if path is not None and path.is_file()]
    card = folder / CARD
    return {
        "schema": SCHEMA,
        "name": folder.absolute().name,
        "category": files.category,
        "hash": files.hash,
        "folder": str(folder),
        "config": files.config,
        "shape_space": _shape_space(files.config, files.tensors),
        "tensors": {
            f"trunk {files.trunk_name}": sum(t.numel() for t in files.trunk.values()),
            **{name: tensor.numel() for name, tensor in sorted(files.tensors.items())},
        },
        "files": _file_facts(listed),
        "stated": files.extra,
        "card": card.read_text("utf-8") if card.is_file() else None,
    }


def _describe_shape_space(folder: Path) -> dict[str, Any]:
    """Return the facts about a shape space without a network."""
    space = ShapeSpace.read(folder)
    config = {"deformation": config_to_dict(space.deformation.config)}
    tensors = space.tensors()
    return {
        "schema": SCHEMA,
        "name": folder.absolute().name,
        "category": space.category,
        "hash": None,
        "folder": str(folder),
        "config": config,
        "shape_space": _shape_space(config, tensors),
        "tensors": {name: tensor.numel() for name, tensor in sorted(tensors.items())},
        "files": _file_facts([folder / shape_folder.MANIFEST, folder / shape_folder.TENSORS]),
        "stated": space.extra,
        "card": None,
    }


def info_text(facts: dict[str, Any]) -> str:
    """Return the facts as a page to read: the card, then files, sizes and config."""
    lines = [facts["card"].rstrip() if facts["card"] else f"# {facts['name']}", ""]
    space = facts["shape_space"]
    shape = f"{space['kind']}, {space['latents']} latents" if space else "the mean shape only"
    kind = f"hash    {facts['hash']}" if facts["hash"] else f"kind    {ALONE}"
    lines += [kind, f"folder  {facts['folder']}", f"shape   {shape}"]
    lines += ["", "files"]
    for file in facts["files"]:
        lines.append(f"  {file['name']:<44} {file['bytes']:>12,} B  {file['sha256'][:12]}")
    lines += ["", f"numbers {sum(facts['tensors'].values()):,} in {len(facts['tensors'])} parts"]
    for title in ("config", "stated"):
        lines += ["", title, json.dumps(facts[title], indent=2, ensure_ascii=False)]
    return "\n".join(lines) + "\n"


def _shape_space(config: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any] | None:
    """Return kind, length of the code and count of the learnt numbers; None: no shape space."""
    space = config.get("deformation")
    if space is None:
        return None
    learnt = [t.numel() for name, t in tensors.items() if name.startswith("deformation.")]
    return {"kind": space["kind"], "latents": space["latents"], "numbers": sum(learnt)}


def _file_facts(paths: list[Path]) -> list[dict[str, Any]]:
    return [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
    ]


def _trunk_file(folder: Path) -> Path | None:
    """Return the shared network's file: in the folder, or in ``backbones/`` beside ``models/``."""
    name = json.loads((folder / MANIFEST).read_text("utf-8"))["backbone"]["file"]
    homes = [path.absolute().parent.parent for path in (folder, *bundled_models().values())]
    places = [folder, *(home / "backbones" for home in homes)]
    return next((place / name for place in places if (place / name).is_file()), None)
