"""Several categories learn one trunk together, each with a head and a texture of its own (ours).

A step draws a few crops of some categories and puts them through the trunk together. Each head
reads the maps of its own crops, and of some of the others', all of which is background to it. So
the trunk learns what tells surfaces apart in general, and heads learn to refuse each other's
objects. The state of a run is that of every category, the trunk once.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from featmesh.draws import generator

from .data import Batch, TrainData, collate, draw_crops, with_background
from .trainer import (
    StepReport,
    TrainState,
    descend,
    freeze,
    learning_rate,
    moments,
    parameter_groups,
    remember,
    step_loss,
    take_moments,
    within,
)

TRUNK = "trunk."  # where a run's tensors keep the shared trunk
FREE = "net.trunk."  # what each category's own tensors do not repeat


@dataclass(frozen=True)
class JointConfig:
    """How categories share a trunk; what else there is to say is each category's own."""

    steps: int = 4000
    """steps in all"""
    together: int = 4
    """categories in a step"""
    crops: int = 4
    """crops of each of them"""
    foreign: int = 1
    """crops of the others that each head sees as background"""
    lr_trunk: float = 4e-4
    """peak learning rate of the trunk"""
    freeze_blocks: int = 5
    """first blocks of the trunk that stay as they are"""
    seed: int = 0
    """of the categories' turns"""


class JointState:
    """The categories' states around one trunk, which has an optimiser of its own."""

    def __init__(self, config: JointConfig, states: Sequence[TrainState]) -> None:
        """Begin; every state's backbone gets the first one's trunk."""
        self.config, self.states, self.step = config, list(states), 0
        self.trunk = states[0].backbone.trunk
        for state in states:
            state.backbone.trunk = self.trunk
        self.trunk.requires_grad_(True)
        freeze(self.trunk, config.freeze_blocks)
        groups = parameter_groups(self.trunk, config.lr_trunk, states[0].config.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=config.lr_trunk)

    def chosen(self, step: int) -> list[int]:
        """Return the categories of a step: all have had their turn before one has another."""
        count, together = len(self.states), min(self.config.together, len(self.states))
        turns = range(step * together, (step + 1) * together)
        drawn = [
            int(generator(self.config.seed, "turns", n // count).permutation(count)[n % count])
            for n in turns
        ]
        return list(dict.fromkeys(drawn))

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, tensor by tensor."""
        out = {f"{TRUNK}{k}": v for k, v in self.trunk.state_dict().items()}
        out |= {f"opt.{k}": v for k, v in moments(self.optimiser).items()}
        for number, state in enumerate(self.states):
            own = {k: v for k, v in state.tensors().items() if not k.startswith(FREE)}
            out |= {f"{number}.{k}": v for k, v in own.items()}
            out[f"{number}.step"] = torch.tensor(state.step)
        return {k: v.detach().contiguous() for k, v in out.items()}

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take up the state that :meth:`tensors` gave after ``step`` steps."""
        trunk = within(tensors, TRUNK)
        self.trunk.load_state_dict(trunk)
        take_moments(self.optimiser, within(tensors, "opt."))
        for number, state in enumerate(self.states):
            own = within(tensors, f"{number}.")
            done = int(own.pop("step"))
            state.restore(done, own | {f"{FREE}{k}": v for k, v in trunk.items()})
        self.step = step

    def take_over(self, tensors: dict[str, Tensor]) -> None:
        """Begin with what another run had learnt, as :meth:`tensors` gave it; optimisers anew."""
        self.restore(0, {k: v for k, v in tensors.items() if "opt" not in k.split(".")})


def draw_together(state: JointState, data: Sequence[TrainData], step: int) -> dict[int, Batch]:
    """Return the crops of a step, by category."""
    batches = {}
    for number in state.chosen(step):
        config = state.states[number].config
        purpose = f"joint {config.category}"
        drawn = [generator(config.seed, purpose, step, k) for k in range(state.config.crops)]
        crops = draw_crops(data[number], config, drawn)
        batches[number] = collate(crops, data[number], config, drawn)
    return batches


def joint_step(state: JointState, batches: dict[int, Batch]) -> tuple[float, float]:
    """Do one step; return mean contrastive loss and anchor accuracy of its categories.

    Raises:
        FeatmeshError: E_NONFINITE where a loss is not finite; nothing has been changed then.
    """
    chosen = [state.states[number] for number in batches]
    for one in chosen:
        one.backbone.train()
    maps = chosen[0].backbone.maps(torch.cat([b.pixels for b in batches.values()]))
    ends = torch.tensor([len(b.pixels) for b in batches.values()]).cumsum(0).tolist()
    said, given = [], []
    for k, (one, batch) in enumerate(zip(chosen, batches.values(), strict=True)):
        own = list(range(ends[k] - len(batch.pixels), ends[k]))
        # the next ones in the step, round its end
        more = [(ends[k] + j) % ends[-1] for j in range(state.config.foreign)]
        more = [j for j in more if j not in own]
        given.append(with_background(batch, len(more)))
        size = (batch.pixels.shape[-2], batch.pixels.shape[-1])
        features = one.backbone.read([level[own + more] for level in maps], size)
        said.append(step_loss(one, features, given[-1]))
    rate = learning_rate(state.step, state.config.steps)
    total = torch.stack([s.total for s in said]).mean()
    optimisers = [state.optimiser, *(one.optimiser for one in chosen)]
    descend(optimisers, total, rate, state.step)
    right = [remember(o, s, b) for o, s, b in zip(chosen, said, given, strict=True)]
    state.step += 1
    losses = [float(s.contrastive.detach()) for s in said]
    return sum(losses) / len(losses), sum(right) / len(right)


def run_together(
    state: JointState,
    data: Sequence[TrainData],
    on_step: Callable[[StepReport], None],
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train until the last step, or until ``stop`` says so; return whether the run is complete.

    Args:
        state: where to begin; it is moved on.
        data: of each category.
        on_step: told after each step (progress, checkpoints).
        stop: asked before each step.
    """
    with ThreadPoolExecutor(1) as pool:  # the next crops are cut while these are learnt
        upcoming = pool.submit(draw_together, state, data, state.step)
        while state.step < state.config.steps:
            if stop():
                return False
            begin = time.monotonic()
            batches = upcoming.result()
            upcoming = pool.submit(draw_together, state, data, state.step + 1)
            loss, right = joint_step(state, batches)
            rate = learning_rate(state.step, state.config.steps) * state.config.lr_trunk
            spent = time.monotonic() - begin
            on_step(StepReport(state.step, state.config.steps, loss, right, rate, spent))
    return True
