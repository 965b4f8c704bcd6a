import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from fixtures import car_mesh
from PIL import Image
from torch import Tensor

from featmesh.apps.shape_space import shape_at, show, survey, write_shape_space
from featmesh.evaluate.shape_metrics import dimensions
from featmesh.geometry.mesh import Mesh
from featmesh.model.config import DeformationConfig
from featmesh.model.deformation import Deformation

SIZES = (0.05, 0.03, 0.01)  # of the toy's directions: shares 25/35, 9/35, 1/35


class Toy(Deformation):
    """Stretches along y, z and x, hidden behind a rotation of the code; a bend where asked for."""

    def __init__(self, mesh: Mesh, bend: float = 0.0) -> None:
        super().__init__(DeformationConfig("pca", latents=5), mesh)
        x, y, z = mesh.vertices.unbind(1)
        zero = torch.zeros_like(x)
        columns = (zero, y, zero), (zero, zero, z), (x, zero, zero)
        basis = torch.stack([torch.stack(c, 1) for c in columns])
        area = torch.zeros_like(x)
        each = mesh.face_normals.norm(dim=1).repeat_interleave(3)
        area = area.index_add(0, mesh.faces.reshape(-1), each) / each.sum()
        rms = (area * basis.square().sum(2)).sum(1).sqrt()
        self.basis = basis / rms[:, None, None] * torch.tensor(SIZES)[:, None, None]
        draws = np.random.default_rng(5).normal(size=(5, 5))
        self.turn = torch.from_numpy(np.linalg.qr(draws)[0])[:3]
        self.bend = bend

    def forward(self, latent: Tensor) -> Tensor:
        amount = latent.double() @ self.turn.T
        amount = amount + self.bend * amount**2
        return torch.einsum("bk,kvx->bvx", amount, self.basis).float()


@pytest.fixture(scope="module")
def mean() -> Mesh:
    return car_mesh()


def test_the_directions_of_a_linear_space_are_found_exactly(mean: Mesh) -> None:
    toy = Toy(mean)
    found = survey(toy, mean, 3)
    shares = np.square(SIZES) / np.square(SIZES).sum()
    np.testing.assert_allclose([d.share for d in found.directions], shares, rtol=1e-3)
    np.testing.assert_allclose([d.moves for d in found.directions], SIZES, rtol=1e-3)
    for k, direction in enumerate(found.directions):
        aligned = float(toy.turn[k] @ direction.latent)
        assert abs(aligned) == pytest.approx(1, abs=1e-3)
        assert float(direction.latent.norm()) == pytest.approx(1)


def test_each_direction_changes_its_own_dimension_and_that_grows(mean: Mesh) -> None:
    found = survey(Toy(mean), mean, 3)
    before = dimensions(mean)
    for direction, own in zip(found.directions, (0, 2, 1), strict=True):  # length, height, width
        low, high = direction.dimensions
        assert high[own] > before[own] > low[own]
        others = [k for k in range(3) if k != own]
        np.testing.assert_allclose(np.array(high)[others], np.array(before)[others], rtol=1e-3)


def test_an_even_bend_turns_no_direction(mean: Mesh) -> None:
    straight, bent = survey(Toy(mean), mean, 3), survey(Toy(mean, bend=0.2), mean, 3)
    for a, b in zip(straight.directions, bent.directions, strict=True):
        assert float(a.latent @ b.latent) == pytest.approx(1, abs=1e-4)


def test_no_more_directions_than_latents(mean: Mesh) -> None:
    assert len(survey(Toy(mean), mean, 9).directions) == 5


def test_the_code_zero_is_the_mean(mean: Mesh) -> None:
    assert torch.equal(shape_at(Toy(mean), mean, torch.zeros(5)).vertices, mean.vertices)


def test_picture_table_and_meshes_are_written(
    mean: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(mean)
    found = survey(toy, mean, 2)
    files = write_shape_space(found, toy, tmp_path / "o")
    ends = [f"direction-{k}-{end}.glb" for k in (1, 2) for end in ("minus", "plus")]
    names = ["shape-space.png", "shape-space.json", "mean.glb", *ends]
    assert [f.name for f in files] == names and all(f.is_file() for f in files)
    with Image.open(files[0]) as picture:
        assert picture.size[0] > 1000
    told = json.loads(files[1].read_text("utf-8"))
    assert told == found.to_json() and told["unit"] == "object" and told["latents"] == 5
    long = trimesh.load(tmp_path / "o" / "direction-1-plus.glb", force="mesh")
    length = told["directions"][0]["plus_2_sigma"]["length"]
    assert long.extents[2] == pytest.approx(length, abs=1e-4)  # glTF: the front along z
    show("car", found, files)
    out = capsys.readouterr().out
    assert "5 numbers a shape" in out and "71.4%" in out and "7 files" in out
