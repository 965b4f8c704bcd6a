"""List the bundled models: what was measured on them, their data, licence and size."""

import json
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh models``."""

    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Print the table of models."""
    from featmesh.apps.models import SCHEMA, list_models, show

    rows = list_models()
    if arguments.json:
        whole = {"schema": SCHEMA, "models": rows}
        sys.stdout.write(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    else:
        show(rows)
    return 0
