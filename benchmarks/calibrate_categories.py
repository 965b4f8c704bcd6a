"""Fit the confidence of the twelve categories again, as their training did: train_categories.py.

python benchmarks/calibrate_categories.py --data DIR --furniture DIR --run RUN [--write]

Looked at are further views of CADs that were learnt from (without those of FlightGear, where its
folder is not given), bare and behind occluders, and pictures without the object.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from categories import model_of
from common import spread
from train_categories import UNSEEN, WITHOUT, cads_of, look

from featmesh import load
from featmesh.learn.calibration import cross_fitted, fit_calibration, outcomes
from featmesh.learn.correspondence import sample_of
from featmesh.model.checkpoint import update_model
from featmesh.views.generate import read_backgrounds, render_views
from featmesh.views.presets import PRESETS, SHOWN_IN_CALTECH
from featmesh.views.record import read_views

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
    model, cads = load(folder), cads_of(category, options)
    left_out = SHOWN_IN_CALTECH.get(category, ())
    pictures = read_backgrounds(options.data / "backgrounds", True, left_out)
    config = replace(look(category, cads), share_occluded=0.0, share_truncated=0.0)
    path = render_views(cads, pictures, options.run / category, UNSEEN, 5, config)
    views = [sample_of(view, model.template) for view in read_views(path)]
    known = outcomes(model, views, spread(pictures, WITHOUT))
    fitted = fit_calibration(known)
    if fitted is not None and options.write:
        update_model(folder, {"calibration": asdict(fitted)})
    return cross_fitted(known)


if __name__ == "__main__":
    main()
