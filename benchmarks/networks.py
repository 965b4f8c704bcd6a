"""Which network: accuracy on Stanford dev and time of model folders, side by side.

python benchmarks/networks.py --data DATA --model models/car --other runs/dino/models/car

The other one: featmesh train --model.backbone dinov2_vits14 --trunk dinov2.safetensors
--lr-trunk 0 --crops 2400 --samples-per-epoch 2400 --epochs 6 --out runs/dino --views ...
"""

import argparse
import json
from pathlib import Path

import torch
from common import dev_views, figures, predictions
from output import save, table

from featmesh.model.checkpoint import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="car")
    parser.add_argument("--other", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    views, results, rows = dev_views(args), {}, []
    for folder in (args.model, *args.other):
        model = load(folder)
        model.threshold = None
        found, seconds = predictions(model, views)
        told = figures(views, found)
        weights = sum(p.numel() for p in model.backbone.parameters())
        name = model.config.backbone
        training = json.dumps(model.extra.get("training"))
        results[name] = told | {"features_s": seconds["features"], "weights": weights}
        rows.append(
            [
                name,
                told["acc_30"],
                told["acc_10"],
                told["median_deg"],
                seconds["features"],
                weights / 1e6,
                training,
            ]
        )
    head = ["network", "acc@30", "acc@10", "median °", "features s", "weights M", "training"]
    title = f"Networks on Stanford dev, box = whole image, {torch.get_num_threads()} threads"
    save("networks", args, None, results, [table(title, head, rows)])


if __name__ == "__main__":
    main()
