"""Shows how far a long loop is: a bar on a terminal, a plain line now and then elsewhere."""

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TextIO, TypeVar, cast

T = TypeVar("T")
Stream = TextIO | io.TextIOBase

EVERY = 5.0  # seconds between two plain lines


def track(
    iterable: Iterable[T],
    total: int,
    label: str,
    stream: Stream | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Yield the items, showing count, rate and remaining time.

    Args:
        iterable: the items.
        total: how many there are.
        label: what is being done, e.g. ``"evaluate"``.
        stream: where to show it; default is the standard error output.
        clock: seconds that only grow.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        yield from _bar(iterable, total, label, stream)
    else:
        yield from _lines(iterable, total, label, stream, clock)


def _bar(iterable: Iterable[T], total: int, label: str, stream: Stream) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate)
    with Progress(*columns, Remaining(), console=Console(file=cast("IO[str]", stream))) as progress:
        task = progress.add_task(label, total=total, rate="")
        start = time.monotonic()
        for done, item in enumerate(iterable, 1):
            yield item
            speed = _rate(done, time.monotonic() - start)
            progress.update(task, completed=done, rate=speed)


def _lines(
    iterable: Iterable[T], total: int, label: str, stream: Stream, clock: Callable[[], float]
) -> Iterator[T]:
    start = last = clock()
    done = 0
    for done, item in enumerate(iterable, 1):
        yield item
        now = clock()
        if now - last >= EVERY and done < total:
            last = now
            left = _duration((now - start) / done * (total - done))
            share = 100 * done // total
            speed = _rate(done, now - start)
            _say(stream, f"{label}: {done}/{total} ({share} %), {speed}, {left} left")
    spent = clock() - start
    tail = f", {_rate(done, spent)}" if done else ""
    _say(stream, f"{label}: {done}/{total} done in {_duration(spent)}{tail}")


def _say(stream: Stream, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


def _rate(done: int, seconds: float) -> str:
    if done >= seconds:
        return f"{done / max(seconds, 1e-3):.1f}/s"
    return f"{seconds / done:.1f} s each"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
