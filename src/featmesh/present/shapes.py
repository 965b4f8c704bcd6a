"""Pictures of meshes by themselves: shaded, all with one camera, in rows and columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate

from .overlay import COLD, FINE, MIDDLE, WARM

PAPER, INK, SOFT = (255, 255, 255), (27, 31, 36), (102, 112, 124)
ABOVE_LEFT = (-0.353, -0.756, -0.552)  # unit, camera axes: where light comes from
MARGIN = 0.06  # of a cell, left free on each side
LABEL, HEAD, GAP = 250, 44, 10  # pixels: width of the labels, height of the headings, space between
TITLE, TEXT = 22, 17  # pixels, height of letters


@dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Attributes:
        title: first line of the label.
        told: further lines.
        meshes: one a column, object frame.
        change: of each mesh, for its colours: one number a vertex, 0 is no change.
    """

    title: str
    told: tuple[str, ...]
    meshes: tuple[Mesh, ...]
    change: tuple[Float[Tensor, " v"], ...]


def sheet(
    headings: Sequence[str],
    rows: Sequence[Row],
    legend: tuple[str, str],
    cam_from_obj: Pose,
    cell: tuple[int, int] = (200, 300),
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a labelled picture of meshes, all seen by one camera: sizes can be compared.

    Red is a vertex with a positive change, blue one with a negative; full colour is the largest
    change there is, told in the legend.

    Args:
        headings: one a column.
        rows: at least one.
        legend: what blue and red mean.
        cam_from_obj: how every mesh is seen, in the unit of the meshes.
        cell: (height, width) of one mesh's picture, pixels.
    """
    limit = max(float(c.abs().max()) for row in rows for c in row.change) or 1.0
    camera = fitting_camera([m for row in rows for m in row.meshes], cam_from_obj, cell)
    width = LABEL + len(headings) * cell[1] + GAP
    picture = Image.new("RGB", (width, HEAD + len(rows) * cell[0] + 3 * HEAD // 2), PAPER)
    draw = ImageDraw.Draw(picture)
    for column, heading in enumerate(headings):
        _write(draw, (LABEL + (column + 0.5) * cell[1], HEAD / 2), heading, SOFT, anchor="mm")
    for k, row in enumerate(rows):
        top = HEAD + k * cell[0]
        draw.line([(GAP, top), (width - GAP, top)], fill=(227, 230, 234))
        middle = top + cell[0] / 2 - TEXT * 0.7 * (len(row.told) + 1)
        _write(draw, (2 * GAP, middle), row.title, INK, TITLE)
        for line, words in enumerate(row.told):
            _write(draw, (2 * GAP, middle + 1.4 * TEXT * (line + 1) + 6), words, SOFT)
        for column, (mesh, change) in enumerate(zip(row.meshes, row.change, strict=True)):
            shown = shaded(mesh, diverging(change / limit), cam_from_obj, camera)
            picture.paste(Image.fromarray(shown), (LABEL + column * cell[1], top + 1))
    _draw_legend(draw, (LABEL, HEAD + len(rows) * cell[0] + HEAD // 2), legend, limit)
    return np.asarray(picture)


def shaded(
    mesh: Mesh, colours: Float[Tensor, "v 3"], cam_from_obj: Pose, camera: Camera
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a mesh on white paper, smoothly shaded, lit from the camera and from above left.

    Args:
        mesh: object frame.
        colours: RGB of each vertex, 0 to 1.
        cam_from_obj: pose, in the unit of the mesh.
        camera: of the picture.
    """
    fine = camera.scale(float(FINE))
    vertices = mesh.vertices.detach().double()
    points = cam_from_obj.apply(vertices)
    fragments = rasterize(points[None], mesh.faces, fine)
    normals = mesh.with_vertices(vertices).vertex_normals @ cam_from_obj.R.T.double()
    normal = functional.normalize(interpolate(normals, mesh.faces, fragments)[0], dim=-1)
    light = torch.tensor(ABOVE_LEFT, dtype=torch.float64)
    shade = (
        0.32
        + 0.38 * (-normal[..., 2:]).clamp(0, 1)
        + 0.42 * (normal @ light).clamp(0, 1)[..., None]
    )
    seen = interpolate(colours.double(), mesh.faces, fragments)[0] * shade
    paper = torch.tensor(PAPER, dtype=torch.float64) / 255
    picture = torch.where(fragments.covered[0][..., None], seen.clamp(0, 1), paper)
    blocks = picture.reshape(camera.height, FINE, camera.width, FINE, 3).mean((1, 3))
    return np.rint(255 * blocks.numpy()).astype(np.uint8)


def diverging(values: Float[Tensor, " v"]) -> Float[Tensor, "v 3"]:
    """Return the colours (RGB, 0 to 1) of values from -1, blue, by 0, near white, to 1, red."""
    scaled = values.detach().double().clamp(-1, 1)[:, None]
    cold, middle, warm = (torch.tensor(c, dtype=torch.float64) / 255 for c in (COLD, MIDDLE, WARM))
    return middle + scaled.abs() * (torch.where(scaled < 0, cold, warm) - middle)


def fitting_camera(meshes: Sequence[Mesh], cam_from_obj: Pose, size: tuple[int, int]) -> Camera:
    """Return the camera of a picture (height, width) that all of the meshes just fit into.

    They lie wholly before the camera.
    """
    points = torch.cat([cam_from_obj.apply(m.vertices.detach().double()) for m in meshes])
    seen = points[:, :2] / points[:, 2:]
    low, high = seen.amin(0), seen.amax(0)
    spread_x, spread_y = (high - low).clamp_min(1e-9).tolist()
    height, width = size
    f = (1 - 2 * MARGIN) * min(width / spread_x, height / spread_y)
    x, y = ((low + high) / 2).tolist()
    return Camera(f, f, width / 2 - f * x, height / 2 - f * y, height, width)


def _draw_legend(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], legend: tuple[str, str], limit: float
) -> None:
    """Draw the colour bar with its ends and what they mean."""
    (x, y), length = corner, 300
    steps = torch.linspace(-1, 1, length)
    for k, colour in enumerate((255 * diverging(steps)).round().int().tolist()):
        draw.line([(x + k, y), (x + k, y + 12)], fill=tuple(colour))
    _write(draw, (x - GAP, y + 6), f"-{limit:.3f}", SOFT, anchor="rm")
    told = f"+{limit:.3f}   blue: {legend[0]}, red: {legend[1]}"
    _write(draw, (x + length + GAP, y + 6), told, SOFT, anchor="lm")


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float | int, float | int],
    words: str,
    colour: tuple[int, int, int],
    size: int = TEXT,
    anchor: str = "lm",
) -> None:
    """Write a line in the font that comes with Pillow (Latin letters only)."""
    draw.text(place, words, fill=colour, font=ImageFont.load_default(size), anchor=anchor)
