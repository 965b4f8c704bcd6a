"""Segmentations as picture files at the photo's own resolution, and as colours over the photo.

Masks hold 255 inside and 0 outside (0 and 1 would look alike). The part image holds the numbers of
the parts, and a palette that shows them in colours. Depth is 16 bits, surface coordinates RGB.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from featmesh.geometry.mesh import Mesh
from featmesh.inference.result import INVISIBLE, OCCLUDED, VISIBLE, Estimate, Segmentation
from featmesh.photo.photo import Photo
from featmesh.rle import encode, encode_labels

from .overlay import FINE, OUTLINE, outline, shown

Colour = tuple[int, int, int]
STATE_COLOURS: dict[int, Colour] = {
    INVISIBLE: (148, 156, 168),
    VISIBLE: (46, 184, 92),
    OCCLUDED: (232, 62, 62),
}
STATE_NAMES = {INVISIBLE: "invisible", VISIBLE: "visible", OCCLUDED: "occluded"}
# as far from one another, from grey, black and white as 24 colours can be (OKLab)
PART_COLOURS: tuple[Colour, ...] = (
    *((65, 140, 245), (245, 150, 40), (35, 245, 140), (170, 20, 125), (245, 170, 245)),
    *((65, 125, 35), (110, 230, 245), (200, 35, 20), (230, 230, 20), (125, 65, 200)),
    *((140, 95, 35), (170, 185, 125), (20, 110, 140), (245, 125, 140), (125, 80, 125)),
    *((125, 185, 20), (20, 170, 155), (215, 95, 215), (155, 155, 215), (65, 80, 185)),
    *((245, 185, 155), (65, 170, 215), (155, 245, 185), (170, 65, 95)),
)
INSIDE = 255  # of a mask
DEEPEST = 2**16 - 1  # steps of a depth image
CLEAR = 0.56  # opacity of a colour where the object is seen
HATCH = 12  # pixels of a fine picture from stripe to stripe, where it is hidden


def part_colour(number: int) -> Colour:
    """Return the colour of part ``number``; black for 0, no part. The 25th is a dark first."""
    if number == 0:
        return 0, 0, 0
    red, green, blue = PART_COLOURS[(number - 1) % len(PART_COLOURS)]
    share = 0.8 ** ((number - 1) // len(PART_COLOURS))
    return round(share * red), round(share * green), round(share * blue)


def mask_image(mask: Bool[np.ndarray, "h w"]) -> Image.Image:
    """Return a mask as a grey picture: 255 inside, 0 outside."""
    return Image.fromarray(mask.view(np.uint8) * np.uint8(INSIDE))


def parts_image(parts: UInt8[np.ndarray, "h w"]) -> Image.Image:
    """Return the numbers of parts with a palette: 0 (no part) is black."""
    picture = Image.fromarray(parts).copy()
    picture.putpalette([v for number in range(256) for v in part_colour(number)])
    return picture


def depth_scale(depth: Float32[np.ndarray, "h w"]) -> float:
    """Return the step of a depth image: the smallest power of ten that reaches the farthest."""
    farthest = float(depth.max(where=np.isfinite(depth), initial=0.0))
    return float(f"1e{math.ceil(math.log10(farthest / DEEPEST))}") if farthest > 0 else 1.0


def depth_image(depth: Float32[np.ndarray, "h w"], scale: float) -> Image.Image:
    """Return depth in 16 bits, steps of ``scale``; 0 where nothing is drawn, and only there."""
    drawn = np.isfinite(depth)
    steps = np.zeros(depth.shape, np.uint16)
    steps[drawn] = np.clip(np.rint(depth[drawn] / scale), 1, DEEPEST)
    return Image.fromarray(steps)


def surface_image(segmentation: Segmentation, mesh: Mesh) -> Image.Image:
    """Return surface coordinates x, y, z as red, green, blue; black where nothing is drawn."""
    surface = segmentation.surface(mesh)
    colours = np.zeros(surface.shape, np.uint8)
    drawn = segmentation.amodal
    colours[drawn] = np.rint(255 * np.clip(surface[drawn], 0, 1))
    return Image.fromarray(colours)


def mask_pictures(estimate: Estimate, suffix: str, dense: bool) -> dict[str, Image.Image]:
    """Return the files of an estimate's segmentation: name and picture; none without one.

    Args:
        estimate: of one object.
        suffix: of the names, for further objects of the photo.
        dense: depth and surface coordinates too.
    """
    found, mesh = estimate.segmentation, estimate.mesh
    if found is None or mesh is None:
        return {}
    masks = ("amodal", "visible", "occluded")
    pictures = {f"{name}{suffix}.png": mask_image(getattr(found, name)) for name in masks}
    if found.parts is not None:
        pictures[f"parts{suffix}.png"] = parts_image(found.parts)
    if dense:
        pictures[f"depth{suffix}.png"] = depth_image(found.depth, depth_scale(found.depth))
        pictures[f"surface{suffix}.png"] = surface_image(found, mesh)
    return pictures


def mask_json(estimate: Estimate, suffix: str, dense: bool) -> dict[str, Any]:
    """Return what ``result.json`` says of an object's segmentation and its files.

    ``masks`` and ``parts`` are None without a segmentation, ``parts`` also without labels.
    Arguments as for :func:`mask_pictures`.
    """
    found, mesh = estimate.segmentation, estimate.mesh
    if found is None or mesh is None:
        return {"masks": None, "parts": None}
    row: dict[str, Any] = {"masks": {}, "parts": None}
    for name in ("amodal", "visible", "occluded"):
        mask = getattr(found, name)
        told = {"file": f"{name}{suffix}.png", "pixels": int(np.count_nonzero(mask))}
        row["masks"][name] = told | {"rle": encode(mask)}
    if found.parts is not None:
        row["masks"]["parts"] = {"file": f"parts{suffix}.png"}
        shapes = encode_labels(found.parts, len(found.names))
        rows = zip(part_rows(found), shapes, strict=True)
        row["parts"] = [part | {"rle": shape} for part, shape in rows]
    if dense:
        low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
        centre = [round(v, 6) for v in ((low + high) / 2).tolist()]
        size = round(float((high - low).norm()), 6)
        scale = depth_scale(found.depth)
        row["depth"] = {"file": f"depth{suffix}.png", "scale": scale, "unit": estimate.t_unit}
        row["surface"] = {"file": f"surface{suffix}.png", "centre": centre, "size": size}
    return row


def part_rows(found: Segmentation) -> list[dict[str, Any]]:
    """Return number, name, pixels (hidden ones too) and visible percent of each part.

    ``visible`` is None for a part of which nothing is drawn.
    """
    if found.parts is None:
        return []
    pixels = np.bincount(found.parts.reshape(-1), minlength=len(found.names) + 1)
    return [
        {
            "number": k,
            "name": name,
            "pixels": int(pixels[k]),
            "visible": round(100 * found.shares[name], 1) if name in found.shares else None,
        }
        for k, name in enumerate(found.names, 1)
    ]


def state_overlay(photo: Photo, found: Segmentation) -> UInt8[np.ndarray, "h w 3"]:
    """Return the photo with the visible part of the object green, the occluded one red, hatched.

    As large as :func:`featmesh.present.overlay.overlay`.
    """
    states = np.where(found.visible, VISIBLE, OCCLUDED) * found.amodal
    colours = [STATE_COLOURS[state] for state in (INVISIBLE, VISIBLE, OCCLUDED)]
    return _coloured(photo, states.astype(np.uint8), np.array(colours), found.visible)


def parts_overlay(photo: Photo, found: Segmentation) -> UInt8[np.ndarray, "h w 3"]:
    """Return the photo with the parts in their colours and outlined, hatched where hidden.

    As large as :func:`featmesh.present.overlay.overlay`; the bare photo without parts.
    """
    if found.parts is None:
        return np.asarray(shown(photo)[0])
    colours = np.array([part_colour(number) for number in range(len(found.names) + 1)])
    return _coloured(photo, found.parts, colours, found.visible)


def _coloured(
    photo: Photo,
    labels: UInt8[np.ndarray, "h w"],
    colours: np.ndarray,
    visible: Bool[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "y x 3"]:
    """Return the photo under the colours of labels: plain where visible, striped where not."""
    picture, _ = shown(photo)
    size = (picture.width * FINE, picture.height * FINE)
    label = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    plain = np.asarray(Image.fromarray(visible).resize(size, Image.Resampling.NEAREST))
    pixels = np.asarray(picture.resize(size, Image.Resampling.NEAREST)).copy()
    drawn = label > 0
    rows, columns = np.nonzero(drawn)
    stripe = (rows + columns) % HATCH < HATCH // 2
    share = np.where(plain[drawn], CLEAR, np.where(stripe, 0.8, 0.2))[:, None]
    under, over = pixels[drawn], colours[label[drawn]]
    pixels[drawn] = np.rint(under + share * (over - under.astype(np.float64)))
    pixels[_borders(label)] = OUTLINE
    return np.asarray(Image.fromarray(pixels).resize(picture.size, Image.Resampling.BOX))


def _borders(label: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return where labels meet, and the silhouette of all that have one: a line of FINE pixels."""
    lines = outline(label > 0, FINE)
    across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    inside = label > 0
    for shift in (0, 1):  # a line lies on both sides
        lines[:, shift : shift + across.shape[1]] |= across
        lines[shift : shift + down.shape[0]] |= down
    return lines & inside
