"""Video: is a car followed better than it is estimated frame by frame, and how much faster?

Cars that are only reported on turn and move through rendered videos, known camera; a few frames are
largely hidden, and a few show nothing of the car. Rotation error and jitter of each frame estimated
alone, tracked, filtered, and smoothed from both sides; with their time.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from common import arguments, backgrounds, pixels_of
from output import save, table

from featmesh import estimate, load
from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose, so3_log
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.track import TrackedFrame, Tracker, smoothed
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.progress import track as shown
from featmesh.views.backdrop import backdrop, degrade
from featmesh.views.cad_model import Cad
from featmesh.views.cad_sources import read_reported_cads
from featmesh.views.looks import draw_looks
from featmesh.views.occlude import occlude
from featmesh.views.picture import Shot, draw_light, picture
from featmesh.views.scene import build_scene

SIZE, FOCAL = (320, 480), 560.0  # height and width, focal length: pixels
FRAMES = 60
VIDEOS = 4
HIDDEN, GONE = range(20, 28), range(42, 46)  # frames behind occluders, and without the car
LEVEL = "L3"  # of the occluders: 60 to 80 % hidden
CLEAR, BEHIND = "clear frames", "occluded frames"


@dataclass(frozen=True)
class Video:
    """Frames, and where the car is in each; None where it is not to be seen."""

    frames: list[Photo]
    poses: list[Pose | None]
    camera: Camera


def path_of(rng: np.random.Generator, count: int) -> list[tuple[Any, ...]]:
    """Return angles (radians), distance and centre (shares of the frame) of each frame."""
    start, turn = rng.uniform(0, 2 * math.pi), rng.choice([-1, 1]) * rng.uniform(1.0, 4.0)
    tilt, near, wave = rng.uniform(4, 20), rng.uniform(2.2, 3.2), rng.uniform(0, 2 * math.pi)
    rows = []
    for k in range(count):
        s = 2 * math.pi * k / FRAMES
        azimuth = start + math.radians(turn * k + 6 * math.sin(s + wave))
        elevation = math.radians(tilt + 4 * math.sin(0.7 * s + wave))
        roll = math.radians(2 * math.sin(1.3 * s + wave))
        centre = (0.5 + 0.12 * math.sin(s + wave), 0.5 + 0.05 * math.cos(1.5 * s))
        rows.append(((azimuth, elevation, roll), near * (1 + 0.2 * math.sin(0.8 * s)), centre))
    return rows


def film(cad: Cad, pictures: Sequence[np.ndarray], seed: int, number: int, count: int) -> Video:
    """Return a rendered video of a car; light, paint and background stay through all frames."""
    rng, scene = generator(seed, "video", 0, number), build_scene(cad)
    path, key = path_of(rng, count), int(rng.integers(2**31))
    colours, surface, bitmaps, texels = draw_looks(rng, scene, "car", pictures)
    scene = replace(scene, bitmaps=bitmaps, texels=texels)
    frames, poses = list[Photo](), list[Pose | None]()
    for k, (angles, distance, at) in enumerate(path):
        centre = (at[0] * SIZE[1], at[1] * SIZE[0])
        shot = Shot.towards(angles, distance, centre, FOCAL, SIZE)
        same = generator(key, "still")
        light = draw_light(same, shot, pictures)
        behind = backdrop(same, shot, scene, pictures, (0.8, 0.8, 0.0))
        pixels, amodal, _ = picture(shot, scene, light, (colours, surface), behind)
        if k in HIDDEN:
            pixels, _ = occlude(pixels, amodal, LEVEL, seed, number, pictures)
        if k in GONE:
            pixels = (behind * 255).astype(np.uint8)
        pixels, _ = degrade(generator(key, "noise", 0, k), pixels)
        frames.append(Photo(np.ascontiguousarray(pixels)))
        poses.append(None if k in GONE else Pose(*map(_tensor, (shot.R, shot.t))))
    return Video(frames, poses, Camera(FOCAL, FOCAL, SIZE[1] / 2, SIZE[0] / 2, *SIZE))


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def alone(model: CategoryModel, video: Video) -> tuple[list[Pose | None], list[float]]:
    """Return the pose of each frame estimated as a photo, no box, and its seconds."""
    return timed(lambda photo: estimate(model, photo, None, video.camera).cam_from_obj, video)


def timed(
    answer: Callable[[Photo], Pose | None], video: Video
) -> tuple[list[Pose | None], list[float]]:
    """Return what each frame is answered with, and its CPU seconds: other work does not count."""
    poses, spent = list[Pose | None](), list[float]()
    for photo in video.frames:
        begin = time.process_time()
        poses.append(answer(photo))
        spent.append(time.process_time() - begin)
    return poses, spent


def followed(model: CategoryModel, video: Video) -> tuple[dict[str, list[Pose | None]], dict]:
    """Return the poses before the filter, after it and after two sides; and how it went."""
    tracker, rows = Tracker(model, video.camera), list[TrackedFrame]()

    def answer(photo: Photo) -> Pose | None:
        rows.append(tracker.see(photo))
        return rows[-1].measured

    measured, spent = timed(answer, video)
    after = [f.estimate.cam_from_obj for f in smoothed(rows)]
    filtered = [f.estimate.cam_from_obj for f in rows]
    went = {
        "how": [f.how for f in rows],
        "tracks": len({f.track for f in rows} - {None}),
        "seconds": spent,
        "tracked_seconds": [s for s, f in zip(spent, rows, strict=True) if f.how == "tracked"],
    }
    return {"tracked": measured, "filtered": filtered, "two-sided": after}, went


def degrees(found: Sequence[Pose | None], video: Video) -> np.ndarray:
    """Return the rotation error of each frame; 180 where the car is seen and there is no pose."""
    return np.array(
        [
            math.nan if true is None else 180.0 if pose is None else angle(pose, true)
            for pose, true in zip(found, video.poses, strict=True)
        ]
    )


def angle(a: Pose, b: Pose) -> float:
    """Return the angle between two rotations, degrees."""
    return math.degrees(float(geodesic_angle(a.R, b.R)))


def jitter(found: Sequence[Pose | None], video: Video) -> list[float]:
    """Return by how much each frame's turn differs from the true one, degrees a frame."""
    told = []
    for k in range(1, len(found)):
        a, b, c, d = found[k - 1], found[k], video.poses[k - 1], video.poses[k]
        if a is not None and b is not None and c is not None and d is not None:
            off = so3_log(b.R @ a.R.T) - so3_log(d.R @ c.R.T)
            told.append(math.degrees(float(off.norm())))
    return told


