"""Claims about learning a shape space: it ends with one, stopped or not, whatever the CADs."""

import json
import signal

import pytest
import torch
from fixtures import car_mesh
from torch.nn import functional

from featmesh.errors import DatasetError, FeatmeshError
from featmesh.geometry.template import mirror_index
from featmesh.learn import shape_space
from featmesh.learn.shape_config import ShapeLearnConfig
from featmesh.learn.shape_space import learn_shape, read_cads
from featmesh.learn.shape_training import ShapeState, Trainer, principal, standardise, wobbled
from featmesh.model.backbones import build_backbone
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import load
from featmesh.model.config import DeformationConfig, ModelConfig
from featmesh.model.deformation import build_deformation
from featmesh.model.shape_folder import ShapeSpace

STRETCHES = ((1.0, 1.0, 1.0), (1.1, 0.95, 1.1), (0.95, 1.05, 0.8), (1.0, 1.1, 1.2))


def off(mesh):
    rows = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
    rows += [f"{x} {y} {z}" for x, y, z in mesh.vertices.tolist()]
    return "\n".join([*rows, *(f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()), ""])


@pytest.fixture(scope="module")
def cads(tmp_path_factory):
    """Cars of four shapes and sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp("cads")
    for k, stretch in enumerate(STRETCHES):
        size = 4.0 + k
        mesh = car_mesh().with_vertices(car_mesh().vertices * torch.tensor(stretch) * size)
        (folder / f"{k}.off").write_text(off(mesh))
    (folder / "empty.off").write_text("OFF\n0 0 0\n")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder whose network knows nothing."""
    folder = tmp_path_factory.mktemp("run") / "models" / "car"
    config = ModelConfig(channels=16, width=16, crop_height=64, crop_width=64, clutter_centres=4)
    texture = functional.normalize(torch.randn(len(car_mesh().vertices), 16), dim=1)
    clutter = functional.normalize(torch.randn(4, 16), dim=1)
    found = CategoryModel("car", config, car_mesh(), texture, clutter, build_backbone(config))
    found.save(str(folder))
    return folder


def config(cads, model, out, **changes):
    small = DeformationConfig(kind="field", latents=2, width=16, layers=2, frequencies=2)
    values = {
        "steps": 2,
        "surface_steps": 6,
        "points": 1500,
        "samples": 300,
        "batch": 3,
        "copies": 2,
        "save_every": 2,
        "threads": 1,
        "deformation": small,
        "model": str(model),
    }
    return ShapeLearnConfig(str(cads), str(out), **{**values, **changes})


@pytest.fixture(scope="module")
def whole(cads, model, tmp_path_factory):
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole")
    assert learn_shape(config(cads, model, out)) == 0
    return out


def test_a_run_ends_with_a_model_that_has_a_shape_space(whole, model):
    before, after = load(model), load(whole / "models" / "car")
    assert before.deformation is None
    assert after.config.deformation == config("", "", "").deformation
    assert torch.equal(after.template.vertices, before.template.vertices)
    assert torch.equal(after.texture, before.texture)
    assert torch.equal(after.mesh(torch.zeros(2)).vertices, before.template.vertices)
    assert not torch.allclose(after.mesh(torch.ones(2)).vertices, before.template.vertices)
    assert after.extra["shape"]["cads"] == ["0.off", "1.off", "2.off", "3.off"]


def test_the_report_tells_of_every_cad(whole):
    report = json.loads((whole / "report.json").read_text())
    assert [row["name"] for row in report["cads"]] == ["0.off", "1.off", "2.off", "3.off"]
    assert [row["name"] for row in report["refused"]] == ["empty.off"]
    assert report["refused"][0]["code"] == "E_MESH_EMPTY"
    mean = report["mean"]
    assert mean["code"] < 0.8 * mean["template"]
    assert mean["code_flipped"] < 0.01
    codes = torch.tensor([row["latent"] for row in report["cads"]])
    torch.testing.assert_close(codes.T @ codes / len(codes), torch.eye(2), atol=1e-3, rtol=0)


def test_a_stopped_run_goes_on_to_the_same_bits(whole, cads, model, tmp_path, monkeypatch):
    steps = []

    def one_step(trainer, plain=Trainer.one_step):
        steps.append(trainer.state.step)
        if len(steps) in (3, 5):
            signal.raise_signal(signal.SIGINT)
        return plain(trainer)

    def draw(*args, plain=shape_space.register):
        drawn.append(1)
        return plain(*args)

    drawn = []
    monkeypatch.setattr(Trainer, "one_step", one_step)
    monkeypatch.setattr(shape_space, "register", draw)
    assert learn_shape(config(cads, model, tmp_path)) == 130
    assert learn_shape(config(cads, model, tmp_path)) == 130
    assert not (tmp_path / "models").exists()
    assert learn_shape(config(cads, model, tmp_path)) == 0
    assert steps == list(range(8))
    assert len(drawn) == 4  # once a CAD
    one, two = (load(out / "models" / "car") for out in (whole, tmp_path))
    assert one.hash == two.hash


