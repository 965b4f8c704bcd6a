"""Progress: plain lines now and then, a bar on a terminal, the items untouched."""

import io
import time

import pytest

from featmesh.progress import patience, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def ticks(step):
    now = -step
    while True:
        now += step
        yield now


def lines(count, step):
    stream, clock = io.StringIO(), ticks(step)
    assert list(track(range(count), count, "evaluate", stream, lambda: next(clock))) == [
        *range(count)
    ]
    return stream.getvalue().splitlines()


def test_plain_lines_show_count_rate_and_remaining_time():
    assert lines(4, 6.0) == [
        "evaluate: 1/4 (25 %), 6.0 s each, 18 s left",
        "evaluate: 2/4 (50 %), 6.0 s each, 12 s left",
        "evaluate: 3/4 (75 %), 6.0 s each, 6 s left",
        "evaluate: 4/4 done in 30 s, 7.5 s each",
    ]


def test_plain_lines_are_few():
    told = lines(1000, 0.125)
    assert len(told) == 25 and told[0] == "evaluate: 40/1000 (4 %), 8.0/s, 2 min 0 s left"
    assert lines(0, 1.0) == ["evaluate: 0/0 done in 1 s"]
    assert "2 h 46 min left" in lines(2, 10_000.0)[0]
    assert len(lines(7200, 0.5)) < 120  # an hour


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    assert list(track("abc", 3, "evaluate", stream)) == ["a", "b", "c"]
    assert "evaluate" in stream.getvalue() and "3/3" in stream.getvalue()


def test_who_waits_long_is_told_why_once():
    stream = io.StringIO()
    with patience("the first one takes longer", 0.01, stream):
        time.sleep(0.2)
    with patience("never told", 30.0, stream):
        pass
    assert stream.getvalue() == "the first one takes longer\n"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_error_in_the_loop_comes_through(stream):
    def work():
        for item in track(range(3), 3, "evaluate", stream):
            if item == 1:
                raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        work()
