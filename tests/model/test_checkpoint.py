import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import featmesh
from featmesh.errors import CheckpointError
from featmesh.files import sha256_of
from featmesh.model import checkpoint
from featmesh.model.checkpoint import (
    bundled_categories,
    find_model,
    read_model,
    save_model,
    update_model,
)

CONFIG = {"backbone": "tiny", "channels": 8}


def tensors(scale: float = 1.0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "head.weight": scale * torch.randn(8, 4, 1, 1, generator=draw),
        "template.vertices": scale * torch.randn(6, 3, generator=draw),
        "template.faces": torch.tensor([[0, 1, 2], [3, 4, 5]]),
        "texture": torch.nn.functional.normalize(torch.randn(6, 8, generator=draw), dim=1),
    }


def trunk() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=draw),
        "norm.running_var": torch.tensor([1e-9, 1.0, 7e4, 0.1]),  # beyond half precision
        "norm.steps": torch.tensor(3),
    }


def save(folder: Path, extra: dict | None = None, scale: float = 1.0) -> str:
    return save_model(folder, "car", CONFIG, trunk(), "tiny", tensors(scale), extra)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "models" / "car", {"threshold": 0.25, "metrics": {"median": 5.0}})
    return tmp_path / "models" / "car"


def edit(folder: Path, **changes) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, inner = key.partition("__")
        if inner:
            content[part][inner] = value
        else:
            content[part] = value
    path.write_text(json.dumps(content))


def trunk_file(folder: Path) -> Path:
    return next((folder.parents[1] / "backbones").iterdir())


def refused(folder: Path, code: str, said: str = ": expected") -> None:
    with pytest.raises(CheckpointError, match=said) as raised:
        read_model(folder)
    assert raised.value.code == code


def test_a_model_comes_back_with_a_trunk_in_half_precision(folder):
    files = read_model(folder)
    assert (files.category, files.config, files.trunk_name) == ("car", CONFIG, "tiny")
    assert files.extra == {"threshold": 0.25, "metrics": {"median": 5.0}}
    for name, tensor in tensors().items():
        assert torch.equal(files.tensors[name], tensor)
        assert files.tensors[name].dtype == tensor.dtype
    halved = trunk()["conv.weight"].half().float()
    assert torch.equal(files.trunk["conv.weight"], halved)
    assert files.trunk["conv.weight"].dtype == torch.float32
    assert torch.equal(files.trunk["norm.running_var"], trunk()["norm.running_var"])
    assert torch.equal(files.trunk["norm.steps"], torch.tensor(3))


def test_weights_beyond_half_precision_stay_whole(tmp_path):
    large = {"w": torch.full((2, 2), 1e6)}
    save_model(tmp_path, "car", {}, large, "tiny", {})
    assert torch.equal(read_model(tmp_path).trunk["w"], large["w"])


