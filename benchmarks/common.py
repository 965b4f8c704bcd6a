"""What the benchmark scripts share: options, data, predictions, figures."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from featmesh.evaluate.metrics import box_iou
from featmesh.evaluate.predict import WITH_POSE, predict, score_predictions
from featmesh.inference.estimator import estimate
from featmesh.views.occlude import occlude
from featmesh.views.record import View, read_views

# Caltech background pictures that show a car or a truck, by number; negatives that do, by class
CAR_BACKGROUNDS = {13, 77, 107, 110, 137, 148, 162, 192, 236, 237, 298}
CAR_NEGATIVES = {"bassoon", "crate", "fire_engine", "half_track"}

Half = Callable[[Path], list[Path]]


def arguments(about: str, data: bool = True, furniture: bool = False) -> argparse.Namespace:
    """Return the options every script has, and the folder of textured CADs where it is needed."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, required=data, help="folder with the photos")
    parser.add_argument("--model", default="car", help="name of a bundled model, or its folder")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="records or cases of each part: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    if furniture:
        catalogues = Path("/usr/share/sweethome3d/furniture")  # of Debian's sweethome3d-furniture
        parser.add_argument("--furniture", type=Path, default=catalogues)
    return parser.parse_args()


def spread(items: Sequence[Any], limit: int | None) -> list[Any]:
    """Return at most ``limit`` items, evenly over the whole list."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def dev_views(args: argparse.Namespace) -> list[View]:
    """Return the Stanford Cars photos that are reported on."""
    return spread(read_views(args.data / "stanford_cars/dev.json"), args.limit)


def first_half(folder: Path) -> list[Path]:
    """Return the pictures of a folder that may be learnt from (contracts 6)."""
    pictures = sorted(folder.glob("*.jpg"))
    return pictures[: len(pictures) // 2]


def second_half(folder: Path) -> list[Path]:
    """Return the pictures of a folder that are reported on (contracts 6)."""
    pictures = sorted(folder.glob("*.jpg"))
    return pictures[len(pictures) // 2 :]


def backgrounds(args: argparse.Namespace, half: Half = second_half) -> list[Path]:
    """Return background pictures without a car, of one half."""
    kept = half(args.data / "backgrounds")
    return [path for path in kept if int(path.stem[-4:]) not in CAR_BACKGROUNDS]


def negatives(args: argparse.Namespace, half: Half = second_half) -> list[Path]:
    """Return negatives of one half that show no car."""
    kept = half(args.data / "negatives")
    return [path for path in kept if path.stem.split("_", 1)[1] not in CAR_NEGATIVES]


def pixels_of(path: Path) -> np.ndarray:
    """Return the RGB pixels of a picture."""
    return np.asarray(Image.open(path).convert("RGB"))


def stored(folder: str, view: View, pixels: np.ndarray, box: Any = None) -> View:
    """Write changed pixels of a view and return the view that shows them."""
    path = Path(folder) / f"{view.index:05d}.png"
    Image.fromarray(pixels).save(path, compress_level=1)
    height, width = pixels.shape[:2]
    return replace(view, image=path, image_name=path.name, height=height, width=width, box=box)


def behind_occluders(
    args: argparse.Namespace, views: Sequence[View], level: str, folder: str
) -> list[View]:
    """Return the views with occluders of a level; pictures without a car hide the photo's box."""
    pictures = [pixels_of(path) for path in backgrounds(args)]
    hidden = []
    for view in views:
        photo = pixels_of(view.image)
        key = (level, args.seed, view.index, pictures)
        hidden.append(stored(folder, view, occlude(photo, view.box_or_image, *key)[0], view.box))
    return hidden


def predictions(
    model: Any, views: Sequence[View], locate: bool = False, config: Any = None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return one row a view, and the median seconds of each stage."""
    spent: dict[str, list[float]] = {}

    def run(model: Any, photo: Any, box: Any = None, camera: Any = None) -> Any:
        found = estimate(model, photo, box=box, camera=camera, config=config)
        for stage, seconds in found.seconds.items():
            spent.setdefault(stage, []).append(seconds)
        return found

    with TemporaryDirectory() as folder:
        rows = predict(model, views, folder, run, locate)
    return rows, {stage: float(np.median(values)) for stage, values in spent.items()}


def degrees(views: Sequence[View], rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the rotation error of each record, 180 where there is no pose."""
    pairs = zip(views, rows, strict=True)
    return np.array([score_predictions([v], [r])["pose"]["median_deg"] for v, r in pairs])


def answered(row: dict[str, Any]) -> bool:
    """Return whether a row claims an object: a refused one does not."""
    return row["status"] in WITH_POSE and row["box"] is not None


def figures(views: Sequence[View], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return accuracies, median error, flips, overlap of boxes and time of predictions."""
    if not views:
        return {"count": 0}
    errors = degrees(views, rows)
    shares = [
        box_iou(tuple(row["box"]), view.box_or_image) if answered(row) else 0.0
        for view, row in zip(views, rows, strict=True)
    ]
    return {
        **score_predictions(views, rows)["pose"],
        "under_30": int((errors < 30).sum()),
        "under_10": int((errors < 10).sum()),
        "over_90": float((errors > 90).mean()),
        "box_iou_mean": float(np.mean(shares)),
        "box_iou_half": float(np.mean(np.array(shares) >= 0.5)),
        "seconds": float(np.median([row["seconds"] for row in rows])),
    }
