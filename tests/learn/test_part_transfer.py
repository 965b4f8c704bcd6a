"""Claims about carrying parts over from another mesh: by where they lie, not by their names."""

import numpy as np
import pytest
import torch
from fixtures import car_mesh
from part_scenes import NAMES, part_of, true_labels

from featmesh.errors import InputError
from featmesh.geometry.mesh_groups import NamedFaces
from featmesh.learn.part_transfer import keypoints_from_mesh, labels_from_mesh


def stretched():
    """A longer, lower car in metres, somewhere else; as many faces."""
    mesh = car_mesh()
    size = torch.tensor([4.4, 5.2, 4.0], dtype=torch.float64)
    return mesh.with_vertices(mesh.vertices * size + torch.tensor([0.0, 1.0, 0.7]).double())


def named(mesh, names=("", *NAMES)) -> NamedFaces:
    part = part_of(car_mesh().corners.mean(1)).numpy()
    return NamedFaces(mesh, names, part)


def agreement(labels) -> float:
    """The share of vertices labelled as the car's parts are."""
    return float((labels.hard == true_labels().hard).double().mean())


def test_the_same_mesh_gives_its_own_labels() -> None:
    found = labels_from_mesh(car_mesh(), named(car_mesh()), fit=False)
    assert found.names == NAMES
    assert agreement(found) > 0.93


def test_another_shape_in_another_unit_gives_its_labels() -> None:
    found = labels_from_mesh(car_mesh(), named(stretched()))
    assert agreement(found) > 0.9
    x = car_mesh().vertices[:, 0]
    assert bool((x[found.hard == 2] > 0).all()) and bool((x[found.hard == 3] < 0).all())


def test_names_are_chosen_and_left_out() -> None:
    source = named(car_mesh(), ("none", "_hood", "a", "b", "wheel"))
    assert labels_from_mesh(car_mesh(), source, fit=False).names == ("a", "b", "wheel")
    found = labels_from_mesh(car_mesh(), source, ("wheel", "_hood"), fit=False)
    assert found.names == ("wheel", "_hood")
    assert torch.equal(found.hard == 1, true_labels().hard == 4) or agreement(found) > 0.5
    with pytest.raises(InputError, match=r"E_LABELS.*got roof"):
        labels_from_mesh(car_mesh(), source, ("roof",))


def test_key_points_lie_where_they_lay() -> None:
    mesh, other = car_mesh(), stretched()
    index = torch.tensor([5, 60, 200, 333, 480])
    names = [f"right_{k}" for k in range(5)]
    places = other.vertices[index]
    points = dict(zip(names, places.tolist(), strict=True))
    found = keypoints_from_mesh(mesh, other, points)
    assert found.names == tuple(names)
    apart = (found.on(mesh) - mesh.vertices[index]).norm(dim=1)
    assert float(apart.max()) < 0.06 and float(apart.mean()) < 0.03
    same_side = found.on(mesh)[:, 0] * mesh.vertices[index, 0]
    assert float(same_side.min()) > -1e-3
    exact = keypoints_from_mesh(mesh, mesh, {"a": mesh.vertices[7].tolist()}, fit=False)
    assert np.allclose(exact.on(mesh).numpy(), mesh.vertices[7].numpy(), atol=1e-6)
