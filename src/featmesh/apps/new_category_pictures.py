"""Pictures of ``featmesh new-category``: the CADs with their fronts, held-out estimates."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.inference.result import Estimate
from featmesh.photo.photo import Photo
from featmesh.present.overlay import overlay

TILE = (240, 320)  # height, width in pixels of one picture
LINE = 22  # pixels of a line of text
COLUMNS = 4
MOST = 24  # pictures of a sheet
SEEN_FROM = Viewpoint(math.radians(35), math.radians(22), 0.0, 3.5)  # front left, from above


def write_contact_sheet(path: Path, cads: Sequence[tuple[str, Mesh]], told: Sequence[str]) -> None:
    """Write a picture of the CADs as they are taken, with arrows.

    Args:
        path: PNG file.
        cads: name and mesh of each, object frame, diagonal 1; the first MOST are drawn.
        told: lines below: what was left out.
    """
    head = "yellow arrow: front (-y)   blue line: up (+z)   red line: the object's left (+x)"
    tiles = [(name, _drawn(mesh)) for name, mesh in cads[:MOST]]
    more = [f"and {len(cads) - MOST} more"] if len(cads) > MOST else []
    write_tiles(path, tiles, head, [*more, *told])


def _drawn(mesh: Mesh) -> UInt8[np.ndarray, "h w 3"]:
    """Return a mesh on white paper, drawn as estimates are."""
    height, width = TILE
    focal = 1.45 * width * SEEN_FROM.distance / 2
    camera = Camera(focal, focal, width / 2, height / 2, height, width)
    paper = Photo.from_array(np.full((height, width, 3), 255, np.uint8))
    pose = SEEN_FROM.to_pose()
    return overlay(paper, Estimate("ok", "", cam_from_obj=pose, camera=camera, mesh=mesh))


def write_tiles(
    path: Path,
    tiles: Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]],
    head: str,
    told: Sequence[str] = (),
) -> None:
    """Write captioned pictures side by side.

    Args:
        path: PNG file.
        tiles: caption and picture of each, fitted into a tile.
        head: line above.
        told: lines below.
    """
    height, width = TILE
    rows = -(-len(tiles) // COLUMNS)
    size = (COLUMNS * width, rows * (height + LINE) + LINE * (len(told) + 1) + 8)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    draw.text((6, 3), _latin(head), "black", font)
    for k, (caption, pixels) in enumerate(tiles):
        x, y = k % COLUMNS * width, LINE + k // COLUMNS * (height + LINE)
        picture = Image.fromarray(pixels)
        picture.thumbnail((width - 4, height - 2))
        sheet.paste(picture, (x + (width - picture.width) // 2, y))
        draw.text((x + 6, y + height + 2), _latin(caption)[:44], "black", font)
    for k, line in enumerate(told):
        y = LINE + rows * (height + LINE) + k * LINE + 4
        draw.text((6, y), _latin(line)[:180], "black", font)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # a kill leaves no half picture
    sheet.save(part, "PNG")
    part.replace(path)


def _latin(text: str) -> str:
    """Return the text in the letters of Pillow's own font."""
    return text.encode("latin-1", "replace").decode("latin-1")
