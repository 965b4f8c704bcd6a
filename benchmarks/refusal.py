"""Refusal: photos without a car against Stanford dev, at the model's threshold, two ways."""

from typing import Any

import numpy as np
from common import CAR_NEGATIVES, arguments, dev_views, negatives, predictions, spread
from output import save, table
from PIL import Image

from featmesh import load
from featmesh.evaluate.predict import score_predictions
from featmesh.views.record import View

WAYS = {"box = whole image": False, "no box": True}


def negative_views(args: Any, first: int) -> list[View]:
    """Return the photos without a car, numbered from ``first``."""
    views = []
    for k, path in enumerate(spread(negatives(args), args.limit)):
        with Image.open(path) as photo:
            size = photo.size
        views.append(View(path, *size, "car", no_object=True, index=first + k))
    return views


def measure(model: Any, views: list[View], locate: bool) -> dict[str, Any]:
    """Return shares refused, AUROC and the scores' quantiles of one way."""
    rows, _ = predictions(model, views, locate)
    found = score_predictions(views, rows)["refusal"]
    cars = found["positives"] = len(views) - found["negatives"]
    found["positives_refused_share"] = found["positives_refused"] / cars
    for name, wanted in (("cars", False), ("negatives", True)):
        scores = [
            row["score"]
            for view, row in zip(views, rows, strict=True)
            if view.no_object == wanted and row["score"] is not None
        ]
        found[f"scores_{name}"] = np.quantile(scores, (0.01, 0.1, 0.5, 0.9, 0.99)).tolist()
    return found


def main() -> None:
    args = arguments(__doc__)
    model = load(args.model)
    cars = dev_views(args)
    without = negative_views(args, first=1 + max(view.index for view in cars))
    results = {way: measure(model, [*cars, *without], locate) for way, locate in WAYS.items()}
    left_out = sorted(CAR_NEGATIVES)
    keys = ("negatives", "refused_share", "positives", "positives_refused_share", "auroc_score")
    rows = [[way, *(found[key] for key in keys)] for way, found in results.items()]
    head = ("given", "negatives", "refused", "cars", "cars refused", "AUROC")
    title = f"Refusal at the threshold; left out, for they show cars: {', '.join(left_out)}"
    save("refusal", args, model, {**results, "left_out": left_out}, [table(title, head, rows)])


if __name__ == "__main__":
    main()
