"""What is fuzzed: whole inputs to begin with, how they are damaged, how they are read.

A reader either gives what its documentation promises, or raises a FeatmeshError with a code.
"""

import hashlib
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_mutate import json_bytes, mutated, with_glb_tree, with_json_header, with_right_sums
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from featmesh.geometry.mesh import Mesh, read_mesh
from featmesh.geometry.template import cuboid
from featmesh.model.backbones import BACKBONES, Backbone, PyramidHead, build_backbone
from featmesh.model.config import DeformationConfig, ModelConfig

Chance = random.Random
MODEL, TENSORS = "model.json", "model.safetensors"


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        seeds: whole inputs by file name.
        damage: a random generator, a seed's name and the seeds -> what is put into that file.
        prepare: puts what else the reader needs into a folder.
        read: a folder and the name of the file in it; what comes back must hold.
    """

    seeds: dict[str, bytes]
    damage: Callable[[Chance, str, dict[str, bytes]], bytes]
    prepare: Callable[[Path], None]
    read: Callable[[Path, str], None]


def picture(size: tuple[int, int] = (48, 64), channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return 8-bit pixels of a smooth picture with some noise."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(rows / (5 + k)) + np.cos(columns / (7 + k)) for k in range(channels)]
    noise = np.random.default_rng(seed).normal(0, 0.1, (*size, channels))
    return np.clip(128 + 50 * (np.stack(waves, -1) + noise), 0, 255).astype(np.uint8)


def _hold(promise: bool) -> None:
    """Raise where a reader handed back what it promises not to."""
    if not promise:
        raise RuntimeError("a result that is none")


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def image_seeds() -> dict[str, bytes]:
    """Return small pictures of every kind that is read, each in several forms."""
    rgb, grey = Image.fromarray(picture()), Image.fromarray(picture()[..., 0])
    rgba = Image.fromarray(picture(channels=4))
    deep = Image.fromarray(picture()[..., 0].astype(np.uint16) * 257)
    real = Image.fromarray(picture()[..., 0].astype(np.float32) / 255)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    exif.get_ifd(0x8769).update({0xA405: 28, 0x920A: 24.0, 0xA002: 64, 0xA003: 48})
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    return {
        "plain.jpg": _saved(rgb, "JPEG", exif=exif),
        "steps.jpg": _saved(rgb, "JPEG", progressive=True, icc_profile=b"\0" * 200),
        "print.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "grey.jpg": _saved(grey, "JPEG"),
        "plain.png": _saved(rgb, "PNG", exif=exif),
        "clear.png": _saved(rgba, "PNG"),
        "deep.png": _saved(deep, "PNG"),
        "palette.png": _saved(rgb.convert("P"), "PNG", transparency=3),
        "bits.png": _saved(grey.convert("1"), "PNG"),
        "moving.png": _saved(rgb, "PNG", **frames),
        "plain.webp": _saved(rgb, "WEBP", exif=exif),
        "exact.webp": _saved(rgba, "WEBP", lossless=True),
        "moving.webp": _saved(rgb, "WEBP", **frames),
        "plain.tif": _saved(rgb, "TIFF", exif=exif),
        "small.tif": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "zip.tif": _saved(deep, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": _saved(rgb, "TIFF", compression="jpeg"),
        "fax.tif": _saved(grey.convert("1"), "TIFF", compression="group4"),
        "real.tif": _saved(real, "TIFF", tiffinfo={340: 0.0, 341: 1.0}),
        "pages.tif": _saved(rgb, "TIFF", **frames),
        "plain.gif": _saved(rgb, "GIF"),
        "moving.gif": _saved(rgb, "GIF", **frames),
        "plain.bmp": _saved(rgb, "BMP"),
        "palette.bmp": _saved(rgb.convert("P"), "BMP"),
        "plain.ppm": _saved(rgb, "PPM"),
        "deep.pgm": _saved(deep, "PPM"),
        "plain.jp2": _saved(rgb, "JPEG2000"),
        "clear.jp2": _saved(rgba, "JPEG2000", quality_layers=[10, 5]),
        "plain.avif": _saved(rgb, "AVIF"),
    }


def damaged_image(chance: Chance, name: str, seeds: dict[str, bytes]) -> bytes:
    """Return a damaged picture; the check sums of a PNG are mostly mended."""
    data = mutated(chance, seeds[name], list(seeds.values()))
    return with_right_sums(data) if chance.random() < 0.8 else data


def read_image(folder: Path, name: str) -> None:
    """Read a picture as a whole one, or as far as it goes; the choice hangs on its size."""
    from featmesh.photo.read import read_photo

    path = folder / name
    photo = read_photo(path, allow_truncated=path.stat().st_size % 2 == 0)
    _hold(photo.pixels.dtype == np.uint8 and photo.pixels.shape[2:] == (3,))
    _hold(photo.alpha is None or photo.alpha.shape == photo.pixels.shape[:2])


def _mesh_text(mesh: Mesh, kind: str) -> bytes:
    points = [f"{x} {y} {z}" for x, y, z in mesh.vertices.tolist()]
    if kind == "off":
        faces = [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
        head = ["OFF", f"{len(points)} {len(faces)} 0"]
        return "\n".join([*head, *points, *faces, ""]).encode()
    faces = [f"f {a}/{a}/1 {b}/{b}/1 {c}/{c}/1" for a, b, c in (mesh.faces + 1).tolist()]
    head = ["# a mesh", "mtllib plain.mtl", "o it", "g part", "usemtl paint"]
    rows = [f"v {p}" for p in points] + [f"vt {p[:3]} 0.5" for p in points] + ["vn 0 0 1"]
    return "\n".join([*head, *rows, *faces, ""]).encode()


def _stl_text(mesh: Mesh) -> bytes:
    rows = ["solid it"]
    for corners in mesh.vertices[mesh.faces].tolist():
        rows += ["facet normal 0 0 1", "outer loop"]
        rows += [f"vertex {x} {y} {z}" for x, y, z in corners]
        rows += ["endloop", "endfacet"]
    return "\n".join([*rows, "endsolid it", ""]).encode()


def mesh_seeds() -> dict[str, bytes]:
    """Return one small mesh in every format that is read, binary and as text."""
    import trimesh

    mesh = cuboid((1.0, 2.0, 0.7), (2, 3, 2))
    plain = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    scene = trimesh.Scene(plain)
    turned = np.eye(4)
    turned[:3, 3] = 1.0
    scene.add_geometry(plain, transform=turned)
    exported: dict[str, Any] = {
        "text.ply": plain.export(file_type="ply", encoding="ascii"),
        "binary.ply": plain.export(file_type="ply"),
        "binary.stl": plain.export(file_type="stl"),
        "one.glb": plain.export(file_type="glb"),
        "two.glb": scene.export(file_type="glb"),
    }
    own = {f"text.{kind}": _mesh_text(mesh, kind) for kind in ("off", "obj")}
    as_bytes = {k: v if isinstance(v, bytes) else v.encode() for k, v in exported.items()}
    return own | as_bytes | {"text.stl": _stl_text(mesh)}


def damaged_mesh(chance: Chance, name: str, seeds: dict[str, bytes]) -> bytes:
    """Return a damaged mesh file; of a GLB often the tree."""
    if name.endswith(".glb") and chance.random() < 0.6:
        return with_glb_tree(chance, seeds[name])
    return mutated(chance, seeds[name], [v for k, v in seeds.items() if k[-3:] == name[-3:]])


def read_shape(folder: Path, name: str) -> None:
    """Read a mesh as a template, and an OBJ as a CAD with its materials too."""
    from featmesh.views.cad import read_cad

    mesh = read_mesh(folder / name)
    _hold(len(mesh.faces) and bool(torch.isfinite(mesh.vertices).all()))
    _hold(0 <= int(mesh.faces.min()) <= int(mesh.faces.max()) < len(mesh.vertices))
    if name.endswith(".obj"):
        cad = read_cad(folder / name)
        _hold(all(np.isfinite(part.vertices).all() for part in cad.parts))


def _paint(folder: Path) -> None:
    (folder / "plain.mtl").write_text("newmtl paint\nKd 0.5 0.2 0.1\nmap_Kd paint.png\n")
    (folder / "paint.png").write_bytes(_saved(Image.fromarray(picture()), "PNG"))


def views_seeds() -> dict[str, bytes]:
    """Return a views file in both forms, every key in use."""
    full = json.loads("""{"image": "a.png", "width": 64, "height": 48, "category": "car",
        "no_object": false, "R": [[1, 0, 0], [0, 0, -1.0], [0, 1.0, 0]], "box": [3, 4, 60.5, 40],
        "K": [[70.0, 0, 32.0], [0, 70.0, 24.0], [0, 0, 1]], "t": [0.1, 0.0, 3.0],
        "t_unit": "object", "distance": 3.0, "dimensions_lhw": [4.5, 1.4, 1.8],
        "f_over_image_width": 1.1, "azimuth": 10.0, "elevation": 5.0, "theta": -3.0,
        "mask": "a.png", "parts": "a.png", "model_name": "one", "occluded": 1, "truncated": 0.5,
        "note": {"free": [1, 2]}}""")
    bare = {"image": "b.jpg", "width": 64, "height": 48, "category": "car", "no_object": True}
    told = {"list.json": [full, bare], "schema.json": {"schema": 1, "views": [bare, full, full]}}
    return {name: json.dumps(tree, indent=1).encode() for name, tree in told.items()}


def damaged_json(chance: Chance, name: str, seeds: dict[str, bytes]) -> bytes:
    """Return JSON that is damaged as a tree, or as text."""
    if chance.random() < 0.75:
        return json_bytes(chance, json.loads(seeds[name]))
    return mutated(chance, seeds[name], list(seeds.values()))


def read_records(folder: Path, name: str) -> None:
    """Read a views file with its photos beside it; write what was read, and read that."""
    from featmesh.views.record import read_views, write_views

    views = read_views(folder / name)
    _hold(views and all(v.image.is_relative_to(folder.resolve()) for v in views))
    write_views(folder / "again.json", views)
    _hold(len(read_views(folder / "again.json")) == len(views))


def _photos(folder: Path) -> None:
    image = Image.fromarray(picture())
    for name in ("a.png", "b.jpg"):
        image.save(folder / name)


class _Trunk(nn.Module):
    """Two convolutions: a network that is read in no time."""

    multiple, channels = 16, (12, 24)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.blocks = nn.ModuleList([nn.Conv2d(12, 24, 4, 4)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return both maps."""
        fine = self.stem(x).relu()
        return [fine, self.blocks[0](fine).relu()]


