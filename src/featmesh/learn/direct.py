"""Conventional networks trained on disk, by the configuration of a category model's training.

``RUN/step-NNNNNN/`` holds the last states, ``RUN/log.jsonl`` the errors on the inner validation
after each pass, ``RUN/models/<category>/`` the model. The same photos, crops, trunk, optimiser and
learning rates as of :mod:`featmesh.learn.session`; only head and loss are others.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from featmesh.config import config_to_dict
from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.evaluate.metrics import pose_summary
from featmesh.geometry.rotations import geodesic_angle
from featmesh.model.direct import LOSSES, DirectModel, answer, build_direct
from featmesh.model.direct_config import DirectConfig
from featmesh.progress import Meter
from featmesh.store import WAITS, RunLock, Steps

from .config import TrainConfig
from .correspondence import Sample
from .data import TrainData, load_data
from .direct_data import TurnedCrops, drawn_crops, still_crops
from .nearest import IndexLearner
from .presets import prepared
from .session import begin, deterministic, same_run, stoppable
from .trainer import (
    StepReport,
    TrainState,
    descend,
    learning_rate,
    moments,
    parameter_groups,
    take_moments,
    within,
)


class NetLearner:
    """A network and its optimiser."""

    def __init__(self, config: TrainConfig, model: DirectModel, data: TrainData) -> None:
        """Begin.

        Args:
            config: of the run.
            model: kind ``bins`` or ``6d``; it is trained in place.
            data: samples.
        """
        self.config, self.model, self.data, self.step = config, model, data, 0
        network, decay = model.backbone, config.weight_decay
        groups = parameter_groups(network.head, config.lr_head, decay)
        groups += parameter_groups(network.trunk, config.lr_trunk, decay)
        self.optimiser = torch.optim.AdamW(groups, lr=config.lr_head)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.steps

    @property
    def per_epoch(self) -> int:
        """Steps of a pass."""
        return self.config.steps_per_epoch

    def draw(self, step: int) -> TurnedCrops:
        """Return the crops of a step."""
        return drawn_crops(self.data, self.config, step)

    def still(self, samples: Sequence[Sample], first: int) -> TurnedCrops:
        """Return up to a batch of unvaried crops, the samples from ``first`` on."""
        return still_crops(samples, self.data, self.config, first)

    def learn(self, crops: TurnedCrops) -> StepReport:
        """Do one step; told as accuracy is the share of answers less than 30 degrees off.

        Raises:
            FeatmeshError: E_NONFINITE where the loss is not finite; nothing has been changed then.
        """
        start, model = time.monotonic(), self.model
        model.backbone.train()
        said = answer(model.backbone, crops.pixels)
        loss = LOSSES[model.config.kind](said, crops.R)
        descend([self.optimiser], loss, learning_rate(self.step, self.steps), self.step)
        self.step += 1
        found, _ = model.read([said.detach()])
        right = float((geodesic_angle(found, crops.R) < math.pi / 6).double().mean())
        rate, spent = self.optimiser.param_groups[0]["lr"], time.monotonic() - start
        return StepReport(self.step, self.steps, float(loss.detach()), right, rate, spent)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, tensor by tensor."""
        out = {f"net.{k}": v for k, v in self.model.backbone.state_dict().items()}
        out |= {f"opt.{k}": v for k, v in moments(self.optimiser).items()}
        return {k: v.detach().contiguous() for k, v in out.items()}

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take up the state that :meth:`tensors` gave after ``step`` steps."""
        self.model.backbone.load_state_dict(within(tensors, "net."))
        take_moments(self.optimiser, within(tensors, "opt."))
        self.step = step

    def trained(self) -> DirectModel:
        """Return the model as it stands."""
        return self.model


Learner = NetLearner | IndexLearner  # what a run moves on
LEARNERS: dict[str, type[Learner]] = {"bins": NetLearner, "6d": NetLearner, "nearest": IndexLearner}


def train_direct(config: TrainConfig, direct: DirectConfig) -> int:
    """Train a conventional network; return 0 when the model is written, 130 or 143 when stopped.

    A run folder that holds states of the same configuration is gone on with, bit for bit.

    Args:
        config: as of :func:`featmesh.learn.session.train`; what concerns texture and contrast is
            not looked at.
        direct: which network.

    Raises:
        InputError: E_CONFIG for crops of a frozen trunk, which keep no rotations.
        DatasetError: E_VIEWS, E_DATA.
        FeatmeshError: E_LOCKED, E_DISK_FULL, E_CONFIG, E_NONFINITE.
    """
    config = prepared(config)
    if config.crops:
        raise InputError(
            "E_CONFIG",
            f"train: expected no --crops with this method, got {config.crops}; try: --crops 0",
        )
    folder, kind = Path(config.out), config_to_dict(direct)
    with RunLock(folder), deterministic(config.threads), stoppable() as stopped:
        steps = Steps(folder, waits=WAITS)
        state = begin(config)
        data = load_data(config, state.template)
        learner = LEARNERS[direct.kind](config, untrained(state, direct), data)
        found = same_run("train", config, steps, direct=kind)
        if found is not None:
            learner.restore(*found)
        threads = torch.get_num_threads()
        meta = {"config": config_to_dict(config), "direct": kind, "threads": threads}
        done = run(learner, lambda: steps.save(learner.step, learner.tensors(), meta), stopped)
        if not done:
            return stopped[0]
        write_model(learner, folder)
    return 0


def untrained(state: TrainState, direct: DirectConfig) -> DirectModel:
    """Return the network before the first step, around the trunk that a category's would have."""
    config = state.config
    torch.manual_seed(int(generator(config.seed, "direct weights").integers(2**31)))
    backbone = build_direct(direct, config.model)
    backbone.trunk = state.backbone.trunk
    return DirectModel(config.category, direct, config.model, backbone, state.template)


