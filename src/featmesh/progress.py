"""Shows how far a long loop is: a bar on a terminal, a plain line now and then elsewhere."""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TextIO, TypeVar, cast

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
Stream = TextIO | io.TextIOBase

EVERY, SELDOM = 5.0, 60.0  # seconds between two plain lines: at first, and of what takes long
LONG = 20  # lines until they become fewer
PATIENCE = 4.0  # seconds until somebody who sees nothing is told why


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
    with _live(stream) as progress:
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
        if now - last >= _pause(now - start) and done < total:
            last = now
            left = _duration((now - start) / done * (total - done))
            share = 100 * done // total
            speed = _rate(done, now - start)
            _say(stream, f"{label}: {done}/{total} ({share} %), {speed}, {left} left")
    spent = clock() - start
    tail = f", {_rate(done, spent)}" if done else ""
    _say(stream, f"{label}: {done}/{total} done in {_duration(spent)}{tail}")


@contextmanager
def patience(told: str, seconds: float = PATIENCE, stream: Stream | None = None) -> Iterator[None]:
    """Say a line if what is done within takes long."""
    timer = threading.Timer(seconds, _say, (sys.stderr if stream is None else stream, told))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _pause(spent: float) -> float:
    """Return the seconds between two plain lines of a loop that has run so long."""
    return min(SELDOM, max(EVERY, spent / LONG))


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


class Meter:
    """Progress of a loop that reports itself: a bar on a terminal, plain lines elsewhere.

    Args:
        label: what is being done.
        total: steps in all.
        done: steps done before.
        stream: where to show it; default is the standard error output.
    """

    def __init__(self, label: str, total: int, done: int = 0, stream: Stream | None = None) -> None:
        self.label, self.total, self.first = label, total, done
        self.stream: Stream = sys.stderr if stream is None else stream
        self.start = self.last = time.monotonic()
        self.bar = _live(self.stream) if self.stream.isatty() else None
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(label, total=total, completed=done, rate="")

    def show(self, done: int, text: str) -> None:
        """Show that ``done`` steps are done, with a few words about them."""
        now = time.monotonic()
        speed = _rate(done - self.first, now - self.start)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, rate=f"{speed}  {text}")
        elif now - self.last >= _pause(now - self.start) or done == self.total:
            self.last = now
            each = (now - self.start) / max(1, done - self.first)
            left = _duration(each * (self.total - done))
            _say(self.stream, f"{self.label}: {done}/{self.total}, {speed}, {left} left  {text}")

    def note(self, text: str) -> None:
        """Show a line that stays."""
        if self.bar is not None:
            self.bar.console.print(text)
        else:
            _say(self.stream, text)

    def close(self) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.stop()


def _live(stream: Stream) -> "Progress":
    """Return a bar with count, remaining time and rate."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    rate = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        rate,
    )
    return Progress(*columns, console=Console(file=cast("IO[str]", stream)))
