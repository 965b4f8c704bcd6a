"""Claims about cleaning: each fault of a CAD is found, counted and repaired, or refused."""

import json
import math

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.clean import clean
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import cuboid

D = torch.float64
BOX = cuboid((0.4, 0.8, 0.3), (2, 3, 2))
DIAGONAL = math.sqrt(0.4**2 + 0.8**2 + 0.3**2)
COUNTS = (
    "zero_area",
    "duplicate",
    "unreferenced",
    "non_finite",
    "welded",
    "non_manifold_edges",
    "open_edges",
    "flipped",
)


def at(mesh, place, scale=1.0):
    return mesh.with_vertices(mesh.vertices * scale + torch.tensor(place, dtype=D))


def joined(*meshes):
    starts = np.cumsum([0, *[len(mesh.vertices) for mesh in meshes]])
    faces = [mesh.faces + int(start) for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def with_faces(mesh, *faces):
    return Mesh(mesh.vertices, torch.cat([mesh.faces, torch.tensor(faces)]))


def assert_counts(report, **wanted):
    assert {name: getattr(report, name) for name in COUNTS} == dict.fromkeys(COUNTS, 0) | wanted


def assert_is_the_box(mesh):
    assert mesh.vertices.dtype == D
    assert mesh.is_watertight()
    assert mesh.volume == pytest.approx(0.4 * 0.8 * 0.3 / DIAGONAL**3)
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    torch.testing.assert_close(low, -high, atol=1e-9, rtol=0)
    assert float((high - low).norm()) == pytest.approx(1)


def test_a_good_mesh_is_only_scaled():
    found = clean(BOX, "box.off")
    assert found.name == "box.off"
    assert_is_the_box(found.mesh)
    torch.testing.assert_close(found.mesh.vertices, BOX.vertices / DIAGONAL)
    assert torch.equal(found.mesh.faces, BOX.faces)
    assert_counts(found.report)
    assert found.report.closed
    assert (found.report.components, found.report.objects, found.report.kept_area) == (1, 1, 1.0)
    assert found.report.warnings == ()


@pytest.mark.parametrize("scale", [1e-280, 1e-9, 1.0, 1e9, 1e300])
@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (3e3, -5e3, 7e3)])
def test_any_size_and_place(scale, place):
    """The transform is recorded: file = centre + diagonal * cleaned."""
    moved = at(BOX, place)
    mesh = moved.with_vertices(moved.vertices * scale)
    found = clean(mesh, "box")
    assert_is_the_box(found.mesh)
    assert found.report.diagonal == pytest.approx(DIAGONAL * scale)
    np.testing.assert_allclose(found.report.centre, np.array(place) * scale, atol=1e-9 * scale)
    back = torch.tensor(found.report.centre, dtype=D) + found.report.diagonal * found.mesh.vertices
    torch.testing.assert_close(back / scale, mesh.vertices / scale, atol=1e-8, rtol=1e-9)


def test_float32_is_handled_in_float64():
    assert_is_the_box(clean(Mesh(BOX.vertices.float() * 1e9, BOX.faces), "box").mesh)


def test_inside_out_is_turned():
    found = clean(Mesh(BOX.vertices, BOX.faces.flip(1)), "box")
    assert_is_the_box(found.mesh)
    assert_counts(found.report, flipped=len(BOX.faces))


def test_each_closed_piece_is_turned_by_itself():
    second = at(BOX, (0.45, 0, 0))
    found = clean(joined(BOX, Mesh(second.vertices, second.faces.flip(1))), "two")
    assert found.mesh.volume == pytest.approx(2 * 0.096 / found.report.diagonal**3)
    assert_counts(found.report, flipped=len(BOX.faces))
    assert (found.report.components, found.report.objects) == (2, 1)


def test_an_open_piece_keeps_its_winding():
    opened = Mesh(BOX.vertices, BOX.faces[1:].flip(1))
    found = clean(opened, "open")
    assert torch.equal(found.mesh.faces, opened.faces)
    assert_counts(found.report, open_edges=3)
    assert not found.report.closed


def test_faces_without_area_are_left_out():
    a, b, c = BOX.faces[0].tolist()
    vertices = torch.cat([BOX.vertices, (BOX.vertices[a] + BOX.vertices[b])[None] / 2])
    bad = with_faces(Mesh(vertices, BOX.faces), (a, a, b), (c, c, c), (a, len(vertices) - 1, b))
    found = clean(bad, "box")
    assert_is_the_box(found.mesh)
    assert found.report.zero_area == 3
    assert len(found.mesh.vertices) == len(BOX.vertices)


def test_duplicate_faces_are_left_out_whatever_their_winding():
    a, b, c = BOX.faces[3].tolist()
    found = clean(with_faces(BOX, (b, c, a), (c, b, a)), "box")
    assert_is_the_box(found.mesh)
    assert_counts(found.report, duplicate=2)


def test_unwelded_vertices_are_welded():
    corners = BOX.corners.reshape(-1, 3)
    noise = torch.from_numpy(generator(0, "noise").uniform(-1e-12, 1e-12, corners.shape))
    soup = Mesh(corners + noise, torch.arange(len(corners)).reshape(-1, 3))
    found = clean(soup, "soup")
    assert_is_the_box(found.mesh)
    assert_counts(found.report, welded=len(corners) - len(BOX.vertices))


