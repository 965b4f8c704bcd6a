"""Turn a PyTorch checkpoint (NeMo's, torchvision's) into a trunk to train from; runs none of it.

Writes OUT/<backbone>-<hash>.safetensors, which featmesh train --trunk takes, and OUT/import.json.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh import-weights``."""

    file: tyro.conf.Positional[Path]
    """The checkpoint: .pth, .pt or .safetensors."""
    out: Path = Path("imported")
    """Folder to write to."""
    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Write the trunk and tell what was found."""
    from featmesh.apps.import_weights import import_weights

    facts = import_weights(arguments.file, arguments.out)
    if arguments.json:
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        sys.stdout.write(_text(facts, arguments.out))
    return 0


def _text(facts: dict[str, Any], out: Path) -> str:
    lines = [
        f"{facts['source']}: {facts['backbone']}, {facts['taken']} of {facts['tensors']} tensors, "
        f"{facts['numbers'] / 1e6:.1f} M numbers"
    ]
    for name, shape in facts["banks"].items():
        lines.append(f"memory bank {name}: {' x '.join(map(str, shape))}, not taken")
    if facts["left"]:
        told = ", ".join(f"{name} ({count})" for name, count in facts["left"].items())
        lines.append(f"not taken: {told}")
    preset = "--preset nemo " if facts["backbone"] == "resnet50" else ""
    lines += [
        f"written: {out / facts['file']}",
        f"next: featmesh train {preset}--trunk {out / facts['file']} ...",
    ]
    return "\n".join(lines) + "\n"
