"""Claims about the layout of a texture map over a template's charts."""

import pytest
import torch
from fixtures import car_mesh

from featmesh.errors import InputError
from featmesh.geometry.template import cuboid
from featmesh.model.atlas import Atlas, lattice, texels_at

SIZE = (64, 96)


def test_a_point_reads_its_four_texels_bilinearly() -> None:
    index, share = texels_at(torch.tensor([[0.5, 0.5], [2.25 / 6, 1.5 / 4], [0.0, 1.0]]), (4, 6))
    assert index[0].tolist() == [8, 9, 14, 15]
    torch.testing.assert_close(share[0], torch.full((4,), 0.25))
    # column 2.25 - .5 = 1.75, row 1.5 - .5 = 1 exactly
    assert index[1].tolist() == [7, 8, 13, 14]
    torch.testing.assert_close(share[1], torch.tensor([0.25, 0.75, 0.0, 0.0]))
    # beyond the last centres: the texel at the corner
    assert float(share[2][index[2] == 18].sum()) == pytest.approx(1)


def test_texels_show_the_whole_surface() -> None:
    mesh = car_mesh()
    atlas = Atlas.of(mesh, SIZE)
    area = float(mesh.face_normals.norm(dim=1).sum() / 2)
    assert float(atlas.area.sum()) == pytest.approx(area, rel=1e-3)
    centre = (atlas.position * atlas.area[..., None]).sum((0, 1)) / atlas.area.sum()
    weights = mesh.face_normals.norm(dim=1, keepdim=True)
    expected = (mesh.corners.mean(1) * weights).sum(0) / weights.sum()
    torch.testing.assert_close(centre, expected.float(), atol=2e-4, rtol=0)


def test_a_texel_lies_where_its_readers_are() -> None:
    mesh = car_mesh()
    atlas = Atlas.of(mesh, SIZE)
    face = torch.arange(len(mesh.faces))
    index, share = atlas.locate(face, torch.full((len(face), 3), 1 / 3))
    read = (atlas.position.flatten(0, 1)[index] * share[..., None]).sum(1)
    # at the rim of a chart a texel stands for the half of it that is surface
    away = (read - mesh.corners.mean(1).float()).norm(dim=1)
    assert away.median() < 2e-3 and away.max() < 0.02


def test_vertices_on_a_seam_have_several_places_on_the_map() -> None:
    mesh = cuboid((1.0, 2.0, 1.0), (2, 4, 2))
    atlas = Atlas.of(mesh, SIZE)
    places = torch.bincount(atlas.corner_vertex, minlength=len(mesh.vertices))
    at_rim = (mesh.vertices.abs() * 2 / mesh.extent > 1 - 1e-9).sum(1)
    assert torch.equal(places, at_rim)  # inside a side, on an edge, at a corner


def test_charts_that_share_a_texel_are_refused() -> None:
    with pytest.raises(InputError, match=r"charts a texel apart.* 24 x 36; try: a larger") as got:
        Atlas.of(car_mesh(), (24, 36))
    assert got.value.code == "E_MESH_UV"


def test_a_mesh_without_charts_is_refused() -> None:
    mesh = car_mesh()
    bare = type(mesh)(mesh.vertices, mesh.faces)
    with pytest.raises(InputError, match=r"texture coordinates, got one without; try: texture="):
        Atlas.of(bare, SIZE)


def test_a_lattice_spans_the_triangle() -> None:
    points = lattice(4)
    assert len(points) == 15
    assert (points >= 0).all()
    torch.testing.assert_close(points.sum(1), torch.ones(15))
    corners = (points == 1).any(1)
    assert int(corners.sum()) == 3
