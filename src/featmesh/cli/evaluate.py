"""Measure a model on a views file; writes OUT/predictions.jsonl and OUT/metrics.json.

--preset nemo searches as NeMo published it, in crops made by data convert --crops (docs/nemo.md).
--suite robustness measures under occluders, corruptions, turns and more (docs/robustness.md).
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from featmesh.evaluate.suite_config import SuiteConfig, quick
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
    suite: Literal["robustness"] | None = None
    """Measure under every condition instead; also writes suite.html."""
    quick: bool = False
    """Of the suite a few photos and conditions: a first look."""
    backgrounds: Path | None = None
    """Pictures without the object; the second half by name gives the suite's occluders."""
    conditions: tyro.conf.OmitArgPrefixes[SuiteConfig] = field(default_factory=SuiteConfig)
    """Settings of the suite."""


def run(arguments: Arguments) -> int:
    """Predict every record, score the predictions, print the figures."""
    estimate, settings = _search(arguments)
    from featmesh.config import config_to_dict
    from featmesh.evaluate.baselines import opened
    from featmesh.evaluate.predict import evaluate
    from featmesh.views.record import read_views

    views = read_views(arguments.views)
    model, estimate = opened(arguments.model, estimate)
    told: dict[str, Any] = {"locate": arguments.locate, "settings": config_to_dict(settings)}
    if arguments.suite is not None:
        from featmesh.apps.suite import Subject, measured

        subject = Subject(model, estimate, **told)
        config = quick(arguments.conditions) if arguments.quick else arguments.conditions
        text = measured(subject, views, arguments.out, config, arguments.backgrounds)
        sys.stdout.write(text[arguments.json])
        return 0
    metrics = evaluate(model, views, arguments.out, estimate=estimate, **told)
    if arguments.json:
        sys.stdout.write(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        return 0
    turned = metrics.get("symmetric", {}).get("pose", {}).items()
    for key, value in (*metrics["pose"].items(), *((f"symmetric {k}", v) for k, v in turned)):
        shown = f"{value:.4g}" if isinstance(value, float) else value
        sys.stdout.write(f"{key:<11} {shown}\n")
    sys.stdout.write(f"{'status':<12}{metrics['status']}\nwritten to  {arguments.out}\n")
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
