"""Draw the energy over azimuth and elevation, with the path of the refinement: OUT/landscape.html.

Beside the page landscape.png and landscape.json. Two maps: all else optimised at each view, and all
else held as found.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from featmesh.inference.config import EstimateConfig


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh landscape``."""

    photo: tyro.conf.Positional[Path]
    """Photo (JPEG, PNG, ...)."""
    out: Path
    """Folder to write to."""
    model: str = "car"
    """Name of a bundled model, or a model folder."""
    box: tuple[float, float, float, float] | None = None
    """X0 Y0 X1 Y1 of the object, pixels of the displayed photo; default: found."""
    focal_px: float | None = None
    """Focal length in pixels."""
    grid: float = 5.0
    """Degrees from view to view; it divides 180."""
    json: bool = False
    """Print start, end and valleys as JSON."""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """Settings of the method."""


def run(arguments: Arguments) -> int:
    """Draw the landscape of one photo."""
    from featmesh.apps.landscape import survey, write_landscape
    from featmesh.apps.sight import sight_of_file
    from featmesh.model.checkpoint import load

    a = arguments
    sight = sight_of_file(load(a.model), a.photo, a.box, a.focal_px, a.search)
    landscape = survey(sight, a.grid)
    files = write_landscape(sight, landscape, a.photo.name, a.out)
    told = {k: v for k, v in landscape.to_json().items() if k in ("start", "end", "valleys")}
    if a.json:
        written = {"schema": 1, **told, "files": [str(file) for file in files]}
        sys.stdout.write(json.dumps(written, indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(_lines(told) + f"{'written to':<12}{files[1]}\n")
    return 0


def _lines(told: dict[str, Any]) -> str:
    """Return start, end and valleys, a line each."""
    named = [("start", told["start"]), ("end", told["end"])]
    named += [(f"valley {k}", row) for k, row in enumerate(told["valleys"], 1)]
    return "".join(
        f"{label:<12}azimuth {row['azimuth']:6.1f}°, elevation {row['elevation']:6.1f}°, "
        f"energy {row['energy']:.4f}\n"
        for label, row in named
    )
