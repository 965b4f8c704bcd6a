"""Is this installation sound? ``featmesh doctor`` looks and says what to do (reliability 1, 45)."""

import importlib
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import featmesh

CORE = ("torch", "numpy", "scipy", "numba", "PIL", "safetensors", "trimesh", "tyro", "rich")
OPTIONAL = {  # package: what to do when it is there but broken
    "torchvision": "pip uninstall torchvision (featmesh does not need it), or install the one "
    "made for this torch",
    "transformers": "pip install --upgrade transformers, or pip uninstall transformers",
    "viser": "pip install --upgrade 'featmesh[viewer]', or pip uninstall viser",
    "fastapi": "pip install --upgrade 'featmesh[serve]', or pip uninstall fastapi",
    "av": "pip install --upgrade 'featmesh[video]', or pip uninstall av",
    "pi_heif": "pip install --upgrade 'featmesh[heic]', or pip uninstall pi-heif",
    "huggingface_hub": "pip install --upgrade 'featmesh[hub]', or pip uninstall huggingface-hub",
}
BROKEN = (ImportError, RuntimeError, OSError)  # what a half-broken package raises when imported
MAIN = {"PIL": "pillow", "pi_heif": "pi-heif"}


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what.
        ok: whether it is as it should be.
        told: what was found, or what is wrong.
        core: whether featmesh cannot work without it.
        fix: what to do, empty where nothing is wrong.
    """

    name: str
    ok: bool
    told: str
    core: bool = True
    fix: str = ""


def examine() -> list[Check]:
    """Return all checks; none of them raises."""
    return [check for part in PARTS for check in part()]


def is_sound(checks: list[Check]) -> bool:
    """Return whether nothing that featmesh needs is broken."""
    return all(check.ok or not check.core for check in checks)


def doctor_text(checks: list[Check]) -> str:
    """Return the checks as lines to read."""
    lines = []
    for check in checks:
        mark = "ok  " if check.ok else "FAIL" if check.core else "warn"
        lines.append(f"{mark}  {check.name:<14} {check.told}")
        if check.fix:
            lines.append(f"      try: {check.fix}")
    lines.append("featmesh can work" if is_sound(checks) else "featmesh cannot work like this")
    return "\n".join(lines) + "\n"


def doctor_json(checks: list[Check]) -> dict[str, Any]:
    """Return the checks as plain values."""
    return {"schema": 1, "ok": is_sound(checks), "checks": [asdict(check) for check in checks]}


def _python() -> Iterator[Check]:
    told = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    ok = sys.version_info >= (3, 11)
    yield Check("python", ok, told, fix="" if ok else "use Python 3.11 or newer")
    yield Check("featmesh", True, f"{featmesh.__version__} in {Path(featmesh.__file__).parent}")


def _packages() -> Iterator[Check]:
    for name in CORE:
        fault = import_fault(name)
        fix = f"pip install --force-reinstall {MAIN.get(name, name)}"
        yield Check(name, not fault, fault or _version(name), fix=fix if fault else "")
    for name, fix in OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            yield Check(name, True, "not installed, not needed", core=False)
            continue
        fault = import_fault(name)
        told = f"half-broken, featmesh does without: {fault}" if fault else _version(name)
        yield Check(name, not fault, told, core=False, fix=fix if fault else "")


def import_fault(name: str) -> str:
    """Return why a package cannot be imported, nothing if it can."""
    try:
        importlib.import_module(name)
    except BROKEN as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def _version(name: str) -> str:
    try:
        return metadata.version(MAIN.get(name, name))
    except metadata.PackageNotFoundError:
        return "version unknown"


def _kernel() -> Iterator[Check]:
    """Compile the rasteriser and see that it draws a triangle."""
    try:
        import numpy as np

        from featmesh.render.kernels import coverage

        triangle = np.array([[[0, 0, 1], [0, 8, 1], [8, 0, 1]]], dtype=np.float32)
        drawn = coverage(triangle, np.array([[0, 1, 2]], dtype=np.int32), 8, 8, False)
        count = int((drawn == 0).sum())
    except Exception as error:  # compilers fail in many ways
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield Check("kernels", False, told, fix="pip install --force-reinstall numba")
        return
    ok = 28 <= count <= 36  # half of 64 pixels; those on the diagonal go to one side or the other
    fix = "" if ok else "pip install --force-reinstall numba"
    yield Check("kernels", ok, f"compiled, {count} of 64 pixels in the triangle", fix=fix)


def _threads() -> Iterator[Check]:
    try:
        import torch

        told = f"{torch.get_num_threads()} of torch, {os.cpu_count()} processors"
    except BROKEN:
        told = f"{os.cpu_count()} processors"
    yield Check("threads", True, told, core=False)


def _cache() -> Iterator[Check]:
    """Look whether compiled kernels can be kept; else each start compiles them again."""
    package = Path(featmesh.__file__).resolve().parent
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or package / "render" / "__pycache__")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "set NUMBA_CACHE_DIR to a folder that can be written"
        yield Check("kernel cache", False, str(error), core=False, fix=fix)
        return
    yield Check("kernel cache", True, str(folder), core=False)


def _models() -> Iterator[Check]:
    """Read the bundled models: hashes, structure, numbers."""
    try:
        from featmesh.model.checkpoint import bundled_models, read_model

        found = bundled_models()
    except BROKEN as error:
        yield Check("models", False, str(error), fix="see above")
        return
    if not found:
        fix = "install featmesh again, or train one"
        yield Check("models", False, "none bundled", core=False, fix=fix)
    for name, folder in found.items():
        try:
            told, ok = f"hash {read_model(folder).hash[:12]}", True
        except (ValueError, OSError) as error:
            told, ok = " ".join(str(error).split()), False
        yield Check(f"model {name}", ok, told, fix="" if ok else "install featmesh again")


PARTS: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _packages,
    _kernel,
    _threads,
    _cache,
    _models,
)
