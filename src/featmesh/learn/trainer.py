"""The training loop of a category: contrastive, with a momentum texture; resumes bit for bit.

views -> crops -> features -> contrast with the texture and the clutter -> checkpoint. The state is
network, texture, clutter queue and optimiser; every draw is keyed by its step, so that a run that
was killed and resumed ends on the same weights (reliability 5).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from featmesh.draws import generator
from featmesh.errors import FeatmeshError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import mirror_index
from featmesh.model.backbones import Backbone
from featmesh.model.clutter import push
from featmesh.model.texture import initial_texture, momentum_update, near_anchors
from featmesh.model.texture_map import TextureMap

from .config import TrainConfig
from .data import Batch, TrainData, draw_batch, validation_batch
from .losses import background_loss, contrastive_logits
from .optimiser import (
    freeze,
    learning_rate,
    moments,
    parameter_groups,
    take_moments,
    within,
)
from .ranks import ALONE, Ranks, joined, sees_whole_batches
from .surface_points import read_map

CLUTTER_PER_VIEW = 16  # background cells of each crop that enter the queue
BACKGROUND_PER_STEP = 1024  # background cells that enter the loss


Draw = Callable[[TrainData, TrainConfig, int], Batch]


@dataclass(frozen=True)
class StepReport:
    """What an observer is told after each step.

    Attributes:
        step, steps: steps done, and in all.
        loss: contrastive loss, nats.
        accuracy: share of sampled features whose best anchor is the right one or its neighbour.
        lr: learning rate of the head.
        seconds: of this step.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    lr: float
    seconds: float


def torch_generator(seed: int, purpose: str, epoch: int = 0, index: int = 0) -> torch.Generator:
    """Return a torch generator keyed as :func:`featmesh.draws.generator`."""
    drawn = int(generator(seed, purpose, epoch, index).integers(2**62))
    return torch.Generator().manual_seed(drawn)


class TrainState:
    """Everything a checkpoint must hold: network, texture, clutter queue, optimiser, step."""

    def __init__(self, config: TrainConfig, template: Mesh, backbone: Backbone) -> None:
        self.config, self.template, self.backbone = config, template, backbone
        self.step = 0
        channels = config.model.channels
        draw = torch_generator(config.seed, "texture")
        self.texture = initial_texture(len(template.vertices), channels, draw)
        self.map = texture_map(config, template) if config.model.texture == "uv" else None
        if self.map is not None:
            self.texture = self.map.at_vertices()
        self.queue = initial_texture(config.clutter_queue, channels, draw)
        self.near = near_anchors(template.vertices, config.near)
        self.mirror = mirror_index(template)
        self.optimiser = torch.optim.AdamW(self._groups(), lr=config.lr_head)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.steps

    def _groups(self) -> list[dict]:
        config, trunk = self.config, self.backbone.trunk
        freeze(trunk, config.freeze_blocks if config.lr_trunk > 0 else None)
        head = parameter_groups(self.backbone.head, config.lr_head, config.weight_decay)
        return head + parameter_groups(trunk, config.lr_trunk, config.weight_decay)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, tensor by tensor."""
        out = {f"net.{k}": v for k, v in self.backbone.state_dict().items()}
        out |= {"texture": self.texture, "queue": self.queue}
        if self.map is not None:
            out |= {"map.texels": self.map.texels, "map.weight": self.map.weight}
        out |= {f"opt.{k}": v for k, v in moments(self.optimiser).items()}
        return {k: v.detach().contiguous() for k, v in out.items()}

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take up the state that :meth:`tensors` gave after ``step`` steps."""
        self.backbone.load_state_dict(within(tensors, "net."))
        self.texture, self.queue = tensors["texture"].clone(), tensors["queue"].clone()
        if self.map is not None:
            texels, weight = tensors["map.texels"].clone(), tensors["map.weight"].clone()
            self.map = replace(self.map, texels=texels, weight=weight)
        take_moments(self.optimiser, within(tensors, "opt."))
        self.step = step


def features_of(state: TrainState, batch: Batch, ranks: Ranks = ALONE) -> Float[Tensor, "b c p q"]:
    """Return the feature maps of a batch, from what a frozen trunk has said where it has."""
    if batch.maps is None:
        if ranks.world > 1 or sees_whole_batches(state.backbone):
            return state.backbone(batch.pixels)
        shares = [part.share(len(batch.pixels)) for part in ranks.parts()]
        return torch.cat([state.backbone(batch.pixels[s.start : s.stop]) for s in shares if s])
    model = state.config.model
    maps = [level.float() for level in batch.maps]
    return state.backbone.read(maps, (model.crop_height, model.crop_width))