def _small(config: ModelConfig) -> Backbone:
    return Backbone(_Trunk(), PyramidHead(_Trunk.channels, config), config)


def _model(folder: Path) -> None:
    """Write a small model with a shape space and parts."""
    from featmesh.model.category import CategoryModel
    from featmesh.model.deformation import build_deformation
    from featmesh.model.labels import Labels

    mesh = cuboid((1.0, 2.0, 0.7), (4, 6, 4)).normalised()
    shape = DeformationConfig(latents=2, width=16, layers=2, frequencies=2)
    size: dict[str, Any] = {"channels": 16, "width": 16, "crop_height": 64, "crop_width": 64}
    network = ModelConfig(backbone="hf", deformation=shape, **size)
    parts = Labels(("front", "back"), torch.rand(len(mesh.vertices), 3))
    texture = functional.normalize(torch.randn(len(mesh.vertices), 16), dim=1)
    clutter = functional.normalize(torch.randn(16, 16), dim=1)
    model = CategoryModel("car", network, mesh, texture, clutter, build_backbone(network).eval())
    model.deformation, model.labels = build_deformation(shape, mesh), parts
    model.threshold, model.extra = 0.2, {"unit_metres": 5.0, "data": {"a": "b"}}
    model.save(str(folder))


def checkpoint_seeds() -> dict[str, bytes]:
    """Return the files of a small model, a training state, weights of others."""
    from featmesh.store import Steps

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        _model(home / "m" / "it")
        weights = {"conv.weight": torch.ones(8, 3, 3, 3), "n": torch.tensor(3)}
        Steps(home / "run").save(3, weights, {"config": {"a": 1}, "threads": 1})
        # weights of others are pickles: what import-weights is there for
        torch.save({"state": weights, "epoch": 3}, home / "of-others.pth")  # noqa: TID251
        legacy = {"_use_new_zipfile_serialization": False}
        torch.save({"state_dict": weights}, home / "older.pth", **legacy)  # noqa: TID251
        files = [*(home / "m/it").iterdir(), *(home / "run/step-000003").iterdir()]
        files += [home / "of-others.pth", home / "older.pth"]
        return {p.name: p.read_bytes() for p in files if p.name != "CARD.md"}


