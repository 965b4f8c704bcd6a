"""A training run on disk: begins, goes on after a kill, ends with a model folder.

``RUN/step-NNNNNN/`` holds the last states, ``RUN/log.jsonl`` what was measured after each pass,
``RUN/models/<category>/`` the model. Ctrl-C finishes the step, saves and leaves.
"""

import ctypes
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from featmesh.config import config_to_dict
from featmesh.draws import generator
from featmesh.errors import CheckpointError, FeatmeshError
from featmesh.files import read_json, read_tensors, sha256_of
from featmesh.geometry.mesh import Mesh, read_mesh
from featmesh.geometry.mesh_file import MESH_KINDS
from featmesh.geometry.template import fit_template
from featmesh.model.backbones import build_backbone
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import MANIFEST, bundled_models, load, read_model
from featmesh.model.clutter import cluster
from featmesh.model.config import ModelConfig
from featmesh.progress import Meter
from featmesh.store import WAITS, RunLock, Steps

from .calibration import cross_fitted, fit_calibration, outcomes
from .config import TrainConfig
from .data import TrainData, draw_batch, load_data
from .fill_texture import fit_graph_texture, graph_painter
from .frozen import frozen_draw
from .gist_training import gist_alone
from .presets import prepared
from .ranks import Ranks, expect_shareable, together
from .shape_config import ShapeLearnConfig
from .trainer import StepReport, TrainState, run, torch_generator

INTERRUPTED = 130  # exit code after Ctrl-C, state saved
TERMINATED = 143
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
FREE = ("out", "save_every", "threads")  # what may change when a run goes on


def train(config: TrainConfig) -> int:
    """Train a category; return 0 when the model is written, 130 or 143 when stopped and saved.

    A run folder that holds states of the same configuration is gone on with, bit for bit.

    Raises:
        DatasetError: E_VIEWS, E_DATA.
        FeatmeshError: E_LOCKED, E_DISK_FULL, E_CONFIG, E_NONFINITE, E_RANKS.
    """
    with together() as ranks:
        return _train(config, ranks)


def _train(config: TrainConfig, ranks: Ranks) -> int:
    folder = Path(config.out)
    alone = ranks.first_within(RunLock(folder))
    with alone, deterministic(config.threads), stoppable() as stopped:
        config = prepared(config)
        steps = Steps(folder, waits=WAITS)
        state = begin(config)
        expect_shareable(ranks, config, state.backbone)
        data = load_data(config, state.template)
        ranks.first(lambda: resume(state, steps))
        take_over(state, ranks)
        meter = Meter("train", state.steps, state.step)
        log = _Log(folder / "log.jsonl", state, meter)

        def after_step(report: StepReport) -> None:
            meter.show(
                report.step,
                f"loss {report.loss:.3f}  right {report.accuracy:.3f}  val {log.validation:.3f}",
            )
            if report.step % config.save_every == 0:
                ranks.first(lambda: save(state, steps))

        def after_epoch(epoch: int, accuracy: float) -> None:
            ranks.first(lambda: log.after_epoch(epoch, accuracy))

        share = partial(draw_batch, share=ranks.share(config.batch))
        draw = frozen_draw(config, data, state.backbone) if config.crops else share
        stop = partial(ranks.agreed, stopped)
        done = run(state, data, after_step, after_epoch, stop, draw, ranks)
        meter.close()
        ranks.first(lambda: save(state, steps))
        if not done:
            return stopped[0]
        ranks.first(lambda: write_model(state, data, folder))
    return 0


def begin(config: TrainConfig) -> TrainState:
    """Return the state before the first step: of a new network, or of a trained model."""
    if config.start:
        return _taken_over(config, load(config.start))
    template = _template(config)
    torch.manual_seed(int(generator(config.seed, "weights").integers(2**31)))
    backbone = build_backbone(config.model)
    trunk = _trunk(config)
    missing, unknown = backbone.trunk.load_state_dict(trunk, strict=False)
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or unknown:
        raise CheckpointError(
            "E_CKPT_CONFIG",
            f"train: expected the weights of a {config.model.backbone} trunk, got "
            f"{len(missing)} missing and {len(unknown)} unknown; try: another --trunk",
        )
    return TrainState(config, template, backbone)


