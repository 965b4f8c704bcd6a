"""Claims about classification: painted cars, and vans, which are cars painted back to front."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, car_mesh, car_model, lift, look, paint, photo_of
from torch import nn

import featmesh
from featmesh.errors import InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference import classify as module
from featmesh.inference.classify import FLOOR, KNOWN, explained, gain_at, ranked, with_rivals
from featmesh.inference.config import EstimateConfig, LocateConfig, ScanConfig
from featmesh.inference.result import Estimate
from featmesh.model.backbones import Backbone
from featmesh.model.gist import AZIMUTHS, ELEVATIONS, Gist, GistHead
from featmesh.photo.photo import Photo
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate

CAMERA = Camera(600.0, 600.0, 320.0, 180.0, 360, 640)
FLIP = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
POSE = aside(look(40, 12, 0, 4.5), CAMERA, (400, 150))
BOX = box_of(POSE, CAMERA)
# painted objects are clear: a coarse grid and few boxes do
CONFIG = EstimateConfig(
    scan=ScanConfig(azimuths=18, distances=(2.2, 6.0)),
    locate=LocateConfig(sides=(640, 320), candidates=2),
)


def classify(models, photo, box=None, camera=None, config=CONFIG):
    return module.classify(models, photo, box, camera, config)


def estimate(model, photo, box, camera=None):
    return featmesh.estimate(model, photo, box, camera, config=CONFIG)


@lru_cache
def van_model():
    return replace(car_model(), category="van", texture=lift(car_mesh().vertices * FLIP).float())


@lru_cache
def photo_with(kind):
    """A photo of a car or a van in the same pose, or of a wall."""
    if kind == "car":
        return photo_of(POSE, CAMERA)
    shown = background((CAMERA.height, CAMERA.width), 0).astype(float)
    if kind == "van":
        mesh = car_mesh()
        colours = paint(mesh.with_vertices(mesh.vertices * FLIP))
        drawn = rasterize(POSE.apply(mesh.vertices)[None], mesh.faces, CAMERA)
        seen = (drawn.face_id[0] >= 0).numpy()
        shown[seen] = interpolate(colours, mesh.faces, drawn)[0].numpy().round()[seen]
    return Photo.from_array(shown.clip(0, 255).astype(np.uint8))


class Counted(nn.Module):
    """A trunk that counts the pictures it looks at."""

    multiple = 8

    def __init__(self):
        super().__init__()
        self.looks = 0

    def forward(self, x):
        self.looks += len(x)
        return [x]


def counted(*models):
    """The models around one trunk that counts, and the trunk."""
    trunk = Counted()
    return [replace(m, backbone=Backbone(trunk, m.backbone.head, m.config)) for m in models], trunk


@pytest.mark.parametrize("boxed", [True, False])
@pytest.mark.parametrize("kind", ["car", "van"])
def test_the_category_that_is_shown_wins(kind, boxed):
    other = {"car": "van", "van": "car"}[kind]
    found = classify([van_model(), car_model()], photo_with(kind), BOX if boxed else None, CAMERA)
    assert [name for name, _ in found.ranked] == [kind, other]
    (_, first), (_, second) = found.ranked
    assert found.category == kind and found.number == (kind == "car")
    assert found.margin == pytest.approx(first - second) and found.margin > 0.1
    e = found.estimate
    assert (e.category, e.status, e.rivals) == (kind, "ok", ((other, second),))
    assert e.margin == found.margin
    assert math.degrees(float(geodesic_angle(e.cam_from_obj.R, POSE.R))) < 4
    assert e.seconds["classify"] > 0


def test_with_a_box_the_estimate_is_that_of_the_box():
    one = classify([car_model(), van_model()], photo_with("car"), BOX).estimate
    two = estimate(car_model(), photo_with("car"), BOX)
    assert torch.equal(one.cam_from_obj.R, two.cam_from_obj.R)
    assert (one.score, one.box, one.camera, one.warnings) == (
        two.score,
        two.box,
        two.camera,
        two.warnings,
    )


def test_who_is_asked_first_changes_nothing():
    photo = photo_with("van")
    one = classify([car_model(), van_model()], photo, BOX)
    two = classify([van_model(), car_model()], photo, BOX)
    assert one.ranked == two.ranked
    assert dict(one.ranked)["car"] == pytest.approx(
        classify([car_model()], photo, BOX).ranked[0][1]
    )


def test_models_of_one_trunk_look_once():
    alone, trunk = counted(car_model())
    classify(alone, photo_with("car"), BOX)
    needed = trunk.looks
    several, trunk = counted(car_model(), van_model())
    together = classify(several, photo_with("car"), BOX)
    assert trunk.looks == needed
    apart = [*counted(car_model())[0], *counted(van_model())[0]]
    assert classify(apart, photo_with("car"), BOX).ranked == together.ranked


def test_models_of_one_trunk_see_the_whole_photo_once():
    alone, trunk = counted(car_model())
    classify(alone, photo_with("car"))
    needed = trunk.looks
    several, trunk = counted(car_model(), replace(car_model(), category="twin"))
    classify(several, photo_with("car"))
    assert trunk.looks == needed  # a twin looks where the first did


def test_one_model_has_no_margin():
    found = classify([car_model()], photo_with("car"), BOX)
    assert (found.margin, found.estimate.margin, found.estimate.rivals) == (None, None, ())
    assert found.ranked[0][0] == "car" and found.ranked[0][1] > 0.2


def test_what_refuses_finished_estimates_does_not_refuse_a_glance():
    strict = replace(car_model(), threshold=2.0)
    found = classify([van_model(), strict], photo_with("car"), BOX)
    assert found.category == "car"
    assert found.estimate.status == "no_object"


def test_a_photo_of_nothing_is_explained_by_none():
    found = classify([car_model(), van_model()], photo_with("wall"))
    assert max(score for _, score in found.ranked) < 0.05


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match=r"classify\(\): expected at least one model") as got:
        classify([], photo_with("car"))
    assert got.value.code == "E_MODEL"
    with pytest.raises(InputError) as got:
        classify([car_model()], photo_with("car"), (5.0, 5.0, 2.0, 2.0))
    assert got.value.code == "E_BOX"


def test_a_box_is_explained_by_what_is_drawn_in_it():
    found = estimate(car_model(), photo_with("car"), BOX, CAMERA)
    inside, whole = (explained(car_model(), found, b) for b in (BOX, (0.0, 0.0, 640.0, 360.0)))
    area = (BOX[2] - BOX[0]) * (BOX[3] - BOX[1])
    assert whole == pytest.approx(inside * area / (640 * 360), rel=0.1)
    drawn = np.isfinite(found.maps.score)
    assert inside < found.maps.score[drawn].mean()
    assert explained(car_model(), found, (0.0, 0.0, 90.0, 90.0)) == 0.0
    assert np.isnan(gain_at(car_model(), found, np.array([3.0]), np.array([3.0]))).all()


def test_without_a_pose_nothing_is_explained():
    none = Estimate("no_object", "car")
    assert np.isnan(gain_at(car_model(), none, np.zeros(2), np.zeros(2))).all()
    posed = estimate(van_model(), photo_with("van"), BOX)
    tried = [(car_model(), none), (van_model(), posed)]
    order = ranked(tried, BOX)
    assert [k for k, _ in order] == [1, 0] and order[1][1] == 0.0
    won = with_rivals(posed, [car_model(), van_model()], order)
    assert won.rivals == (("car", 0.0),) and won.margin == order[0][1]


def test_where_nothing_is_explained_the_odds_decide():
    pairs = [(m, estimate(m, photo_with("car"), BOX, CAMERA)) for m in (car_model(), van_model())]
    bare, odds = (0.0, 0.0, 90.0, 90.0), [0.8, 0.9]
    assert [k for k, _ in ranked(pairs, BOX, odds)] == [0, 1]  # the car is drawn there
    assert ranked(pairs, bare, odds) == [
        (1, pytest.approx(0.9 * FLOOR)),
        (0, pytest.approx(0.8 * FLOOR)),
    ]
    nothing = [(model, Estimate("no_object", model.category)) for model, _ in pairs]
    assert ranked(nothing, BOX, odds) == [(1, 0.0), (0, 0.0)]


class Says(GistHead):
    """A gist that says the same of every crop, and remembers how large its maps were."""

    def __init__(self, presence):
        super().__init__(1)
        self.said, self.seen = presence, []

    def look(self, maps):
        self.seen.append(tuple(maps[-1].shape[-2:]))
        flat = torch.zeros(AZIMUTHS), torch.zeros(ELEVATIONS[2])
        return [Gist(self.said, *flat) for _ in range(len(maps[-1]))]


def test_the_gist_of_the_crop_speaks_for_categories_where_all_have_one():
    plain = classify([car_model(), van_model()], photo_with("car"), BOX)
    (_, gain), (_, less) = plain.ranked

    def told(car, van):
        models = [replace(car_model(), gist=car), replace(van_model(), gist=van)]
        return classify(models, photo_with("car"), BOX)

    both = told(Says(2.0), Says(2.0)).ranked
    assert both[0] == ("car", pytest.approx(gain / (1 + math.exp(-2.0)) ** KNOWN))
    assert told(Says(-8.0), Says(8.0)).ranked[0] == ("van", pytest.approx(less, rel=1e-3))
    assert told(None, Says(8.0)).ranked == plain.ranked
    # it was learnt on crops of full size
    car = Says(0.0)
    told(car, Says(0.0))
    sides = car_model().config.crop_height, car_model().config.crop_width
    assert max(car.seen) == sides  # this trunk keeps every pixel


def test_the_public_names_are_these():
    assert featmesh.classify is module.classify
    assert {"Classification", "classify", "load_all"} <= set(featmesh.__all__)


@pytest.mark.parametrize("kind", ["car", "van"])
def test_of_many_models_only_the_likely_ones_look_for_the_box(kind, monkeypatch):
    monkeypatch.setattr(module, "LIKELY", 1)
    asked = []

    def spy(model, *rest):
        asked.append(model.category)
        return real(model, *rest)

    real = module.find_box
    monkeypatch.setattr(module, "find_box", spy)
    found = classify([car_model(), van_model()], photo_with(kind))
    assert asked == [kind]
    # all of them look at the box
    assert [name for name, _ in found.ranked] == [kind, "van" if kind == "car" else "car"]