def read_at(features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the unit features at all points of a batch, and their anchors."""
    found = [read_map(features[k], points) for k, points in enumerate(batch.points)]
    joined = functional.normalize(torch.cat(found), dim=1, eps=1e-6)
    return joined, torch.cat(list(batch.anchor))


@dataclass(frozen=True, eq=False)
class StepLoss:
    """What a batch says before anything is changed.

    Attributes:
        total: what is made smaller; of several ranks, this one's part of it.
        contrastive: its first part, nats.
        found: unit features at the points of the batch.
        anchor: what each point shows.
        cells: unit features of some cells of the background.
    """

    total: Tensor
    contrastive: Tensor
    found: Float[Tensor, "n c"]
    anchor: Int[Tensor, " n"]
    cells: Float[Tensor, "m c"]


def step_loss(
    state: TrainState, features: Float[Tensor, "b c p q"], batch: Batch, ranks: Ranks = ALONE
) -> StepLoss:
    """Return the loss of a batch whose feature maps are ``features``, or a rank's part of it."""
    config = state.config
    found, anchor = read_at(features, batch)
    draw = torch_generator(config.seed, "background", state.step)
    cells = features.permute(0, 2, 3, 1)[batch.background]
    drawn = torch.randperm(len(cells), generator=draw)[:BACKGROUND_PER_STEP]
    cells = cells[drawn]
    losses, backgrounds = [], []
    for part in ranks.parts():
        rows = part.rows([len(a) for a in batch.anchor])
        told = _contrast(state, batch, found, anchor, slice(rows.start, rows.stop))
        losses.append(_part(told, len(rows), found))
        rows = part.rows(batch.background.sum((1, 2)).tolist())
        own = cells[(drawn >= rows.start) & (drawn < rows.stop)]
        told = background_loss(
            own, state.texture, state.queue, config.temperature, config.clutter_weight
        )
        backgrounds.append(_part(told.mean(), len(own), cells))
    loss = torch.stack(losses).sum()
    total = loss
    if len(cells):
        total = loss + config.background_loss * torch.stack(backgrounds).sum()
    return StepLoss(total, loss, found, anchor, cells)


def _contrast(
    state: TrainState, batch: Batch, found: Tensor, anchor: Tensor, rows: slice
) -> Float[Tensor, ""]:
    """Return the mean contrastive loss of some of a batch's points."""
    config, own, right = state.config, found[rows], anchor[rows]
    logits = contrastive_logits(
        own,
        right,
        state.texture,
        state.queue,
        state.near,
        config.temperature,
        config.clutter_weight,
    )
    if state.map is not None:  # a point between the anchors is compared with its own texels
        shown = state.map.sample(*(part[rows] for part in surface_of(batch)))
        said = (own * shown).sum(1, keepdim=True) / config.temperature
        logits = logits.scatter(1, right[:, None], said)
    return functional.cross_entropy(logits, right)


def _part(mean: Tensor, own: int, whole: Tensor) -> Tensor:
    """Return what the mean over ``own`` rows adds to that over ``whole``."""
    if own == len(whole):
        return mean
    return mean * (own / len(whole)) if own else 0 * whole.sum()


def train_step(
    state: TrainState, data: TrainData, batch: Batch, ranks: Ranks = ALONE
) -> tuple[float, float]:
    """Do one step; return the contrastive loss and the anchor accuracy.

    Raises:
        FeatmeshError: E_NONFINITE where the loss is not finite; nothing has been changed then.
    """
    state.backbone.train()
    features, batch = joined(ranks, features_of(state, batch, ranks), batch)
    said = step_loss(state, features, batch, ranks)
    rate = learning_rate(state.step, state.steps)
    descend([state.optimiser], said.total, rate, state.step, ranks)
    return float(ranks.total(said.contrastive.detach())), remember(state, said, batch)


def descend(
    optimisers: Sequence[torch.optim.Optimizer],
    loss: Tensor,
    rate: float,
    step: int,
    ranks: Ranks = ALONE,
) -> None:
    """Move what the optimisers hold down the loss of a step, at a share of their peak rates.

    The loss is the sum of what the ranks hand in.

    Raises:
        FeatmeshError: E_NONFINITE where the loss or its gradient is not finite; neither weights nor
            moments have been changed then.
    """
    expect_finite("loss", ranks.total(loss.detach()), step)
    groups = [g for optimiser in optimisers for g in optimiser.param_groups]
    for group in groups:
        group["lr"] = group["peak"] * rate
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    moved = [p for g in groups for p in g["params"]]
    ranks.add_up([p.grad for p in moved if p.grad is not None])
    length = torch.nn.utils.clip_grad_norm_(moved, 2.0)
    expect_finite("gradient", length, step)
    for optimiser in optimisers:
        optimiser.step()


def expect_finite(what: str, value: Tensor, step: int) -> None:
    """Raise E_NONFINITE where a number of a step is not finite."""
    if not math.isfinite(float(value)):
        raise FeatmeshError(
            "E_NONFINITE",
            f"train: expected a finite {what}, got {float(value)} at step {step}; "
            "try: a lower --lr-head",
        )


def remember(state: TrainState, said: StepLoss, batch: Batch) -> float:
    """Take a step's features into texture and clutter; return the anchor accuracy."""
    found = said.found.detach()
    _update_memory(state, found, batch, said.cells.detach())
    state.step += 1
    with torch.no_grad():
        return anchor_accuracy(found, said.anchor, state)


def texture_map(config: TrainConfig, template: Mesh) -> TextureMap:
    """Return the UV map a run begins with."""
    model = config.model
    draw = torch_generator(config.seed, "texture map")
    size = (model.texture_height, model.texture_width)
    return TextureMap.initial(template, model.channels, size, draw)


def surface_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return face and weights of all surface points of a batch."""
    surface = batch.surface or ()
    return torch.cat([s.face for s in surface]), torch.cat([s.bary for s in surface])


def _update_memory(state: TrainState, found: Tensor, batch: Batch, cells: Tensor) -> None:
    config = state.config
    # early on everything seen so far is poor: forget faster
    momentum = min(config.momentum, 1 - 1 / (state.step + 2))
    if state.map is None:
        anchor = torch.cat(list(batch.anchor))
        state.texture, _ = momentum_update(state.texture, found, anchor, momentum)
    else:
        state.map = state.map.updated(found, *surface_of(batch), momentum)
        state.texture = state.map.at_vertices()
    state.queue = push(state.queue, cells[: CLUTTER_PER_VIEW * config.batch])


def anchor_accuracy(found: Tensor, anchor: Tensor, state: TrainState) -> float:
    """Return the share of features whose best anchor is the right one or one near it."""
    best = (found @ state.texture.T).argmax(1)
    right = (best == anchor) | state.near[best, anchor]
    return float(right.float().mean()) if len(anchor) else 0.0


@torch.no_grad()
def validate(state: TrainState, data: TrainData, ranks: Ranks = ALONE) -> float:
    """Return the anchor accuracy on unvaried crops of the views kept out; nan without any."""
    state.backbone.eval()
    size, (right, count) = state.config.batch, (0.0, 0.0)
    for first in range(ranks.rank * size, len(data.held_out), ranks.world * size):
        batch = validation_batch(data, state.config, first)
        found, anchor = read_at(state.backbone(batch.pixels), batch)
        right += anchor_accuracy(found, anchor, state) * len(anchor)
        count += len(anchor)
    right, count = ranks.total(torch.tensor([right, count], dtype=torch.float64)).tolist()
    return right / count if count else math.nan


def run(
    state: TrainState,
    data: TrainData,
    on_step: Callable[[StepReport], None],
    on_epoch: Callable[[int, float], None],
    stop: Callable[[], bool] = lambda: False,
    draw: Draw = draw_batch,
    ranks: Ranks = ALONE,
) -> bool:
    """Train until the last step, or until ``stop`` says so between two steps.

    Args:
        state: where to begin; it is moved on.
        data: samples.
        on_step: told after each step (progress, checkpoints).
        on_epoch: told the epoch and the validation accuracy after each pass.
        stop: asked before each step.
        draw: gives the batch of a step, or this rank's part of it.
        ranks: of the processes that train together.

    Returns:
        Whether the run is complete.
    """
    from concurrent.futures import ThreadPoolExecutor

    per_epoch = state.config.steps_per_epoch
    with ThreadPoolExecutor(1) as pool:  # the next batch is cut while this one is learnt
        upcoming = pool.submit(draw, data, state.config, state.step)
        while state.step < state.steps:
            if stop():
                return False
            begin = time.monotonic()
            batch = upcoming.result()
            upcoming = pool.submit(draw, data, state.config, state.step + 1)
            loss, accuracy = train_step(state, data, batch, ranks)
            lr = state.optimiser.param_groups[0]["lr"]
            on_step(
                StepReport(state.step, state.steps, loss, accuracy, lr, time.monotonic() - begin)
            )
            if state.step % per_epoch == 0 or state.step == state.steps:
                on_epoch(state.step // per_epoch, validate(state, data, ranks))
    return True
