"""Settings of the suite: what cannot be is refused, quick leaves what was chosen."""

import pytest

from featmesh.config import config_from_dict, config_to_dict
from featmesh.errors import InputError
from featmesh.evaluate.suite_config import QUICK, SuiteConfig, quick


def test_quick_shortens_what_was_not_chosen() -> None:
    assert quick(SuiteConfig()) == QUICK
    found = quick(SuiteConfig(photos=3, severity=(5,), seed=4))
    assert (found.photos, found.severity, found.seed) == (3, (5,), 4)
    assert found.conditions == QUICK.conditions


def test_a_config_survives_json() -> None:
    config = SuiteConfig(unseen=((30.0, 60.0),), conditions=("fog",), photos=5)
    assert config_from_dict(SuiteConfig, config_to_dict(config)) == config


@pytest.mark.parametrize("wrong", [{"severity": (6,)}, {"severity": ()}, {"photos": 0}])
def test_what_cannot_be_is_named(wrong: dict) -> None:
    with pytest.raises(InputError, match=r"E_CONFIG: suite: expected .*; try: --"):
        SuiteConfig(**wrong)
