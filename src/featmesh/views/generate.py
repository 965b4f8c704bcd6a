"""Photos rendered from CADs with exact pose and mask, for training without labelled photos.

The body of ``render-views``: CADs and background pictures in, a folder with ``views.json`` out
(schema 1). Every draw is keyed by (seed, "view", 0, index): order, workers and resuming change
nothing. Ours; what has to be in the photos (context, rear views, occluders, low resolution) was
measured with a first prototype.
"""

import json
import math
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from featmesh.draws import generator
from featmesh.errors import DatasetError
from featmesh.progress import track

from .backdrop import backdrop, degrade, read_backgrounds
from .cad_model import Cad
from .generate_config import GenerateConfig
from .looks import draw_looks
from .occlude import occlude
from .picture import Shot, draw_light, draw_paint, exposed, picture
from .scene import build_scene
from .shots import draw_shot

__all__ = [
    "GenerateConfig",
    "GeneratedView",
    "generate_view",
    "read_backgrounds",
    "render_views",
]

OCCLUSION_CODE = {"none": 0, "L1": 1, "L2": 2, "L3": 2}  # KITTI's: 0 visible, 1 partly, 2 largely


@dataclass(frozen=True)
class GeneratedView:
    """One rendered photo.

    Attributes:
        pixels: the photo.
        mask: pixels that show the object.
        amodal: pixels the object would take without occluders.
        record: its entry in the views file (contracts 2), without the paths.
        parts: number of the part seen in each pixel, 0 for none; None = the CAD is not labelled.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    amodal: Bool[np.ndarray, "h w"]
    record: dict[str, Any]
    parts: UInt8[np.ndarray, "h w"] | None = None


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
    shot = draw_shot(rng, scene, config)
    light = draw_light(rng, shot, backgrounds)
    if config.exposure[1] > config.exposure[0]:
        light = exposed(light, rng.uniform(*config.exposure))
    if any(scene.materials):
        colours, surface, bitmaps, texels = draw_looks(rng, scene, config.category, backgrounds)
        scene, paint = replace(scene, bitmaps=bitmaps, texels=texels), (colours, surface)
    else:
        paint = draw_paint(rng, scene, config.share_recoloured, config.colours)
    shares = (config.share_flat_ground, config.share_shadow, config.share_sky)
    behind = backdrop(rng, shot, scene, backgrounds, shares, config.ground)
    pixels, amodal, parts = picture(shot, scene, light, paint, behind)
    mask, level = amodal, "none"
    if amodal.any() and rng.uniform() < config.share_occluded:
        level = config.level or str(rng.choice(["L1", "L2", "L3"], p=[0.5, 0.35, 0.15]))
        pixels, hidden = occlude(pixels, amodal, level, seed, index, backgrounds)
        mask = amodal & ~hidden
        parts = None if parts is None else np.where(mask, parts, np.uint8(0))
    pixels, quality = degrade(rng, pixels)
    record = _record(shot, cad, config) | {
        "occluded": OCCLUSION_CODE[level],
        "occlusion_level": level,
        "visible": round(float(mask.sum() / max(1, amodal.sum())), 4),
        "jpeg_quality": quality,
    }
    return GeneratedView(pixels, mask, amodal, record, parts)


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
    ``amodal/NNNNNN.png`` (255 = the object, seen or hidden), ``records/NNNNNN.json``, and where
    CADs are labelled ``parts/NNNNNN.png`` (0 = no part) with ``part_names`` in ``views.json``.

    Args:
        cads: see :func:`generate_view`.
        backgrounds: see :func:`generate_view`.
        out_dir: made where missing.
        n: number of photos; a folder can be extended by calling again with a larger one.
        seed: the run's seed.
        config: what the photos look like.
        workers: processes.

    Raises:
        DatasetError: E_VIEWS (the folder was begun with other CADs, seed or config; CADs with
            different lists of part names).
    """
    out = Path(out_dir)
    names = part_names(cads)
    _begin(out, cads, seed, config)
    todo = [k for k in range(n) if not _record_path(out, k).exists()]
    for cad in cads if todo else ():
        build_scene(cad)  # before the workers are forked: they share it
    job = (tuple(cads), tuple(backgrounds), out, seed, config)
    done = _by_workers(job, todo, workers) if workers > 1 and len(todo) > 1 else _here(job, todo)
    for _ in track(done, len(todo), "render-views"):
        pass
    records = [json.loads(_record_path(out, k).read_text()) for k in range(n)]
    target = out / "views.json"
    told = {"schema": 1} | ({"part_names": names} if names else {})
    _replace(target, json.dumps(told | {"views": records}).encode())
    return target


def part_names(cads: Sequence[Cad]) -> list[str]:
    """Return the names of the parts 1, 2, ... in the label images; empty where none are labelled.

    Raises:
        DatasetError: E_VIEWS (CADs with different lists; ``cad_labels.joined`` makes them one).
    """
    lists = {cad.part_names for cad in cads if cad.part_names}
    if len(lists) > 1:
        raise DatasetError(
            "E_VIEWS",
            f"render-views: expected one list of part names, got {len(lists)}; "
            "try: featmesh.views.cad_labels.joined(cads)",
        )
    return list(*lists)


def _here(job: tuple[Any, ...], todo: Sequence[int]) -> Iterator[None]:
    cads, backgrounds, out, seed, config = job
    for index in todo:
        _save(out, index, generate_view(cads, backgrounds, seed, index, config))
        yield


def _by_workers(job: tuple[Any, ...], todo: Sequence[int], workers: int) -> Iterator[None]:
    """Render in processes; where the caller is interrupted, what has not begun is dropped."""
    pool = ProcessPoolExecutor(workers, initializer=_prepare, initargs=(job,))
    try:
        for future in as_completed([pool.submit(_render_prepared, k) for k in todo]):
            future.result()
            yield
    finally:
        pool.shutdown(cancel_futures=True)


def _weights(count: int, config: GenerateConfig) -> Float[np.ndarray, " n"]:
    if not count or (config.weights and len(config.weights) != count):
        raise DatasetError(
            "E_VIEWS",
            f"render-views: expected CADs and a weight for each or none, got {count} CADs and "
            f"{len(config.weights)} weights; try: leave out the weights",
        )
    weights = np.array(config.weights or [1.0] * count)
    return weights / weights.sum()


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
    if view.parts is not None:
        paths["parts"] = f"parts/{name}.png"
        (out / "parts").mkdir(exist_ok=True)
        Image.fromarray(view.parts).save(out / paths["parts"])
    _replace(_record_path(out, index), json.dumps(paths | view.record).encode())


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
