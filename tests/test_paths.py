"""No path of a file leaves its folder; files are written whole."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featmesh.errors import InputError
from featmesh.paths import safe_join, write_whole

PARTS = st.sampled_from(["..", ".", "a", "b.jpg", "", "out", "here", "C:", "~", "\0", "\ud800"])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:\\x",
        "C:x",
        "..\\x",
        "\\\\host\\x",
        "a\0b",
        "\ud800",
    ],
)
def test_refuses_what_leaves(tmp_path, name):
    with pytest.raises(InputError, match="expected a relative path inside") as caught:
        safe_join(tmp_path, name)
    assert caught.value.code == "E_PATH"


def test_keeps_what_stays(tmp_path):
    assert safe_join(tmp_path, "a/b c.jpg") == tmp_path / "a/b c.jpg"
    assert safe_join(tmp_path, "a/../ü.jpg") == tmp_path / "ü.jpg"
    assert safe_join(tmp_path, "..a/...") == tmp_path / "..a/..."


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PARTS, max_size=6).map("/".join) | st.text(max_size=20))
def test_random_paths_stay_inside_or_are_refused(tmp_path, name):
    root = tmp_path / "root"
    if not root.exists():
        root.mkdir()
        (root / "out").symlink_to(tmp_path)
        (root / "here").symlink_to(root)
        (root / "b.jpg").symlink_to("b.jpg")  # a link to itself
    try:
        path = safe_join(root, name)
    except InputError:
        return
    assert os.path.realpath(path).startswith(str(root))


def test_a_link_loop_hides_no_way_out(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "loop").symlink_to("loop")
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(InputError, match="expected a relative path inside"):
        safe_join(root, "loop/../out/secret.png")


def test_a_file_is_whole_or_old(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_whole(path, "old\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", full)
        write_whole(path, "new\n")
    assert path.read_bytes() == b"old\n" and list(tmp_path.iterdir()) == [path]
    write_whole(path, "neu: ä\n")
    assert path.read_bytes() == "neu: ä\n".encode()