def test_the_folder_is_as_the_contract_says(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "CARD.md",
        "model.json",
        "model.safetensors",
    ]
    file = trunk_file(folder)
    assert file.name == f"tiny-{sha256_of(file)[:8]}.safetensors"
    manifest = json.loads((folder / "model.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["backbone"] == {"name": "tiny", "file": file.name, "sha256": sha256_of(file)}
    assert manifest["tensors"] == {"sha256": sha256_of(folder / "model.safetensors")}


def test_categories_share_a_trunk_and_saving_leaves_it_alone(folder):
    before = trunk_file(folder).stat()
    save(folder.parent / "bus")
    assert len(list((folder.parents[1] / "backbones").iterdir())) == 1
    assert trunk_file(folder).stat().st_mtime_ns == before.st_mtime_ns
    assert trunk_file(folder).stat().st_ino == before.st_ino
    trunk_file(folder).write_bytes(b"broken")
    save(folder.parent / "bus")  # which mends it
    read_model(folder)


def test_a_folder_elsewhere_holds_its_trunk_itself(tmp_path, monkeypatch):
    save(tmp_path / "runs" / "mine")
    names = sorted(p.suffix for p in (tmp_path / "runs" / "mine").iterdir())
    assert names == [".json", ".md", ".safetensors", ".safetensors"]
    moved = shutil.move(tmp_path / "runs" / "mine", tmp_path / "other")
    read_model(moved)
    monkeypatch.chdir(moved)
    read_model(".")


def test_the_trunk_is_found_beside_by_a_path_with_dots(folder, monkeypatch):
    save(folder.parent / "bus")
    monkeypatch.chdir(folder)
    read_model("../bus")
    read_model(Path("."))


def test_the_trunk_is_found_among_the_bundled_ones(folder, tmp_path, monkeypatch):
    lone = shutil.copytree(folder, tmp_path / "elsewhere" / "deep" / "car")
    refused(lone, "E_CKPT_MISSING", "its trunk tiny-")
    monkeypatch.setattr(checkpoint, "_roots", lambda: (tmp_path,))
    read_model(lone)


def test_the_hash_is_of_what_decides_the_answer(tmp_path):
    first = save(tmp_path / "a", {"threshold": 0.1, "metrics": {"n": 1}})
    assert read_model(tmp_path / "a").hash == first
    assert save(tmp_path / "models" / "b", {"threshold": 0.1, "licence": "CC BY"}) == first
    others = [
        save(tmp_path / "c", {"threshold": 0.2}),
        save(tmp_path / "c", {"threshold": 0.1}, scale=2.0),
        save_model(tmp_path / "c", "car", {}, trunk(), "tiny", tensors(), {"threshold": 0.1}),
        save_model(tmp_path / "c", "bus", CONFIG, trunk(), "tiny", tensors(), {"threshold": 0.1}),
        save_model(tmp_path / "c", "car", CONFIG, {}, "tiny", tensors(), {"threshold": 0.1}),
    ]
    assert len({first, *others}) == 6


def test_a_threshold_or_numbers_can_be_set_later(folder):
    before = read_model(folder).hash
    assert update_model(folder, {"metrics": {"median": 4.5}}) == before
    after = update_model(folder, {"threshold": 0.5})
    assert after != before
    files = read_model(folder)
    assert files.hash == after
    assert files.extra == {"threshold": 0.5, "metrics": {"median": 4.5}}
    assert "4.5" in (folder / "CARD.md").read_text()
    with pytest.raises(CheckpointError, match="config") as raised:
        update_model(folder, {"config": {}})
    assert raised.value.code == "E_CKPT_FORMAT"


def test_the_card_says_data_licences_numbers_and_limits(folder):
    extra = {
        "data": ["stanford_cars/train.json"],
        "licence": {"trunk": "Apache-2.0", "texture": {"photos": "research only"}},
        "limits": "cars only",
        "metrics": {"acc_30": 299 / 301, "count": 301, "crops": 43_700.0},
    }
    update_model(folder, extra)
    card = (folder / "CARD.md").read_text()
    assert "- acc_30: 0.9934\n- count: 301\n- crops: 43700\n" in card
    for text in ("## Data", "- stanford_cars/train.json", "- trunk: Apache-2.0", "## Limits"):
        assert text in card
    assert "  - photos: research only" in card
    (folder / "CARD.md").write_text("written by hand")
    save(folder)
    assert (folder / "CARD.md").read_text() == "written by hand"


# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["trunk", "tensors"])
def test_truncated_and_flipped_files_are_refused(folder, which):
    path = trunk_file(folder) if which == "trunk" else folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    refused(folder, "E_CKPT_HASH", str(path))
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 4]) + whole[-4:])
    refused(folder, "E_CKPT_HASH", "cut short or changed")
    path.unlink()
    refused(folder, "E_CKPT_MISSING")


def test_a_wrong_hash_is_refused(folder):
    edit(folder, tensors__sha256="0" * 64)
    refused(folder, "E_CKPT_HASH", "SHA-256 000000000000")


def test_the_tensors_of_another_category_are_refused(folder):
    save(folder.parent / "bus", scale=3.0)
    shutil.copy(folder.parent / "bus" / "model.safetensors", folder)
    refused(folder, "E_CKPT_HASH")


