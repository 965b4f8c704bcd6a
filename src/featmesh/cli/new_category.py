"""Make a model of a category of your own from CAD files; the same command goes on where it stopped.

Checks and aligns the CADs (look at OUT/cads/contact.png, then give --yes or --front), learns
template and shape space, renders views, trains, tests on CADs kept out, writes OUT/model with card
and pictures.
"""

import json
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from featmesh.apps.new_category_config import NewCategoryConfig


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh new-category``."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Name of the category, as the model will be called."""
    config: Annotated[tyro.conf.AvoidSubcommands[NewCategoryConfig], tyro.conf.arg(name="")]
    """Settings."""
    json: bool = False
    """Print JSON instead of a few lines."""


def run(arguments: Arguments) -> int:
    """Make the model and tell where it is and how good."""
    from featmesh.apps.new_category import new_category

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    code, told = new_category(arguments.name, arguments.config, say)
    if told is None:
        say(f"stopped with all that was done kept ({code}); the same command goes on")
        return code
    if arguments.json:
        sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n")
        return 0
    for level, figures in told["figures"].items():
        shown = [f"{k} {v:.3g}" for k, v in figures.items() if isinstance(v, float)]
        sys.stdout.write(f"{level:<8}{', '.join(shown)}\n")
        for k, v in figures.get("symmetric", {}).items():
            sys.stdout.write(f"        up to symmetry: {k} {v:.3g}\n")
    sys.stdout.write(f"model   {told['model']}\n")
    return 0
