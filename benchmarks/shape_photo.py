"""Shape from one photo: rendered apollo cars, masks of real cars, pose with and without, sizes."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from apollo_cars import object_unit, painted, read_cars, registered, split, vote
from common import arguments, backgrounds, degrees, dev_views, pixels_of, spread
from output import Table, save, table
from PIL import Image, ImageDraw
from train_car import CATALOGUES

from featmesh import load, read_photo
from featmesh.draws import generator
from featmesh.evaluate.predict import predict
from featmesh.evaluate.shape_metrics import chamfer
from featmesh.geometry.camera import Camera
from featmesh.geometry.crop import Crop
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.geometry.solid import outer_points
from featmesh.inference.config import EstimateConfig, RefineConfig, ShapeConfig
from featmesh.inference.describe import mesh_of
from featmesh.inference.energy import Comparison
from featmesh.inference.energy_kernels import POSE
from featmesh.inference.energy_numba import FusedEnergy
from featmesh.inference.estimator import estimate
from featmesh.inference.refine import Refined, fit_shape
from featmesh.inference.surface import MovingSurface
from featmesh.model.category import CategoryModel, finer
from featmesh.photo.photo import Photo
from featmesh.photo.resize import resample
from featmesh.render.rasterize import rasterize
from featmesh.views.cad import read_sweethome3d
from featmesh.views.generate import GenerateConfig, generate_view
from featmesh.views.record import read_views

POINTS = 10_000
IMAGES = 4  # of each car
KINDS = ("outside", "all", "outside, diagonals 1")
"""surface of the CAD that counts; a lone photo has no size, so last each mesh has its own unit"""
CLEAR = GenerateConfig(
    span=(0.5, 0.9), stretch=0.0, share_truncated=0.0, share_small=0.0, share_occluded=0.0
)
RIGID = EstimateConfig(refine=RefineConfig(proportions=False))
"""z = 0: the mean shape, the camera alone moves"""


def surface(mesh: Mesh, seed: int) -> torch.Tensor:
    """Return points of a surface."""
    return mesh.sample_surface(POINTS, generator(seed, "surface"))


def known_pose(model: CategoryModel, photo: Photo, box: Any, camera: Camera, pose: Pose) -> Refined:
    """Return the fitted shape where the pose is given, object units."""
    size = (model.config.crop_height, model.config.crop_width)
    crop = Crop.from_box(camera, box, size)
    pixels, inside = resample(photo, crop)
    cells = model.extract(pixels, inside, crop.camera)
    seen = Pose(crop.Q @ pose.R, crop.Q @ pose.t)
    none = np.zeros(1)
    found = Refined(
        seen.R.numpy()[None], seen.t.numpy()[None], none, np.zeros((1, 3)), none, none, none, none
    )
    return fit_shape(cells, model, found, False, ShapeConfig(pose=False))


def rendered(args: argparse.Namespace, model: CategoryModel) -> dict[str, Any]:
    """Return Chamfer distances of shapes fitted to one picture of each reported apollo car."""
    cars = read_cars(args.data)
    unit, (_, names) = object_unit(cars), split(sorted(cars))
    textured = [c for f, n in CATALOGUES.items() for c in read_sweethome3d(args.furniture / f, n)]
    materials = vote(model.template, textured)
    pictures = [pixels_of(p) for p in spread(backgrounds(args), 40)]
    rows = []
    for k, name in enumerate(spread(names, args.limit)):
        cad = painted(name, cars[name], registered(model.template, cars[name]), materials)
        truth = cars[name].with_vertices(cars[name].vertices / unit)
        targets = outer_points(truth, POINTS, generator(k, "truth")), surface(truth, k)
        alone = targets[0] / truth.extent.norm()  # a lone photo has no size: both diagonals 1
        scale = float(truth.extent.norm())  # the picture's unit, the diagonal, in object units
        for i in range(IMAGES):
            view = generate_view([cad], pictures, args.seed, IMAGES * k + i, CLEAR)
            record = view.record
            K = torch.tensor(record["K"], dtype=torch.float64)
            camera = Camera.from_K(K, view.mask.shape)
            photo = Photo.from_array(view.pixels, camera)
            R, t = (torch.tensor(record[key], dtype=torch.float64) for key in ("R", "t"))
            known = mesh_of(
                model, known_pose(model, photo, record["box"], camera, Pose(R, t * scale))
            )
            found = estimate(model, photo, tuple(record["box"]), camera, "shape")
            free = found.shape.mesh if found.shape else model.template
            blind = estimate(model, Photo.from_array(view.pixels, None), tuple(record["box"]),
                             task="shape")  # fmt: skip
            lens = blind.shape.mesh if blind.shape else model.template
            meshes = {"mean": model.template, "known": known, "free": free, "no lens": lens}
            row = {
                n: [*(chamfer(surface(m, k), t) for t in targets),
                    chamfer(surface(m.normalised(), k), alone)]
                for n, m in meshes.items()
            }  # fmt: skip
            rows.append({"name": name, **row})
    keys = ("mean", "known", "free", "no lens")
    means = {key: np.mean([row[key] for row in rows], 0) for key in keys}
    told = {key: dict(zip(KINDS, value.tolist(), strict=True)) for key, value in means.items()}
    ratios = {
        key: dict(zip(KINDS, (means[key] / means["mean"]).tolist(), strict=True)) for key in keys
    }
    return {"count": len(rows), "chamfer": told, "ratio": ratios}


def silhouette(found: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of the fitted mesh, at the photo's resolution."""
    if found.cam_from_obj is None:
        return np.zeros(shape, bool)
    points = found.cam_from_obj.apply(found.mesh.vertices.double())[None]
    return (rasterize(points, found.mesh.faces, found.camera).face_id[0] >= 0).numpy()


