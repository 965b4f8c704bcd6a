"""Points of the visible surface between the anchors."""

import numpy as np
import torch
from fixtures import CELLS, box_of, car_mesh, look

from featmesh.draws import generator
from featmesh.learn.surface_points import surface_points

MESH = car_mesh()


def seen():
    pose = look(40.0, 15.0)
    anchors, _ = CELLS.scale(8.0).project(pose.apply(MESH.vertices))
    facing = (MESH.vertex_normals @ pose.R.T)[:, 2] < -0.2
    return pose, anchors.float().numpy(), facing.numpy()


def test_points_lie_where_the_surface_is_seen() -> None:
    pose, anchors, visible = seen()
    found = surface_points(anchors, visible, MESH.faces.numpy(), 500, generator(0, "points"))
    assert len(found.face) == len(found.pixels) == 500
    assert visible[MESH.faces[found.face]].all()
    at = (MESH.corners[found.face] * found.bary[..., None]).sum(1)
    exact, _ = CELLS.scale(8.0).project(pose.apply(at))
    assert (found.pixels - exact).norm(dim=1).max() < 0.3  # pixels; perspective within a face
    x0, y0, x1, y1 = box_of(pose, CELLS.scale(8.0))
    assert (found.pixels.amin(0) > torch.tensor([x0 - 1, y0 - 1])).all()
    assert (found.pixels.amax(0) < torch.tensor([x1 + 1, y1 + 1])).all()


def test_the_nearest_vertex_is_the_heaviest_corner() -> None:
    _, anchors, visible = seen()
    found = surface_points(anchors, visible, MESH.faces.numpy(), 200, generator(0, "points"))
    nearest = found.nearest_vertex(MESH.faces)
    assert visible[nearest].all()
    corner = (MESH.faces[found.face] == nearest[:, None]).float().argmax(1)
    assert torch.equal(corner, found.bary.argmax(1))


def test_the_same_key_draws_the_same_points() -> None:
    _, anchors, visible = seen()
    one, two, other = (
        surface_points(anchors, visible, MESH.faces.numpy(), 50, generator(k, "points"))
        for k in (1, 1, 2)
    )
    assert torch.equal(one.pixels, two.pixels) and not torch.equal(one.pixels, other.pixels)


def test_where_nothing_is_seen_there_are_no_points() -> None:
    _, anchors, visible = seen()
    found = surface_points(
        anchors, np.zeros_like(visible), MESH.faces.numpy(), 50, generator(0, "points")
    )
    assert found.face.shape == (0,) and found.pixels.shape == (0, 2)
    assert found.nearest_vertex(MESH.faces).shape == (0,)
