"""Learning a category's shape space, on disk: CADs in, a model with a shape space out.

``RUN/registered/`` holds the template drawn onto each CAD, ``RUN/step-NNNNNN/`` the last states,
``RUN/report.json`` how well each CAD is said, ``RUN/models/<category>/`` the model. A run that was
stopped goes on where it was; CADs added later are registered alone.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from featmesh.config import config_to_dict
from featmesh.draws import generator
from featmesh.errors import CheckpointError, DatasetError, InputError
from featmesh.evaluate.shape_metrics import chamfer, flipped_faces
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.solid import outer_points
from featmesh.geometry.template import fit_template
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import load
from featmesh.model.shape_folder import ShapeSpace
from featmesh.progress import Meter, track
from featmesh.store import (
    WAITS,
    RunLock,
    Steps,
    read_tensors,
    write_json_atomic,
    write_tensors_atomic,
)
from featmesh.views.cads import read_cad_folder

from .register import Surface, outer_surface, register
from .session import deterministic, same_run, stoppable
from .shape_config import ShapeLearnConfig
from .shape_fit import fit_latent
from .shape_training import Example, ShapeState, run, standardise

__all__ = ["fit_latent", "learn_shape"]

REPORT = "report.json"
SCHEMA = 1
MEASURED = 10_000  # surface points of a Chamfer distance
FEWEST = 2  # CADs that differ


@dataclass(frozen=True)
class Cads:
    """The CADs to learn from, in object units.

    Attributes:
        meshes: name and mesh of each.
        refused: file name, code and message of the others.
        unit: length of one object unit in the files' unit; None where each CAD has its own.
    """

    meshes: list[tuple[str, Mesh]]
    refused: list[tuple[str, str, str]]
    unit: float | None


def learn_shape(config: ShapeLearnConfig) -> int:
    """Learn a shape space; return 0 when the model is written, 130 or 143 when stopped and saved.

    Raises:
        InputError: E_IO where there is no folder of CADs.
        DatasetError: E_DATA where fewer than two CADs can be used.
        FeatmeshError: E_LOCKED, E_DISK_FULL, E_CONFIG (the run folder is another run's).
    """
    folder = Path(config.out)
    with RunLock(folder), deterministic(config.threads), stoppable() as stopped:
        cads = read_cads(config)
        base = load(config.model) if config.model else None
        template = base.template if base else _wrapped(config, cads)
        examples = []
        for example in track(registered(config, template, cads), len(cads.meshes), "register"):
            if stopped:
                return stopped[0]
            if example is not None:
                examples.append(example)
        _enough(examples, cads)
        state = ShapeState(config, template, examples)
        if not _train(state, examples, Steps(folder, waits=WAITS), stopped):
            return stopped[0]
        standardise(state)
        rows = measured(state, examples, dict(cads.meshes))
        _report(state, cads, rows, folder)
        _write(state, base, cads, rows, folder / "models" / config.category)
    return 0


def read_cads(config: ShapeLearnConfig) -> Cads:
    """Return the CADs of the folder in object units; errors as in :func:`read_cad_folder`."""
    found = read_cad_folder(config.cad)
    if config.size == "each":
        return Cads([(c.name, c.mesh) for c in found.meshes], list(found.refused), None)
    unit = sum(c.report.diagonal for c in found.meshes) / len(found.meshes)
    meshes = [
        (c.name, c.mesh.with_vertices(c.mesh.vertices * (c.report.diagonal / unit)))
        for c in found.meshes
    ]
    return Cads(meshes, list(found.refused), unit)


def _wrapped(config: ShapeLearnConfig, cads: Cads) -> Mesh:
    return fit_template([mesh for _, mesh in cads.meshes], generator(config.seed, "template"))


def registered(config: ShapeLearnConfig, template: Mesh, cads: Cads) -> Iterator[Example | None]:
    """Yield each CAD with the template drawn onto it, None for one without an outside.

    What was computed before is read from the run folder; it is named by all that decides it.
    """
    folder = Path(config.out) / "registered"
    for name, mesh in cads.meshes:
        decides = (mesh.vertices, mesh.faces, template.vertices, template.faces)
        key = hashlib.sha256(
            f"{config.points} {config.deformation.symmetric} {config.seed}".encode()
        )
        for values in decides:
            key.update(values.contiguous().numpy().tobytes())
        path = folder / f"{name}-{key.hexdigest()[:12]}.safetensors"
        try:
            yield _read(name, path) or _drawn(name, path, mesh, template, config)
        except InputError as error:
            cads.refused.append((name, error.code, error.args[0]))
            yield None


def _read(name: str, path: Path) -> Example | None:
    """Return what was written for a CAD; None where there is nothing whole."""
    try:
        found = read_tensors(path)
        surface = Surface(found["points"].double(), found["normals"].double())
        return Example(name, surface, found["vertices"])
    except (CheckpointError, KeyError):
        return None


def _drawn(name: str, path: Path, mesh: Mesh, template: Mesh, config: ShapeLearnConfig) -> Example:
    """Register a CAD and write it down."""
    surface = outer_surface(mesh, config.points, generator(config.seed, f"outer {name}"))
    vertices = register(template, surface, config.deformation.symmetric)
    points, normals = surface.points.float(), surface.normals.float()
    write_tensors_atomic(path, {"points": points, "normals": normals, "vertices": vertices})
    return Example(name, Surface(points.double(), normals.double()), vertices)


def _enough(examples: list[Example], cads: Cads) -> None:
    if len(examples) >= FEWEST:
        return
    told = "".join(f"; {name}: {code}" for name, code, _ in cads.refused)
    raise DatasetError(
        "E_DATA",
        f"learn-shape: expected {FEWEST} CADs or more, got {len(examples)}{told}; try: 5 to 100 "
        "CADs of one category",
    )


def _train(state: ShapeState, examples: list[Example], steps: Steps, stopped: list[int]) -> bool:
    """Do the steps that are left, saving now and then; return whether all are done."""
    names = [e.name for e in examples]
    found = same_run("learn-shape", state.config, steps, cads=names)
    if found is not None:
        state.restore(*found)
    meter = Meter("learn shape", state.steps, state.step)
    meta = {"config": config_to_dict(state.config), "cads": names}

    def after_step(loss: float) -> None:
        meter.show(state.step, f"loss {loss:.4f}")
        if state.step % state.config.save_every == 0:
            steps.save(state.step, state.tensors(), meta)

    done = run(state, examples, after_step, lambda: bool(stopped))
    meter.close()
    steps.save(state.step, state.tensors(), meta)
    return done


@torch.no_grad()
def measured(
    state: ShapeState, examples: list[Example], meshes: dict[str, Mesh]
) -> list[dict[str, Any]]:
    """Return how well each CAD is said: by the template, registered, by its code; its code."""
    template, seed, rows = state.template, state.config.seed, []
    moved = state.deformation(state.codes.data[: state.real]).double()
    for k, example in enumerate(track(examples, len(examples), "measure")):
        outside = outer_points(meshes[example.name], MEASURED, generator(seed, "measure", 0, k))
        shapes = {
            "template": template.vertices.double(),
            "registered": example.registered,
            "code": template.vertices.double() + moved[k],
        }
        row: dict[str, Any] = {"name": example.name}
        for what, vertices in shapes.items():
            mesh = template.with_vertices(vertices)
            points = mesh.sample_surface(MEASURED, generator(seed, "surface", 0, k))
            row[what] = chamfer(points, outside)
            row[f"{what}_flipped"] = flipped_faces(template, mesh)
        rows.append({**row, "latent": state.codes.data[k].tolist()})
    return rows


def _report(state: ShapeState, cads: Cads, rows: list[dict[str, Any]], folder: Path) -> None:
    """Write what was measured, and tell it."""
    whole = {
        "schema": SCHEMA,
        "config": config_to_dict(state.config),
        "unit": cads.unit,
        "refused": [dict(zip(("name", "code", "message"), r, strict=True)) for r in cads.refused],
        "mean": summary(rows),
        "cads": rows,
    }
    write_json_atomic(folder / REPORT, whole)
    meter = Meter("learn shape", 1)
    meter.note("mean two-way distance (object units) of the template, registered, by its code")
    for row in [*rows, {"name": "mean", **summary(rows)}]:
        meter.note(
            f"{row['template']:.4f}  {row['registered']:.4f}  {row['code']:.4f}  "
            f"turned over {row['code_flipped']:.2%}  {row['name']}"
        )
    for name, code, message in cads.refused:
        meter.note(f"left out: {name}: {code}: {message}")
    meter.close()


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means over the CADs of what was measured."""
    keys = [k for k, value in rows[0].items() if isinstance(value, float)]
    return {k: sum(row[k] for row in rows) / len(rows) for k in keys}


def _write(
    state: ShapeState,
    base: CategoryModel | None,
    cads: Cads,
    rows: list[dict[str, Any]],
    folder: Path,
) -> None:
    """Write the model folder: the given model with the shape space, or the shape space alone."""
    config = state.config
    told = {
        "cads": [row["name"] for row in rows],
        "size": config.size,
        "unit": cads.unit,
        **{k: round(v, 6) for k, v in summary(rows).items()},
    }
    if base is None:
        ShapeSpace(config.category, state.template, state.deformation, {"shape": told}).save(folder)
        return
    replace(
        base,
        config=replace(base.config, deformation=config.deformation),
        deformation=state.deformation,
        hash="",
        extra={**base.extra, "shape": told},
    ).save(str(folder))
