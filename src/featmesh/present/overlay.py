"""Pictures of an estimate: the mesh over the photo, feature colours, heat map (Pillow only).

Colours mean the same everywhere: x red, y green, z blue, the mesh in one tint, its front an arrow.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.inference.result import Estimate
from featmesh.photo.photo import Photo
from featmesh.render.rasterize import rasterize

LONGEST = 1000  # pixels of the picture's longer side
FINE = 2  # everything is drawn this much finer and averaged down, for smooth edges
TINT = np.array([70, 150, 255]) / 255.0
OPACITY = 0.62  # of the mesh over the photo
OUTLINE = (255, 255, 255)
FRONT = (255, 196, 40)
AXES = (
    ((1.0, 0.0, 0.0), (235, 60, 60)),
    ((0.0, 1.0, 0.0), (60, 190, 75)),
    ((0.0, 0.0, 1.0), (60, 110, 245)),
)
# outline of the front arrow: across, ahead of the front; shares of the object's diagonal
ARROW: tuple[tuple[float, float], ...] = ((-0.035, 0.04), (0.035, 0.04), (0.035, 0.17))
ARROW += ((0.095, 0.17), (0.0, 0.30), (-0.095, 0.17), (-0.035, 0.17))
NEAR = 0.02  # unit of t; no line or arrow is drawn nearer the camera
# colour stops of the heat map: clutter, undecided, object
COLD, MIDDLE, WARM = (33, 102, 172), (247, 247, 247), (178, 24, 43)
OUTSIDE = (214, 214, 214)


def overlay(photo: Photo, *estimates: Estimate) -> UInt8[np.ndarray, "h w 3"]:
    """Return the photo, longer side at most 1000 px, with meshes, their axes and fronts drawn.

    Small photos are doubled, so that the drawing can be seen; without a pose nothing is drawn.

    Args:
        photo: as displayed.
        estimates: with ``cam_from_obj``, ``camera`` and ``mesh`` in the unit of t; the farthest is
            drawn first.
    """
    picture, factor = shown(photo)
    size = picture.size
    for estimate in sorted(estimates, key=_distance, reverse=True):
        pose, camera, mesh = estimate.cam_from_obj, estimate.camera, estimate.mesh
        if estimate.has_pose and pose is not None and camera is not None and mesh is not None:
            fine = camera.scale(factor).scale(float(FINE))
            picture = _draw(picture, mesh, pose, fine)
    return np.asarray(picture.resize(size, Image.Resampling.BOX))


def _distance(estimate: Estimate) -> float:
    """Return how far away the object's centre is, in the unit of t."""
    return 0.0 if estimate.cam_from_obj is None else float(estimate.cam_from_obj.t.norm())


def _draw(picture: Image.Image, mesh: Mesh, pose: Pose, camera: Camera) -> Image.Image:
    """Return the picture, as fine as the camera's, with one object drawn."""
    drawn = picture.resize((camera.width, camera.height), Image.Resampling.NEAREST)
    front_is_near = float(pose.R[2, 1]) > 0  # the front (-y) looks at the camera
    if not front_is_near:
        _draw_front(drawn, mesh, pose, camera)
    drawn = _blend_mesh(drawn, mesh, pose, camera)
    if front_is_near:
        _draw_front(drawn, mesh, pose, camera)
    _draw_axes(drawn, mesh, pose, camera)
    return drawn


def shown(photo: Photo) -> tuple[Image.Image, float]:
    """Return the photo as large as pictures show it, and by how much it was scaled."""
    longest = max(photo.height, photo.width)
    factor = 2.0 if longest <= LONGEST / 2 else min(1.0, LONGEST / longest)
    size = max(1, round(photo.width * factor)), max(1, round(photo.height * factor))
    return Image.fromarray(photo.pixels).resize(size, Image.Resampling.LANCZOS), factor


def _blend_mesh(picture: Image.Image, mesh: Mesh, pose: Pose, camera: Camera) -> Image.Image:
    """Return the picture with the mesh shaded over it and its silhouette outlined."""
    points = pose.apply(mesh.vertices.to(pose.R.dtype))
    face_id = rasterize(points[None].float(), mesh.faces, camera).face_id[0].numpy()
    inside = face_id >= 0
    pixels = np.asarray(picture).copy()
    tint = 255 * TINT * _face_shades(points[mesh.faces].numpy())[:, None]
    under = pixels[inside]
    pixels[inside] = np.clip(under + OPACITY * (tint[face_id[inside]] - under), 0, 255)
    pixels[outline(inside, 2 * FINE)] = OUTLINE
    return Image.fromarray(pixels)


