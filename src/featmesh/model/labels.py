"""Labels on the surface: which part of the object each point of the template belongs to.

They ride along like the texture, so a rendered label map is one look-up a pixel, and a new
labelling is a file, not a training run (spec 1.6, 6.1). Evidence, a head trained to name parts in
pixels, may stand beside them (ours).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featmesh.errors import InputError
from featmesh.files import json_bytes, read_json, write_bytes_atomic
from featmesh.geometry.mesh import Mesh

from .part_evidence import PartEvidence

SCHEMA = 1
MOST = 254  # parts: label images have 8 bits, 0 is no part
DIGITS = 4  # of a weight in a file


@dataclass(frozen=True)
class Labels:
    """Soft part labels of a template's vertices.

    Attributes:
        names: of the parts; part k = 1, 2, ... is ``names[k - 1]``.
        weights: of each vertex, rows sum to 1; column 0 is no part.
        evidence: what names the same parts in pixels, or None.
    """

    names: tuple[str, ...]
    weights: Float[Tensor, "v n1"]
    evidence: PartEvidence | None = None

    def checked(self, template: Mesh, who: str = "labels") -> "Labels":
        """Return these labels, or raise E_LABELS where they do not belong to the template."""
        vertices, columns = self.weights.shape
        if vertices != len(template.vertices):
            raise _bad(who, f"weights of {len(template.vertices)} vertices", f"{vertices}")
        if columns != len(self.names) + 1 or not 0 < len(self.names) <= MOST:
            raise _bad(who, f"1 to {MOST} names and a column more", f"{columns} columns")
        if len(set(self.names)) != len(self.names):
            raise _bad(who, "names that differ", f"{self.names}")
        total = self.weights.sum(1)
        if not bool(self.weights.isfinite().all()) or bool((self.weights < 0).any()):
            raise _bad(who, "finite weights, none negative", "others")
        if not bool(((total - 1).abs() < 1e-2).all()):
            raise _bad(who, "rows that sum to 1", f"{float(total.min()):.3f}")
        return self

    @property
    def hard(self) -> Int[Tensor, " v"]:
        """The likeliest part of each vertex, 0 for none."""
        return self.weights.argmax(1)


def template_key(template: Mesh) -> str:
    """Return a name for a template's vertices and faces: labels belong to one template only."""
    places = template.vertices.float().numpy().tobytes()
    return hashlib.sha256(places + template.faces.int().numpy().tobytes()).hexdigest()[:16]


def write_labels(path: str | Path, labels: Labels, template: Mesh) -> None:
    """Write a labelling as JSON: names, and of each vertex the weights that are not 0.

    Evidence goes into a file beside it, of the same name but ``.safetensors``.
    """
    rows = [
        [[k, round(float(w), DIGITS)] for k, w in enumerate(row) if round(float(w), DIGITS) > 0]
        for row in labels.checked(template).weights
    ]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "template": template_key(template),
        "names": list(labels.names),
        "weights": rows,
    }
    if labels.evidence is not None:
        document["evidence"] = labels.evidence.write(Path(path).with_suffix(".safetensors"))
    write_bytes_atomic(Path(path), json_bytes(document))


def read_labels(path: str | Path, template: Mesh) -> Labels:
    """Return the labelling of a file.

    Raises:
        InputError: E_LABELS where the file is no labelling, or one of another template.
        CheckpointError: E_CKPT_FORMAT where it is no JSON; E_CKPT_MISSING, E_CKPT_PATH where the
            evidence that it names does not lie beside it.
    """
    who = f"labels {path}"
    document = read_json(Path(path))
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _bad(who, f"a labels file of schema {SCHEMA}", str(type(document).__name__))
    if document.get("template") != template_key(template):
        raise _bad(who, "labels of this model's template", "another template's")
    try:
        names = tuple(str(name) for name in document["names"])
        weights = torch.zeros(len(document["weights"]), len(names) + 1)
        for vertex, row in enumerate(document["weights"]):
            for column, weight in row:
                weights[vertex, int(column)] = float(weight)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _bad(who, "names and weights", f"{type(error).__name__} ({error})") from error
    total = weights.sum(1, keepdim=True)
    evidence = PartEvidence.stated(Path(path).parent, document.get("evidence"))
    return Labels(names, weights / total.clamp_min(1e-6), evidence).checked(template, who)


def _bad(who: str, expected: str, got: str) -> InputError:
    return InputError(
        "E_LABELS", f"{who}: expected {expected}, got {got}; try: featmesh label-parts"
    )
