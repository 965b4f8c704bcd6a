"""Serve estimates over HTTP: POST /estimate with a photo, a page to try it, limits by default.

Needs the extra: pip install 'featmesh[serve]'.
"""

import sys
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from featmesh.apps.serve_config import ServeConfig

LOOPBACK = ("127.", "localhost", "::1")


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh serve``."""

    config: Annotated[ServeConfig, tyro.conf.arg(name="")] = field(default_factory=ServeConfig)
    """Settings."""


def run(arguments: Arguments) -> int:
    """Serve until Ctrl-C or SIGTERM; what is under way is answered first."""
    from featmesh.apps.serve import serve

    config = arguments.config.checked()
    if not config.host.startswith(LOOPBACK):
        _say(f"{config.host} lets other machines in; there is no password")
    _say(f"starting, model {config.model}")
    serve(config, lambda address: _say(f"{address} (how to call it: {address}/docs)"))
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"featmesh serve: {text}\n")
    sys.stderr.flush()
