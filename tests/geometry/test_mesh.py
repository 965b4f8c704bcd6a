"""Claims about meshes: areas, volume and samples of known shapes, and files that are broken."""

import math

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh, read_mesh
from featmesh.geometry.template import cuboid

D = torch.float64
BOX = cuboid((0.4, 0.8, 0.3), (2, 3, 4))
CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 2) for z in (0, 3)]
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = [t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))]
BRICK = Mesh(torch.tensor(CORNERS, dtype=D), torch.tensor(FACES))


def without(mesh, *gone):
    keep = [k for k in range(len(mesh.faces)) if k not in gone]
    return Mesh(mesh.vertices, mesh.faces[keep])


def test_volume_and_area_of_a_brick():
    assert BRICK.volume == pytest.approx(6)
    assert float(BRICK.face_normals.norm(dim=1).sum()) / 2 == pytest.approx(22)
    assert BRICK.extent.tolist() == [1, 2, 3]
    inside_out = Mesh(BRICK.vertices, BRICK.faces.flip(1))
    assert inside_out.volume == pytest.approx(-6)
    moved = BRICK.with_vertices(BRICK.vertices + torch.tensor([10.0, -20.0, 5.0], dtype=D))
    assert moved.volume == pytest.approx(6)


def test_normals_point_outwards():
    middle = BRICK.corners.mean(1) - torch.tensor([0.5, 1.0, 1.5], dtype=D)
    assert bool(((BRICK.face_normals * middle).sum(1) > 0).all())
    out = BRICK.vertices - torch.tensor([0.5, 1.0, 1.5], dtype=D)
    assert bool(((BRICK.vertex_normals * out).sum(1) > 0).all())
    torch.testing.assert_close(BRICK.vertex_normals.norm(dim=1), torch.ones(8, dtype=D))


@pytest.mark.parametrize(
    ("mesh", "closed"),
    [
        (BRICK, True),
        (BOX, True),
        (without(BRICK, 3), False),
        (Mesh(BRICK.vertices, torch.cat([BRICK.faces, BRICK.faces[:1]])), False),
        (Mesh(BRICK.vertices, torch.cat([BRICK.faces[:1].flip(1), BRICK.faces[1:]])), False),
        (Mesh(BRICK.corners.reshape(-1, 3), torch.arange(36).reshape(-1, 3)), False),
    ],
    ids=["brick", "cuboid", "hole", "doubled face", "turned face", "unwelded"],
)
def test_watertight(mesh, closed):
    assert mesh.is_watertight() is closed


def test_normalised_is_centred_with_diagonal_1():
    stray = torch.cat([BRICK.vertices, torch.full((1, 3), 99.0, dtype=D)])  # in no face
    for mesh in (BRICK, Mesh(stray, BRICK.faces)):
        used = mesh.normalised().vertices[:8]
        low, high = used.amin(0), used.amax(0)
        torch.testing.assert_close(low + high, torch.zeros(3, dtype=D), atol=1e-12, rtol=0)
        assert float((high - low).norm()) == pytest.approx(1)
        torch.testing.assert_close(high - low, torch.tensor([1.0, 2, 3], dtype=D) / math.sqrt(14))


def test_samples_lie_on_the_surface_evenly():
    """Each side of the brick gets its share of the area; within a side, each quarter the same."""
    n = 40_000
    points = BRICK.sample_surface(n, generator(0, "samples")).numpy()
    size = np.array([1.0, 2.0, 3.0])
    on = np.stack([np.isclose(points, 0, atol=1e-9), np.isclose(points, size, atol=1e-9)], -1)
    assert on.any((1, 2)).all()
    share = on.reshape(n, 6).mean(0)
    wanted = np.repeat([6.0, 3.0, 2.0], 2) / 22
    np.testing.assert_allclose(share, wanted, atol=4 * np.sqrt(0.25 / n))
    top = points[on[:, 2, 1]][:, :2] / size[:2]
    quarters = np.histogram2d(*top.T, bins=2, range=[[0, 1], [0, 1]])[0] / len(top)
    np.testing.assert_allclose(quarters, 0.25, atol=4 * np.sqrt(0.19 / len(top)))


