"""Claims about mesh files: five kinds read alike, junk refused before memory is spent."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.mesh import read_mesh
from featmesh.geometry.mesh_file import MESH_KINDS, parse_mesh_file
from featmesh.geometry.template import cuboid

BOX = cuboid((0.4, 0.8, 0.3), (2, 1, 1))
ROWS = "0 0 0\n1 0 0\n0 1 0\n"
PLY_HEADER = """ply
format {form} 1.0
comment by nobody
element vertex {vertices}
property float x
property float y
property float z
element face {faces}
property list uchar int vertex_indices
end_header
"""


def ply(vertices=3, faces=1, form="ascii"):
    return PLY_HEADER.format(form=form, vertices=vertices, faces=faces)


def stl(corners, promised=None, extra=b""):
    rows = [struct.pack("<12fH", 0, 0, 0, *c.reshape(-1).tolist(), 0) for c in corners]
    return b"\0" * 80 + struct.pack("<I", promised or len(rows)) + b"".join(rows) + extra


def glb(tree, data=b"", total=None, chunk=None):
    text = json.dumps(tree).encode() if isinstance(tree, dict | list) else tree
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", chunk or len(text), b"JSON") + text
    body += struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, total or 12 + len(body)) + body


def box_tree(mesh, **changed):
    """A glTF of a mesh, and its binary chunk."""
    points = mesh.vertices.numpy().astype("<f4").tobytes()
    index = mesh.faces.numpy().astype("<u4").tobytes()
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(mesh.vertices), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": mesh.faces.numel(), "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": len(points)},
            {"buffer": 0, "byteOffset": len(points), "byteLength": len(index)},
        ],
        "buffers": [{"byteLength": len(points) + len(index)}],
    }
    return tree | changed, points + index


def accessors(**changed):
    tree, data = box_tree(BOX)
    tree["accessors"][0] |= changed
    return glb(tree, data)


def test_a_glb_is_turned_into_the_object_frame(tmp_path):
    """The box is 0.8 long in y; in a file with z to the front and y up that is its z."""
    x, y, z = BOX.vertices.unbind(1)
    stored = BOX.with_vertices(torch.stack([x, z, -y], 1))
    path = tmp_path / "box.glb"
    path.write_bytes(glb(*box_tree(stored)))
    mesh = read_mesh(path)
    torch.testing.assert_close(mesh.vertices, BOX.vertices, atol=1e-7, rtol=0)
    assert torch.equal(mesh.faces, BOX.faces)
    assert mesh.volume > 0


def test_a_binary_stl_is_read(tmp_path):
    path = tmp_path / "box.STL"
    corners = BOX.corners.numpy()
    for data in (stl(corners), stl(corners, extra=b"trailing")):
        path.write_bytes(data)
        mesh = read_mesh(path)
        torch.testing.assert_close(mesh.corners, BOX.corners, atol=1e-7, rtol=0)


def test_a_text_stl_is_read(tmp_path):
    path = tmp_path / "one.stl"
    rows = "".join(f"vertex {row}\n" for row in ROWS.splitlines())
    loop = f"solid one\nfacet normal 0 0 1\nouter loop\n{rows}endloop\nendfacet\nendsolid one\n"
    path.write_text(loop)
    assert read_mesh(path).corners.reshape(-1, 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "mark", [b"\xef\xbb\xbf", b"# by Andr\xe9\n", "# by André\n".encode(), b""]
)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_comments_in_any_encoding(tmp_path, mark, ends):
    path = tmp_path / "one.obj"
    rows = "".join(f"v {row}\n" for row in ROWS.splitlines()) + "f 1 2 3\n"
    path.write_bytes((mark + rows.encode()).replace(b"\n", ends))
    assert read_mesh(path).faces.tolist() == [[0, 1, 2]]


def test_vertices_stay_in_the_files_order(tmp_path):
    order = torch.from_numpy(generator(0, "order").permutation(len(BOX.vertices)))
    vertices, faces = BOX.vertices[order], order.argsort()[BOX.faces]
    number = "\n".join(" ".join(map(repr, v)) for v in vertices.tolist()) + "\n"
    index = "".join(f"3 {a} {b} {c}\n" for a, b, c in faces.tolist())
    body = {
        "box.off": f"OFF\n{len(vertices)} {len(faces)} 0\n{number}{index}",
        "box.ply": ply(len(vertices), len(faces)).replace("float", "double") + number + index,
        "box.obj": "".join(f"v {row}\n" for row in number.splitlines())
        + "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in faces.tolist()),
    }
    for name, text in body.items():
        (tmp_path / name).write_text(text)
        mesh = read_mesh(tmp_path / name)
        torch.testing.assert_close(mesh.vertices, vertices)
        assert torch.equal(mesh.faces, faces)


def test_unchecked_meshes_are_as_in_the_file(tmp_path):
    path = tmp_path / "stray.off"
    path.write_text(f"OFF\n4 1 0\n{ROWS}nan 0 0\n3 0 1 2\n")
    assert len(read_mesh(path, checked=False).vertices) == 4
    with pytest.raises(InputError) as raised:
        read_mesh(path)
    assert raised.value.code == "E_MESH_NONFINITE"


def draco():
    tree, data = box_tree(BOX, extensionsRequired=["KHR_draco_mesh_compression"])
    return glb(tree, data)


def many_nodes():
    tree, data = box_tree(BOX)
    tree["meshes"][0]["primitives"] *= 60_000
    tree["nodes"] = [{"mesh": 0}] * 100
    return glb(tree, data)


HUGE = {
    "counts.off": f"OFF\n1000000000 1000000000 0\n{ROWS}",
    "digits.off": f"OFF\n{'9' * 5000} 1 0\n{ROWS}",
    "rows.off": f"OFF # 3 1 0\n3 2 0\n{ROWS}",
    "vertices.ply": ply(vertices=10**11) + ROWS,
    "faces.ply": ply(faces=10**11) + ROWS + "3 0 1 2\n",
    "digits.ply": ply(faces="9" * 5000) + ROWS + "3 0 1 2\n",
    "little.ply": ply(vertices=10**11, form="binary_little_endian").encode() + bytes(48),
    "big.ply": ply(faces=10**11, form="binary_big_endian").encode() + bytes(48),
    "list.ply": ply(faces=2, form="binary_little_endian").replace("uchar int", "uint int").encode()
    + struct.pack("<9fI3iI3i", *range(9), 2**32 - 1, 0, 1, 2, 3, 0, 1, 2),
    "counts.stl": stl(BOX.corners.numpy(), promised=2**32 - 1),
    "solid.stl": b"solid" + stl(BOX.corners.numpy(), promised=2**32 - 1)[5:],
    "total.glb": glb(*box_tree(BOX), total=2**32 - 1),
    "chunk.glb": glb(*box_tree(BOX), chunk=2**32 - 1),
    "count.glb": accessors(count=4 * 10**9),
    "zeros.glb": accessors(count=4 * 10**9, bufferView=None),
    "nodes.glb": many_nodes(),
}
JUNK = {
    "empty.stl": b"",
    "short.stl": b"solid",
    "none.stl": "solid x\nendsolid x\n",
    "junk.stl": b"junk" * 40,
    "junk.obj": bytes(range(256)) * 10,
    "junk.off": bytes(range(256)) * 10,
    "junk.ply": b"ply\n" + bytes(range(256)) * 10,
    "junk.glb": bytes(range(256)) * 10,
    "vertices.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\n",
    "faces.obj": "f 1 2 3\n",
    "minus.off": f"OFF\n-3 1 0\n{ROWS}",
    "cut.glb": accessors()[:100],
    "deep.glb": glb(b"[" * 200_000),
    "list.glb": glb([1, 2]),
    "type.glb": accessors(type="MAT9"),
    "word.glb": accessors(count="many"),
    "draco.glb": draco(),
}
INDEX = {
    "zero.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n",
    "slash.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1 2/2 0/3\n",
    "above.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 99999999999\n",
    "below.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -9\n",
    "minus.off": f"OFF\n3 1 0\n{ROWS}3 0 1 -1\n",
    "above.ply": ply() + ROWS + "3 0 1 3\n",
}


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("files", "code"), [(HUGE, "E_MESH_EMPTY"), (JUNK, "E_MESH_EMPTY"), (INDEX, "E_MESH_INDEX")]
)
def test_bad_files_are_refused(tmp_path, files, code):
    write(tmp_path, files)
    for name in files:
        with pytest.raises(InputError, match=r"read_mesh\(\).*expected.*; try: ") as raised:
            read_mesh(tmp_path / name)
        assert raised.value.code == code, name
        assert name in str(raised.value), name


def test_huge_counts_cost_no_memory(tmp_path):
    write(tmp_path, HUGE)
    program = f"""
