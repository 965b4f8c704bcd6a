"""Claims about the boundary of voxels: closed, wound outwards, symmetric, whatever the voxels."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from featmesh.draws import generator
from featmesh.geometry.lattice import boundary
from featmesh.geometry.solid import Grid
from featmesh.geometry.template import mirror_index

FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
GRID = Grid(np.zeros(3), 0.1, (12, 14, 10))


def voxels(*boxes):
    """Voxels of boxes (low, high) and of their mirror images in x."""
    solid = np.zeros(GRID.shape, dtype=bool)
    for low, high in boxes:
        solid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return solid | solid[::-1]


def noise(share):
    solid = np.zeros(GRID.shape, dtype=bool)
    inner = generator(0, "noise").random((10, 12, 8)) < share
    solid[1:-1, 1:-1, 1:-1] = inner
    return solid | solid[::-1]


def euler(mesh):
    edges = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    return len(mesh.vertices) - len(edges.sort(1)[0].unique(dim=0)) + len(mesh.faces)


def face_set(faces):
    return {tuple(np.roll(f, -int(np.argmin(f)))) for f in faces.numpy()}


def assert_whole(mesh):
    assert mesh.is_watertight()
    mirror = mirror_index(mesh)
    assert torch.equal(mesh.vertices[mirror], mesh.vertices * FLIP)
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    assert face_set(mirror[mesh.faces].flip(1)) == face_set(mesh.faces)


BAR = ((2, 3, 3), (6, 5, 6))
RING = [((2, 2, 2), (6, 4, 8)), ((2, 10, 2), (6, 12, 8)), ((2, 2, 2), (4, 12, 8))]


@pytest.mark.parametrize(
    ("boxes", "count", "characteristic"),
    [
        ([BAR], 8 * 2 * 3, 2),
        ([((2, 3, 3), (4, 5, 6))], 2 * 2 * 2 * 3, 4),  # two, left and right
        (RING, 8 * 10 * 6 - 4 * 6 * 6, 0),  # a hole through it
    ],
)
def test_boundaries_of_boxes(boxes, count, characteristic):
    mesh = boundary(voxels(*boxes), GRID)
    assert_whole(mesh)
    assert mesh.volume == pytest.approx(count * GRID.voxel**3)
    assert euler(mesh) == characteristic


def test_a_boundary_lies_where_its_voxels_are():
    grid = Grid(np.array([0.0, 3.0, -2.0]), 0.1, GRID.shape)
    mesh = boundary(voxels(BAR), grid)
    low = grid.centre + (np.array([2, 3, 3]) - np.array([6, 7, 5])) * grid.voxel
    high = grid.centre + (np.array([10, 5, 6]) - np.array([6, 7, 5])) * grid.voxel
    np.testing.assert_allclose(mesh.vertices.amin(0).numpy(), low)
    np.testing.assert_allclose(mesh.vertices.amax(0).numpy(), high)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6])
def test_boundaries_of_noise_are_manifold(share):
    """Voxels that touch along edges and at corners only are joined, none is lost."""
    solid = noise(share)
    mesh = boundary(solid, GRID)
    assert_whole(mesh)
    assert mesh.volume >= solid.sum() * GRID.voxel**3 * (1 - 1e-9)
    grown = ndimage.binary_dilation(solid, np.ones((3, 3, 3)))
    assert mesh.volume <= grown.sum() * GRID.voxel**3


@pytest.mark.parametrize("solid", [voxels(BAR), voxels(*RING), noise(0.1)])
def test_texture_coordinates_do_not_overlap(solid):
    """Each side of a voxel has a square of the map to itself; charts are a square apart."""
    mesh = boundary(solid, GRID)
    uv = mesh.uv.double()
    assert bool(((uv > 0) & (uv < 1)).all())
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs() / 2
    side = float((2 * area[0]).sqrt())
    torch.testing.assert_close(area, torch.full_like(area, side**2 / 2), rtol=1e-3, atol=0)
    low = uv.amin(1) / side  # both triangles of a side have its low corner
    squares, uses = (low - 0.5).round().unique(dim=0, return_counts=True)
    assert len(squares) == len(mesh.faces) // 2
    assert bool((uses == 2).all())


def test_no_voxels_no_surface():
    mesh = boundary(np.zeros(GRID.shape, dtype=bool), GRID)
    assert (len(mesh.vertices), len(mesh.faces)) == (0, 0)
