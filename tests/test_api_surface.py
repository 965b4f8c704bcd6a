"""What users build on: public names, result fields, verbs and options. Any change shows here.

``python tests/test_api_surface.py`` accepts the present state.
"""

import dataclasses
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import featmesh
from featmesh.cli.main import VERBS

FILE = Path(__file__).with_name("api_surface.json")


def surface() -> dict[str, Any]:
    """Return the public names with their parameters or fields, and each verb's options."""
    modules = {name: f"featmesh.cli.{name.replace('-', '_')}" for name in VERBS}
    verbs = {name: importlib.import_module(path).Arguments for name, path in modules.items()}
    return {
        "python": {name: described(getattr(featmesh, name)) for name in featmesh.__all__},
        "verbs": {name: options(arguments) for name, arguments in verbs.items()},
    }


def described(thing: Any) -> list[str]:
    """Return the parameters of a function, or the fields and public methods of a class."""
    if not inspect.isclass(thing):
        return parameters(thing)
    fields = [field.name for field in dataclasses.fields(thing)]
    members = [name for name in vars(thing) if not name.startswith("_") and name not in fields]
    return [*fields, *sorted(f"{name}()" for name in members)]


def parameters(function: Any) -> list[str]:
    found = inspect.signature(function).parameters.values()
    return [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in found]


def options(arguments: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(arguments)]


def test_the_public_surface_is_as_agreed() -> None:
    agreed = json.loads(FILE.read_text("utf-8"))
    assert surface() == agreed, "if it is meant: python tests/test_api_surface.py, and a changelog"


def test_unknown_names_are_refused_with_the_known() -> None:
    try:
        featmesh.estimat  # noqa: B018
    except AttributeError as error:
        assert "estimate" in str(error)
    else:
        raise AssertionError("a misspelt name was found")


if __name__ == "__main__":
    FILE.write_text(json.dumps(surface(), indent=1) + "\n", encoding="utf-8")
