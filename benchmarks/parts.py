"""Parts of real cars: labels of the surface, with evidence and alone, against a head for parts.

python benchmarks/parts.py --data DATA [--labels FILE|none] [--heads DIR] [--pictures DIR]

All learn from photos 1-320 of car_parts and are told the box of all parts; 321-400 are reported.
Where an occluder hides a part, no part is the truth; beside it the whole part is asked for.
``labels`` are the labels of the surface alone, drawn where the estimate says. ``head`` is the
rival: a head for parts of pixels. ``ours`` is what featmesh answers: the labels and, as evidence,
that same head, trained alike; so the table shows what each is worth alone. The rival's heads are
trained here (part_head.py) unless ``--heads`` holds them.

321-400 had been looked at before: at L0 and L1 with the settings that stand, and in two runs, one
of them whole, with a further setting that has gone. What stands is what is best on 241-320.
"""

import argparse
import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from car_parts import (
    CLASSES,
    NAMES,
    STEPS,
    WITHOUT,
    PartPhoto,
    behind,
    counts,
    first_half,
    read_parts,
    scores,
)
from common import backgrounds, pixels_of, spread
from output import Table, save, table
from part_head import BASE, LEARN, WHOLE, answer_of, prepared, read_head, train, write_head
from PIL import Image

from featmesh import load
from featmesh.inference.config import EstimateConfig
from featmesh.inference.estimator import estimate
from featmesh.model.category import CategoryModel
from featmesh.model.labels import read_labels
from featmesh.photo.photo import Photo

REPORT = range(321, 401)
CONFIG = EstimateConfig(aspects=(0.6, 0.75, 1.0))  # many of these photos were made square
SHOWN = 8  # photos of the picture
DRAWN = (WITHOUT, "L2")  # levels of the picture
COLOURS = np.array(
    [(0, 0, 0), *(colorsys.hsv_to_rgb(k * 0.618 % 1, 0.9, 1) for k in range(1, CLASSES))]
)


@dataclass(frozen=True)
class Answer:
    """Part of each pixel, uint8 (512, 512).

    Attributes:
        seen: the parts that are seen.
        whole: those behind an occluder too.
        refused: whether there would be no answer were it not known that there is a car.
        named: the likeliest part where each pixel has to be one; None where there is no such map.
    """

    seen: np.ndarray
    whole: np.ndarray
    refused: bool = False
    named: np.ndarray | None = None


Method = Callable[[PartPhoto], dict[str, Answer]]
NAMED = {"labels": "surface labels alone", "ours": "surface labels with evidence", "head": "head"}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the photos")
    parser.add_argument("--model", default="car", help="name of a bundled model, or its folder")
    parser.add_argument("--labels", help="a labelling file; none: the model's own labels")
    parser.add_argument("--heads", type=Path, help="folder of the trained heads")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of the answers")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="photos: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def ours(model: CategoryModel) -> Method:
    """Return the labels of the surface, drawn where the estimate says, alone and with evidence."""
    if model.labels is None or set(NAMES) - set(model.labels.names):
        raise SystemExit("the model has no labels of the 18 parts; try: --labels FILE")
    # it is known that there is a car: an answer that would be refused is counted, and given
    judge, model = model, replace(model, threshold=None, calibration=None)
    number = np.array([0, *(1 + NAMES.index(n) if n in NAMES else 0 for n in model.labels.names)])

    def run(photo: PartPhoto) -> dict[str, Answer]:
        found = estimate(
            model, Photo.from_array(photo.pixels), photo.box, task="segment", config=CONFIG
        )
        s = found.segmentation
        if s is None or s.parts is None or s.seen_parts is None or s.rendered_parts is None:
            nothing = np.zeros(photo.parts.shape, np.uint8)
            return dict.fromkeys(("labels", "ours"), Answer(nothing, nothing, True))
        refused = found.score < (judge.threshold or -1.0)
        if judge.calibration is not None:
            refused = judge.calibration.refuses(found.signals)
        seen, whole, drawn = (
            number[kind].astype(np.uint8) for kind in (s.seen_parts, s.parts, s.rendered_parts)
        )
        alone = Answer(drawn * s.visible, drawn, refused)
        return {"labels": alone, "ours": Answer(seen, whole, refused)}

    return run


def rival(args: argparse.Namespace, model: CategoryModel) -> Method:
    """Return the heads for parts of pixels: of what is seen, and of what is hidden too."""
    files = [args.heads / f"{name}.safetensors" for name in ("seen", "whole")] if args.heads else []
    if files and all(path.exists() for path in files):
        seen, whole = (read_head(path, model) for path in files)
    else:
        photos = spread(read_parts(args.data, LEARN), args.limit)
        cache = prepared(model, photos, first_half(args.data), BASE.variants, args.seed)
        seen = train(model, cache, CLASSES, BASE, args.seed)
        whole = train(model, cache, CLASSES, WHOLE, args.seed, seen)
        for path, head in zip(files, (seen, whole), strict=False):
            write_head(path, head)

    def run(photo: PartPhoto) -> dict[str, Answer]:
        answers = (answer_of(head, model, photo) for head in (seen, whole))
        return {"head": Answer(*answers, named=answer_of(seen, model, photo, none=False))}

    return run


