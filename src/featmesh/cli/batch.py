"""Estimate many photos: a line each in OUT/parts; why some could not be used: OUT/quarantine.jsonl.

The same command goes on where it was stopped; how many processes work changes no byte.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from featmesh.apps.batch_config import BatchConfig

from . import exits

if TYPE_CHECKING:
    from featmesh.apps.batch import BatchSummary


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh batch``."""

    manifest: tyro.conf.Positional[Path]
    """Text file with a photo's path a line, JSON lines with image, box, K, id, or a views file."""
    out: Path
    """Folder to write to; the same command again goes on where it was stopped."""
    json: bool = False
    """Print the summary as JSON."""
    config: Annotated[BatchConfig, tyro.conf.arg(name="")] = field(default_factory=BatchConfig)
    """Settings."""


def run(arguments: Arguments) -> int:
    """Estimate every photo; 0 unless none could be used."""
    from featmesh.apps.batch import run_batch

    summary = run_batch(arguments.manifest, arguments.out, arguments.config)
    if arguments.json:
        sys.stdout.write(json.dumps(summary.to_json(), indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(_lines(summary))
    return exits.FAILED if sum(summary.codes.values()) == summary.photos else 0


def _lines(summary: "BatchSummary") -> str:
    """Return the summary as a few lines."""
    counts = ", ".join(f"{count} {status}" for status, count in summary.status.items())
    codes = ", ".join(f"{count} {code}" for code, count in summary.codes.items())
    speed = f"{summary.done} in {summary.seconds:.1f} s, {summary.per_second:.2f} photos/s"
    rows = {
        "summary": f"{summary.photos} photos: {counts}",
        "quarantine": codes or "none",
        "this run": f"{speed}, {summary.replaced} processes replaced",
        "written to": str(summary.out),
    }
    return "".join(f"{name:<12}{told}\n" for name, told in rows.items())
