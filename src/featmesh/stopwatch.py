"""Seconds spent in named stages, by a clock that only grows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the time of named stages: ``with clock("scan"): ...``.

    Attributes:
        seconds: total of each stage, in the order they were first entered.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time one stretch of a stage."""
        begin = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - begin
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