def run(learner: Learner, save: Callable[[], Any], stopped: list[int]) -> bool:
    """Do the steps that are left, saving now and then; return whether all are done.

    Args:
        learner: where to begin; it is moved on.
        save: writes its state.
        stopped: not empty once the run is to stop.
    """
    config, saved = learner.config, learner.step
    meter, told = Meter("train", learner.steps, learner.step), ""
    with ThreadPoolExecutor(1) as pool:  # the next crops are cut while these are learnt
        upcoming = pool.submit(learner.draw, learner.step)
        while learner.step < learner.steps and not stopped:
            crops = upcoming.result()
            upcoming = pool.submit(learner.draw, learner.step + 1)
            report = learner.learn(crops)
            if _passed(learner):
                told = _log(learner)
                meter.note(told)
            meter.show(report.step, f"loss {report.loss:.3f}  right {report.accuracy:.3f}  {told}")
            if report.step % config.save_every == 0:
                save()
                saved = report.step
    meter.close()
    if saved < learner.step:
        save()
    return learner.step == learner.steps


def _passed(learner: Learner) -> bool:
    """Return whether a pass has ended; who looks up has nothing to say before the last."""
    last = learner.step == learner.steps
    return last or (isinstance(learner, NetLearner) and learner.step % learner.per_epoch == 0)


def _log(learner: Learner) -> str:
    """Append the errors on the inner validation to ``log.jsonl``; return them in words."""
    errors = validation_errors(learner)
    found = pose_summary(errors.numpy()).to_json() if len(errors) else {}
    row = {"step": learner.step, **found, "time": round(time.time())}
    with (Path(learner.config.out) / "log.jsonl").open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
    return f"val acc@30 {found['acc_30']:.3f} acc@10 {found['acc_10']:.3f}" if found else ""


def validation_errors(learner: Learner) -> Float64[Tensor, " n"]:
    """Return the rotation errors, radians, on unvaried crops of the views kept out."""
    model, kept = learner.trained(), learner.data.held_out
    errors = [torch.zeros(0, dtype=torch.float64)]
    for first in range(0, len(kept), learner.config.batch):
        crops = learner.still(kept, first)
        found, _ = model.rotations(crops.pixels.permute(0, 2, 3, 1).byte())
        errors.append(geodesic_angle(found, crops.R))
    return torch.cat(errors)


def write_model(learner: Learner, folder: Path) -> DirectModel:
    """Write the model folder, and what the model was trained on."""
    config, model = learner.config, learner.trained()
    training = {
        "views": [Path(v).name for v in config.views],
        "photos": [len(g) for g in learner.data.groups],
        "steps": learner.step,
        "seed": config.seed,
    }
    model = replace(model, extra={**model.extra, "training": training})
    model.save(folder / "models" / config.category)
    return model
