"""Claims about a category model: what it renders and extracts, and that it comes back whole."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import (
    CELLS,
    CHANNELS,
    box_of,
    car_mesh,
    car_model,
    lift,
    look,
    picture,
    shaped_model,
)
from torch import nn

from featmesh.draws import generator
from featmesh.errors import CheckpointError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.model.backbones import build_backbone
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import load, load_all, read_model
from featmesh.model.config import DeformationConfig, ModelConfig
from featmesh.model.deformation import build_deformation
from featmesh.model.gist import LEVELS, GistHead
from featmesh.render.rasterize import rasterize

SMALL = ModelConfig(channels=16, width=16, crop_height=64, crop_width=96, clutter_centres=4)
CAMERA = Camera(700.0, 700.0, 320.0, 240.0, 480, 640)


@pytest.fixture(scope="module")
def untrained():
    mesh = car_mesh()
    torch.manual_seed(0)
    backbone = build_backbone(SMALL)
    for part in backbone.modules():  # as after training: no statistic is at its default
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    unit = nn.functional.normalize(torch.randn(len(mesh.vertices) + 4, 16), dim=1)
    extra = {"training": {"views": ["train.json"]}}
    return CategoryModel(
        "car", SMALL, mesh, unit[4:], unit[:4], backbone.eval(), 0.125, extra=extra
    )


def pixels(size=(64, 96), seed=0):
    rng = generator(seed, "pixels")
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), np.ones(size, dtype=bool)


def test_a_saved_model_comes_back(untrained, tmp_path):
    untrained.save(str(tmp_path / "models" / "car"))
    once = load(tmp_path / "models" / "car")
    assert (once.category, once.config, once.threshold) == ("car", SMALL, 0.125)
    assert once.hash and once.extra["training"] == {"views": ["train.json"]}
    assert torch.equal(once.texture, untrained.texture)
    assert torch.equal(once.clutter, untrained.clutter)
    assert torch.equal(once.template.faces, untrained.template.faces)
    assert torch.equal(once.template.uv, untrained.template.uv)
    torch.testing.assert_close(
        once.template.vertices, untrained.template.vertices, atol=1e-7, rtol=0
    )
    picture_, valid = pixels()
    camera = Camera.assumed(64, 96)
    before = untrained.extract(picture_, valid, camera).features
    after = once.extract(picture_, valid, camera).features
    assert float((before * after).sum(-1).min()) > 0.99  # the trunk is kept in half precision
    once.save(str(tmp_path / "again" / "car"))
    twice = load(tmp_path / "again" / "car")
    assert twice.hash == once.hash
    assert torch.equal(twice.extract(picture_, valid, camera).features, after)


def test_the_hash_tells_models_apart(untrained, tmp_path):
    untrained.save(str(tmp_path / "one"))
    replace(untrained, texture=-untrained.texture).save(str(tmp_path / "two"))
    replace(untrained, threshold=0.25).save(str(tmp_path / "three"))
    hashes = [load(tmp_path / name).hash for name in ("one", "two", "three")]
    assert hashes[0] != hashes[1]
    assert load(tmp_path / "three").threshold == 0.25


def test_files_of_another_network_are_refused(untrained, tmp_path):
    untrained.save(str(tmp_path))
    files = read_model(tmp_path)
    name = next(k for k in files.tensors if k.startswith("head."))
    short = {k: v for k, v in files.tensors.items() if k != name}
    with pytest.raises(CheckpointError, match=f"missing .*{name}.*unknown") as got:
        CategoryModel.from_files(replace(files, tensors=short))
    assert got.value.code == "E_CKPT_CONFIG"
    more = {**files.tensors, "head.stray": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"unknown .*head\.stray"):
        CategoryModel.from_files(replace(files, tensors=more))


def test_a_model_without_a_shape_space_has_the_mean_shape_only():
    model = car_model()
    assert model.mesh() is model.template
    with pytest.raises(CheckpointError, match="the mean shape only; try: featmesh lea") as got:
        model.mesh(torch.zeros(8))
    assert got.value.code == "E_CKPT_PART"
    with pytest.raises(CheckpointError):
        model.render(look(30), CELLS, torch.zeros(8))


def test_a_latent_moves_the_mesh_and_zero_is_the_template_exactly():
    model = shaped_model()
    assert torch.equal(model.mesh(torch.zeros(3)).vertices, model.template.vertices)
    longer = model.mesh(torch.tensor([0.0, 2.0, 0.0])).extent - model.template.extent
    assert longer[1] == pytest.approx(0.1, abs=0.01) and abs(float(longer[2])) < 1e-6
    plain, _ = model.render(look(90), CELLS)
    moved, _ = model.render(look(90), CELLS, torch.tensor([1.0, 0.0, 0.0]))
    assert not torch.equal(plain, moved)


def test_a_shape_space_is_saved_with_its_model(untrained, tmp_path):
    config = replace(SMALL, deformation=DeformationConfig(kind="field", latents=4, width=16))
    space = build_deformation(config.deformation, untrained.template)
    for weight in space.parameters():
        nn.init.normal_(weight, std=0.2)
    replace(untrained, config=config, deformation=space).save(str(tmp_path / "models" / "car"))
    back = load(str(tmp_path / "models" / "car"))
    code = torch.tensor([0.5, -1.0, 0.2, 0.0])
    moved = space(code[None])[0].detach()
    assert torch.allclose(back.mesh(code).vertices, back.template.vertices + moved, atol=1e-6)
    assert float(moved.abs().max()) > 0.01
    assert not any(p.requires_grad for p in back.deformation.parameters())


@pytest.mark.parametrize("pose", [look(35, 15, 5, 2.4), look(200, -5, 0, 4)])
def test_render_shows_the_texture_of_the_surface_seen(pose):
    """The texture is a known function of the position: of the point each cell's ray meets."""
    model, camera = car_model(), CELLS.zoom(1.0).scale(4.0)
    shown, covered = model.render(pose, camera)
    mesh = model.template
    found = rasterize(pose.apply(mesh.vertices)[None], mesh.faces, camera)
    assert torch.equal(covered, found.face_id[0] >= 0)
    assert bool((shown[~covered] == 0).all()) and int(covered.sum()) > 400
    rows, columns = covered.nonzero().T
    centres = torch.stack([columns, rows], 1).double() + 0.5
    met = camera.unproject(centres) * found.depth[0][covered][:, None]
    wanted = lift(pose.inverse().apply(met))
    cosine = nn.functional.cosine_similarity(shown[covered], wanted)
    assert float(cosine.min()) > 0.97 and float(cosine.mean()) > 0.99
    assert float(shown[covered].norm(dim=-1).max()) <= 1 + 1e-6  # interpolated, not stretched


