"""Claims about folders of CADs: sorted, cleaned, a bad file harms only itself."""

import json
import struct

import pytest

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.template import cuboid
from featmesh.views.cads import read_cad_folder, read_render_folder

BOX = cuboid((0.4, 0.8, 0.3), (2, 1, 1))


def off(mesh, scale=1.0):
    rows = [" ".join(str(x * scale) for x in v) for v in mesh.vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return "\n".join(["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0", *rows]) + "\n"


def obj(mesh):
    rows = [f"v {x} {y} {z}" for x, y, z in mesh.vertices.tolist()]
    return "\n".join(rows + [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in mesh.faces.tolist()])


BAD = {
    "a_empty.obj": ("", "E_MESH_EMPTY"),
    "b_vertices.obj": ("v 0 0 0\n", "E_MESH_EMPTY"),
    "c_index.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "E_MESH_INDEX"),
    "d_nan.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "E_MESH_NONFINITE"),
    "e_flat.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "E_MESH_EMPTY"),
    "f_count.off": ("OFF\n1000000000 1 0\n0 0 0\n", "E_MESH_EMPTY"),
    "g_junk.glb": ("junk", "E_MESH_EMPTY"),
    "h_count.stl": ("\0" * 80 + "\x7f" * 4, "E_MESH_EMPTY"),
}


def test_a_bad_file_harms_only_itself(tmp_path):
    for name, (text, _) in BAD.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "z.off").write_text(off(BOX, 1e9))
    (tmp_path / "b.OBJ").write_text(obj(BOX))
    stray = off(BOX).splitlines()
    stray[1] = f"{len(BOX.vertices) + 1} {len(BOX.faces)} 0"
    stray.insert(2 + len(BOX.vertices), "nan 0 0")
    (tmp_path / "c.off").write_text("\n".join(stray))
    (tmp_path / "notes.txt").write_text("not a mesh")
    (tmp_path / "sub.off").mkdir()
    found = read_cad_folder(tmp_path)
    assert [mesh.name for mesh in found.meshes] == ["b.OBJ", "c.off", "z.off"]
    assert [mesh.report.non_finite for mesh in found.meshes] == [0, 1, 0]
    for cad in found.meshes:
        assert cad.mesh.is_watertight()
        assert float(cad.mesh.extent.norm()) == pytest.approx(1)
    diagonals = [mesh.report.diagonal for mesh in found.meshes]
    assert diagonals[2] == pytest.approx(1e9 * diagonals[0])
    assert [name for name, _, _ in found.refused] == list(BAD)
    assert [code for _, code, _ in found.refused] == [code for _, code in BAD.values()]
    for name, _, message in found.refused:
        assert name in message
        assert "; try: " in message


def test_all_kinds_are_read(tmp_path):
    corners = BOX.corners.reshape(-1, 9).tolist()
    rows = b"".join(struct.pack("<12fH", 0, 0, 0, *c, 0) for c in corners)
    (tmp_path / "box.stl").write_bytes(b"\0" * 80 + struct.pack("<I", len(corners)) + rows)
    (tmp_path / "box.off").write_text(off(BOX))
    (tmp_path / "box.obj").write_text(obj(BOX))
    head = "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\n"
    head += "property float z\nelement face {}\nproperty list uchar int vertex_indices\n"
    head = head.format(len(BOX.vertices), len(BOX.faces)) + "end_header\n"
    (tmp_path / "box.ply").write_text(head + "\n".join(off(BOX).splitlines()[2:]) + "\n")
    found = read_cad_folder(str(tmp_path))
    assert [mesh.name for mesh in found.meshes] == ["box.obj", "box.off", "box.ply", "box.stl"]
    volume = 0.4 * 0.8 * 0.3 / float(BOX.extent.norm()) ** 3
    for cad in found.meshes:
        assert len(cad.mesh.vertices) == len(BOX.vertices)
        assert cad.mesh.volume == pytest.approx(volume, rel=1e-5)


def test_a_folder_without_meshes_says_what_to_put_there(tmp_path):
    for words in ("got none", r"got 1 that cannot be read \(a.obj: E_MESH_EMPTY"):
        with pytest.raises(DatasetError, match=rf"learn-shape: .*{words}.*try: put 5 to") as raised:
            read_cad_folder(tmp_path)
        assert raised.value.code == "E_DATA"
        (tmp_path / "a.obj").write_text("")


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"shape-space: expected a folder.*try: ") as raised:
        read_cad_folder(tmp_path / "none", who="shape-space")
    assert raised.value.code == "E_IO"


LABELS = json.dumps({"names": ["side"], "vertices": [1] * len(BOX.vertices)})


def test_a_folder_to_be_rendered_has_colours_labels_and_terms(tmp_path):
    (tmp_path / "a.off").write_text(off(BOX))
    (tmp_path / "a.labels.json").write_text(LABELS)
    (tmp_path / "b.obj").write_text("mtllib b.mtl\nusemtl red\n" + obj(BOX))
    (tmp_path / "b.mtl").write_text("newmtl red\nKd 1 0 0\n")
    (tmp_path / "c.off").write_text("OFF\n")
    (tmp_path / "LICENSE.txt").write_text("CC0, by nobody\nmore\n")
    found = read_render_folder(tmp_path, "bus")
    plain, red = found.cads
    assert [c.name for c in found.cads] == ["a.off", "b.obj"]
    assert plain.part_names == ("side",) and red.part_names == ()
    assert all(part.material for part in plain.parts)
    assert red.parts[0].colour == (1, 0, 0)
    assert {c.licence for c in found.cads} == {"CC0, by nobody"}
    assert [(name, code) for name, code, _ in found.refused] == [("c.off", "E_MESH_EMPTY")]


def test_a_folder_to_be_rendered_must_hold_something(tmp_path):
    with pytest.raises(InputError, match="E_IO: render-views"):
        read_render_folder(tmp_path / "none", "bus")
    with pytest.raises(DatasetError, match="E_DATA: render-views"):
        read_render_folder(tmp_path, "bus")
    (tmp_path / "a.off").write_text(off(BOX))
    (tmp_path / "a.labels.json").write_text("{}")
    with pytest.raises(InputError, match="E_LABELS"):
        read_render_folder(tmp_path, "bus")
