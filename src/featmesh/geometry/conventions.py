"""Other programs' poses and cameras, to and from ours (OpenCV axes, pixel corner; contracts 1).

Converters for the border only: nothing inside featmesh calls them. Each is a pure function of one
pose or one camera; the formulas are those of spec 2.2 and of the programs' own documentation.

=============  ===========================  =====================================================
program        camera axes (x, y, z)        what it calls a pose and a camera
=============  ===========================  =====================================================
OpenCV         right, down, forward         rotation vector and t; K, optionally integer centres
OpenGL         right, up, backward          cam_from_obj; 4x4 projection to clip coordinates
Blender        right, up, backward          ``camera.matrix_world`` (obj_from_cam); lens and shift
PyTorch3D      left, up, forward            R, T of row vectors ``X @ R + T``; screen-space camera
PASCAL3D+      (angles)                     azimuth, elevation, theta, distance, px, py, viewport
=============  ===========================  =====================================================
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featmesh.errors import InputError

from .camera import Camera
from .pose import Pose, so3_exp, so3_log
from .viewpoint import Viewpoint

VIEWPORT = 3000.0  # of PASCAL3D+, pixels per unit focal length; ObjectNet3D, ImageNet3D: 2000
SENSOR = 36.0  # millimetres, Blender's default sensor width


def to_opencv(cam_from_obj: Pose) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch 3"]]:
    """Return (rvec, tvec) as ``cv2.projectPoints`` takes them: radians, the unit of t."""
    return so3_log(cam_from_obj.R), cam_from_obj.t


def from_opencv(rvec: Float[Tensor, "*batch 3"], tvec: Float[Tensor, "*batch 3"]) -> Pose:
    """Return the ``cam_from_obj`` that ``cv2.solvePnP`` gave; the axes are ours."""
    return Pose(so3_exp(rvec), tvec)


def camera_to_opencv(camera: Camera, integer_centres: bool = False) -> Float[Tensor, "3 3"]:
    """Return K, pixels.

    Args:
        camera: ours, pixel (0, 0) is a corner.
        integer_centres: for functions that count pixel centres as integers (``cv2.remap``, BOP):
            the principal point then moves by half a pixel.
    """
    half = 0.5 if integer_centres else 0.0
    K = camera.K
    K[:2, 2] -= half
    return K


def camera_from_opencv(
    K: Float[Tensor, "3 3"], size: tuple[int, int], integer_centres: bool = False
) -> Camera:
    """Return the camera of an intrinsic matrix of pixels, ``size`` = (height, width).

    Raises:
        InputError: E_CAMERA.
    """
    own = K.clone().double()
    own[:2, 2] += 0.5 if integer_centres else 0.0
    return Camera.from_K(own, size)


def to_opengl(cam_from_obj: Pose) -> Pose:
    """Return the pose in a camera with x right, y up, z backward (OpenGL, NeRF, ARKit)."""
    return _flipped(cam_from_obj, (1.0, -1.0, -1.0))


def from_opengl(gl_from_obj: Pose) -> Pose:
    """Return ``cam_from_obj``, OpenCV axes, of a pose in OpenGL axes."""
    return _flipped(gl_from_obj, (1.0, -1.0, -1.0))


def camera_to_opengl(camera: Camera, near: float, far: float) -> Float[Tensor, "4 4"]:
    """Return the projection matrix from OpenGL camera axes to clip coordinates.

    After division by w, x and y run from -1 to 1 over the picture, y upwards; z from -1 at ``near``
    to 1 at ``far`` (units of t).

    Raises:
        InputError: E_CAMERA unless 0 < near < far.
    """
    if not 0 < near < far:
        raise _bad(f"0 < near < far, got {near:g} and {far:g}", "distances in front of the camera")
    w, h, depth = camera.width, camera.height, far - near
    rows = [
        [2 * camera.fx / w, 0.0, 1 - 2 * camera.cx / w, 0.0],
        [0.0, 2 * camera.fy / h, 2 * camera.cy / h - 1, 0.0],
        [0.0, 0.0, -(far + near) / depth, -2 * far * near / depth],
        [0.0, 0.0, -1.0, 0.0],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def camera_from_opengl(projection: Float[Tensor, "4 4"], size: tuple[int, int]) -> Camera:
    """Return the camera of a projection matrix, ``size`` = (height, width) of the picture.

    Raises:
        InputError: E_CAMERA.
    """
    h, w = size
    P = projection.double()
    fx, fy = float(P[0, 0]) * w / 2, float(P[1, 1]) * h / 2
    cx, cy = (1 - float(P[0, 2])) * w / 2, (1 + float(P[1, 2])) * h / 2
    return Camera(fx, fy, cx, cy, h, w).checked()


def to_blender(cam_from_obj: Pose) -> Float[Tensor, "*batch 4 4"]:
    """Return ``camera.matrix_world`` of a Blender scene whose world is the object frame."""
    return to_opengl(cam_from_obj).inverse().as_matrix()


def from_blender(matrix_world: Float[Tensor, "*batch 4 4"]) -> Pose:
    """Return ``cam_from_obj`` of a Blender camera, the object at the world's origin, unscaled."""
    return from_opengl(Pose.from_matrix(matrix_world).inverse())


def camera_to_blender(camera: Camera, sensor: float = SENSOR) -> tuple[float, float, float]:
    """Return (lens, shift_x, shift_y) of a Blender camera with sensor fit AUTO.

    Args:
        camera: with square pixels.
        sensor: sensor width, millimetres, of the picture's longer side; the lens is in millimetres.

    Raises:
        InputError: E_CAMERA where pixels are not square.
    """
    _check_square(camera)
    longest = max(camera.height, camera.width)
    shift_x = (camera.width / 2 - camera.cx) / longest
    shift_y = (camera.cy - camera.height / 2) / longest
    return camera.fx * sensor / longest, shift_x, shift_y