def told_of(
    answers: Sequence[Sequence[Pose | None]], videos: Sequence[Video], which: Sequence[int]
) -> dict[str, float]:
    """Return the figures of one kind of answer over the frames of a kind, all videos."""
    kept = set(which)
    errors = np.concatenate(
        [
            np.array([e for k, e in enumerate(degrees(found, v)) if k in kept and e == e])
            for found, v in zip(answers, videos, strict=True)
        ]
    )
    return {
        "frames": len(errors),
        "mean_deg": float(errors.mean()),
        "median_deg": float(np.median(errors)),
        "over_30": float((errors > 30).mean()),
        "no_pose": float((errors == 180).mean()),
    }


def invented(answers: Sequence[Sequence[Pose | None]], videos: Sequence[Video]) -> float:
    """Return the share of frames without the car that were given a pose."""
    pairs = [z for f, v in zip(answers, videos, strict=True) for z in zip(f, v.poses, strict=True)]
    gone = [pose is not None for pose, true in pairs if true is None]
    return float(np.mean(gone)) if gone else math.nan


def films(args: argparse.Namespace) -> list[Video]:
    """Return the rendered videos."""
    cads = read_reported_cads("car", args.data / "pascal3d_cad")
    pictures = [pixels_of(path) for path in backgrounds(args)]
    numbers = range(args.limit or VIDEOS)
    jobs = (film(cads[k % len(cads)], pictures, args.seed, k, FRAMES) for k in numbers)
    return list(shown(jobs, len(numbers), "render"))


def measured(model: CategoryModel, videos: Sequence[Video]) -> dict[str, Any]:
    """Return all figures."""
    answers: dict[str, list[Any]] = {"alone": []}
    seconds: dict[str, list[float]] = {"alone": [], "tracked": [], "followed": []}
    hows, tracks = Counter[str](), list[int]()
    for video in shown(videos, len(videos), "videos"):
        poses, spent = alone(model, video)
        answers["alone"].append(poses)
        seconds["alone"] += spent
        several, went = followed(model, video)
        for name, found in several.items():
            answers.setdefault(name, []).append(found)
        seconds["followed"] += went["seconds"]
        seconds["tracked"] += went["tracked_seconds"]
        hows.update(went["how"])
        tracks.append(went["tracks"])
    clear = [k for k in range(FRAMES) if k not in HIDDEN and k not in GONE]
    kinds = {CLEAR: clear, BEHIND: list(HIDDEN)}
    figures = {n: {k: told_of(a, videos, w) for k, w in kinds.items()} for n, a in answers.items()}
    shakes = {
        n: [j for f, v in zip(a, videos, strict=True) for j in jitter(f, v)]
        for n, a in answers.items()
    }
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "videos": len(videos),
        "frames": FRAMES,
        "rotation": figures,
        "jitter_mean_deg": {n: float(np.mean(v)) for n, v in shakes.items()},
        "jitter_median_deg": {n: float(np.median(v)) for n, v in shakes.items()},
        "pose_without_car": {n: invented(a, videos) for n, a in answers.items()},
        "seconds": median,
        "times_as_fast": median["alone"] / median["tracked"],
        "times_as_fast_mean": float(np.mean(seconds["alone"]) / np.mean(seconds["followed"])),
        "how": dict(hows),
        "tracks": tracks,
    }


NAMES = {
    "alone": "each frame alone",
    "tracked": "tracked, before the filter",
    "filtered": "tracked, causal filter",
    "two-sided": "tracked, smoothed from both sides",
}


def main() -> None:
    args = arguments(__doc__)
    model = load(args.model)
    estimate(model, Photo(np.full((*SIZE, 3), 99, np.uint8)))  # tables and kernels are made
    results = measured(model, films(args))
    rows = [
        [
            label,
            *(results["rotation"][name][kind][key] for kind in (CLEAR, BEHIND) for key in KEYS),
            results["jitter_median_deg"][name],
            results["pose_without_car"][name],
        ]
        for name, label in NAMES.items()
    ]
    columns = ["answer", *(f"{kind}: {HEAD[key]}" for kind in (CLEAR, BEHIND) for key in KEYS)]
    columns += ["jitter, median deg a frame", "pose where no car is"]
    spent = [[name, results["seconds"][key]] for name, key in TIMES.items()]
    spent.append(["times as fast, median of tracked frames", results["times_as_fast"]])
    spent.append(["times as fast, mean of all frames", results["times_as_fast_mean"]])
    tables = [
        table("A turning car in rendered videos", columns, rows),
        table("Time of a frame", ["what", "median CPU s"], spent),
    ]
    save("track", args, model, results, tables)


KEYS = ("mean_deg", "median_deg", "over_30")
HEAD = {"mean_deg": "mean deg", "median_deg": "median deg", "over_30": "over 30 deg"}
TIMES = {"estimated alone, no box": "alone", "tracked": "tracked"}


if __name__ == "__main__":
    main()