def test_render_keeps_single_precision():
    pose = look(35)
    single = Pose(pose.R.float(), pose.t.float())
    assert car_model().render(single, CELLS)[0].dtype == torch.float32


def test_a_cell_sees_its_8x8_pixels():
    model = car_model()
    dark = np.full((64, 96, 3), 20, np.uint8)
    lit = dark.copy()
    lit[24:32, 40:48] = 200
    valid = np.ones((64, 96), dtype=bool)
    camera = Camera.assumed(64, 96)
    one, two = (model.extract(p, valid, camera) for p in (dark, lit))
    changed = (one.features != two.features).any(-1)
    assert changed.nonzero().tolist() == [[3, 5]]
    assert two.features.shape == (8, 12, CHANNELS)
    torch.testing.assert_close(two.features.norm(dim=-1), torch.ones(8, 12))
    wanted = (two.features @ model.clutter.T).amax(-1)
    torch.testing.assert_close(two.clutter, wanted)
    assert two.camera == camera.scale(1 / 8)


def test_a_cell_is_valid_where_its_centre_lies_in_the_photo():
    valid = np.zeros((64, 96), dtype=bool)
    valid[:, :45] = True  # centre of cell 5: 44.5
    valid[:, 52] = False
    cells = car_model().extract(np.zeros((64, 96, 3), np.uint8), valid, Camera.assumed(64, 96))
    assert cells.valid[0].tolist() == [True] * 6 + [False] * 6
    assert cells.valid.shape == (8, 12)


