"""How far labels can be trusted: thirty cars of Stanford dev aligned by hand, twice.

python benchmarks/label_noise.py --data DIR [--hands benchmarks/hands]

HANDS holds a file a hand, written with benchmarks/hand_align.py. Each marked wheels, lights and
windows in the enlarged photo, fitted a camera to them with the car's real sizes and corrected the
pose by eye over the mesh, beginning elsewhere, and without labels, estimates or the other's poses.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import predictions
from hand_align import HandPose, hand_views
from output import Table, save, table

from featmesh import load
from featmesh.draws import generator
from featmesh.evaluate.metrics import rotation_error
from featmesh.geometry.rotations import procrustes

RESAMPLES = 10_000
BOTH = "both hands"
Rotations = Sequence[np.ndarray | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--hands", type=Path, default=Path("benchmarks/hands"))
    parser.add_argument("--model", default="car")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int, help="photos: a quick try")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    views, model = hand_views(args.data)[: args.limit], load(args.model)
    rows, _ = predictions(model, views)
    names = [str(view.image_name) for view in views]
    turned: dict[str, Rotations] = {
        "label": [np.asarray(view.R) for view in views],
        "featmesh": [None if row["R"] is None else np.asarray(row["R"]) for row in rows],
    }
    hands = sorted(args.hands.glob("*.json"))
    turned |= {path.stem: read_hand(path, names) for path in hands}
    first, second = (path.stem for path in hands)
    turned[BOTH] = [middle(a, b) for a, b in zip(turned[first], turned[second], strict=True)]
    pairs = [("label", first), ("label", second), (first, second), ("label", BOTH)]
    pairs += [("featmesh", BOTH), ("featmesh", "label")]
    angles = {f"{a} - {b}": between(turned[a], turned[b]) for a, b in pairs}
    told = {name: summary(found, args.seed) for name, found in angles.items()}
    save("label_noise", args, model, {"between": told}, tables(names, angles, told))


def read_hand(path: Path, names: Sequence[str]) -> Rotations:
    """Return the rotations of a hand, None where it left a photo out."""
    kept = json.loads(path.read_text("utf-8"))
    return [HandPose(**kept[name]).R.numpy() if name in kept else None for name in names]


def middle(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    """Return the rotation half way between two."""
    return None if a is None or b is None else procrustes(torch.from_numpy(a + b)).numpy()


def between(a: Rotations, b: Rotations) -> np.ndarray:
    """Return the angle between rotations, degrees; nan where one is missing."""
    pairs = zip(a, b, strict=True)
    return np.array(
        [np.nan if x is None or y is None else np.degrees(rotation_error(x, y)) for x, y in pairs]
    )


def summary(angles: np.ndarray, seed: int) -> dict[str, Any]:
    """Return median and shares of angles, with bootstrap intervals over the photos."""
    known = angles[np.isfinite(angles)]
    draw = generator(seed, "label noise").integers(0, len(known), (RESAMPLES, len(known)))
    near = known[draw] < 10
    return {
        "count": len(known),
        "median_deg": float(np.median(known)),
        "median_95": np.quantile(np.median(known[draw], 1), (0.025, 0.975)).tolist(),
        "under_10": float((known < 10).mean()),
        "under_10_95": np.quantile(near.mean(1), (0.025, 0.975)).tolist(),
        "under_5": float((known < 5).mean()),
        "worst_deg": float(known.max()),
    }


def tables(
    names: Sequence[str], angles: dict[str, np.ndarray], told: dict[str, dict[str, Any]]
) -> list[Table]:
    """Return what is shown."""
    span = "{:.2g} to {:.2g}".format
    lines = [
        [
            *(name, t["count"], t["median_deg"], span(*t["median_95"])),
            *(t["under_10"], span(*t["under_10_95"]), t["under_5"], t["worst_deg"]),
        ]
        for name, t in told.items()
    ]
    head = ("between", "photos", "median °", "95 %", "< 10°", "95 %", "< 5°", "worst °")
    single = [[name, *(float(a[k]) for a in angles.values())] for k, name in enumerate(names)]
    return [
        table("Rotations of labels, hands and estimates: angle between them", head, lines),
        table("Photo by photo, degrees", ("photo", *angles), single),
    ]


if __name__ == "__main__":
    main()
