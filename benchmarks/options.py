"""What each option of the inference costs and brings, on every third photo of Stanford dev."""

import argparse
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from common import arguments, behind_occluders, figures, predictions, spread
from output import save, table

from featmesh import load, read_photo
from featmesh.draws import generator
from featmesh.evaluate.metrics import pose_summary, rotation_error
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import FILL, Crop
from featmesh.geometry.pose import so3_exp
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig, nemo_config
from featmesh.inference.refine import render_and_compare
from featmesh.inference.scan import Starts, place
from featmesh.photo.resize import resample
from featmesh.views.occlude import LEVELS
from featmesh.views.record import View, read_views

FORMS = ("cosine", "truncated", "l2")
PRIOR_ERROR = 20.0  # degrees between the label and the start that stands for a prior pose
VARIANTS = {
    "default (grid, 8 starts, Adam 100, LM 5)": EstimateConfig(),
    "energy: truncated": EstimateConfig(refine=RefineConfig(form="truncated")),
    "energy: l2": EstimateConfig(refine=RefineConfig(form="l2")),
    "optimiser: plain descent": EstimateConfig(refine=RefineConfig(optimiser="descent")),
    "plain descent, no LM": EstimateConfig(refine=RefineConfig(optimiser="descent", polish=0)),
    "LM 30 alone": EstimateConfig(refine=RefineConfig(steps=0, polish=30, keep=8)),
    "no refinement": EstimateConfig(refine=RefineConfig(steps=0, polish=0)),
    "start: 8 random": EstimateConfig(scan=ScanConfig(start="random")),
    "start: 1 of the grid": EstimateConfig(scan=ScanConfig(starts=1)),
    "NeMo's schedule (144 poses, Adam 300)": nemo_config(),
}


def refined_prior(model: Any, view: View, seed: int) -> float:
    """Return the error, radians, of the refinement from a given pose near the label."""
    photo, size = read_photo(view.image), (model.config.crop_height, model.config.crop_width)
    crop = Crop.from_box(Camera.assumed(photo.height, photo.width), view.box_or_image, size)
    cells = model.extract(*resample(photo, crop), crop.camera)
    axis = generator(seed, "prior", 0, view.index).normal(size=3)
    turn = torch.from_numpy(axis / np.linalg.norm(axis) * np.radians(PRIOR_ERROR))
    R = so3_exp(turn).numpy() @ view.R
    shape = tuple(cells.valid.shape)
    t, focal = place(model.mesh().vertices.numpy(), R, 2.2, shape)
    zoom = np.log(FILL * focal / cells.camera.fx)
    start = Starts(R[None], t[None], np.array([zoom]), np.zeros(1))
    refined = render_and_compare(cells, model, start, True)
    return float(rotation_error(refined.R[0], view.R))


def energies_behind_occluders(
    args: argparse.Namespace, model: Any, views: list[View]
) -> dict[str, dict[str, Any]]:
    """Return the figures of each energy at each level of occlusion."""
    results: dict[str, dict[str, Any]] = {form: {} for form in FORMS}
    for level in LEVELS:
        with TemporaryDirectory() as folder:
            hidden = behind_occluders(args, views, level, folder)
            for form in FORMS:
                config = EstimateConfig(refine=RefineConfig(form=form))
                results[form][level] = figures(hidden, predictions(model, hidden, config=config)[0])
    return results


def main() -> None:
    args = arguments(__doc__)
    model = replace(load(args.model), threshold=None)  # poses are compared, not refusals
    views = spread(read_views(args.data / "stanford_cars/dev.json")[::3], args.limit)
    found: dict[str, Any] = {}
    for name, config in VARIANTS.items():
        rows, stages = predictions(model, views, config=config)
        found[name] = figures(views, rows) | {"stages": stages}
    errors = np.array([refined_prior(model, view, args.seed) for view in views])
    prior = pose_summary(errors).to_json() | {"over_90": float((errors > np.pi / 2).mean())}
    found[f"start: given, {PRIOR_ERROR:g}° off the label"] = prior
    keys = ("acc_30", "acc_10", "acc_5", "median_deg", "over_90")
    shown = [
        [name, *(f[key] for key in keys), *(f.get("stages", {}).get(s) for s in ("scan", "refine"))]
        for name, f in found.items()
    ]
    head = ("option", "acc@30", "acc@10", "acc@5", "median °", "> 90°", "scan s", "refine s")
    levels = energies_behind_occluders(args, model, views)
    for form, name in zip(FORMS, VARIANTS, strict=False):
        levels[form] = {"L0": found[name], **levels[form]}
    rows = [[form, *(f["acc_30"] for f in by.values()), *(f["acc_10"] for f in by.values())]
            for form, by in levels.items()]  # fmt: skip
    names = ("L0", *LEVELS)
    columns = ("energy", *(f"acc@30 {n}" for n in names), *(f"acc@10 {n}" for n in names))
    title = f"Options, {len(views)} photos of Stanford dev, box = whole image, no refusal"
    tables = [table(title, head, shown), table("Energies behind occluders", columns, rows)]
    save("options", args, model, {"options": found, "levels": levels}, tables)


if __name__ == "__main__":
    main()
