"""Photos rendered from CADs with exact pose and mask, for training without labelled photos.

The body of ``render-views``: CADs and background pictures in, a folder with ``views.json`` out
(schema 1). Every draw is keyed by (seed, "view", 0, index): order, workers and resuming change
nothing. Ours; what has to be in the photos (context, rear views, occluders, low resolution) was
measured with a first prototype.
"""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from featmesh.draws import generator
from featmesh.errors import DatasetError

from .backdrop import backdrop, degrade
from .cad import Cad
from .occlude import occlude
from .picture import Shot, draw_light, draw_paint, picture
from .scene import Scene, build_scene

ATTEMPTS = 60  # draws of a camera until one shows the object as configured
OCCLUSION_CODE = {"none": 0, "L1": 1, "L2": 2, "L3": 2}  # KITTI's: 0 visible, 1 partly, 2 largely


@dataclass(frozen=True)
class GenerateConfig:
    """What the rendered photos look like; lengths in object units, angles in degrees.

    Attributes:
        category: name written into the records.
        weights: how often each CAD is drawn; empty = equally.
        width: shortest and longest width of a photo, pixels.
        aspects: width over height, drawn from these.
        span: smallest and largest share of the photo's width the object takes.
        distance: nearest and farthest camera, drawn evenly in the logarithm.
        focal: shortest and longest focal length over the photo's longer side.
        elevation: mean and deviation of the usual cameras.
        elevation_wide: range of the others.
        share_wide: share of the others.
        theta: deviation of the in-plane rotation.
        share_truncated: share of objects cut by the photo's border.
        share_small: share of objects shown in few pixels.
        small: least and largest height of such an object, pixels.
        share_occluded: share of photos with occluders in front.
        share_flat_ground: share of photos with a painted road instead of only a picture.
        share_shadow: share of photos with a shadow on the ground.
        stretch: each axis of the CAD is stretched by up to this share.
    """

    category: str = "car"
    weights: tuple[float, ...] = ()
    width: tuple[int, int] = (320, 480)
    aspects: tuple[float, ...] = (4 / 3, 4 / 3, 3 / 2, 16 / 9)
    span: tuple[float, float] = (0.2, 0.95)
    distance: tuple[float, float] = (0.9, 12.0)
    focal: tuple[float, float] = (0.6, 8.0)
    elevation: tuple[float, float] = (5.0, 7.0)
    elevation_wide: tuple[float, float] = (-5.0, 35.0)
    share_wide: float = 0.3
    theta: float = 4.0
    share_truncated: float = 0.2
    share_small: float = 0.35
    small: tuple[float, float] = (24.0, 72.0)
    share_occluded: float = 0.4
    share_flat_ground: float = 0.3
    share_shadow: float = 0.8
    stretch: float = 0.05


