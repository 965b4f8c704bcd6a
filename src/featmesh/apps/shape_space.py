"""What a category's shape space holds: its mean and main directions, as picture, GLBs and table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from featmesh.draws import generator
from featmesh.evaluate.shape_metrics import dimensions, flipped_faces
from featmesh.files import write_json_atomic
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.model.deformation import Deformation
from featmesh.present.meshfile import write_glb
from featmesh.present.shapes import Row, diverging, sheet

SCHEMA = 1
STEPS = (-2, -1, 0, 1, 2)  # standard deviations of a shape code
FARTHEST = 2
DRAWS = 256  # pairs of codes the directions are computed from
DISTANCE = 4.0  # object units from which the shapes are drawn
PICTURE = "shape-space.png"
TABLE = "shape-space.json"


@dataclass(frozen=True)
class Direction:
    """One main direction of a shape space.

    Attributes:
        latent: unit code; times s it is the shape s standard deviations away from the mean.
        share: of the variation over all shapes that lies along it.
        moves: root mean square displacement of the surface at one standard deviation, object units.
        dimensions: (length, width, height) at -2 and at +2 standard deviations, object units.
        flipped: share of faces turned over at either of the two.
    """

    latent: Float[Tensor, " d"]
    share: float
    moves: float
    dimensions: tuple[tuple[float, float, float], tuple[float, float, float]]
    flipped: float


@dataclass(frozen=True)
class Survey:
    """What was found in a shape space.

    Attributes:
        mean: the shape of the code 0.
        directions: the main ones, the largest first.
        latents: length of a code.
    """

    mean: Mesh
    directions: tuple[Direction, ...]
    latents: int

    def to_json(self) -> dict[str, Any]:
        """Return the survey as plain values; lengths in object units."""
        return {
            "schema": SCHEMA,
            "unit": "object",
            "latents": self.latents,
            "mean": _named(dimensions(self.mean)),
            "directions": [
                {
                    "share": round(d.share, 4),
                    "rms_per_sigma": round(d.moves, 5),
                    "minus_2_sigma": _named(d.dimensions[0]),
                    "plus_2_sigma": _named(d.dimensions[1]),
                    "flipped_faces": round(d.flipped, 5),
                    "latent": [round(v, 6) for v in d.latent.tolist()],
                }
                for d in self.directions
            ],
        }


@torch.no_grad()
def survey(space: Deformation, mean: Mesh, count: int = 4) -> Survey:
    """Return the main directions of a shape space over standard normal codes.

    They are the principal components of the linear map nearest the deformation in mean square over
    the codes, area for area of the mean shape: exact where the space is linear. Each points to
    where the dimension that it changes most grows. Source: ours.

    Args:
        space: moves the mean shape's vertices; 0 at the code 0.
        mean: shape of the code 0, object units.
        count: how many directions, at most.
    """
    half = generator(0, "survey").standard_normal((DRAWS, space.latents))
    codes = torch.from_numpy(np.concatenate([half, -half])).float()
    moved = torch.cat([space(part) for part in codes.split(32)]).double().flatten(1)
    slope = torch.linalg.lstsq(codes.double(), moved).solution  # d 3v
    weight = _areas(mean).sqrt().repeat_interleave(3)
    towards, size, _ = torch.linalg.svd(slope * weight, full_matrices=False)
    shares = (size**2 / (size**2).sum().clamp_min(1e-30)).tolist()
    kept = range(min(count, space.latents))
    found = [_direction(space, mean, towards[:, k], shares[k], float(size[k])) for k in kept]
    return Survey(mean, tuple(found), space.latents)


def _direction(
    space: Deformation, mean: Mesh, latent: Tensor, share: float, moves: float
) -> Direction:
    """Return a direction, pointing to where the dimension that it changes most grows."""
    low, high = (shape_at(space, mean, FARTHEST * s * latent) for s in (-1, 1))
    before, after = dimensions(low), dimensions(high)
    change = np.subtract(after, before)
    flipped = max(flipped_faces(mean, low), flipped_faces(mean, high))
    found = Direction(latent, share, moves, (before, after), flipped)
    if change[np.abs(change).argmax()] < 0:
        return replace(found, latent=-latent, dimensions=(after, before))
    return found


def shape_at(space: Deformation, mean: Mesh, latent: Float[Tensor, " d"]) -> Mesh:
    """Return the mesh of a code."""
    with torch.no_grad():
        moved = space(latent.float()[None])[0]
    return mean.with_vertices(mean.vertices + moved.to(mean.vertices))


def _areas(mesh: Mesh) -> Float[Tensor, " v"]:
    """Return each vertex's share of the surface."""
    area = mesh.face_normals.double().norm(dim=1).repeat_interleave(3)
    total = torch.zeros(len(mesh.vertices), dtype=torch.float64)
    total = total.index_add(0, mesh.faces.reshape(-1), area)
    return total / total.sum()