def overlap(mesh: np.ndarray, mask: np.ndarray) -> float:
    """Return intersection over union."""
    return float((mesh & mask).sum() / max(1, (mesh | mask).sum()))


def masks(model: CategoryModel, photos: Sequence[tuple[Path, np.ndarray]]) -> dict[str, Any]:
    """Return the overlap with real masks of z = 0, free proportions, and the fitted shape."""
    ways = {"z = 0": ("pose", RIGID), "proportions": ("pose", EstimateConfig()),
            "shape": ("shape", EstimateConfig())}  # fmt: skip
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for path, mask in photos:
        ys, xs = np.nonzero(mask)
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        photo = read_photo(path)
        for name, (task, config) in ways.items():
            found = estimate(model, photo, box, task=task, config=config)  # type: ignore[arg-type]
            shares[name].append(overlap(silhouette(found, mask.shape), mask))
    means = {name: float(np.mean(values)) for name, values in shares.items()}
    return means | {"gain": means["shape"] - means["z = 0"], "count": len(photos)}


def davis(args: argparse.Namespace) -> list[tuple[Path, np.ndarray]]:
    """Return the frames of the two car sequences with their masks."""
    found = []
    for name in ("car-roundabout", "drift-chicane"):
        for path in sorted((args.data / "davis_cars" / name).glob("*.jpg")):
            mask = Image.open(path.with_name(path.stem + "_mask.png"))
            found.append((path, np.asarray(mask) > 127))
    return spread(found, args.limit)


def part_unions(args: argparse.Namespace, ids: range) -> list[tuple[Path, np.ndarray]]:
    """Return photos of car_parts with the union of their parts' polygons."""
    folder = args.data / "car_parts" / "train"
    content = json.loads((folder / "annotations.json").read_text())
    names = {i["id"]: i["path"] for i in content["images"] if i["id"] in ids}
    found = []
    for number, name in sorted(names.items()):
        picture = Image.new("1", (512, 512))
        draw = ImageDraw.Draw(picture)
        for mark in content["annotations"]:
            if mark["image_id"] == number:
                for polygon in mark["segmentation"]:
                    draw.polygon(polygon, fill=1)
        mask = np.asarray(picture)
        if mask.any():
            found.append((folder / name, mask))
    return spread(found, args.limit)


def poses(args: argparse.Namespace, model: CategoryModel) -> dict[str, Any]:
    """Return pose accuracy on Stanford dev, shape off and on, and the time of the stage."""
    views, results, spent = dev_views(args), {}, []

    def shaped(model: Any, photo: Any, box: Any = None, camera: Any = None) -> Any:
        found = estimate(model, photo, box, camera, "shape")
        spent.append(found.seconds.get("shape", 0.0))
        return found

    for name, run in (("off", estimate), ("on", shaped)):
        with TemporaryDirectory() as folder:
            errors = degrees(views, predict(model, views, folder, run))
        results[name] = {
            "acc_30": float((errors < 30).mean()),
            "acc_10": float((errors < 10).mean()),
            "median_deg": float(np.median(errors)),
        }
    gain = results["on"]["acc_10"] - results["off"]["acc_10"]
    return results | {"gain": gain, "seconds": float(np.median(spent)), "count": len(views)}


