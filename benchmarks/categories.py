"""The twelve categories: poses on renders of unseen CADs, sides of real ones, which is which.

python benchmarks/categories.py --data DIR --models DIR --run DIR

Views are rendered once into RUN, and what was estimated is kept there too: the same command goes
on; another RUN measures anew. --pictures FOLDER also writes a picture of each category.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import dev_views, spread
from output import Table, save, table
from PIL import Image

from featmesh.apps.new_category_pictures import write_tiles
from featmesh.draws import generator
from featmesh.evaluate.metrics import Symmetry, checked_symmetry, pose_summary
from featmesh.evaluate.predict import predict, score_predictions
from featmesh.inference.classify import classify
from featmesh.inference.estimator import estimate
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import bundled_models, load_all
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.present.overlay import overlay
from featmesh.progress import track
from featmesh.views.cad_sources import read_reported_cads
from featmesh.views.generate import read_backgrounds, render_views
from featmesh.views.generate_config import GenerateConfig
from featmesh.views.presets import PRESETS, SHOWN_IN_CALTECH, preset
from featmesh.views.record import View, read_views

LEVELS = ("clean", "L2")
LEAST = 0.45  # of the photo's width, or else most of its height: what a benchmark's crop shows
SIDES = {"airplanes": "aeroplane", "Motorbikes": "motorbike"}
SIDE, NEAR = 270.0, 60.0  # degrees: all of them head right; mirrored ones left
SHOWN = {
    "airplanes": "aeroplane",
    "Motorbikes": "motorbike",
    "car_side": "car",
    "chair": "chair",
    "ferry": "boat",
    "Stanford dev": "car",
}
ASKED = ("no box", "box = whole image")
TILES = 6  # estimates drawn of each level
BYTES = 120_000  # of a picture, at most
WRONG = 30.0  # degrees, marked in the pictures
Models = dict[str, CategoryModel]


def main() -> None:
    args = options()
    found = load_all([model_of(c, args.models) for c in args.categories])
    models = dict(zip(args.categories, found, strict=True))
    views = {level: {c: reported_views(c, level, args) for c in models} for level in LEVELS}
    results: dict[str, Any] = {"models": {c: m.hash for c, m in models.items()}}
    results["views"] = {
        level: {c: posed(models[c], v, level, args) for c, v in of_level.items()}
        for level, of_level in views.items()
    }
    results["mean"] = {level: mean(rows) for level, rows in results["views"].items()}
    if "car" in models:
        photos = dev_views(args)
        name = f"{models['car'].hash[:12]}-{len(photos)}"
        rows = predict(models["car"], photos, args.run / "estimates" / "dev" / name)
        results["dev"] = figures(photos, rows, 1)
    kept = Kept(args.run, models)
    results["sides"] = {
        name: sides(models[c], name, args, kept) for name, c in SIDES.items() if c in models
    }
    # as estimate --model any: the car is the one that photos taught
    asked = models if args.models else dict(zip(models, load_all(models), strict=True))
    results["asked"] = {c: m.hash for c, m in asked.items()}
    kept = Kept(args.run, asked)
    results["classification"] = {
        how: classification(asked, how == ASKED[0], args, kept) for how in ASKED
    }
    save("categories", args, None, results, tables(results))
    if args.pictures:
        for category, model in models.items():
            write_picture(model, {level: views[level][category] for level in LEVELS}, args)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with photos and CADs")
    parser.add_argument("--run", type=Path, default=Path("runs/categories-benchmark"))
    parser.add_argument("--models", type=Path, help="holds a folder a category; else the bundled")
    parser.add_argument("--categories", nargs="*", default=sorted(PRESETS), choices=sorted(PRESETS))
    parser.add_argument("--count", type=int, default=120, help="views a category and level")
    parser.add_argument("--photos", type=int, default=40, help="photos of a class, at most")
    parser.add_argument("--pictures", type=Path, help="where pictures of the estimates go")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="views and photos of each part: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def model_of(category: str, folder: Path | None) -> Path:
    """Return the model of a category, that from CADs alone where there is another one too."""
    known = {p.name: p for p in folder.iterdir()} if folder else bundled_models()
    return known.get(f"{category}-cad", known.get(category, Path(category)))


def settings(category: str, level: str) -> GenerateConfig:
    """Return how whole, large objects are shown: bare, or all of them behind occluders."""
    own = preset(category)
    span = (max(own.span[0], LEAST), max(own.span[1], LEAST))
    bare = replace(own, share_truncated=0.0, share_small=0.0, share_occluded=0.0, span=span)
    return bare if level == "clean" else replace(bare, share_occluded=1.0, level="L2")


def reported_views(category: str, level: str, args: argparse.Namespace) -> list[View]:
    """Return views of the CADs that are only reported on; those that are missing are rendered."""
    count = args.count if args.limit is None else min(args.limit, args.count)
    cads = read_reported_cads(category, args.data / "pascal3d_cad")
    left_out = SHOWN_IN_CALTECH.get(category, ())
    pictures = read_backgrounds(args.data / "backgrounds", False, left_out, second_half=True)
    folder, seed = args.run / "views" / category / level, 2 * args.seed + LEVELS.index(level)
    path = render_views(cads, pictures, folder, count, seed, settings(category, level))
    return read_views(path)


def posed(
    model: CategoryModel, views: Sequence[View], level: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Return the figures of rendered views, box and camera given; where turns look alike, twice."""
    name = f"{model.hash[:12]}-{len(views)}"
    rows = predict(model, views, args.run / "estimates" / model.category / level / name)
    symmetry = symmetry_of(model)
    turned = figures(views, rows, symmetry) | {"symmetry": symmetry}
    return figures(views, rows, 1) | ({} if symmetry == 1 else {"symmetric": turned})


