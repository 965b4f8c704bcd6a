"""benchmarks/obtain_cads.py tells what it would do, and does it only when asked."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def obtain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("obtain_cads")


def test_nothing_is_installed_unless_asked(obtain, monkeypatch, capsys) -> None:
    ran: list = []
    monkeypatch.setattr(obtain.subprocess, "run", lambda *given, **_: ran.append(given))
    monkeypatch.setattr(obtain.shutil, "which", lambda name: f"bin/{name}")
    obtain.main([])
    told = capsys.readouterr().out
    assert not ran
    assert "would run" in told and "sweethome3d-furniture" in told and "torcs" not in told
    obtain.main(["--yes", "--gpl"])
    ((command,),) = ran
    assert command[-1] == "flightgear-data-models"
    assert "GPL-2+" in capsys.readouterr().out


def test_who_is_not_root_asks_for_rights(obtain) -> None:
    assert obtain.commands(["a"], root=False)[0][:2] == ["sudo", "apt-get"]
    assert obtain.commands(["a"], root=True)[0][0] == "apt-get"


def test_missing_cads_are_reported_not_raised(obtain, monkeypatch, tmp_path) -> None:
    def nothing(category, pascal3d, gpl):
        asked.append(gpl)
        raise obtain.FeatmeshError("E_DATA", f"no {category}")

    asked: list = []
    monkeypatch.setattr(obtain, "read_training_cads", nothing)
    assert obtain.report(tmp_path).count("E_DATA") == 12
    assert set(asked) == {None}  # none under the GPL unless asked for
    obtain.main(["--list", "--gpl"])
    assert asked[-1] == obtain.FLIGHTGEAR_DATA