def test_weights_that_are_not_finite_are_refused(folder):
    bad = tensors() | {"texture": torch.full((6, 8), float("nan"))}
    save_file(bad, folder / "model.safetensors")
    edit(folder, tensors__sha256=sha256_of(folder / "model.safetensors"))
    refused(folder, "E_CKPT_NONFINITE", "texture")
    with pytest.raises(CheckpointError, match="texture") as raised:
        save_model(folder, "car", CONFIG, trunk(), "tiny", bad)
    assert raised.value.code == "E_CKPT_NONFINITE"
    with pytest.raises(CheckpointError, match="conv") as raised:
        infinite = {"conv": torch.full((2, 2), float("inf"))}
        save_model(folder, "car", CONFIG, infinite, "tiny", tensors())
    assert raised.value.code == "E_CKPT_NONFINITE"


@pytest.mark.parametrize("which", ["trunk", "tensors"])
def test_a_pickle_in_place_of_weights_is_refused(folder, which):
    path = trunk_file(folder) if which == "trunk" else folder / "model.safetensors"
    path.write_bytes(pickle.dumps({"w": 1}))
    refused(folder, "E_CKPT_FOREIGN", "can run code")


def test_a_newer_format_is_refused(folder):
    edit(folder, schema=2)
    refused(folder, "E_CKPT_VERSION", "update featmesh")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "1"},
        {"schema": 0},
        {"schema": True},
        {"category": 3},
        {"config": []},
        {"backbone": "tiny"},
        {"backbone__name": None},
        {"backbone__sha256": "0"},
        {"tensors__sha256": None},
        {"tensors": None},
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(folder, changes):
    edit(folder, **changes)
    refused(folder, "E_CKPT_FORMAT", "model.json")


def test_a_manifest_that_is_cut_short_is_refused(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text[:50])
    refused(folder, "E_CKPT_FORMAT", "expected JSON")


@pytest.mark.parametrize(
    "name",
    [
        "../../secret.safetensors",
        "/etc/passwd",
        "/tmp/x.safetensors",
        "C:\\x.safetensors",
        "a/../x.safetensors",
        "..",
        ".safetensors",
        "",
        "x\0.safetensors",
        "x.safetensors\n",
        "tiny.pth",
        "x" * 300 + ".safetensors",
    ],
)
def test_the_trunks_name_leaves_no_folder(folder, name):
    edit(folder, backbone__file=name)
    refused(folder, "E_CKPT_PATH", "a bare file name")


def test_a_trunk_name_that_makes_no_file_name_is_not_saved(tmp_path):
    with pytest.raises(CheckpointError) as raised:
        save_model(tmp_path / "x", "car", CONFIG, trunk(), "../tiny", tensors())
    assert raised.value.code == "E_CKPT_PATH"
    assert not (tmp_path / "x").exists()


def test_a_save_killed_between_its_two_files_leaves_a_whole_model(folder, monkeypatch):
    before = read_model(folder).hash
    replace = os.replace

    class Killed(BaseException):
        pass

    counts = {}
    for n in range(1, 99):
        calls = []

        def counted(*args, n=n, calls=calls):
            calls.append(args)
            if len(calls) == n:
                raise Killed
            replace(*args)

        shutil.rmtree(folder.parents[1])
        assert save(folder, {"threshold": 0.25}) == before
        monkeypatch.setattr(os, "replace", counted)
        try:
            save(folder, {"threshold": 0.25}, scale=2.0)
        except Killed:
            monkeypatch.undo()
        else:
            break
        files = read_model(folder)
        scale = 1.0 if files.hash == before else 2.0
        assert torch.equal(files.tensors["head.weight"], tensors(scale)["head.weight"])
        counts[scale] = counts.get(scale, 0) + 1
        update_model(folder, {"notes": "x"})  # and it can be worked with
        assert read_model(folder).hash == files.hash
    assert counts == {1.0: 3, 2.0: 2}


DISK_FULL = """
import json, resource, sys
import torch
from featmesh.errors import FeatmeshError
from featmesh.model.checkpoint import save_model
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_model(sys.argv[1], "car", {}, {}, "tiny", {"w": torch.ones(100_000)})
except FeatmeshError as error:
    print(json.dumps([error.code, str(error)]))
"""


