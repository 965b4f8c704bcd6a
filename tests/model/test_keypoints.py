"""Claims about key points: the nearest place of the surface, wherever the mesh goes."""

import pytest
import torch
from fixtures import car_mesh

from featmesh.errors import InputError
from featmesh.model.keypoints import KeyPoints


def test_points_of_the_surface_are_found_where_they_are() -> None:
    mesh = car_mesh()
    rng = torch.Generator().manual_seed(0)
    bary = torch.rand(12, 3, generator=rng, dtype=torch.float64)
    bary = bary / bary.sum(1, keepdim=True)
    faces = torch.randint(len(mesh.faces), (12,), generator=rng)
    places = (mesh.corners[faces] * bary[..., None]).sum(1)
    names = tuple(f"p{k}" for k in range(12))
    found = KeyPoints.nearest(mesh, names, places)
    assert float((found.on(mesh) - places).norm(dim=1).max()) < 1e-6
    # they ride along with the mesh
    moved = mesh.with_vertices(mesh.vertices * 2 + 1)
    assert torch.allclose(found.on(moved), places * 2 + 1, atol=1e-5)


def test_points_beside_the_surface_go_to_the_nearest_place() -> None:
    mesh = car_mesh()
    rng = torch.Generator().manual_seed(1)
    places = torch.rand(6, 3, generator=rng, dtype=torch.float64) - 0.5
    found = KeyPoints.nearest(mesh, tuple("abcdef"), places)
    away = (found.on(mesh) - places).norm(dim=1)
    dense = (mesh.corners[:, None] * _grid(12)[None, :, :, None]).sum(2).reshape(-1, 3)
    nearest = torch.cdist(places, dense).amin(1)
    assert bool((away <= nearest + 1e-9).all())
    assert bool((away >= nearest - 0.005).all())
    assert float(found.bary.min()) >= 0


def _grid(n: int) -> torch.Tensor:
    rows = [[a, b, n - a - b] for a in range(n + 1) for b in range(n + 1 - a)]
    return torch.tensor(rows, dtype=torch.float64) / n


def test_points_of_another_template_are_refused() -> None:
    mesh = car_mesh()
    one = KeyPoints(("a",), torch.tensor([3]), torch.tensor([[0.2, 0.3, 0.5]]))
    assert one.checked(mesh) is one
    wrong = [
        KeyPoints(("a",), torch.tensor([len(mesh.faces)]), one.bary),
        KeyPoints(("a", "b"), one.faces, one.bary),
        KeyPoints(("a",), one.faces, one.bary * 2),
    ]
    for points in wrong:
        with pytest.raises(InputError, match="E_KEYPOINTS"):
            points.checked(mesh)
