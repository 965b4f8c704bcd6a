"""What AdamW moves, how fast, and what it remembers: tensors that a checkpoint holds (ours)."""

import math

import torch
from torch import Tensor

WARM_UP = 0.05  # share of the steps in which the learning rate grows


def within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def parameter_groups(module: torch.nn.Module, lr: float, decay: float) -> list[dict]:
    """Return what of a module is trained, for AdamW: weights decay, vectors do not."""
    weights = [p for p in module.parameters() if p.requires_grad]
    parts = [([p for p in weights if p.dim() > 1], decay), ([p for p in weights if p.dim() < 2], 0)]
    return [
        {"params": chosen, "lr": lr, "peak": lr, "weight_decay": share}
        for chosen, share in parts
        if chosen
    ]


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser remembers, tensor by tensor."""
    return {
        f"{g}.{k}.{name}": torch.as_tensor(value)
        for g, group in enumerate(optimiser.param_groups)
        for k, p in enumerate(group["params"])
        for name, value in optimiser.state[p].items()
    }


def take_moments(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser back what :func:`moments` gave."""
    for g, group in enumerate(optimiser.param_groups):
        for k, p in enumerate(group["params"]):
            # like p: in p's memory layout, and nobody else's
            optimiser.state[p] = {
                name: torch.zeros_like(p).copy_(v) if v.shape == p.shape else v.clone()
                for name, v in within(tensors, f"{g}.{k}.").items()
            }


def freeze(trunk: torch.nn.Module, blocks: int | None) -> None:
    """Stop training of the trunk's stem and first ``blocks`` blocks; None: of all of it."""
    parts = (
        [trunk]
        if blocks is None
        else [module for name, module in trunk.named_children() if name != "blocks"]
    )
    if blocks is not None and blocks == 0:
        parts = []
    for part in parts:
        part.requires_grad_(False)
    for block in list(getattr(trunk, "blocks", []))[: blocks or 0]:
        block.requires_grad_(False)


def learning_rate(step: int, steps: int) -> float:
    """Return the share of the peak rate: a short warm-up, then a cosine to 1 %."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
