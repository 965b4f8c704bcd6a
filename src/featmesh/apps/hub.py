"""Model folders on the Hugging Face Hub: ``featmesh push`` and ``featmesh pull``.

Nothing else of featmesh asks the hub for anything. What is fetched is only what ``model.json``
names, and it is put in its place when every hash, format and size has been found right.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featmesh.errors import BackendUnavailable, FeatmeshError, InputError
from featmesh.files import (
    broken,
    check_schema,
    explained,
    read_json,
    read_tensors,
    sync_folder,
    temp_name,
)
from featmesh.model.card import CARD
from featmesh.model.checkpoint import (
    FORMAT_VERSION,
    MANIFEST,
    TENSORS,
    find_model,
    find_trunk,
    read_model,
)
from featmesh.paths import FULL
from featmesh.store import sweep

README = "README.md"  # what the hub shows; CARD.md in a folder
LIMITS = {MANIFEST: 16_000_000, README: 2_000_000}  # bytes; of tensors see below
TENSORS_LIMIT = 4_000_000_000
LICENCES = {  # as the hub writes them, by what our cards may say
    "apache-2.0": r"apache[- ](license[, ]*)?(version )?2(\.0)?",
    "mit": r"mit( licen[cs]e)?",
    "cc0-1.0": r"cc0([- ]1\.0)?|public domain",
    "cc-by-4.0": r"cc[- ]by[- ]4\.0",
    "cc-by-sa-4.0": r"cc[- ]by[- ]sa[- ]4\.0",
    "cc-by-nc-4.0": r"cc[- ]by[- ]nc[- ]4\.0",
}
_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\.safetensors")
_HEX = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(r"\A---\n.*?\n---\n+", re.DOTALL)


def push(name_or_folder: str | Path, repo: str, private: bool = False) -> dict[str, Any]:
    """Upload a model folder as one commit and return what was uploaded.

    The folder is checked as :func:`featmesh.load` does. ``CARD.md`` becomes the repository's
    ``README.md``, with the header of metadata that the hub reads.

    Args:
        name_or_folder: a model folder, or the name of a bundled model.
        repo: ``owner/name``; made where it does not exist.
        private: whether a new repository is.

    Raises:
        CheckpointError: as :func:`featmesh.load`.
        BackendUnavailable: E_BACKEND without the package huggingface_hub.
        FeatmeshError: E_HUB_NETWORK, E_HUB_REPO, E_HUB_RIGHT.
    """
    folder = find_model(name_or_folder)
    model = read_model(folder)
    manifest = read_json(folder / MANIFEST)
    hashes = tensor_files(manifest, folder / MANIFEST)
    trunk = manifest["backbone"]["file"]
    paths = {n: find_trunk(folder, n) if n == trunk else folder / n for n in hashes}
    for name, digest in hashes.items():
        read_tensors(paths[name], digest)
    readme = readme_of(folder, manifest, model.hash).encode()
    with _hub("push", repo) as hub:
        content: dict[str, Any] = {MANIFEST: folder / MANIFEST, **paths, README: readme}
        added = [hub.CommitOperationAdd(name, it) for name, it in content.items()]
        api = hub.HfApi(library_name="featmesh")
        address = api.create_repo(repo, private=private or None, exist_ok=True)
        message = f"{manifest['category']}, {model.hash[:12]}"
        made = api.create_commit(repo, added, commit_message=message)
    sizes = [p.stat().st_size for p in (folder / MANIFEST, *paths.values())]
    return {
        "repo": repo,
        "url": str(address),
        "revision": made.oid,
        "hash": model.hash,
        "files": sorted(content),
        "bytes": sum(sizes) + len(readme),
    }


def pull(repo: str, out: str | Path, revision: str | None = None) -> dict[str, Any]:
    """Fetch a model folder, check it, and only then put it in its place as a whole.

    Args:
        repo: ``owner/name``.
        out: the folder to make; it does not exist yet, or is empty.
        revision: branch, tag or commit; default: the newest.

    Raises:
        InputError: E_IO where ``out`` holds something already.
        CheckpointError: E_CKPT_MISSING, E_CKPT_FORMAT, E_CKPT_VERSION, E_CKPT_PATH, E_CKPT_HASH,
            E_CKPT_FOREIGN or E_CKPT_NONFINITE for what is no model folder to be trusted.
        BackendUnavailable: E_BACKEND without the package huggingface_hub.
        FeatmeshError: E_HUB_NETWORK, E_HUB_REPO, E_HUB_RIGHT, E_DISK_FULL.
    """
    out = Path(os.path.abspath(out))
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            "E_IO", f"pull: expected a new or empty folder, got {out}; try: another --out"
        )
    temp = out.parent / temp_name()
    with explained(out, 0):
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep(out.parent)
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
    try:
        with _hub("pull", repo) as hub:
            fetched = _Fetched(hub.HfApi(library_name="featmesh"), repo, revision, temp / "hub")
            whole = _whole(fetched, temp / "whole")
        with explained(out, 0):
            os.rename(temp / "whole", out)
            sync_folder(out.parent)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    told = {"repo": repo, "revision": fetched.commit, "folder": str(out), "hash": whole}
    return told | {"files": sorted(fetched.sizes), "bytes": sum(fetched.sizes.values())}


class _Fetched:
    """Files of one commit of a repository, fetched one after the other into a folder."""

    def __init__(self, api: Any, repo: str, revision: str | None, folder: Path) -> None:
        self.api, self.repo, self.folder = api, repo, folder
        self.commit = str(api.model_info(repo, revision=revision).sha)
        self.sizes: dict[str, int] = {}

    def stated(self, names: Sequence[str]) -> dict[str, int]:
        """Return the sizes the hub states, bytes, of those files that are there."""
        rows = self.api.get_paths_info(self.repo, list(names), revision=self.commit)
        return {row.path: int(row.size) for row in rows if hasattr(row, "size")}

    def fetch(self, names: Sequence[str]) -> None:
        """Fetch files into the folder; refused where they are too large or not there."""
        stated = self.stated(names)
        for name in names:
            place = Path(self.repo) / name
            if name not in stated:
                raise broken("MISSING", place, "a file", "none", "another repository or revision")
            limit = LIMITS.get(name, TENSORS_LIMIT)
            if stated[name] > limit:
                got = f"{stated[name]}"
                raise broken("FORMAT", place, f"at most {limit} bytes", got, "another model")
        needed = sum(stated.values())
        with explained(self.folder, needed):
            self.folder.mkdir(exist_ok=True)
            if shutil.disk_usage(self.folder).free < needed:
                raise FeatmeshError(
                    "E_DISK_FULL",
                    f"pull: expected room for {needed} bytes in {self.folder.parents[1]}, got "
                    "less; try: free space, or another --out",
                )
        for name in names:
            self.api.hf_hub_download(
                self.repo, name, revision=self.commit, local_dir=str(self.folder)
            )
            path = self.folder / name
            size = path.stat().st_size if path.is_file() and not path.is_symlink() else -1
            if size != stated[name]:
                expected = f"the {stated[name]} bytes that the hub states"
                raise broken("HASH", path, expected, f"{size}", "pull again")
            self.sizes[name] = size


def _whole(fetched: _Fetched, folder: Path) -> str:
    """Fetch a model and make its folder; return the model's hash when all has been checked."""
    fetched.fetch([MANIFEST])
    manifest = read_json(fetched.folder / MANIFEST)
    hashes = tensor_files(manifest, fetched.folder / MANIFEST)
    readme = [README] if README in fetched.stated([README]) else []
    fetched.fetch([*hashes, *readme])
    for name, digest in hashes.items():
        read_tensors(fetched.folder / name, digest)
    with explained(folder, sum(fetched.sizes.values())):
        folder.mkdir()
        for name in (MANIFEST, *hashes):
            os.rename(fetched.folder / name, folder / name)
        if readme:
            text = (fetched.folder / README).read_text("utf-8", "replace")
            (folder / CARD).write_text(_HEADER.sub("", text), "utf-8")
        for path in folder.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
    return read_model(folder).hash