def test_samples_repeat_with_their_generator():
    one, two = (BRICK.sample_surface(9, generator(3, "samples")) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, BRICK.sample_surface(9, generator(4, "samples")))


def off(vertices, faces):
    rows = ["OFF", f"{len(vertices)} {len(faces)} 0"]
    rows += [" ".join(map(str, v)) for v in vertices]
    return "\n".join(rows + [" ".join(map(str, (len(f), *f))) for f in faces]) + "\n"


def obj(vertices, faces):
    rows = [f"v {x} {y} {z}" for x, y, z in vertices]
    return "\n".join(rows + ["f " + " ".join(str(i + 1) for i in f) for f in faces]) + "\n"


def ply(vertices, faces):
    head = f"""ply
format ascii 1.0
element vertex {len(vertices)}
property float x
property float y
property float z
element face {len(faces)}
property list uchar int vertex_indices
end_header
"""
    rows = [" ".join(map(str, v)) for v in vertices]
    return head + "\n".join(rows + [" ".join(map(str, (len(f), *f))) for f in faces]) + "\n"


FORMATS = {"off": off, "obj": obj, "ply": ply}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("faces", [FACES, QUADS], ids=["triangles", "quads"])
def test_files_are_read(tmp_path, kind, faces):
    path = tmp_path / f"brick.{kind}"
    path.write_text(FORMATS[kind](CORNERS, faces))
    mesh = read_mesh(path)
    assert (mesh.vertices.dtype, mesh.faces.dtype) == (D, torch.int64)
    assert len(mesh.faces) == 12
    assert mesh.is_watertight()
    assert mesh.volume == pytest.approx(6)
    assert mesh.extent.tolist() == [1, 2, 3]


def test_all_parts_of_a_file_are_one_mesh(tmp_path):
    path = tmp_path / "two.obj"
    far = [(x + 10, y, z) for x, y, z in CORNERS]
    shifted = [tuple(i + 8 for i in f) for f in FACES]
    parts = "o one\n" + obj(CORNERS, FACES) + "o two\n" + obj(far, []) + obj([], shifted)
    path.write_text(parts)
    mesh = read_mesh(str(path))
    assert len(mesh.faces) == 24
    assert mesh.volume == pytest.approx(12)


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("none.off", None, "E_IO", "got .*none.off; try: check the path"),
        ("empty.off", "", "E_MESH_EMPTY", ""),
        ("empty.obj", "", "E_MESH_EMPTY", ""),
        ("points.off", off(CORNERS, []), "E_MESH_EMPTY", "vertices and faces"),
        ("text.off", "this is no mesh\n", "E_MESH_EMPTY", ""),
        ("cut.off", off(CORNERS, FACES)[:60], "E_MESH_EMPTY", ""),
        ("cut.ply", ply(CORNERS, FACES)[:60], "E_MESH_EMPTY", ""),
        ("bytes.ply", b"\xff\xfe\x00\x01" * 20, "E_MESH_EMPTY", ""),
        ("index.off", off(CORNERS, [*FACES, (0, 1, 8)]), "E_MESH_INDEX", "ind(ex|ices)"),
        ("index.obj", obj(CORNERS, [*FACES, (0, 1, 8)]), "E_MESH_INDEX", ""),
        ("nan.off", off([*CORNERS[:7], ("nan", 0, 0)], FACES), "E_MESH_NONFINITE", "at vertex 7"),
        ("inf.ply", ply([*CORNERS[:7], ("inf", 0, 0)], FACES), "E_MESH_NONFINITE", "finite"),
    ],
)
def test_broken_files_are_refused(tmp_path, name, content, code, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"read_mesh.*expected.*{words}") as raised:
        read_mesh(path)
    assert raised.value.code == code
    assert "; try: " in str(raised.value)
