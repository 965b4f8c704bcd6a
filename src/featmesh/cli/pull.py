"""Fetch a model folder from the Hugging Face Hub; checked before it is put in its place.

Needs the extra: pip install 'featmesh[hub]'. No other verb fetches anything.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh pull``."""

    repo: tyro.conf.Positional[str]
    """Repository, OWNER/NAME."""
    out: Path
    """Model folder to make; new or empty."""
    revision: str | None = None
    """Branch, tag or commit; default: the newest."""
    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Fetch, check, and tell where the model is."""
    from featmesh.apps.hub import pull

    facts = pull(arguments.repo, arguments.out, arguments.revision)
    size = f"{len(facts['files'])} files, {facts['bytes'] / 1e6:.1f} MB"
    text = (
        f"{facts['folder']}: {size}, model {facts['hash'][:12]}, "
        f"revision {facts['revision'][:12]}\nnext: featmesh estimate PHOTO --model {arguments.out}"
    )
    sys.stdout.write((json.dumps(facts, indent=1) if arguments.json else text) + "\n")
    return 0
