"""Train a category model on a views file; an interrupted run goes on where it stopped.

--preset nemo is the published training of NeMo: the cuboid around the CADs, ResNet-50, its sizes
and rates; other options given beside it win (docs/nemo.md). --method bins, 6d and nearest train
what the method is measured against, on the same crops (docs/baselines.md). Under torchrun several
processes train as one (docs/distributed.md).
"""

import ast
import inspect
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

from featmesh.learn.config import TrainConfig
from featmesh.learn.presets import PRESETS, TrainName
from featmesh.model.direct_config import DirectConfig, Method

PRESET = Annotated[TrainName, tyro.conf.arg(help="what the options not given are")]
METHOD = Annotated[Method, tyro.conf.arg(help="render-and-compare, or a conventional network")]
METAVARS = {bool: "BOOL", int: "INT", float: "FLOAT", str: "STR", tuple: "[STR [STR ...]]"}


def _notes(cls: type) -> dict[str, str]:
    """Return what stands below each field of a class."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    notes, name = dict[str, str](), ""
    for node in getattr(body, "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            notes[name] = " ".join(str(node.value.value).split())
    return notes


def _optional(cls: type, name: str, **first: tuple[Any, Any]) -> type:
    """Return a dataclass like ``cls`` in which every field with a default may be left out.

    ``first`` holds fields that stand before the others: their types and defaults.
    """
    notes, given = _notes(cls), list[Any]()
    more: list[Any] = [(key, kind, field(default=value)) for key, (kind, value) in first.items()]
    for one in fields(cls):
        kind: Any = one.type
        told: dict[str, Any] = {"help": notes[one.name]}
        if one.default is MISSING and one.default_factory is MISSING:
            given.append((one.name, Annotated[kind, tyro.conf.arg(**told)]))
        elif is_dataclass(kind):
            inner = _optional(kind, name + one.name.title())  # type: ignore[arg-type]
            more.append((one.name, inner, field(default_factory=inner)))
        elif one.default is None:  # may be left out as it is
            more.append((one.name, kind, field(default=None)))
        else:
            told["help_behavior_hint"] = f"(default: {_shown(one.default)})"
            told["metavar"] = _metavar(kind)
            left_out = Annotated[kind | None, tyro.conf.arg(**told)]
            more.append((one.name, left_out, field(default=None)))
    made = make_dataclass(name, given + more, frozen=True)
    made.__doc__ = cls.__doc__
    return made


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    return METAVARS[get_origin(kind) or kind]


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else repr(value).strip("'")


FIRST = {"preset": (PRESET, "featmesh"), "method": (METHOD, "featmesh")}
Arguments: Any = _optional(TrainConfig, "Arguments", **FIRST)


def chosen(base: Any, given: Any) -> Any:
    """Return a configuration with those of the options that are not None put in."""
    found = {}
    for one in fields(base):
        value, own = getattr(given, one.name), getattr(base, one.name)
        if value is not None:
            nested: Any = is_dataclass(own) and is_dataclass(value)
            found[one.name] = chosen(own, value) if nested else value
    return replace(base, **found)


def run(arguments: Any) -> int:
    """Train, and write the model folder; stopped by Ctrl-C or SIGTERM, save and leave."""
    config = chosen(PRESETS[arguments.preset], arguments)
    if arguments.method != "featmesh":
        from featmesh.learn.direct import train_direct
        from featmesh.learn.ranks import expect_one

        expect_one(f"--method {arguments.method}")
        return train_direct(config, DirectConfig(kind=arguments.method))
    from featmesh.learn.session import train

    return train(config)
