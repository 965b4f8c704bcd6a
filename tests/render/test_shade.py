import pytest
import torch
from scenes import CAMERA, car, look, place, random_poses, rng, shown, smooth_features

from featmesh.geometry.camera import Camera
from featmesh.render.fragments import Fragments
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import (
    barycentric,
    interpolate,
    pixel_rays,
    render_depth,
    render_features,
    render_labels,
    render_mask,
)

SMALL = Camera(20.0, 20.0, 4.0, 4.0, 8, 8)


def _frozen(points, faces, face_id, camera):
    bary = barycentric(points, faces, face_id, camera)
    return Fragments(face_id, bary, torch.zeros_like(bary[..., 0]))


@pytest.mark.parametrize("seed", range(4))
def test_interior_gradient_of_the_pose_equals_finite_differences(seed):
    vertices, faces = car(12)
    features = smooth_features(vertices, 8, seed)
    start = random_poses(1, seed)
    face_id = rasterize(place(vertices, start), faces, CAMERA).face_id
    target = torch.randn(*face_id.shape, 8, generator=rng(seed), dtype=torch.float64)

    def loss(twist):
        points = place(vertices, start.update(twist[None]))
        image = interpolate(features, faces, _frozen(points, faces, face_id, CAMERA))
        return (image - target).square().sum()

    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(twist), twist)
    steps = 1e-6 * torch.eye(6, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([(loss(step) - loss(-step)) / 2e-6 for step in steps])
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5 * float(expected.norm()))


def test_gradients_of_vertices_and_features_pass_gradcheck():
    points, faces = _patch()
    face_id = rasterize(points, faces, SMALL).face_id
    assert face_id.unique().numel() >= 4
    features = torch.randn(points.shape[1], 2, generator=rng(0), dtype=torch.float64)

    def image(points, features):
        fragments = _frozen(points, faces, face_id, SMALL)
        seen = interpolate(features, faces, fragments)
        depth = render_depth(points, faces, fragments)
        return seen, depth[fragments.covered]

    inputs = (points.requires_grad_(), features.requires_grad_())
    assert torch.autograd.gradcheck(image, inputs)


def _patch():
    """A tilted, bent patch of four faces, no edge through a pixel centre."""
    points = torch.tensor(
        [
            [-0.61, -0.53, 5.1],
            [0.57, -0.67, 5.6],
            [-0.71, 0.59, 5.3],
            [0.66, 0.63, 4.8],
            [0.03, 0.07, 4.6],
        ]
    )
    faces = torch.tensor([[0, 4, 1], [1, 4, 3], [3, 4, 2], [2, 4, 0]])
    return points.double()[None], faces


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", ["two corners equal", "one point", "line", "edge-on", "sliver"])
def test_degenerate_faces_have_finite_values_and_gradients(shape, dtype):
    corners = {
        "two corners equal": [[0, 0, 5], [1, 0, 5], [1, 0, 5]],
        "one point": [[0.1, 0.1, 5], [0.1, 0.1, 5], [0.1, 0.1, 5]],
        "line": [[-1, 0, 5], [0, 0, 5], [1, 0, 5]],
        "edge-on": [[0, 0, 4], [0, 0, 5], [0, 0, 6]],
        "sliver": [[-1, 0, 5], [1, 0, 5], [0, 1e-12, 5]],
    }[shape]
    points = torch.tensor(corners, dtype=dtype)[None].requires_grad_()
    faces = torch.tensor([[0, 1, 2]])
    everywhere = torch.zeros(1, 8, 8, dtype=torch.int64)
    fragments = _frozen(points, faces, everywhere, SMALL)
    assert ((fragments.bary >= 0) & (fragments.bary <= 1)).all()
    torch.testing.assert_close(fragments.bary.sum(-1), torch.ones(1, 8, 8, dtype=dtype))
    depth = render_depth(points, faces, fragments)
    assert ((depth > 3.99) & (depth < 6.01)).all()
    (fragments.bary[..., 0].sum() + depth.square().sum()).backward()
    assert points.grad.isfinite().all()


def test_barycentrics_are_those_of_the_homogeneous_edge_functions():
    points, faces = _patch()
    fragments = rasterize(points, faces, SMALL)
    rays = torch.nn.functional.pad(pixel_rays(SMALL, points), (0, 1), value=1.0)
    seen = fragments.covered[0]
    a, b, c = points[0][faces[fragments.face_id[0][seen]]].unbind(1)
    cross = torch.linalg.cross
    w = torch.stack([(rays[seen] * n).sum(-1) for n in (cross(b, c), cross(c, a), cross(a, b))], 1)
    torch.testing.assert_close(fragments.bary[0][seen], w / w.sum(1, keepdim=True))


def test_far_objects_of_tiny_faces_keep_their_precision_in_float32():
    vertices, faces = car(20)
    points, _, _ = shown(vertices, faces, look(0.5, 0.2, 0.0, 40.0))
    camera = CAMERA.zoom(16.0)
    face_id = rasterize(points, faces, camera).face_id
    exact = barycentric(points, faces, face_id, camera)
    rounded = barycentric(points.float(), faces, face_id, camera)
    assert (exact - rounded).abs().quantile(0.99) < 5e-3


def test_interpolation_of_tables_common_and_of_each_picture_agree():
    vertices, faces = car(6)
    features = smooth_features(vertices, 5)
    fragments = rasterize(place(vertices, random_poses(3, 0)), faces, CAMERA)
    common = interpolate(features, faces, fragments)
    each = interpolate(
        features.expand(3, -1, -1) * torch.arange(1, 4)[:, None, None], faces, fragments
    )
    torch.testing.assert_close(each, common * torch.arange(1, 4)[:, None, None, None])
    assert (common[~fragments.covered] == 0).all()


def test_rendered_features_are_not_normalised_again_and_show_the_background():
    vertices, faces = car(6)
    features = smooth_features(vertices, 5)
    fragments = rasterize(*shown(vertices, faces, look(0.3, 0.2)))
    background = torch.arange(5.0)
    image = render_features(features, faces, fragments, background)
    assert (image[~fragments.covered] == background).all()
    assert torch.equal(
        image[fragments.covered], interpolate(features, faces, fragments)[fragments.covered]
    )
    assert (image[fragments.covered].norm(dim=-1) < 1).any()
    plain = render_features(features, faces, fragments)
    assert (plain[~fragments.covered] == 0).all()


def test_depth_mask_and_labels():
    points, faces = _patch()
    fragments = rasterize(points, faces, SMALL)
    assert torch.equal(render_depth(points, faces, fragments), fragments.depth)
    assert torch.equal(render_mask(fragments), fragments.face_id >= 0)
    labels = render_labels(torch.arange(10, 15), faces, fragments)
    assert labels[0, 4, 4] == 14  # the middle
    assert (labels[~fragments.covered] == -1).all()
    assert set(labels.unique().tolist()) == {-1, 10, 11, 12, 13, 14}
    nearest = fragments.bary.argmax(-1)[fragments.covered]
    vertex = faces[fragments.face_id[fragments.covered], nearest]
    assert torch.equal(labels[fragments.covered], vertex + 10)
