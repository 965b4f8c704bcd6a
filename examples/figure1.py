"""The method in one picture, from a real photo: python examples/figure1.py [PHOTO] [OUT.png].

Photo -> feature map -> mesh with its neural texture -> what it renders at a start and where
render-and-compare ends -> the mesh over the photo. Features and texture share their colours (three
principal components of both), so equal colours are equal features.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import featmesh
from featmesh.apps.sight import Sight, look_closely
from featmesh.apps.view_state import Stage, ViewState
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.inference.describe import mesh_of
from featmesh.present.overlay import feature_rgb, overlay
from featmesh.present.shapes import fitting_camera, shaded

PHOTO = Path(__file__).parent / "photos" / "car_side_0003.jpg"
TURNED = (35.0, 14.0)  # degrees of azimuth and elevation by which the start is off
PANEL = (224, 336)  # height and width of a picture, pixels
GAP, CAPTION = 26, 30
INK, SOFT, PAPER = (27, 31, 36), (130, 138, 150), (255, 255, 255)
FINE = 8  # pixels of a cell where features are rendered


def main() -> None:
    words = sys.argv[1:]
    photo = featmesh.read_photo(words[0] if words else PHOTO)
    out = Path(words[1] if len(words) > 1 else "figure1.png")
    sight = look_closely(featmesh.load("car"), photo)
    draw_figure(sight).save(out, optimize=True)
    print(f"written: {out}")


def draw_figure(sight: Sight) -> Image.Image:
    """Return the figure of a close look at a photo."""
    stage, texture = Stage(sight), sight.model.texture
    begin = replace(
        stage.found,
        azimuth=stage.found.azimuth + math.radians(TURNED[0]),
        elevation=stage.found.elevation + math.radians(TURNED[1]),
        log_stretch=(0.0, 0.0, 0.0),
    )
    end = stage.refine(begin)
    first, last = rendered(stage, begin), rendered(stage, end)
    cells = sight.trial.cells.features
    colours = common_colours(cells, texture, first[0], last[0])
    start, stop = stage.show(begin), stage.show(end)
    mesh = mesh_of(sight.model, sight.trial.refined)
    view = Viewpoint(math.radians(60), math.radians(20), 0.0, 2.4).to_pose()
    paint = torch.from_numpy(colours[1][0] / 255.0)
    textured = shaded(mesh, paint, view, fitting_camera([mesh], view, PANEL))
    panels = [
        (boxed(sight), "photo"),
        (colours[0], "features of the network"),
        (textured, "mesh with neural texture"),
        (masked(colours[2], first[1]), f"rendered at a start: energy {start.energy:.3f}"),
        (masked(colours[3], last[1]), f"and at the end: energy {stop.energy:.3f}"),
        (overlay(sight.photo, stop.estimate), "mesh over the photo"),
    ]
    return sheet(panels)


def rendered(stage: Stage, state: ViewState) -> tuple[torch.Tensor, np.ndarray]:
    """Return the features that a state renders (h, w, c) and where the object is."""
    sight, poses = stage.sight, stage.poses(state)
    refined = sight.refined_at(poses)
    model = replace(sight.model, template=mesh_of(sight.model, refined), deformation=None)
    camera = sight.trial.cells.camera.scale(float(FINE)).zoom(math.exp(state.log_zoom))
    features, covered = model.render(refined.pose, camera)
    return features.float(), covered.numpy()


def common_colours(*maps: torch.Tensor) -> list[np.ndarray]:
    """Return feature maps (.., c) in colours (h, w, 3) of principal components they share."""
    rows = [m.reshape(1, -1, m.shape[-1]).numpy() for m in maps]
    shown = feature_rgb(np.concatenate(rows, 1))
    parts = np.split(shown, np.cumsum([row.shape[1] for row in rows])[:-1], 1)
    sizes = [m.shape[:2] if m.ndim == 3 else (1, len(m)) for m in maps]
    return [part.reshape(*size, 3) for part, size in zip(parts, sizes, strict=True)]


def masked(colours: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Return the colours where the object is, paper elsewhere."""
    return np.where(covered[..., None], colours, np.uint8(240)).astype(np.uint8)


def boxed(sight: Sight) -> np.ndarray:
    """Return the photo with the box that was looked at."""
    picture = Image.fromarray(sight.photo.pixels).resize(
        (2 * sight.photo.width, 2 * sight.photo.height), Image.Resampling.LANCZOS
    )
    corners = tuple(2 * v for v in sight.box)
    ImageDraw.Draw(picture).rectangle(corners, outline=(255, 196, 40), width=5)
    return np.asarray(picture)


def sheet(panels: list[tuple[np.ndarray, str]]) -> Image.Image:
    """Return two rows of three pictures, each with its caption, arrows between them."""
    height, width = PANEL
    step = (width + GAP, height + CAPTION + GAP)
    picture = Image.new("RGB", (3 * step[0] + GAP, 2 * step[1] + GAP), PAPER)
    draw = ImageDraw.Draw(picture)
    for k, (pixels, told) in enumerate(panels):
        x, y = GAP + k % 3 * step[0], GAP + k // 3 * step[1]
        shown = Image.fromarray(pixels)
        share = min(width / shown.width, height / shown.height)
        size = (round(shown.width * share), round(shown.height * share))
        coarse = shown.width < width  # cells stay squares
        shown = shown.resize(size, Image.Resampling.NEAREST if coarse else Image.Resampling.LANCZOS)
        picture.paste(shown, (x + (width - size[0]) // 2, y + (height - size[1]) // 2))
        font = ImageFont.load_default(16)
        draw.text((x + width / 2, y + height + 16), f"{k + 1}  {told}", INK, font, "mm")
        if k % 3 < 2:
            tip, level = x + width + GAP - 4, y + height / 2
            draw.line((tip - 18, level, tip - 6, level), SOFT, 3)
            draw.polygon(((tip, level), (tip - 9, level - 6), (tip - 9, level + 6)), SOFT)
    return picture


if __name__ == "__main__":
    main()
