"""A benchmark's crops on disk, as views that ``train`` and ``evaluate`` take (spec 2.3)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from featmesh.evaluate.protocols import BenchmarkCrop, Protocol, benchmark_crop
from featmesh.photo.read import read_photo
from featmesh.progress import Stream, track
from featmesh.views.readers.common import Notes, usable_box
from featmesh.views.record import View


def write_crops(
    views: Sequence[View],
    folder: Path,
    protocol: Protocol,
    notes: Notes,
    stream: Stream | None = None,
) -> list[View]:
    """Write each view's crop as PNG and return the views of the crops.

    They have the benchmark's camera (true principal point in the middle, focal length as
    annotated) and t = (0, 0, distance); R is the same.

    Args:
        views: of a data set whose cameras look at the object.
        folder: to write to.
        protocol: of the benchmark.
        notes: told what was left out: views without such a camera.
        stream: where progress is shown; default is the standard error output.

    Raises:
        InputError: what a photo that cannot be read gives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, view in enumerate(track(views, len(views), "crops", stream)):
        if view.K is None:
            notes.skip("objects whose principal point lies far outside the photo")
            continue
        size = protocol.sizes.get(view.category, protocol.size)
        crop = benchmark_crop(read_photo(view.image).pixels, view, size, protocol.distance)
        name = f"{number:06d}_{view.image.stem}"
        cut = _view(view, crop, folder / f"{name}.png")
        if cut is None:
            notes.skip("objects of which the crop shows nothing")
            continue
        Image.fromarray(crop.pixels).save(cut.image)
        if view.mask is not None:
            path = folder / f"{name}_mask.png"
            mask = crop.mask(_read_mask(view.mask))
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)
            cut = replace(cut, mask=path)
        made.append(cut)
    return made


def _view(view: View, crop: BenchmarkCrop, path: Path) -> View | None:
    size = (crop.camera.height, crop.camera.width)
    box = usable_box(crop.box(view.box_or_image), size)
    if box is None:
        return None
    extras = dict(view.extras) | {"photo": view.image.name, "rate": crop.rate}
    if points := view.extras.get("keypoints"):
        extras["keypoints"] = {
            name: [crop.rate * x + crop.shift[0], crop.rate * y + crop.shift[1]]
            for name, (x, y) in points.items()
        }
    return replace(
        view,
        image=path,
        image_name=None,
        width=size[1],
        height=size[0],
        K=crop.camera.K.numpy(),
        t=crop.pose.t.numpy(),
        distance=float(crop.pose.t[2]),
        box=box,
        mask=None,
        parts=None,
        extras=extras,
    )


def _read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 0
