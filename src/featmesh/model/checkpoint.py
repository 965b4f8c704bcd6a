"""Model folders: a shared trunk, and what belongs to one category (contracts 5).

``models/<category>/`` holds ``model.json``, ``model.safetensors`` and ``CARD.md``; the trunk lies
in ``backbones/`` beside ``models/`` or inside the folder, named by its hash. Nothing is unpickled,
nothing is used whose hash is not the one ``model.json`` states.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from featmesh.config import nearest
from featmesh.errors import CheckpointError
from featmesh.files import (
    broken,
    check_schema,
    explained,
    json_bytes,
    read_json,
    read_tensors,
    refuse_foreign,
    sha256_of,
    sync_folder,
    tensor_bytes,
    write_bytes_atomic,
)

from .card import write_card
from .shape_folder import find_shape_space

if TYPE_CHECKING:
    import featmesh.model.category

FORMAT_VERSION = 1
MANIFEST, TENSORS = "model.json", "model.safetensors"
KIND = "kind"  # key of model.json that a category model does not have
_NEXT = ".next-"  # a model being replaced; see _manifest
_OWN_KEYS = ("schema", "category", "config", "backbone", "tensors")
_PART_KEYS = {"backbone": ("name", "file", "sha256"), "tensors": ("sha256",)}
# told about a model, without a say in what it answers: not part of its hash
_TOLD = ("data", "licence", "metrics", "limits", "notes")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\.safetensors")
_IN_RUNS = ("model", "models/*")  # where training and new-category leave it in their folder
_HEX = re.compile(r"[0-9a-f]{64}")
_FOREIGN_SUFFIXES = (".pth", ".pt", ".ckpt", ".pkl", ".npz", ".bin")


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """What a checked model folder holds.

    Attributes:
        folder: where it was read.
        category: name of the category.
        config: the model's config, as JSON holds it.
        trunk_name: name of the shared network.
        trunk: its tensors, float32 where stored in half precision.
        tensors: head, template, texture, clutter and what else belongs to the category.
        extra: threshold, metrics, licence notes: every other key of ``model.json``.
        hash: of all that decides what the model answers (64 hexadecimal digits).
    """

    folder: Path
    category: str
    config: dict[str, Any]
    trunk_name: str
    trunk: dict[str, Tensor]
    tensors: dict[str, Tensor]
    extra: dict[str, Any]
    hash: str


def load(name_or_folder: str | Path) -> "featmesh.model.category.CategoryModel":
    """Return a bundled model by name, or the model in a folder, ready to estimate.

    Raises:
        CheckpointError: E_CKPT_NAME for an unknown name, or a model of another kind;
            E_CKPT_MISSING, E_CKPT_FOREIGN, E_CKPT_VERSION, E_CKPT_FORMAT, E_CKPT_PATH, E_CKPT_HASH
            or E_CKPT_NONFINITE for a folder that cannot be trusted.
        InputError: E_CONFIG for a config with an unknown key or a value of the wrong type.
    """
    from .category import CategoryModel

    files = read_model(find_model(name_or_folder))
    if KIND in files.extra:
        raise CheckpointError(
            "E_CKPT_NAME",
            f"load: expected a category model, got a network without a mesh (kind "
            f"{files.extra[KIND]!r}) in {files.folder}; "
            f"try: featmesh evaluate --model {files.folder}",
        )
    return CategoryModel.from_files(files)


def load_all(
    names_or_folders: Iterable[str | Path],
) -> list["featmesh.model.category.CategoryModel"]:
    """Return models as :func:`load` does, of which those with the same trunk share it in memory.

    The shared trunk is to look with, not to be trained: what trains a model loads it by itself.
    """
    trunks: dict[tuple[str, str], Any] = {}
    models = []
    for name in names_or_folders:
        folder = find_model(name)
        model, trunk = load(folder), _manifest(folder)["backbone"]
        key = (trunk["name"], trunk["sha256"])
        model.backbone.trunk = trunks.setdefault(key, model.backbone.trunk)
        models.append(model)
    return models


def bundled_models() -> dict[str, Path]:
    """Return the folders of the models that come with featmesh, by name."""
    folders = [root / "models" for root in reversed(_roots())]
    found = [path for folder in folders for path in sorted(folder.glob(f"*/{MANIFEST}"))]
    return {path.parent.name: path.parent for path in found}


def bundled_categories() -> list[str]:
    """Return the name of one bundled model of each category: of several, the one called like it."""
    names: dict[str, str] = {}
    for name, folder in bundled_models().items():
        category = _manifest(folder)["category"]
        if category == name or category not in names:
            names[category] = name
    return sorted(names.values())


def find_model(name_or_folder: str | Path) -> Path:
    """Return the model folder that a path or the name of a bundled model stands for.

    Raises:
        CheckpointError: E_CKPT_NAME with the bundled names and the nearest, or for a shape space
            without a network; E_CKPT_FOREIGN for a file or folder of pickled weights.
    """
    path = Path(name_or_folder)
    if os.path.isfile(path) and path.name == MANIFEST:
        return path.parent
    if os.path.isfile(path / MANIFEST):  # os.path: a name too long for a file is just no file
        return path
    for file in [path, *(sorted(path.iterdir()) if os.path.isdir(path) else [])]:
        if os.path.isfile(file) and file.suffix in _FOREIGN_SUFFIXES:
            with suppress(OSError), open(file, "rb") as opened:
                refuse_foreign(file, opened.read(16))
    bundled = bundled_models()
    if str(name_or_folder) in bundled:
        return bundled[str(name_or_folder)]
    alone = find_shape_space(path)
    if alone is not None:
        raise CheckpointError(
            "E_CKPT_NAME",
            f"load: expected a category model, got a shape space without a network in {alone}; "
            f"try: featmesh shape-space {alone}",
        )
    got = (
        f"{path}, which holds no {MANIFEST}" if os.path.exists(path) else repr(str(name_or_folder))
    )
    names = ", ".join(sorted(bundled)) or "none"
    kinds = _IN_RUNS if os.path.isdir(path) else ()
    within = [f for kind in kinds for f in sorted(path.glob(f"{kind}/{MANIFEST}"))]
    hint = str(within[0].parent) if within else nearest(path.name, bundled)
    raise CheckpointError(
        "E_CKPT_NAME",
        f"load: expected a bundled model ({names}) or a model folder, got {got}; try: {hint}",
    )


def read_model(folder: str | Path) -> ModelFiles:
    """Return what a model folder holds, after all its checks; errors as in ``load``."""
    folder = Path(folder)
    manifest = _manifest(folder)
    backbone, digest = manifest["backbone"], manifest["tensors"]["sha256"]
    trunk = read_tensors(find_trunk(folder, backbone["file"]), backbone["sha256"])
    tensors = read_tensors(folder / TENSORS, digest)
    return ModelFiles(
        folder,
        manifest["category"],
        manifest["config"],
        backbone["name"],
        _unhalved(trunk),
        _unhalved(tensors),
        {key: value for key, value in manifest.items() if key not in _OWN_KEYS},
        model_hash(manifest),
    )


def save_model(
    folder: str | Path,
    category: str,
    config: dict[str, Any],
    trunk: dict[str, Tensor],
    trunk_name: str,
    tensors: dict[str, Tensor],
    extra: dict[str, Any] | None = None,
) -> str:
    """Write a model folder and return the model's hash; an old model there stays whole until then.

    The trunk's weights are stored in half precision (its vectors, among them running variances,
    in float32) in ``../../backbones/`` of ``models/<category>``, else inside the folder. A
    ``CARD.md`` is written from ``extra``, unless there is one written by hand.

    Args:
        folder: e.g. ``models/car``.
        category: name of the category.
        config: as JSON holds it.
        trunk: tensors of the shared network.
        trunk_name: its name; letters, digits, ``_``, ``-`` and dots.
        tensors: what belongs to the category, stored as given.
        extra: further keys of ``model.json``: threshold, metrics, licence, data, limits, ...

    Raises:
        FeatmeshError: E_DISK_FULL, naming path and bytes needed; an old model is intact.
        CheckpointError: E_CKPT_NONFINITE for NaN or Inf; E_CKPT_FORMAT or E_CKPT_PATH for a key of
            ``extra`` or a name that cannot be used.
    """
    folder = Path(folder)
    data = tensor_bytes(_halved(trunk), folder / trunk_name)
    digest = hashlib.sha256(data).hexdigest()
    content = tensor_bytes(tensors, folder / TENSORS)
    manifest: dict[str, Any] = {
        "schema": FORMAT_VERSION,
        "category": category,
        "config": config,
        "backbone": {
            "name": trunk_name,
            "file": f"{trunk_name}-{digest[:8]}.safetensors",
            "sha256": digest,
        },
        "tensors": {"sha256": hashlib.sha256(content).hexdigest()},
    }
    _extend(manifest, extra or {}, folder)
    text = json_bytes(manifest)
    _checked(json.loads(text), folder / MANIFEST)
    home = Path(os.path.abspath(folder))
    trunk_folder = home.parents[1] / "backbones" if home.parent.name == "models" else home
    trunk_path = trunk_folder / manifest["backbone"]["file"]
    if not (trunk_path.is_file() and sha256_of(trunk_path) == digest):
        write_bytes_atomic(trunk_path, data)
    _replace(folder, {TENSORS: content, MANIFEST: text})
    own = model_hash(manifest)
    write_card(folder, manifest, own)
    return own


def update_model(folder: str | Path, extra: dict[str, Any]) -> str:
    """Set further keys of ``model.json`` (threshold, metrics, ...) and return the model's hash.

    The tensors are neither read nor written; errors as in ``load`` and ``save_model``.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    _extend(manifest, extra, folder)
    write_bytes_atomic(folder / MANIFEST, json_bytes(manifest))
    own = model_hash(manifest)
    write_card(folder, manifest, own)
    return own


