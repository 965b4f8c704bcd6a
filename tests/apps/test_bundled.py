from pathlib import Path

import pytest

from featmesh.apps.bundled import photos
from featmesh.errors import InputError


def test_photos_of_the_wheel_come_first_and_by_name(tmp_path: Path) -> None:
    package = tmp_path / "src" / "featmesh"
    for place in (package / "bundled" / "photos", tmp_path / "examples" / "photos"):
        place.mkdir(parents=True)
        for name in ("b.JPG", "a.png", "README.md"):
            (place / name).touch()
    assert [p.name for p in photos(package)] == ["a.png", "b.JPG"]
    assert photos(package)[0].parent == package / "bundled" / "photos"


def test_photos_of_a_checkout_are_found(tmp_path: Path) -> None:
    (tmp_path / "examples" / "photos").mkdir(parents=True)
    (tmp_path / "examples" / "photos" / "a.jpg").touch()
    assert [p.name for p in photos(tmp_path / "src" / "featmesh")] == ["a.jpg"]


def test_no_photos_is_an_error_that_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E_IO: demo: expected photos in .*bundled") as caught:
        photos(tmp_path)
    assert "install featmesh again" in str(caught.value)
