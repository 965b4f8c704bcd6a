"""Conventional networks measured as the method is: the same photos, boxes, cameras and crops."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from featmesh.errors import CheckpointError
from featmesh.files import read_json
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Box, Crop, check_box
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint, ray_rotation
from featmesh.inference.result import Estimate
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample
from featmesh.stopwatch import Stopwatch

if TYPE_CHECKING:
    from featmesh.model.direct import DirectModel

STEPS = 12  # that placing takes to come to rest
NEAREST = 0.75  # object units; nearer the camera would be inside the object

Estimator = Callable[..., Estimate]


def opened(name_or_folder: str | Path, estimate: Estimator) -> tuple[Any, Estimator]:
    """Return a model, and what estimates with it: of a category, what is given; else its own.

    Args:
        name_or_folder: a bundled model, a category model's folder, or that of a conventional
            network (``featmesh train --method``).
        estimate: for category models.

    Raises:
        CheckpointError: as of :func:`featmesh.load`.
    """
    manifest = Path(name_or_folder) / "model.json"
    if manifest.is_file() and read_json(manifest).get("kind") == "direct":
        from featmesh.model.direct import load_direct

        return load_direct(name_or_folder), estimate_direct
    from featmesh.model.checkpoint import load

    return load(name_or_folder), estimate


def estimate_direct(
    model: "DirectModel",
    photo: Photo,
    box: Box | None = None,
    camera: Camera | None = None,
    flip: bool = False,
) -> Estimate:
    """Return what a conventional network says of the object in a box.

    The network says the rotation along the ray to the object's centre. Where the focal length is
    known, that centre lies where the mean surface, so turned, fills the box; else at the box's
    centre, for that is what rotations without a camera are compared by. The box given
    is the estimate's, the score that of :meth:`featmesh.model.direct.DirectModel.rotations`.

    Args:
        model: from :func:`featmesh.model.direct.load_direct`.
        photo: from :func:`featmesh.read_photo`.
        box: (x0, y0, x1, y1) around the object, photo pixels.
        camera: of the whole photo; None takes the photo's own, or else assumes one.
        flip: whether to answer for the crop and its mirror image together.

    Raises:
        CheckpointError: E_CKPT_PART without a box: such a network looks for no object.
        InputError: E_IMG_FORMAT, E_BOX or E_CAMERA.
    """
    from featmesh.inference.estimator import lens_of
    from featmesh.photo.resize import squeezed

    if box is None:
        raise CheckpointError(
            "E_CKPT_PART",
            "estimate_direct(): expected a box, got none, and a network without a mesh finds no "
            "objects; try: without --locate",
        )
    clock, lens = Stopwatch(), lens_of(photo, camera, "pose")
    box, clipped = check_box(box, photo.height, photo.width)
    with clock("features"):
        if model.config.kind == "nearest":
            pixels = squeezed(photo.pixels, box, model.size)
        else:
            pixels, _ = resample(photo, Crop.from_box(lens.camera, box, model.size))
        R, sure = model.rotations(torch.from_numpy(pixels)[None], flip)
    pose = placed(R[0], model.template.vertices, lens.camera, box, not lens.known)
    return Estimate(
        "ok",
        model.category,
        pose,
        viewpoint=Viewpoint.from_pose(pose),
        box=box,
        score=float(sure[0]),
        camera=lens.camera,
        camera_source=lens.source,
        seconds=dict(clock.seconds),
        warnings=("box clipped to the photo",) if clipped else (),
        mesh=model.template,
    )


def placed(
    R: Float64[Tensor, "3 3"],
    vertices: Float64[Tensor, "v 3"],
    camera: Camera,
    box: Box,
    centred: bool,
) -> Pose:
    """Return the pose at which a surface seen in a rotation is as large in a photo as a box.

    Args:
        R: seen along the ray to the object's centre.
        vertices: of the surface, object units.
        camera: of the photo.
        box: photo pixels.
        centred: whether the object's centre, not that of its outline, lies at the box's centre.
    """
    low, high = torch.tensor(box, dtype=torch.float64).view(2, 2)
    aim, away = (low + high) / 2, 3.0
    for _ in range(STEPS):
        ray = camera.unproject(aim)
        t = ray / ray.norm() * away
        pose = Pose(ray_rotation(t).T @ R, t)
        drawn, _ = camera.project(pose.apply(vertices))
        first, last = drawn.amin(0), drawn.amax(0)
        away = max(NEAREST, away * float((last - first).norm() / (high - low).norm()))
        if not centred:
            aim = aim + (low + high - first - last) / 2
    return pose
