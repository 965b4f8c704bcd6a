"""Claims about other programs' conventions; their formulas are written out here again."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.conventions import (
    Pascal3D,
    camera_from_blender,
    camera_from_opencv,
    camera_from_opengl,
    camera_from_pytorch3d,
    camera_to_blender,
    camera_to_opencv,
    camera_to_opengl,
    camera_to_pytorch3d,
    from_blender,
    from_opencv,
    from_opengl,
    from_pascal3d,
    from_pytorch3d,
    to_blender,
    to_opencv,
    to_opengl,
    to_pascal3d,
    to_pytorch3d,
)
from featmesh.geometry.pose import Pose
from featmesh.geometry.rotations import geodesic_angle

D = torch.float64
CAMERA = Camera(900.0, 880.0, 410.0, 300.0, 640, 800)
SQUARE = Camera(900.0, 900.0, 410.0, 300.0, 640, 800)
UPRIGHT = Camera(900.0, 900.0, 290.0, 410.0, 800, 640)
POINTS = torch.tensor(
    [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1], [0.2, -0.3, 0.15]], dtype=D
)
poses = st.tuples(*[st.floats(-1, 1)] * 6).map(
    lambda v: Pose.exp(
        torch.tensor([1.7 * v[0], 1.7 * v[1], 1.7 * v[2], v[3], v[4], 4 + v[5]], dtype=D)
    )
)
records = st.tuples(st.floats(0, 359.9), st.floats(-85, 85), st.floats(-170, 170), st.floats(2, 9))


def seen(pose, camera):
    return camera.project(pose.apply(POINTS))[0]


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@given(poses)
def test_opencv(pose):
    rvec, tvec = to_opencv(pose)
    angle = float(rvec.norm())
    k = rvec / max(angle, 1e-12)
    points = torch.stack(
        [  # Rodrigues' formula
            p * math.cos(angle)
            + torch.linalg.cross(k, p) * math.sin(angle)
            + k * (k @ p) * (1 - math.cos(angle))
            for p in POINTS
        ]
    )
    pixels = (points + tvec) @ camera_to_opencv(CAMERA).T
    close(pixels[:, :2] / pixels[:, 2:], seen(pose, CAMERA), 1e-6)
    close(from_opencv(rvec, tvec).as_matrix(), pose.as_matrix(), 1e-7)


def test_opencv_counts_pixel_centres_as_integers_where_told():
    """The centre of the first pixel is .5 with us, 0 with cv2.remap and BOP."""
    K = camera_to_opencv(CAMERA, integer_centres=True)
    first = CAMERA.unproject(torch.tensor([0.5, 0.5], dtype=D))
    close((K @ first)[:2], torch.zeros(2, dtype=D))
    assert camera_from_opencv(K, (640, 800), integer_centres=True) == CAMERA
    assert camera_from_opencv(camera_to_opencv(CAMERA), (640, 800)) == CAMERA
    close(camera_to_opencv(CAMERA), CAMERA.K, 0)


def clip_to_pixels(clip, height, width):
    """OpenGL's viewport transform, the picture's origin at the top."""
    ndc = clip[:, :3] / clip[:, 3:]
    return torch.stack([(ndc[:, 0] + 1) * width / 2, (1 - ndc[:, 1]) * height / 2], 1)


@given(poses)
def test_opengl(pose):
    in_gl = to_opengl(pose).apply(POINTS)
    assert bool((in_gl[:, 2] < 0).all())  # looks along -z
    homogeneous = torch.cat([in_gl, torch.ones(len(in_gl), 1, dtype=D)], 1)
    clip = homogeneous @ camera_to_opengl(CAMERA, 0.5, 20.0).T
    close(clip_to_pixels(clip, 640, 800), seen(pose, CAMERA))
    close(from_opengl(to_opengl(pose)).as_matrix(), pose.as_matrix())
    assert float(torch.linalg.det(to_opengl(pose).R)) == pytest.approx(1)


def test_opengl_depth_runs_from_near_to_far():
    P = camera_to_opengl(CAMERA, 0.5, 20.0)
    for z, wanted in ((-0.5, -1.0), (-20.0, 1.0)):
        clip = P @ torch.tensor([0.3, 0.1, z, 1.0], dtype=D)
        assert float(clip[2] / clip[3]) == pytest.approx(wanted)
    back = camera_from_opengl(P, (640, 800))
    assert (back.fx, back.fy, back.cx, back.cy) == pytest.approx((900, 880, 410, 300))
    for near, far in ((0.0, 1.0), (2.0, 1.0), (math.nan, 1.0)):
        with pytest.raises(InputError, match="E_CAMERA: conventions: expected 0 < near < far, got"):
            camera_to_opengl(CAMERA, near, far)


@given(poses)
def test_blender_pose(pose):
    """matrix_world places the camera: x right, y up, looking along its -z."""
    world = to_blender(pose)
    centre = pose.inverse().apply(torch.zeros(1, 3, dtype=D))[0]
    close(world[:3, 3], centre)
    close(world[:3, :3] @ torch.tensor([0.0, 0.0, -1.0], dtype=D), pose.R.T[:, 2])
    close(world[:3, :3] @ torch.tensor([0.0, 1.0, 0.0], dtype=D), -pose.R.T[:, 1])
    close(from_blender(world).as_matrix(), pose.as_matrix())


@pytest.mark.parametrize("camera", [SQUARE, UPRIGHT], ids=["landscape", "portrait"])
def test_blender_lens(camera):
    lens, shift_x, shift_y = camera_to_blender(camera)
    assert lens == pytest.approx(900 / 800 * 36)
    # K of a Blender camera, sensor fit AUTO: shifts count in the longer side
    assert camera.width / 2 - shift_x * 800 == pytest.approx(camera.cx)
    assert camera.height / 2 + shift_y * 800 == pytest.approx(camera.cy)
    assert (shift_x > 0) == (camera.cx < camera.width / 2)
    size = (camera.height, camera.width)
    back = camera_from_blender(lens, (shift_x, shift_y), size)
    assert (back.fx, back.fy) == pytest.approx((camera.fx, camera.fy))
    assert (back.cx, back.cy) == pytest.approx((camera.cx, camera.cy))
    twice = camera_from_blender(50.0, (0.0, 0.0), (480, 640), sensor=25.0)
    assert (twice.fx, twice.cx, twice.cy) == (1280, 320, 240)


@given(poses)
def test_pytorch3d(pose):
    """X @ R + T with +X left, +Y up, +Z in; x_screen = -f X / Z + px."""
    R, T = to_pytorch3d(pose)
    X = POINTS @ R + T
    (fx, fy), (px, py), (height, width) = camera_to_pytorch3d(CAMERA)
    screen = torch.stack([px - fx * X[:, 0] / X[:, 2], py - fy * X[:, 1] / X[:, 2]], 1)
    close(screen, seen(pose, CAMERA))
    assert (float(height), float(width)) == (640, 800)
    assert float(torch.linalg.det(R)) == pytest.approx(1)
    close(from_pytorch3d(R, T).as_matrix(), pose.as_matrix())
    assert camera_from_pytorch3d(*camera_to_pytorch3d(CAMERA)) == CAMERA


def rx(a):
    return torch.tensor(
        [[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]], dtype=D
    )


def rz(a):
    return torch.tensor(
        [[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]], dtype=D
    )


def pascal_pixels(record):
    """Spec 2.2, line by line: a y-up camera that looks along -z, its picture turned by theta."""
    a, e, h = (math.radians(v) for v in (record.azimuth, record.elevation, record.theta))
    place = [math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)]
    C = record.distance * torch.tensor(place, dtype=D)
    X = (POINTS - C) @ (rx(-(math.pi / 2 - e)) @ rz(-a)).T
    u = record.viewport * record.focal * X[:, 0] / -X[:, 2]
    v = record.viewport * record.focal * X[:, 1] / -X[:, 2]
    u, v = math.cos(h) * u - math.sin(h) * v, math.sin(h) * u + math.cos(h) * v
    return torch.stack([record.px + u, record.py - v], 1)


@given(records, st.sampled_from([3000.0, 2000.0]))
def test_pascal3d(angles, viewport):
    record = Pascal3D(*angles, px=390.0, py=330.0, viewport=viewport)
    pose, camera = from_pascal3d(record, (640, 800))
    close(seen(pose, camera), pascal_pixels(record), 1e-8)
    assert (camera.fx, camera.cx, camera.cy) == (viewport, 390.0, 330.0)
    assert pose.t.tolist() == [0, 0, record.distance]
    back = to_pascal3d(pose, camera, viewport)
    assert abs((back.azimuth - record.azimuth + 180) % 360 - 180) < 1e-7
    assert (back.elevation, back.theta, back.distance) == pytest.approx(angles[1:], abs=1e-7)
    assert (back.px, back.py, back.focal) == pytest.approx((390, 330, 1))


@given(records)
def test_pascal3d_is_the_lineages_pytorch3d(angles):
    """Its camera draws the same picture, mirrored in x and y about the principal point."""
    record = Pascal3D(*angles, px=390.0, py=330.0)
    a, e, h = (math.radians(v) for v in angles[:3])
    d = record.distance
    # y-up world: vertices (x, y, z) -> (x, z, -y); camera_position_from_spherical_angles
    vertices = torch.stack([POINTS[:, 0], POINTS[:, 2], -POINTS[:, 1]], 1)
    place = [math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)]
    C = d * torch.tensor(place, dtype=D)
    z = -C / C.norm()  # look_at_rotation: columns are the camera's axes
    x = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=D), z)
    x = x / x.norm()
    R = torch.stack([x, torch.linalg.cross(z, x), z], 1) @ rz(h)
    X = vertices @ R + -C @ R
    x_screen = record.px - 3000 * X[:, 0] / X[:, 2]
    y_screen = record.py - 3000 * X[:, 1] / X[:, 2]
    close(torch.stack([x_screen, y_screen], 1), pascal_pixels(record), 1e-8)
    # the lineage's sign: +f X / Z + px, "mirrored", undone by 2 pp - p
    mirrored = torch.stack([2 * record.px - x_screen, 2 * record.py - y_screen], 1)
    hack = torch.tensor([2 * record.px, 2 * record.py], dtype=D) - mirrored
    pose, camera = from_pascal3d(record, (640, 800))
    close(hack, seen(pose, camera), 1e-8)


def test_of_an_object_off_the_axis_pascal3d_keeps_the_rotation_seen_along_its_ray():
    pose = Pose.exp(torch.tensor([0.3, 1.9, 0.4, 0.8, -0.3, 4.0], dtype=D))
    record = to_pascal3d(pose, SQUARE)
    centre = SQUARE.project(pose.t)[0]
    assert (record.px, record.py) == pytest.approx(tuple(centre.tolist()))
    assert record.distance == pytest.approx(float(pose.t.norm()))
    assert record.focal * record.viewport == pytest.approx(900)
    back, _ = from_pascal3d(record, (640, 800))
    ray = pose.t / pose.t.norm()
    between = math.acos(float(ray[2]))  # by as much as the ray leaves the axis
    assert float(geodesic_angle(back.R, pose.R)) == pytest.approx(between, abs=1e-9)


@pytest.mark.parametrize("distance", [0.0, -1.0, math.nan])
def test_a_coarse_annotation_has_no_pose(distance):
    with pytest.raises(InputError, match=r"PASCAL3D\+ distance above 0, got") as got:
        from_pascal3d(Pascal3D(0.0, 0.0, 0.0, distance, 400.0, 320.0), (640, 800))
    assert got.value.code == "E_CAMERA"


def test_what_a_convention_cannot_say_is_refused():
    pose = Pose.exp(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -2.0], dtype=D))
    with pytest.raises(InputError, match="square pixels, got fx 900 and fy 880; try:"):
        camera_to_blender(CAMERA)
    with pytest.raises(InputError, match="square pixels"):
        to_pascal3d(pose, CAMERA)
    with pytest.raises(InputError, match="in front of the camera, got t"):
        to_pascal3d(pose, SQUARE)
    with pytest.raises(InputError, match="E_CAMERA"):
        camera_from_blender(math.nan, (0.0, 0.0), (480, 640))