@dataclass(frozen=True)
class GeneratedView:
    """One rendered photo.

    Attributes:
        pixels: the photo.
        mask: pixels that show the object.
        amodal: pixels the object would take without occluders.
        record: its entry in the views file (contracts 2), without the paths.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    amodal: Bool[np.ndarray, "h w"]
    record: dict[str, Any]


def generate_view(
    cads: Sequence[Cad],
    backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    seed: int,
    index: int,
    config: GenerateConfig,
) -> GeneratedView:
    """Return photo number ``index`` of a seed; the same whatever was rendered before it.

    Args:
        cads: objects in the PASCAL3D+ frame.
        backgrounds: pictures without an object of the category; may be empty.
        seed: the run's seed.
        index: number of the photo.
        config: what the photos look like.

    Raises:
        DatasetError: E_VIEWS (no CADs, or weights that do not belong to them).
    """
    weights = _weights(len(cads), config)
    rng = generator(seed, "view", 0, index)
    cad = cads[int(rng.choice(len(cads), p=weights))]
    scene = build_scene(cad)
    shot = _draw_shot(rng, scene, config)
    light = draw_light(rng, shot, backgrounds)
    paint = draw_paint(rng, scene)
    shares = (config.share_flat_ground, config.share_shadow)
    behind = backdrop(rng, shot, scene, backgrounds, shares)
    pixels, amodal = picture(shot, scene, light, paint, behind)
    mask, level = amodal, "none"
    if amodal.any() and rng.uniform() < config.share_occluded:
        level = str(rng.choice(["L1", "L2", "L3"], p=[0.5, 0.35, 0.15]))
        pixels, hidden = occlude(pixels, amodal, level, seed, index, backgrounds)
        mask = amodal & ~hidden
    pixels, quality = degrade(rng, pixels)
    record = _record(shot, cad, config) | {
        "occluded": OCCLUSION_CODE[level],
        "occlusion_level": level,
        "visible": round(float(mask.sum() / max(1, amodal.sum())), 4),
        "jpeg_quality": quality,
    }
    return GeneratedView(pixels, mask, amodal, record)


def render_views(
    cads: Sequence[Cad],
    backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    out_dir: str | Path,
    n: int,
    seed: int,
    config: GenerateConfig,
    workers: int = 1,
) -> Path:
    """Render ``n`` photos into a folder and return its ``views.json``; finished ones are kept.

    Writes ``photos/NNNNNN.jpg``, ``masks/NNNNNN.png`` (255 = the object is seen, 0 = not),
    ``amodal/NNNNNN.png`` (255 = the object, seen or hidden), ``records/NNNNNN.json``.

    Args:
        cads: see :func:`generate_view`.
        backgrounds: see :func:`generate_view`.
        out_dir: made where missing.
        n: number of photos; a folder can be extended by calling again with a larger one.
        seed: the run's seed.
        config: what the photos look like.
        workers: processes.

    Raises:
        DatasetError: E_VIEWS (the folder was begun with other CADs, seed or config).
    """
    out = Path(out_dir)
    _begin(out, cads, seed, config)
    todo = [k for k in range(n) if not _record_path(out, k).exists()]
    for cad in cads if todo else ():
        build_scene(cad)  # before the workers are forked: they share it
    if workers > 1 and len(todo) > 1:
        job = (tuple(cads), tuple(backgrounds), out, seed, config)
        with ProcessPoolExecutor(workers, initializer=_prepare, initargs=(job,)) as pool:
            for _ in pool.map(_render_prepared, todo, chunksize=16):
                pass
    else:
        for index in todo:
            _save(out, index, generate_view(cads, backgrounds, seed, index, config))
    records = [json.loads(_record_path(out, k).read_text()) for k in range(n)]
    target = out / "views.json"
    _replace(target, json.dumps({"schema": 1, "views": records}).encode())
    return target


def _weights(count: int, config: GenerateConfig) -> Float[np.ndarray, " n"]:
    if not count or (config.weights and len(config.weights) != count):
        raise DatasetError(
            "E_VIEWS",
            f"render-views: expected CADs and a weight for each or none, got {count} CADs and "
            f"{len(config.weights)} weights; try: leave out the weights",
        )
    weights = np.array(config.weights or [1.0] * count)
    return weights / weights.sum()


def _draw_shot(rng: np.random.Generator, scene: Scene, config: GenerateConfig) -> Shot:
    """Return a camera that shows the object as configured."""
    small = rng.uniform() < config.share_small
    truncated = not small and rng.uniform() < config.share_truncated
    for _ in range(ATTEMPTS):
        shot = _attempt(rng, scene, config, small, truncated)
        if shot is not None:
            return shot
    raise DatasetError(
        "E_VIEWS",
        f"render-views: expected a camera that shows the object, got none in {ATTEMPTS} draws; "
        "try: a wider range of distance, focal or span",
    )


def _attempt(
    rng: np.random.Generator, scene: Scene, config: GenerateConfig, small: bool, truncated: bool
) -> Shot | None:
    width = int(rng.integers(config.width[0], config.width[1] + 1))
    height = round(width / rng.choice(config.aspects))
    azimuth = math.radians(rng.uniform(0, 360))
    wide = rng.uniform() < config.share_wide
    elevation = rng.uniform(*config.elevation_wide) if wide else rng.normal(*config.elevation)
    angles = (azimuth, math.radians(elevation), math.radians(rng.normal(0, config.theta)))
    distance = float(np.exp(rng.uniform(*np.log(config.distance))))
    span = rng.uniform(*config.span) * (1.4 if truncated else 1.0)
    stretch = 1 + rng.uniform(-config.stretch, config.stretch, 3)
    stretch /= np.linalg.norm(stretch * np.ptp(scene.vertices, axis=0))
    hull = scene.hull * stretch
    looked = Shot.towards(angles, distance, (0.0, 0.0), 1.0, (height, width))
    _, size = looked.box(hull)
    focal = min(span * width / size[0], (1.5 if truncated else 0.95) * height / size[1])
    if small and rng.uniform() < 0.5:  # a small object in a large photo
        focal *= min(1.0, _small_height(rng, config) / (focal * size[1]))
        small = False
    low, high = (limit * max(height, width) for limit in config.focal)
    if focal < low:  # no such lens: step back and keep the size
        low *= rng.uniform(1, 2)
        distance, focal = distance * low / focal, low
    if focal > high or distance > 1.5 * config.distance[1]:
        return None
    box = np.array([size[0], size[1]]) * focal
    centre = _draw_centre(rng, box, (height, width), truncated)
    shot = Shot.towards(angles, distance, centre, focal, (height, width)).fitted(hull, centre)
    if small:  # a small photo
        factor = min(1.0, _small_height(rng, config) / shot.box(hull)[1][1])
        shot = shot.scaled(max(factor, 48 / min(height, width)))
    shot = shot.stretched(stretch)
    return shot if shot.shows(hull, truncated) else None


def _small_height(rng: np.random.Generator, config: GenerateConfig) -> float:
    return float(np.exp(rng.uniform(*np.log(config.small))))


def _draw_centre(
    rng: np.random.Generator, box: np.ndarray, size: tuple[int, int], truncated: bool
) -> tuple[float, float]:
    """Return where the middle of the object's box goes, pixels."""
    sides = np.array([size[1], size[0]], float)
    room = np.maximum(0.0, sides - box - 4)
    centre = sides / 2 + rng.uniform(-0.5, 0.5, 2) * room
    if truncated:
        axis = 0 if rng.uniform() < 0.75 else 1
        outside = rng.uniform(0.05, 0.45) * box[axis]
        edge = box[axis] / 2 - outside
        centre[axis] = edge if rng.uniform() < 0.5 else sides[axis] - edge
    return float(centre[0]), float(centre[1])