def tensor_files(manifest: dict[str, Any], path: Path) -> dict[str, str]:
    """Return the safetensors files that a model is made of, with the SHA-256 each must have.

    Raises:
        CheckpointError: E_CKPT_VERSION, E_CKPT_FORMAT, E_CKPT_PATH for anything but bare names.
    """
    check_schema(manifest, FORMAT_VERSION, path)
    rows = [_dict(manifest.get("tensors")) | {"file": TENSORS}, _dict(manifest.get("backbone"))]
    # evidence, gist: whatever else lies beside model.json says so in the same way
    rows += [it for it in manifest.values() if isinstance(it, dict) and {"file", "sha256"} <= {*it}]
    found: dict[str, str] = {}
    for row in rows:
        name, digest = row.get("file"), row.get("sha256")
        if not isinstance(name, str) or not _BARE.fullmatch(name):
            raise broken("PATH", path, "bare names of files", repr(name)[:80], "another model")
        if not isinstance(digest, str) or not _HEX.fullmatch(digest):
            got = repr(digest)[:80]
            raise broken("FORMAT", path, f"the SHA-256 of {name}", got, "another model")
        if found.setdefault(name, digest) != digest:
            raise broken("FORMAT", path, "one hash a file", f"two of {name}", "another model")
    return found