def _face_shades(corners: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, " f"]:
    """Return the brightness of faces (camera space), lit from the camera and from above left."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    above_left = np.array([-0.353, -0.756, -0.552])  # unit, camera axes
    from_camera = np.clip(-normal[:, 2], 0, 1)
    return 0.3 + 0.4 * from_camera + 0.5 * np.clip(normal @ above_left, 0, 1)


def outline(inside: Bool[np.ndarray, "h w"], thickness: int) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of a silhouette within ``thickness`` pixels of its border."""
    core = inside.copy()
    for _ in range(thickness):
        grown = np.pad(core, 1, constant_values=True)  # the photo's border is no silhouette
        core = core & grown[:-2, 1:-1] & grown[2:, 1:-1] & grown[1:-1, :-2] & grown[1:-1, 2:]
    return inside & ~core


def front_arrow(mesh: Mesh) -> list[tuple[float, float, float]]:
    """Return the outline of a flat arrow on the ground before the object's front (-y)."""
    size, (middle, _, _) = float(mesh.extent.norm()), mesh.vertices.amin(0) + mesh.extent / 2
    _, start, ground = mesh.vertices.amin(0).tolist()
    return [
        (float(middle) + across * size, start - ahead * size, ground) for across, ahead in ARROW
    ]


def axis_length(mesh: Mesh) -> float:
    """Return how long the axes are drawn, in the unit of the mesh."""
    return 0.38 * float(mesh.extent.norm())


def _draw_front(picture: Image.Image, mesh: Mesh, pose: Pose, camera: Camera) -> None:
    """Draw the front arrow."""
    pixels = _visible(front_arrow(mesh), pose, camera)
    if pixels is not None:
        ImageDraw.Draw(picture, "RGBA").polygon(
            pixels, fill=(*FRONT, 215), outline=(40, 30, 0, 230)
        )


def _draw_axes(picture: Image.Image, mesh: Mesh, pose: Pose, camera: Camera) -> None:
    """Draw x red, y green, z blue from the object's centre, the farthest first."""
    draw, length = ImageDraw.Draw(picture), axis_length(mesh)
    width = max(2 * FINE, round(max(picture.size) / 350))
    depths = pose.R[2].tolist()  # of the unit axes, towards the scene
    for i in sorted(range(3), key=lambda i: -depths[i]):
        axis, colour = AXES[i]
        ends = _visible([(0.0, 0.0, 0.0), tuple(length * v for v in axis)], pose, camera)
        if ends is not None:
            draw.line(ends, fill=(20, 20, 20), width=width + FINE)
            draw.line(ends, fill=colour, width=width)
            _dot(draw, ends[1], 1.4 * width, colour)
            _dot(draw, ends[0], 1.0 * width, (255, 255, 255))


def _dot(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: tuple[int, ...]
) -> None:
    """Draw a round dot."""
    (x, y), r = centre, radius
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=(20, 20, 20))


def _visible(
    points_obj: Sequence[tuple[float, ...]], pose: Pose, camera: Camera
) -> list[tuple[float, float]] | None:
    """Return the pixels of object points, or None where one is at or behind the camera."""
    points = pose.apply(torch.tensor(points_obj, dtype=pose.R.dtype))
    if bool((points[:, 2] < NEAR).any()):
        return None
    pixels, _ = camera.project(points)
    return [(float(u), float(v)) for u, v in pixels]


def feature_rgb(features: Float[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return a feature map in the colours of its three principal components.

    Signs are fixed (the largest loading is positive), so equal maps get equal colours; a cell
    with a value that is not finite is grey.
    """
    h, w, c = features.shape
    rows = features.reshape(-1, c).astype(np.float64)
    good = np.isfinite(rows).all(-1)
    colours = np.full((h * w, 3), 128, dtype=np.uint8)
    if not good.any():
        return colours.reshape(h, w, 3)
    centred = rows[good] - rows[good].mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    values = np.zeros((len(centred), 3))
    values[:, : axes.shape[1]] = centred @ axes
    low, high = np.percentile(values, [1, 99], axis=0)
    span = np.where(high - low > 1e-9, high - low, np.inf)
    colours[good] = np.rint(255 * np.clip((values - (low + high) / 2) / span + 0.5, 0, 1))
    return colours.reshape(h, w, 3)


def heat_limit(score: Float[np.ndarray, "h w"]) -> float:
    """Return the score at which the heat map's colours end: 99th percentile of the magnitude."""
    known = np.abs(score[np.isfinite(score)])
    return max(float(np.percentile(known, 99)), 1e-3) if len(known) else 1.0


def heat_map(
    score: Float[np.ndarray, "h w"], limit: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Return scores in colours: blue where clutter explains the cell better, red where the object.

    Args:
        score: object minus clutter similarity; grey where it is nan.
        limit: score of the full colours; :func:`heat_limit` by default.
    """
    known = np.isfinite(score)
    scaled = np.clip(np.where(known, score, 0.0) / (limit or heat_limit(score)), -1, 1)
    towards = np.where(scaled[..., None] < 0, np.array(COLD), np.array(WARM))
    mixed = np.array(MIDDLE) + np.abs(scaled)[..., None] * (towards - np.array(MIDDLE))
    return np.where(known[..., None], np.rint(mixed), np.array(OUTSIDE)).astype(np.uint8)
