"""Fixtures of several packages' tests."""

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def fake_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that puts a module with the given names in the place of another."""

    def put(name: str, **names: Any) -> None:
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)

    return put
