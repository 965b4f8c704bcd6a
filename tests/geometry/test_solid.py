"""Claims about solids: known volumes, open meshes filled, hidden surfaces left out."""

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.solid import OUTER, VOXEL, Grid, filled, outer_points, signed_distance
from featmesh.geometry.template import cuboid

D = torch.float64


def box(size, middle=(0.0, 0.0, 0.0)):
    mesh = cuboid(size, (2, 3, 2))
    return mesh.with_vertices(mesh.vertices + torch.tensor(middle, dtype=D))


def joined(*meshes):
    starts = np.cumsum([0, *[len(mesh.vertices) for mesh in meshes]])
    faces = [mesh.faces + int(start) for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def without_floor(mesh):
    low = mesh.vertices[:, 2].min()
    return Mesh(mesh.vertices, mesh.faces[(mesh.corners[:, :, 2] > low + 1e-9).any(1)])


OUTSIDE = box((0.4, 0.84, 0.36))
INSIDE = box((0.12, 0.3, 0.1), (0.02, 0.1, -0.02))  # a motor


def distance_to_box(points, size):
    """Signed distance to a box about the origin, in closed form."""
    q = points.abs() - torch.tensor(size, dtype=D) / 2
    return q.clamp_min(0).norm(dim=1) + q.amax(1).clamp_max(0)


def test_the_middle_of_a_grid_is_a_corner_of_voxels():
    grid = Grid(np.array([1.0, 2.0, 3.0]), 0.5, (4, 6, 8))
    points = np.array([[1.01, 2.01, 3.01], [0.99, 1.99, 2.99]])
    assert [tuple(map(int, c)) for c in np.transpose(grid.cells(points))] == [(2, 3, 4), (1, 2, 3)]
    first = grid.centre + (np.array([0, 0, 0]) - np.array([2, 3, 4]) + 0.5) * grid.voxel
    np.testing.assert_allclose(grid.places(first[None]), 0)
    field = np.arange(4 * 6 * 8, dtype=float).reshape(4, 6, 8)
    where = first + grid.voxel * np.array([[0, 0, 0], [1, 2, 3], [0, 0, 0.5], [-9, -9, -9]])
    np.testing.assert_allclose(grid.sample(field, where), [0, field[1, 2, 3], 0.5, 0])


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_grid_has_room_for_all_meshes(scale):
    meshes = [box((0.2, 0.4, 0.3), (7, 0, 0)), box((0.2, 0.4, 0.3), (7.5, 0.3, -0.2))]
    meshes = [mesh.with_vertices(mesh.vertices * scale) for mesh in meshes]
    grid = Grid.around(meshes)
    diagonal = float(np.linalg.norm([0.7, 0.7, 0.5])) * scale
    assert grid.voxel == pytest.approx(VOXEL * diagonal)
    for mesh in meshes:
        for axis, cells in enumerate(grid.cells(mesh.vertices.numpy())):
            assert cells.min() >= 8 - 1
            assert cells.max() <= grid.shape[axis] - 8


@pytest.mark.parametrize("mesh", [OUTSIDE, without_floor(OUTSIDE), joined(OUTSIDE, INSIDE)])
def test_filled_boxes_have_their_volume(mesh):
    grid = Grid.around([mesh])
    solid = filled(mesh, grid, generator(0, "solid"))
    # the surface's voxels belong to the solid: half a voxel more on each side
    grown = np.prod(np.array([0.4, 0.84, 0.36]) + grid.voxel)
    assert solid.sum() * grid.voxel**3 == pytest.approx(grown, rel=0.03)


def test_the_distance_field_of_a_box():
    grid = Grid.around([OUTSIDE])
    field = signed_distance(OUTSIDE, grid, generator(0, "solid"))
    points = torch.from_numpy(generator(1, "points").uniform(-0.5, 0.5, (500, 3)))
    points *= torch.tensor([0.5, 0.96, 0.46], dtype=D)
    got = grid.sample(field, points.numpy())
    wanted = distance_to_box(points, (0.4, 0.84, 0.36)).numpy()
    np.testing.assert_allclose(got, wanted, atol=1.5 * grid.voxel)


def test_thin_parts_have_no_distance_field():
    sheet = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=D)
    flat = Mesh(sheet, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    with pytest.raises(InputError, match=r"enclose a volume.*try: ") as raised:
        signed_distance(flat, Grid.around([flat]), generator(0, "solid"))
    assert raised.value.code == "E_MESH_EMPTY"


@pytest.mark.parametrize("open_below", [False, True])
def test_outer_points_lie_outside_only(open_below):
    shell = without_floor(OUTSIDE) if open_below else OUTSIDE
    points = outer_points(joined(shell, INSIDE), 5000, generator(0, "outer"))
    assert points.shape == (5000, 3)
    assert float(distance_to_box(points, (0.4, 0.84, 0.36)).abs().max()) < 1e-9
    # evenly: each side its share of the area
    top = float((points[:, 2] > 0.18 - 1e-9).double().mean())
    sides = np.array([0.4 * 0.84, 0.4 * 0.36, 0.84 * 0.36])
    area = 2 * sides.sum() - (sides[0] if open_below else 0)
    assert top == pytest.approx(sides[0] / area, abs=0.03)


def test_of_a_thin_mesh_all_is_outside():
    rod = box((0.01, 0.9, 0.01), (0.2, 0, 0.2))
    plate = box((0.5, 0.9, 0.004))
    points = outer_points(joined(plate, rod), 4000, generator(0, "outer"))
    share = float((points[:, 2] > 0.1).double().mean())
    assert share == pytest.approx(0.036 / (0.036 + 0.9 + 0.0056 * 2), abs=0.02)


@pytest.mark.parametrize(("scale", "shift"), [(1e-9, 0.0), (1e9, 0.0), (1.0, 1e6)])
def test_outer_points_of_any_size_and_place(scale, shift):
    mesh = joined(OUTSIDE, INSIDE)
    moved = mesh.with_vertices(mesh.vertices * scale + shift)
    points = (outer_points(moved, 2000, generator(0, "outer")) - shift) / scale
    assert float(distance_to_box(points, (0.4, 0.84, 0.36)).abs().max()) < OUTER * VOXEL


def test_outer_points_repeat_with_their_generator():
    one, two = (outer_points(OUTSIDE, 50, generator(3, "outer")) for _ in range(2))
    assert torch.equal(one, two)


def test_no_surface_no_outer_points():
    point = Mesh(torch.zeros(3, 3, dtype=D), torch.tensor([[0, 1, 2]]))
    with pytest.raises(InputError, match=r"with a surface.*try: ") as raised:
        outer_points(point, 10, generator(0, "outer"))
    assert raised.value.code == "E_MESH_EMPTY"