def camera_from_blender(
    lens: float, shift: tuple[float, float], size: tuple[int, int], sensor: float = SENSOR
) -> Camera:
    """Return the camera of a Blender lens; see :func:`camera_to_blender`.

    Raises:
        InputError: E_CAMERA.
    """
    h, w = size
    longest = max(size)
    f = lens * longest / sensor
    cx, cy = w / 2 - shift[0] * longest, h / 2 + shift[1] * longest
    return Camera(f, f, cx, cy, h, w).checked()


def to_pytorch3d(
    cam_from_obj: Pose,
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 3"]]:
    """Return (R, T) of PyTorch3D: ``X_view = X @ R + T``, +X left, +Y up, +Z into the scene."""
    view = _flipped(cam_from_obj, (-1.0, -1.0, 1.0))
    return view.R.transpose(-1, -2), view.t


def from_pytorch3d(R: Float[Tensor, "*batch 3 3"], T: Float[Tensor, "*batch 3"]) -> Pose:
    """Return ``cam_from_obj`` of PyTorch3D's R and T."""
    return _flipped(Pose(R.transpose(-1, -2), T), (-1.0, -1.0, 1.0))


def camera_to_pytorch3d(
    camera: Camera,
) -> tuple[Float[Tensor, " 2"], Float[Tensor, " 2"], Float[Tensor, " 2"]]:
    """Return (focal_length, principal_point, image_size) for ``in_ndc=False``, pixels.

    Screen coordinates begin at the top-left corner as ours: ``x = px - fx X / Z``. The image size
    is (height, width).
    """
    return (
        torch.tensor([camera.fx, camera.fy], dtype=torch.float64),
        torch.tensor([camera.cx, camera.cy], dtype=torch.float64),
        torch.tensor([camera.height, camera.width], dtype=torch.float64),
    )


def camera_from_pytorch3d(
    focal_length: Float[Tensor, " 2"],
    principal_point: Float[Tensor, " 2"],
    image_size: Float[Tensor, " 2"],
) -> Camera:
    """Return the camera of PyTorch3D's screen-space values, pixels; see the way out.

    Raises:
        InputError: E_CAMERA.
    """
    (fx, fy), (cx, cy) = focal_length.tolist(), principal_point.tolist()
    height, width = (round(v) for v in image_size.tolist())
    return Camera(fx, fy, cx, cy, height, width).checked()


@dataclass(frozen=True)
class Pascal3D:
    """One object's ``viewpoint`` record of PASCAL3D+; degrees, as in the file.

    Attributes:
        azimuth, elevation, theta: degrees; any turn, elevation also in [270, 360).
        distance: camera to object centre, object units.
        px, py: principal point, which is where the object's centre projects, pixels.
        focal: in units of the viewport.
        viewport: pixels per unit focal length: 3000, of ObjectNet3D and ImageNet3D 2000.
    """

    azimuth: float
    elevation: float
    theta: float
    distance: float
    px: float
    py: float
    focal: float = 1.0
    viewport: float = VIEWPORT


def from_pascal3d(record: Pascal3D, size: tuple[int, int]) -> tuple[Pose, Camera]:
    """Return the pose, t = (0, 0, distance), and the camera that belongs to it (spec 2.2).

    Args:
        record: with a distance above 0.
        size: (height, width) of the picture.

    Raises:
        InputError: E_CAMERA, also where the distance is not positive (coarse annotations).
    """
    if not record.distance > 0:
        raise _bad(
            f"a PASCAL3D+ distance above 0, got {record.distance:g}",
            "leave out objects with coarse annotations only",
        )
    f = record.focal * record.viewport
    camera = Camera(f, f, record.px, record.py, *size).checked()
    view = Viewpoint(
        math.radians(record.azimuth),
        math.radians(record.elevation),
        math.radians(record.theta),
        record.distance,
    )
    return view.to_pose(), camera


def to_pascal3d(cam_from_obj: Pose, camera: Camera, viewport: float = VIEWPORT) -> Pascal3D:
    """Return the PASCAL3D+ record of a pose.

    The record knows no principal point but the object's centre: angles and distance are those seen
    along the ray to t, and (px, py) is where it projects. Every pixel comes out again exactly where
    t lies on the optical axis, and to first order elsewhere.

    Raises:
        InputError: E_CAMERA where pixels are not square or the object is not in front.
    """
    _check_square(camera)
    centre, in_front = camera.project(cam_from_obj.t)
    if not bool(in_front):
        raise _bad(
            f"an object in front of the camera, got t {cam_from_obj.t.tolist()}",
            "check the sign of t",
        )
    view = Viewpoint.from_pose(cam_from_obj)
    px, py = centre.tolist()
    return Pascal3D(
        math.degrees(view.azimuth),
        math.degrees(view.elevation),
        math.degrees(view.theta),
        view.distance,
        px,
        py,
        camera.fx / viewport,
        viewport,
    )


def _flipped(pose: Pose, signs: tuple[float, float, float]) -> Pose:
    """Return the pose with the signs of its camera's axes changed."""
    s = torch.tensor(signs, dtype=pose.R.dtype, device=pose.R.device)
    return Pose(s[:, None] * pose.R, s * pose.t)


def _check_square(camera: Camera) -> None:
    if abs(camera.fx - camera.fy) > 1e-6 * camera.fx:
        raise _bad(
            f"square pixels, got fx {camera.fx:g} and fy {camera.fy:g}", "resample the photo first"
        )


def _bad(expected: str, hint: str) -> InputError:
    return InputError("E_CAMERA", f"conventions: expected {expected}; try: {hint}")
