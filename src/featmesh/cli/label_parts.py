"""Label the parts of a model's surface, from annotated photos or a named mesh; writes a file.

The file goes with the model's template: featmesh estimate --labels FILE draws the parts. With
--evidence a head that names parts in pixels is trained too, and lies beside the file.
"""

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from featmesh.inference.config import EstimateConfig
from featmesh.learn.parts_config import EvidenceConfig, PartsConfig

from . import exits


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh label-parts``."""

    model: str = "car"
    """Name of a bundled model, or a model folder."""
    photos: Path | None = None
    """Annotated photos: polygons in COCO form, or a views file with label images."""
    ids: str | None = None
    """Which photos: 1:320 (both count) or 3,5,9:12; default: all."""
    names: tuple[str, ...] = ()
    """Names of the parts; a views file needs them, else some of those in the file."""
    mesh: Path | None = None
    """Instead of photos: an OBJ of the category whose groups, objects or materials are parts."""
    name_kind: Literal["g", "o", "usemtl"] | None = None
    """Which lines of the OBJ name the parts; default: the first of these that tell faces apart."""
    out: Path = Path("labels.json")
    """File to write."""
    evidence: bool = False
    """Also train a head that names parts in pixels; from photos only, takes minutes."""
    occluders: Path | None = None
    """Folder of pictures without the object, to hide parts behind in that training; default: grey
    noise."""
    seed: int = 0
    """Of the points at which a mesh is compared, and of the training."""
    json: bool = False
    """Print JSON instead of a table."""
    learn: PartsConfig = field(default_factory=PartsConfig)
    """Settings of learning from photos."""
    head: EvidenceConfig = field(default_factory=EvidenceConfig)
    """Settings of the training."""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """Settings of the estimates; of photos squeezed to a square let --search.aspects be 1 1.2 1.4
    1.6."""


def run(arguments: Arguments) -> int:
    """Label the surface, write the file, print the table."""
    if (arguments.photos is None) == (arguments.mesh is None):
        got = "neither" if arguments.mesh is None else "both"
        raise exits.UsageError(
            f"E_USAGE: label-parts: expected --photos or --mesh, got {got}; "
            "try: --photos annotations.json"
        )
    if arguments.evidence and arguments.photos is None:
        raise exits.UsageError(
            "E_USAGE: label-parts: expected --evidence with --photos, got --mesh; "
            "try: without --evidence"
        )
    from featmesh.apps.label_parts import pictures_of, show, summary
    from featmesh.geometry.mesh_groups import read_named_faces
    from featmesh.learn.evidence_training import learn_evidence
    from featmesh.learn.part_transfer import labels_from_mesh
    from featmesh.learn.parts import learn_labels
    from featmesh.model.checkpoint import load
    from featmesh.model.labels import write_labels
    from featmesh.views.part_photos import parse_ids, read_part_photos

    names = arguments.names or None
    if arguments.photos is not None:
        ids = None if arguments.ids is None else parse_ids(arguments.ids)
        photos = read_part_photos(arguments.photos, names, ids)
        model = load(arguments.model)
        learned = learn_labels(model, photos, arguments.learn, arguments.search)
        labels = learned.labels
        if arguments.evidence:
            pictures = pictures_of(arguments.occluders)
            seen = learn_evidence(model, photos, arguments.head, pictures, arguments.seed)
            labels = replace(labels, evidence=seen)
    else:
        named = read_named_faces(arguments.mesh or "", arguments.name_kind)
        model, learned = load(arguments.model), None
        labels = labels_from_mesh(model.template, named, names, arguments.seed)
    write_labels(arguments.out, labels, model.template)
    told = summary(labels, arguments.out, learned)
    if arguments.json:
        sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n")
    else:
        show(Path(arguments.model).name, told)
    return 0