def symmetry_of(model: CategoryModel) -> Symmetry:
    """Return how many turns about the upright axis look alike, as the model states."""
    return checked_symmetry(model.extra.get("symmetry", 1))


def figures(
    views: Sequence[View], rows: Sequence[dict[str, Any]], symmetry: Symmetry
) -> dict[str, Any]:
    """Return count, accuracies and median of errors up to turns that look alike, and flips."""
    errors = np.array([error_of(v, r, symmetry) for v, r in zip(views, rows, strict=True)])
    told = pose_summary(np.radians(errors)).to_json()
    return told | {"over_90": float((errors > 90).mean())}


def mean(rows: dict[str, Any]) -> dict[str, Any]:
    """Return means over the categories: of official figures, and up to turns where these count."""
    names = ("acc_30", "acc_10", "median_deg", "over_90")
    turned = [row.get("symmetric", row) for row in rows.values()]
    official = {n: float(np.mean([row[n] for row in rows.values()])) for n in names}
    return {n: float(np.mean([row[n] for row in turned])) for n in names} | {"official": official}


class Kept:
    """Answers about photos that an earlier, stopped run with the same models has given."""

    def __init__(self, run: Path, models: Models) -> None:
        hashes = "".join(m.hash[:4] for m in models.values())
        self.path = run / "answers" / f"{hashes}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.known = {tuple(key): answer for key, answer in map(json.loads, lines)}

    def answer(self, key: tuple[str, ...], ask: Callable[[], Any]) -> Any:
        """Return the answer to what ``key`` names, asked once."""
        if key not in self.known:
            self.known[key] = ask()
            with self.path.open("a") as file:
                file.write(json.dumps([key, self.known[key]]) + "\n")
        return self.known[key]


def caltech(name: str, args: argparse.Namespace) -> list[Path]:
    """Return photos of a Caltech-101 class."""
    count = args.photos if args.limit is None else min(args.limit, args.photos)
    return spread(sorted((args.data / "caltech101" / name).glob("*.jpg")), count)


