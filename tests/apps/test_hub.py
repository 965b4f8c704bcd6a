"""Models on the hub: what is fetched is checked before it is a folder; a local folder is the hub.

The true client is asked once, where nobody answers.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from featmesh.apps.hub import pull, push, readme_of, tensor_files
from featmesh.cli.main import execute
from featmesh.errors import BackendUnavailable, FeatmeshError
from featmesh.files import read_json, sha256_of, write_tensors_atomic
from featmesh.model.checkpoint import bundled_models, load, read_model, save_model

hub = pytest.importorskip("huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors")
constants = pytest.importorskip("huggingface_hub.constants")
REPO, COMMIT = "someone/car", "0123456789abcdef0123456789abcdef01234567"


class LocalHub:
    """Stands for ``HfApi``: one repository, which is a folder."""

    root: Path
    fault: Exception | None = None
    fetched: list[str]
    sizes: dict[str, int]  # where the hub lies about them

    def __init__(self, **options: Any) -> None:
        if self.fault is not None:
            raise self.fault

    def create_repo(self, repo: str, private: bool | None, exist_ok: bool) -> str:
        assert (repo, exist_ok) == (REPO, True)
        return f"https://hub/{repo}"

    def create_commit(self, repo: str, added: list[Any], commit_message: str) -> Any:
        assert "car" in commit_message
        for one in added:
            data = one.path_or_fileobj
            data = data if isinstance(data, bytes) else Path(data).read_bytes()
            (self.root / one.path_in_repo).write_bytes(data)
        return SimpleNamespace(oid=COMMIT)

    def model_info(self, repo: str, revision: str | None) -> Any:
        assert revision in (None, "main")
        return SimpleNamespace(sha=COMMIT)

    def get_paths_info(self, repo: str, names: list[str], revision: str) -> list[Any]:
        assert revision == COMMIT
        there = [name for name in names if (self.root / name).is_file()]
        known = {name: (self.root / name).stat().st_size for name in there} | self.sizes
        return [SimpleNamespace(path=name, size=known[name]) for name in there]

    def hf_hub_download(self, repo: str, name: str, revision: str, local_dir: str) -> None:
        assert revision == COMMIT
        self.fetched.append(name)
        shutil.copy(self.root / name, Path(local_dir) / name)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[LocalHub]:
    """The hub with an empty repository, to which a file that belongs to no model was added."""
    names = {"root": tmp_path / "hub", "fetched": [], "sizes": {}}
    local = type("Local", (LocalHub,), names)
    local.root.mkdir()
    (local.root / "install.py").write_text("raise SystemExit")
    monkeypatch.setattr(hub, "HfApi", local)
    return local


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model whose trunk lies beside it and which has a file of evidence."""
    made = tmp_path / "mine" / "models" / "car"
    made.mkdir(parents=True)
    digest = write_tensors_atomic(made / "evidence.safetensors", {"head": torch.ones(3)})
    gist = write_tensors_atomic(made / "gist.safetensors", {"view": torch.ones(2)})
    extra = {
        "evidence": {"file": "evidence.safetensors", "sha256": digest},
        "gist": {"file": "gist.safetensors", "sha256": gist},
        "licence": "CC-BY 4.0",
        "data": {"photos": "of our own"},
    }
    tensors = {"texture": torch.eye(4), "template.faces": torch.tensor([[0, 1, 2]])}
    trunk = {"conv.weight": torch.ones(2, 3, 3, 3)}
    save_model(made, "car", {"channels": 4}, trunk, "tiny", tensors, extra)
    return made


def refused(code: str, *args: Any, **more: Any) -> str:
    with pytest.raises(FeatmeshError, match=r"expected .* got .*try: ") as caught:
        pull(*args, **more)
    assert caught.value.code == code
    return str(caught.value)


def nothing_left(folder: Path) -> bool:
    return not [p for p in folder.iterdir() if p.name.startswith(".tmp")]


