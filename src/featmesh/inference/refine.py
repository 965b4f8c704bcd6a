"""Render-and-compare: pose, then shape, descend until the rendered features explain the photo.

The pose stage moves all starts together; after a tenth of the steps the better half goes on, after
a quarter the best few, and Levenberg-Marquardt settles the last digits. What is not of interest but
would bend the pose goes with it, held by priors: the focal length where it is unknown, and the
object's proportions. The shape stage takes the best pose on and frees the latent code; there moving
outlines pull too, and a covered cell that shows something else has its price, or nothing would keep
the outline from reaching over the background; unless much of the object is hidden, for an outline
may then be the occluder's. It counts only if the energy falls (spec 6.1; schedule ours).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.geometry.crop import Crop
from featmesh.geometry.pose import Pose
from featmesh.model.category import CategoryModel, FeatureMap, finer

from .box_fit import box_fit
from .config import RefineConfig, ShapeConfig
from .descent import NEAREST, Descent, RefineStep, Schedule, State
from .energy import Comparison
from .energy_numba import FusedEnergy
from .focal import Profile
from .scan import Starts
from .surface import MovingSurface

ZOOMS = np.linspace(-1.6, 2.8, 12)  # log zooms of a profile: two sigma of the prior, and the far
_FITS = 10  # Levenberg-Marquardt steps at each


@dataclass(frozen=True)
class Refined:
    """Where the starts came to, likeliest first; every start has its row.

    Attributes:
        R, t: poses in the virtual camera.
        log_zoom: logarithm of the focal length over the virtual camera's.
        log_stretch: logarithms of the object's stretches along its own x, y, z.
        energy: lower is better, see :mod:`featmesh.inference.energy`; priors included.
        score: mean of s - c over visible cells.
        evidence: mean of max(s - c, 0) over all covered cells.
        visible: share of the covered cells that are visible.
        latent: shape code of the first row; None where only the pose was refined.
    """

    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    log_zoom: Float64[np.ndarray, " n"]
    log_stretch: Float64[np.ndarray, "n 3"]
    energy: Float64[np.ndarray, " n"]
    score: Float64[np.ndarray, " n"]
    evidence: Float64[np.ndarray, " n"]
    visible: Float64[np.ndarray, " n"]
    latent: Float64[np.ndarray, " k"] | None = field(default=None)

    @property
    def pose(self) -> Pose:
        """The best pose in the virtual camera."""
        return Pose(torch.from_numpy(self.R[0]), torch.from_numpy(self.t[0]))


def render_and_compare(
    feature_map: FeatureMap,
    model: CategoryModel,
    start: Starts,
    free_zoom: bool = False,
    config: RefineConfig | None = None,
    on_step: Callable[[RefineStep], None] | None = None,
    crop: Crop | None = None,
) -> Refined:
    """Return the poses the starts came to: the method itself.

    No start ends on a higher energy than it began with.

    Args:
        feature_map: what the network sees; its camera is the virtual camera in cells.
        model: mesh and texture.
        start: poses to begin with, in the virtual camera.
        free_zoom: whether the focal length is optimised too (camera unknown).
        config: energy, optimiser, schedule.
        on_step: told every step.
        crop: whose box the object is known to fill; None: nothing is known of its box.
    """
    c = config or RefineConfig()
    energy, stiff = pose_energy(feature_map, model, c)
    descent = Descent(
        energy,
        MovingSurface(model, False),
        np.array([True] * 6 + [free_zoom] + [c.proportions] * 3),
        stiff,
        Schedule(c.optimiser, c.steps, c.drops, c.lr, c.keep, c.polish),
        on_step,
        bonus=_bonus(feature_map, model, crop, c),
    )
    n = len(start.R)
    # the priors hold the lens at the assumed one, the shape at the mean
    bend = np.concatenate([start.log_zoom[:, None], np.zeros((n, 3))], 1)
    final = descent.run(State(start.R.copy(), start.t.copy(), bend, np.full(n, np.inf)))
    return _refined(descent.energy, descent.surface, final)


def focal_profile(
    feature_map: FeatureMap,
    model: CategoryModel,
    found: Refined,
    config: RefineConfig | None = None,
) -> Profile:
    """Return how the energy of the best pose changes with the focal length, all else refitted.

    Args:
        feature_map: what the network sees.
        model: mesh and texture.
        found: poses, from :func:`render_and_compare`; only the best counts.
        config: the one they were found with.
    """
    c = config or RefineConfig()
    energy, stiff = pose_energy(feature_map, model, c)
    zooms = np.append(ZOOMS, found.log_zoom[0])
    n = len(zooms)
    free = np.array([True] * 6 + [False] + [c.proportions] * 3)
    schedule = Schedule(c.optimiser, 0, (), c.lr, n, _FITS)
    descent = Descent(energy, MovingSurface(model, False), free, stiff, schedule)
    t, bend = np.repeat(found.t[:1], n, 0), np.zeros((n, 4))
    bend[:, 0], bend[:, 1:] = zooms, found.log_stretch[0]
    t[:, 2] = np.maximum(t[:, 2] * np.exp(zooms - found.log_zoom[0]), NEAREST)  # the same size
    final = descent.run(State(np.repeat(found.R[:1], n, 0), t, bend, np.full(n, np.inf)))
    extent = model.mesh().extent.double().numpy() * np.exp(final.bend[:, 1:])
    distance = np.linalg.norm(final.t, axis=1) / np.linalg.norm(extent, axis=1)
    log_focal = final.bend[:, 0] - found.log_zoom[0]
    order = np.argsort(log_focal, kind="stable")
    # a camera that would have to stand inside the object explains nothing
    order = order[(final.t[order, 2] > 1.02 * NEAREST) | (log_focal[order] == 0)]
    return Profile(log_focal[order], final.energy[order], distance[order])


def pose_energy(
    cells: FeatureMap, model: CategoryModel, c: RefineConfig
) -> tuple[FusedEnergy, Float64[np.ndarray, "4"]]:
    """Return the energy of the pose stage, and how stiffly it holds log zoom and log stretches."""
    costs = (c.background_cost, c.price, c.edge)
    comparison = Comparison(cells, model.mesh(), model.texture, c.form, *costs)
    return FusedEnergy(comparison, outline=c.outline), stiffness(model, c)


def stiffness(model: CategoryModel, c: RefineConfig) -> Float64[np.ndarray, "4"]:
    """Return how stiffly log zoom and log stretches are held: the priors' curvature."""
    return c.prior_weight / np.array([c.zoom_prior, *model.config.stretch_prior]) ** 2


