"""Measure a model on a views file; writes OUT/predictions.jsonl and OUT/metrics.json."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from featmesh.inference.config import EstimateConfig


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
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """Settings of the method."""


def run(arguments: Arguments) -> int:
    """Predict every record, score the predictions, print the figures."""
    from functools import partial

    from featmesh.config import config_to_dict
    from featmesh.evaluate.predict import evaluate
    from featmesh.inference.estimator import estimate
    from featmesh.model.checkpoint import load
    from featmesh.views.record import read_views

    views = read_views(arguments.views)
    metrics = evaluate(
        load(arguments.model),
        views,
        arguments.out,
        estimate=partial(estimate, config=arguments.search),
        locate=arguments.locate,
        settings=config_to_dict(arguments.search),
    )
    if arguments.json:
        sys.stdout.write(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        return 0
    for key, value in metrics["pose"].items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        sys.stdout.write(f"{key:<12}{shown}\n")
    sys.stdout.write(f"{'status':<12}{metrics['status']}\n")
    sys.stdout.write(f"written to  {arguments.out}\n")
    return 0