def readme_of(folder: Path, manifest: dict[str, Any], digest: str) -> str:
    """Return the card of a model with the hub's header: licence, library, tags."""
    card = folder / CARD
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    licence = manifest.get("licence")
    told = licence.strip().lower() if isinstance(licence, str) else ""
    known = [key for key, words in LICENCES.items() if re.fullmatch(words, told)]
    tags = ["featmesh", "6d-pose", "neural-mesh", _tag(manifest.get("category"))]
    header = [
        "---",
        f"license: {known[0] if known else 'other' if licence else 'unknown'}",
        *(["license_name: see-card"] if licence and not known else []),
        "library_name: featmesh",
        "tags:",
        *(f"- {tag}" for tag in tags if tag),
        "---",
        "",
    ]
    own = text or f"# {manifest.get('category')}\n\nA featmesh model, hash `{digest[:12]}`.\n"
    return "\n".join(header) + _HEADER.sub("", own)


def _tag(category: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(category).lower()).strip("-")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@contextmanager
def _hub(who: str, repo: str) -> Iterator[Any]:
    """Yield the package huggingface_hub; what it raises meanwhile becomes a coded error."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except (ImportError, RuntimeError, OSError) as error:
        raise BackendUnavailable(
            "E_BACKEND",
            f"{who}: expected the package huggingface_hub, got {error}; "
            "try: pip install 'featmesh[hub]'",
        ) from error
    try:
        yield hub
    except FeatmeshError:
        raise
    except errors.HFValidationError as error:
        raise _refused(who, "REPO", "owner/name", error, "check its spelling") from error
    except errors.RevisionNotFoundError as error:
        raise _refused(who, "REPO", f"that revision of {repo}", error, "no --revision") from error
    except errors.GatedRepoError as error:
        hint = "ask its owner for access, then hf auth login"
        raise _refused(who, "RIGHT", f"access to {repo}", error, hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = "check its name; hf auth login if it is private"
        raise _refused(who, "REPO", f"a repository {repo}", error, hint) from error
    except errors.EntryNotFoundError as error:
        raise _refused(who, "REPO", f"a model in {repo}", error, "another repository") from error
    except Exception as error:
        raise _explained(who, repo, error) from error


def _explained(who: str, repo: str, error: Exception) -> BaseException:
    """Return the coded error of an answer that is a refusal, or of none; else the error itself."""
    if isinstance(error, OSError) and error.errno in FULL:
        hint = "free space, or another --out"
        text = f"{who}: expected room for {repo}, got {error.strerror}; try: {hint}"
        return FeatmeshError("E_DISK_FULL", text)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
        hint = "hf auth login, or HF_TOKEN, with the right to write" if who == "push" else "a token"
        return _refused(who, "RIGHT", f"the right to {who} {repo}", error, hint)
    library = type(error).__module__.partition(".")[0]
    lost = library in ("httpx", "httpx2", "requests", "urllib3", "hf_xet")
    if lost or status is not None or isinstance(error, ConnectionError | TimeoutError):
        hint = "the network, HF_ENDPOINT, or again later"
        return _refused(who, "NETWORK", f"an answer about {repo}", error, hint)
    return error


def _refused(who: str, code: str, expected: str, error: Exception, hint: str) -> FeatmeshError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return FeatmeshError(f"E_HUB_{code}", f"{who}: expected {expected}, got {said}; try: {hint}")
