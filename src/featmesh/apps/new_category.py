"""What ``featmesh new-category`` does: from a folder of CADs to a model, stage by stage (ours).

check and align the CADs -> template and shape space -> rendered views -> features -> test on CADs
kept out -> model folder with card and pictures. The same command goes on where it was stopped.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featmesh.model.checkpoint import MANIFEST, model_hash
from featmesh.store import RunLock, read_json

from .new_category_cads import CONTACT, settle_cads
from .new_category_config import NewCategoryConfig
from .new_category_held_out import held_out_stage, joined
from .new_category_learn import check_photos, shape_stage, train_stage, views_stage
from .new_category_run import STAGES, Run, finish, settled

WORK: dict[str, tuple[str, Callable[[Run], int]]] = {
    "shape": ("template and shape space", shape_stage),
    "views": ("render the views to train on", views_stage),
    "train": ("train the features", train_stage),
    "test": ("test on the CADs kept out", held_out_stage),
}
TRUNK_LICENCE = "trunk: as the model it was taken from (EfficientNet-Lite0: Apache-2.0)"


def new_category(
    name: str, config: NewCategoryConfig, say: Callable[[str], None]
) -> tuple[int, dict[str, Any] | None]:
    """Make a model of a category; return 0 and what is told about it, or 130, 143 where stopped.

    Args:
        name: of the category; any that can be a folder's.
        config: see there.
        say: is given lines about what is done.

    Raises:
        InputError: E_CONFIG, E_CAD_UP, E_CAD_FRONT (the contact sheet is to be looked at), E_IO.
        DatasetError: E_DATA (too few CADs), E_VIEWS (photos of another category), E_IO.
        FeatmeshError: E_LOCKED, E_DISK_FULL, E_CONFIG (the folder is another run's).
    """
    config = settled(name, config)
    with RunLock(config.out):
        run = settle_cads(name, config, say)
        if not run.is_done("train"):
            check_photos(run)
        for stage, (told, work) in WORK.items():
            if run.is_done(stage):
                continue
            say(f"{STAGES.index(stage) + 1}/{len(STAGES)} {stage}: {told}")
            code = work(run)
            if code:
                return code, None
        if not run.is_done("model"):
            _model(run)
    return 0, summary(run)


def summary(run: Run) -> dict[str, Any]:
    """Return what is told about a finished run: model, accuracies, CADs, seconds of each stage."""
    cads = run.told("cads")
    return {
        "model": str(run.folder("model")),
        "hash": run.told("model")["hash"],
        "figures": run.told("test")["figures"],
        "learnt": run.told("shape")["cads"],
        "held_out": cads["held_out"],
        "refused": cads["refused"],
        "up": run.up,
        "front": run.front,
        "seconds": {stage: run.told(stage)["seconds"] for stage in STAGES},
    }


def _model(run: Run) -> None:
    """Write the model folder: features, shape space, card, pictures."""
    started, folder = time.monotonic(), run.folder("model")
    model = joined(run)
    model.extra |= _stated(run)
    model.save(str(folder))
    for source, name in _pictures(run).items():
        shutil.copyfile(source, folder / name)
    manifest = read_json(folder / MANIFEST)
    finish(
        run, "model", {"hash": model_hash(manifest), "trunk": manifest["backbone"]["file"]}, started
    )


def _pictures(run: Run) -> dict[Path, str]:
    return {
        run.folder("cads") / CONTACT: "cads.png",
        run.folder("views") / "sheet.png": "views.png",
        run.folder("test") / "estimates.png": "estimates.png",
    }


def _stated(run: Run) -> dict[str, Any]:
    """Return what ``model.json`` and the card say beside the numbers of the network."""
    cads, shape, views = run.told("cads"), run.told("shape"), run.told("views")
    data = {
        "CADs learnt from": ", ".join(shape["cads"]),
        "CADs only tested on": ", ".join(cads["held_out"]),
        "attribution": cads["attributions"],
        "rendered views": f"{views['count']} by featmesh render-views, seed {run.config.seed}",
        "backgrounds": _backgrounds(run, views["pictures"]),
    }
    if run.config.photos:
        data["photos"] = f"{Path(run.config.photos).name}, mixed in as often as rendered views"
    stated: dict[str, Any] = {
        "data": data,
        "licence": [f"CADs: {terms}" for terms in cads["licences"]] + [TRUNK_LICENCE],
        "metrics": {f"held-out CADs, {k}": v for k, v in run.told("test")["figures"].items()},
        "limits": _limits(run),
    }
    if run.config.symmetry != 1:
        stated["symmetry"] = run.config.symmetry
    return stated


def _backgrounds(run: Run, count: int) -> str:
    if not count:
        return "none: colours"
    return f"{count} pictures of {Path(run.config.backgrounds).name}, the first half by name"


def _limits(run: Run) -> list[str]:
    """Return what the numbers do not say."""
    shape, kept = run.told("shape"), run.told("train")["calibrated_on"]
    limits = ["measured on renders of CADs kept out, not on photos; boxes and cameras given"]
    if not run.config.photos:
        limits.append("trained on renders alone: photos are harder")
    if not run.config.backgrounds:
        limits.append("trained before plain colours: --backgrounds makes it fit for photos")
    limits.append(f"shape space of {len(shape['cads'])} CADs, {shape['latents']} latents")
    limits.append(
        f"confidence fitted on views of {kept} CADs the features were not trained on"
        if kept
        else "no confidence: too few CADs to keep one out"
    )
    if run.config.symmetry != 1:
        turns = "any turn" if run.config.symmetry == "any" else f"{run.config.symmetry} turns"
        limits.append(f"{turns} about the upright axis look alike: azimuths are one of them")
    return limits
