"""A CAD made ready to be rendered (normals, light, texture atlas), and its shading kernel.

Used by :mod:`featmesh.views.generate` only. Visible faces come from the project's own rasteriser;
light is a sun, a sky seen through the sky's visible share, and a mirrored environment. Ours.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int32

from featmesh.render.kernels import compiled, coverage

from .cad_model import Cad

SKY_DIRECTIONS = 64  # parallel projections from which the sky's visible share is measured
SKY_SIZE = 192  # pixels of the side of one of them
CREASE = 0.76  # cosine of the angle between faces up to which a surface is shaded as smooth
VALENCE = 24  # neighbours at a vertex that take part in its normals
GLASS_OPACITY = 0.85  # a part below it is glass
ENVIRONMENT = (16, 32)  # rows (from straight up to straight down) and columns (all around)


@dataclass(frozen=True, eq=False)
class Scene:
    """Arrays of a CAD for the kernels; ``c`` runs over welded vertices, ``p`` over parts.

    Attributes:
        vertices: corners of the faces, object frame.
        faces: vertex indices.
        normals: of each face's corners; their sign is not to be trusted.
        uv: texture coordinates of each face's corners, v up.
        part: the part of each face.
        solid: faces that are not glass.
        welded: vertex of ``sky`` and ``sun`` that each vertex belongs to.
        sun: whether each direction of ``directions`` is seen from a welded vertex, 0..1.
        sky: visible share of the sky, 0..1.
        directions: unit vectors to the sky, object frame.
        texels: all bitmaps one after the other: linear RGB, how much of it is the body's paint
            (0..1), and how bright it is against that paint.
        bitmaps: first texel, height and width of each part's bitmap; height 0 = none.
        colours: of each part, linear RGB.
        glass: which parts are glass.
        body: which parts carry the paint of the body, to be recoloured.
        hull: vertices of the convex hull, enough for boxes and shadows.
        materials: name of each part's palette, "" = it has a colour of its own.
        labels: part number of each face, 0 for none; None = the CAD is not labelled.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    normals: Float32[np.ndarray, "f 3 3"]
    uv: Float32[np.ndarray, "f 3 2"]
    part: Int32[np.ndarray, " f"]
    solid: np.ndarray
    welded: np.ndarray
    sun: Float32[np.ndarray, "d c"]
    sky: Float32[np.ndarray, " c"]
    directions: Float[np.ndarray, "d 3"]
    texels: Float32[np.ndarray, "t 5"]
    bitmaps: Int32[np.ndarray, "p 3"]
    colours: Float32[np.ndarray, "p 3"]
    glass: np.ndarray
    body: np.ndarray
    hull: Float[np.ndarray, "h 3"]
    materials: tuple[str, ...]
    labels: Int32[np.ndarray, " f"] | None


@dataclass(frozen=True)
class Light:
    """Light and camera of one view, object frame, linear RGB.

    Attributes:
        sun: colour of the sun.
        number: which of the scene's directions the sun stands in.
        sky: colour of the sky's diffuse light.
        ground: colour of the light from below.
        environment: what a mirror shows, rows from straight up to straight down.
        eye: the camera's centre.
    """

    sun: Float32[np.ndarray, " 3"]
    number: int
    sky: Float32[np.ndarray, " 3"]
    ground: Float32[np.ndarray, " 3"]
    environment: Float32[np.ndarray, "16 32 3"]
    eye: Float32[np.ndarray, " 3"]


