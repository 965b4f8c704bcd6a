"""No box given: Stanford dev photos pasted small into background pictures, seeded."""

import argparse
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import arguments, backgrounds, dev_views, figures, pixels_of, predictions, stored
from output import save
from output import table as as_table
from PIL import Image

from featmesh import load
from featmesh.draws import generator
from featmesh.views.record import View

SHARES = (0.10, 0.60)  # width of the pasted photo over the canvas's
BINS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
CANVASES = {"640 px": 640, "native (320 px)": None}  # width; None leaves the picture as it is


def paste(
    view: View, pictures: list[np.ndarray], width: int | None, seed: int
) -> tuple[np.ndarray, tuple[float, float, float, float], float]:
    """Return the picture, the pasted photo's box in it, and its share of the width as drawn."""
    rng = generator(seed, "paste", 0, view.index)
    canvas = Image.fromarray(pictures[int(rng.integers(len(pictures)))])
    share = float(rng.uniform(*SHARES))
    if width is not None:
        size = (width, round(canvas.height * width / canvas.width))
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    photo = Image.fromarray(pixels_of(view.image))
    scale = min(share * canvas.width / photo.width, canvas.height / photo.height)
    w, h = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    x = int(rng.integers(canvas.width - w + 1))
    y = int(rng.integers(canvas.height - h + 1))
    canvas.paste(photo.resize((w, h), Image.Resampling.LANCZOS), (x, y))
    return np.asarray(canvas), (float(x), float(y), float(x + w), float(y + h)), share


def measure(
    args: argparse.Namespace, model: Any, views: list[View], width: int | None
) -> dict[str, Any]:
    """Return the figures of one canvas width, all photos and by size."""
    pictures = [pixels_of(path) for path in backgrounds(args)]
    with TemporaryDirectory() as folder:
        pasted, shares = [], []
        for view in views:
            pixels, box, share = paste(view, pictures, width, args.seed)
            pasted.append(stored(folder, view, pixels, box))
            shares.append(share)
        rows, stages = predictions(model, pasted, locate=True)
    results = {"all": figures(pasted, rows) | {"stages": stages}, "by_size": {}}
    for low, high in pairwise(BINS):
        inside = [k for k, share in enumerate(shares) if low <= share < high]
        name = f"{low:.0%} to {high:.0%}"
        results["by_size"][name] = figures([pasted[k] for k in inside], [rows[k] for k in inside])
    return results


def main() -> None:
    args = arguments(__doc__)
    model = load(args.model)
    views = dev_views(args)
    results = {name: measure(args, model, views, width) for name, width in CANVASES.items()}
    keys = ("count", "failed", "acc_30", "acc_10", "median_deg", "box_iou_half", "seconds")
    rows = [
        [canvas, size, *(found.get(key) for key in keys)]
        for canvas, result in results.items()
        for size, found in {"10% to 60%": result["all"], **result["by_size"]}.items()
    ]
    head = ("canvas", "width of the car", "photos", "no pose", "acc@30", "acc@10", "median °")
    title = "Stanford dev pasted into background pictures, no box, no camera"
    shown = as_table(title, (*head, "IoU >= .5", "seconds"), rows)
    save("locate", args, model, results, [shown])


if __name__ == "__main__":
    main()