def test_another_configuration_needs_another_folder(whole, cads, model):
    with pytest.raises(FeatmeshError, match=r"other values of lr.*--out"):
        learn_shape(config(cads, model, whole, lr=1e-5))


def test_linear_directions_need_no_steps_and_no_model(cads, tmp_path):
    pca = DeformationConfig(kind="pca", latents=2)
    assert learn_shape(config(cads, "", tmp_path, deformation=pca)) == 0
    space = ShapeSpace.read(tmp_path / "models" / "car")
    assert space.category == "car"
    assert space.template.is_watertight()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mean"]["code"] < report["mean"]["template"]


def test_sizes_are_shared_or_each(cads):
    each = read_cads(ShapeLearnConfig(str(cads), ""))
    assert each.unit is None
    assert [float(m.extent.norm()) for _, m in each.meshes] == pytest.approx([1.0] * 4)
    shared = read_cads(ShapeLearnConfig(str(cads), "", size="shared"))
    sizes = torch.tensor([float(m.extent.norm()) for _, m in shared.meshes])
    assert float(sizes.mean()) == pytest.approx(1.0)
    true = [
        float((car_mesh().extent * torch.tensor(s)).norm()) * (4 + k)
        for k, s in enumerate(STRETCHES)
    ]
    torch.testing.assert_close(sizes * shared.unit, torch.tensor(true), rtol=1e-5, atol=0)


def test_one_cad_is_not_enough(cads, model, tmp_path):
    (tmp_path / "cads").mkdir()
    (tmp_path / "cads" / "0.off").write_text((cads / "0.off").read_text())
    (tmp_path / "cads" / "1.off").write_text("OFF\n0 0 0\n")
    with pytest.raises(DatasetError, match=r"2 CADs or more, got 1; 1.off: E_MESH_EMPTY.*try"):
        learn_shape(config(tmp_path / "cads", model, tmp_path / "run"))


@pytest.mark.parametrize("kind", ["pca", "field", "gcn"])
def test_learning_starts_at_the_principal_components(kind):
    """What stretches make is linear: two components say it, and every kind can start there."""
    template = car_mesh()
    factors = torch.tensor(STRETCHES[1:]).double() - 1
    moved = factors[:, None] * template.vertices
    sizes = DeformationConfig(kind=kind, latents=3, width=32, layers=2, frequencies=2)
    deformation = build_deformation(sizes, template)
    codes, directions = principal(moved, deformation)
    torch.testing.assert_close(codes.square().mean(0), torch.ones(3).double())
    deformation.begin(directions)
    with torch.no_grad():
        said = deformation(codes.float()).double()
    assert float((said - moved).norm(dim=2).mean()) < 0.05 * float(moved.norm(dim=2).mean())


def test_copies_wobble_smoothly_and_alike_on_both_sides():
    template = car_mesh()
    moved = 0.02 * template.vertices[None]
    learn = ShapeLearnConfig("", "", copies=20, wobble=0.006, wobble_reach=0.25)
    wobble = wobbled(template, moved, learn) - moved
    assert wobble.shape == (20, *template.vertices.shape)
    mirror = mirror_index(template)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(wobble[:, mirror], wobble * flip, atol=1e-12, rtol=0)
    assert float(wobble[..., 1:].square().mean().sqrt()) == pytest.approx(0.006, rel=0.4)
    one, two = template.faces[:, :2].T
    assert float((wobble[:, one] - wobble[:, two]).norm(dim=2).mean()) < 0.003
    assert torch.equal(wobbled(template, moved, learn) - moved, wobble)


def test_standard_codes_say_the_same_shapes():
    template = car_mesh()
    learn = ShapeLearnConfig("", "", deformation=DeformationConfig(latents=3, width=16, layers=2))
    state = ShapeState.__new__(ShapeState)
    state.config, state.template, state.real = learn, template, 7
    torch.manual_seed(0)
    state.deformation = build_deformation(learn.deformation, template)
    state.deformation.begin(0.01 * torch.randn(3, *state.deformation.place.shape))
    state.codes = torch.nn.Parameter(torch.randn(7, 3) * torch.tensor([0.3, 2.0, 1.0]) + 0.2)
    before = state.deformation(state.codes).detach()
    standardise(state)
    codes = state.codes.data
    torch.testing.assert_close(codes.T @ codes / 7, torch.eye(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(state.deformation(codes).detach(), before, atol=1e-5, rtol=1e-3)
    effect = state.deformation.jacobian(torch.zeros(3)).square().sum((1, 2))
    assert effect.tolist() == sorted(effect.tolist(), reverse=True)
