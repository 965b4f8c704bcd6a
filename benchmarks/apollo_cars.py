"""The apollo cars as benchmarks use them: real sizes, split, registered templates, painted CADs.

Their meshes carry no materials. Where glass, tyres and lamps are is learnt from textured CADs: the
template is registered to each, its anchors vote on what they see, and an apollo car's faces take
the material of the nearest anchor of the template registered to it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from output import write_off
from scipy.spatial import cKDTree

from featmesh.draws import generator
from featmesh.geometry.mesh import Mesh
from featmesh.learn.register import outer_surface, register
from featmesh.views.cad import Cad, CadPart

LICENCE = "ApolloScape / Kaggle PKU Baidu terms: research use"
REPORTED = slice(None, None, 5)  # contracts 6: every fifth name


class Materials(NamedTuple):
    """What each anchor of the template is made of: an index into PAINTS."""

    kind: np.ndarray


PAINTS = ("body", "glass", "dark", "red", "bright")
COLOURS = (
    (0.55, 0.56, 0.6),
    (0.05, 0.06, 0.07),
    (0.03, 0.03, 0.03),
    (0.5, 0.02, 0.02),
    (0.8, 0.8, 0.8),
)


def read_cars(data: Path) -> dict[str, Mesh]:
    """Return the cars by name, centred, in metres."""
    with np.load(data / "apollo_cars" / "meshes.npz") as z:
        names = sorted({k.rsplit("__", 1)[0] for k in z.files})
        return {
            n: _centred(Mesh(_tensor(z[n + "__v"]), _tensor(z[n + "__f"]).long())) for n in names
        }


def split(names: list[str]) -> tuple[list[str], list[str]]:
    """Return the names to learn from and those that are reported on."""
    reported = names[REPORTED]
    return [n for n in names if n not in reported], reported


def write_learnt(cars: dict[str, Mesh], folder: Path) -> None:
    """Write the cars that are learnt from as OFF files, metres."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in split(sorted(cars))[0]:
        write_off(folder / f"{name}.off", cars[name], ".6f")


def object_unit(cars: dict[str, Mesh]) -> float:
    """Return metres per object unit: the mean diagonal of the cars that are learnt from."""
    learnt, _ = split(sorted(cars))
    return float(np.mean([float(cars[n].extent.norm()) for n in learnt]))


def registered(template: Mesh, mesh: Mesh, seed: int = 0) -> np.ndarray:
    """Return where the template's vertices lie on a CAD, in the CAD's unit."""
    return register(template, outer_surface(mesh, 20000, generator(seed, "outer"))).numpy()


def vote(template: Mesh, cads: list[Cad]) -> Materials:
    """Return each anchor's material, by vote of textured CADs that have glass."""
    votes = np.zeros((len(template.vertices), len(PAINTS)))
    for cad in cads:
        if not any(p.opacity < 1 for p in cad.parts):
            continue
        whole, kinds = merged(cad)
        points = whole.sample_surface(60000, generator(0, "paint")).numpy()
        centres = whole.corners.mean(1).numpy()
        kind = kinds[cKDTree(centres).query(points)[1]]
        fit = registered(template, whole)
        near = cKDTree(points).query(fit, k=5)[1]
        for k in range(len(PAINTS)):
            votes[:, k] += (kind[near] == k).mean(1)
    return Materials(votes.argmax(1))


def painted(name: str, mesh: Mesh, fit: np.ndarray, materials: Materials) -> Cad:
    """Return a CAD of diagonal 1 whose faces have the material of the nearest anchor."""
    scale = float(mesh.extent.norm())
    centres = mesh.corners.mean(1).numpy()
    kind = materials.kind[cKDTree(fit).query(centres)[1]]
    parts = []
    for k, colour in enumerate(COLOURS):
        faces = mesh.faces.numpy()[kind == k]
        if len(faces):
            used, local = np.unique(faces, return_inverse=True)
            vertices = mesh.vertices.numpy()[used] / scale
            opacity = 0.6 if PAINTS[k] == "glass" else 1.0
            parts.append(CadPart(vertices, local.reshape(-1, 3), None, None, colour, opacity))
    return Cad(name, tuple(parts), LICENCE, "meshes.npz")


def merged(cad: Cad) -> tuple[Mesh, np.ndarray]:
    """Return all parts of a CAD as one mesh, and the material of each face."""
    starts = np.cumsum([0, *(len(p.vertices) for p in cad.parts)])
    faces = [p.faces + s for p, s in zip(cad.parts, starts, strict=False)]
    kinds = [np.full(len(p.faces), _kind(p)) for p in cad.parts]
    vertices = np.concatenate([p.vertices for p in cad.parts])
    mesh = Mesh(_tensor(vertices), torch.from_numpy(np.concatenate(faces).astype(np.int64)))
    return mesh, np.concatenate(kinds)


def _kind(part: CadPart) -> int:
    if part.opacity < 1:
        return PAINTS.index("glass")
    colour = np.array(part.colour) if part.texture is None else part.texture.mean((0, 1)) / 255
    if colour.max() < 0.2:
        return PAINTS.index("dark")
    if colour[0] > 0.4 and colour[1:].max() < 0.25:
        return PAINTS.index("red")
    return PAINTS.index("body")


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64))


def _centred(mesh: Mesh) -> Mesh:
    used = mesh.vertices[mesh.faces.unique()]
    return mesh.with_vertices(mesh.vertices - (used.amin(0) + used.amax(0)) / 2)
