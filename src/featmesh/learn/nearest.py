"""Training for those who look up: the pooled features of all training crops (no gradient, ours).

First every view as it is, with its mirror image, then crops varied as networks are trained on.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from featmesh.draws import generator
from featmesh.model.direct import MIRROR, DirectModel, Views, answer
from featmesh.photo.read import read_photo
from featmesh.photo.resize import squeezed

from .config import TrainConfig
from .correspondence import Sample
from .data import TrainData, draw_crops
from .direct_data import TurnedCrops
from .trainer import StepReport, within


class IndexLearner:
    """The crops looked at so far; a step looks at a batch of them."""

    def __init__(self, config: TrainConfig, model: DirectModel, data: TrainData) -> None:
        """Begin.

        Args:
            config: of the run; ``epochs`` and ``samples_per_epoch`` count the varied crops.
            model: kind ``nearest``, without views.
            data: samples.
        """
        self.config, self.model, self.data, self.step = config, model, data, 0
        self.samples = [s for group in data.groups for s in group]
        self.features: list[Tensor] = []
        self.R: list[Tensor] = []
        model.backbone.requires_grad_(False).eval()

    @property
    def still_steps(self) -> int:
        """Steps in which views are looked at as they are."""
        return -(-len(self.samples) // self.config.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.still_steps + self.config.steps

    @property
    def per_epoch(self) -> int:
        """Steps of a pass."""
        return self.config.steps_per_epoch

    def draw(self, step: int) -> TurnedCrops:
        """Return the crops of a step, the object's box squeezed to their size."""
        if step >= self.still_steps:
            return self._varied(step - self.still_steps)
        crops = self.still(self.samples, step * self.config.batch)
        mirror = MIRROR.float()
        pixels = torch.cat([crops.pixels, crops.pixels.flip(3)])
        return TurnedCrops(pixels, torch.cat([crops.R, mirror @ crops.R @ mirror]))

    def still(self, samples: Sequence[Sample], first: int) -> TurnedCrops:
        """Return up to a batch of views as they are, the samples from ``first`` on."""
        chosen = samples[first : first + self.config.batch]
        pixels = [squeezed(read_photo(s.image).pixels, s.box, self.model.size) for s in chosen]
        return TurnedCrops.of(pixels, [s.R for s in chosen])

    def _varied(self, step: int) -> TurnedCrops:
        """Return the crops a network would see in a step, each cut to the object in it."""
        config, pixels, R = self.config, [], []
        drawn = [generator(config.seed, "train", step, k) for k in range(config.batch)]
        for crop in draw_crops(self.data, config, drawn):
            (x0, y0), (x1, y1) = crop.anchors.min(0).tolist(), crop.anchors.max(0).tolist()
            pixels.append(squeezed(crop.pixels, (x0, y0, x1, y1), self.model.size))
            R.append(crop.R)
        return TurnedCrops.of(pixels, R)

    @torch.no_grad()
    def learn(self, crops: TurnedCrops) -> StepReport:
        """Look at a batch."""
        self.features.append(answer(self.model.backbone, crops.pixels).half())
        self.R.append(crops.R)
        self.step += 1
        return StepReport(self.step, self.steps, 0.0, 0.0, 0.0, 0.0)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, tensor by tensor."""
        return {"views.features": torch.cat(self.features), "views.R": torch.cat(self.R)}

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take up the state that :meth:`tensors` gave after ``step`` steps."""
        views = within(tensors, "views.")
        self.features, self.R, self.step = [views["features"]], [views["R"]], step

    def trained(self) -> DirectModel:
        """Return the model that knows the crops looked at."""
        views = Views(torch.cat(self.features), torch.cat(self.R))
        return replace(self.model, views=views)
