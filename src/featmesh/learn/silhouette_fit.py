"""Learn shapes from silhouettes of real photos: codes, cameras and, on wish, the shape space.

views (mask, rotation, camera or none) -> small masks with cameras -> codes by the slope of the
silhouette losses (:mod:`featmesh.learn.silhouette`), all views of one object sharing a code. Where
no camera is known one is laid into the mask's box, and shift and zoom are fitted beside the code.
The space's own weights may learn too, together with CADs or in turns with them (spec 2.11, 6.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageOps
from torch import Tensor

from featmesh.draws import generator
from featmesh.errors import DatasetError
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.model.deformation import Deformation
from featmesh.render.outline import Edges, mesh_edges
from featmesh.views.record import View

from .correspondence import NEAREST
from .silhouette import Silhouette, SilhouetteLoss, SilhouetteWeights, compare, project

SIZE = 96  # pixels along the longer side of a mask's picture
MARGIN = 0.25  # of the mask's longer side, around it: coverage outside the picture is not seen


@dataclass(frozen=True)
class SilhouetteFitConfig:
    """How shapes are fitted to masks."""

    steps: int = 80
    """of Adam"""
    lr: float = 0.1
    """peak step of a code's coordinate, standard deviations"""
    lr_camera: float = 0.01
    """peak step of zoom (logarithm) and shift (mask sizes), where the camera is not known"""
    lr_weights: float = 0.0
    """peak step of the shape space's weights; 0 leaves them as they are"""
    prior: float = 1e-3
    """weight of a code's squared length; that of the silhouettes is 1 a view"""
    batch: int = 0
    """views of a step; 0: all"""
    alternate: bool = False
    """whether silhouettes and CADs take turns, instead of being added"""
    seed: int = 0
    """of the draws of views"""
    weights: SilhouetteWeights = field(default_factory=SilhouetteWeights)
    """of the silhouette's terms"""


@dataclass(frozen=True, eq=False)
class ShapeView:
    """One silhouette of one object.

    Attributes:
        truth: mask, camera, pose.
        name: of the object; views of the same object share a shape.
        free: whether zoom and shift of the picture are to be found, because K or t is not known.
    """

    truth: Silhouette
    name: str
    free: bool = False


@dataclass(frozen=True, eq=False)
class ShapeFit:
    """Shapes that explain masks.

    Attributes:
        names: the objects.
        latents: a code for each.
        frames: logarithm of the zoom and shift (mask sizes, x and y) of each view; 0 where its
            camera is known.
        before: soft IoU of each view with the mean shape.
        after: with the code found.
    """

    names: tuple[str, ...]
    latents: Float[Tensor, "n d"]
    frames: Float[Tensor, "k 3"]
    before: Float[Tensor, " k"]
    after: Float[Tensor, " k"]


def shape_view(
    view: View, template: Mesh, known: Bool[np.ndarray, "h w"] | None = None, size: int = SIZE
) -> ShapeView:
    """Return the silhouette of a labelled photo with a mask.

    With K and t its camera is known; without, one is laid into the mask's box for the label's
    rotation and distance.

    Args:
        view: record with a mask and R; t in object units, or in metres beside dimensions_lhw.
        template: mean shape, which the box is fitted with.
        known: False where the mask does not tell, e.g. behind an occluder; photo pixels.
        size: of the longer side, pixels; masks are not enlarged.

    Raises:
        DatasetError: E_VIEWS where mask or R are missing, or the mask is empty.
    """
    if view.mask is None or view.R is None:
        raise _unfit(view, f"{'no mask' if view.mask is None else 'no R'}")
    with Image.open(view.mask) as picture:
        labels = np.asarray(ImageOps.exif_transpose(picture)) > 0
    mask = labels if labels.ndim == 2 else np.any(labels, -1)
    if not mask.any():
        raise _unfit(view, "an empty one")
    name = view.model_name or f"view {view.index}"
    R = torch.from_numpy(np.asarray(view.R))
    if view.camera is not None and view.t is not None:
        unit = 1.0
        if view.t_unit == "metre":
            if view.dimensions_lhw is None:
                raise _unfit(view, "t in metres without dimensions_lhw")
            unit = float(np.linalg.norm(view.dimensions_lhw))
        pose = Pose(R, torch.from_numpy(np.asarray(view.t)) / unit)
        return ShapeView(cut(mask, view.camera, pose, known, size), name)
    pose = Pose(R, torch.tensor([0.0, 0.0, max(view.distance or 2.0, NEAREST)]).to(R))
    camera = box_camera(mask, template, pose)
    return ShapeView(cut(mask, camera, pose, known, size), name, free=True)