def write_shape_space(
    found: Survey, space: Deformation, out: Path, view: tuple[float, float] = (0.9, 0.25)
) -> list[Path]:
    """Write the picture, the table and a GLB of the mean and of both ends of each direction.

    Args:
        found: the survey.
        space: what was surveyed.
        out: folder to write to.
        view: azimuth and elevation of the picture, radians.

    Returns:
        The files.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = [_row(found, space, k) for k in range(len(found.directions))]
    limit = max(float(c.abs().max()) for row in rows for c in row.change) or 1.0
    written = [out / "mean.glb"]
    write_glb(written[0], found.mean)
    for k, row in enumerate(rows, 1):
        for name, column in (("minus", 0), ("plus", -1)):
            path = out / f"direction-{k}-{name}.glb"
            colours = (255 * diverging(row.change[column] / limit)).round().byte().numpy()
            write_glb(path, row.meshes[column], colours=colours)
            written.append(path)
    pose = Viewpoint(*view, 0.0, DISTANCE).to_pose()
    headings = [f"{s:+d} sigma" if s else "mean shape" for s in STEPS]
    picture = sheet(headings, rows, ("moved inwards", "outwards (object units)"), pose)
    Image.fromarray(picture).save(out / PICTURE)
    write_json_atomic(out / TABLE, found.to_json())
    return [out / PICTURE, out / TABLE, *written]


def _row(found: Survey, space: Deformation, k: int) -> Row:
    """Return a direction's row of the picture; the change is the move along the mean's normals."""
    direction, mean = found.directions[k], found.mean
    meshes = tuple(shape_at(space, mean, s * direction.latent) for s in STEPS)
    normals = mean.vertex_normals
    change = tuple(((m.vertices - mean.vertices) * normals).sum(1) for m in meshes)
    told = [f"{direction.share:.0%} of the variation"]
    for name, words in zip(("length", "width", "height"), _changes(found, direction), strict=True):
        told.append(f"{name} {words} %")
    return Row(f"direction {k + 1}", tuple(told), meshes, change)


def _changes(found: Survey, direction: Direction) -> list[str]:
    """Return how length, width and height differ from the mean's at both ends, in percent."""
    mean = dimensions(found.mean)
    ends = [100 * (np.divide(end, mean) - 1) for end in direction.dimensions]
    return [f"{low:+.1f} / {high:+.1f}" for low, high in zip(*ends, strict=True)]


def show(name: str, found: Survey, files: Sequence[Path]) -> None:
    """Print what each direction does, and what was written."""
    length, width, height = dimensions(found.mean)
    title = (
        f"{name}: {found.latents} numbers a shape; mean {length:.3f} long, {width:.3f} wide, "
        f"{height:.3f} high (object units)"
    )
    table = Table("", "share", "moves", title=title, title_justify="left")
    for heading in ("length %", "width %", "height %", "flipped"):
        table.add_column(heading, justify="right", no_wrap=True)
    for k, direction in enumerate(found.directions, 1):
        start = [str(k), f"{direction.share:.1%}", f"{direction.moves:.4f}"]
        table.add_row(*start, *_changes(found, direction), f"{direction.flipped:.2%}")
    console = Console()
    console.print(table)
    console.print(
        "share of the variation; root mean square move at one sigma (object units); change against "
        "the mean from -2 to +2 sigma; faces turned over there"
    )
    console.print(f"written: {len(files)} files in {files[0].parent}", markup=False)


def _named(values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("length", "width", "height"), (round(v, 5) for v in values), strict=True))