def damaged_checkpoint(chance: Chance, name: str, seeds: dict[str, bytes]) -> bytes:
    """Return a damaged file of a model or a state."""
    data = seeds[name]
    if name.endswith(".json"):
        return damaged_json(chance, name, seeds)
    if name.endswith(".safetensors") and chance.random() < 0.6:
        return with_json_header(chance, data)
    return mutated(chance, data, [v[:100_000] for v in seeds.values()])


class Checkpoints:
    """Reads a damaged file where it belongs; hashes are mostly put right, as a foe would."""

    def __init__(self, seeds: dict[str, bytes]) -> None:
        self.seeds = seeds

    def prepare(self, folder: Path) -> None:
        """Lay out the whole files."""
        for name, data in self.seeds.items():
            (folder / name).write_bytes(data)

    def read(self, folder: Path, name: str) -> None:
        """Read the file as featmesh would: model, state, or weights of others."""
        data = (folder / name).read_bytes()
        try:
            self._read(folder, name, data)
        finally:
            (folder / name).write_bytes(self.seeds[name])
            for other in (MODEL, "state.json"):
                (folder / other).write_bytes(self.seeds[other])

    def _read(self, folder: Path, name: str, data: bytes) -> None:
        from featmesh.model.checkpoint import load
        from featmesh.model.foreign import read_foreign

        digest = hashlib.sha256(data).hexdigest()
        honest = len(data) % 8 == 0
        if name.endswith((".pth", ".pkl")):
            read_foreign(folder / name)
        elif name in ("state.json", "tensors.safetensors"):
            _read_state(folder, None if honest or name == "state.json" else digest)
        else:
            if name != MODEL and not honest:
                manifest = json.loads(self.seeds[MODEL])
                part = "tensors" if name == TENSORS else "backbone"
                manifest[part]["sha256"] = digest
                (folder / MODEL).write_text(json.dumps(manifest))
            model = load(folder)
            _hold(bool(torch.isfinite(model.texture).all()))
            _hold(bool(torch.isfinite(model.template.vertices).all()))


def _read_state(folder: Path, digest: str | None) -> None:
    from featmesh.store import Steps, _check

    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    (run / "step-000003").mkdir(parents=True)
    if digest is not None:
        state = json.loads((folder / "state.json").read_bytes())
        del state["check"]
        state["sha256"] = digest
        (folder / "state.json").write_text(json.dumps(state | {"check": _check(state)}))
    for file in ("state.json", "tensors.safetensors"):
        shutil.copy(folder / file, run / "step-000003" / file)
    Steps(run, report=lambda text: None).latest()


def _nothing(folder: Path) -> None:
    """A reader that needs no other file."""


def target_of(what: str) -> Target:
    """Return a target by its name."""
    if what == "checkpoint":
        BACKBONES["hf"] = _small
        seeds = checkpoint_seeds()
        whole = Checkpoints(seeds)
        return Target(seeds, damaged_checkpoint, whole.prepare, whole.read)
    return TARGETS[what]()


TARGETS: dict[str, Callable[[], Target]] = {
    "image": lambda: Target(image_seeds(), damaged_image, _nothing, read_image),
    "mesh": lambda: Target(mesh_seeds(), damaged_mesh, _paint, read_shape),
    "views": lambda: Target(views_seeds(), damaged_json, _photos, read_records),
}
