"""Claims about correspondences: anchors lie where the camera sees them; hidden ones are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import aside, car_mesh, car_views, look

from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.geometry.template import cuboid
from featmesh.geometry.viewpoint import Viewpoint, ray_rotation
from featmesh.learn.correspondence import sample_of
from featmesh.render.rasterize import rasterize
from featmesh.views.record import View

CAMERA = Camera(420.0, 400.0, 170.0, 110.0, 240, 320)


def view_of(pose, camera=CAMERA, **changes):
    view = View(
        image=Path("none.png"),
        width=camera.width,
        height=camera.height,
        category="car",
        R=pose.R.numpy(),
        K=camera.K.numpy(),
        t=pose.t.numpy(),
        t_unit="object",
    )
    return replace(view, **changes)


def ellipsoid():
    """Convex, smooth, closed."""
    box = cuboid((2.0, 2.0, 2.0), (10, 18, 8))
    unit = box.vertices / box.vertices.norm(dim=1, keepdim=True)
    return Mesh(unit * torch.tensor([0.2, 0.44, 0.16], dtype=torch.float64), box.faces).normalised()


POSES = [
    aside(look(40, 15, 5, 1.6), CAMERA, (150, 100)),
    aside(look(250, 0, 0, 2.5), CAMERA, (220, 140)),
]


@pytest.mark.parametrize("pose", POSES)
def test_anchors_lie_where_the_camera_sees_them(pose):
    sample = sample_of(view_of(pose), car_mesh())
    pixels, _ = CAMERA.project(pose.apply(car_mesh().vertices))
    np.testing.assert_allclose(sample.anchors, pixels.numpy(), atol=1e-4)
    assert sample.anchors.dtype == np.float32
    low, high = pixels.amin(0), pixels.amax(0)
    assert sample.box == pytest.approx((*low.tolist(), *high.tolist()))


@pytest.mark.parametrize("pose", POSES)
def test_the_rotation_is_that_along_the_ray(pose):
    sample = sample_of(view_of(pose), car_mesh())
    upright = Viewpoint.from_pose(pose)
    assert sample.azimuth == pytest.approx(upright.azimuth)
    np.testing.assert_allclose(sample.R, (ray_rotation(pose.t) @ pose.R).numpy(), atol=1e-12)


def test_a_labelled_distance_in_metres():
    """t and the size are metres, the template's diagonal is 1: the pixels are the same."""
    pose, lhw = POSES[0], (4.2, 1.5, 1.8)
    diagonal = float(np.linalg.norm(lhw))
    metres = view_of(pose, t=pose.t.numpy() * diagonal, t_unit="metre", dimensions_lhw=lhw)
    one, two = sample_of(view_of(pose), car_mesh()), sample_of(metres, car_mesh())
    np.testing.assert_allclose(one.anchors, two.anchors, atol=1e-3)


def test_a_rendered_cad_of_another_size_stretches_the_template():
    pose, size = POSES[0], [0.42, 0.8, 0.36]
    sample = sample_of(view_of(pose, extras={"extent_xyz": size}), car_mesh())
    own = car_mesh()
    stretched = own.vertices * (torch.tensor(size, dtype=torch.float64) / own.extent)
    pixels, _ = CAMERA.project(pose.apply(stretched))
    np.testing.assert_allclose(sample.anchors, pixels.numpy(), atol=1e-4)


@pytest.mark.parametrize("pose", POSES)
def test_of_a_convex_object_the_front_facing_side_is_visible(pose):
    mesh = ellipsoid()
    sample = sample_of(view_of(pose), mesh)
    points = pose.apply(mesh.vertices)
    normals = mesh.vertex_normals @ pose.R.T
    cosine = -(normals * points).sum(1) / points.norm(dim=1)
    assert bool(sample.visible[(cosine > 0.15).numpy()].all())
    assert not bool(sample.visible[(cosine < -0.3).numpy()].any())
    assert 0.35 < sample.visible.mean() < 0.6


@pytest.mark.parametrize("pose", POSES)
def test_no_visible_anchor_lies_behind_the_surface(pose):
    mesh = car_mesh()
    sample = sample_of(view_of(pose), mesh)
    found = rasterize(pose.apply(mesh.vertices)[None], mesh.faces, CAMERA)
    depth = found.depth[0].numpy()
    x, y = np.floor(sample.anchors[sample.visible]).astype(int).T
    own = pose.apply(mesh.vertices)[:, 2].numpy()[sample.visible]
    before = depth[y, x]
    hidden = own > before + 0.06  # an edge length: corners of a face that is seen in part
    assert hidden.mean() < 0.05
    assert sample.visible.any()


def test_anchors_outside_the_photo_are_not_visible():
    pose = aside(look(80, 10, 0, 1.5), CAMERA, (10, 120))
    sample = sample_of(view_of(pose), car_mesh())
    assert sample.box[0] < 0
    x, y = sample.anchors[sample.visible].T
    assert (x >= 0).all() and (x < 320).all() and (y >= 0).all() and (y < 240).all()
    assert (sample.anchors[:, 0] < 0).any()