def _taken_over(config: TrainConfig, model: CategoryModel) -> TrainState:
    """Return the state that goes on with a trained model's network, texture and clutter."""
    fits = _network_of(model.config) == _network_of(config.model)
    if not fits or model.category != config.category:
        raise CheckpointError(
            "E_CKPT_CONFIG",
            f"train: expected a {config.category!r} model of the configured network in "
            f"{config.start}, got {model.category!r} with {model.config}; try: its own --model.*",
        )
    state = TrainState(config, model.template, model.backbone.requires_grad_(True))
    state.texture = model.texture.clone()
    state.queue[: len(model.clutter)] = model.clutter
    return state


def _network_of(config: ModelConfig) -> ModelConfig:
    """Return what of a model's configuration cannot change when training goes on."""
    return replace(config, deformation=None, crop_height=0, crop_width=0)


def _template(config: TrainConfig) -> Mesh:
    if not config.cad:
        return load(config.category).template
    files = sorted(f for f in Path(config.cad).iterdir() if f.suffix in MESH_KINDS)
    if not files:
        raise CheckpointError(
            "E_MESH_EMPTY",
            f"train: expected CADs ({', '.join(MESH_KINDS)}) in {config.cad}, got "
            "none; try: --cad FOLDER",
        )
    if len(files) == 1 and files[0].stem == "template":
        return read_mesh(files[0])
    return fit_template([read_mesh(f) for f in files], generator(config.seed, "template"))


def _trunk(config: TrainConfig) -> dict[str, torch.Tensor]:
    """Return the trunk of a file, else the category's own, else the one most models share."""
    if config.trunk:
        return read_tensors(config.trunk, sha256_of(config.trunk))
    folders = bundled_models()
    files = {name: _trunk_file(folder) for name, folder in sorted(folders.items())}
    sharing = Counter(files.values())
    order = sorted(files, key=lambda name: (name != config.category, -sharing[files[name]]))
    for name in order:
        found = read_model(folders[name])
        if found.trunk_name == config.model.backbone:
            return found.trunk
    raise CheckpointError(
        "E_CKPT_MISSING",
        f"train: expected a bundled model with a {config.model.backbone} trunk, got none; "
        "try: --trunk FILE",
    )


def _trunk_file(folder: Path) -> str:
    return str(read_json(folder / MANIFEST)["backbone"]["file"])


def save(state: TrainState, steps: Steps) -> None:
    """Write the state; the same step twice is the same state."""
    meta = {"config": config_to_dict(state.config), "threads": torch.get_num_threads()}
    steps.save(state.step, state.tensors(), meta)


def resume(state: TrainState, steps: Steps) -> None:
    """Take up the newest whole state of the run folder, if there is one.

    Raises:
        FeatmeshError: E_CONFIG where the folder belongs to another configuration.
    """
    found = same_run("train", state.config, steps)
    if found is not None:
        state.restore(*found)


def take_over(state: TrainState, ranks: Ranks) -> None:
    """Take up the state of rank 0: the others need neither its run folder nor its rounding."""
    if ranks.world > 1:
        told = ranks.of_first(state.tensors() | {"step": torch.tensor(state.step)})
        state.restore(int(told.pop("step")), told)


