"""What each pixel shows: masks of real cars without a box, occluder maps, time of all masks."""

import argparse
from typing import Any

import numpy as np
from common import arguments, backgrounds, dev_views, pixels_of, spread
from output import save, table
from PIL import Image

from featmesh import estimate, load, read_photo
from featmesh.evaluate.metrics import mask_iou, rotation_error
from featmesh.geometry.viewpoint import ray_rotation
from featmesh.inference.result import Estimate
from featmesh.model.category import CategoryModel
from featmesh.photo.photo import Photo
from featmesh.progress import track
from featmesh.views.occlude import LEVELS, occlude
from featmesh.views.record import View

SEQUENCES = ("car-roundabout", "drift-chicane")  # of davis_cars; the third shows no car


def mask(found: Estimate, name: str, size: tuple[int, ...]) -> np.ndarray:
    """Return a mask of an estimate; empty where no object was found."""
    drawn = found.segmentation
    return np.zeros(size, bool) if drawn is None else getattr(drawn, name)


def davis(args: argparse.Namespace, model: CategoryModel) -> dict[str, Any]:
    """Return the overlap of visible pixels with the annotated car, no box, no camera."""
    found: dict[str, Any] = {}
    for sequence in SEQUENCES:
        files = sorted((args.data / "davis_cars" / sequence).glob("*_mask.png"))
        shares, spent, without = [], [], 0
        for file in track(spread(files, args.limit), len(files), sequence):
            truth = np.asarray(Image.open(file)) > 0
            photo = read_photo(str(file).replace("_mask.png", ".jpg"))
            e = estimate(model, photo, task="segment")
            shares.append(mask_iou(mask(e, "visible", truth.shape), truth))
            spent.append(e.seconds.get("segment", 0.0))
            without += e.segmentation is None
        found[sequence] = {
            "frames": len(shares),
            "refused": without,
            "iou_mean": float(np.mean(shares)),
            "iou": shares,
            "seconds": float(np.median(spent)),
        }
    frames = [share for each in found.values() for share in each["iou"]]
    found["all"] = {
        "frames": len(frames),
        "refused": sum(each["refused"] for each in found.values()),
        "iou_mean": float(np.mean(frames)),
        "seconds": float(np.median([each["seconds"] for each in found.values()])),
    }
    return found


def error(found: Estimate, view: View) -> float:
    """Return the rotation error, radians, pi without a pose."""
    if found.cam_from_obj is None:
        return float(np.pi)
    seen = (ray_rotation(found.cam_from_obj.t) @ found.cam_from_obj.R).numpy()
    return float(rotation_error(seen, np.asarray(view.R, dtype=np.float64)))


def occluders(args: argparse.Namespace, model: CategoryModel) -> dict[str, Any]:
    """Return how well pixels hidden by pasted occluders are found, and the pose behind them.

    Hidden are the pixels of an occluder on the car; where the car is, is what the model says of the
    photo without occluders.
    """
    pictures = [pixels_of(path) for path in backgrounds(args)]
    views, rows = dev_views(args), {level: [] for level in ("L0", *LEVELS)}
    spent: list[float] = []
    for view in track(views, len(views), "occluders"):
        box, pixels = view.box_or_image, pixels_of(view.image)
        clean = estimate(model, Photo(pixels), box, task="segment")
        spent.append(clean.seconds.get("segment", 0.0))
        car = mask(clean, "amodal", pixels.shape[:2])
        hidden = mask(clean, "occluded", car.shape)
        rows["L0"].append((float(hidden.sum()) / max(int(car.sum()), 1), error(clean, view)))
        for level in LEVELS:
            shown, where = occlude(pixels, box, level, args.seed, view.index, pictures)
            e = estimate(model, Photo(np.ascontiguousarray(shown)), box, task="segment")
            share = mask_iou(mask(e, "occluded", where.shape), where & car)
            rows[level].append((share, error(e, view)))
    found: dict[str, Any] = {"seconds": float(np.median(spent))}
    for level, pairs in rows.items():
        shares, errors = np.array(pairs).T
        found[level] = {
            "photos": len(pairs),
            "called_hidden" if level == "L0" else "iou": float(shares.mean()),
            "acc_30": float((errors < np.pi / 6).mean()),
            "acc_10": float((errors < np.pi / 18).mean()),
            "over_90": float((errors > np.pi / 2).mean()),
        }
    return found


def main() -> None:
    args = arguments(__doc__)
    model = load(args.model)
    results = {"davis_cars": davis(args, model), "occluders": occluders(args, model)}
    masks = [
        [name, each["frames"], each["refused"], each["iou_mean"], each["seconds"]]
        for name, each in results["davis_cars"].items()
    ]
    hidden = [
        [level, each.get("iou"), each.get("called_hidden"), each["acc_30"], each["acc_10"]]
        for level, each in results["occluders"].items()
        if isinstance(each, dict)
    ]
    tables = [
        table(
            "Visible pixels of real cars, no box, no camera",
            ("sequence", "frames", "refused", "IoU, mean", "seconds of the masks"),
            masks,
        ),
        table(
            "Occluders on Stanford dev, box = whole image",
            ("level", "IoU of hidden pixels", "called hidden, none is", "acc@30", "acc@10"),
            hidden,
        ),
    ]
    save("segmentation", args, model, results, tables)


if __name__ == "__main__":
    main()
