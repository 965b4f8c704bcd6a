"""Parts by two witnesses: the surface's labels drawn at the estimate, and a head on the pixels.

The drawing is a prior, a little blurred for what pose and shape may be off: it tells left from
right and front from back, and what lies behind an occluder. The head is the evidence: it knows
where a part ends and what stands in front of it. The posterior is their product,

    log p(k) = head(k) + weight * (log(trust * prior(k) + (1 - trust) * f(k)) - rare * log f(k)),

f(k) how frequent part k is. What no part is seen in and is drawn may be hidden: there the prior
alone says what lies behind (ours). With the surface's labels alone nothing of this is used.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.model.category import CategoryModel
from featmesh.model.labels import Labels
from featmesh.model.part_evidence import STRIDE, unfit
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample
from featmesh.render.kernels import compiled
from featmesh.render.rasterize import rasterize

from .config import SegmentConfig
from .result import Estimate, Maps, posed

GRID = 2  # crop pixels per cell of the fusion
REACH = 3.0  # standard deviations of the blur
Excess = Callable[[np.ndarray, np.ndarray], Float32[np.ndarray, " n"]]
Pictures = tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]


@dataclass(frozen=True)
class Prior:
    """The labels of the surface as the crop sees them.

    Attributes:
        shares: probability of each part in each cell of the grid; column 0 is no part.
        hidden: probability that something is in front of the object there, 0 beside it.
    """

    shares: Float32[np.ndarray, "p q n1"]
    hidden: Float32[np.ndarray, "p q"]


def fused_parts(
    model: CategoryModel,
    photo: Photo,
    estimate: Estimate,
    labels: Labels,
    drawn: Pictures,
    excess: Excess,
    config: SegmentConfig,
) -> Pictures:
    """Return the part seen at each pixel, and the part at it, hidden ones too.

    Args:
        model: the one that made the estimate.
        photo: the whole photo.
        estimate: with a pose.
        labels: with evidence.
        drawn: both as the labels alone say; the answer outside of the crop.
        excess: object less clutter, smooth, at rows and columns of photo pixels.
        config: of the fusion.

    Raises:
        InputError: E_POSE where the estimate has none.
        CheckpointError: E_CKPT_CONFIG where the evidence is another network's or not the labels'.
    """
    evidence, found = labels.evidence, posed(estimate, "segment()")
    if evidence is None:
        return drawn
    mesh = found.mesh
    assumed = estimate.camera_source == "assumed"
    crop, pixels, trunk = _as_trained(model, photo, found.maps, assumed)
    points = _in_crop(found.pose, found.camera, mesh, crop)
    sigma = config.drift * model.config.stride / GRID
    prior = _prior(points, mesh, labels, crop, excess, config)
    prior = replace(prior, shares=_blurred(prior.shares, sigma))
    said = evidence.log_shares(model.backbone, pixels, trunk)
    scores = _on_grid(said, prior.shares.shape)
    seen, whole = joined(scores, prior, evidence.frequency.numpy(), config)
    matrix, window = _to_crop(crop, photo)
    answers = tuple(picture.copy() for picture in drawn)
    for answer, likely in zip(answers, (seen, whole), strict=True):
        _read(np.ascontiguousarray(likely), likely.argmax(-1), matrix, np.array(window), answer)
    return answers[0], answers[1]


def joined(
    scores: Float32[np.ndarray, "p q n1"],
    prior: Prior,
    frequency: Float32[np.ndarray, " n1"],
    config: SegmentConfig,
) -> tuple[Float32[np.ndarray, "p q n1"], Float32[np.ndarray, "p q n1"]]:
    """Return the logarithms of what is likely seen, and of what is likely there, hidden or not.

    Args:
        scores: of the head, logarithms of probabilities.
        prior: what is drawn.
        frequency: of the parts in what the head learned from.
        config: of the fusion.
    """
    usual = np.maximum(frequency, 1e-6)
    told = np.log(config.trust * prior.shares + (1 - config.trust) * usual)
    seen = scores + config.weight * (told - config.rare * np.log(usual))
    seen -= seen.max(-1, keepdims=True)
    likely = np.exp(seen)
    likely /= likely.sum(-1, keepdims=True)
    whole = likely + (likely[..., 0] * prior.hidden)[..., None] * prior.shares
    whole[..., 0] = likely[..., 0] * (1 - prior.hidden * (1 - prior.shares[..., 0]))
    return seen.astype(np.float32), np.log(np.maximum(whole, 1e-12)).astype(np.float32)


def _as_trained(
    model: CategoryModel, photo: Photo, maps: Maps, assumed: bool
) -> tuple[Crop, UInt8[np.ndarray, "y x 3"], tuple[Tensor, ...]]:
    """Return the crop of the estimate's box as the head learned it: unsqueezed, of its size.

    With its pixels and, where the estimate looked at these, the trunk's maps of them.
    """
    lens = Camera.assumed(photo.height, photo.width) if assumed else maps.crop.photo_camera
    size = (model.config.crop_height, model.config.crop_width)
    if lens == maps.crop.photo_camera and maps.pixels.shape[:2] == size:
        return maps.crop, maps.pixels, maps.trunk
    crop = Crop.from_box(lens, maps.crop.box, size)
    return crop, resample(photo, crop)[0], ()


def _in_crop(pose: Pose, camera: Camera, mesh: Mesh, crop: Crop) -> Float32[Tensor, "v 3"]:
    """Return vertices such that the crop's camera sees them where the photo shows them."""
    points = pose.apply(mesh.vertices.to(pose.R.dtype)).double()
    bend = crop.Q.double() @ torch.linalg.solve(crop.photo_camera.K, camera.K)
    return (points @ bend.T).float()