def sides(model: CategoryModel, name: str, args: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    """Return how often the side that is seen is right, half of the photos mirrored; no box."""
    paths = caltech(name, args)
    mirrored = np.zeros(len(paths), bool)
    drawn = generator(args.seed, f"mirrored {name}").permutation(len(paths))
    mirrored[drawn[: len(paths) // 2]] = True
    off = []
    for path, turned in track(list(zip(paths, mirrored, strict=True)), len(paths), name):
        key = ("side", model.hash, name, path.name, str(bool(turned)))
        azimuth = kept.answer(key, partial(azimuth_of, model, path, turned))
        true = 360 - SIDE if turned else SIDE
        off.append(180.0 if azimuth is None else abs((azimuth - true + 180) % 360 - 180))
    right = np.array(off) < NEAR
    return {
        "count": len(paths),
        "share": float(right.mean()),
        "mirrored": float(right[mirrored].mean()) if mirrored.any() else None,
        "as_they_are": float(right[~mirrored].mean()),
        "median_deg": float(np.median(off)),
        "over_120": float((np.array(off) > 180 - NEAR).mean()),
        "constant": float((~mirrored).mean()),
    }


def azimuth_of(model: CategoryModel, path: Path, mirrored: bool) -> float | None:
    """Return the azimuth, degrees, that is seen in a photo, or in its mirror image."""
    photo = read_photo(path)
    if mirrored:
        photo = Photo.from_array(photo.pixels[:, ::-1].copy())
    found = estimate(model, photo)
    if found.viewpoint is None:
        return None
    return math.degrees(found.viewpoint.azimuth)


def classification(
    models: Models, locate: bool, args: argparse.Namespace, kept: Kept
) -> dict[str, Any]:
    """Return how often each class is taken for its category, and for which others."""
    classes = {}
    for name, category in SHOWN.items():
        if category not in models:
            continue
        paths = caltech(name, args)
        if name == "Stanford dev":
            paths = spread([view.image for view in dev_views(args)], args.photos)
        said = []
        for path in track(paths, len(paths), f"classify {name}"):
            key = ("class", str(locate), name, path.name)
            said.append(kept.answer(key, partial(category_of, models, path, locate)))
        counts = {c: said.count(c) for c in models}
        share = counts[category] / len(said)
        classes[name] = {"category": category, "count": len(said), "right": share, "said": counts}
    return {"classes": classes, "mean": float(np.mean([c["right"] for c in classes.values()]))}


def category_of(models: Models, path: Path, locate: bool) -> str:
    """Return the category that explains a photo best."""
    photo = read_photo(path)
    box = None if locate else photo.whole
    return classify(list(models.values()), photo, box).category


def tables(results: dict[str, Any]) -> list[Table]:
    """Return what is shown."""
    keys = ("acc_30", "acc_10", "median_deg", "over_90")
    head = ("category", "views", "turns that look alike", "acc@30", "acc@10", "median °", "> 90°")
    shown = []
    for level, rows in results["views"].items():
        lines = []
        for category, row in rows.items():
            lines.append([category, row["count"], "official", *(row[k] for k in keys)])
            if "symmetric" in row:
                turned = row["symmetric"]
                allowed = f"up to turns: {turned['symmetry']}"
                lines.append([category, row["count"], allowed, *(turned[k] for k in keys)])
        average = results["mean"][level]
        lines.append(["mean", "", "official", *(average["official"][k] for k in keys)])
        lines.append(["mean", "", "up to turns where stated", *(average[k] for k in keys)])
        what = "whole objects" if level == "clean" else f"the same behind occluders {level}"
        title = f"Renders of CADs that were not trained on, {what}; box and camera given"
        shown.append(table(title, head, lines))
    if "dev" in results:
        row = [results["dev"]["count"], *(results["dev"][k] for k in keys)]
        title = "Stanford dev, car from CADs alone, no camera, box = whole image"
        shown.append(table(title, ("photos", *head[3:]), [row]))
    shown.append(sides_table(results["sides"]))
    return shown + [confusion(how, told) for how, told in results["classification"].items()]


def sides_table(found: dict[str, Any]) -> Table:
    """Return the table of the sides."""
    head = ("photos", "count", "share", "mirrored", "as they are", "median °", "other side")
    keys = ("count", "share", "mirrored", "as_they_are", "median_deg", "over_120", "constant")
    title = f"Caltech-101, category given, no box: azimuth within {NEAR:.0f}° of the true side"
    rows = [[name, *(row[k] for k in keys)] for name, row in found.items()]
    return table(title, (*head, "constant guess"), rows)


def confusion(how: str, told: dict[str, Any]) -> Table:
    """Return the table of which class is taken for which category."""
    categories = list(next(iter(told["classes"].values()))["said"]) if told["classes"] else []
    rows = [
        [name, row["category"], row["count"], row["right"], *(row["said"][c] for c in categories)]
        for name, row in told["classes"].items()
    ]
    rows.append(["mean per class", "", "", told["mean"], *[""] * len(categories)])
    title = f"Classification among {len(categories)} categories, {how}: photos by what is said"
    return table(title, ("photos", "category", "count", "right", *categories), rows)


def write_picture(
    model: CategoryModel, views: dict[str, list[View]], args: argparse.Namespace
) -> None:
    """Write the first estimates of each level over their photos; the wrong ones are marked."""
    tiles, symmetry = [], symmetry_of(model)
    for level, of_level in views.items():
        for view in of_level[:TILES]:
            photo = read_photo(view.image)
            found = estimate(model, photo, box=view.box_or_image, camera=view.camera)
            error = error_of(view, found.to_json() | {"index": view.index}, symmetry)
            wrong = "  WRONG" if error > WRONG else ""
            tiles.append((f"{level}: {error:.0f} degrees off{wrong}", overlay(photo, found)))
    path = args.pictures / f"{model.category}.png"
    head = f"{model.category}: renders of CADs that were not trained on, the first of each level"
    write_tiles(path, tiles, head)
    squeeze(path)


def error_of(view: View, row: dict[str, Any], symmetry: Symmetry) -> float:
    """Return the rotation error, degrees, up to turns that look alike; 180 without a pose."""
    told = score_predictions([view], [row], symmetry)
    return float((told if symmetry == 1 else told["symmetric"])["pose"]["median_deg"])


def squeeze(path: Path) -> None:
    """Make a picture small on the disk: fewer colours, then fewer pixels."""
    whole = Image.open(path).convert("RGB")
    for width in (960, 800, 640):
        size = (width, round(whole.height * width / whole.width))
        picture = whole.resize(size, Image.Resampling.LANCZOS)
        for colours in (64, 32, 16):
            few = picture.quantize(colours, dither=Image.Dither.NONE)
            few.save(path, optimize=True)
            if path.stat().st_size <= BYTES:
                return


if __name__ == "__main__":
    main()
