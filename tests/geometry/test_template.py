"""Claims about templates: closed, wound outwards, exactly mirror-symmetric."""

import math

import numpy as np
import pytest
import torch

from featmesh.draws import generator
from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.template import (
    cuboid,
    fit_template,
    mean_field,
    mirror_index,
    shrink_wrap,
    stretch,
)

FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


def face_set(faces):
    """Faces as a set, the first corner the smallest: winding counts, order does not."""
    turned = [tuple(np.roll(f, -int(np.argmin(f)))) for f in faces.numpy()]
    return set(turned)


def assert_symmetric(mesh):
    mirror = mirror_index(mesh)
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    assert torch.equal(mesh.vertices[mirror], mesh.vertices * FLIP)
    mirrored = mirror[mesh.faces].flip(1)  # a mirror turns the winding
    assert face_set(mirrored) == face_set(mesh.faces)


@pytest.mark.parametrize("cells", [(2, 1, 1), (2, 3, 4), (4, 6, 3), (12, 28, 10)])
def test_cuboid(cells):
    nx, ny, nz = cells
    mesh = cuboid((0.4, 0.8, 0.3), cells)
    quads = 2 * (nx * ny + ny * nz + nz * nx)
    assert len(mesh.faces) == 2 * quads
    assert len(mesh.vertices) == quads + 2  # Euler: V - E + F = 2 of quads, E = 2 F
    assert mesh.is_watertight()
    assert mesh.volume == pytest.approx(0.4 * 0.8 * 0.3)
    torch.testing.assert_close(mesh.extent, torch.tensor([0.4, 0.8, 0.3], dtype=torch.float64))
    assert_symmetric(mesh)
    mesh.checked()


def test_texture_coordinates_of_a_cuboid_do_not_overlap():
    mesh = cuboid((0.4, 0.8, 0.3), (4, 6, 3))
    uv = mesh.uv.double()
    assert uv.shape == (len(mesh.faces), 3, 2)
    assert bool(((uv > 0) & (uv < 1)).all())
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs() / 2
    assert float(area.min()) > 0
    assert float(area.sum()) == pytest.approx(0.96**2, rel=1e-4)  # all six charts, nothing twice
    middle = uv.mean(1)
    chart = (middle * torch.tensor([3.0, 2.0])).floor()
    # side 3: axis x y z; two sides each; every triangle in the chart of its own side
    side = mesh.corners.mean(1) / (mesh.extent / 2)
    axis = side.abs().argmax(1)
    assert torch.equal(chart[:, 0].long(), axis)
    positive = side.gather(1, axis[:, None])[:, 0] > 0
    assert torch.equal(chart[:, 1] > 0, positive)


def open_box(size, shift=0.0):
    """A box without a bottom, half of its faces doubled, unwelded, not centred."""
    mesh = cuboid(size, (2, 4, 2))
    middle = mesh.corners.mean(1)
    faces = mesh.faces[middle[:, 2] > -0.499 * size[2]]
    assert len(faces) < len(mesh.faces)
    faces = torch.cat([faces, faces[::2], faces[::3].flip(1)])
    corners = mesh.vertices[faces].reshape(-1, 3) + shift
    broken = Mesh(corners, torch.arange(len(corners)).reshape(-1, 3))
    assert not broken.is_watertight()
    return broken


@pytest.fixture(scope="module")
def fitted():
    boxes = [open_box((0.4, 0.86, 0.32)), open_box((0.44, 0.84, 0.3), shift=3.0)]
    return fit_template(boxes, generator(0, "template"))


def test_a_fitted_template_is_whole(fitted):
    assert fitted.is_watertight()
    assert 1000 <= len(fitted.vertices) <= 2500
    assert fitted.volume > 0
    assert_symmetric(fitted)
    assert fitted.uv is not None and len(fitted.uv) == len(fitted.faces)
    fitted.checked()


def test_a_fitted_template_is_centred_with_diagonal_1(fitted):
    assert float(fitted.extent.norm()) == pytest.approx(1)
    low, high = fitted.vertices.amin(0), fitted.vertices.amax(0)
    torch.testing.assert_close(low, -high, atol=1e-12, rtol=0)


def test_a_fitted_template_has_the_mean_size(fitted):
    sizes = torch.tensor([[0.4, 0.86, 0.32], [0.44, 0.84, 0.3]], dtype=torch.float64)
    mean = (sizes / sizes.norm(dim=1, keepdim=True)).mean(0)
    ratio = fitted.extent / mean
    assert bool(((ratio > 0.9) & (ratio < 1.1)).all()), ratio
    assert fitted.volume == pytest.approx(float(mean.prod()), rel=0.2)