def _unfit(view: View, got: str) -> DatasetError:
    return DatasetError(
        "E_VIEWS",
        f"shape_view(): expected a mask that shows the object, and R, in record {view.index}, got "
        f"{got}; try: leave the record out",
    )


def box_camera(mask: Bool[np.ndarray, "h w"], template: Mesh, pose: Pose) -> Camera:
    """Return the camera with square pixels whose picture of the template fits a mask's box.

    Centres of the boxes agree, and their areas: the shape explains what is left.
    """
    points = pose.apply(template.vertices.to(pose.R))
    flat = points[:, :2] / points[:, 2:]
    low, high = flat.amin(0), flat.amax(0)
    x0, y0, x1, y1 = _box(mask)
    zoom = ((x1 - x0) * (y1 - y0) / float((high - low).prod())) ** 0.5
    x, y = ((low + high) / 2 * zoom).tolist()
    height, width = mask.shape
    return Camera(zoom, zoom, (x0 + x1) / 2 - x, (y0 + y1) / 2 - y, height, width)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def cut(
    mask: Bool[np.ndarray, "h w"],
    camera: Camera,
    pose: Pose,
    known: Bool[np.ndarray, "h w"] | None = None,
    size: int = SIZE,
) -> Silhouette:
    """Return the part of a photo's mask around the object, reduced; outside the photo is unknown.

    Args:
        mask: of the whole photo.
        camera: of the whole photo.
        pose: in that camera.
        known: False where the mask does not tell.
        size: of the longer side of the part, pixels; masks are not enlarged.
    """
    x0, y0, x1, y1 = _box(mask)
    pad = int(np.ceil(MARGIN * max(x1 - x0, y1 - y0)))
    box = (x0 - pad, y0 - pad, x1 + pad, y1 + pad)
    told = np.ones(mask.shape, bool) if known is None else known
    factor = min(1.0, size / max(box[2] - box[0], box[3] - box[1]))
    shape = (round((box[2] - box[0]) * factor), round((box[3] - box[1]) * factor))
    small = [
        np.asarray(
            Image.fromarray(_part(plane, box).astype(np.float32)).resize(
                shape, Image.Resampling.BOX
            )
        )
        for plane in (mask & told, told)
    ]
    # of what is told, how much is the object; told by halves is not told
    share = torch.from_numpy(small[0] / np.maximum(small[1], 1e-6))
    across, down = shape[0] / (box[2] - box[0]), shape[1] / (box[3] - box[1])
    seen = Camera(
        camera.fx * across,
        camera.fy * down,
        (camera.cx - box[0]) * across,
        (camera.cy - box[1]) * down,
        shape[1],
        shape[0],
    )
    return Silhouette.of(share, seen, pose, torch.from_numpy((small[1] > 0.5).astype(np.float32)))