def _record(shot: Shot, cad: Cad, config: GenerateConfig) -> dict[str, Any]:
    """Return what contracts 2 asks of a record, without the paths."""
    hull = build_scene(cad).hull * shot.stretch
    low, high = shot.corners(hull)
    sides = np.array([shot.width, shot.height], float)
    clipped_low, clipped_high = low.clip(0, sides), high.clip(0, sides)
    inside = (clipped_high - clipped_low).prod() / (high - low).prod()
    azimuth, elevation, theta = (math.degrees(a) for a in shot.angles)
    return {
        "width": shot.width,
        "height": shot.height,
        "category": config.category,
        "box": [round(float(x), 3) for x in (*clipped_low, *clipped_high)],
        "K": [
            [shot.focal, 0.0, shot.principal[0]],
            [0.0, shot.focal, shot.principal[1]],
            [0.0, 0.0, 1.0],
        ],
        "R": shot.R.tolist(),
        "t": shot.t.tolist(),
        "t_unit": "object",
        "distance": float(np.linalg.norm(shot.t)),
        "azimuth": azimuth % 360,
        "elevation": elevation,
        "theta": theta,
        "truncated": round(float(1 - inside), 4),
        "model_name": cad.name,
        "stretch": shot.stretch.tolist(),
    }


def _begin(out: Path, cads: Sequence[Cad], seed: int, config: GenerateConfig) -> None:
    """Make the folders; refuse one that was begun with something else."""
    for name in ("photos", "masks", "amodal", "records"):
        (out / name).mkdir(parents=True, exist_ok=True)
    key = {
        "seed": seed,
        "config": asdict(config),
        "cads": [{"name": c.name, "licence": c.licence, "source": c.source} for c in cads],
    }
    text = json.dumps(key, indent=1)
    note = out / "render.json"
    if note.exists() and note.read_text() != text:
        raise DatasetError(
            "E_VIEWS",
            f"render-views: expected {out} to be empty or begun with the same seed, config and "
            "CADs, got another render.json; try: another --out",
        )
    _replace(note, text.encode())


def _record_path(out: Path, index: int) -> Path:
    return out / "records" / f"{index:06d}.json"


_JOB: dict[str, tuple[Any, ...]] = {}  # of a worker process: set once, as CADs are large


def _prepare(job: tuple[Any, ...]) -> None:
    _JOB["job"] = job


def _render_prepared(index: int) -> None:
    cads, backgrounds, out, seed, config = _JOB["job"]
    _save(out, index, generate_view(cads, backgrounds, seed, index, config))


def _save(out: Path, index: int, view: GeneratedView) -> None:
    """Write one view; its record comes last and means that the rest is there."""
    from PIL import Image

    name = f"{index:06d}"
    paths = {"image": f"photos/{name}.jpg", "mask": f"masks/{name}.png"}
    paths["amodal_mask"] = f"amodal/{name}.png"
    Image.fromarray(view.pixels).save(
        out / paths["image"], quality=view.record["jpeg_quality"], subsampling=2
    )
    Image.fromarray(view.mask.astype(np.uint8) * 255).save(out / paths["mask"])
    Image.fromarray(view.amodal.astype(np.uint8) * 255).save(out / paths["amodal_mask"])
    _replace(_record_path(out, index), json.dumps(paths | view.record).encode())


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


@lru_cache(maxsize=8)
def read_backgrounds(
    folder: str | Path, first_half: bool = True, leave_out: tuple[int, ...] = ()
) -> tuple[UInt8[np.ndarray, "_ _ 3"], ...]:
    """Return the JPEG pictures of a folder by name, without those whose number is left out.

    Args:
        folder: holds ``*_NNNN.jpg``.
        first_half: only the first half by name; the second is kept for evaluation (contracts 6).
        leave_out: numbers in the file names of pictures that show the category.

    Raises:
        DatasetError: E_IO (no picture there).
    """
    from PIL import Image

    paths = sorted(Path(folder).glob("*.jpg"))
    if first_half:
        paths = paths[: len(paths) // 2]
    kept = [p for p in paths if int(p.stem.rsplit("_", 1)[-1]) not in leave_out]
    if not kept:
        raise DatasetError(
            "E_IO", f"render-views: expected *_NNNN.jpg in {folder}, got none; try: another folder"
        )
    pictures = []
    for path in kept:
        with Image.open(path) as image:
            pictures.append(np.array(image.convert("RGB")))
    return tuple(pictures)
