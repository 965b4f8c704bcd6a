"""How far photos determine their focal length: coverage and width of the 90 % interval.

python benchmarks/focal.py --data DIR [--limit N]

No camera is given. Of a crop (Stanford Cars dev) the strength of perspective is known, by the
label's distance: the true focal length is the one with which the camera stands that far away. Of
street scenes (KITTI, nuScenes samples; whole photos, boxes given) K is known. The number behind the
intervals is fitted by benchmarks/calibration.py on photos of car models that were not trained on.
"""

import argparse
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import arguments, backgrounds, dev_views, pixels_of, spread
from output import save, table

from featmesh import estimate, load
from featmesh.evaluate.metrics import rank_correlation
from featmesh.inference.config import RefineConfig
from featmesh.inference.focal import Profile
from featmesh.inference.refine import ZOOMS
from featmesh.learn.calibration import focal_figures
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.progress import track
from featmesh.views.occlude import LEVELS, occlude
from featmesh.views.record import View, read_views

STREETS = ("kitti_sample", "nuscenes_sample")
COLUMNS = ("count", "coverage", "above", "below", "median_high_over_low", "median_factor_off")


@dataclass(frozen=True)
class Look:
    """One estimate without a camera.

    Attributes:
        profile: of the focal length; None where no object was found.
        at: where in it the truth lies, as ``log_focal``.
        found: logarithm of the estimated focal length over the photo's longer side.
    """

    profile: Profile | None
    at: float = math.nan
    found: float = math.nan


def look_at(model: CategoryModel, view: View, pixels: np.ndarray, box: Any) -> Look:
    """Return what an estimate without a camera says of a photo's lens, and the truth."""
    e = estimate(model, Photo(np.ascontiguousarray(pixels)), box)
    if e.profile is None or e.camera is None:
        return Look(None)
    found = math.log(e.camera.fx / max(view.width, view.height))
    if view.K is not None:
        return Look(e.profile, math.log(float(np.asarray(view.K)[0, 0]) / e.camera.fx), found)
    return Look(e.profile, e.profile.at_distance(float(view.distance or math.nan)), found)


def of_crops(args: argparse.Namespace, model: CategoryModel) -> dict[str, list[Look]]:
    """Return the looks at Stanford dev: bare and behind occluders with the box, bare without."""
    pictures = [pixels_of(path) for path in backgrounds(args)]
    looks: dict[str, list[Look]] = {level: [] for level in ("L0", *LEVELS, "no box")}
    views = dev_views(args)
    for view in track(views, len(views), "crops"):
        pixels, box = pixels_of(view.image), view.box_or_image
        looks["L0"].append(look_at(model, view, pixels, box))
        looks["no box"].append(look_at(model, view, pixels, None))
        for level in LEVELS:
            shown = occlude(pixels, box, level, args.seed, view.index, pictures)[0]
            looks[level].append(look_at(model, view, shown, box))
    return looks


def of_streets(args: argparse.Namespace, model: CategoryModel) -> dict[str, list[Look]]:
    """Return the looks at street scenes, whose K is known and not given."""
    looks = {}
    for name in STREETS:
        views = spread(read_views(args.data / name / "views.json"), args.limit)
        views = [v for v in track(views, len(views), name) if v.K is not None]
        looks[name] = [look_at(model, v, pixels_of(v.image), v.box_or_image) for v in views]
    return looks


def figures(looks: list[Look], heat: float) -> dict[str, Any]:
    """Return how good the intervals are; photos without a pose are counted apart."""
    known = [(x.profile, x.at) for x in looks if x.profile is not None]
    if not known:
        return {"photos": len(looks), **dict.fromkeys(COLUMNS), "rank_correlation": None}
    found = np.array([x.found for x in looks if x.profile is not None])
    truth = found + np.array([at for _, at in known])
    told = {"photos": len(looks), **focal_figures(known, heat)}
    return told | {"rank_correlation": rank_correlation(found, truth)}


def without_photo(heat: float) -> float:
    """Return high over low of the interval that the prior alone would give."""
    c = RefineConfig()
    prior = Profile(ZOOMS, 0.5 * c.prior_weight * (ZOOMS / c.zoom_prior) ** 2, np.exp(ZOOMS))
    low, high = prior.interval(heat)
    return math.exp(high - low)


def main() -> None:
    args = arguments(__doc__.splitlines()[0])
    model = load(args.model)
    heat = None if model.calibration is None else model.calibration.focal
    if heat is None:
        raise SystemExit(
            "focal: expected a model with a calibrated focal length, got none; try: "
            "python benchmarks/calibration.py --write"
        )
    looks = of_crops(args, model) | of_streets(args, model)
    each = {name: figures(seen, heat) for name, seen in looks.items()}
    results = {"heat": heat, "prior_high_over_low": without_photo(heat), "looks": each}
    columns = ("photos", *COLUMNS, "rank_correlation")
    rows = [[name, *(told[key] for key in columns)] for name, told in each.items()]
    title = (
        "90 % interval of an unknown focal length; without a photo it would be "
        f"{results['prior_high_over_low']:.1f} (high over low)"
    )
    save("focal", args, model, results, [table(title, ("looked at", *columns), rows)])


if __name__ == "__main__":
    main()
