"""Show what a model is: its card, config, hashes, sizes, and what was measured on it."""

import json
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from . import exits


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh info``."""

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="MODEL")] = None
    """Name of a bundled model, or the folder of a model or a shape space (as --model)."""
    model: str | None = None
    """Name of a bundled model, or the folder of a model or a shape space; default: car."""
    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Print the facts about a model."""
    if arguments.name and arguments.model:
        raise exits.UsageError(
            f"E_USAGE: info: expected one model, got {arguments.name} and {arguments.model}; "
            "try: leave --model out"
        )
    from featmesh.apps.info import describe_model, info_text

    facts = describe_model(arguments.name or arguments.model or "car")
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n" if arguments.json else ""
    sys.stdout.write(text or info_text(facts))
    return 0