def same_run(
    who: str, config: TrainConfig | ShapeLearnConfig, steps: Steps, **beside: Any
) -> tuple[int, dict[str, torch.Tensor]] | None:
    """Return the step and the tensors of a run folder's newest whole state; None without one.

    Args:
        who: asks, for the message.
        config: must be the one the state was written with, but for what is FREE.
        steps: the run folder's.
        **beside: what else the state was written with, beside ``config``; as JSON holds it.

    Raises:
        FeatmeshError: E_CONFIG where the folder belongs to another configuration.
    """
    found = steps.latest()
    if found is None:
        return None
    step, tensors, meta = found
    now = {**config_to_dict(config), **beside}
    then = {**meta.get("config", {}), **{name: meta.get(name) for name in beside}}
    wrong = sorted(k for k in now if k not in FREE and now[k] != then.get(k))
    if wrong:
        raise FeatmeshError(
            "E_CONFIG",
            f"{who}: expected the configuration {config.out} was begun with, got "
            f"other values of {', '.join(wrong)}; try: another --out, or the old values",
        )
    return step, tensors


def write_model(state: TrainState, data: TrainData, folder: Path) -> CategoryModel:
    """Write the model folder: clutter centres, gist, calibration, what it was trained on."""
    config = state.config
    draw = torch_generator(config.seed, "clutter")
    centres = cluster(state.queue, config.model.clutter_centres, draw)
    first = load(config.start) if config.start else None
    model = CategoryModel(
        config.category,
        replace(config.model, deformation=first.config.deformation if first else None),
        state.template,
        state.texture,
        centres,
        state.backbone.eval(),
        texture_map=state.map.filled() if state.map is not None else None,
        extra={
            "training": {
                "views": [Path(v).name for v in config.views],
                "photos": [len(g) for g in data.groups],
                "steps": state.step,
                "seed": config.seed,
            }
        },
        deformation=first.deformation if first else None,
    )
    if model.texture_map is not None:
        model.texture = model.texture_map.at_vertices()
        seen = model.texture_map.coverage()
        model.extra["training"]["surface_seen"] = round(seen.area, 3)
    if config.model.texture == "gcn":
        graph = graph_painter(model, config.seed)
        fit_graph_texture(graph, model.texture)
        model.texture = graph.texture().detach()
    if config.gist:
        model.gist = gist_alone(config, data, model.backbone)
    if data.held_out:  # negatives alone say nothing of poses
        known = outcomes(model, data.held_out, data.scenery.pictures, config.seed)
        model.calibration = fit_calibration(known)
        if model.calibration is not None:
            model.extra["reliability"] = cross_fitted(known)
    model.save(str(folder / "models" / config.category))
    return model


class _Log:
    """Appends a line to ``log.jsonl`` after each pass and remembers the last accuracy."""

    def __init__(self, path: Path, state: TrainState, meter: "Meter") -> None:
        self.path, self.state, self.meter = path, state, meter
        self.validation = float("nan")

    def after_epoch(self, epoch: int, accuracy: float) -> None:
        """Write down the inner validation accuracy of a pass."""
        self.validation = accuracy
        row = {
            "epoch": epoch,
            "step": self.state.step,
            "validation": round(accuracy, 5),
            "time": round(time.time()),
        }
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        self.meter.note(f"pass {epoch}: inner validation {accuracy:.3f}")


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Let torch compute the same bits each time, on ``threads`` cores; undone afterwards.

    Memory that torch lets go of stays with the process until its end.
    """
    settings: Any = torch.utils.deterministic  # its one setting is unknown to mypy
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, False
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    keep_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        settings.fill_uninitialized_memory = filled


def keep_memory() -> None:
    """Let the C library keep freed memory for the next tensor, where it is glibc.

    A training step frees and asks for the same large tensors again and again; pages that go back
    to the system each time come back empty, which costs a fifth of the step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop; the second one acts at once."""
    wish: list[int] = []
    codes = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}

    def on_signal(number: int, _frame: object) -> None:
        if wish:
            sys.exit(wish[0])
        wish.append(codes[signal.Signals(number)])

    try:
        before = {s: signal.signal(s, on_signal) for s in codes}
    except ValueError:  # not the main thread: the caller handles signals
        yield wish
        return
    try:
        yield wish
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