def test_vertices_in_no_face_are_left_out():
    stray = torch.tensor([[math.nan, 0, 0], [1e30, 0, 0], [0, math.inf, 0]], dtype=D)
    mesh = Mesh(torch.cat([stray, BOX.vertices]), BOX.faces + 3)
    found = clean(mesh, "box")
    assert_is_the_box(found.mesh)
    assert_counts(found.report, unreferenced=3, non_finite=2)
    assert "2 vertices without a place" in found.report.warnings[0]


def test_non_manifold_edges_are_counted_and_kept():
    a, b, _ = BOX.faces[0].tolist()
    fin = Mesh(torch.cat([BOX.vertices, torch.tensor([[0.0, 0, 0.4]], dtype=D)]), BOX.faces)
    found = clean(with_faces(fin, (a, b, len(BOX.vertices))), "fin")
    assert len(found.mesh.faces) == len(BOX.faces) + 1
    assert_counts(found.report, non_manifold_edges=1, open_edges=2)


@pytest.mark.parametrize(
    ("places", "objects"),
    [
        ([(0.45, 0, 0)], 1),  # a narrow slit
        ([(0.9, 0, 0)], 2),
        ([(0, 0, 50)], 2),
        ([(0.9 * k, 0, 0) for k in range(1, 10)], 10),
        ([(0.9, 0, 0), (0.9, 1.6, 0), (0, 1.6, 0)], 4),  # slabs across two axes
    ],
)
def test_objects_far_apart(places, objects):
    bigger = at(BOX, (0, 0, 0), 1.1)
    found = clean(joined(*[at(BOX, place) for place in places], bigger), "several")
    assert found.report.objects == objects
    if objects > 1:
        assert_is_the_box(found.mesh)
        assert found.report.diagonal == pytest.approx(1.1 * DIAGONAL)
        np.testing.assert_allclose(found.report.centre, 0, atol=1e-7)
        assert found.report.kept_area == pytest.approx(1.21 / (1.21 + len(places)))
        assert f"{objects} objects far apart: kept the one with" in found.report.warnings[0]


@pytest.mark.parametrize("far", [1e4, 1e9])
def test_specks_far_away_do_not_shrink_the_object(far):
    """Not even where the object is one of two, which beside the speck seem to be one."""
    speck, second = at(BOX, (0, far, 0), 1e-2), at(BOX, (0.9, 0, 0), 0.9)
    found = clean(joined(speck, BOX, second), "speck")
    assert_is_the_box(found.mesh)
    assert_counts(found.report)
    assert found.report.diagonal == pytest.approx(DIAGONAL)
    np.testing.assert_allclose(found.report.centre, 0, atol=1e-15 * far)
    assert found.report.objects == 3
    assert found.report.kept_area == pytest.approx(1 / (1 + 0.81 + 1e-4))


def test_a_report_is_a_file():
    report = clean(with_faces(BOX, (0, 0, 1)), "box").report
    again = json.loads(json.dumps(report.to_json()))
    assert again["zero_area"] == 1
    assert again["centre"] == list(report.centre)
    assert again["warnings"] == []


ONE = torch.tensor([[0, 1, 2]])
TRIANGLE = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=D)


@pytest.mark.parametrize(
    ("vertices", "faces", "code", "words"),
    [
        (TRIANGLE[:0], ONE[:0], "E_MESH_EMPTY", "vertices and faces"),
        (TRIANGLE, ONE[:0], "E_MESH_EMPTY", "vertices and faces"),
        (TRIANGLE[:0], ONE, "E_MESH_EMPTY", "vertices and faces"),
        (TRIANGLE, ONE + 1, "E_MESH_INDEX", "in face 0"),
        (TRIANGLE, ONE - 1, "E_MESH_INDEX", "in face 0"),
        (TRIANGLE * math.nan, ONE, "E_MESH_NONFINITE", "at vertex 0"),
        (TRIANGLE / 0.0, ONE, "E_MESH_NONFINITE", "at vertex"),
        (TRIANGLE * 3e308 - 1.5e308, ONE, "E_MESH_NONFINITE", ""),
        (TRIANGLE * 0, ONE, "E_MESH_EMPTY", "extent"),
        (TRIANGLE * 1e-310, ONE, "E_MESH_EMPTY", "extent"),
        (TRIANGLE, torch.tensor([[0, 1, 1], [2, 2, 2]]), "E_MESH_EMPTY", "with an area.*among 2"),
        (TRIANGLE * torch.tensor([1.0, 0, 0]), ONE, "E_MESH_EMPTY", "with an area"),
    ],
)
def test_what_is_no_object_is_refused(vertices, faces, code, words):
    with pytest.raises(InputError, match=rf"clean\(\).* cad.obj.*; try: |{words}") as raised:
        clean(Mesh(vertices, faces), "cad.obj")
    assert raised.value.code == code
    assert "cad.obj" in str(raised.value)
    assert "; try: " in str(raised.value)