KINDS = ("seen", "whole", "named")


def compared(
    methods: Sequence[Method], tests: dict[str, list[PartPhoto]]
) -> tuple[dict[str, Any], list[list[np.ndarray]]]:
    """Return the scores of every method and level, and rows of pictures."""
    results: dict[str, Any] = {name: {} for name in (*NAMED, "whole", "refused")}
    shown: list[list[np.ndarray]] = []
    for level, photos in tests.items():
        total = {(n, kind): np.zeros((CLASSES, CLASSES), np.int64)
                 for n in NAMED for kind in KINDS}  # fmt: skip
        refused = 0
        picked = {p.number for p in spread(photos, SHOWN)} if level in DRAWN else set()
        for photo in photos:
            answers = {k: v for method in methods for k, v in method(photo).items()}
            for name, answer in answers.items():
                total[name, "seen"] += counts(photo.visible, answer.seen)
                total[name, "whole"] += counts(photo.parts, answer.whole)
                if answer.named is not None:
                    total[name, "named"] += counts(photo.visible, answer.named)
            refused += answers["ours"].refused
            if photo.number in picked:
                maps = [photo.visible, *(answers[name].seen for name in NAMED)]
                shown.append([photo.pixels, *(laid_over(photo.pixels, m) for m in maps)])
        for name in NAMED:
            results[name][level] = scores(total[name, "seen"])
            if total[name, "named"].any():
                results[name][level]["accuracy_named"] = scores(total[name, "named"])["accuracy"]
            results["whole"].setdefault(name, {})[level] = scores(total[name, "whole"])
        results["refused"][level] = refused
        print(level, {n: round(results[n][level]["miou"], 3) for n in NAMED}, flush=True)
    return results, shown


def laid_over(pixels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the photo with its parts in colours."""
    mixed = 0.35 * pixels + 0.65 * 255 * COLOURS[parts]
    return np.where((parts > 0)[..., None], mixed, pixels).astype(np.uint8)


def draw(folder: Path, rows: Sequence[Sequence[np.ndarray]]) -> None:
    """Write photo, annotation and answers side by side: without occluders, then behind them."""
    folder.mkdir(parents=True, exist_ok=True)
    half = len(rows) // 2
    lines = [np.concatenate([*a, *b], 1) for a, b in zip(rows[:half], rows[half:], strict=True)]
    Image.fromarray(np.concatenate(lines)[::2, ::2]).save(folder / "parts.jpg", quality=85)


def report(results: dict[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    columns = ["parts", "method", *[f"mIoU {x}" for x in STEPS], *[f"accuracy {x}" for x in STEPS]]
    rows = [
        [kind, NAMED[name], *[where[name][x]["miou"] for x in STEPS],
         *[where[name][x]["accuracy"] for x in STEPS]]
        for kind, where in (("seen", results), ("hidden ones too", results["whole"]))
        for name in NAMED
    ]  # fmt: skip
    forced = [results["head"][x]["accuracy_named"] for x in STEPS]
    rows.insert(3, ["seen", "head, none is no answer", *[None] * len(STEPS), *forced])
    each = [
        [part, *[results[name][x]["iou"][part] for x in (WITHOUT, "L2", "L3") for name in NAMED]]
        for part in NAMES
    ]
    head = ["part", *[f"{name}, {x}" for x in (WITHOUT, "L2", "L3") for name in NAMED]]
    title = "Parts of car_parts 321-400, learned from 1-320; box given"
    return [table(title, columns, rows), table("IoU of each part that is seen", head, each)]


def main() -> None:
    args = options()
    model = load(args.model)
    if args.labels not in (None, "none"):
        model.labels = read_labels(args.labels, model.template)
    pictures = [pixels_of(path) for path in backgrounds(args)]
    photos = spread(read_parts(args.data, REPORT), args.limit)
    tests = {level: behind(photos, level, args.seed, pictures) for level in STEPS}
    methods = (ours(model), rival(args, model))
    results, shown = compared(methods, tests)
    results["count"] = len(photos)
    results["more"] = {
        x: {k: results["ours"][x][k] - results["head"][x][k] for k in ("miou", "accuracy")}
        for x in STEPS
    }
    if args.pictures:
        draw(args.pictures, shown)
    save("parts", args, model, results, report(results))


if __name__ == "__main__":
    main()
