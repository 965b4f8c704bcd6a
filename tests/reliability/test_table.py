"""The table of docs/reliability.md names what there is: 48 rows, tests and codes that exist."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest
from reliability.sources import SOURCE

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
STATUS = ("holds", "partly", "not yet")
ROWS = 48


@lru_cache
def table() -> dict[int, list[str]]:
    """The cells of each row by its number: fault, status, what, codes, tests."""
    lines = PAGE.read_text("utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    numbers = [row[0] for row in cells]
    assert numbers == ["row", "---", *map(str, range(1, ROWS + 1))]
    return {int(row[0]): row[1:] for row in cells[2:]}


@lru_cache
def functions(path: Path) -> frozenset[str]:
    """The test functions of a file, read without importing it."""
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def named(cell: str) -> list[tuple[str, str]]:
    """The tests of a cell: file below tests/, function."""
    found = re.findall(r"`([\w/]+\.py)::(test_\w+)`", cell)
    assert len(found) == len(re.findall(r"`[^`]*`", cell)), f"no test id: {cell}"
    return found


@pytest.mark.parametrize("row", range(1, ROWS + 1))
def test_a_row_names_what_is_done_and_the_tests_that_hold_it(row: int) -> None:
    fault, status, what, codes, tests = table()[row]
    assert fault and what and status in STATUS
    assert named(tests)
    for file, name in named(tests):
        assert (TESTS / file).is_file(), file
        assert name in functions(TESTS / file), f"{file}::{name}"
    if status == "partly":
        assert ";" in what  # says what is missing beside what is done
    for code in re.findall(r"`([^`]*)`", codes):
        assert re.fullmatch(r"E_[A-Z_]+", code), code
        assert code in raised(), code


@lru_cache
def raised() -> frozenset[str]:
    """The codes that stand in the sources; those of checkpoints are put together there."""
    text = "".join(path.read_text("utf-8") for path in sorted(SOURCE.rglob("*.py")))
    own = re.findall(r'"(E_[A-Z_]+)"', text)
    own += [f"E_CKPT_{code}" for code in re.findall(r'broken\(\s*"([A-Z_]+)"', text)]
    return frozenset(own)


def test_every_test_written_for_a_row_stands_in_it() -> None:
    listed = {row: {name for _, name in named(cells[-1])} for row, cells in table().items()}
    for path in sorted(Path(__file__).parent.glob("test_rows_*.py")):
        for name in functions(path):
            found = re.fullmatch(r"test_row_(\d\d)(?:_and_(\d\d))?_\w+", name)
            assert found, f"{path.name}::{name} names no row"
            for row in filter(None, found.groups()):
                assert name in listed[int(row)], name
