"""ImageNet3D: PASCAL3D+'s viewpoint in radians, viewport 2000, one pickled npz a photo (spec 3.4).

The annotation files hold Python objects. They are read by an unpickler that knows numpy arrays and
plain values and nothing else, so that a file can run no code.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from featmesh.geometry.conventions import Pascal3D
from featmesh.views.record import View

from .common import (
    Notes,
    category_name,
    check_split,
    pascal_view,
    photo_of,
    photo_size,
    read_names,
    unreadable,
    usable_box,
)
from .layouts import located, misplaced

NAME = "imagenet3d"
VIEWPORT = 2000.0
MOST = 20_000_000  # bytes of one annotation, unpacked
# how much is seen, as the views file counts it
STATUS = {"status_good": 0, "status_partially": 1, "status_barely": 2, "status_bad": 3}


def read_imagenet3d(
    root: Path, split: str | None = None, category: str | None = None, notes: Notes | None = None
) -> list[View]:
    """Return the views of ImageNet3D: every object that is not marked ``ignore``.

    Frames and units are PASCAL3D+'s; elevations come in [0, 2 pi) and are turned back.

    Args:
        root: the folder ``imagenet3d_v1``, or the one it lies in.
        split: ``train`` or ``val`` by its lists; None: every annotated photo.
        category: one of the two hundred, as its folder is called; None: all.
        notes: told what was left out.

    Raises:
        DatasetError: E_DATASET, E_SPLIT, E_DATA.
    """
    notes = notes or Notes()
    check_split(NAME, split)
    folder = located(NAME, root)
    names = [category] if category else sorted(p.name for p in (folder / "annotations").iterdir())
    views: list[View] = []
    for kind in names:
        for name in _photos(folder, split, kind):
            image = photo_of(folder / "images" / kind, name)
            label = folder / "annotations" / kind / f"{name}.npz"
            if image is None or not label.is_file():
                notes.skip("photos without a file or an annotation")
                continue
            for number, one in enumerate(read_annotations(label)):
                views += _views(image, kind, number, one, notes)
    return views


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """Return the objects of an annotation file; nothing but plain values and arrays is built.

    Raises:
        DatasetError: E_DATA where the file is damaged, too large or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("annotations.npy")
            if member.file_size > MOST:
                raise ValueError(f"{member.file_size} bytes")
            with archive.open(member) as packed:  # archive.read() unpacks more than is stated
                stream = io.BytesIO(packed.read(member.file_size))
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0
        shape, _, dtype = (header if version == (1, 0) else np.lib.format.read_array_header_2_0)(
            stream
        )
        if dtype.kind != "O":
            raise ValueError(f"an array of {dtype}, shape {shape}")
        found = np.atleast_1d(_Plain(stream).load()).ravel().tolist()
        if not all(isinstance(one, dict) for one in found):
            raise ValueError("an array of other things than dicts")
    except Exception as error:  # a pickle can raise anything
        raise unreadable(path, "an ImageNet3D annotation", error) from error
    return found


class _Plain(pickle.Unpickler):
    """Builds numbers, texts, lists, dicts and numpy arrays; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        place = module.replace("numpy.core", "numpy._core")
        if (place, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return _ALLOWED[place, name]


def _of(module: str, name: str) -> Callable[..., Any]:
    import importlib

    return getattr(importlib.import_module(module), name)


def _of_numpy(part: str, name: str) -> Callable[..., Any]:
    """Return what numpy 2 keeps in ``numpy._core``, and 1.26 in ``numpy.core``."""
    try:
        return _of(f"numpy._core.{part}", name)
    except ModuleNotFoundError:
        return _of(f"numpy.core.{part}", name)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): _of_numpy("multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"): _of_numpy("multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"): _of_numpy("numeric", "_frombuffer"),
    ("_codecs", "encode"): _of("_codecs", "encode"),
}


def _photos(folder: Path, split: str | None, kind: str) -> list[str]:
    if split is None:
        return sorted(path.stem for path in (folder / "annotations" / kind).glob("*.npz"))
    listing = folder / "lists" / f"{kind}_imagenet_{split}.txt"
    if not listing.is_file():
        raise misplaced(NAME, str(folder), f"no lists/{listing.name}")
    return read_names(listing)


def _views(image: Path, kind: str, number: int, one: dict[str, Any], notes: Notes) -> list[View]:
    try:
        stated = (int(one["height"]), int(one["width"])) if "height" in one else None
        a, e, theta = (float(np.degrees(one[key])) for key in ("azimuth", "elevation", "theta"))
        distance, px, py = (float(one[key]) for key in ("distance", "px", "py"))
        focal, viewport = float(one.get("focal", 1.0)), float(one.get("viewport", VIEWPORT))
        ignored = float(one.get("ignore", 0)) > 0
        label = Pascal3D(a, e, theta, distance, px, py, focal, viewport)
    except (KeyError, TypeError, ValueError):
        notes.skip("objects whose viewpoint is incomplete")
        return []
    size = photo_size(image, stated)
    box = None if size is None else usable_box(one.get("bbox"), size)
    if ignored:
        notes.skip("objects marked ignore")
    elif not label.distance > 0:
        notes.skip("objects with a coarse viewpoint only (distance 0)")
    elif size is None:
        notes.skip("objects in photos of another size than annotated")
    elif box is None:
        notes.skip("objects whose box misses the photo")
    else:
        status = str(one.get("object_status", ""))
        extras = {"object": number, "object_status": status, "dense": str(one.get("dense", ""))}
        if one.get("cad_index") is not None:
            extras["cad_index"] = int(one["cad_index"])
        kept = {key: value for key, value in extras.items() if value != ""}
        category, occluded = category_name(kind), STATUS.get(status)
        return [pascal_view(image, size, category, label, box, extras=kept, occluded=occluded)]
    return []
