"""What the README says runs: its Python lines, with the bundled model, on a bundled photo."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_two_commands_are_demo_and_test() -> None:
    commands = [line.split("#")[0].strip() for line in blocks("bash")[0].splitlines()]
    assert commands == ["make demo", "make test"]


def test_the_python_lines_run_and_find_the_car(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    assert names["found"].status == "ok"
    assert "Viewpoint(azimuth=" in capsys.readouterr().out
    # Caltech's cars drive to the left: seen from their left side
    assert names["found"].viewpoint.azimuth == pytest.approx(1.57, abs=0.4)


def test_links_to_files_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    assert not missing


def test_verbs_the_readme_names_exist() -> None:
    from featmesh.cli.main import VERBS

    named = set(re.findall(r"^featmesh ([\w-]+)", "\n".join(blocks("bash")), re.MULTILINE))
    assert named and named <= set(VERBS)
