"""How far a mesh's silhouette is from a mask, with a gradient to its vertices (spec 6.1).

Three terms, all shares of the mask's size: coverage outside the mask, by its distance from it
(``mask_dt``); parts of the mask the mesh does not reach, by their distance from its outline; and
one minus the overlap (soft IoU). Coverage is the area of each pixel that the mesh covers, so that
the losses are smooth, and what stands along the outline is their slope
(:mod:`featmesh.render.outline`). Pixels whose truth is not known (behind an occluder, outside the
photo) do not count. Source: ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.render.kernels import coverage
from featmesh.render.outline import Edges, Outline, mesh_edges, outline

FINE = 5  # samples of a pixel along each axis
ROUNDING = 0.1  # share of a pixel below which too much and too little are blended
MISSING = 0.05  # share of a pixel that must be missing before it pulls


@dataclass(frozen=True)
class SilhouetteWeights:
    """What each term counts."""

    overlap: float = 1.0
    """one minus the soft IoU"""
    outside: float = 1.0
    """mean distance of the coverage outside the mask, in mask sizes, times its share"""
    missing: float = 1.0
    """mean distance of uncovered mask from the outline, likewise"""


@dataclass(frozen=True, eq=False)
class Silhouette:
    """What is known of an object's silhouette in one view.

    Attributes:
        mask: share of each pixel that shows the object.
        known: 1 where the mask tells the truth, 0 where nobody knows.
        outside: distance of each pixel from the mask, or from what is not known, pixels.
        camera: of these pixels.
        cam_from_obj: pose, object units.
    """

    mask: Float[Tensor, "h w"]
    known: Float[Tensor, "h w"]
    outside: Float[Tensor, "h w"]
    camera: Camera
    cam_from_obj: Pose

    @classmethod
    def of(
        cls,
        mask: Float[Tensor, "h w"],
        camera: Camera,
        cam_from_obj: Pose,
        known: Float[Tensor, "h w"] | None = None,
    ) -> "Silhouette":
        """Return the silhouette of a mask whose pixels hold shares in 0 .. 1.

        Raises:
            InputError: E_MASK where no known pixel shows the object.
        """
        from scipy import ndimage

        known = torch.ones_like(mask) if known is None else known.to(mask)
        if not bool((mask * known > 0.5).any()):
            raise InputError(
                "E_MASK",
                f"Silhouette: expected a mask that shows the object, got "
                f"{int((mask > 0.5).sum())} pixels, none of them known; try: another view",
            )
        free = (mask <= 0.5) & (known > 0.5)
        away = torch.from_numpy(ndimage.distance_transform_edt(free.numpy())).to(mask)
        # the mask's border runs half a pixel before the first free centre
        return cls(mask, known, (away - 0.5).clamp_min(0), camera, cam_from_obj)

    @property
    def size(self) -> float:
        """Side of a square as large as the known mask, pixels."""
        return float((self.mask * self.known).sum().sqrt())


@dataclass(frozen=True)
class SilhouetteLoss:
    """The terms of a comparison.

    Attributes:
        total: weighted sum, with gradient.
        iou: soft IoU over known pixels.
        outside, missing: the other terms.
    """

    total: Float[Tensor, ""]
    iou: float
    outside: float
    missing: float


def project(points_cam: Float[Tensor, "v 3"], camera: Camera) -> Float[Tensor, "v 3"]:
    """Return pixels and inverse depth of vertices, differentiable.

    Raises:
        InputError: E_POSE where a vertex lies behind the camera.
    """
    pixels, front = camera.project(points_cam)
    if not bool(front.all()):
        raise InputError(
            "E_POSE",
            f"silhouette: expected the object in front of the camera, got {int((~front).sum())} "
            "vertices behind it; try: check t and its unit",
        )
    return torch.cat([pixels, 1 / points_cam[:, 2:]], 1)


@torch.no_grad()
def covered_samples(
    screen: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], size: tuple[int, int], fine: int = FINE
) -> Bool[Tensor, "h w"]:
    """Return which of ``fine`` x ``fine`` samples of each pixel the mesh covers."""
    scale = torch.tensor([fine, fine, 1.0], dtype=screen.dtype)
    points = (screen.detach() * scale).float()[None].numpy()
    ids = coverage(points, faces.int().numpy(), size[0] * fine, size[1] * fine, True)
    return torch.from_numpy(ids[0] >= 0)


def compare(
    screen: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    edges: Edges,
    truth: Silhouette,
    weights: SilhouetteWeights = SilhouetteWeights(),
) -> SilhouetteLoss:
    """Return how far the silhouette of a projected mesh is from the truth.

    Args:
        screen: projected vertices: pixels and inverse depth (:func:`project`), with gradient.
        faces: counter-clockwise seen from outside.
        edges: of those faces.
        truth: mask and camera.
        weights: of the terms.
    """
    height, width = truth.mask.shape
    samples = covered_samples(screen, faces, (height, width))
    area = samples.to(truth.mask).reshape(height, FINE, width, FINE).mean((1, 3))
    m, k, size = truth.mask, truth.known, truth.size
    both = (torch.minimum(area, m) * k).sum()
    either = (torch.maximum(area, m) * k).sum()
    far = truth.outside * k / size**3
    rim = outline(screen[:, :2], faces, edges, samples, FINE)
    missing, spared = _missing(rim, (m - area).clamp_min(0) * k, size)
    # what covering a little more of each pixel changes: it adds to the overlap where mask is left
    left = ((m - area) / ROUNDING + 0.5).clamp(0, 1)
    gain = weights.overlap * k * (both * (1 - left) - left * either) / either**2
    gain = gain + weights.outside * far - weights.missing * spared
    iou, outside = both / either, (area * far).sum()
    total = weights.overlap * (1 - iou) + weights.outside * outside + weights.missing * missing
    return SilhouetteLoss(
        total + rim.flux(gain), float(iou), float(outside), float(missing.detach())
    )


def _missing(
    rim: Outline, lacking: Float[Tensor, "h w"], size: float
) -> tuple[Float[Tensor, ""], Float[Tensor, "h w"]]:
    """Return the lacking mask times its distance from the nearest point of the outline.

    Second: what a covered pixel would spare.
    """
    from scipy.spatial import cKDTree

    spared = torch.zeros_like(lacking)
    row, column = (lacking > MISSING).nonzero(as_tuple=True)
    if not len(row) or not len(rim.pixels):
        return 0 * rim.pixels.sum(), spared
    centres = torch.stack([column, row], 1).to(rim.pixels) + 0.5
    _, nearest = cKDTree(rim.pixels.detach().numpy()).query(centres.numpy())
    away = rim.pixels[torch.from_numpy(nearest)] - centres
    # smooth below a pixel: the nearest point there is a matter of sampling
    distance = ((away.square().sum(1) + 0.25).sqrt() - 0.5) / size**3
    spared[row, column] = distance.detach().to(spared)
    return (distance * lacking[row, column]).sum(), spared


def silhouette_loss(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    truth: Silhouette,
    weights: SilhouetteWeights = SilhouetteWeights(),
    edges: Edges | None = None,
) -> SilhouetteLoss:
    """Return how far a mesh at the view's pose is from its mask, differentiable to the vertices.

    Args:
        vertices: object units.
        faces: counter-clockwise seen from outside.
        truth: mask, camera and pose.
        weights: of the terms.
        edges: of the faces, where many views are compared.

    Raises:
        InputError: E_POSE where a vertex lies behind the camera.
    """
    pose = truth.cam_from_obj
    points = Pose(pose.R.to(vertices), pose.t.to(vertices)).apply(vertices)
    screen = project(points, truth.camera)
    return compare(screen, faces, edges or mesh_edges(faces), truth, weights)


def shares(mask: Bool[np.ndarray, "h w"], fine: int) -> Float[Tensor, "p q"]:
    """Return a mask of ``fine`` times as many pixels along each axis as shares of each pixel."""
    height, width = mask.shape[0] // fine, mask.shape[1] // fine
    whole = mask[: height * fine, : width * fine].astype(np.float32)
    return torch.from_numpy(whole.reshape(height, fine, width, fine).mean((1, 3)))
