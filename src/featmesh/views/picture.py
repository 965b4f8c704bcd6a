"""The camera of one rendered view and the picture it takes: light, paint, raster, shading.

Used by :mod:`featmesh.views.generate` only. Ours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from featmesh.render.kernels import coverage

from .looks import draw_colour
from .scene import ENVIRONMENT, Light, Scene, encoded, linear, shade

OVERSAMPLE = 2  # samples of a pixel along each side
NEAREST = 0.08  # every point of the object is farther from the camera than this, object units


@dataclass(frozen=True, eq=False)
class Shot:
    """A camera and a pose; angles in radians, along the ray to the object's centre.

    Attributes:
        angles: azimuth, elevation, theta.
        R, t: ``cam_from_obj`` in the camera of the whole photo, object units.
        focal, principal: pinhole camera, pixels.
        height, width: size of the photo, pixels.
        stretch: factors of the CAD's axes.
    """

    angles: tuple[float, float, float]
    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, " 3"]
    focal: float
    principal: tuple[float, float]
    height: int
    width: int
    stretch: Float[np.ndarray, " 3"]

    @classmethod
    def towards(
        cls,
        angles: tuple[float, float, float],
        distance: float,
        centre: tuple[float, float],
        focal: float,
        size: tuple[int, int],
    ) -> "Shot":
        """Return the shot that sees the object's centre at pixel ``centre``.

        With ``focal`` 1 and ``centre`` (0, 0) the camera looks straight at it, principal point 0.
        """
        straight = focal == 1.0
        principal = (0.0, 0.0) if straight else (size[1] / 2, size[0] / 2)
        ray = np.array([centre[0] - principal[0], centre[1] - principal[1], focal]) / focal
        ray /= np.linalg.norm(ray)
        R = _ray_rotation(ray).T @ _rotation(*angles)
        return cls(angles, R, distance * ray, focal, principal, *size, np.ones(3))

    @property
    def distance(self) -> float:
        """Camera to object centre, object units."""
        return float(np.linalg.norm(self.t))

    @property
    def eye(self) -> Float[np.ndarray, " 3"]:
        """Centre of the camera in the object frame."""
        return -self.R.T @ self.t

    def points(self, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
        """Return stretched vertices in the camera's frame."""
        return vertices @ self.R.T + self.t

    def project(self, points_cam: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 2"]:
        """Return pixels of points in front of the camera."""
        depth = np.maximum(points_cam[:, 2:], 1e-3)
        return points_cam[:, :2] / depth * self.focal + np.array(self.principal)

    def corners(self, hull: Float[np.ndarray, "h 3"]) -> tuple[np.ndarray, np.ndarray]:
        """Return the corners (x, y) of the projected box."""
        pixels = self.project(self.points(hull))
        return pixels.min(0), pixels.max(0)

    def box(self, hull: Float[np.ndarray, "h 3"]) -> tuple[np.ndarray, np.ndarray]:
        """Return centre and size (x, y) of the projected box."""
        low, high = self.corners(hull)
        return (low + high) / 2, high - low

    def fitted(self, hull: Float[np.ndarray, "h 3"], centre: tuple[float, float]) -> "Shot":
        """Return the shot moved until the projected box has this centre, same distance."""
        shot, aim = self, np.array(centre)
        for _ in range(4):
            middle, _ = shot.box(hull)
            aim = aim + (np.array(centre) - middle)
            shot = Shot.towards(
                self.angles,
                self.distance,
                (float(aim[0]), float(aim[1])),
                self.focal,
                (self.height, self.width),
            )
        return shot

    def scaled(self, factor: float) -> "Shot":
        """Return the shot of the photo resized."""
        height, width = round(self.height * factor), round(self.width * factor)
        principal = (self.principal[0] * factor, self.principal[1] * factor)
        focal = self.focal * factor
        return replace(self, focal=focal, principal=principal, height=height, width=width)

    def stretched(self, stretch: Float[np.ndarray, " 3"]) -> "Shot":
        """Return the shot of the stretched CAD."""
        return replace(self, stretch=stretch)

    def shows(self, hull: Float[np.ndarray, "h 3"], truncated: bool) -> bool:
        """Return whether the object lies in front, and in the photo as far as it should."""
        if self.points(hull)[:, 2].min() < NEAREST:
            return False
        low, high = self.corners(hull)
        sides = np.array([self.width, self.height], float)
        inside = (high.clip(0, sides) - low.clip(0, sides)).prod() / (high - low).prod()
        return bool(0.35 < inside < 0.97) if truncated else bool(inside > 0.98)


def _rotation(azimuth: float, elevation: float, theta: float) -> Float[np.ndarray, "3 3"]:
    """Return ``cam_from_obj`` of PASCAL3D+ angles (spec 2.2), as geometry/viewpoint does."""
    c, s = math.cos(-azimuth), math.sin(-azimuth)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = math.cos(elevation - math.pi / 2), math.sin(elevation - math.pi / 2)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = math.cos(theta), math.sin(theta)
    inplane = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return np.diag([1.0, -1.0, -1.0]) @ inplane @ about_x @ about_z


def _ray_rotation(ray: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Return the smallest rotation that takes a unit vector to +z."""
    x, y, z = ray
    k = 1 / (1 + z)
    return np.array([[1 - x * x * k, -x * y * k, -x], [-x * y * k, 1 - y * y * k, -y], [x, y, z]])


def draw_light(
    rng: np.random.Generator, shot: Shot, backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]]
) -> Light:
    """Return the light of a view: clear or cloudy, mirrored surroundings cut from a picture."""
    number = int(rng.integers(0, 56))
    tint = 1 + rng.uniform(-0.12, 0.12, 3) * (1, 0.3, -1)
    cloudy = rng.uniform() < 0.4
    sun = np.full(3, rng.uniform(0.05, 0.35) if cloudy else rng.uniform(0.5, 1.3))
    sky = rng.uniform(0.5, 1.0) * (np.ones(3) if cloudy else np.array([0.8, 0.95, 1.15]))
    ground = rng.uniform(0.08, 0.35) * (1 + rng.uniform(-0.2, 0.2, 3))
    rows = np.linspace(1, -1, ENVIRONMENT[0])[:, None, None]
    horizon = 1 / (1 + np.exp(-rows * rng.uniform(4, 20)))
    gradient = 1 + rng.uniform(-0.4, 0.6) * rows
    environment = horizon * sky * gradient + (1 - horizon) * ground
    environment = np.broadcast_to(environment, (*ENVIRONMENT, 3)).copy()
    if len(backgrounds):
        from PIL import Image

        picture = Image.fromarray(backgrounds[int(rng.integers(len(backgrounds)))])
        around = np.asarray(picture.resize((ENVIRONMENT[1], ENVIRONMENT[0] // 2)))
        share = rng.uniform(0.2, 0.8)
        band = slice(ENVIRONMENT[0] // 4, ENVIRONMENT[0] * 3 // 4)
        environment[band] = environment[band] * (1 - share) + linear(around / 255) * share
    environment = np.roll(environment, int(rng.integers(ENVIRONMENT[1])), 1).astype(np.float32)
    tinted = [(c * tint).astype(np.float32) for c in (sun, sky, ground)]
    eye = shot.eye.astype(np.float32)
    return Light(tinted[0], number, tinted[1], tinted[2], environment, eye)


def exposed(light: Light, factor: float) -> Light:
    """Return the light made stronger."""
    return replace(
        light,
        sun=light.sun * np.float32(factor),
        sky=light.sky * np.float32(factor),
        ground=light.ground * np.float32(factor),
        environment=light.environment * np.float32(factor),
    )


def draw_paint(
    rng: np.random.Generator,
    scene: Scene,
    share_recoloured: float = 0.9,
    kinds: tuple[str, ...] = (),
) -> tuple[Float32[np.ndarray, "p 3"], Float32[np.ndarray, "p 4"]]:
    """Return linear colours of the parts and their surface (gloss, exponent, mirror, opacity).

    The body is recoloured in a share of the views, in one of the kinds of ``draw_colour``; without
    kinds as cars are on the road.
    """
    paint = scene.colours.copy()
    plain = len(scene.body) == 1 and not scene.bitmaps[0, 1]
    if scene.body.any() and (plain or rng.uniform() < share_recoloured):
        colour = draw_colour(rng, str(rng.choice(kinds))) if kinds else _body_colour(rng)
        paint[scene.body] = linear(colour)
    others = ~scene.body & ~scene.glass
    paint[others] *= rng.uniform(0.7, 1.3, (int(others.sum()), 1)).astype(np.float32)
    surface = np.zeros((len(paint), 4), np.float32)
    surface[:] = rng.uniform(0, 0.3), rng.uniform(8, 40), rng.uniform(0, 0.02), 1.0
    body = rng.uniform(0.05, 0.9), rng.uniform(15, 200), rng.uniform(0.02, 0.08), 1.0
    surface[scene.body] = body
    opacity = rng.uniform(0.25, 0.7) if rng.uniform() < 0.6 else rng.uniform(0.85, 1.0)
    surface[scene.glass] = rng.uniform(0.2, 1.0), 200.0, rng.uniform(0.04, 0.15), opacity
    clear = scene.glass & (np.ptp(scene.colours, axis=1) < 0.25)
    paint[clear] = rng.uniform(0.005, 0.08) * (1 + rng.uniform(-0.2, 0.2, 3))
    return paint.clip(0, 1).astype(np.float32), surface


def _body_colour(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """Return a paint as display RGB: two thirds white, grey or black, as on the road."""
    if rng.uniform() < 0.6:
        value = rng.choice([0.04, 0.2, 0.4, 0.6, 0.75, 0.9]) + rng.normal(0, 0.05)
        return (value * (1 + rng.normal(0, 0.03, 3))).clip(0.01, 0.97)
    hue, saturation, value = rng.uniform(), rng.uniform(0.3, 1.0), rng.uniform(0.15, 0.95)
    ramp = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return value * (1 - saturation + saturation * ramp.clip(0, 1))


def picture(
    shot: Shot,
    scene: Scene,
    light: Light,
    paint: tuple[Float32[np.ndarray, "p 3"], Float32[np.ndarray, "p 4"]],
    behind: Float32[np.ndarray, "h w 3"],
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"], UInt8[np.ndarray, "h w"] | None]:
    """Return the photo with the object in front of a picture, its mask, and its parts.

    The picture ``behind`` is display RGB in 0..1. Parts are numbers from 1 on, 0 = none; None where
    the CAD has no labels.
    """
    low, high = shot.corners(scene.hull * shot.stretch)
    sides = np.array([shot.width, shot.height])
    x0, y0 = (np.floor(low).astype(int) - 1).clip(0, sides - 1)
    x1, y1 = (np.ceil(high).astype(int) + 1).clip([x0 + 1, y0 + 1], sides)
    window = (int(y1 - y0) * OVERSAMPLE, int(x1 - x0) * OVERSAMPLE)
    focal = shot.focal * OVERSAMPLE
    cx, cy = (shot.principal[0] - x0) * OVERSAMPLE, (shot.principal[1] - y0) * OVERSAMPLE
    vertices = scene.vertices * shot.stretch
    points = shot.points(vertices)
    screen = np.stack(
        [
            points[:, 0] / points[:, 2] * focal + cx,
            points[:, 1] / points[:, 2] * focal + cy,
            1 / points[:, 2],
        ],
        1,
    ).astype(np.float32)[None]
    first = coverage(screen, scene.faces, *window, False)[0]
    shown = _shaded(first, (focal, focal, cx, cy), (vertices, points), scene, light, paint, shot)
    if scene.glass.any() and scene.solid.any():
        numbers = np.nonzero(scene.solid)[0].astype(np.int32)
        second = coverage(screen, scene.faces[numbers], *window, False)[0]
        second = np.where(second >= 0, numbers[second], -1).astype(np.int32)
        through = np.where((first >= 0) & (shown[..., 3] < 1), second, -1).astype(np.int32)
        inner = _shaded(
            through, (focal, focal, cx, cy), (vertices, points), scene, light, paint, shot
        )
        shown += inner * (1 - shown[..., 3:])
    mean = _pooled(shown)
    result = behind.copy()
    part = linear(result[y0:y1, x0:x1])
    result[y0:y1, x0:x1] = encoded(mean[..., :3] + part * (1 - mean[..., 3:]))
    mask = np.zeros((shot.height, shot.width), bool)
    mask[y0:y1, x0:x1] = _pooled((first >= 0).astype(np.float32)[..., None])[..., 0] >= 0.5
    parts = None
    if scene.labels is not None:
        parts = np.zeros(mask.shape, np.uint8)
        parts[y0:y1, x0:x1] = _part_numbers(first, scene.labels)
        parts[~mask] = 0
    return (result * 255 + 0.5).clip(0, 255).astype(np.uint8), mask, parts


def _part_numbers(face_id: np.ndarray, labels: np.ndarray) -> UInt8[np.ndarray, "_ _"]:
    """Return the part of each pixel: the first of its samples' that is seen."""
    numbers = np.where(face_id >= 0, labels[face_id], 0).astype(np.uint8)
    k = OVERSAMPLE
    found = numbers[::k, ::k].copy()
    for dy in range(k):
        for dx in range(k):
            seen = face_id[dy::k, dx::k] >= 0
            found = np.where((found == 0) & seen, numbers[dy::k, dx::k], found)
    return found


def _pooled(samples: Float32[np.ndarray, "h w c"]) -> Float32[np.ndarray, "_ _ c"]:
    k = OVERSAMPLE
    h, w, c = samples.shape
    return samples.reshape(h // k, k, w // k, k, c).mean((1, 3))


def _shaded(
    face_id: np.ndarray,
    camera: tuple[float, ...],
    placed: tuple[np.ndarray, np.ndarray],
    scene: Scene,
    light: Light,
    paint: tuple[np.ndarray, np.ndarray],
    shot: Shot,
) -> Float32[np.ndarray, "h w 4"]:
    """Return premultiplied linear RGBA of the visible faces."""
    used = np.unique(face_id)
    used = used[used >= 0]
    # corners only of the faces that are seen: a CAD has many more
    renumber = np.full(len(scene.faces) + 1, -1, np.int32)
    renumber[used] = np.arange(len(used), dtype=np.int32)
    faces = scene.faces[used]
    corner = np.zeros((len(used), 3, 5), np.float32)
    normals = scene.normals[used] / shot.stretch
    corner[..., :3] = normals
    at = scene.welded[faces]
    corner[..., 3] = scene.sky[at]
    corner[..., 4] = scene.sun[light.number][at]
    sun = scene.directions[light.number].astype(np.float32)
    out = np.zeros((*face_id.shape, 4), np.float32)
    shade(
        renumber[face_id],
        placed[1].astype(np.float32),
        np.array(camera),
        placed[0].astype(np.float32),
        faces,
        corner,
        scene.uv[used],
        scene.part[used],
        paint[0],
        scene.bitmaps,
        scene.texels,
        paint[1],
        np.stack([sun, light.sun, light.sky, light.ground]).astype(np.float32),
        light.environment,
        light.eye,
        out,
    )
    return out
