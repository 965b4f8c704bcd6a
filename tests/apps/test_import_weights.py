"""Foreign checkpoints: what is found in them, and that nothing in them is ever run."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from model.trunks import published_dinov2, published_resnet50
from safetensors.torch import save_file
from torch import Tensor, nn

from featmesh.apps import import_weights as importer
from featmesh.apps.import_weights import import_weights, public_name, recognise
from featmesh.errors import CheckpointError
from featmesh.model.dinov2 import DinoV2
from featmesh.model.efficientnet import frozen_statistics
from featmesh.model.resnet import ResNet50
from featmesh.model.weights import trunk_weights

LAYERS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5"}
BANK = torch.zeros(1060 + 2560, 8)


class Slim(nn.Module):
    """A trunk of two layers in the place of the ResNet, which has 94 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Linear(4, 4), nn.Linear(4, 4)


def slim_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    layers = {"conv1": "stem", "layer3.0": "last"}
    pairs = [(name.rpartition("."), value) for name, value in weights.items()]
    return {f"{layers[a]}.{b}": value for (a, _, b), value in pairs if a in layers}


@pytest.fixture
def slim(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The state that is to come out; the importer knows no other trunk."""
    monkeypatch.setattr(importer, "TRUNKS", {"resnet50": (Slim, slim_names)})
    torch.manual_seed(0)
    return Slim().state_dict()


def save(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)  # noqa: TID251  (what others give us)
    return path


def nemo_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state as NeMo's network has it, with a head."""
    inside = "module.net."
    named = {
        f"{inside}extractor.0.weight": state["stem.weight"],
        f"{inside}extractor.0.bias": state["stem.bias"],
        f"{inside}extractor1.0.weight": state["last.weight"],
        f"{inside}extractor1.0.bias": state["last.bias"],
    }
    head = {
        f"{inside}upsample0.doubleconv.0.weight": torch.ones(2),
        "module.out_layer.bias": torch.ones(8),
    }
    return named | head | {f"{inside}extractor.1.num_batches_tracked": torch.tensor(3)}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_nemo_checkpoint_gives_its_trunk_and_tells_of_its_bank(
    slim, tmp_path: Path, legacy: bool
) -> None:
    options = argparse.Namespace(type_="car", d_feature=128)
    content = {"state": nemo_state(slim), "memory": [BANK], "timestamp": 3, "args": options}
    source = save(content, tmp_path / "car.pth", _use_new_zipfile_serialization=not legacy)
    told = import_weights(source, tmp_path / "out")
    assert (told["backbone"], told["taken"], told["tensors"]) == ("resnet50", 4, 8)
    assert told["banks"] == {"memory.0": [3620, 8]}
    assert told["left"] == {"upsample0": 1, "out_layer": 1}
    found = trunk_weights("resnet50", tmp_path / "out" / told["file"])
    assert found.keys() == slim.keys()
    assert all(torch.equal(found[name], value) for name, value in slim.items())
    assert (tmp_path / "out" / "import.json").is_file()
    assert import_weights(source, tmp_path / "out")["file"] == told["file"]


def test_nemos_own_names_are_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        public = published_resnet50(frozen_statistics(ResNet50().state_dict()))
    for later in ("extractor1.", "extractor2."), ("extractor.6.", "extractor.7."):
        inside = {f"{name}.": f"extractor.{k}." for name, k in LAYERS.items()}
        inside |= dict(zip(("layer3.", "layer4."), later, strict=True))
        for name in public:
            first, _, rest = name.partition(".")
            if f"{first}." in inside:
                assert public_name(f"state.module.net.{inside[f'{first}.']}{rest}") == name
                assert public_name(f"model.{name}") == name


@pytest.mark.parametrize("backbone", ["resnet50", "dinov2_vits14"])
def test_the_trunk_is_recognised_by_names_and_shapes(backbone: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        if backbone == "resnet50":
            public = published_resnet50(frozen_statistics(ResNet50().state_dict()))
        else:
            public = published_dinov2(DinoV2().state_dict(), torch.zeros(384))
    named = {f"module.{name}": torch.zeros(t.shape) for name, t in public.items()}
    assert recognise(tmp_path, named).backbone == backbone


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    for legacy in (False, True):
        content = {"state": {"conv1.weight": torch.zeros(2)}, "memory": Trap()}
        path = save(content, tmp_path / "trap.pth", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError) as caught:
            import_weights(path, tmp_path / "out")
        assert caught.value.code == "E_CKPT_FOREIGN"
        assert "mkdir" in str(caught.value) and "weights_only" not in str(caught.value)
    assert not (tmp_path / "sprung").exists() and not (tmp_path / "out").exists()


def test_a_file_without_a_trunk_names_what_is_missing(slim, tmp_path: Path) -> None:
    state = nemo_state(slim)
    del state["module.net.extractor1.0.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"25% of resnet50's .* first last\.bias"):
        import_weights(tmp_path / "part.safetensors", tmp_path / "out")
    with pytest.raises(CheckpointError, match="none of them"):
        recognise(tmp_path, {"fc.weight": torch.zeros(3)})
