"""Take meshes, poses or the network away, in other programs' formats."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Mesh:
    """Write the category's mean shape, or that of a latent code, as GLB, OBJ or PLY."""

    out: Path
    """File to write, ending in .glb, .obj or .ply."""
    model: str = "car"
    """Name of a bundled model, or a model folder."""
    latent: tuple[float, ...] = ()
    """Shape code, standard deviations along each direction; default: the mean shape."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Poses:
    """Write predicted poses as BOP's CSV, COCO's JSON or PASCAL3D+'s .mat files."""

    predictions: tyro.conf.Positional[Path]
    """predictions.jsonl of featmesh evaluate."""
    views: Path
    """The views file they were made from."""
    to: Literal["bop", "coco", "pascal3d"]
    """Format."""
    out: Path
    """File to write; of pascal3d a folder."""
    diagonal: float | None = None
    """Length of an object unit in metres: the bounding-box diagonal of the mean shape."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Network:
    """Write trunk and head, photo pixels to unit feature vectors, for ONNX or torch.export."""

    to: Literal["onnx", "torch"]
    """Format; onnx needs the packages onnx and onnxscript."""
    out: Path
    """File to write (.onnx, .pt2)."""
    model: str = "car"
    """Name of a bundled model, or a model folder."""
    size: tuple[int, int] | None = None
    """Height and width of the pictures, pixels; default: the model's crop."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh export``."""

    do: tyro.conf.OmitArgPrefixes[
        Annotated[Mesh, tyro.conf.subcommand("mesh", prefix_name=False)]
        | Annotated[Poses, tyro.conf.subcommand("poses", prefix_name=False)]
        | Annotated[Network, tyro.conf.subcommand("network", prefix_name=False)]
    ]
    """What to export."""


def run(arguments: Arguments) -> int:
    """Write what is asked for and tell what was written."""
    do = arguments.do
    facts = _poses(do) if isinstance(do, Poses) else _of_model(do)
    lines = [f"{key}: {value}" for key, value in facts.items() if value not in (None, [], {})]
    told = json.dumps(facts, indent=1, allow_nan=False) if do.json else "\n".join(lines)
    sys.stdout.write(told + "\n")
    return 0


def _poses(do: Poses) -> dict[str, Any]:
    from featmesh.apps.export_poses import export_poses

    return export_poses(do.predictions, do.views, do.to, do.out, do.diagonal)


def _of_model(do: Mesh | Network) -> dict[str, Any]:
    from featmesh.apps.export_mesh import shape_of, write_mesh
    from featmesh.apps.export_network import write_network
    from featmesh.model.checkpoint import load

    model = load(do.model)
    if isinstance(do, Mesh):
        return write_mesh(do.out, shape_of(model, do.latent), model.category)
    return write_network(do.out, model, do.to, do.size)