@lru_cache(maxsize=64)
def build_scene(cad: Cad) -> Scene:
    """Return the scene of a CAD; the same CAD object gives the same scene, made once a process."""
    from scipy.spatial import ConvexHull

    vertices = np.concatenate([p.vertices for p in cad.parts])
    start = np.cumsum([0, *[len(p.vertices) for p in cad.parts]])
    faces = np.concatenate([p.faces + s for p, s in zip(cad.parts, start, strict=False)])
    faces = faces.astype(np.int32)
    sizes = [len(p.faces) for p in cad.parts]
    part = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    uv = [np.zeros((len(p.faces), 3, 2)) if p.uv is None else p.uv for p in cad.parts]
    glass = np.array([p.opacity < GLASS_OPACITY for p in cad.parts])
    keys = np.round(vertices * 20000).astype(np.int64)
    _, welded = np.unique(keys, axis=0, return_inverse=True)
    welded = welded.reshape(-1)
    solid = ~glass[part]
    directions, sun, seen = _sky(vertices, faces, solid, welded)
    texels, bitmaps = _atlas(cad)
    colours = np.array([p.colour for p in cad.parts], np.float32).clip(0, 1)
    body = _body(np.bincount(part, seen, len(sizes)), glass, colours)
    _mark_paint(texels, bitmaps, body, cad)
    return Scene(
        vertices=vertices,
        faces=faces,
        normals=_normals(vertices, faces, welded),
        uv=np.concatenate(uv).astype(np.float32),
        part=part,
        solid=solid,
        welded=welded,
        sun=sun,
        sky=sun.mean(0),
        directions=directions,
        texels=texels,
        bitmaps=bitmaps,
        colours=colours,
        glass=glass,
        body=body,
        hull=vertices[ConvexHull(vertices).vertices],
        materials=tuple(p.material for p in cad.parts),
        labels=_labels(cad),
    )


def _normals(vertices: np.ndarray, faces: np.ndarray, welded: np.ndarray) -> np.ndarray:
    """Return corner normals: the mean over neighbouring faces within the crease angle."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    weighted = np.cross(b - a, c - a)
    flat = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-20)
    corner = welded[faces].reshape(-1)
    order = np.argsort(corner, kind="stable")
    ranked = corner[order]
    first = np.searchsorted(ranked, ranked)
    count = np.searchsorted(ranked, ranked, side="right") - first
    rank = np.arange(len(order)) - first
    face = order // 3
    total = weighted[face].copy()
    for shift in range(1, min(VALENCE, int(count.max()))):
        other = face[first + (rank + shift) % count]
        cosine = (flat[face] * flat[other]).sum(1)
        # neighbours may be wound the other way round: compare without sign, add with it
        smooth = np.where((np.abs(cosine) > CREASE) & (shift < count), np.sign(cosine), 0.0)
        total += smooth[:, None] * weighted[other]
    normals = np.zeros((len(order), 3), np.float32)
    normals[order] = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)
    return normals.reshape(-1, 3, 3)


def _sky(
    vertices: np.ndarray, faces: np.ndarray, solid: np.ndarray, welded: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return directions to the sky, which are seen from welded vertices, and pixels seen a face."""
    k = np.arange(SKY_DIRECTIONS)
    z = 1 - (k + 0.5) / SKY_DIRECTIONS * 0.95
    turn = k * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - z * z)
    directions = np.stack([r * np.cos(turn), r * np.sin(turn), z], 1)
    visible = np.zeros((SKY_DIRECTIONS, int(welded.max()) + 1), np.float32)
    seen = np.zeros(len(faces))
    counts = np.bincount(welded[faces].reshape(-1), minlength=visible.shape[1])
    blockers = np.ascontiguousarray(faces[solid])
    for d, towards in enumerate(directions):
        lit, pixels = _seen_from(vertices, faces, blockers, towards)
        face_sum = np.bincount(welded[faces].reshape(-1), np.repeat(lit, 3), visible.shape[1])
        visible[d] = face_sum / np.maximum(counts, 1)
        seen[solid] += np.bincount(pixels, minlength=len(blockers))
    return directions, visible, seen


