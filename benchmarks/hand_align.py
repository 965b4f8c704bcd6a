"""Lay a car's mesh over a photo by hand: poses that the labels of Stanford dev are held against.

python benchmarks/hand_align.py --data DIR --hand HAND.json --shapes S.npz --photo 4 --draw P.png

draws photo and mesh ([--azimuth 40 ...] moves it; --vary azimuth 5 draws it also 5 less and more)
and, with --keep, writes the pose to HAND.json. Of the thirty photos (evenly over the list) --photo
names one, 0 to 29. The mesh is the shape that the bundled car found; focal
length and principal point follow from the box, as in a crop of unknown camera. The first pose shown
is the label's, turned by 8 to 20 degrees about a drawn axis and 1.3 diagonals away, so that the
hand has to find it; neither label nor estimate is shown.
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import spread
from PIL import Image, ImageDraw

from featmesh import estimate, load, read_photo
from featmesh.draws import generator
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose, so3_exp
from featmesh.geometry.viewpoint import angles_from_rotation, rotation_from_angles
from featmesh.inference.result import posed
from featmesh.present.masks import part_colour
from featmesh.render.rasterize import rasterize
from featmesh.views.record import View, read_views

PHOTOS = 30
WIDE = 1100  # pixels of the drawn photo
WHEEL = 18  # part of the bundled car's labels
NEAR_SIDE, FAR_SIDE = (255, 255, 0), (255, 90, 200)
NUDGES = ("azimuth", "elevation", "theta", "distance", "wide", "long", "high", "dx", "dy", "grow")


@dataclass(frozen=True)
class HandPose:
    """A pose found by hand.

    Attributes:
        azimuth, elevation, theta: degrees; of a camera that looks at the object's centre.
        distance: of camera and object, mesh diagonals.
        wide, long, high: stretch of the mesh across, along and upwards.
        dx, dy: shift of the mesh from where its box fits the photo, percent of the photo's width.
        grow: its size over that of the fitting box.
    """

    azimuth: float
    elevation: float
    theta: float
    distance: float = 1.3
    wide: float = 1.0
    long: float = 1.0
    high: float = 1.0
    dx: float = 0.0
    dy: float = 0.0
    grow: float = 1.0

    @property
    def R(self) -> torch.Tensor:
        """``cam_from_obj`` rotation."""
        angles = np.radians([self.azimuth, self.elevation, self.theta])
        return rotation_from_angles(*torch.from_numpy(angles))


def hand_views(data: Path) -> list[View]:
    """Return the thirty photos that are aligned by hand."""
    return spread(read_views(data / "stanford_cars/dev.json"), PHOTOS)


def first_pose(view: View, index: int, seed: int) -> HandPose:
    """Return where the hand begins: the label, turned by 8 to 20 degrees."""
    draw = generator(seed, "hand", index)
    axis = draw.normal(size=3)
    turn = axis / np.linalg.norm(axis) * np.radians(draw.uniform(8, 20))
    R = so3_exp(torch.from_numpy(turn)) @ torch.as_tensor(view.R, dtype=torch.float64)
    return HandPose(*np.degrees(angles_from_rotation(R).numpy()).round(1).tolist())


def placed(hand: HandPose, mesh: Mesh, size: tuple[int, int]) -> tuple[Camera, Pose, Mesh]:
    """Return camera, pose and mesh: its box fits the photo, then it is shifted and grown."""
    stretch = torch.tensor([hand.wide, hand.long, hand.high], dtype=torch.float64)
    vertices = mesh.vertices.double() * stretch
    vertices = vertices - (vertices.amax(0) + vertices.amin(0)) / 2
    vertices = vertices / (vertices.amax(0) - vertices.amin(0)).norm()
    pose = Pose(hand.R, torch.tensor([0.0, 0.0, hand.distance], dtype=torch.float64))
    seen = pose.apply(vertices)
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.amin(0), flat.amax(0)
    height, width = size
    extent = (high - low).numpy()
    focal = float(np.sqrt(width * height / (extent[0] * extent[1]))) * hand.grow
    middle = ((low + high) / 2).numpy()
    cx = width / 2 - focal * middle[0] + hand.dx / 100 * width
    cy = height / 2 - focal * middle[1] + hand.dy / 100 * width
    camera = Camera(fx=focal, fy=focal, cx=float(cx), cy=float(cy), height=height, width=width)
    return camera, pose, Mesh(vertices, mesh.faces)


def shapes(views: list[View], kept: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each photo's vertices as the bundled car found them, faces, and the faces' parts."""
    if not kept.is_file():
        model, found = load("car"), []
        for view in views:
            box = (0.0, 0.0, float(view.width), float(view.height))
            estimated = estimate(model, read_photo(view.image), box, task="shape")
            found.append(posed(estimated, "hand_align").mesh.vertices.numpy())
        weights = model.labels.weights[model.template.faces].sum(1)
        parts = weights.argmax(1).numpy()
        np.savez(kept, vertices=np.stack(found), faces=model.template.faces.numpy(), parts=parts)
    with np.load(kept) as held:
        return held["vertices"], held["faces"], held["parts"]


