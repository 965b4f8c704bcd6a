"""Upload a model folder to the Hugging Face Hub, its card as the repository's README.

Needs the extra: pip install 'featmesh[hub]', and a token with the right to write (hf auth login).
"""

import json
import sys
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh push``."""

    model: tyro.conf.Positional[str]
    """Model folder, or name of a bundled model."""
    repo: tyro.conf.Positional[str]
    """Repository, OWNER/NAME; made where it does not exist."""
    private: bool = False
    """Whether a new repository is private."""
    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Upload and tell where the model is."""
    from featmesh.apps.hub import push

    facts = push(arguments.model, arguments.repo, arguments.private)
    size = f"{len(facts['files'])} files, {facts['bytes'] / 1e6:.1f} MB"
    text = f"{facts['url']}: {size}, model {facts['hash'][:12]}, revision {facts['revision'][:12]}"
    sys.stdout.write((json.dumps(facts, indent=1) if arguments.json else text) + "\n")
    return 0
