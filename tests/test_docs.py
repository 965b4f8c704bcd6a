"""What README and docs tell can be done: commands parse, Python resolves, files exist."""

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from featmesh.cli.main import VERBS, execute
from featmesh.render import rasterize

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
PLACES = {"X0": "1", "Y0": "2", "X1": "300", "Y1": "200", "DEG": "60", "F": "900"}
PLACES |= {"VERB": "estimate"}
OF_OTHERS: set[str] = set()  # options of other programs, as "page: words"
ABRIDGED = {"..."}  # a command line that leaves something out ends so
RUN = {"checkpoint.md", "index.md", "own-renderer.md"}  # as they stand; see.md: tests/cli/test_see


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a page."""
    return [(kind.strip(), text) for _, kind, text in FENCE.findall(page.read_text("utf-8"))]


def python(page: Path) -> list[str]:
    return [text for kind, text in blocks(page) if kind == "python"]


def shell(page: Path) -> Iterator[str]:
    """Lines of the blocks that are no Python and no JSON; continued lines are joined."""
    for kind, text in blocks(page):
        if kind in ("", "bash", "sh"):
            yield from text.replace("\\\n", " ").splitlines()


def spoken(page: Path) -> list[str]:
    """Commands inside the text."""
    text = FENCE.sub("", page.read_text("utf-8"))
    return re.findall(r"`featmesh ([^`]+)`", text)


def spellings(line: str) -> list[list[str]]:
    """The command lines that ``[--option | --other]`` stands for, each as words."""
    bare = re.sub(r"\[[^\]]*\]", "", line)
    ways = [way for group in re.findall(r"\[([^\]]*)\]", line) for way in group.split("|")]
    found = []
    for way in ["", *ways]:
        words = shlex.split(f"{bare} {way}", comments=False)
        words = [
            word.removesuffix("...") or word for word in words if word not in ("&&", *ABRIDGED)
        ]
        found.append([PLACES.get(word, word) for word in words])
    return found


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    """Return a function that reads a command line as the command does, and runs nothing."""
    for verb in VERBS:
        module = importlib.import_module(f"featmesh.cli.{verb.replace('-', '_')}")
        monkeypatch.setattr(module, "run", lambda arguments: 0)

    def code(words: list[str]) -> int:
        try:
            return execute(words)
        except SystemExit as leaving:
            return int(leaving.code or 0)

    return code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_are_read(
    page: Path, parse: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    told_lines = [re.sub(r"\s#.*", "", line).strip() for line in shell(page)]
    for line in [line for line in told_lines if line.startswith("featmesh ")]:
        abridged = bool(ABRIDGED & set(line.split()))
        for words in spellings(line.removeprefix("featmesh ")):
            code = parse(words)
            told = capsys.readouterr().err
            assert code == 0 or (abridged and only_incomplete(told)), (line, told)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_name_options_that_exist(
    page: Path, parse: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    for line in spoken(page):
        for words in spellings(" ".join(line.split())):
            code = parse(words)
            told = capsys.readouterr().err
            assert code == 0 or (words[0] in VERBS and only_incomplete(told)), (line, told)


def only_incomplete(told: str) -> bool:
    """Whether a command line was refused for nothing but what it leaves out."""
    lacks = re.search(r"Required options|Missing subcommand", told)
    return lacks is not None and not re.search(r"nrecogni[sz]ed|nvalid|Error parsing", told)


@pytest.mark.parametrize(
    "line",
    [
        *("estimate a.jpg --boxx 1", "train --lr-trunc 0", "train --no-such 1 --views v.json"),
        *("estimate a.jpg --task pos", "data konvert", "nonsense"),
    ],
)
def test_what_does_not_exist_is_found(
    line: str, parse: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(line.split()) != 0
    assert not only_incomplete(capsys.readouterr().err)


def test_options_in_the_text_belong_to_a_verb_or_a_script(
    parse: Callable[[list[str]], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # no option is broken over lines
    inner = [["data", name] for name in ("convert", "check", "layout")]
    inner += [["export", name] for name in ("mesh", "poses", "network")]
    for words in [*([verb] for verb in VERBS), *inner]:
        assert parse([*words, "--help"]) == 0
    known = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[\w-]+)"', script.read_text("utf-8")))
    for page in PAGES:
        for words in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text("utf-8"))):
            for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", words):
                group = option.endswith(".") and any(k.startswith(option) for k in known)
                assert group or option in known or f"{page.name}: {words}" in OF_OTHERS, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_names_what_there_is(page: Path) -> None:
    for text in python(page):
        tree = ast.parse(text)
        names = imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                resolved(node, names)
            if isinstance(node, ast.Call):
                check_call(node, names)


def imported(tree: ast.Module) -> dict[str, Any]:
    """What the import statements of a block bring in, by name."""
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = importlib.import_module(alias.name)
                top = alias.name.split(".")[0]
                names[alias.asname or top] = (
                    module if alias.asname else importlib.import_module(top)
                )
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(module, alias.name)
    return names


def resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return what ``module.name`` is, an import followed through modules; None for the rest."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        whole = resolved(node.value, names)
        return getattr(whole, node.attr) if isinstance(whole, ModuleType) else None
    return None


def check_call(node: ast.Call, names: dict[str, Any]) -> None:
    """Bind the arguments of a call of something of ours to its signature."""
    called = resolved(node.func, names)
    ours = getattr(called, "__module__", None) or ""
    starred = any(isinstance(a, ast.Starred) for a in node.args)
    if not ours.startswith("featmesh") or starred or not all(k.arg for k in node.keywords):
        return
    given = {str(k.arg): None for k in node.keywords}
    inspect.signature(called).bind(*[None] * len(node.args), **given)


@pytest.mark.parametrize("name", sorted(RUN))
def test_python_that_needs_nothing_else_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(rasterize, "BACKENDS", dict(rasterize.BACKENDS))
    names: dict[str, Any] = {}
    found = python(DOCS / name)
    assert found
    for text in found:
        exec(compile(text, name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_extras_and_targets_exist(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in re.findall(r"python ((?:examples|benchmarks)/\S+\.py)", page.read_text("utf-8")):
        assert (ROOT / path).is_file(), path
    for line in shell(page):
        for extra in re.findall(r"featmesh\[([\w,]+)\]", line):
            assert set(extra.split(",")) <= set(project["optional-dependencies"]), line
        for target in re.findall(r"^make ([\w-]+)", line):
            assert target in targets, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            file, _, place = target.partition("#")
            path = (page.parent / file) if file else page
            assert path.exists(), target
            if place and path.suffix == ".md":
                heads = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
                assert place in [slug(head) for head in heads], target


def slug(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_the_site_shows_every_page_once() -> None:
    told = (ROOT / "mkdocs.yml").read_text("utf-8")
    shown = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", told, re.MULTILINE)
    assert sorted(shown) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_site_asks_nothing_of_other_hosts() -> None:
    told = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert re.search(r"^  font: false$", told, re.MULTILINE)
    assert "http" not in told