def _bonus(
    cells: FeatureMap, model: CategoryModel, crop: Crop | None, c: RefineConfig
) -> Callable[[State], Float64[np.ndarray, " n"]] | None:
    """Return what speaks for poses beside their energy: the given box, and one look at the crop."""
    clues: list[Callable[[State], Float64[np.ndarray, " n"]]] = []
    if crop is not None and c.box_worth:
        fit = box_fit(model.template.vertices.double().numpy(), cells, crop)
        clues.append(lambda state: c.box_worth * fit.overlap(*state.where))
    gist = cells.gist
    if gist is not None and c.view_worth:
        clues.append(lambda state: c.view_worth * gist.log_view(torch.from_numpy(state.R)).numpy())
    if not clues:
        return None
    return lambda state: np.sum([clue(state) for clue in clues], axis=0)


def fit_shape(
    feature_map: FeatureMap,
    model: CategoryModel,
    found: Refined,
    free_zoom: bool = False,
    config: ShapeConfig | None = None,
    on_step: Callable[[RefineStep], None] | None = None,
) -> Refined:
    """Return the best pose and the shape that goes with it; ``latent`` 0 where none is better.

    Args:
        feature_map: what the network sees.
        model: mesh, texture and shape space.
        found: poses, from :func:`render_and_compare`; only the best goes on.
        free_zoom: whether the focal length is optimised too (camera unknown).
        config: prior, price of occlusion, schedule.
        on_step: told every step.
    """
    c = config or ShapeConfig()
    cells, whole = finer(feature_map, c.samples), bool(found.visible[0] >= c.whole)
    price, edge = (c.price, c.edge) if whole else (0.0, 0.0)
    comparison = Comparison(cells, model.mesh(), model.texture, price=price, edge=edge)
    surface = MovingSurface(model, True)
    sigma = np.array(
        [c.zoom_prior, *model.config.stretch_prior, *[c.latent_prior] * surface.latents]
    )
    descent = Descent(
        FusedEnergy(comparison, outline=c.outline and whole),
        surface,
        np.array(
            [c.pose] * 6 + [free_zoom and c.pose] + [c.proportions] * 3 + [True] * surface.latents
        ),
        c.prior_weight / sigma**2,
        Schedule("adam", c.steps, c.drops, c.lr, 1, c.polish, "shape-"),
        on_step,
    )
    bend = np.concatenate([found.log_zoom[:1], found.log_stretch[0], np.zeros(surface.latents)])
    start = State(found.R[:1].copy(), found.t[:1].copy(), bend[None], np.full(1, np.inf))
    final = descent.run(start.pick(np.arange(1)))
    before = _exact_energy(descent, start)
    if not _exact_energy(descent, final) < before:
        final = start
    plain = FusedEnergy(Comparison(feature_map, model.mesh(), model.texture))
    shaped = _refined(plain, surface, final)
    return _with_first(found, shaped, final.bend[0, 4:])


def _exact_energy(descent: Descent, s: State) -> float:
    """Return the energy of one pose and shape, priors included, the surface not linearised."""
    step = descent.energy.evaluate(*s.where, descent.surface.exact(s.bend[:, 4:]))
    return float(step.energy[0] + 0.5 * (descent.stiffness * s.bend[0] ** 2).sum())


def _refined(energy: FusedEnergy, surface: MovingSurface, final: State) -> Refined:
    last = energy.evaluate(*final.where, surface.exact(final.bend[:, 4:]))
    visible = last.visible / np.maximum(last.covered, 1)
    return Refined(*final.where, final.energy, last.score, last.evidence, visible)


def _with_first(found: Refined, shaped: Refined, latent: np.ndarray) -> Refined:
    """Return the poses found, the first one replaced by the one whose shape was fitted."""
    names = [n for n in vars(found) if n != "latent"]
    rows = {n: np.concatenate([getattr(shaped, n), getattr(found, n)[1:]]) for n in names}
    return Refined(**rows, latent=latent)
