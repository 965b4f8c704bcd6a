"""featmesh reproduce runs the scripts, tells what could not be, and compares with what is told."""

import json
import re
import sys
from pathlib import Path

import pytest

from featmesh.apps import reproduce as subject
from featmesh.apps.reproduce import JOBS, Asked, Job, compared, reproduce
from featmesh.cli import reproduce as verb
from featmesh.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--data", type=pathlib.Path)
parser.add_argument("--limit", type=int)
args = parser.parse_args()
runs = args.data / "runs.txt"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
(args.out / "accuracy.json").write_text(json.dumps({"results": {"dev": {"acc_30": 0.985}}}))
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two scripts, one of which fails, and a number that is told."""
    folder = tmp_path / "house" / "benchmarks"
    (folder / "results").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    for name in ("report.py", "output.py"):
        (folder / name).write_text((ROOT / "benchmarks" / name).read_text())
    (folder / "accuracy.py").write_text(SCRIPT)
    (folder / "locate.py").write_text("raise SystemExit('E_DATA: no photos there')")
    told = {"results": {"dev": {"acc_30": 0.99, "acc_10": 0.8}}}
    (folder / "results" / "accuracy.json").write_text(json.dumps(told))
    jobs = {"accuracy": Job(1), "locate": Job(1), "networks": Job(1, ("data", "model"))}
    monkeypatch.setattr(subject, "JOBS", jobs)
    monkeypatch.setattr(subject, "scripts", lambda: folder)
    return tmp_path


def test_scripts_run_once_and_what_could_not_run_is_told(house: Path) -> None:
    asked, lines = Asked(house / "out", house / "data"), []
    first = {o.name: o for o in reproduce(asked, lines.append)}
    assert {name: o.status for name, o in first.items()} == {
        "accuracy": "done",
        "locate": "failed",
        "networks": "lacking",
    }
    assert "E_DATA: no photos there" in first["locate"].told
    assert "not bundled" in first["networks"].told
    assert lines[0].startswith("2 of 3 scripts can run")
    again = {o.name: o.status for o in reproduce(asked)}
    assert again == {"accuracy": "before", "locate": "failed", "networks": "lacking"}
    assert (house / "data" / "runs.txt").read_text() == "x"
    (house / "house" / "benchmarks" / "accuracy.py").write_text(SCRIPT + "\n# changed\n")
    assert reproduce(asked)[0].status == "done"


def test_numbers_stand_beside_those_told(house: Path) -> None:
    reproduce(Asked(house / "out", house / "data"))
    assert compared(house / "out").keys() == {"close", "not found"}  # .99 and .8 were told
    page = (house / "out" / "reproduced.md").read_text()
    assert "| 0.99 | 0.985 | close |" in page
    assert "`locate` failed" in page and "`networks` lacking" in page


def test_without_data_nothing_runs_and_it_is_said(house: Path) -> None:
    found = reproduce(Asked(house / "out", only=("accuracy",)))
    assert [(o.status, o.told) for o in found] == [("lacking", "the data folder: --data DIR")]


def test_an_unknown_name_is_refused(house: Path) -> None:
    with pytest.raises(InputError, match=r"E_CONFIG.*accuracy, locate, networks.*got acuracy"):
        reproduce(Asked(house / "out", only=("acuracy",)))


def test_outside_a_checkout_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subject, "__file__", str(tmp_path / "a" / "b" / "c" / "reproduce.py"))
    with pytest.raises(InputError, match=r"E_IO.*checkout.*git clone"):
        subject.scripts()


def test_the_verb_fails_where_a_script_does(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = house / "out"
    asked = verb.Arguments(("accuracy",), data=house / "data", out=out)
    assert verb.run(asked) == 0
    told = capsys.readouterr().out
    assert re.search(r"told in docs/benchmarks.md: \d close, \d not found\n", told)
    assert str(out / "reproduced.md") in told
    assert verb.run(verb.Arguments(("locate",), data=house / "data", out=out)) == 1


def test_every_number_told_has_a_script_that_finds_it_again() -> None:
    told = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert told <= set(JOBS)
    missing = [name for name in told if not (ROOT / "benchmarks" / f"{name}.py").is_file()]
    assert not missing, missing


def test_scripts_understand_their_commands() -> None:
    asked = Asked(Path("out"), Path("data"), limit=2)
    words = subject.command(Path("benchmarks"), "shape_categories", JOBS["shape_categories"], asked)
    assert words[0] == sys.executable and words[1] == "benchmarks/shape_categories.py"
    assert words[2:] == [
        *("--out", "out/results", "--data", "data", "--run", "out/runs/shape_categories"),
        *("--limit", "2", "--pictures", "out/runs/shape_categories/pictures"),
    ]
