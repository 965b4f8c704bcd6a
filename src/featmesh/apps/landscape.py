"""The energy over azimuth and elevation, with the path that render-and-compare took through it.

Two maps: ``held`` turns the object only, all else as found; ``optimised`` lets all else follow
(place in the picture, distance, in-plane rotation, and lens and proportions where the refinement
frees them) by Levenberg-Marquardt steps that leave azimuth and elevation exactly where they are.
Both hold the very energy of the refinement, priors included. Source: ours.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from PIL import Image

from featmesh.errors import InputError
from featmesh.files import write_json_atomic
from featmesh.geometry.pose import so3_exp
from featmesh.geometry.viewpoint import angles_from_rotation, ray_rotation, rotation_from_angles
from featmesh.inference.descent import LIMITS, LONGEST, NEAREST
from featmesh.inference.energy_kernels import POSE
from featmesh.paths import write_whole
from featmesh.present.landscape import Landscape, Pictures, landscape_page, landscape_picture
from featmesh.present.overlay import overlay

from .sight import PoseEnergy, Poses, Sight

STEPS = 8  # of Levenberg-Marquardt at each view
LOWEST, HIGHEST = -30.0, 75.0  # degrees of elevation that are always shown
PLACE = 4  # two angles of the centre's ray, in-plane rotation, log distance
FILES = ("landscape.png", "landscape.html", "landscape.json")


def survey(sight: Sight, grid: float = 5.0, steps: int = STEPS) -> Landscape:
    """Return the energy of a photo over azimuth and elevation.

    Args:
        sight: a close look at the photo.
        grid: degrees between two views; it divides 180.
        steps: at each view, by which all else follows.

    Raises:
        InputError: E_CONFIG where the grid does not divide 180 degrees, or is finer than 1.
    """
    if not 1 <= grid <= 60 or 180 % grid:
        raise InputError(
            "E_CONFIG",
            f"landscape: expected a grid of 1 to 60 degrees that divides 180, got {grid:g}; try: 5",
        )
    path, found = sight.path, Poses.of(sight.trial.refined, 0)
    walked = views_of(path.poses)
    first = sight.steps[0]
    starts = views_of(Poses(first.R, first.t, first.log_zoom, first.log_stretch))
    azimuths = np.radians(np.arange(0.0, 360.0, grid))
    elevations = _elevations(np.concatenate([walked, starts])[:, 1], grid)
    shape = (len(elevations), len(azimuths))
    turned = turned_to(found, np.tile(azimuths, shape[0]), np.repeat(elevations, shape[1]))
    held = sight.energy.evaluate(turned).energy
    free = _free(sight)

    def settled(rows: np.ndarray) -> np.ndarray:
        return settle(sight.energy, turned.pick(rows), free, steps)[1]

    parts = np.array_split(np.arange(len(held)), 8)
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:  # kernels free the lock
        optimised = np.concatenate(list(pool.map(settled, parts)))
    return Landscape(
        azimuths,
        elevations,
        held.reshape(shape),
        optimised.reshape(shape),
        walked,
        path.energy,
        path.stages,
        starts,
    )


def views_of(poses: Poses) -> Float64[np.ndarray, "n 2"]:
    """Return azimuth and elevation along the ray to the object's centre, radians."""
    t = torch.from_numpy(poses.t)
    return angles_from_rotation(ray_rotation(t) @ torch.from_numpy(poses.R))[:, :2].numpy()


def turned_to(
    pose: Poses, azimuths: Float64[np.ndarray, " n"], elevations: Float64[np.ndarray, " n"]
) -> Poses:
    """Return one pose turned to other views (radians), all else held."""
    t = torch.from_numpy(pose.t[0])
    ray = ray_rotation(t)
    theta = angles_from_rotation(ray @ torch.from_numpy(pose.R[0]))[2].expand(len(azimuths))
    R = rotation_from_angles(torch.from_numpy(azimuths), torch.from_numpy(elevations), theta)
    rows = pose.pick(np.zeros(len(azimuths), dtype=int))
    return Poses((ray.T @ R).numpy(), rows.t, rows.log_zoom, rows.log_stretch)