def test_what_is_pushed_is_pulled_as_it_was(folder, there, tmp_path):
    told = push(folder, REPO)
    assert told["hash"] == read_model(folder).hash and told["revision"] == COMMIT
    out = tmp_path / "got" / "car"
    fetched = pull(REPO, out, revision="main")
    assert fetched["hash"] == told["hash"]
    assert "install.py" not in there.fetched
    names = sorted(p.name for p in out.iterdir())
    trunk = read_json(folder / "model.json")["backbone"]["file"]
    own = ["CARD.md", "evidence.safetensors", "gist.safetensors", "model.json", trunk]
    own.append("model.safetensors")
    assert names == sorted(own)
    assert (out / "CARD.md").read_text() == (folder / "CARD.md").read_text()
    assert nothing_left(out.parent) and fetched["bytes"] == told["bytes"]


def test_the_card_is_the_readme_with_the_hubs_header(folder, there):
    push(folder, REPO)
    text = (there.root / "README.md").read_text()
    head, _, rest = text.removeprefix("---\n").partition("---\n")
    assert "license: cc-by-4.0\n" in head and "library_name: featmesh\n" in head
    assert rest.startswith("# car") and "of our own" in rest


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        ("Apache-2.0", "license: apache-2.0"),
        ("MIT", "license: mit"),
        ("research use only: not MIT", "license: other\nlicense_name: see-card"),
        ({"trunk": "MIT"}, "license: other"),
        (None, "license: unknown"),
    ],
)
def test_a_licence_is_named_only_where_it_is_that_alone(tmp_path, licence, told):
    readme = readme_of(tmp_path, {"category": "dining table", "licence": licence}, "0" * 64)
    assert told in readme and "- dining-table\n" in readme


def damaged(there: type[LocalHub], name: str, change) -> None:
    path = there.root / name
    path.write_bytes(change(path.read_bytes()))


def manifest_with(there: type[LocalHub], **changes: Any) -> None:
    told = json.loads((there.root / "model.json").read_text())
    for key, value in changes.items():
        part, _, inner = key.partition("__")
        if inner:
            told[part][inner] = value
        else:
            told[part] = value
    (there.root / "model.json").write_text(json.dumps(told))


def test_a_changed_file_never_becomes_a_folder(folder, there, tmp_path):
    push(folder, REPO)
    for name in ("model.safetensors", "evidence.safetensors"):
        before = (there.root / name).read_bytes()
        damaged(there, name, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        assert name in refused("E_CKPT_HASH", REPO, tmp_path / "got")
        (there.root / name).write_bytes(before)
    assert not (tmp_path / "got").exists() and nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"backbone__file": "../../evil.safetensors"}, "E_CKPT_PATH"),
        ({"backbone__file": "/etc/passwd"}, "E_CKPT_PATH"),
        ({"backbone__file": "install.py"}, "E_CKPT_PATH"),
        ({"evidence": {"file": "a\\b.safetensors", "sha256": "0" * 64}}, "E_CKPT_PATH"),
        ({"backbone__sha256": "short"}, "E_CKPT_FORMAT"),
        ({"backbone__file": "model.safetensors"}, "E_CKPT_FORMAT"),
        ({"backbone__file": "absent.safetensors"}, "E_CKPT_MISSING"),
        ({"schema": 99}, "E_CKPT_VERSION"),
        ({"config": None}, "E_CKPT_FORMAT"),
    ],
)
def test_a_hostile_manifest_is_refused(folder, there, tmp_path, changes, code):
    push(folder, REPO)
    manifest_with(there, **changes)
    refused(code, REPO, tmp_path / "got")
    assert not (tmp_path / "got").exists() and nothing_left(tmp_path)
    assert "install.py" not in there.fetched