def _part(plane: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return a box of a picture, False outside it."""
    x0, y0, x1, y1 = box
    out = np.zeros((y1 - y0, x1 - x0), bool)
    height, width = plane.shape
    inner = plane[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    top, left = max(-y0, 0), max(-x0, 0)
    out[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return out


class _Fit:
    """Codes and frames while they are fitted."""

    def __init__(
        self, deformation: Deformation, template: Mesh, views: Sequence[ShapeView]
    ) -> None:
        self.deformation, self.views = deformation, views
        self.vertices, self.faces = template.vertices.float(), template.faces
        self.edges: Edges = mesh_edges(template.faces)
        self.names = tuple(dict.fromkeys(view.name for view in views))
        row = {name: k for k, name in enumerate(self.names)}
        self.owner = torch.tensor([row[view.name] for view in views])
        self.codes = torch.nn.Embedding(len(self.names), deformation.latents, sparse=True)
        self.frames = torch.nn.Embedding(len(views), 3, sparse=True)
        for table in (self.codes, self.frames):
            torch.nn.init.zeros_(table.weight)

    def losses(
        self, chosen: Int[Tensor, " b"], weights: SilhouetteWeights
    ) -> tuple[list[SilhouetteLoss], Tensor]:
        """Return the losses of some views, and the codes they were rendered with."""
        owners, place = self.owner[chosen].unique(return_inverse=True)
        codes = self.codes(owners)
        shapes = self.vertices + self.deformation(codes)
        frames = self.frames(chosen)
        found = []
        for k, number in enumerate(chosen.tolist()):
            view = self.views[number]
            screen = project(_posed(shapes[place[k]], view.truth.cam_from_obj), view.truth.camera)
            if view.free:
                screen = _reframed(screen, frames[k], view.truth)
            found.append(compare(screen, self.faces, self.edges, view.truth, weights))
        return found, codes


def _posed(points: Tensor, pose: Pose) -> Tensor:
    return Pose(pose.R.to(points), pose.t.to(points)).apply(points)


def _reframed(screen: Tensor, frame: Tensor, truth: Silhouette) -> Tensor:
    """Return projected points zoomed about the picture's centre and shifted."""
    centre = torch.tensor([truth.camera.width / 2, truth.camera.height / 2]).to(screen)
    pixels = (screen[:, :2] - centre) * frame[0].exp() + centre + frame[1:] * truth.size
    return torch.cat([pixels, screen[:, 2:]], 1)


def fit_shapes_to_masks(
    deformation: Deformation,
    template: Mesh,
    views: Sequence[ShapeView],
    config: SilhouetteFitConfig = SilhouetteFitConfig(),
    cad_loss: Callable[[int], Float[Tensor, ""]] | None = None,
    on_step: Callable[[int, float], None] = lambda _step, _iou: None,
) -> ShapeFit:
    """Return the codes whose shapes have the views' silhouettes.

    Args:
        deformation: shape space; its weights move only with ``config.lr_weights``, and then in
            place.
        template: the mesh it deforms.
        views: silhouettes (:func:`shape_view`).
        config: how.
        cad_loss: loss of the space on a batch of CADs at a step, with gradient to its weights.
        on_step: told the step and the mean soft IoU of the views it saw.

    Raises:
        DatasetError: E_DATA without views.
        InputError: E_POSE where a shape reaches behind a camera.
    """
    if not views:
        raise DatasetError(
            "E_DATA", "fit_shapes_to_masks(): expected views, got none; try: views with masks"
        )
    fit, everything = _Fit(deformation, template, views), torch.arange(len(views))
    frozen = [p for p in deformation.parameters() if p.requires_grad and not config.lr_weights]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        before = _overlap(fit, config)
        _descend(fit, config, cad_loss, on_step)
        after = _overlap(fit, config)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    frames = fit.frames(everything).detach()
    return ShapeFit(fit.names, fit.codes.weight.detach(), frames, before, after)


@torch.no_grad()
def _overlap(fit: _Fit, config: SilhouetteFitConfig) -> Float[Tensor, " k"]:
    found, _ = fit.losses(torch.arange(len(fit.views)), config.weights)
    return torch.tensor([loss.iou for loss in found])


def _descend(
    fit: _Fit,
    config: SilhouetteFitConfig,
    cad_loss: Callable[[int], Tensor] | None,
    on_step: Callable[[int, float], None],
) -> None:
    """Move codes and frames, and weights where they may, down the slope."""
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.SparseAdam(fit.codes.parameters(), lr=config.lr),
        torch.optim.SparseAdam(fit.frames.parameters(), lr=config.lr_camera),
    ]
    if config.lr_weights:
        optimisers.append(torch.optim.Adam(fit.deformation.parameters(), lr=config.lr_weights))
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    for step in range(config.steps):
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            fade = 0.5 * (1 + np.cos(np.pi * step / config.steps))
            optimiser.param_groups[0]["lr"] = peak * (0.02 + 0.98 * fade)
            optimiser.zero_grad(set_to_none=True)
        cads = cad_loss is not None and (not config.alternate or step % 2 == 1)
        total = torch.zeros(())
        if cad_loss is not None and cads:
            total = total + cad_loss(step)
        if not (cads and config.alternate):
            found, codes = fit.losses(_drawn(fit, config, step), config.weights)
            total = total + torch.stack([loss.total for loss in found]).mean()
            total = total + config.prior * codes.square().sum(1).mean()
            on_step(step, float(np.mean([loss.iou for loss in found])))
        total.backward()
        for optimiser in optimisers:
            if any(p.grad is not None for p in optimiser.param_groups[0]["params"]):
                optimiser.step()


def _drawn(fit: _Fit, config: SilhouetteFitConfig, step: int) -> Int[Tensor, " b"]:
    """Return the views of a step: all, or as many as fit, keyed by the step."""
    count = len(fit.views)
    if not config.batch or config.batch >= count:
        return torch.arange(count)
    rng = generator(config.seed, "silhouettes", step)
    return torch.from_numpy(np.sort(rng.permutation(count)[: config.batch]))
