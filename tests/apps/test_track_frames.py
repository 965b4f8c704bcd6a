"""Frames come in order from folders, lists, animations and films; broken ones are values."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from featmesh.apps.track_frames import open_film
from featmesh.errors import BackendUnavailable, InputError
from featmesh.photo.photo import Photo

GREYS = (40, 90, 140, 190, 240)


def pictures(folder: Path, names: list[str]) -> list[Path]:
    paths = [folder / name for name in names]
    for path, grey in zip(paths, GREYS, strict=False):
        Image.new("RGB", (48, 32), (grey, grey, grey)).save(path)
    return paths


def film(path: Path, codec: str = "mpeg4") -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for grey in GREYS:
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), grey, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def greys(paths: list[Path], **options) -> list[int]:
    told = [photo for _, photo in open_film(paths, **options).frames()]
    assert all(isinstance(photo, Photo) for photo in told)
    return [int(photo.pixels[16, 24, 0]) for photo in told]


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    pictures(tmp_path, ["f1.png", "f2.png", "f10.png"])
    (tmp_path / "notes.txt").write_text("no picture")
    found = open_film([tmp_path])
    assert (found.count, found.fps) == (3, 25.0) and greys([tmp_path]) == list(GREYS[:3])
    assert [Path(name).name for name, _ in found.frames()] == ["f1.png", "f2.png", "f10.png"]
    assert greys([tmp_path], pattern="*0.png") == [GREYS[2]]


def test_a_list_keeps_its_order_and_a_still_picture_is_one_frame(tmp_path: Path) -> None:
    a, b = pictures(tmp_path, ["a.png", "b.png"])
    assert greys([b, a]) == [90, 40] and greys([a]) == [40]


def test_a_frame_that_cannot_be_read_is_a_value(tmp_path: Path) -> None:
    a, b = pictures(tmp_path, ["a.png", "b.png"])
    b.write_bytes(b"\x89PNG\r\n\x1a\n")
    (_, first), (name, second) = open_film([a, b]).frames()
    assert isinstance(first, Photo) and isinstance(second, InputError) and name == str(b)


def test_an_animation_tells_its_frames_and_its_rate(tmp_path: Path) -> None:
    first, *rest = [Image.new("RGB", (48, 32), (g, g, g)) for g in GREYS]
    path = tmp_path / "a.gif"
    first.save(path, save_all=True, append_images=rest, duration=100)
    found = open_film([path])
    assert (found.count, found.fps) == (5, 10.0)
    assert greys([path]) == list(GREYS) == greys([path])  # more than once
    assert open_film([path], fps=4.0).fps == 4


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_film_is_read(tmp_path: Path, name: str) -> None:
    film(tmp_path / name)
    found = open_film([tmp_path / name])
    assert found.fps == pytest.approx(12) and found.count == 5
    assert np.abs(np.array(greys([tmp_path / name])) - GREYS).max() < 6


def test_a_broken_film_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    film(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="E_IMG_FORMAT"):
        open_film([path])


def test_without_the_library_films_are_refused_with_its_name(tmp_path, monkeypatch) -> None:
    film(tmp_path / "a.mp4")

    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(BackendUnavailable, match=r"E_BACKEND.*featmesh\[video\]"):
        open_film([tmp_path / "a.mp4"])


@pytest.mark.parametrize(
    ("options", "code"), [({"pattern": "*.bmp"}, "E_IO"), ({"fps": 0.0}, "E_CONFIG")]
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, options, code: str) -> None:
    pictures(tmp_path, ["a.png"])
    with pytest.raises(InputError, match=code):
        open_film([tmp_path], **options)
