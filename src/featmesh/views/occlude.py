"""Occluders by level, as in Occluded PASCAL3D+ (spec 3.2), seeded: blobs cut from other pictures.

Used on photos to be evaluated and, while views are generated, on photos to be trained on. Ours.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from featmesh.draws import generator
from featmesh.errors import InputError

# share of the object, share of the context (the rest of the photo) that is hidden
LEVELS = {
    "L1": ((0.2, 0.4), (0.0, 0.2)),
    "L2": ((0.4, 0.6), (0.2, 0.4)),
    "L3": ((0.6, 0.8), (0.4, 0.6)),
}
TRIES = 12  # places tried for one occluder before its part in the context is cut to size
MARGIN = 0.02  # kept from the ends of a level's intervals


def occlude(
    pixels: UInt8[np.ndarray, "h w 3"],
    mask_or_box: Bool[np.ndarray, "h w"] | tuple[float, float, float, float],
    level: str,
    seed: int,
    index: int,
    occluders: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Return the photo with occluders of a level, and where they lie.

    Args:
        pixels: the photo.
        mask_or_box: pixels of the object, or its box (x0, y0, x1, y1) in pixels.
        level: L1, L2 or L3.
        seed: with ``index`` the key of every draw.
        index: number of the photo.
        occluders: pictures that show no object of the category; patches are cut from them.

    Raises:
        InputError: E_LEVEL (no such level), E_BOX (no pixel of the object in the photo).
    """
    if level not in LEVELS:
        expected = f"a level of {{{', '.join(LEVELS)}}}"
        raise InputError("E_LEVEL", f"occlude: expected {expected}, got {level!r}; try: L1")
    rng = generator(seed, "occlude", 0, index)
    thing = _object(mask_or_box, pixels.shape[:2])
    of_object, of_context = LEVELS[level]
    hidden = np.zeros_like(thing)
    result = pixels.copy()
    goal = rng.uniform(of_object[0] + MARGIN, of_object[1] - MARGIN) * thing.sum()
    most = (of_context[1] - MARGIN) * (~thing).sum()
    count = int(rng.integers(1, 4))
    for k in range(count):
        part = round(goal * (k + 1) / count) - int((hidden & thing).sum())
        spot = _on_object(rng, thing, hidden, part, most - int((hidden & ~thing).sum()))
        _paint(result, spot & ~hidden, rng, occluders)
        hidden |= spot
    low = (of_context[0] + MARGIN) * (~thing).sum() if of_context[0] > 0 else 0.0
    while (missing := int(np.ceil(low)) - int((hidden & ~thing).sum())) > 0:
        part = int(np.ceil(missing * rng.uniform(0.5, 1.0)))
        spot = _take(_shape(rng, rng.uniform(0, 1, 2), thing.shape), ~thing & ~hidden, part)
        _paint(result, spot & ~thing & ~hidden, rng, occluders)
        hidden |= spot & ~thing
    return result, hidden


def _object(
    mask_or_box: Bool[np.ndarray, "h w"] | tuple[float, float, float, float],
    size: tuple[int, ...],
) -> Bool[np.ndarray, "h w"]:
    if isinstance(mask_or_box, np.ndarray):
        thing = mask_or_box.astype(bool)
    else:
        x0, y0, x1, y1 = (max(0, round(side)) for side in mask_or_box)
        thing = np.zeros(size, bool)
        thing[y0:y1, x0:x1] = True
    if not thing.any():
        raise InputError(
            "E_BOX",
            f"occlude: expected an object inside the photo, got none of {size[1]} x {size[0]} "
            "pixels; try: a box in pixels of this photo",
        )
    return thing


def _shape(rng: np.random.Generator, centre: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return a field whose level sets are growing copies of one random shape.

    ``centre`` is (y, x) as shares of the photo. Ellipse, polygon or blob: a radius that depends on
    the direction, stretched and turned.
    """
    y, x = np.ogrid[: size[0], : size[1]]
    dy = (y + 0.5 - centre[0] * size[0]).astype(np.float32)
    dx = (x + 0.5 - centre[1] * size[1]).astype(np.float32)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.5, 2.0)
    a = (np.cos(turn) * dx + np.sin(turn) * dy) * stretch
    b = np.cos(turn) * dy - np.sin(turn) * dx
    kind = rng.integers(3)
    if kind == 0:
        return np.hypot(a, b)
    angle = np.arctan2(b, a)
    if kind == 1:  # a regular polygon, stretched: |p| cos(angle to the side's middle)
        sector = 2 * np.pi / rng.integers(3, 7)
        return np.hypot(a, b) * np.cos(np.mod(angle, sector) - sector / 2)
    radius = np.ones_like(angle)
    for k in range(2, 6):
        radius += rng.uniform(0, 0.6 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(a, b) / radius


def _take(field: np.ndarray, wanted: Bool[np.ndarray, "h w"], count: int) -> np.ndarray:
    """Return the smallest level set that holds ``count`` of the wanted pixels."""
    values = field[wanted]
    if count <= 0 or not len(values):
        return np.zeros_like(wanted)
    k = min(count, len(values)) - 1
    return field <= np.partition(values, k)[k]


def _on_object(
    rng: np.random.Generator,
    thing: Bool[np.ndarray, "h w"],
    hidden: Bool[np.ndarray, "h w"],
    count: int,
    context: float,
) -> Bool[np.ndarray, "h w"]:
    """Return an occluder hiding ``count`` more pixels of the object, at most ``context`` others."""
    rows, columns = np.nonzero(thing)
    spot = np.zeros_like(thing)
    outside = spot
    field = spot.astype(np.float32)
    for _ in range(TRIES):
        k = rng.integers(len(rows))
        wobble = rng.normal(0, 0.15, 2) * (np.ptp(rows), np.ptp(columns))
        centre = (np.array([rows[k], columns[k]]) + wobble) / thing.shape
        field = _shape(rng, centre, thing.shape)
        spot = _take(field, thing & ~hidden, count)
        outside = spot & ~thing & ~hidden
        if outside.sum() <= context:
            return spot
    return (spot & thing) | (_take(field, outside, int(context)) & outside)


def _paint(
    pixels: UInt8[np.ndarray, "h w 3"],
    spot: Bool[np.ndarray, "h w"],
    rng: np.random.Generator,
    occluders: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> None:
    """Fill ``spot`` in place with a patch of a random picture, or with grey noise."""
    if not spot.any():
        return
    rows, columns = np.nonzero(spot.any(1))[0], np.nonzero(spot.any(0))[0]
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    patch = _patch(rng, occluders, int(y1 - y0), int(x1 - x0))
    inner = spot[y0:y1, x0:x1]
    pixels[y0:y1, x0:x1][inner] = patch[inner]


def _patch(
    rng: np.random.Generator,
    occluders: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    height: int,
    width: int,
) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    if not len(occluders):
        grey = rng.integers(40, 216, 3) + rng.normal(0, 12, (height, width, 1))
        return np.clip(grey, 0, 255).astype(np.uint8)
    picture = occluders[int(rng.integers(len(occluders)))]
    share = rng.uniform(0.3, 1.0)
    h = max(1, min(picture.shape[0], int(share * picture.shape[0])))
    w = max(1, min(picture.shape[1], int(share * picture.shape[1])))
    y = int(rng.integers(picture.shape[0] - h + 1))
    x = int(rng.integers(picture.shape[1] - w + 1))
    cut = Image.fromarray(picture[y : y + h, x : x + w])
    return np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR))
