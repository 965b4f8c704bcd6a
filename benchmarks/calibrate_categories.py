"""Fit the confidence of the twelve categories again, as their training did: train_categories.py.

python benchmarks/calibrate_categories.py --data DIR --furniture DIR --run RUN [--write]

Looked at are further views of CADs that were learnt from (without those of FlightGear, where its
folder is not given), bare and behind occluders, and pictures without the object.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from categories import model_of
from common import spread
from train_categories import WITHOUT, unseen_views

from featmesh import load
from featmesh.learn.calibration import cross_fitted, fit_calibration, outcomes
from featmesh.model.checkpoint import update_model
from featmesh.views.generate import read_backgrounds
from featmesh.views.presets import PRESETS, SHOWN_IN_CALTECH

FIGURES = ("right", "ece", "auroc_right", "refused_without", "refused_right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "furniture", "run"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--flightgear", type=Path, help="as of train_categories.py")
    parser.add_argument("--categories", nargs="*", default=sorted(PRESETS), choices=sorted(PRESETS))
    parser.add_argument("--write", action="store_true", help="put the numbers into the models")
    options = parser.parse_args()
    for category in options.categories:
        told = calibrate(category, options)
        print(category, *(f"{k} {told[k]:.3f}" for k in FIGURES if k in told), flush=True)


def calibrate(category: str, options: argparse.Namespace) -> dict[str, float]:
    """Fit a category's confidence; return what it is worth on CADs that it was not fitted on."""
    folder = model_of(category, None)
    model, left_out = load(folder), SHOWN_IN_CALTECH.get(category, ())
    pictures = read_backgrounds(options.data / "backgrounds", True, left_out)
    views = unseen_views(category, options, options.run / category, model.template)
    known = outcomes(model, views, spread(pictures, WITHOUT))
    fitted = fit_calibration(known)
    if fitted is not None and options.write:
        update_model(folder, {"calibration": asdict(fitted)})
    return cross_fitted(known)


if __name__ == "__main__":
    main()