def _prior(
    points: Float32[Tensor, "v 3"],
    mesh: Mesh,
    labels: Labels,
    crop: Crop,
    excess: Excess,
    config: SegmentConfig,
) -> Prior:
    """Return what the labels say of each cell of the grid, and where the object is hidden."""
    found = rasterize(points[None], mesh.faces, crop.camera.scale(1 / GRID))
    covered: Bool[np.ndarray, "p q"] = found.covered[0].numpy()
    shares = np.zeros((*covered.shape, len(labels.names) + 1), np.float32)
    hidden = np.zeros(covered.shape, np.float32)
    if covered.any():
        corners = mesh.faces[found.face_id[0][found.covered[0]]].numpy()
        bary = found.bary[0][found.covered[0]].numpy()
        soft = np.einsum("nk,nkp->np", bary, labels.weights.numpy().astype(np.float32)[corners])
        soft **= config.sharp
        shares[covered] = soft / np.maximum(soft.sum(1, keepdims=True), 1e-9)
        rows, columns = _in_photo(crop, covered)
        hidden[covered] = _sigmoid((config.hidden - excess(rows, columns)) / config.soft)
    return Prior(shares, hidden)


def _blurred(shares: Float32[np.ndarray, "p q n1"], sigma: float) -> Float32[np.ndarray, "p q n1"]:
    """Return the shares smoothed over the picture; what is no part's is none's."""
    out = gaussian_filter(shares, (sigma, sigma, 0), mode="constant", truncate=REACH)
    out[..., 0] = np.maximum(1 - out[..., 1:].sum(-1), 0)
    return out


def _in_photo(
    crop: Crop, covered: Bool[np.ndarray, "p q"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Return rows and columns of the photo in the middle of cells; whole numbers are centres."""
    rows, columns = np.nonzero(covered)
    places = torch.from_numpy(np.stack([columns + 0.5, rows + 0.5], -1) * GRID)
    at, _ = crop.photo_camera.project(crop.camera.unproject(places) @ crop.Q.double())
    return at[:, 1].numpy() - 0.5, at[:, 0].numpy() - 0.5


def _sigmoid(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _on_grid(
    scores: Float[Tensor, "n1 y x"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "p q n1"]:
    """Return the head's scores in the cells of the grid."""
    if scores.shape[0] != shape[2]:
        raise unfit(f"{scores.shape[0] - 1} parts for {shape[2] - 1} names")
    grown = functional.interpolate(
        scores[None], scale_factor=STRIDE // GRID, mode="bilinear", align_corners=False
    )
    return grown[0, :, : shape[0], : shape[1]].permute(1, 2, 0).numpy()


def _to_crop(
    crop: Crop, photo: Photo
) -> tuple[Float64[np.ndarray, "3 3"], tuple[int, int, int, int]]:
    """Return the matrix from photo pixels to cells of the grid, and the crop's rows and columns."""
    cells = crop.camera.scale(1 / GRID)
    matrix = cells.K @ crop.Q.double() @ torch.linalg.inv(crop.photo_camera.K)
    height, width = float(crop.camera.height), float(crop.camera.width)
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64)
    ends, front = crop.photo_camera.project(crop.camera.unproject(corners) @ crop.Q.double())
    if not bool(front.all()):
        return matrix.numpy(), (0, photo.height, 0, photo.width)
    low, high = ends.amin(0).floor().tolist(), ends.amax(0).ceil().tolist()
    x0, x1 = (int(np.clip(v, 0, photo.width)) for v in (low[0], high[0]))
    y0, y1 = (int(np.clip(v, 0, photo.height)) for v in (low[1], high[1]))
    return matrix.numpy(), (y0, y1, x0, x1)


@compiled
@no_type_check
def _read(scores, best, matrix, window, out):
    """Set each pixel of the photo inside the crop to its likeliest part, between cells bilinear.

    Where four cells have the same best part, so has all that lies between them.
    """
    height, width = best.shape
    for row in range(window[0], window[1]):
        for column in range(window[2], window[3]):
            x, y = column + 0.5, row + 0.5
            z = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
            if z <= 0:
                continue
            u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / z
            v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / z
            if u < 0 or v < 0 or u >= width or v >= height:
                continue
            u, v = min(max(u - 0.5, 0.0), width - 1.0), min(max(v - 0.5, 0.0), height - 1.0)
            left, top = int(u), int(v)
            right, low = min(left + 1, width - 1), min(top + 1, height - 1)
            k = best[top, left]
            if best[top, right] != k or best[low, left] != k or best[low, right] != k:
                fx, fy = np.float32(u - left), np.float32(v - top)
                most = np.float32(-1e30)
                for c in range(scores.shape[2]):
                    upper = (1 - fx) * scores[top, left, c] + fx * scores[top, right, c]
                    lower = (1 - fx) * scores[low, left, c] + fx * scores[low, right, c]
                    value = (1 - fy) * upper + fy * lower
                    if value > most:
                        most = value
                        k = c
            out[row, column] = k
