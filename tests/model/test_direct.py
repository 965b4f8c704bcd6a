"""Claims about the conventional networks: what their numbers mean, and their folders."""

import math

import numpy as np
import pytest
import torch
from fixtures import car_mesh
from tiny_trunk import NETWORK, tiny_backbone

import featmesh
from featmesh.draws import generator
from featmesh.errors import CheckpointError, InputError
from featmesh.files import read_json
from featmesh.geometry.pose import so3_exp
from featmesh.geometry.rotations import geodesic_angle
from featmesh.geometry.viewpoint import angles_from_rotation, rotation_from_angles
from featmesh.model.backbones import BACKBONES
from featmesh.model.direct import (
    LOSSES,
    MIRROR,
    DirectModel,
    Views,
    bins_of,
    build_direct,
    load_direct,
    rotation_of_6d,
    rotation_of_bins,
)
from featmesh.model.direct_config import DirectConfig

BIN = 2 * math.pi / 41
KINDS = ("bins", "6d", "nearest")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(BACKBONES, "hf", tiny_backbone)


def poses(count=2000, highest=80.0, seed=0):
    """Rotations of all azimuths and thetas, elevations up to ``highest`` degrees."""
    draw = torch.from_numpy(generator(seed, "poses").uniform(-1, 1, (count, 3)))
    az, el, th = (draw * torch.tensor([math.pi, math.radians(highest), math.pi])).unbind(1)
    return rotation_from_angles(az, el, th)


def model_of(kind):
    torch.manual_seed(1)
    config = DirectConfig(kind=kind, width=16, level=1)
    network = build_direct(config, NETWORK)
    views = None
    if kind == "nearest":
        views = Views(torch.randn(5, 32 * 24).half(), poses(5).float())
    return DirectModel("car", config, NETWORK, network, car_mesh(), views)


def crops(count=3):
    draw = generator(0, "crops")
    return torch.from_numpy(draw.integers(0, 256, (count, 64, 96, 3)).astype(np.uint8))


def test_a_class_of_each_angle_is_at_most_half_a_class_off():
    R = poses()
    bins = bins_of(R, 41)
    assert bins.min() == 0 and bins.max() == 40
    off = angles_from_rotation(rotation_of_bins(bins, 41)) - angles_from_rotation(R)
    off = (off + math.pi).remainder(2 * math.pi) - math.pi
    assert float(off.abs().max()) <= BIN / 2 + 1e-9
    assert float(off.abs().max()) > 0.98 * BIN / 2


def test_elevation_and_theta_zero_lie_in_the_middle_of_their_class():
    zero = torch.zeros(3, dtype=torch.float64)
    R = rotation_from_angles(*zero)
    assert bins_of(R, 41).tolist() == [0, 20, 20]
    angles = angles_from_rotation(rotation_of_bins(torch.tensor([0, 20, 20]), 41))
    torch.testing.assert_close(angles, torch.tensor([BIN / 2, 0.0, 0.0], dtype=torch.float64))


def test_the_published_decoding_is_half_a_class_off():
    """A perfect classifier then misses pi/18 in every ninth case, median 7.4 degrees (spec 4.1)."""
    R = poses(8000, 30.0)
    bins = bins_of(R, 41)
    zero = angles_from_rotation(rotation_of_bins(torch.tensor([0, 20, 20]), 41, published=True))
    np.testing.assert_allclose(zero[1:].numpy(), -BIN / 2)
    told = {}
    for published in (False, True):
        error = geodesic_angle(rotation_of_bins(bins, 41, published), R).rad2deg()
        told[published] = (float((error < 10).double().mean()), float(error.median()))
    assert told[False][0] == 1.0 and told[False][1] == pytest.approx(4.3, abs=0.15)
    assert told[True][0] == pytest.approx(0.885, abs=0.015)
    assert told[True][1] == pytest.approx(7.44, abs=0.15)


def test_an_even_number_of_classes_is_refused():
    with pytest.raises(InputError, match="an odd number of bins, got 36; try: 41") as got:
        build_direct(DirectConfig(bins=36), NETWORK)
    assert got.value.code == "E_CONFIG"


def test_six_numbers_are_a_proper_rotation():
    x = torch.from_numpy(generator(0, "six").normal(size=(500, 6)))
    R = rotation_of_6d(x)
    eye = torch.eye(3, dtype=torch.float64).expand(500, 3, 3)
    torch.testing.assert_close(R @ R.mT, eye)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(500, dtype=torch.float64))
    true = poses(50)
    columns = true[..., :2].mT.reshape(50, 6)
    torch.testing.assert_close(rotation_of_6d(2.5 * columns), true)
    assert bool(rotation_of_6d(torch.zeros(2, 6)).isfinite().all())


