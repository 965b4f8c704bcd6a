"""Claims about named faces: an OBJ's groups, objects or materials, face by face."""

from pathlib import Path

import pytest

from featmesh.errors import InputError
from featmesh.geometry.mesh_groups import read_named_faces

BOX = """# two sides
mtllib paint.mtl
o box
v 0 0 0
v 1 0 0 0.5 0.5 0.5
v 1 1 0
v 0 1 0
v 0 0 1
g left side
usemtl red
f 1/1/1 2/2/1 3//1 4
g
usemtl blue
f -1 1 2
g left side
f 1 4 \\
5
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "box.obj"
    path.write_text(text, "utf-8")
    return path


def test_faces_keep_their_names(tmp_path: Path) -> None:
    found = read_named_faces(written(tmp_path, BOX))
    assert found.mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 0, 1], [0, 3, 4]]
    assert found.mesh.vertices.tolist()[1] == [1, 0, 0]
    assert found.names == ("left side", "") and found.name_of.tolist() == [0, 0, 1, 0]
    material = read_named_faces(tmp_path / "box.obj", "usemtl")
    assert material.names == ("red", "blue") and material.name_of.tolist() == [0, 0, 1, 1]
    assert read_named_faces(tmp_path / "box.obj", "o").names == ("box",)


def test_the_first_kind_that_tells_faces_apart_is_taken(tmp_path: Path) -> None:
    text = "\n".join(line for line in BOX.splitlines() if not line.startswith("g"))
    assert read_named_faces(written(tmp_path, text)).names == ("red", "blue")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda t: t.replace("g", "#").replace("usemtl", "#"), "E_MESH_GROUPS"),
        (lambda t: t.replace("f -1 1 2", "f 0 1 2"), "E_MESH_INDEX"),
        (lambda t: t.replace("f -1 1 2", "f -9 1 2"), "E_MESH_INDEX"),
        (lambda t: t.replace("f -1 1 2", "f 1 2 77"), "E_MESH_INDEX"),
        (lambda t: t.replace("f -1 1 2", "f 1 2"), "E_MESH_INDEX"),
        (lambda t: t.replace("v 0 0 1", "v 0 0 up"), "E_MESH_INDEX"),
        (lambda t: t.replace("v 0 0 1", "v 0 0"), "E_MESH_INDEX"),
        (lambda t: t.replace("v 0 0 1", "v 0 0 nan"), "E_MESH_NONFINITE"),
        (lambda t: "", "E_MESH_EMPTY"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, edit, code: str) -> None:
    with pytest.raises(InputError) as caught:
        read_named_faces(written(tmp_path, edit(BOX)))
    assert caught.value.code == code


def test_only_obj_files_have_groups(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_text("ply", "utf-8")
    for path in (tmp_path / "a.ply", tmp_path / "gone.obj"):
        with pytest.raises(InputError, match="E_IO"):
            read_named_faces(path)
