"""Rows 15 to 22 of docs/reliability.md, meshes and paths: what no other test claims."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from reliability.sources import attributes, users

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.mesh import read_mesh
from featmesh.views import cad
from featmesh.views.cad import read_sweethome3d
from featmesh.views.readers import imagenet3d

CORNERS = ("0 0 0", "1 0 0", "0 1 0")
OBJ = "".join(f"v {row}\n" for row in CORNERS) + "f 1 2 3\n"
OFF = "OFF # a comment\n3 2 0\n\n" + "".join(f"{row}\n" for row in CORNERS) + "3 0 1 2\n"
PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 2
property list uchar int vertex_indices
end_header
"""


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("above.obj", OBJ + "# the next one\nf 1 2 9\n", "line 6"),
        ("below.obj", OBJ + "f -1 -2 -4\n", "line 5"),
        ("zero.obj", OBJ + "f 1/1 2/2 0/3\n", "line 5"),
        ("above.off", OFF + "3 0 1 3\n", "line 8"),
        ("below.off", OFF + "3 0 1 -1\n", "line 8"),
        ("above.ply", PLY + "\n".join(CORNERS) + "\n3 0 1 2\n3 0 1 3\n", "face 1"),
    ],
)
def test_row_16_a_face_of_no_vertex_is_named_by_its_line_or_number(
    name: str, text: str, where: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_mesh(tmp_path / name)
    assert caught.value.code == "E_MESH_INDEX"
    said = str(caught.value)
    assert name in said and where in said, said


def test_row_21_no_archive_is_unpacked_onto_the_disk() -> None:
    assert users("zipfile")  # the search finds what is there
    assert not users("tarfile")
    assert not attributes() & {"extractall", "unpack_archive"}
    assert not users("ZipFile.extract") | users("archive.extract")


def bomb(path: Path, name: str) -> Path:
    """A zip of 100 kB whose file has 100 MB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(100):
            member.write(bytes(1_000_000))
    assert path.stat().st_size < 150_000
    return path


def test_row_22_a_zip_bomb_is_refused_by_the_size_it_states(tmp_path: Path) -> None:
    catalogue = bomb(tmp_path / "bomb.sh3f", "PluginFurnitureCatalog.properties")
    labels = bomb(tmp_path / "bomb.npz", "annotations.npy")
    tracemalloc.start()
    with pytest.raises(InputError, match=f"at most {cad.MEMBER_LIMIT} bytes") as caught:
        read_sweethome3d(catalogue, "car")
    assert caught.value.code == "E_IO"
    with pytest.raises(DatasetError) as refused:
        imagenet3d.read_annotations(labels)
    assert refused.value.code == "E_DATA" and "100000000 bytes" in str(refused.value)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_row_22_a_zip_that_lies_about_its_size_gives_no_more(tmp_path: Path) -> None:
    catalogue = bomb(tmp_path / "liar.sh3f", "PluginFurnitureCatalog.properties")
    labels = bomb(tmp_path / "liar.npz", "annotations.npy")
    for path in (catalogue, labels):
        data = bytearray(path.read_bytes())
        place = data.rindex(b"PK\x01\x02") + 24  # the size, in the directory at the end
        assert int.from_bytes(data[place : place + 4], "little") == 100_000_000
        data[place : place + 4] = (1000).to_bytes(4, "little")
        path.write_bytes(bytes(data))
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        read_sweethome3d(catalogue, "car")
    assert caught.value.code == "E_IO" and "as it was packed" in str(caught.value)
    with pytest.raises(DatasetError, match="E_DATA"):
        imagenet3d.read_annotations(labels)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_row_22_an_array_of_an_archive_is_read_from_memory_only(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    with zipfile.ZipFile(tmp_path / "plain.npz", "w") as archive:
        archive.writestr("annotations.npy", stream.getvalue())
    with pytest.raises(DatasetError, match="an array of float64"):
        imagenet3d.read_annotations(tmp_path / "plain.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["plain.npz"]