def sizes(args: argparse.Namespace, model: CategoryModel) -> dict[str, Any]:
    """Return errors of length, width, height on street cars, fitted and class mean, metres."""
    unit = object_unit(read_cars(args.data))
    errors: dict[str, list[np.ndarray]] = {"mean": [], "fitted": []}
    mean = np.array(model.template.extent.tolist())[[1, 0, 2]] * unit
    for name in ("kitti_sample", "nuscenes_sample"):
        for view in read_views(args.data / name / "views.json"):
            if view.dimensions_lhw is None:
                continue
            length, height, width = view.dimensions_lhw
            truth = np.array([length, width, height])
            found = estimate(model, read_photo(view.image), view.box_or_image, view.camera, "shape")
            if found.shape is None:
                continue
            errors["fitted"].append(np.abs(np.array(found.shape.dimensions) * unit - truth))
            errors["mean"].append(np.abs(mean - truth))
    axes = ("length", "width", "height")
    means = {who: np.mean(rows, 0) for who, rows in errors.items()}
    told = {who: dict(zip(axes, m.tolist(), strict=True)) for who, m in means.items()}
    less = dict(zip(axes, (means["mean"] - means["fitted"]).tolist(), strict=True))
    return {**told, "less": less, "count": len(errors["mean"])}


def slope(args: argparse.Namespace, model: CategoryModel) -> dict[str, Any]:
    """Return cosines of the gradient to z and central differences of a supersampled energy."""
    c, cosines = ShapeConfig(), []
    surface_of = MovingSurface(model, True)
    for view in spread(dev_views(args), 12):
        photo = read_photo(view.image)
        found = estimate(model, photo, view.box_or_image, task="shape")
        if found.maps is None or found.cam_from_obj is None:
            continue
        crop = found.maps.crop
        pixels, inside = resample(photo, crop)
        cells = model.extract(pixels, inside, crop.camera)
        R = (crop.Q @ found.cam_from_obj.R).numpy()[None]
        t = (crop.Q @ found.cam_from_obj.t).numpy()[None]
        energies = [
            FusedEnergy(
                Comparison(
                    finer(cells, n), model.mesh(), model.texture, price=c.price, edge=c.edge
                ),
                outline=True,
            )
            for n in (c.samples, 16)
        ]
        at = np.zeros((1, surface_of.latents))
        g = energies[0].evaluate(R, t, surface=surface_of.at(at)).gradient[0, POSE:]
        ends = [
            [energies[1].evaluate(R, t, surface=surface_of.exact(at + s * e)).energy[0]
             for s in (-0.25, 0.25)]
            for e in np.eye(surface_of.latents)
        ]  # fmt: skip
        wanted = np.diff(ends)[:, 0]
        cosines.append(float(g @ wanted / np.linalg.norm(g) / np.linalg.norm(wanted)))
    return {"mean": float(np.mean(cosines)), "least": float(np.min(cosines)), "count": len(cosines)}


def report(results: dict[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    photo = results["rendered"]
    first = [
        [name, *photo["chamfer"][name].values(), *photo["ratio"][name].values()]
        for name in photo["chamfer"]
    ]
    head = ["pose", *[f"Chamfer, {k}" for k in KINDS], *[f"over the mean's, {k}" for k in KINDS]]
    second = [
        [where, *[f"{results[where][k]:.3f}" for k in ("z = 0", "proportions", "shape")]]
        for where in ("davis", "car_parts")
    ]
    third = [[k, *[f"{v:.3f}" for v in results["poses"][k].values()]] for k in ("off", "on")]
    fourth = [
        [who, *[f"{v:.3f}" for v in results["sizes"][who].values()]] for who in ("mean", "fitted")
    ]
    return [
        table("Shape from one rendered picture, apollo cars", head, first),
        table("Overlap with real masks", ["photos", "z = 0", "proportions", "shape"], second),
        table("Stanford dev, shape off and on", ["shape", "acc@30", "acc@10", "median"], third),
        table("Size of street cars, error in metres", ["", "length", "width", "height"], fourth),
    ]


def main() -> None:
    args = arguments(__doc__.splitlines()[0], furniture=True)
    model = load(args.model)
    results = {
        "rendered": rendered(args, model),
        "davis": masks(model, davis(args)),
        "car_parts": masks(model, part_unions(args, range(321, 401))),
        "poses": poses(args, model),
        "sizes": sizes(args, model),
        "slope": slope(args, model),
    }
    save("shape_photo", args, model, results, report(results))


if __name__ == "__main__":
    main()
