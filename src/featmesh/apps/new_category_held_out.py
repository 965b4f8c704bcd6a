"""How good a new category is: held-out CADs rendered clean and behind occluders, estimated, scored.

Official errors and, where turns about the upright axis look alike, errors up to such turns.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from featmesh.errors import CheckpointError
from featmesh.evaluate.predict import evaluate
from featmesh.inference.estimator import estimate
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import load
from featmesh.model.shape_folder import ShapeSpace
from featmesh.photo.read import read_photo
from featmesh.present.overlay import overlay
from featmesh.progress import track
from featmesh.views.generate_config import GenerateConfig
from featmesh.views.record import View, read_views

from .new_category_cads import rendered
from .new_category_learn import jobs, look
from .new_category_pictures import write_tiles
from .new_category_run import Run, finish
from .render_views import pictures_of, render

LEVELS: tuple[Literal["clean", "L2"], ...] = ("clean", "L2")
DRAWN = 12  # estimates drawn of each level
FIGURES = ("count", "acc_30", "acc_10", "median_deg")


def held_out_stage(run: Run) -> int:
    """Render, estimate and score views of the CADs that were kept out."""
    started, told = time.monotonic(), {}
    model = joined(run)
    for number, level in enumerate(LEVELS):
        folder = run.folder("test") / level
        views = _views(run, folder, level, run.config.seed + 1 + number)
        told[level] = scored(evaluate(model, views, folder))
    _draw(model, run)
    finish(run, "test", {"figures": told}, started)
    return 0


def joined(run: Run) -> CategoryModel:
    """Return the trained model with the shape space of its template; it states its symmetry.

    Raises:
        CheckpointError: E_CKPT_CONFIG where they are of different templates.
    """
    model = load(run.folder("train") / "models" / run.name)
    space = ShapeSpace.read(run.folder("shape") / "models" / run.name)
    if not model.template.faces.equal(space.template.faces):
        raise CheckpointError(
            "E_CKPT_CONFIG",
            f"new-category: expected features and shape space of one template in {run.config.out}, "
            "got two; try: another --out",
        )
    symmetry = run.config.symmetry
    stated = {} if symmetry == 1 else {"symmetry": symmetry}
    config = replace(model.config, deformation=space.deformation.config)
    return replace(
        model,
        config=config,
        template=space.template,
        deformation=space.deformation,
        extra={**model.extra, **space.extra, **stated},
    )


def _views(run: Run, folder: Path, level: str, seed: int) -> list[View]:
    """Return views of the held-out CADs before pictures that were not trained on."""
    backgrounds = Path(run.config.backgrounds) if run.config.backgrounds else None
    pictures = pictures_of(backgrounds, "second", run.config.leave_out)
    amount = (run.config.test_views, seed, jobs(run))
    cads = rendered(run, run.told("cads")["held_out"])
    render(cads, pictures, folder, amount, _level(look(run), level))
    return read_views(folder / "views.json")


def _level(config: GenerateConfig, level: str) -> GenerateConfig:
    """Return how test views are rendered: whole objects, bare or behind occluders."""
    bare = replace(config, share_truncated=0.0, share_small=min(config.share_small, 0.1))
    if level == "clean":
        return replace(bare, share_occluded=0.0)
    return replace(bare, share_occluded=1.0, level="L2")


def scored(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that the card tells; ``symmetric`` beside them where turns look alike.

    Args:
        metrics: of :func:`featmesh.evaluate.predict.evaluate`.
    """
    official = {name: metrics["pose"][name] for name in FIGURES}
    turned = metrics.get("symmetric")
    if turned is None:
        return official
    return {**official, "symmetric": {name: turned["pose"][name] for name in FIGURES}}


def _draw(model: CategoryModel, run: Run) -> None:
    """Write ``estimates.png``: the first held-out views of each level, as they are estimated."""
    tiles = []
    for level in LEVELS:
        views = read_views(run.folder("test") / level / "views.json")[:DRAWN]
        for view in track(views, len(views), f"draw {level}"):
            photo = read_photo(view.image)
            found = estimate(model, photo, box=view.box_or_image, camera=view.camera)
            sure = "" if found.confidence is None else f" {found.confidence:.2f}"
            tiles.append((f"{level}: {found.status}{sure}", overlay(photo, found)))
    head = f"held-out CADs of {run.name}, rendered; status and confidence of the estimates"
    write_tiles(run.folder("test") / "estimates.png", tiles, head)
