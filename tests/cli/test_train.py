"""Claims about ``featmesh train``: a preset is what the options not given are."""

from dataclasses import asdict
from pathlib import Path

import pytest

from featmesh.cli.main import execute
from featmesh.learn.config import TrainConfig
from featmesh.learn.presets import PRESETS
from featmesh.model.config import DeformationConfig
from featmesh.model.direct_config import DirectConfig


@pytest.fixture
def trained(fake_module) -> list[TrainConfig]:
    """What was to be trained, before anything was looked up."""
    given: list[TrainConfig] = []
    fake_module("featmesh.learn.session", train=lambda config: given.append(config) or 0)
    return given


def words(*more: str) -> list[str]:
    return ["train", "--views", "a.json", "--out", "run", *more]


def test_without_options_it_is_our_own_configuration(trained) -> None:
    assert execute(words()) == 0
    assert trained == [TrainConfig(views=("a.json",), out="run")]


def test_the_preset_holds_what_is_not_given(trained) -> None:
    assert execute(words("--preset", "nemo", "--category", "bus")) == 0
    expected = asdict(PRESETS["nemo"]) | {"views": ("a.json",), "out": "run", "category": "bus"}
    assert asdict(trained[0]) == expected


def test_an_option_given_wins_even_at_our_own_default(trained) -> None:
    own = TrainConfig(views=(), out="")
    more = ["--epochs", str(own.epochs), "--model.channels", str(own.model.channels)]
    assert execute(words("--preset", "nemo", *more, "--augment.occlude", "0.5")) == 0
    (config,) = trained
    assert (config.epochs, config.model.channels, config.augment.occlude) == (8, 64, 0.5)
    assert (config.batch, config.model.backbone) == (48, "resnet50")


def test_every_kind_of_option_is_read(trained) -> None:
    more = ["--exclude", "x.jpg", "y.jpg", "--template", "cuboid", "--lr-head", "1e-3"]
    more += ["model.deformation:deformation-config", "--model.deformation.latents", "3"]
    assert execute(words(*more)) == 0
    (config,) = trained
    assert config.exclude == ("x.jpg", "y.jpg") and config.template == "cuboid"
    assert config.lr_head == 1e-3 and config.model.deformation == DeformationConfig(latents=3)


def test_help_tells_notes_and_defaults(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        execute(["train", "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert caught.value.code == 0
    for line in (
        "--preset {featmesh,nemo}",
        "crops per step (default: 16)",
        "--template {mean,cuboid}",
        "length of a feature vector (default: 64)",
        "(required)",
    ):
        assert line in told


@pytest.mark.parametrize("method", ["bins", "6d", "nearest"])
def test_a_method_is_trained_by_the_same_configuration(method, trained, fake_module) -> None:
    given = []
    fake_module("featmesh.learn.direct", train_direct=lambda *told: given.append(told) or 0)
    assert execute(words("--preset", "nemo", "--epochs", "3", "--method", method)) == 0
    ((config, direct),) = given
    assert (config.epochs, config.batch, config.out) == (3, 48, "run") and not trained
    assert direct == DirectConfig(kind=method)


@pytest.mark.parametrize("more", [["--epochs", "many"], ["--preset", "voge"], ["--method", "x"]])
def test_options_that_cannot_be_read_are_usage_errors(more, trained, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        execute(words(*more))
    assert caught.value.code == 2 and not trained


def test_a_run_without_cads_says_what_it_needs(tmp_path: Path, capsys) -> None:
    views = tmp_path / "views.json"
    views.write_text("[]")
    line = ["train", "--views", str(views), "--out", str(tmp_path / "run"), "--preset", "nemo"]
    assert execute(line) == 1
    assert "E_DATA" in capsys.readouterr().err
