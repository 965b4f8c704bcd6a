"""The sources of featmesh as trees, parsed once: for claims about what is nowhere done."""

import ast
from functools import lru_cache
from pathlib import Path

import featmesh

SOURCE = Path(featmesh.__file__).parent


@lru_cache
def nodes() -> dict[str, tuple[ast.AST, ...]]:
    """All nodes of each module, by its path below featmesh."""
    return {
        path.relative_to(SOURCE).as_posix(): tuple(ast.walk(ast.parse(path.read_text("utf-8"))))
        for path in sorted(SOURCE.rglob("*.py"))
    }


def users(name: str) -> set[str]:
    """The modules that import a module of this name, or write ``a.b`` where the name has a dot."""
    return {path for path, found in nodes().items() if any(_uses(node, name) for node in found)}


def _uses(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Import):
        return name in {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return name == (node.module or "").partition(".")[0]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return name == f"{node.value.id}.{node.attr}"
    return False


def attributes() -> set[str]:
    """Every name that stands behind a dot."""
    return {n.attr for found in nodes().values() for n in found if isinstance(n, ast.Attribute)}