def test_wide_and_high_objects_are_not_cut_off():
    fitted = fit_template([cuboid((0.8, 0.3, 0.1), (2, 1, 1))], generator(0, "template"))
    wanted = torch.tensor([0.8, 0.3, 0.1], dtype=torch.float64)
    torch.testing.assert_close(fitted.extent, wanted / wanted.norm(), atol=0.03, rtol=0)


def joined(*meshes):
    starts = np.cumsum([0, *[len(mesh.vertices) for mesh in meshes]])
    faces = [mesh.faces + int(start) for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def table(width, length, leg):
    """A plate on four legs."""
    plate = cuboid((width, length, 0.04), (2, 1, 1))
    posts = [
        stretch(cuboid((1.0, 1.0, 1.0), (2, 1, 1)), torch.tensor([leg, leg, 0.3])).vertices
        + torch.tensor([x * (width - leg) / 2, y * (length - leg) / 2, -0.16])
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return joined(plate, *[Mesh(p, cuboid((1.0, 1.0, 1.0), (2, 1, 1)).faces) for p in posts])


TABLES = [table(0.5, 0.8, 0.05), table(0.6, 0.8, 0.04), table(0.5, 0.9, 0.06)]


@pytest.fixture(scope="module")
def thin():
    return fit_template(TABLES, generator(0, "template"))


def test_thin_things_are_cut_out_of_voxels(thin):
    """A table's template has legs, which no mean of distances keeps."""
    assert thin.is_watertight()
    assert 1000 <= len(thin.vertices) <= 2500
    assert_symmetric(thin)
    assert float(thin.extent.norm()) == pytest.approx(1)
    mean = torch.stack([mesh.normalised().extent for mesh in TABLES]).mean(0)
    torch.testing.assert_close(thin.extent, mean / mean.norm(), atol=0.03, rtol=0)
    foot = thin.vertices[thin.vertices[:, 2] < thin.vertices[:, 2].min() + 0.1]
    beside = foot[:, :2].abs() / (thin.extent[:2] / 2)
    assert bool((beside > 0.75).all())  # at the corners
    assert len({tuple(corner) for corner in foot[:, :2].sign().tolist()}) == 4
    share = thin.volume / float(thin.extent.prod())
    assert 0.05 < share < 0.3
    assert thin.uv is not None and len(thin.uv) == len(thin.faces)
    assert float(thin.face_normals.norm(dim=1).min()) > 1e-9
    thin.checked()


def test_a_wrapped_mesh_strays_no_farther_than_allowed():
    start = cuboid((0.6, 0.6, 0.6), (4, 4, 4))
    field, grid = mean_field([cuboid((0.4, 0.8, 0.3), (2, 1, 1))], generator(0, "template"))
    far = shrink_wrap(start, field, grid, steps=40)
    near = shrink_wrap(start, field, grid, steps=40, stray=0.02)
    assert float((far.vertices - start.vertices).norm(dim=1).max()) > 0.05
    assert float((near.vertices - start.vertices).norm(dim=1).max()) <= 0.02 + 1e-9
    assert_symmetric(near)


def test_a_flat_mesh_is_no_object():
    sheet = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.float64)
    with pytest.raises(
        InputError, match=r"signed_distance\(\): expected meshes that enclose"
    ) as got:
        fit_template([Mesh(sheet, torch.tensor([[0, 1, 2], [0, 2, 3]]))], generator(0, "t"))
    assert got.value.code == "E_MESH_EMPTY"


def test_a_fitted_template_repeats(fitted):
    again = fit_template(
        [open_box((0.4, 0.86, 0.32)), open_box((0.44, 0.84, 0.3), shift=3.0)],
        generator(0, "template"),
    )
    assert torch.equal(again.vertices, fitted.vertices)


def test_stretch():
    mesh = cuboid((0.4, 0.8, 0.3), (2, 3, 4))
    grown = stretch(mesh, torch.tensor([2.0, 1.0, 0.5]))
    torch.testing.assert_close(grown.extent, torch.tensor([0.8, 0.8, 0.15], dtype=torch.float64))
    assert grown.volume == pytest.approx(math.prod((0.8, 0.8, 0.15)))


def plane(place):
    """A body with wings at a place of its own."""
    wings = cuboid((0.9, 0.12, 0.04), (2, 1, 1))
    wings = wings.with_vertices(wings.vertices + torch.tensor([0.0, place, 0.0]))
    return joined(cuboid((0.14, 0.9, 0.14), (2, 1, 1)), wings)


def test_wings_that_lie_at_different_places_are_kept():
    """Their mean has no wings: the plane nearest to the others is the template."""
    fitted = fit_template([plane(-0.2), plane(0.0), plane(0.2)], generator(0, "template"))
    assert fitted.is_watertight()
    tips = fitted.vertices[fitted.vertices[:, 0].abs() > 0.7 * float(fitted.extent[0]) / 2]
    assert float(tips[:, 1].abs().max()) < 0.1  # one pair, that of the middle plane
    assert len(tips) > 100
