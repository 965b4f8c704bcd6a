"""Claims about NeMo's cuboid: its spacing and counts are the published ones, and it is closed."""

import math

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.cuboid_template import cuboid_template, samples, shortest
from featmesh.geometry.lattice import cuboid
from featmesh.geometry.mesh import Mesh

# extents, grid points, vertices and faces as published, unique positions (spec 2.4)
PUBLISHED = [
    ((1.0, 1.0, 1.0), (13, 13, 13), 1014, 1728, 866),
    ((0.4, 0.85, 0.3), (11, 23, 8), 1050, 1776, 890),
    ((0.2, 0.2, 0.9), (8, 8, 32), 1152, 1932, 968),
    ((0.37, 0.9, 0.28), (10, 25, 8), 1060, 1788, 896),
    ((0.25, 0.93, 0.28), (8, 28, 9), 1096, 1844, 924),
    ((0.8, 0.2, 0.6), (21, 6, 16), 1116, 1900, 952),
    ((0.9, 0.95, 0.3), (17, 18, 6), 1032, 1748, 876),
]


@pytest.mark.parametrize(("extents", "grid", "vertices", "faces", "unique"), PUBLISHED)
def test_it_has_the_published_points(extents, grid, vertices, faces, unique) -> None:
    x, y, z = samples(np.array(extents))
    assert (x, y, z) == grid
    assert 2 * (x * y + x * z + y * z) == vertices
    found = cuboid_template([cuboid(extents, (2, 2, 2))])
    assert (len(found.vertices), len(found.faces)) == (unique, faces)
    np.testing.assert_allclose(found.extent, extents)
    for axis, count in enumerate(grid):  # evenly spaced, ends included
        places = found.vertices[:, axis].unique()
        even = torch.linspace(-extents[axis] / 2, extents[axis] / 2, count, dtype=torch.float64)
        np.testing.assert_allclose(places.numpy(), even, atol=1e-12)


def test_it_is_closed_and_wound_outwards() -> None:
    found = cuboid_template([cuboid((0.37, 0.9, 0.28), (2, 2, 2))])
    assert found.is_watertight() and found.volume == pytest.approx(0.37 * 0.9 * 0.28)
    edges = torch.cat([found.faces[:, [0, 1]], found.faces[:, [1, 2]], found.faces[:, [2, 0]]])
    assert len(edges.unique(dim=0)) == len(edges)  # wound one way: no edge twice in a direction


def test_it_stands_where_99_of_100_vertices_are_in_their_unit() -> None:
    rng = generator(0, "cads")
    low, high = np.array([-0.3, -0.5, -0.1]), np.array([0.3, 0.7, 0.4])
    cads = []
    for k in range(4):
        points = rng.uniform(low, high, (1000, 3))
        points[:4] = 5.0 + k  # an aerial
        cads.append(Mesh(torch.from_numpy(points), torch.tensor([[0, 1, 2]])))
    found = cuboid_template(cads).vertices.numpy()
    np.testing.assert_allclose(found.min(0), low, atol=0.02)
    np.testing.assert_allclose(found.max(0), high, atol=0.02)


def test_the_shortest_interval_is_found() -> None:
    values = np.array([0.0, 10.0, 10.1, 10.2, 10.3, 20.0])
    assert shortest(values, 4 / 6) == (10.0, 10.3)
    assert shortest(values, 1.0) == (0.0, 20.0)
    dense = generator(0, "values").normal(size=500)
    first, last = shortest(dense, 0.9)
    inside = (dense >= first) & (dense <= last)
    assert inside.sum() == math.ceil(0.9 * 500)
    ordered = np.sort(dense)
    assert last - first == min(ordered[449 + k] - ordered[k] for k in range(51))


def test_flat_or_no_cads_are_refused() -> None:
    flat = Mesh(
        torch.eye(3, dtype=torch.float64)[:, [0, 1, 2]] * torch.tensor([1.0, 1, 0]),
        torch.tensor([[0, 1, 2]]),
    )
    for cads in ([], [flat]):
        with pytest.raises(InputError, match="expected solid CADs") as caught:
            cuboid_template(cads)
        assert caught.value.code == "E_MESH_EMPTY"