def test_the_first_two_columns_may_lean():
    """Of the second only what is upright on the first counts (Zhou et al. 2019)."""
    R = poses(20)
    first, second = R[..., 0], R[..., 1]
    leaning = torch.cat([first, second - 3 * first], -1)
    torch.testing.assert_close(rotation_of_6d(leaning), R)


@pytest.mark.parametrize("kind", ["bins", "6d"])
def test_losses_are_least_at_the_truth_and_have_slopes_there(kind):
    R = poses(30).float()
    said = {
        "bins": 20.0 * torch.nn.functional.one_hot(bins_of(R.double(), 41), 41).flatten(1).float(),
        "6d": R[..., :2].mT.reshape(30, 6),
    }[kind].requires_grad_(True)
    loss = LOSSES[kind](said, R)
    loss.backward()
    loss = loss.detach()
    assert float(loss) < 0.01 and bool(said.grad.isfinite().all())
    turned = so3_exp(torch.tensor([0.0, 0.0, 0.5])).float() @ R
    assert float(LOSSES[kind](said.detach(), turned)) > 10 * float(loss)


def test_two_columns_as_far_off_as_the_chord_of_the_angle():
    R = poses(1).float()
    turned = so3_exp(torch.tensor([0.3, -0.2, 0.6])).float() @ R
    said = R[..., :2].mT.reshape(1, 6)
    last = float((turned - R)[0, :, 2].square().sum())  # the third column is not said
    chord = 2 * math.sqrt(2) * math.sin(0.7 / 2)
    assert float(LOSSES["6d"](said, turned)) == pytest.approx(chord**2 - last, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_rotations_and_how_sure(kind):
    R, sure = model_of(kind).rotations(crops())
    assert R.shape == (3, 3, 3) and R.dtype == sure.dtype == torch.float64
    eye = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    torch.testing.assert_close(R @ R.mT, eye, atol=1e-5, rtol=0)
    assert bool(sure.isnan().all() if kind == "6d" else ((sure >= -1) & (sure <= 1)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_answers_of_a_mirrored_crop_are_mirrored(kind):
    """With both hands looked at, no hand is preferred."""
    model, pixels = model_of(kind), crops()
    R, sure = model.rotations(pixels, flip=True)
    mirrored, as_sure = model.rotations(pixels.flip(2), flip=True)
    expected = MIRROR @ R @ MIRROR
    if kind == "bins":  # azimuth 0 is an edge of a class, theta pi lies in one that has no mirror
        assert bool((geodesic_angle(mirrored, expected) < 1e-6).all())
    else:
        torch.testing.assert_close(mirrored, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(sure, as_sure, equal_nan=True, atol=1e-5, rtol=0)


def test_the_most_similar_crop_answers():
    views = model_of("nearest").views
    R, cosine = views.nearest(views.features[[3, 0]].float())
    torch.testing.assert_close(R, views.R[[3, 0]].double())
    np.testing.assert_allclose(cosine.numpy(), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_answers_as_the_model_did(kind, tmp_path):
    model = model_of(kind)
    for weight in model.backbone.trunk.parameters():  # which is stored in half precision
        weight.data = weight.data.half().float()
    hash_ = model.save(tmp_path / "models" / "car")
    again = load_direct(tmp_path / "models" / "car")
    assert (again.hash, again.config, again.network) == (hash_, model.config, NETWORK)
    assert again.category == "car" and again.size == (64, 96)
    for one, two in zip(model.rotations(crops()), again.rotations(crops()), strict=True):
        torch.testing.assert_close(one, two, equal_nan=True, atol=1e-6, rtol=0)
    assert again.save(tmp_path / "again") == hash_


def test_it_is_no_category_model_and_says_so(tmp_path):
    model_of("bins").save(tmp_path / "net")
    assert read_json(tmp_path / "net" / "model.json")["kind"] == "direct"
    with pytest.raises(
        CheckpointError, match=r"a network without a mesh .* evaluate --model"
    ) as got:
        featmesh.load(tmp_path / "net")
    assert got.value.code == "E_CKPT_NAME"
    with pytest.raises(
        CheckpointError, match=r"another kind of model .*try: featmesh\.load"
    ) as got:
        load_direct("car")
    assert got.value.code == "E_CKPT_NAME"


def test_parts_that_do_not_fit_are_refused(tmp_path):
    model = model_of("bins")
    model.config = DirectConfig(kind="6d", width=16)
    model.save(tmp_path)
    with pytest.raises(CheckpointError, match="size mismatch") as got:
        load_direct(tmp_path)
    assert got.value.code == "E_CKPT_CONFIG"