def _seen_from(
    vertices: np.ndarray, faces: np.ndarray, blockers: np.ndarray, towards: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which faces' centres are seen along a direction, and the face ids of all pixels."""
    side = np.cross(towards, [0.3, 1.0, 0.2])
    side /= np.linalg.norm(side)
    up = np.cross(side, towards)
    far = 20.0
    scale = SKY_SIZE * far * 0.95
    depth = far - vertices @ towards
    u = vertices @ side / depth * scale + SKY_SIZE / 2
    v = vertices @ up / depth * scale + SKY_SIZE / 2
    points = np.stack([u, v, 1 / depth], 1).astype(np.float32)[None]
    ids = coverage(points, blockers, SKY_SIZE, SKY_SIZE, False)[0]
    hit = ids >= 0
    near = np.full(ids.shape, np.inf)
    near[hit] = depth[blockers[ids[hit]]].min(1)
    x = u[faces].mean(1).astype(int).clip(0, SKY_SIZE - 1)
    y = v[faces].mean(1).astype(int).clip(0, SKY_SIZE - 1)
    lit = depth[faces].min(1) < near[y, x] + 0.015
    return lit.astype(np.float32), ids[hit]


def _atlas(cad: Cad) -> tuple[np.ndarray, np.ndarray]:
    bitmaps = np.zeros((len(cad.parts), 3), np.int32)
    texels: list[np.ndarray] = [np.zeros((1, 5), np.float32)]
    used = 1
    for k, p in enumerate(cad.parts):
        if p.texture is not None and p.uv is not None:
            h, w = p.texture.shape[:2]
            bitmaps[k] = used, h, w
            rgb = linear(p.texture.reshape(-1, 3) / 255)
            texels.append(np.pad(rgb, ((0, 0), (0, 2))))
            used += h * w
    return np.concatenate(texels), bitmaps


def _body(seen: np.ndarray, glass: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return the parts that carry the paint: the one seen most, and those of the same colour."""
    bright = colours.max(1) > 0.06
    score = np.where(glass, -1.0, seen * np.where(bright, 1.0, 0.3))
    best = int(score.argmax())
    same = np.abs(colours - colours[best]).max(1) < 0.03
    return ~glass & same


def _labels(cad: Cad) -> np.ndarray | None:
    if not cad.part_names:
        return None
    of = [np.zeros(len(p.faces), np.int32) if p.labels is None else p.labels for p in cad.parts]
    return np.concatenate(of).astype(np.int32)


def _mark_paint(texels: np.ndarray, bitmaps: np.ndarray, body: np.ndarray, cad: Cad) -> None:
    """Mark, in place, the texels of the body's own colour: those near the most frequent one."""
    for k in np.nonzero(body & (bitmaps[:, 1] > 0))[0]:
        first, h, w = (int(x) for x in bitmaps[k])
        corners = cad.parts[k].uv
        if corners is None:
            continue
        uv = corners.mean(1) % 1
        x, y = (uv[:, 0] * w).astype(int), ((1 - uv[:, 1]) * h).astype(int).clip(0, h - 1)
        used = texels[first + y * w + x, :3]
        middle = np.median(used, axis=0)
        own = texels[first : first + h * w]
        far = np.abs(own[:, :3] - middle).max(1) / max(float(middle.max()), 0.05)
        own[:, 3] = np.clip(1.5 - 2 * far, 0, 1)
        own[:, 4] = own[:, :3].mean(1) / max(float(middle.mean()), 1e-3)


def linear(encoded: np.ndarray) -> Float32[np.ndarray, "..."]:
    """Return linear light of display values in 0..1 (gamma 2.2)."""
    return np.power(np.clip(encoded, 0, 1), 2.2).astype(np.float32)


def encoded(light: np.ndarray) -> Float32[np.ndarray, "..."]:
    """Return display values in 0..1 of linear light (gamma 2.2)."""
    return np.power(np.clip(light, 0, 1), 1 / 2.2).astype(np.float32)


@compiled
@no_type_check
def _wrap_lookup(texels, bitmap, u, v):
    """Return the texel at (u, v), v up, repeated; nearest."""
    height, width = bitmap[1], bitmap[2]
    x = int((u - math.floor(u)) * width)
    y = int((1 - (v - math.floor(v))) * height)
    return bitmap[0] + min(y, height - 1) * width + min(x, width - 1)


@compiled
@no_type_check
def _normalise(vector):
    """Scale a vector to length 1, in place."""
    length = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    for c in range(3):
        vector[c] /= max(1e-9, length)


@compiled
@no_type_check
def _weights(points, faces, f, x, y, out):
    """Write the barycentric weights of the point of face ``f`` on the ray (x, y, 1)."""
    total = 0.0
    for k in range(3):
        a, b = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        out[k] = x * (ay * bz - az * by) + y * (az * bx - ax * bz) + (ax * by - ay * bx)
        total += out[k]
    for k in range(3):
        out[k] = 1 / 3 if total == 0 else min(1.0, max(0.0, out[k] / total))


@compiled
@no_type_check
def _mirror(environment, direction, out):
    """Write the environment's colour in a direction, bilinear around, nearest up and down."""
    rows, columns = environment.shape[0], environment.shape[1]
    up = math.acos(min(1.0, max(-1.0, direction[2]))) / math.pi * rows
    row = min(rows - 1, int(up))
    around = (math.atan2(direction[1], direction[0]) / (2 * math.pi) + 0.5) * columns - 0.5
    left = math.floor(around)
    share = around - left
    for c in range(3):
        a = environment[row, left % columns, c]
        b = environment[row, (left + 1) % columns, c]
        out[c] = a + (b - a) * share


@compiled
@no_type_check
def shade(  # noqa: PLR0913
    face_id, points, camera, vertices, faces, corner, uv, part, paint, bitmaps, texels,
    surface, light, environment, eye, out,
):  # fmt: skip
    """Write premultiplied linear RGBA of the visible faces; 0 where nothing is hit.

    Args:
        face_id: int32 (H, W).
        points: float32 (V, 3), vertices in the camera's frame.
        camera: float64 (4,): fx, fy, cx, cy of the picture ``face_id``.
        vertices: float32 (V, 3), object frame.
        faces: int32 (F, 3).
        corner: float32 (F, 3, 5): normal, visible share of the sky, of the sun, of each corner.
        uv: float32 (F, 3, 2).
        part: int32 (F,).
        paint: float32 (P, 3), linear RGB where a part has no bitmap.
        bitmaps: see :class:`Scene`.
        texels: see :class:`Scene`.
        surface: float32 (P, 4): gloss strength, gloss exponent, mirror at right angles, opacity.
        light: float32 (4, 3): direction to the sun, sun, sky, ground.
        environment: see :class:`Light`.
        eye: float32 (3,).
        out: float32 (H, W, 4), overwritten.
    """
    height, width = face_id.shape
    w, n, view = np.zeros(3), np.zeros(3), np.zeros(3)
    direction, mirrored = np.zeros(3), np.zeros(3)
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            for c in range(4):
                out[y, x, c] = 0
            if f < 0:
                continue
            ray_x, ray_y = (x + 0.5 - camera[2]) / camera[0], (y + 0.5 - camera[3]) / camera[1]
            _weights(points, faces, f, ray_x, ray_y, w)
            sky, sun, u, v = 0.0, 0.0, 0.0, 0.0
            for c in range(3):
                n[c], view[c] = 0.0, 0.0
                for k in range(3):
                    n[c] += w[k] * corner[f, k, c]
                    view[c] += w[k] * (eye[c] - vertices[faces[f, k], c])
            for k in range(3):
                sky += w[k] * corner[f, k, 3]
                sun += w[k] * corner[f, k, 4]
                u += w[k] * uv[f, k, 0]
                v += w[k] * uv[f, k, 1]
            _normalise(n)
            _normalise(view)
            facing = n[0] * view[0] + n[1] * view[1] + n[2] * view[2]
            side = -1.0 if facing < 0 else 1.0
            facing *= side
            along, half, square = 0.0, 0.0, 0.0
            for c in range(3):
                n[c] *= side
                direction[c] = 2 * facing * n[c] - view[c]
                bisector = view[c] + light[0, c]
                along += n[c] * light[0, c]
                half += n[c] * bisector
                square += bisector * bisector
            sunny = max(0.0, along) * sun
            p = part[f]
            texel = _wrap_lookup(texels, bitmaps[p], u, v) if bitmaps[p, 1] > 0 else 0
            fresnel = 0.0
            if surface[p, 2] > 0:
                fresnel = surface[p, 2] + (1 - surface[p, 2]) * (1 - facing) ** 5
            _mirror(environment, direction, mirrored)
            highlight = max(0.0, half) / max(1e-9, math.sqrt(square))
            gloss = surface[p, 0] * highlight ** surface[p, 1] * sun
            own = texels[texel, 3]
            for c in range(3):
                base = paint[p, c]
                if texel > 0:
                    base = texels[texel, c] * (1 - own) + base * texels[texel, 4] * own
                fill = light[2, c] * (0.5 + 0.5 * n[2]) + light[3, c] * (0.5 - 0.5 * n[2])
                diffuse = base * (light[1, c] * sunny + fill * (0.15 + 0.85 * sky))
                reflected = mirrored[c] * fresnel * (0.3 + 0.7 * sky) + gloss * light[1, c]
                out[y, x, c] = diffuse * surface[p, 3] * (1 - fresnel) + reflected
            out[y, x, 3] = min(1.0, surface[p, 3] + fresnel)