def model_hash(manifest: dict[str, Any]) -> str:
    """Return the hash over trunk, tensors and every key of ``model.json`` that decides answers."""
    decides = {key: value for key, value in manifest.items() if key not in _TOLD}
    decides["backbone"] = manifest["backbone"]["sha256"]
    text = json.dumps(json.loads(json_bytes(decides)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _roots() -> tuple[Path, ...]:
    """Folders that may hold ``models`` and ``backbones``: in the wheel, then in a checkout."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1]
    is_checkout = package.parent.name == "src" and (checkout / "pyproject.toml").is_file()
    return (package / "bundled", *([checkout] if is_checkout else []))


def find_trunk(folder: Path, name: str) -> Path:
    """Return where a model's trunk lies: shared or in its folder; E_CKPT_MISSING if nowhere."""
    beside = Path(os.path.abspath(folder)).parents[
        1:2
    ]  # of models/<category>; none for a folder of the root
    places = [*(p / "backbones" for p in beside), folder, *(r / "backbones" for r in _roots())]
    for place in places:
        if (place / name).is_file():
            return place / name
    got = f"none in {', '.join(map(str, places))}"
    raise broken("MISSING", folder / MANIFEST, f"its trunk {name}", got, "copy it beside the model")


def bundled_backbone(name: str) -> Path | None:
    """Return where a network that comes with featmesh lies; None where it was left out."""
    places = [root / "backbones" / name for root in _roots()]
    return next((path for path in places if path.is_file()), None)


def _manifest(folder: Path) -> dict[str, Any]:
    """Return the checked manifest that belongs to the tensors in the folder.

    Two files cannot be renamed at once: after a kill between them the tensors are new and
    ``model.json`` is old, but the new one lies beside it.
    """
    path = folder / MANIFEST
    manifest = _checked(read_json(path), path)
    following = folder / f"{_NEXT}{MANIFEST}"
    if following.is_file() and (folder / TENSORS).is_file():
        new = _checked(read_json(following), following)
        if new["tensors"] != manifest["tensors"]:
            if sha256_of(folder / TENSORS) == new["tensors"]["sha256"]:
                return new
    return manifest


def _replace(folder: Path, content: dict[str, bytes]) -> None:
    """Write both files of a model beside the old ones, then rename: tensors first."""
    for name, data in content.items():
        write_bytes_atomic(folder / f"{_NEXT}{name}", data)
    with explained(folder, 0):
        for name in content:
            os.replace(folder / f"{_NEXT}{name}", folder / name)
            sync_folder(folder)


def _checked(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    check_schema(manifest, FORMAT_VERSION, path)
    kinds = {"category": str, "config": dict, "backbone": dict, "tensors": dict}
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            got = type(manifest.get(key)).__name__
            hint = "restore the file"
            raise broken("FORMAT", path, f"{key!r} to be a {kind.__name__}", got, hint)
    for part, keys in _PART_KEYS.items():
        for key in keys:
            value = manifest[part].get(key)
            if not isinstance(value, str) or (key == "sha256" and not _HEX.fullmatch(value)):
                got = repr(value)[:80]
                raise broken("FORMAT", path, f"text in {part}.{key}", got, "restore the file")
    file = manifest["backbone"]["file"]
    if not _FILE_NAME.fullmatch(file):
        got = repr(file)[:80]
        raise broken("PATH", path, "a bare file name in backbone.file", got, "restore the file")
    return manifest


def _extend(manifest: dict[str, Any], extra: dict[str, Any], folder: Path) -> None:
    taken = sorted(set(extra) & set(_OWN_KEYS))
    if taken:
        hint = "another key"
        raise broken("FORMAT", folder / MANIFEST, "further keys", ", ".join(taken), hint)
    manifest.update(extra)


def _halved(trunk: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: _half(t) if t.is_floating_point() else t for name, t in trunk.items()}


def _half(tensor: Tensor) -> Tensor:
    """Half precision for weights it can hold; vectors are few and span more than it does."""
    half = tensor.half() if tensor.dim() > 1 else tensor
    return half if half.dim() > 1 and bool(torch.isfinite(half).all()) else tensor.float()


def _unhalved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    halves = (torch.float16, torch.bfloat16)
    return {name: t.float() if t.dtype in halves else t for name, t in tensors.items()}
