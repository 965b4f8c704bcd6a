import numpy as np
import pytest
import torch

from featmesh.geometry.mesh import Mesh
from featmesh.present.shapes import HEAD, LABEL, Row, diverging, fitting_camera, shaded, sheet

from .samples import box_mesh, seen

CELL = (60, 90)


def stretched(mesh: Mesh, factor: float) -> Mesh:
    return mesh.with_vertices(mesh.vertices * torch.tensor([1.0, factor, 1.0]).double())


def drawn(picture: np.ndarray) -> np.ndarray:
    return (picture < 250).any(-1)


def test_every_mesh_fits_and_the_largest_fills_the_picture() -> None:
    meshes = [stretched(box_mesh(), factor) for factor in (0.7, 1.0, 1.4)]
    camera = fitting_camera(meshes, seen(), CELL)
    points = [camera.project(seen().apply(mesh.vertices))[0].numpy() for mesh in meshes]
    low, high = np.min([p.min(0) for p in points], 0), np.max([p.max(0) for p in points], 0)
    assert (low > 0).all() and (high < [90, 60]).all()
    share = (high - low) / [90, 60]
    assert share.max() == pytest.approx(0.88)
    np.testing.assert_allclose((low + high) / 2, [45, 30])  # centred


def test_a_shaded_mesh_lies_on_white_paper_and_turns_darker_away_from_the_light() -> None:
    mesh = box_mesh()
    camera = fitting_camera([mesh], seen(elevation=0.6), CELL)
    grey = torch.full((len(mesh.vertices), 3), 0.8)
    picture = shaded(mesh, grey, seen(elevation=0.6), camera)
    assert picture.shape == (*CELL, 3) and not drawn(picture)[0, 0]
    inside = picture[drawn(picture)]
    assert inside.max() > 1.4 * inside[:, 0][inside[:, 0] > 40].min()  # the lid and a side


def test_colours_go_from_blue_by_near_white_to_red() -> None:
    low, middle, high = (255 * diverging(torch.tensor([-3.0, 0.0, 1.0]))).tolist()
    assert low[2] > low[0] + 100 and high[0] > high[2] + 100 and min(middle) > 240


def test_a_sheet_has_a_row_of_meshes_and_one_scale_for_all_changes() -> None:
    mesh = box_mesh()
    some, none = torch.ones(len(mesh.vertices)), torch.zeros(len(mesh.vertices))
    rows = [
        Row("first", ("told",), (mesh, mesh), (none, some)),
        Row("second", (), (stretched(mesh, 0.5), mesh), (-0.5 * some, none)),
    ]
    picture = sheet(["a", "b"], rows, ("in", "out"), seen(), CELL)
    cells = [
        picture[HEAD + 60 * k + 3 : HEAD + 60 * k + 57, LABEL + 90 * j : LABEL + 90 * (j + 1)]
        for k in range(2)
        for j in range(2)
    ]
    redness = [np.mean(c[drawn(c)][:, 0].astype(int) - c[drawn(c)][:, 2]) for c in cells]
    assert redness[1] > 50 and redness[2] < -25
    assert abs(redness[0]) < 5 and abs(redness[3]) < 5
    assert redness[1] > -1.2 * redness[2]  # the half change is paler
    assert drawn(cells[2]).sum() < 0.8 * drawn(cells[3]).sum()  # half as long
    assert drawn(picture[HEAD:, :LABEL]).any() and drawn(picture[:HEAD, LABEL:]).any()


def test_a_sheet_of_no_change_at_all_is_drawn() -> None:
    mesh = box_mesh()
    row = Row("only", (), (mesh,), (torch.zeros(len(mesh.vertices)),))
    assert drawn(sheet(["a"], [row], ("in", "out"), seen(), CELL)).any()
