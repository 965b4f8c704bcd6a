"""Claims about the models that come with featmesh: twelve categories, what they say is there."""

import json

import pytest
import torch

import featmesh
from featmesh.model.checkpoint import bundled_categories, bundled_models, load
from featmesh.views.presets import PRESETS

NAMES = [*sorted(PRESETS), "car-cad"]


def stated(name):
    return json.loads((bundled_models()[name] / "model.json").read_text())


def test_all_categories_are_there():
    assert sorted(bundled_models()) == sorted(NAMES)
    assert bundled_categories() == sorted(set(NAMES) - {"car-cad"})  # one of each


def test_those_learnt_from_cads_share_a_trunk():
    trunks = {stated(name)["backbone"]["file"] for name in NAMES if name != "car"}
    assert len(trunks) == 1
    models = featmesh.load_all(["boat", "chair"])
    assert models[0].backbone.trunk is models[1].backbone.trunk


@pytest.mark.parametrize("name", NAMES)
def test_a_model_tells_what_it_is_made_of_and_how_well_it_does(name):
    told = stated(name)
    assert told["category"] == name.removesuffix("-cad")
    assert told["licence"] and told["data"] and told["limits"]
    if name != "car":
        clean = told["metrics"]["renders of unseen CADs, clean"]
        assert 0 < clean["acc_30"] <= 1 and clean["count"] >= 40
    assert told.get("symmetry", 1) == {"bottle": "any", "diningtable": 2}.get(name, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_whole(name):
    model = load(name)
    assert model.calibration is not None
    extent = model.template.extent
    assert float(extent.norm()) == pytest.approx(1, abs=0.05)
    assert torch.isfinite(model.texture).all() and len(model.texture) == len(
        model.template.vertices
    )
    # shapes of the space stay near the mean
    assert model.deformation is not None
    bent = model.mesh(torch.full((model.deformation.latents,), 0.5))
    assert float((bent.vertices - model.template.vertices).norm(dim=1).mean()) < 0.2