def settle(
    energy: PoseEnergy, poses: Poses, free: tuple[bool, ...], steps: int
) -> tuple[Poses, Float64[np.ndarray, " n"]]:
    """Return the poses after all but their views has followed the energy, and their energies.

    A step is taken only where the energy falls.

    Args:
        energy: of the photo.
        poses: azimuth and elevation of each stay exactly what they are.
        free: whether the lens, and whether the proportions are free.
        steps: of Levenberg-Marquardt.
    """
    damping = np.full(len(poses.R), 1e-2)
    step = energy.evaluate(poses)
    lowest, gradient, curvature = step.energy, step.gradient, step.curvature
    for _ in range(steps):
        J = _directions(poses.t, free)
        g = np.einsum("npq,np->nq", J, gradient)
        A = J.transpose(0, 2, 1) @ curvature @ J
        diagonal = np.einsum("nqq->nq", A).copy() + 1e-9
        A += np.einsum("nq,qr->nqr", damping[:, None] * diagonal + 1e-12, np.eye(g.shape[1]))
        move = np.clip(-np.linalg.solve(A, g[..., None])[..., 0], -LONGEST, LONGEST)
        tried = _moved(poses, move, free)
        new = energy.evaluate(tried)
        better = new.energy < lowest
        poses, lowest = poses.choose(better, tried), np.where(better, new.energy, lowest)
        gradient = np.where(better[:, None], new.gradient, gradient)
        curvature = np.where(better[:, None, None], new.curvature, curvature)
        damping = np.where(better, damping * 0.3, damping * 6)
    return poses, lowest


def write_landscape(sight: Sight, landscape: Landscape, name: str, out: Path) -> list[Path]:
    """Write landscape.png, landscape.html and landscape.json; return their paths.

    Args:
        sight: what the landscape is of.
        landscape: from :func:`survey`.
        name: of the photo, for headings.
        out: folder, made where it is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    begin = sight.refined_at(sight.path.poses.pick(slice(0, 1)))
    pictures = Pictures(
        start=overlay(sight.photo, sight.estimate(begin)),
        end=overlay(sight.photo, sight.estimate()),
    )
    files = [out / file for file in FILES]
    Image.fromarray(landscape_picture(landscape)).save(files[0], optimize=True)
    write_whole(files[1], landscape_page(landscape, pictures, name, sight.model.category))
    write_json_atomic(files[2], landscape.to_json() | {"photo": name, "model": sight.model.hash})
    return files


def _elevations(seen: np.ndarray, grid: float) -> Float64[np.ndarray, " e"]:
    """Return the elevations of the grid, radians, that hold all that is drawn."""
    low = min(LOWEST, math.degrees(seen.min()))
    high = max(HIGHEST, math.degrees(seen.max()))
    rows = np.arange(max(-90.0, math.floor(low / grid) * grid), min(high + grid, 90.0) + 1e-9, grid)
    return np.radians(rows)


def _free(sight: Sight) -> tuple[bool, ...]:
    return (not sight.lens.known, sight.config.refine.proportions)


def _directions(
    t: Float64[np.ndarray, "n 3"], free: tuple[bool, ...]
) -> Float64[np.ndarray, "n p q"]:
    """Return the derivative of the kernel's parameters by those that leave the view as it is.

    Turning object and centre together about the camera, turning the object about the ray to its
    centre, and moving it along that ray change neither azimuth nor elevation.
    """
    lens, proportions = free
    n = len(t)
    J = np.zeros((n, POSE, PLACE + lens + 3 * proportions))
    x, y, z = t.T
    zero = np.zeros(n)
    J[:, 0, 0] = J[:, 1, 1] = 1.0
    J[:, 3:6, 0] = np.stack([zero, -z, y], 1)  # x axis times t
    J[:, 3:6, 1] = np.stack([z, zero, -x], 1)  # y axis times t
    J[:, :3, 2] = t / np.linalg.norm(t, axis=1, keepdims=True)
    J[:, 3:6, 3] = t
    if lens:  # a longer lens takes the camera back with it
        J[:, 6, PLACE] = 1.0
        J[:, 3:6, PLACE] = t
    if proportions:
        J[:, range(7, POSE), range(PLACE + lens, PLACE + lens + 3)] = 1.0
    return J


def _moved(poses: Poses, move: np.ndarray, free: tuple[bool, ...]) -> Poses:
    """Return the poses moved along :func:`_directions`, exactly."""
    lens, proportions = free
    about = torch.from_numpy(np.concatenate([move[:, :2], np.zeros((len(move), 1))], 1))
    turn = so3_exp(about).numpy()
    ray = poses.t / np.linalg.norm(poses.t, axis=1, keepdims=True)
    own = so3_exp(torch.from_numpy(ray * move[:, 2:3])).numpy()
    zoom, stretch = poses.log_zoom, poses.log_stretch
    if lens:
        zoom = np.clip(zoom + move[:, PLACE], LIMITS[0][0], LIMITS[1][0])
    if proportions:
        stretch = np.clip(stretch + move[:, PLACE + lens :], LIMITS[0][1:], LIMITS[1][1:])
    scale = np.exp(move[:, 3] + zoom - poses.log_zoom)
    far = poses.t * np.maximum(scale, NEAREST / poses.t[:, 2])[:, None]
    t = np.einsum("nij,nj->ni", turn, far)
    return Poses(turn @ own @ poses.R, t, zoom, stretch)