@pytest.mark.parametrize("pose", POSES)
def test_the_silhouette_covers_the_object_in_the_photo(pose):
    mesh = car_mesh()
    sample = sample_of(view_of(pose), mesh)
    rows, columns = sample.inside.shape
    assert (rows, columns) == (48, 64)
    found = rasterize(pose.apply(mesh.vertices)[None], mesh.faces, CAMERA.scale(64 / 320))
    wanted = (found.face_id[0] >= 0).numpy()
    assert (sample.inside & wanted).sum() / (sample.inside | wanted).sum() > 0.97


BOX = (60.0, 50.0, 220.0, 130.0)


def without_camera(azimuth, elevation=8.0, box=BOX, distance=2.5):
    pose = look(azimuth, elevation)
    return view_of(pose, K=None, t=None, t_unit=None, box=box, distance=distance)


@pytest.mark.parametrize("azimuth", [10, 75, 160, 300])
@pytest.mark.parametrize("box", [BOX, (0.0, 0.0, 100.0, 90.0), (40.0, 60.0, 300.0, 120.0)])
def test_without_a_camera_the_template_is_laid_into_the_box(azimuth, box):
    sample = sample_of(without_camera(azimuth, box=box), car_mesh())
    assert sample.box == box
    low, high = sample.anchors.min(0), sample.anchors.max(0)
    np.testing.assert_allclose([*low, *high], box, atol=1e-3)
    view = without_camera(azimuth)
    np.testing.assert_array_equal(sample.R, view.R)
    assert np.degrees(sample.azimuth) == pytest.approx(azimuth)


def test_without_a_camera_the_fitted_one_is_the_true_one_where_there_is_one():
    """Of a view along the ray to the object, whose box is its own, nothing needs stretching."""
    camera = Camera(500.0, 500.0, 160.0, 120.0, 240, 320)
    pose = look(50, 12, 0, 2.5)
    known = sample_of(view_of(pose, camera), car_mesh())
    fitted = sample_of(
        view_of(pose, camera, K=None, t=None, t_unit=None, box=known.box, distance=2.5), car_mesh()
    )
    np.testing.assert_allclose(fitted.anchors, known.anchors, atol=0.3)
    assert (fitted.visible == known.visible).mean() > 0.97


def test_without_a_box_the_photo_is_the_box_and_without_a_distance_one_is_taken():
    view = without_camera(60, box=None, distance=None)
    sample = sample_of(view, car_mesh())
    assert sample.box == (0.0, 0.0, 320.0, 240.0)
    close = sample_of(without_camera(60, distance=0.1), car_mesh())  # inside the car: pushed out
    assert np.isfinite(close.anchors).all() and close.visible.any()


def test_views_from_a_file_have_their_names_and_files(tmp_path):
    view = car_views(tmp_path, 3)[1]
    sample = sample_of(view, car_mesh())
    assert (sample.image, sample.mask, sample.name) == (view.image, None, "model 1")
    pose = Pose(torch.from_numpy(view.R), torch.from_numpy(view.t))
    pixels, _ = view.camera.project(pose.apply(car_mesh().vertices))
    np.testing.assert_allclose(sample.anchors, pixels.numpy(), atol=1e-4)


def test_an_object_of_known_shape_is_seen_in_that_shape():
    """Anchors are projections of the object's own vertices, stretched as the record says."""
    mesh, pose = car_mesh(), look(50, 10, 2, 2.5)
    own = mesh.vertices.numpy() * [0.9, 1.05, 1.2] + 0.01
    view = view_of(pose, model_name="tall", extras={"stretch": [1.0, 1.0, 1.1]})
    sample = sample_of(view, mesh, {"tall": own})
    points, _ = CAMERA.project(pose.apply(torch.from_numpy(own * [1.0, 1.0, 1.1])))
    assert np.abs(sample.anchors - points.numpy()).max() < 1e-3
    other = sample_of(replace(view, model_name="unknown"), mesh, {"tall": own})
    mean, _ = CAMERA.project(pose.apply(mesh.vertices))
    assert np.abs(other.anchors - mean.numpy()).max() < 1e-3


def test_a_known_shape_fits_its_box_without_stretching():
    """Without a camera the shape is laid into the box: the right one needs no change of height."""
    mesh, pose = car_mesh(), look(70, 8, 0, 2.2)
    own = mesh.vertices.numpy() * [1.0, 0.9, 1.3]
    points, _ = CAMERA.project(pose.apply(torch.from_numpy(own)))
    low, high = points.numpy().min(0), points.numpy().max(0)
    view = view_of(pose, K=None, t=None, distance=2.2, box=(*low, *high), model_name="tall")
    errors = {
        name: np.abs(sample_of(view, mesh, shapes).anchors - points.numpy()).max()
        for name, shapes in {"own": {"tall": own}, "mean": {}}.items()
    }
    assert errors["own"] < 1.0 < errors["mean"]
