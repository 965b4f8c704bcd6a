"""Estimate pose, shape and segmentation in photos; writes OUT/<photo>/result.json, result.html.

Beside them overlay.png and masks: amodal.png, visible.png, occluded.png, parts.png. With --task
shape also shape.glb, the object's own surface; with segment also depth.png and surface.png.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from featmesh.inference.config import EstimateConfig
from featmesh.photo.listed import listed

from . import exits


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh estimate``."""

    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos (JPEG, PNG, HEIC, ...), folders of them, patterns, .txt files with a path a line."""
    model: str = "car"
    """Name of a bundled model, or a model folder; of several, joined by commas, or of any (one
    of each bundled category) the one that explains the photo best."""
    box: tuple[float, float, float, float] | None = None
    """X0 Y0 X1 Y1 of the object, pixels of the displayed photo; belongs to one photo."""
    all: bool = False
    """Every object of the category, front to back, not the clearest one alone; not with --box."""
    focal_px: float | None = None
    """Focal length in pixels."""
    fov: float | None = None
    """Horizontal field of view in degrees."""
    camera: Path | None = None
    """Camera file: {"K": [[..]], "width": .., "height": ..}."""
    out: Path = Path("results")
    """Folder to write to."""
    task: Literal["pose", "shape", "segment"] = "pose"
    """What to estimate: the pose; then also the object's own shape; then also depth and surface."""
    labels: Path | None = None
    """Labels file: parts of the surface, in place of the model's own."""
    allow_truncated: bool = False
    """Use what can be read of a truncated photo."""
    json: bool = False
    """Print one JSON document instead of a table."""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """Settings of the method."""


def run(arguments: Arguments) -> int:
    """Estimate each photo; a photo that cannot be used is told and does not stop the others."""
    photos = listed(arguments.photos, "estimate")
    _check(arguments, len(photos))
    from featmesh.apps.photos import Request, asked_models, estimate_photos, faults, show

    request = Request(
        box=arguments.box,
        focal_px=arguments.focal_px,
        fov=arguments.fov,
        camera_file=arguments.camera,
        task=arguments.task,
        search=arguments.search,
        allow_truncated=arguments.allow_truncated,
        every=arguments.all,
    )
    models = asked_models(arguments.model, arguments.labels)
    results = estimate_photos(models, photos, arguments.out, request, keep=False)
    if arguments.json:
        document = {"schema": 1, "results": [result.document for result in results]}
        sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
    else:
        show(results)
    for line in faults(results):
        sys.stderr.write(f"featmesh: {line}\n")
    return exits.FAILED if faults(results) else 0


def _check(a: Arguments, count: int) -> None:
    """Raise UsageError where options do not go together, with so many photos."""
    several = a.model == "any" or ("," in a.model and not Path(a.model).exists())
    cameras = sum(value is not None for value in (a.focal_px, a.fov, a.camera))
    faults = {
        "E_IO: estimate: expected photos, got none; try: name a file": not count,
        f"E_BOX: estimate: expected one photo with --box, got {count}; try: one photo at a time": (
            a.box is not None and count > 1
        ),
        "E_BOX: estimate: expected one of --box, --all, got both; try: --box for one object, "
        "--all to find them": a.box is not None and a.all,
        "E_MODEL: estimate: expected one model with --all and with --labels, got several; "
        "try: --model with one of them": several and (a.all or a.labels is not None),
        "E_CAMERA: estimate: expected one of --focal-px, --fov, --camera, got several; "
        "try: keep the one you trust most": cameras > 1,
    }
    for text, wrong in faults.items():
        if wrong:
            raise exits.UsageError(text)
