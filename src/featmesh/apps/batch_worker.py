"""One process of a batch: reads records from its input, answers each with one line.

Imports nothing heavy by itself: the engine does, after the number of threads is set.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO, runtime_checkable

from featmesh.errors import FeatmeshError


@runtime_checkable
class Engine(Protocol):
    """What estimates photos: made once a process by a function ``make(settings)``.

    Attributes:
        card: what the results depend on besides the settings: the model's name and hash.
    """

    card: Mapping[str, Any]

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of a record as JSON values; a FeatmeshError means a bad input."""


def refused(error: FeatmeshError) -> dict[str, Any]:
    """Return the result of a photo that cannot be used."""
    return {"status": "bad_input", "code": error.code, "message": str(error)}


def answer(engine: Engine, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a record; whatever is wrong with the photo is a result too."""
    try:
        return engine(record)
    except FeatmeshError as error:
        return refused(error)
    except Exception as error:  # one photo stops no batch: a fault of ours is told as such
        return refused(
            FeatmeshError(
                "E_INTERNAL",
                f"batch: expected a result, got {type(error).__name__} ({error}); "
                "try: report it together with the photo",
            )
        )


def serve(made_by: str, settings: dict[str, Any], requests: TextIO, replies: TextIO) -> None:
    """Make the engine, say what it is, and answer records until there are no more.

    Args:
        made_by: ``package.module:function``.
        settings: what the function is given.
        requests: a line ``[row, record]`` each.
        replies: first ``{"card": ...}`` or ``{"failed": [code, message]}``, then a line
            ``[row, result]`` each.
    """
    module, _, name = made_by.partition(":")
    try:
        engine = getattr(importlib.import_module(module), name)(settings)
    except FeatmeshError as error:
        _say(replies, {"failed": [error.code, error.args[0]]})
        return
    _say(replies, {"card": dict(engine.card)})
    for line in requests:
        row, record = json.loads(line)
        _say(replies, [row, answer(engine, record)])


def _say(replies: TextIO, told: Any) -> None:
    replies.write(json.dumps(told, allow_nan=False) + "\n")
    replies.flush()


def main() -> None:
    """Be a worker: engine and settings are the first line of the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no reply
    made_by, settings = json.loads(sys.stdin.readline())
    try:
        serve(made_by, settings, sys.stdin, replies)
    except BrokenPipeError:  # the one who started us is gone
        os._exit(1)


if __name__ == "__main__":
    main()
