import errno
import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import featmesh
from featmesh.cli import main as command
from featmesh.cli.exits import UsageError
from featmesh.errors import CheckpointError, FeatmeshError


@dataclass(frozen=True)
class Arguments:
    """Options of a verb made for these tests."""

    steps: int = 1
    """how many"""


@pytest.fixture
def verb(fake_module, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    def put(outcome: Any) -> None:
        def run(arguments: Arguments) -> int:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome(arguments)

        fake_module("featmesh.cli.act", Arguments=Arguments, run=run, __doc__="Act.")
        monkeypatch.setitem(command.VERBS, "act", "do something")

    return put


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_verb(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.execute([word]) == 0
    out = capsys.readouterr().out
    for name, told in command.VERBS.items():
        assert re.search(rf"^  {name} +{re.escape(told)}$", out, re.M)


def test_every_verb_is_a_module_with_arguments_and_a_short_run() -> None:
    for name in command.VERBS:
        module = importlib.import_module(f"featmesh.cli.{name.replace('-', '_')}")
        assert module.__doc__ and callable(module.run) and module.Arguments
        lines = Path(module.__file__).read_text("utf-8").count("\n")
        assert lines <= 100


@pytest.mark.parametrize("name", list(command.VERBS))
def test_each_verb_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.execute([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: featmesh {name}" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.execute(["--version"]) == 0
    assert capsys.readouterr().out == f"featmesh {featmesh.__version__}\n"


def test_no_verb_is_a_usage_error_that_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.execute([]) == 2
    assert "estimate" in capsys.readouterr().err


def test_a_misspelt_verb_names_its_neighbour(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.execute(["estimat", "a.jpg"]) == 2
    err = capsys.readouterr().err
    assert "got 'estimat'" in err and "perhaps you meant estimate" in err


def test_a_misspelt_option_names_its_neighbour(verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(lambda arguments: arguments.steps)
    with pytest.raises(SystemExit) as caught:
        command.execute(["act", "--step", "3"])
    assert caught.value.code == 2
    shown = "".join(capsys.readouterr())
    assert "--steps" in shown


def test_the_verb_gives_the_exit_code(verb) -> None:
    verb(lambda arguments: arguments.steps)
    assert command.execute(["act", "--steps", "3"]) == 3


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        (CheckpointError("E_CKPT_HASH", "load: expected\n a hash"), 1, "E_CKPT_HASH: load: expec"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.jpg"), 1, "a.jpg"),
        (UsageError("E_BOX: one photo"), 2, "E_BOX: one photo"),
        (OSError(errno.ENOSPC, "No space left on device"), 75, "E_DISK_FULL"),
        (OSError(errno.EFBIG, "File too large"), 75, "E_DISK_FULL"),
        (FeatmeshError("E_DISK_FULL", "save: expected 5 MB in x"), 75, "5 MB in x"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(
    verb, capsys: pytest.CaptureFixture[str], fault: BaseException, code: int, told: str
) -> None:
    verb(fault)
    assert command.execute(["act"]) == code
    err = capsys.readouterr().err
    assert err.startswith("featmesh: ") and err.count("\n") == 1 and told in err
    assert err.count("E_DISK_FULL") == (code == 75)


def test_a_full_disk_behind_another_error_is_seen(verb) -> None:
    error = RuntimeError("could not save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    verb(error)
    assert command.execute(["act"]) == 75


def test_our_own_mistakes_keep_their_traceback(verb) -> None:
    verb(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        command.execute(["act"])


@pytest.fixture
def restored_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_with_143(verb, restored_handler: None) -> None:
    def terminated(arguments: Arguments) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    verb(terminated)
    with pytest.raises(SystemExit) as caught:
        command.main(["act"])
    assert caught.value.code == 143


def test_the_command_leaves_with_the_exit_code() -> None:
    words = [sys.executable, "-m", "featmesh", "nonsense"]
    ran = subprocess.run(words, check=False, capture_output=True)
    assert ran.returncode == 2 and ran.stderr.startswith(b"featmesh: expected a verb")


def test_a_reader_that_went_away_is_told_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "featmesh", "--help"]
    ran = subprocess.run(words, check=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, b"")
