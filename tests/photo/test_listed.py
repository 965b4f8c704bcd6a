"""Which photos a command line means: files, folders, patterns and lists."""

from pathlib import Path

import pytest

from featmesh.errors import InputError
from featmesh.photo.listed import listed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("a10.JPG", "a2.jpg", "b.heic", "notes.md", ".hidden.jpg", "._a2.jpg", "c.avif")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deeper.jpg").mkdir()
    (tmp_path / "deeper.jpg" / "d.png").write_bytes(b"")
    return tmp_path


def test_a_folder_gives_its_pictures_numbers_as_numbers(folder):
    found = listed([folder], "estimate")
    assert [p.name for p in found] == ["a2.jpg", "a10.JPG", "b.heic", "c.avif"]


def test_a_pattern_that_no_shell_filled_in(folder):
    found = listed([folder / "a*"], "estimate")
    assert [p.name for p in found] == ["a2.jpg", "a10.JPG"]
    assert [p.name for p in listed([folder / "**" / "*.png"], "estimate")] == ["d.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    odd = folder / "a[1].jpg"
    odd.write_bytes(b"")
    assert listed([odd], "estimate") == [odd]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_list_has_a_path_a_line_relative_to_itself(folder, start):
    text = folder / "photos.txt"
    text.write_bytes(start + b"a2.jpg\r\n\n  \nmit Leerzeichen.png\n/tmp/x.jpg\n")
    names = [folder / "a2.jpg", folder / "mit Leerzeichen.png", Path("/tmp/x.jpg")]
    assert listed([text], "estimate") == names


def test_names_stay_in_the_order_they_are_given_missing_ones_too(folder):
    text = folder / "photos.txt"
    text.write_text("b.heic\n")
    gone, long = folder / "gone.jpg", Path("x" * 5000)
    found = listed([gone, text, folder / "a2.jpg", str(long)], "estimate")
    assert found == [gone, folder / "b.heic", folder / "a2.jpg", long]
    assert listed([], "estimate") == []


@pytest.mark.parametrize("name", ["empty", "empty/*.jpg", "none.txt"])
def test_a_name_that_means_nothing_is_told_at_once(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("\n\n")
    with pytest.raises(InputError) as caught:
        listed([tmp_path / name], "estimate")
    assert caught.value.code == "E_IO" and str(tmp_path / name) in str(caught.value)
    assert str(caught.value).startswith("E_IO: estimate: expected ")
