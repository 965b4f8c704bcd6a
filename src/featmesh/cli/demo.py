"""Estimate the poses in the bundled photos and write the results to OUT."""

from dataclasses import dataclass
from pathlib import Path

from . import estimate


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh demo``."""

    model: str = "car"
    """Name of a bundled model, or a model folder."""
    out: Path = Path("out")
    """Folder to write to."""
    json: bool = False
    """Print one JSON document instead of a table."""


def run(arguments: Arguments) -> int:
    """Run ``featmesh estimate`` on the bundled photos."""
    from featmesh.apps.bundled import photos

    return estimate.run(
        estimate.Arguments(
            tuple(photos()), model=arguments.model, out=arguments.out, json=arguments.json
        )
    )
