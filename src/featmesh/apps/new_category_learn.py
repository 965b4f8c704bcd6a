"""The middle of ``featmesh new-category``: shape space, rendered views, features.

Each stage is a program of its own that goes on where it was stopped; here they are handed on.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from featmesh.errors import DatasetError
from featmesh.files import read_json, read_tensors, write_tensors_atomic
from featmesh.learn.register import stretch_prior
from featmesh.learn.session import train
from featmesh.learn.shape_space import REPORT, learn_shape
from featmesh.model.shape_folder import ShapeSpace
from featmesh.paths import write_whole
from featmesh.views.generate_config import GenerateConfig
from featmesh.views.presets import chosen
from featmesh.views.record import read_views

from .new_category_cads import off_text, rendered
from .new_category_run import Run, finish
from .render_views import pictures_of, render

SHAPES = "shapes.safetensors"
FEW, MANY = 4, 8  # learnt CADs from which one, and two, are kept out to fit the confidence on


def shape_stage(run: Run) -> int:
    """Learn template and shape space; leave the template alone, and its vertices on each CAD."""
    started, out = time.monotonic(), run.folder("shape")
    learnt = run.told("cads")["learn"]
    ask = run.config.shape
    kind = replace(ask.deformation, latents=min(ask.deformation.latents, len(learnt) - 1))
    config = replace(
        ask,
        cad=str(run.folder("cads") / "learn"),
        out=str(out),
        category=run.name,
        seed=run.config.seed,
        deformation=kind,
    )
    code = learn_shape(config)
    if code:
        return code
    template = ShapeSpace.read(out / "models" / run.name).template
    (out / "template").mkdir(exist_ok=True)
    write_whole(out / "template" / "template.off", off_text(template))
    shapes = registered_vertices(out, run.told("cads")["placed"])
    write_tensors_atomic(out / SHAPES, {name: v.float() for name, v in shapes.items()})
    mean = read_json(out / REPORT)["mean"]
    told = {"cads": sorted(shapes), "latents": kind.latents, "vertices": len(template.vertices)}
    finish(run, "shape", {**told, "mean": mean}, started)
    return 0


def registered_vertices(folder: Path, placed: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return where the template's vertices lie on each CAD that was learnt from, as rendered.

    Args:
        folder: of a finished run of ``learn-shape``.
        placed: by name, ``centre`` and ``diagonal`` of what was learnt from within what is
            rendered (they differ where a file holds more than one object).
    """
    shapes = {}
    for row in read_json(folder / REPORT)["cads"]:
        name = row["name"].removesuffix(".off")
        start = f"{row['name']}-"
        found = [p for p in (folder / "registered").iterdir() if p.name.startswith(start)]
        newest = max(found, key=lambda path: path.stat().st_mtime)
        place = placed[name]
        vertices = read_tensors(newest)["vertices"] * place["diagonal"]
        shapes[name] = vertices + torch.tensor(place["centre"], dtype=vertices.dtype)
    return shapes


def views_stage(run: Run) -> int:
    """Render the views to train on."""
    started = time.monotonic()
    cads = rendered(run, run.told("shape")["cads"])
    backgrounds = Path(run.config.backgrounds) if run.config.backgrounds else None
    pictures = pictures_of(backgrounds, "first", run.config.leave_out)
    amount = (run.config.views, run.config.seed, jobs(run))
    told = render(cads, pictures, run.folder("views"), amount, look(run))
    finish(run, "views", {"count": told["count"], "pictures": len(pictures)}, started)
    return 0


def look(run: Run) -> GenerateConfig:
    """Return how views are rendered: as the category's own, with what was asked for."""
    return replace(chosen(run.looks_like, run.config.look), category=run.name)


def jobs(run: Run) -> int:
    """Return how many processes render."""
    return run.config.jobs or os.cpu_count() or 1


def train_stage(run: Run) -> int:
    """Train the features on the rendered views, and on labelled photos where there are some."""
    started, ask = time.monotonic(), run.config
    learnt = run.told("shape")["cads"]
    photos = (str(Path(ask.photos)),) if ask.photos else ()
    shapes = run.folder("shape") / SHAPES
    spread = stretch_prior(read_tensors(shapes).values())
    config = replace(
        ask.train,
        model=replace(ask.train.model, stretch_prior=spread),
        views=(str(run.folder("views") / "views.json"), *photos),
        out=str(run.folder("train")),
        category=run.name,
        cad=str(run.folder("shape") / "template"),
        shapes=str(shapes),
        backgrounds=ask.backgrounds,
        background_exclude=_left_out(run),
        validation_models=(len(learnt) >= FEW) + (len(learnt) >= MANY),
        seed=ask.seed,
    )
    code = train(config)
    if code:
        return code
    log = (run.folder("train") / "log.jsonl").read_text("utf-8").splitlines()
    told = {"passes": len(log), "calibrated_on": config.validation_models}
    finish(run, "train", told, started)
    return 0


def _left_out(run: Run) -> tuple[str, ...]:
    """Return the names of the background pictures that show the category."""
    if not run.config.backgrounds or not run.config.leave_out:
        return ()
    ends = tuple(f"_{number:04d}" for number in run.config.leave_out)
    folder = Path(run.config.backgrounds)
    return tuple(sorted(p.name for p in folder.iterdir() if p.stem.endswith(ends)))


def check_photos(run: Run) -> None:
    """Refuse a views file without labelled photos of the category.

    Raises:
        DatasetError: E_VIEWS.
    """
    if not run.config.photos:
        return
    views = read_views(run.config.photos)
    if not any(v.category == run.name and v.R is not None for v in views):
        found = ", ".join(sorted({v.category for v in views})) or "no records"
        raise DatasetError(
            "E_VIEWS",
            f"new-category: expected records of {run.name!r} with R in {run.config.photos}, got "
            f"{found}; try: the category of the records as NAME",
        )
