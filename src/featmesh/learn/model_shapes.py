"""Shapes of the objects in labelled photos, by model name: what training then lays its anchors on.

Photos of one model (a car's make and year) share a shape. A trained category finds it in a few
photos of each: pose and shape are fitted, photos whose pose disagrees with the label are left out,
and the median of the rest is the model's shape. Trained again on these shapes, the features say
more about shape (ours; measured in docs/benchmarks.md).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.numpy import save_file

from featmesh.draws import generator
from featmesh.evaluate.metrics import rotation_error
from featmesh.geometry.template import stretch
from featmesh.geometry.viewpoint import rotation_from_angles
from featmesh.inference.config import EstimateConfig, ScanConfig
from featmesh.inference.estimator import estimate
from featmesh.model.category import CategoryModel
from featmesh.photo.read import read_photo
from featmesh.progress import track
from featmesh.views.record import View

AGREE = np.radians(12.0)  # farther from its label a photo says nothing about its model's shape
GAIN = 1.25  # fitted codes fall short: fitted boxes agree best with labelled ones at this factor


def model_shapes(
    model: CategoryModel, views: Sequence[View], photos: int = 5, seed: int = 0
) -> dict[str, Float[np.ndarray, "v 3"]]:
    """Return where the template's vertices lie on each model, diagonal 1.

    Args:
        model: trained category with a shape space.
        views: labelled photos with R, box and model_name.
        photos: of each model that are looked at.
        seed: of their choice.
    """
    names = defaultdict(list)
    for view in views:
        if view.model_name and view.R is not None:
            names[view.model_name].append(view)
    config = EstimateConfig(scan=ScanConfig(starts=4))
    config = replace(config, refine=replace(config.refine, steps=24))
    shapes = {}
    for k, (name, own) in enumerate(track(sorted(names.items()), len(names), "shapes")):
        order = generator(seed, "shapes", 0, k).permutation(len(own))[:photos]
        codes = [_code(model, own[i], config) for i in order]
        kept = [code for code in codes if code is not None]
        if kept:
            shapes[name] = _vertices(model, np.median(kept, 0) * GAIN)
    return shapes


def write_shapes(path: str | Path, shapes: dict[str, Float[np.ndarray, "v 3"]]) -> None:
    """Write shapes as ``train --shapes`` reads them."""
    save_file({name: v.astype(np.float32) for name, v in shapes.items()}, path)


def _code(model: CategoryModel, view: View, config: EstimateConfig) -> np.ndarray | None:
    """Return latents and log stretches of a photo; None where its pose is not the label's."""
    found = estimate(model, read_photo(view.image), view.box, view.camera, "shape", config)
    if found.shape is None or found.viewpoint is None:
        return None
    turn = [found.viewpoint.azimuth, found.viewpoint.elevation, found.viewpoint.theta]
    R = rotation_from_angles(*torch.tensor(turn, dtype=torch.float64).unbind(0)).numpy()
    if view.K is not None or rotation_error(R, np.asarray(view.R)) > AGREE:
        return None
    latent = torch.from_numpy(found.shape.latent)
    ratio = found.shape.mesh.extent / model.mesh(latent).extent
    return np.concatenate([found.shape.latent, ratio.log().numpy()])


def _vertices(model: CategoryModel, code: np.ndarray) -> np.ndarray:
    d = model.shape_space("model_shapes()").latents
    mesh = model.mesh(torch.from_numpy(code[:d]))
    return stretch(mesh, torch.from_numpy(np.exp(code[d:]))).normalised().vertices.numpy()
