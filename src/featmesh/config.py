"""Configs as JSON and back: frozen dataclasses in, plain dicts out; a misspelt key is an error.

Needs no torch: the command line reads configs before anything heavy is imported.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from featmesh.errors import FeatmeshError, InputError

T = TypeVar("T")


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return what to try for a word that is no choice: the nearest one, or the list of all."""
    known = sorted(choices)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"{close[0]!r}" if close else f"one of {', '.join(known) or '(none)'}"


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a config as what JSON can hold: nested dataclasses to dicts, tuples to lists.

    Args:
        config: an instance of a (frozen) dataclass; fields with ``init=False`` are left out.

    Raises:
        InputError: E_CONFIG for a value that JSON cannot hold, naming its field.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise _bad("config", "an instance of a dataclass", config, "pass the config itself")
    return _plain(config, type(config).__name__)


def config_from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Return the config of class ``cls`` that a dict describes; keys left out take their default.

    Understands bool, int, float (finite; an int will do), str, Path, None, Literal, unions,
    ``tuple[X, ...]``, ``tuple[X, Y]``, ``list[X]``, ``dict[str, X]`` and nested dataclasses.

    Args:
        cls: a dataclass.
        values: what ``config_to_dict`` gave, possibly by way of JSON.

    Raises:
        InputError: E_CONFIG for an unknown key (with the nearest known one), a missing key or a
            value of the wrong type; the message names the field with its path.
    """
    return _build(cls, values, cls.__name__)


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return {name: _plain(getattr(value, name), f"{where}.{name}") for name in fields}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        raise _bad(where, "a finite number", value, "None for no limit")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise _bad(where, "a value JSON can hold", value, "numbers, text, tuples, dataclasses")


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise _bad(where, f"a dict for {cls.__name__}", values, "one key for each field")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in values:
        if key not in fields:
            hint = nearest(str(key), fields)
            raise _bad(where, f"only known keys of {cls.__name__}", key, hint)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and (
            field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise _bad(where, f"the key {name!r}", sorted(values), f"add {name!r}")
    hints = get_type_hints(cls)
    parts = {key: _convert(hints[key], item, f"{where}.{key}") for key, item in values.items()}
    try:
        return cls(**parts)
    except FeatmeshError:
        raise
    except ValueError as error:  # the class's own check of its values
        raise _bad(where, f"values {cls.__name__} accepts", str(error), "other values") from error


def _convert(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    origin = get_origin(kind) or kind
    if origin not in _CONVERTERS:
        raise TypeError(f"config: expected a field type it knows at {where}, got {kind!r}")
    return _CONVERTERS[origin](kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    name = kind.__name__
    if kind is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise _bad(where, "a finite float", value, "null for no limit")
        return float(value)
    if kind is Path and isinstance(value, str | PurePath):
        return Path(value)
    if type(value) is not kind:  # exactly: True is no int
        raise _bad(where, f"{'None' if kind is type(None) else name}", value, f"a {name}")
    return value


def _literal(kind: Any, value: Any, where: str) -> Any:
    choices = get_args(kind)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        hint = nearest(str(value), map(str, choices))
        raise _bad(where, f"one of {', '.join(map(repr, choices))}", value, hint)
    return value


def _union(kind: Any, value: Any, where: str) -> Any:
    choices = get_args(kind)
    if value is None and type(None) in choices:
        return None
    choices = tuple(choice for choice in choices if choice is not type(None))
    if len(choices) == 1:
        return _convert(choices[0], value, where)
    for choice in choices:
        # an int stays an int in `float | int`, so that what is read equals what was written
        if choice is float and int in choices and type(value) is int:
            continue
        try:
            return _convert(choice, value, where)
        except InputError:
            continue
    names = ", ".join(getattr(choice, "__name__", str(choice)) for choice in choices)
    raise _bad(where, f"one of {names}", value, "see the config's documentation")


def _tuple(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _bad(where, "a list", value, "[...]")
    kinds = get_args(kind) or (Any, ...)
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _bad(where, f"{len(kinds)} entries", value, f"a list of {len(kinds)}")
    pairs = zip(kinds, value, strict=True)
    return tuple(_convert(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(pairs))


def _list(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _bad(where, "a list", value, "[...]")
    item_kind = (get_args(kind) or (Any,))[0]
    return [_convert(item_kind, item, f"{where}[{i}]") for i, item in enumerate(value)]


def _dict(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _bad(where, "a dict with text keys", value, "{...}")
    item_kind = (get_args(kind) or (str, Any))[1]
    return {key: _convert(item_kind, item, f"{where}.{key}") for key, item in value.items()}


_CONVERTERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    bool: _scalar,
    int: _scalar,
    float: _scalar,
    str: _scalar,
    Path: _scalar,
    type(None): _scalar,
    Literal: _literal,
    Union: _union,
    types.UnionType: _union,
    tuple: _tuple,
    list: _list,
    dict: _dict,
}


def _bad(where: str, expected: str, got: Any, hint: str) -> InputError:
    shown = repr(got) if len(repr(got)) <= 100 else f"{repr(got)[:97]}..."
    return InputError("E_CONFIG", f"{where}: expected {expected}, got {shown}; try: {hint}")