def test_a_full_disk_leaves_the_old_model(folder):
    before = read_model(folder).hash
    environment = {**os.environ, "PYTHONPATH": str(Path(featmesh.__file__).parents[1])}
    command = [sys.executable, "-c", DISK_FULL, str(folder)]
    code, text = json.loads(subprocess.check_output(command, text=True, env=environment))
    assert code == "E_DISK_FULL"
    assert "model.safetensors" in text
    assert any(int(word) > 400_000 for word in text.split() if word.isdigit())
    assert read_model(folder).hash == before


# --- names -------------------------------------------------------------------------------------


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    for name in ("car", "bus"):
        save(tmp_path / "root" / "models" / name)
    monkeypatch.setattr(checkpoint, "_roots", lambda: (tmp_path / "absent", tmp_path / "root"))
    return tmp_path / "root" / "models"


def test_models_are_found_by_name_folder_and_manifest(bundled, monkeypatch, tmp_path):
    assert find_model("car") == bundled / "car"
    assert find_model(bundled / "bus") == bundled / "bus"
    assert find_model(str(bundled / "bus" / "model.json")) == bundled / "bus"
    assert list(checkpoint.bundled_models()) == ["bus", "car"]
    read_model(find_model("car"))
    (tmp_path / "work" / "car").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert find_model("car") == bundled / "car"  # a folder of that name without a model
    monkeypatch.chdir(bundled)
    assert find_model("car").resolve() == (bundled / "car").resolve()


def test_the_wheels_models_come_before_the_checkouts(bundled, monkeypatch, tmp_path):
    save(tmp_path / "wheel" / "models" / "car")
    monkeypatch.setattr(checkpoint, "_roots", lambda: (tmp_path / "wheel", tmp_path / "root"))
    assert find_model("car") == tmp_path / "wheel" / "models" / "car"
    assert find_model("bus") == bundled / "bus"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cra", r"a bundled model \(bus, car\) or a model folder, got 'cra'; try: 'car'"),
        ("no/such/folder", "got 'no/such/folder'"),
        ("../car", r"got '\.\./car'; try: 'car'"),
        ("", "which holds no model.json"),
        ("x" * 400, "got 'xxx"),
        ("a\0b", "got 'a"),
    ],
)
def test_an_unknown_name_lists_the_known_and_the_nearest(
    bundled, tmp_path, monkeypatch, name, said
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=said) as raised:
        find_model(name)
    assert raised.value.code == "E_CKPT_NAME"


def test_without_models_none_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_roots", lambda: (tmp_path,))
    with pytest.raises(CheckpointError, match=r"a bundled model \(none\)"):
        find_model("car")


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_foreign_checkpoint_is_refused_with_the_reason(tmp_path, as_folder):
    path = tmp_path / "nemo.pth"
    path.write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(CheckpointError, match=r"nemo\.pth.*torch\.save.*run code") as raised:
        find_model(tmp_path if as_folder else path)
    assert raised.value.code == "E_CKPT_FOREIGN"


def test_this_checkout_is_among_the_places():
    package = Path(featmesh.__file__).parent
    assert checkpoint._roots()[0] == package.resolve() / "bundled"


def test_load_hands_the_checked_files_to_the_category_model(folder, monkeypatch):
    from featmesh.model.category import CategoryModel

    made = []

    def from_files(files):
        made.append(files)
        return object.__new__(CategoryModel)

    monkeypatch.setattr(CategoryModel, "from_files", from_files)
    assert isinstance(featmesh.load(str(folder)), CategoryModel)
    assert made[0].hash == read_model(folder).hash


def test_of_each_category_one_model_is_named_if_it_can_be_the_one_called_like_it(bundled):
    assert bundled_categories() == ["car"]  # the bus says that it is a car too
    for name, category in {"bus": "bus", "van-cad": "van", "car-cad": "car"}.items():
        save_model(bundled / name, category, CONFIG, trunk(), "tiny", tensors())
    assert bundled_categories() == ["bus", "car", "van-cad"]


@pytest.mark.parametrize("place", ["model", "models/car"])
def test_of_a_run_folder_the_model_within_is_named(folder, tmp_path, place):
    run = tmp_path / "run"
    shutil.copytree(folder, run / place)
    with pytest.raises(CheckpointError, match="E_CKPT_NAME") as raised:
        find_model(run)
    assert str(raised.value).endswith(f"try: {run / place}")
