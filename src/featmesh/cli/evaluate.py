"""Measure a model on a views file; writes OUT/predictions.jsonl and OUT/metrics.json.

--preset nemo searches as NeMo published it, in crops made by data convert --crops (docs/nemo.md).
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featmesh.inference.config import EstimateConfig
from featmesh.inference.presets import PRESETS, SearchName

from . import exits

if TYPE_CHECKING:
    from featmesh.inference.result import Estimate


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh evaluate``."""

    views: Path
    """Views file: labelled photos."""
    out: Path
    """Folder to write to; the same command again goes on where it was stopped."""
    model: str = "car"
    """Name of a bundled model, or a model folder."""
    locate: bool = False
    """Give the estimator no boxes: it has to find the object."""
    json: bool = False
    """Print metrics.json instead of a few lines."""
    preset: SearchName = "featmesh"
    """Search: ours, or NeMo's published one in benchmark crops, which takes no --search options."""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """Settings of the method."""


def run(arguments: Arguments) -> int:
    """Predict every record, score the predictions, print the figures."""
    estimate, settings = _search(arguments)
    from featmesh.config import config_to_dict
    from featmesh.evaluate.predict import evaluate
    from featmesh.model.checkpoint import load
    from featmesh.views.record import read_views

    views = read_views(arguments.views)
    metrics = evaluate(
        load(arguments.model),
        views,
        arguments.out,
        estimate=estimate,
        locate=arguments.locate,
        settings=config_to_dict(settings),
    )
    if arguments.json:
        sys.stdout.write(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        return 0
    turned = metrics.get("symmetric", {}).get("pose", {})
    beside = {f"symmetric {key}": value for key, value in turned.items()}
    for key, value in (*metrics["pose"].items(), *beside.items()):
        shown = f"{value:.4g}" if isinstance(value, float) else value
        sys.stdout.write(f"{key:<11} {shown}\n")
    sys.stdout.write(f"{'status':<12}{metrics['status']}\n")
    sys.stdout.write(f"written to  {arguments.out}\n")
    return 0


def _search(arguments: Arguments) -> tuple[Callable[..., "Estimate"], Any]:
    """Return the estimator of the preset, and the configuration it goes by."""
    config = PRESETS[arguments.preset]
    if isinstance(config, EstimateConfig):
        from featmesh.inference.estimator import estimate

        return partial(estimate, config=arguments.search), arguments.search
    if arguments.locate or arguments.search != EstimateConfig():
        raise exits.UsageError(
            f"E_USAGE: evaluate: expected --preset {arguments.preset} without --locate and "
            "--search options, got some; try: one or the other"
        )
    from featmesh.inference.nemo import estimate_crop

    return partial(estimate_crop, config=config), config
