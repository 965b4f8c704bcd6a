"""A photo and an estimate made by hand, for tests of what is shown and written."""

from dataclasses import replace

import numpy as np
import torch

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.geometry.template import cuboid
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.inference.result import Estimate, Maps, Mode, Segmentation, Shape
from featmesh.model.labels import Labels
from featmesh.photo.photo import Photo
from featmesh.render.rasterize import rasterize

HEIGHT, WIDTH = 90, 120
PARTS = ("front_end", "rear_end", "mirror")  # nothing has a mirror


def grey_photo(height: int = HEIGHT, width: int = WIDTH, value: int = 128) -> Photo:
    return Photo(np.full((height, width, 3), value, dtype=np.uint8))


def box_mesh() -> Mesh:
    return cuboid((0.38, 0.86, 0.30), (2, 2, 2)).normalised()


def seen(azimuth: float = 0.6, elevation: float = 0.2, distance: float = 3.0) -> Pose:
    return Viewpoint(azimuth, elevation, 0.0, distance).to_pose()


def found(photo: Photo, pose: Pose | None = None, maps: bool = True) -> Estimate:
    camera, mesh, pose = photo.camera_or_assumed, box_mesh(), pose or seen()
    pixels, _ = camera.project(pose.apply(mesh.vertices))
    box = (*pixels.amin(0).tolist(), *pixels.amax(0).tolist())
    turned = Pose(pose.R @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]).double()), pose.t)
    return Estimate(
        "ok",
        "car",
        pose,
        viewpoint=Viewpoint.from_pose(pose),
        box=box,
        score=0.25,
        modes=(Mode(turned, 0.125),),
        camera=camera,
        seconds={"features": 0.5, "scan": 0.25},
        warnings=("the focal length is assumed",),
        mesh=mesh,
        maps=some_maps(camera, box) if maps else None,
    )


def shaped(estimate: Estimate, accepted: bool = True, unit: float = 1.0) -> Estimate:
    """The estimate with a shape: longer by .1, lower by .2; ``unit`` metres to a diagonal."""
    mean = estimate.mesh.with_vertices(estimate.mesh.vertices * unit)
    factors = torch.tensor([1.0, 1.1, 0.8] if accepted else [1.0, 1.0, 1.0]).double()
    mesh = mean.with_vertices(mean.vertices * factors)
    width, length, height = mesh.extent.tolist()
    latent = np.array([0.6, -0.8, 0.0]) if accepted else np.zeros(3)
    kind = "object" if unit == 1.0 else "metre"
    shape = Shape(latent, mesh, mean, (length, width, height), kind, accepted)
    pose = Pose(estimate.cam_from_obj.R, estimate.cam_from_obj.t * unit)
    return replace(estimate, mesh=mesh, shape=shape, cam_from_obj=pose, t_unit=kind)


def some_maps(camera: Camera, box: tuple[float, float, float, float]) -> Maps:
    features = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)
    score = np.linspace(-0.4, 0.4, 24, dtype=np.float32).reshape(4, 6)
    score[0] = np.nan
    pixels = np.full((32, 48, 3), 90, dtype=np.uint8)
    return Maps(features, score, Crop.from_box(camera, box, (32, 48)), pixels)


def labels_of(mesh: Mesh) -> Labels:
    """Front and rear end, and nothing between."""
    y = mesh.vertices[:, 1]
    number = torch.where(y < -0.2, 1, torch.where(y > 0.2, 2, 0))
    return Labels(PARTS, torch.nn.functional.one_hot(number, len(PARTS) + 1).float())


def segmented(photo: Photo, estimate: Estimate, parts: bool = True) -> Estimate:
    """The estimate with its segmentation: something hides what lies right of the photo's middle."""
    mesh, labels = estimate.mesh, labels_of(estimate.mesh)
    points = estimate.cam_from_obj.apply(mesh.vertices)[None].float()
    drawn = rasterize(points, mesh.faces, estimate.camera)
    face, depth = drawn.face_id[0].int().numpy(), drawn.depth[0].numpy()
    amodal = face >= 0
    visible = amodal & (np.arange(photo.width) < photo.width / 2)
    bary = drawn.bary[0].numpy()[amodal]
    weights = labels.weights.numpy()[mesh.faces.numpy()[face[amodal]]]
    number = np.zeros(amodal.shape, np.uint8)
    number[amodal] = np.einsum("nk,nkc->nc", bary, weights).argmax(1)
    shares = {
        name: float(visible[number == k].mean())
        for k, name in enumerate(PARTS, 1)
        if (number == k).any()
    }
    states = np.zeros(len(mesh.faces), np.uint8)
    states[face[amodal & ~visible]] = 2
    states[face[visible]] = 1
    told = (number, PARTS, states, shares) if parts else (None, (), states, {})
    return replace(estimate, segmentation=Segmentation(amodal, visible, face, bary, depth, *told))
