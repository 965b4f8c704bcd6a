"""The laws of the house, read from the source: layers, sizes, light imports, one device."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from featmesh.cli.main import VERBS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "featmesh"
MODULES = sorted(p for p in SOURCE.rglob("*.py"))

# an import points to a lower number, or stays in its package
LAYERS = {
    "geometry": 0,
    "photo": 1,
    "render": 1,
    "model": 2,
    "inference": 3,
    "views": 4,
    "evaluate": 5,
    "learn": 6,
    "present": 7,
    "apps": 8,
    "cli": 9,
}
ENTRIES = ("__init__", "__main__")  # of featmesh itself: they hand out what the layers hold
MAX_FUNCTION, MAX_MODULE = 80, 400
HEAVY = ("torch", "numpy", "numba", "scipy", "trimesh", "PIL", "matplotlib", "viser", "jaxtyping")
SKIPPED = {"out", "runs", "results", "dist", "build", "__pycache__"}


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names a module imports, relative ones resolved."""
    parts = ("featmesh", *path.relative_to(SOURCE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*parts[: len(parts) - node.level]] if node.level else []
            dotted = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{dotted}.{name.name}" for name in node.names)


def package(dotted: str) -> str:
    """Return the layer a dotted name of featmesh lies in; "" for the modules beside the layers."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else ""


def test_every_package_is_a_layer() -> None:
    found = {p.name for p in SOURCE.iterdir() if (p / "__init__.py").is_file()}
    assert found <= set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_left(path: Path) -> None:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    if parts[0] in ENTRIES:
        return
    own = parts[0] if parts[0] in LAYERS else ""
    for name in imports(path):
        if name.split(".")[0] != "featmesh":
            continue
        other = package(name)
        allowed = other in ("", own) or (own and LAYERS[other] < LAYERS[own])
        assert allowed, f"{own or 'a module beside the layers'} imports {name}"


def test_modules_and_functions_are_short() -> None:
    for path in MODULES:
        text = path.read_text("utf-8")
        assert text.count("\n") <= MAX_MODULE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= MAX_FUNCTION, f"{path}: {node.name} has {lines} lines"


def test_typed_modules_keep_their_annotations() -> None:
    for path in MODULES:
        assert "__future__.annotations" not in set(imports(path)), path


def test_one_function_knows_of_devices() -> None:
    places = set()
    for path in MODULES:
        text = path.read_text("utf-8")
        lines = [n for n, line in enumerate(text.splitlines(), 1) if "cuda" in line.lower()]
        spans = [
            (node.lineno, node.end_lineno or 0, node.name)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef)
        ]
        for line in lines:
            names = [name for first, last, name in spans if first <= line <= last]
            places.add((str(path), names[0] if names else f"line {line}"))
    assert len(places) <= 1, places


def loaded_by(code: str) -> tuple[set[str], float]:
    """Return the packages a fresh interpreter holds after ``code``, and the seconds it worked."""
    probe = (
        f"import sys, time\n{code}\n"
        "names = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print('LOADED', time.process_time(), *names)"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    ran = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True, env=environment
    )
    words = ran.stdout[ran.stdout.index("LOADED") :].split()
    return set(words[2:]), float(words[1])


def test_importing_featmesh_is_light() -> None:
    loaded, _ = loaded_by("import featmesh; dir(featmesh)")
    assert not loaded & {*HEAVY, "tyro", "rich"}


def test_help_is_light_and_quick() -> None:
    code = "from featmesh.cli.main import execute; execute(['--help']); execute(['--version'])"
    loaded, seconds = loaded_by(code)
    assert not loaded & set(HEAVY)
    assert seconds < 0.5


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_of_a_verb_is_light(verb: str) -> None:
    code = f"""
from featmesh.cli.main import execute
try:
    execute([{verb!r}, '--help'])
except SystemExit:
    pass
"""
    loaded, _ = loaded_by(code)
    assert not loaded & set(HEAVY)


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the text files of the repository."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if f == ".ci" or not (f in SKIPPED or f.startswith("."))]
        for name in names:
            path = Path(folder, name)
            if path.stat().st_size < 2_000_000:
                try:
                    yield path, path.read_text("utf-8")
                except UnicodeDecodeError:
                    continue


def test_no_path_of_a_machine_stands_in_a_file() -> None:
    roots = "work|home|root|Users"
    for path, text in texts():
        # tests of hostile paths name the folder of temporary files, which every machine has
        shared = "" if "tests" in path.parts else "|tmp"
        found = re.search(rf"(?<![\w.~>)}}\]-])/(?:{roots}{shared})/\w", text)
        assert not found, f"{path}: {text[max(0, found.start() - 20) : found.end() + 20]!r}"
