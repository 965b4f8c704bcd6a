"""Put the twelve categories beside the bundled car, each with what was measured on it.

python benchmarks/bundle_categories.py --run RUN [--results FILE.json] [--note TEXT]

RUN is that of benchmarks/train_categories.py. Figures come from the results of
benchmarks/categories.py, which must be of these very models. Other models are left as they are.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from categories import LEVELS, SIDES
from train_categories import FOLDERS

from featmesh.files import read_json
from featmesh.model.checkpoint import read_model, update_model

ROOT = Path(__file__).parents[1]
KEYS = ("count", "acc_30", "acc_10", "median_deg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results" / "categories.json"
    )
    parser.add_argument("--note", default="", help="what else the cards say, of all of them")
    options = parser.parse_args()
    results = read_json(options.results)["results"]
    for category in results["views"]["clean"]:
        folder = options.run / "models" / FOLDERS.get(category, category)
        bundle(category, folder, results, options.note)


def bundle(category: str, folder: Path, results: dict[str, Any], note: str) -> None:
    """Copy a model folder and its trunk, unless they are there, and write its figures."""
    files = read_model(folder)
    stated = results["models"][category]
    if files.hash != stated:
        raise SystemExit(
            f"bundle_categories: expected figures of the model {files.hash[:12]} of {category}, "
            f"got those of {stated[:12]}; try: benchmarks/categories.py --models RUN/models first"
        )
    trunk = read_json(folder / "model.json")["backbone"]["file"]
    kept = ROOT / "backbones" / trunk
    if not kept.is_file():
        shutil.copyfile(folder.parents[1] / "backbones" / trunk, kept)
    home = ROOT / "models" / folder.name
    shutil.copytree(folder, home, dirs_exist_ok=True)
    told = {"metrics": figures(category, results)} | ({"notes": [note]} if note else {})
    update_model(home, told)


def figures(category: str, results: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured on a category, by what it was measured on."""
    told = {f"renders of unseen CADs, {k}": brief(results["views"][k][category]) for k in LEVELS}
    if category == "car":
        told["Stanford dev"] = brief(results["dev"])
    for name, shown in SIDES.items():
        if shown == category:
            told[f"Caltech {name}: side right"] = results["sides"][name]["share"]
    return told


def brief(row: dict[str, Any]) -> dict[str, Any]:
    """Return the few figures a card states."""
    short = {k: row[k] for k in KEYS}
    return short | ({"symmetric": brief(row["symmetric"])} if "symmetric" in row else {})


if __name__ == "__main__":
    main()