def draw(picture: Image.Image, hand: HandPose, mesh: Mesh, labels: np.ndarray) -> Image.Image:
    """Return the photo above, and below it the photo with outline and part borders of the mesh."""
    factor = WIDE / picture.width
    large = picture.resize((WIDE, round(picture.height * factor)), Image.Resampling.BICUBIC)
    camera, pose, shown = placed(hand, mesh, (picture.height, picture.width))
    camera = replace(camera.scale(factor), height=large.height, width=large.width)
    points = pose.apply(shown.vertices)
    face = rasterize(points[None].float(), shown.faces, camera).face_id[0].numpy()
    label = np.where(face >= 0, labels[face], -1)
    border = np.zeros(label.shape, bool)
    for axis in (0, 1):
        for step in (1, 2):
            border |= label != np.roll(label, step, axis)
    drawn = np.asarray(large).copy()
    for value in np.unique(label):
        colour = (255, 255, 255) if value <= 0 else part_colour(int(value))
        drawn[border & (label == value)] = colour
    lined = Image.fromarray(drawn)
    pen = ImageDraw.Draw(lined)
    for line, near in wheels(shown, labels, pose):
        flat = camera.project(pose.apply(line))[0]
        pen.line([tuple(p) for p in flat.tolist()], NEAR_SIDE if near else FAR_SIDE, 2)
    sheet = Image.new("RGB", (WIDE, 2 * large.height + 24), "black")
    sheet.paste(large, (0, 0))
    sheet.paste(lined, (0, large.height + 24))
    told = "  ".join(f"{key} {value:g}" for key, value in asdict(hand).items())
    ImageDraw.Draw(sheet).text((6, large.height + 5), told, fill="white")
    return sheet


def wheels(mesh: Mesh, labels: np.ndarray, pose: Pose) -> list[tuple[torch.Tensor, bool]]:
    """Return the rims of the four wheels and the two axles as lines, and whether they are near."""
    middles = mesh.corners.mean(1)[torch.from_numpy(labels == WHEEL)]
    turn = torch.linspace(0, 2 * torch.pi, 49, dtype=torch.float64)
    lines, hubs = [], []
    for end in (-1, 1):  # front, back
        part = middles[middles[:, 1] * end > 0]
        y, low, high = part[:, 1].median(), part[:, 2].amin(), part[:, 2].amax()
        radius, z = (high - low) / 2, (high + low) / 2
        for side in (-1, 1):
            x = side * part[:, 0].abs().amax()
            rim = torch.stack([x.expand(49), y + radius * turn.cos(), z + radius * turn.sin()], 1)
            # a wheel is near where its outer face looks at the camera
            camera_at = -pose.R.T @ pose.t
            near = bool((camera_at - rim.mean(0))[0] * side > 0)
            lines.append((rim, near))
            hubs.append(rim.mean(0))
    return [*lines, (torch.stack(hubs[:2]), False), (torch.stack(hubs[2:]), False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--hand", type=Path, required=True, help="file of the poses")
    parser.add_argument("--photo", type=int, required=True)
    parser.add_argument("--shapes", type=Path, required=True, help="npz file of the meshes, kept")
    parser.add_argument("--draw", type=Path, required=True, help="picture to write")
    parser.add_argument("--keep", action="store_true", help="write the pose")
    parser.add_argument("--seed", type=int, default=0, help="of the first pose")
    parser.add_argument("--vary", nargs=2, metavar=("NAME", "STEP"), help="three poses in a row")
    for name in NUDGES:
        parser.add_argument(f"--{name}", type=float)
    args = parser.parse_args()
    views = hand_views(args.data)
    view, photo = views[args.photo], Image.open(views[args.photo].image).convert("RGB")
    vertices, faces, labels = shapes(views, args.shapes)
    kept = json.loads(args.hand.read_text()) if args.hand.is_file() else {}
    told = kept.get(view.image_name)
    hand = HandPose(**told) if told else first_pose(view, args.photo, args.seed)
    asked = {name: getattr(args, name) for name in NUDGES if getattr(args, name) is not None}
    hand = replace(hand, **asked)
    mesh = Mesh(torch.from_numpy(vertices[args.photo]), torch.from_numpy(faces))
    name, step = args.vary or ("azimuth", "0")
    beside = (-float(step), 0.0, float(step)) if args.vary else (0.0,)
    hands = [replace(hand, **{name: round(getattr(hand, name) + k, 3)}) for k in beside]
    sheets = [draw(photo, each, mesh, labels) for each in hands]
    row = Image.new("RGB", (sum(s.width for s in sheets), sheets[0].height))
    for k, sheet in enumerate(sheets):
        row.paste(sheet, (k * sheet.width, 0))
    row.save(args.draw)
    if args.keep:
        args.hand.write_text(json.dumps(kept | {view.image_name: asdict(hand)}, indent=1))
    print(json.dumps(asdict(hand)))


if __name__ == "__main__":
    main()
