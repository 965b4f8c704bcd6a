"""Train a head on a frozen trunk from cached maps, for the table of networks (DINOv2 on a CPU).

python benchmarks/frozen_head.py --views A.json B.json --backgrounds DIR --template-of models/car
    --trunk dinov2.safetensors --out runs/dino [--crops 2400] [--epochs 6]

Each crop goes through the trunk once; the head sees it in every epoch. The crops, the losses and
the texture are those of featmesh.learn.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn

from featmesh.draws import generator
from featmesh.files import read_tensors, sha256_of
from featmesh.learn.calibration import fit_calibration, outcomes
from featmesh.learn.config import AugmentConfig, TrainConfig
from featmesh.learn.data import Batch, TrainData, draw_batch, load_data
from featmesh.learn.trainer import TrainState, torch_generator, train_step
from featmesh.model.backbones import Backbone, build_backbone, normalise
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import load
from featmesh.model.clutter import cluster
from featmesh.model.config import ModelConfig


class HeadOnly(nn.Module):
    """A backbone whose pixels are the trunk's maps already."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = nn.Identity(), head

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return the features of maps."""
        return self.head(maps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", nargs="+", required=True)
    for name in ("backgrounds", "trunk", "template-of", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--crops", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    config = TrainConfig(
        views=tuple(options.views),
        out=options.out,
        exclude=tuple(options.exclude),
        backgrounds=options.backgrounds,
        model=ModelConfig(backbone="dinov2_vits14"),
        lr_trunk=0.0,
        lr_head=2e-3,
        epochs=options.epochs,
        samples_per_epoch=options.crops,
        augment=AugmentConfig(occlude=0.35),
    )
    template = load(options.template_of).template
    data = load_data(config, template)
    backbone = build_backbone(config.model)
    backbone.trunk.load_state_dict(read_tensors(options.trunk, sha256_of(options.trunk)))
    cache = extract(backbone, data, config)
    state = TrainState(config, template, HeadOnly(backbone.head))  # type: ignore[arg-type]
    learn(state, data, cache)
    save(state, data, backbone)


@torch.no_grad()
def extract(backbone: Backbone, data: TrainData, config: TrainConfig) -> list[Batch]:
    """Return single-crop batches whose pixels are the trunk's maps, half precision."""
    cache, begin = [], time.monotonic()
    for step in range(config.samples_per_epoch // config.batch):
        batch = draw_batch(data, config, step)
        maps = [m.half() for m in backbone.trunk(normalise(batch.pixels))]
        for k in range(config.batch):
            one = [m[k : k + 1] for m in maps]
            cache.append(
                Batch(
                    one,
                    batch.points[k : k + 1],
                    batch.anchor[k : k + 1],
                    batch.background[k : k + 1],
                )
            )
        if step % 10 == 9:
            print(f"{len(cache)} crops, {time.monotonic() - begin:.0f} s", flush=True)
    return cache


def learn(state: TrainState, data: TrainData, cache: list[Batch]) -> None:
    while state.step < state.steps:
        order = generator(state.config.seed, "order", state.step).permutation(len(cache))
        for first in range(0, len(order) - state.config.batch + 1, state.config.batch):
            chosen = [cache[i] for i in order[first : first + state.config.batch]]
            loss, accuracy = train_step(state, data, joined(chosen))
            if state.step % 25 == 0:
                print(
                    f"{state.step}/{state.steps} loss {loss:.3f} right {accuracy:.3f}", flush=True
                )
            if state.step >= state.steps:
                return


def joined(chosen: list[Batch]) -> Batch:
    maps = [torch.cat(m).float() for m in zip(*(b.pixels for b in chosen), strict=True)]
    return Batch(
        maps,
        tuple(b.points[0] for b in chosen),
        tuple(b.anchor[0] for b in chosen),
        torch.cat([b.background for b in chosen]),
    )


def save(state: TrainState, data: TrainData, backbone: Backbone) -> None:
    config = state.config
    centres = cluster(state.queue, config.model.clutter_centres, torch_generator(0, "clutter"))
    extra = {"training": {"crops": config.samples_per_epoch, "epochs": config.epochs}}
    model = CategoryModel(
        config.category,
        config.model,
        state.template,
        state.texture,
        centres,
        backbone.eval(),
        extra=extra,
    )
    known = outcomes(model, data.held_out[:20], data.scenery.pictures)
    model.calibration = fit_calibration(known)
    model.save(str(Path(config.out) / "models" / config.category))
    print(f"calibrated: {model.calibration is not None}; {config.out}", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
