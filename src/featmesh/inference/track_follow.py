"""One step through a video: expected pose -> box -> crop -> features -> refine -> describe (ours).

As an estimate, but from where the object should be: a few starts in place of a scan, few and short
steps. The other poses that nearly explained it go along, so that what is known of its
reliability compares basins as in a photo.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.geometry.crop import Box, Crop
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint, ray_rotation
from featmesh.model.category import CategoryModel, FeatureMap
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample
from featmesh.stopwatch import Stopwatch

from .confidence import BASIN
from .config import EstimateConfig, crop_size
from .describe import Lens, Trial, describe
from .estimator import in_photo
from .refine import Refined, render_and_compare
from .result import Estimate, posed
from .scan import Starts, scan
from .tables import pose_table
from .track_config import TrackConfig


@dataclass(frozen=True)
class Expected:
    """Where the object should be in a frame.

    Attributes:
        starts: poses in the photo's camera: the expected one, others near it, other basins.
        seen: the last estimate of it: mesh, camera.
        around: also look for basins that are not among the starts.
    """

    starts: tuple[Pose, ...]
    seen: Estimate
    around: bool = False


def follow(
    model: CategoryModel,
    photo: Photo,
    lens: Lens,
    expected: Expected,
    config: TrackConfig,
    search: EstimateConfig,
    clock: Stopwatch,
) -> Estimate | None:
    """Return the estimate in the basin of the expected pose; None where it is lost.

    Args:
        model: category model.
        photo: the frame.
        lens: its camera; an assumed one keeps the strength of perspective it had.
        expected: where the object should be; its rivals become ``modes`` where they hold.
        config: crop and steps.
        search: everything else.
        clock: of the frame.
    """
    box = in_photo(box_at(expected.seen, expected.starts[0]), photo)
    if box is None:
        return None
    with clock("features"):
        # a look around sees as much as a search, whose table of poses is there already
        size = crop_size(model.config, search.crop if expected.around else config.crop)
        crop = Crop.from_box(lens.camera, box, size)
        pixels, valid = resample(photo, crop)
        cells = model.extract(pixels, valid, crop.camera)
    starts = _starts(expected, crop, lens)
    if expected.around:
        with clock("scan"):
            starts = _with_others(model, cells, starts, lens, config, search)
    short = replace(search.refine, steps=config.steps, lr=config.lr, polish=config.polish)
    refine = replace(short, keep=len(starts.R), box_worth=0.0)  # the box is a guess
    with clock("refine"):
        refined = render_and_compare(cells, model, starts, False, refine)
    chosen = _expected_first(refined, starts.R[0])
    if chosen is None:
        return None
    found = describe(model, photo, lens, Trial(crop, pixels, cells, chosen), search, {}, ())
    return found if found.has_pose else None


def box_at(estimate: Estimate, pose: Pose) -> Box | None:
    """Return the box of an estimate's object at another pose; None where it is not in front."""
    mesh, camera = estimate.mesh, estimate.camera
    if mesh is None or camera is None:
        return None
    points, in_front = camera.project(pose.apply(mesh.vertices))
    if not bool(in_front.all()):
        return None
    (x0, y0), (x1, y1) = points.amin(0).tolist(), points.amax(0).tolist()
    return (x0, y0, x1, y1)


def placed(estimate: Estimate, pose: Pose) -> Estimate:
    """Return an estimate at another pose, in its unit: viewpoint and box go with it."""
    box = box_at(estimate, pose) or estimate.box
    return replace(estimate, cam_from_obj=pose, viewpoint=Viewpoint.from_pose(pose), box=box)


def in_metres(estimate: Estimate, unit: float) -> Estimate:
    """Return an estimate with a pose, in object units, with ``unit`` metres to each of them."""
    seen = posed(estimate, "in_metres()")
    modes = (
        replace(m, cam_from_obj=Pose(m.cam_from_obj.R, unit * m.cam_from_obj.t))
        for m in estimate.modes
    )
    mesh = seen.mesh.with_vertices(unit * seen.mesh.vertices)
    scaled = replace(estimate, mesh=mesh, modes=tuple(modes), t_unit="metre")
    return placed(scaled, Pose(seen.pose.R, unit * seen.pose.t))


def _starts(expected: Expected, crop: Crop, lens: Lens) -> Starts:
    """Return the expected poses as the virtual camera of the crop sees them."""
    camera = posed(expected.seen, "track").camera
    zoom = 1.0 if lens.known else camera.fx / lens.camera.fx
    rows = []
    for pose in expected.starts:
        if lens.known:
            rows.append(crop.from_photo(pose))
            continue
        # the pose stands on the ray of a box centre; where it is drawn says where it is seen
        seen_at = camera.project(pose.t)[0]
        in_crop = crop.camera.project(crop.Q @ lens.camera.unproject(seen_at))[0]
        ray = crop.camera.zoom(zoom).unproject(in_crop)
        t = ray * (pose.t.norm() / ray.norm())
        rows.append(Pose(ray_rotation(t).T @ ray_rotation(pose.t) @ pose.R, t))
    R, t = (torch.stack([getattr(p, n) for p in rows]).numpy() for n in ("R", "t"))
    return Starts(R, t, np.full(len(rows), np.log(zoom)), np.zeros(len(rows)))


def _with_others(
    model: CategoryModel,
    cells: FeatureMap,
    starts: Starts,
    lens: Lens,
    config: TrackConfig,
    search: EstimateConfig,
) -> Starts:
    """Return the starts and the best poses of the grid that lie in no basin of theirs."""
    table = pose_table(model, search.scan, search.crop)
    grid = scan(cells, model, table, replace(search.scan, start="grid"), lens.known)
    far = [k for k, R in enumerate(grid.R) if _angles(starts.R, R).min() > BASIN]
    pick = np.array(far[: config.rivals], dtype=np.int64)
    zoom = np.full(len(pick), starts.log_zoom[0])
    t = grid.t[pick].copy()
    t[:, 2] *= np.exp(zoom - grid.log_zoom[pick])  # the lens is held: the size in the map stays
    others = Starts(grid.R[pick], t, zoom, grid.score[pick])
    both = {n: np.concatenate([getattr(starts, n), getattr(others, n)]) for n in vars(starts)}
    return Starts(**both)


def _expected_first(refined: Refined, R: Float64[np.ndarray, "3 3"]) -> Refined | None:
    """Return the poses with the best of the expected basin first; None where it has none."""
    inside = np.nonzero(_angles(refined.R, R) < BASIN)[0]
    if not len(inside):
        return None
    first = int(inside[0])  # they come best first
    order = np.array([first, *(k for k in range(len(refined.R)) if k != first)])
    return Refined(**{n: v[order] for n, v in vars(refined).items() if v is not None})


def _angles(
    many: Float64[np.ndarray, "n 3 3"], one: Float64[np.ndarray, "3 3"]
) -> Float64[np.ndarray, " n"]:
    """Return the angle of each rotation to one, radians."""
    return np.arccos(np.clip(((many * one).sum((1, 2)) - 1) / 2, -1.0, 1.0))
