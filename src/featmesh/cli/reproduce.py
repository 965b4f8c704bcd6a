"""Measure again every number of README and docs, here; OUT/reproduced.md holds them side by side.

Runs the scripts of a checkout's benchmarks/, each a process; the same command goes on where it was
stopped. What cannot be run is told with what it lacks.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from . import exits


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh reproduce``."""

    only: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of scripts, without .py; default: all."""
    data: Path | None = None
    """Folder of photos and CADs; what needs none runs without."""
    out: Path = Path("out/reproduce")
    """Folder to write to."""
    trunk: Path | None = None
    """Weights from ImageNet, for what learns from them."""
    train: bool = False
    """Learn models too: hours."""
    limit: int | None = None
    """Records of each part: a quick try, whose numbers are not those told."""


def run(arguments: Arguments) -> int:
    """Run the scripts; 0 where none failed."""
    from featmesh.apps.reproduce import PAGE, Asked, compared, reproduce

    def tell(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    outcomes = reproduce(Asked(**vars(arguments)), tell)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(compared(arguments.out).items()))
    tell(f"numbers told in docs/benchmarks.md: {counts or 'none'}")
    tell(f"written to {arguments.out / PAGE}")
    return exits.FAILED if any(outcome.status == "failed" for outcome in outcomes) else 0