import resource, sys
from pathlib import Path
import trimesh
from featmesh.geometry.mesh_file import parse_mesh_file
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, refused = peak(), 0
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    try:
        refused += not len(parse_mesh_file(path)[1])
    except ValueError as error:
        refused += error.code == "E_MESH_EMPTY"
print(refused, (peak() - before) / 1024)
"""
    source = str(Path(__file__).parents[2] / "src")
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    refused, megabytes = map(float, ran.stdout.split())
    assert refused == len(HUGE)
    assert megabytes < 100


def test_random_bytes_and_cut_files_raise_nothing_else(tmp_path):
    rng = generator(0, "fuzz")
    good = {
        ".off": f"OFF\n3 1 0\n{ROWS}3 0 1 2\n".encode(),
        ".obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
        ".ply": (ply() + ROWS + "3 0 1 2\n").encode(),
        ".stl": stl(BOX.corners.numpy()[:2]),
        ".glb": glb(*box_tree(BOX)),
    }
    for kind, whole in good.items():
        path = tmp_path / f"x{kind}"
        for _ in range(40):
            data = np.frombuffer(whole, np.uint8).copy()
            data[rng.integers(0, len(data), rng.integers(0, 6))] = rng.integers(0, 256)
            path.write_bytes(data.tobytes()[: rng.integers(len(data) // 2, 2 * len(data))])
            try:
                read_mesh(path)
            except InputError as error:
                assert error.code.startswith("E_MESH")


@pytest.mark.parametrize("name", ["mesh.3mf", "mesh", "photo.jpg"])
def test_other_kinds_are_refused(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=f"a mesh file {' '.join(MESH_KINDS)}, got {name}") as got:
        parse_mesh_file(tmp_path / name)
    assert got.value.code == "E_IO"


def test_large_files_are_refused_unread(tmp_path):
    path = tmp_path / "large.obj"
    with path.open("wb") as file:
        file.truncate(600_000_000)  # no block of it is on the disk
    with pytest.raises(InputError, match="at most 500000000 bytes, got 600000000") as raised:
        parse_mesh_file(path)
    assert raised.value.code == "E_IO"


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(InputError, match="expected a file") as raised:
        read_mesh(tmp_path / "folder.obj")
    assert raised.value.code == "E_IO"
