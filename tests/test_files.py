import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featmesh import files
from featmesh.errors import CheckpointError, InputError


def code_of(raised) -> str:
    return raised.value.code


def flip_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_tensors_come_back_with_the_hash_they_were_written_with(tmp_path):
    shared = torch.randn(3, 4, dtype=torch.float64)
    tensors = {
        "a": shared,
        "tied": shared,
        "turned": shared.T,
        "half": torch.randn(2).half(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "none": torch.zeros(0, 3),
        "flag": torch.tensor(True),
    }
    path = tmp_path / "sub" / "x.safetensors"
    digest = files.write_tensors_atomic(path, tensors)
    assert digest == files.sha256_of(path)
    read = files.read_tensors(path, digest)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    again = dict(reversed(tensors.items()))
    assert files.write_tensors_atomic(tmp_path / "y", again) == digest
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_a_truncated_file_is_refused_with_and_without_a_hash(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    digest = files.write_tensors_atomic(path, {"w": torch.ones(4, 3)})
    path.write_bytes(path.read_bytes()[:keep])
    for expected in (digest, None):
        with pytest.raises(CheckpointError) as raised:
            files.read_tensors(path, expected)
        assert code_of(raised) == "E_CKPT_HASH"


def test_a_flipped_bit_of_the_weights_is_found(tmp_path):
    path = tmp_path / "x.safetensors"
    digest = files.write_tensors_atomic(path, {"w": torch.ones(4, 3)})
    flip_bit(path, -20)
    with pytest.raises(CheckpointError, match="cut short or changed") as raised:
        files.read_tensors(path, digest)
    assert code_of(raised) == "E_CKPT_HASH"


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_a_pickle_is_refused_with_the_reason_and_not_run(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if kind == "zip":  # the form of torch.save
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    else:
        path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match="can run code") as raised:
        files.read_tensors(path)
    assert code_of(raised) == "E_CKPT_FOREIGN"
    assert not Path("sprung").exists()


def test_a_header_length_that_begins_like_a_pickle_is_no_pickle(tmp_path):
    path = tmp_path / "x.safetensors"
    files.write_tensors_atomic(path, {"n": torch.zeros(2)})
    length = 641 - int.from_bytes(path.read_bytes()[:8], "little")
    files.write_tensors_atomic(path, {"n" * length: torch.zeros(2)})  # a header of 640 bytes
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert torch.equal(files.read_tensors(path)["n" * length], torch.zeros(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, value):
    bad = {"fine": torch.zeros(2), "head.w": torch.tensor([0.0, value])}
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=r"head\.w") as raised:
        files.write_tensors_atomic(path, bad)
    assert code_of(raised) == "E_CKPT_NONFINITE"
    assert not path.exists()
    save_file(bad, path)
    with pytest.raises(CheckpointError, match=r"head\.w.*1 of 2") as raised:
        files.read_tensors(path, files.sha256_of(path))
    assert code_of(raised) == "E_CKPT_NONFINITE"


def test_too_many_tensors_are_refused(tmp_path):
    many = {f"t{i}": torch.zeros(0) for i in range(files.MAX_TENSORS + 1)}
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="10001") as raised:
        files.write_tensors_atomic(path, many)
    assert code_of(raised) == "E_CKPT_FORMAT"
    save_file(many, path)
    with pytest.raises(CheckpointError, match="10001") as raised:
        files.read_tensors(path)
    assert code_of(raised) == "E_CKPT_FORMAT"


@pytest.mark.parametrize(
    ("length", "header"),
    [(2**40, b'{"a": 1}'), (3, b"123"), (2, b"[]"), (8, b'{"a": 1}'), (2, b"{]"), (4, b"null")],
)
def test_a_header_that_is_none_is_refused(tmp_path, length, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError) as raised:
        files.read_tensors(path)
    assert code_of(raised) == "E_CKPT_HASH"


def test_missing_files_folders_and_fifos_are_named_and_never_block(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("absent", "fifo", "."):
        with pytest.raises(CheckpointError) as raised:
            files.read_tensors(tmp_path / name)
        assert code_of(raised) == "E_CKPT_MISSING"


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": NaN}', "[" * 100_000, '{"a": "\xff"}'])
def test_broken_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError) as raised:
        files.read_json(tmp_path / "x.json")
    assert code_of(raised) == "E_CKPT_FORMAT"


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    files.write_json_atomic(path, {"a": 1})
    with pytest.raises(InputError) as raised:
        files.write_json_atomic(path, {"a": float("nan")})
    assert code_of(raised) == "E_NONFINITE"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as raised:
        files.write_json_atomic(tmp_path / "file" / "x.json", {})
    assert code_of(raised) == "E_IO"
    assert files.read_json(path) == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x.json"]