def test_a_pickle_is_refused_although_its_hash_is_right(folder, there, tmp_path):
    push(folder, REPO)
    (there.root / "model.safetensors").write_bytes(b"\x80\x02}q\x00.")
    digest = sha256_of(there.root / "model.safetensors")
    manifest_with(there, tensors__sha256=digest)
    refused("E_CKPT_FOREIGN", REPO, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_sizes_are_held_against_what_the_hub_states(folder, there, tmp_path):
    push(folder, REPO)
    there.sizes["model.safetensors"] = 5_000_000_000
    refused("E_CKPT_FORMAT", REPO, tmp_path / "got")
    assert "model.safetensors" not in there.fetched
    there.sizes["model.safetensors"] = 12
    refused("E_CKPT_HASH", REPO, tmp_path / "got")
    there.sizes["model.safetensors"] = 3_900_000_000
    free = SimpleNamespace(free=3_000_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: free)
        refused("E_DISK_FULL", REPO, tmp_path / "got")
    assert nothing_left(tmp_path)


def test_a_folder_that_holds_something_is_left_alone(folder, there, tmp_path):
    push(folder, REPO)
    assert "another --out" in refused("E_IO", REPO, folder)
    assert read_model(folder) and not there.fetched
    (tmp_path / "empty").mkdir()
    assert pull(REPO, tmp_path / "empty")["hash"] == read_model(folder).hash


def test_a_broken_model_is_not_pushed(folder, there):
    (folder / "evidence.safetensors").write_bytes(b"")
    with pytest.raises(FeatmeshError) as caught:
        push(folder, REPO)
    assert caught.value.code == "E_CKPT_HASH"
    assert [p.name for p in there.root.iterdir()] == ["install.py"]


class Answer(OSError):
    """An error of the client with the server's answer in it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ConnectionError("offline"), "E_HUB_NETWORK"),
        (Answer(503), "E_HUB_NETWORK"),
        (Answer(403), "E_HUB_RIGHT"),
        (Answer(401), "E_HUB_RIGHT"),
        (errors.HFValidationError("no such name"), "E_HUB_REPO"),
        (errors.OfflineModeIsEnabled("offline"), "E_HUB_NETWORK"),
        (OSError(28, "No space left on device"), "E_DISK_FULL"),
    ],
)
def test_what_the_client_raises_has_a_code(there, tmp_path, fault, code):
    there.fault = fault
    refused(code, REPO, tmp_path / "got")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("RepositoryNotFoundError", "E_HUB_REPO"),
        ("RevisionNotFoundError", "E_HUB_REPO"),
        ("GatedRepoError", "E_HUB_RIGHT"),
        ("EntryNotFoundError", "E_HUB_REPO"),
    ],
)
def test_what_the_hub_refuses_has_a_code(there, tmp_path, name, code):
    kind = getattr(errors, name)
    there.fault = kind.__new__(kind)
    refused(code, REPO, tmp_path / "got")


def test_a_fault_of_ours_stays_one(there, tmp_path):
    there.fault = KeyError("ours")
    with pytest.raises(KeyError):
        pull(REPO, tmp_path / "got")


def test_where_nobody_answers_the_true_client_ends_soon(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("E_HUB_NETWORK", REPO, tmp_path / "got")
    refused("E_HUB_REPO", "no name at all", tmp_path / "got")
    assert execute(["pull", REPO, "--out", str(tmp_path / "got")]) == 1
    assert capsys.readouterr().err.startswith("featmesh: E_HUB_NETWORK: pull: expected")
    assert not (tmp_path / "got").exists() and nothing_left(tmp_path)


def test_without_the_package_the_extra_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for act in (lambda: push(folder, REPO), lambda: pull(REPO, tmp_path / "got")):
        with pytest.raises(BackendUnavailable, match=r"pip install 'featmesh\[hub\]'"):
            act()


def test_the_verbs_tell_what_they_did(folder, there, tmp_path, capsys):
    assert execute(["push", str(folder), REPO]) == 0
    assert f"https://hub/{REPO}: 6 files" in capsys.readouterr().out
    assert execute(["pull", REPO, "--out", str(tmp_path / "got"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hash"] == read_model(folder).hash


def test_load_asks_nobody(monkeypatch):
    """A name that looks like a repository's is no reason to go anywhere."""
    monkeypatch.setattr(hub, "HfApi", None)
    with pytest.raises(FeatmeshError, match="E_CKPT_NAME"):
        load("someone/car")
    code = "import sys, featmesh.apps.hub; print('huggingface_hub' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "False"


def test_the_bundled_models_could_be_pushed():
    for folder in bundled_models().values():
        names = tensor_files(read_json(folder / "model.json"), folder)
        assert "model.safetensors" in names and len(names) >= 2
