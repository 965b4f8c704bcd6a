"""The run of ``featmesh new-category`` on disk: which options it belongs to, which stages are done.

``OUT/run.json`` holds the options; ``OUT/<stage>/done.json`` what a finished stage tells the next.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featmesh.config import config_to_dict
from featmesh.errors import FeatmeshError, InputError
from featmesh.files import read_json, write_json_atomic
from featmesh.geometry.mesh_file import MESH_KINDS
from featmesh.views.cad import Up

from .new_category_config import NewCategoryConfig

SCHEMA = 1
RUN, DONE = "run.json", "done.json"
STAGES = ("cads", "shape", "views", "train", "test", "model")
FREE = ("out", "yes", "up", "front", "jobs")  # may change, or are held as they were settled


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: of the category.
        config: what was asked for, ``out`` filled in.
        up: frame of the CAD files.
        front: degrees from the expected front to the true one, counter-clockwise from above.
        say: tells a line about the run.
    """

    name: str
    config: NewCategoryConfig
    up: Up
    front: float
    say: Callable[[str], None]

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage."""
        return Path(self.config.out) / stage

    def told(self, stage: str) -> dict[str, Any]:
        """Return what a finished stage left for the next."""
        return read_json(self.folder(stage) / DONE)

    def is_done(self, stage: str) -> bool:
        """Return whether a stage is finished."""
        return (self.folder(stage) / DONE).is_file()

    @property
    def looks_like(self) -> str:
        """The category whose cameras and materials are used."""
        return self.config.like or self.name


def settled(name: str, config: NewCategoryConfig) -> NewCategoryConfig:
    """Return the options with the folder of the run; refuse what cannot be meant.

    Raises:
        InputError: E_CONFIG (an option that the command sets itself, a name that is no folder's,
            an amount below 1).
    """
    from .new_category_config import meddled

    if meddled(config):
        raise _wrong("options that the command leaves open", ", ".join(meddled(config)), "none")
    if not name or name.startswith(".") or set(name) & set("/\\:\0"):
        raise _wrong("a name that can be a folder's", repr(name), "kettle")
    amounts = (config.views, config.test_views, config.jobs + 1)
    if min(amounts) < 1 or (config.symmetry != "any" and int(config.symmetry) < 1):
        got = f"views {config.views}, test views {config.test_views}, symmetry {config.symmetry}"
        raise _wrong("amounts of 1 or more", got, "--views 1000")
    return replace(config, out=config.out or str(Path("runs") / name))


def card(name: str, config: NewCategoryConfig) -> dict[str, Any]:
    """Return what the results of a run depend on, with sizes and times of the CAD files."""
    options = {k: v for k, v in config_to_dict(config).items() if k not in FREE}
    for part in ("shape", "train"):
        options[part] = {
            k: v for k, v in options[part].items() if k not in ("threads", "save_every")
        }
    files = sorted(p for p in Path(config.cad).glob("*") if p.suffix.lower() in MESH_KINDS)
    sizes = {p.name: p.stat().st_size for p in files}
    return {"schema": SCHEMA, "name": name, "options": options, "files": sizes}


def begun(name: str, config: NewCategoryConfig) -> tuple[Up, float] | None:
    """Return frame and front of the run in the folder; None where none was begun.

    Raises:
        FeatmeshError: E_CONFIG where the folder holds a run with other options or CADs.
    """
    path = Path(config.out) / RUN
    if not path.is_file():
        return None
    then, now = read_json(path), card(name, config)
    wrong = [k for k in ("name", "files") if then.get(k) != now[k]]
    before = then.get("options", {})
    wrong += sorted(k for k in now["options"] if before.get(k) != now["options"][k])
    up, front = then["up"], float(then["front"])
    wrong += ["up"] if config.up not in ("auto", up) else []
    wrong += ["front"] if config.front is not None and config.front % 360 != front else []
    if wrong:
        raise FeatmeshError(
            "E_CONFIG",
            f"new-category: expected the options {config.out} was begun with, got other "
            f"values of {', '.join(wrong)}; try: another --out, or the old values",
        )
    return up, front


def begin(name: str, config: NewCategoryConfig, up: Up, front: float) -> None:
    """Write down what the run depends on."""
    whole = {**card(name, config), "up": up, "front": front}
    write_json_atomic(Path(config.out) / RUN, whole)


def finish(run: Run, stage: str, told: dict[str, Any], began: float) -> None:
    """Mark a stage as finished."""
    seconds = round(time.monotonic() - began, 1)
    write_json_atomic(run.folder(stage) / DONE, {"schema": SCHEMA, **told, "seconds": seconds})


def _wrong(expected: str, got: str, hint: str) -> InputError:
    return InputError("E_CONFIG", f"new-category: expected {expected}, got {got}; try: {hint}")