def test_features_that_are_not_finite_are_refused(monkeypatch):
    model = car_model()
    monkeypatch.setattr(
        model.backbone, "read", lambda *_: torch.full((1, CHANNELS, 8, 12), math.nan)
    )
    with pytest.raises(InputError, match="finite features, got NaN") as got:
        model.extract(*pixels(), Camera.assumed(64, 96))
    assert got.value.code == "E_NONFINITE"


def test_a_picture_of_the_model_has_the_features_it_renders():
    """The claim the other tests stand on: fixtures' network sees what the model draws."""
    model, pose = car_model(), look(40, 12, 5, 1.6)
    camera = Camera(600.0, 600.0, 320.0, 240.0, 480, 640)
    valid = np.ones((480, 640), dtype=bool)
    seen = model.extract(picture(pose, camera), valid, camera)
    drawn, covered = model.render(pose, seen.camera)
    x0, y0, x1, y1 = box_of(pose, seen.camera)
    assert (x1 - x0) * (y1 - y0) > covered.sum() > 0.4 * (x1 - x0) * (y1 - y0)
    inner = nn.functional.avg_pool2d(covered[None].double(), 3, 1, 1)[0] > 0.99  # no outline
    cosine = (seen.features * drawn).sum(-1)[inner]
    assert float(cosine.mean()) > 0.97
    assert float(seen.clutter[inner].mean()) < 0.5 < float(seen.clutter[~covered].mean())


def test_a_graph_network_that_paints_is_saved_with_its_brush(untrained, tmp_path):
    config = DeformationConfig(kind="gcn", latents=3, width=16, layers=2)
    space = build_deformation(config, untrained.template, channels=SMALL.channels)
    own = replace(untrained, config=replace(SMALL, deformation=config), deformation=space)
    own.save(str(tmp_path / "models" / "car"))
    back = load(str(tmp_path / "models" / "car")).deformation
    assert torch.allclose(back.texture(), space.texture().detach(), atol=1e-6)


def test_a_look_at_the_crop_is_saved_with_its_model(untrained, tmp_path):
    torch.manual_seed(0)
    levels = untrained.backbone.trunk.channels[-LEVELS:]
    said = replace(untrained, gist=GistHead(sum(levels)).eval())
    said.save(str(tmp_path / "models" / "car"))
    again = load(tmp_path / "models" / "car")
    shown = (*pixels(), CAMERA)
    first, second = (m.extract_all([shown, shown])[1].gist for m in (said, again))
    assert first.presence == pytest.approx(second.presence, abs=0.02)
    torch.testing.assert_close(first.azimuth, second.azimuth, atol=0.05, rtol=0)
    assert untrained.extract(*shown).gist is None
    untrained.save(str(tmp_path / "models" / "car"))
    assert load(tmp_path / "models" / "car").gist is None
    assert again.hash != load(tmp_path / "models" / "car").hash


def test_models_loaded_together_share_the_trunk_and_answer_as_alone(untrained, tmp_path):
    folders = [tmp_path / "models" / name for name in ("car", "van", "bus")]
    untrained.save(str(folders[0]))
    replace(untrained, category="van", texture=-untrained.texture).save(str(folders[1]))
    other = build_backbone(SMALL).eval()  # of another trunk
    replace(untrained, category="bus", backbone=other).save(str(folders[2]))
    car, van, bus = load_all(folders)
    assert [m.category for m in (car, van, bus)] == ["car", "van", "bus"]
    assert car.backbone.trunk is van.backbone.trunk is not bus.backbone.trunk
    assert car.backbone.head is not van.backbone.head
    camera = Camera.assumed(64, 96)
    for folder, model in zip(folders, (car, van, bus), strict=True):
        alone = load(folder)
        assert alone.hash == model.hash
        assert alone.backbone.trunk is not model.backbone.trunk
        one, two = (m.extract(*pixels(), camera).features for m in (alone, model))
        assert torch.equal(one, two)
    assert load_all([]) == []
    with pytest.raises(CheckpointError, match="bundled model"):
        load_all([folders[0], tmp_path / "nowhere"])
