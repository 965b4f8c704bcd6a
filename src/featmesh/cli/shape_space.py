"""Show a model's shape space: a picture and GLBs of the mean and its main directions, a table."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from . import exits


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh shape-space``."""

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="MODEL")] = None
    """Name of a bundled model, or a model folder (as --model)."""
    model: str | None = None
    """Name of a bundled model, or a model folder; default: car."""
    out: Path = Path("shape-space")
    """Folder to write to."""
    directions: int = 4
    """How many directions are shown."""
    azimuth: float = 50.0
    """From where the shapes are drawn, degrees; 0 is their front."""
    elevation: float = 15.0
    """How high above, degrees."""
    json: bool = False
    """Print JSON instead of a table."""


def run(arguments: Arguments) -> int:
    """Survey the shape space, write the files, print the table."""
    if arguments.name and arguments.model:
        raise exits.UsageError(
            f"E_USAGE: shape-space: expected one model, got {arguments.name} and "
            f"{arguments.model}; try: leave --model out"
        )
    if arguments.directions < 1:
        raise exits.UsageError(
            f"E_USAGE: shape-space: expected directions, got {arguments.directions}; try: 4"
        )
    from featmesh.apps.shape_space import show, survey, write_shape_space
    from featmesh.model.checkpoint import load
    from featmesh.model.shape_folder import MANIFEST, ShapeSpace

    name = arguments.name or arguments.model or "car"
    if (Path(name) / MANIFEST).is_file():  # what learn-shape writes where no model is given
        alone = ShapeSpace.read(name)
        space, mean = alone.deformation, alone.template
    else:
        model = load(name)
        space, mean = model.shape_space("shape-space"), model.mesh()
    found = survey(space, mean, arguments.directions)
    view = math.radians(arguments.azimuth), math.radians(arguments.elevation)
    files = write_shape_space(found, space, arguments.out, view)
    if arguments.json:
        sys.stdout.write(json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    else:
        show(Path(name).name, found, files)
    return 0
