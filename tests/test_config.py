import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featmesh.config import config_from_dict, config_to_dict, nearest
from featmesh.errors import InputError


@dataclass(frozen=True)
class Inner:
    step_size: float = 0.05
    kind: Literal["adam", "plain", 3] = "adam"
    limits: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        if self.step_size <= 0:
            raise ValueError("step_size must be positive")


@dataclass(frozen=True)
class Outer:
    name: str
    steps: int = 10
    fast: bool = False
    views: tuple[str, ...] = ()
    box: tuple[int, int] | None = None
    either: float | int | str = 1
    folder: Path = Path("runs/car")
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    listed: list[int] = field(default_factory=list)
    anything: Any = None
    derived: int = field(default=0, init=False)


finite = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(
    Inner,
    st.floats(1e-6, 1.0),
    st.sampled_from(["adam", "plain", 3]),
    st.tuples(finite, finite),
)
outers = st.builds(
    Outer,
    st.text(),
    st.integers(),
    st.booleans(),
    st.lists(st.text()).map(tuple),
    st.none() | st.tuples(st.integers(), st.integers()),
    finite | st.integers() | st.text(),
    st.just(Path("a/b")),
    st.dictionaries(st.text(), finite),
    inners,
    st.lists(inners, max_size=3).map(tuple),
    st.lists(st.integers()),
    st.none() | st.integers(),
)


@given(outers)
def test_every_config_comes_back_from_json_as_it_was(config):
    read = config_from_dict(Outer, json.loads(json.dumps(config_to_dict(config))))
    assert read == config
    assert type(read.either) is type(config.either)
    assert type(read.inner.step_size) is float


def test_keys_left_out_take_their_default_and_an_int_does_for_a_float():
    config = config_from_dict(Outer, {"name": "x", "inner": {"step_size": 1}})
    assert config == Outer("x", inner=Inner(step_size=1.0))
    assert isinstance(config.inner.step_size, float)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "x", "stepz": 1}, "only known keys of Outer, got 'stepz'; try: 'steps'"),
        ({"name": "x", "inner": {"stepsize": 1}}, "Outer.inner: .* 'stepsize'; try: 'step_size'"),
        ({"name": "x", "derived": 1}, "only known keys of Outer"),
        ({"name": "x", "qqqq": 1}, "try: one of anything, box"),
        ({}, "the key 'name', got \\[\\]; try: add 'name'"),
        ({"name": 1}, "Outer.name: expected str, got 1"),
        ({"name": "x", "steps": True}, "Outer.steps: expected int, got True"),
        ({"name": "x", "steps": 1.0}, "expected int, got 1.0"),
        ({"name": "x", "fast": 1}, "expected bool, got 1"),
        ({"name": "x", "inner": {"step_size": True}}, "expected float, got True"),
        ({"name": "x", "inner": {"step_size": float("nan")}}, "a finite float, got nan"),
        ({"name": "x", "inner": {"step_size": -1}}, "got 'step_size must be positive'"),
        ({"name": "x", "inner": {"kind": "adan"}}, "'adam', 'plain', 3, got 'adan'; try: 'adam'"),
        ({"name": "x", "inner": {"kind": 3.0}}, "one of 'adam', 'plain', 3"),
        ({"name": "x", "inner": {"limits": [1]}}, "Outer.inner.limits: expected 2 entries"),
        ({"name": "x", "inner": 3}, "a dict for Inner, got 3"),
        ({"name": "x", "views": "a.json"}, "a list, got 'a.json'"),
        ({"name": "x", "views": ["a", 1]}, r"Outer.views\[1\]: expected str"),
        ({"name": "x", "box": [1, "2"]}, r"Outer.box\[1\]: expected int"),
        ({"name": "x", "either": None}, "one of float, int, str, got None"),
        ({"name": "x", "weights": {"a": "b"}}, "Outer.weights.a: expected float"),
        ({"name": "x", "weights": [1]}, "a dict with text keys"),
        ({"name": "x", "many": [{"kind": "plain"}, {"kin": 1}]}, r"many\[1\].*'kin'; try: 'kind'"),
        ({"name": "x", "listed": 3}, "a list, got 3"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(values, said):
    with pytest.raises(InputError, match=said) as raised:
        config_from_dict(Outer, values)
    assert raised.value.code == "E_CONFIG"


def test_what_json_cannot_hold_is_named():
    for bad in (float("inf"), object(), {1: 2}):
        with pytest.raises(InputError, match=r"Outer\.anything") as raised:
            config_to_dict(Outer("x", anything=bad))
        assert raised.value.code == "E_CONFIG"
    with pytest.raises(InputError, match="instance of a dataclass"):
        config_to_dict(Outer)


def test_a_field_of_unknown_type_is_a_mistake_of_the_programmer():
    @dataclass(frozen=True)
    class Odd:
        x: set = field(default_factory=set)

    with pytest.raises(TypeError, match=r"Odd\.x"):
        config_from_dict(Odd, {"x": []})


def test_the_nearest_choice_is_offered():
    assert nearest("cra", ["car", "bus"]) == "'car'"
    assert nearest("zzz", ["car", "bus"]) == "one of bus, car"
    assert nearest("zzz", []) == "one of (none)"


def test_configs_need_no_torch():
    text = "import sys, featmesh.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
