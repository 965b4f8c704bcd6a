"""Claims about learned parts: votes of annotated photos find the parts where they are."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import car_mesh, car_model
from part_scenes import NAMES, part_of, part_views, true_labels
from PIL import Image

from featmesh.errors import DatasetError
from featmesh.geometry.template import mirror_index
from featmesh.inference.config import EstimateConfig, RefineConfig, ScanConfig
from featmesh.learn.part_overlap import raise_overlap
from featmesh.learn.part_votes import (
    SPLIT,
    Sighting,
    agreement,
    elect,
    mirrored_names,
    overlap,
    places,
    points,
    smoothed,
)
from featmesh.learn.parts import count, learn_labels
from featmesh.learn.parts_config import PartsConfig
from featmesh.views.part_photos import read_part_photos

QUICK = EstimateConfig(
    ScanConfig(azimuths=24, elevations=(0.0, 20.0), thetas=(0.0,), starts=2),
    RefineConfig(steps=40, keep=1),
)


def on_left(view) -> bool:
    """Whether the car's left side is seen, and its right is not."""
    return 30 < np.degrees(np.arctan2(*(-view.R.T @ view.t)[[0, 1]] * [1, -1])) % 360 < 150


@lru_cache
def surface():
    """Every place of the car's surface and the part that lies there."""
    faces = len(car_mesh().faces)
    rng = np.random.default_rng(0)
    bary = rng.dirichlet(np.ones(3), faces * 40).astype(np.float32)
    found = np.unique(places(np.repeat(np.arange(faces), 40), bary))
    face, weight = points(found)
    where = (car_mesh().corners[torch.from_numpy(face)] * torch.from_numpy(weight)[..., None]).sum(
        1
    )
    return found, part_of(where).numpy().astype(np.uint8)


def whole(photo: int = 0, part=None) -> Sighting:
    """A sighting of the whole surface, each place as often."""
    found, true = surface()
    part = true if part is None else part
    missed = np.zeros(len(NAMES) + 1)
    return Sighting(photo, found, part, np.full(len(found), 1 / len(found)), missed)


def mean_overlap(labels) -> float:
    """The mean IoU over the car's whole surface, hidden parts too."""
    shared, either = overlap(car_mesh(), labels, whole())
    return float((shared / either)[1:].mean())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of the car's left side alone."""
    path = part_views(tmp_path_factory.mktemp("left"), 24, on_left)
    return read_part_photos(path, NAMES)


@pytest.fixture(scope="module")
def learned(photos):
    return learn_labels(car_model(), photos, search=QUICK)


def test_photos_of_one_side_label_both(photos, learned) -> None:
    assert 6 <= len(photos) <= 12
    assert set(learned.voted) == {p.id for p in photos} and not learned.skipped
    ceiling = mean_overlap(true_labels())  # labels of vertices are coarser than pixels
    assert mean_overlap(learned.labels) > ceiling - 0.1 > 0.65
    rows = {row.name: row for row in learned.rows}
    assert rows["left_door"].vertices == rows["right_door"].vertices > 10
    assert rows["left_door"].photos == len(photos) > rows["right_door"].photos
    assert rows["left_door"].agreement > 0.8
    mirror = mirror_index(car_mesh())
    swapped = learned.labels.weights[mirror][:, mirrored_names(NAMES)]
    assert torch.allclose(swapped, learned.labels.weights, atol=1e-5)
    x = car_mesh().vertices[:, 0]
    assert bool((x[learned.labels.hard == 2] > 0).all())  # +x is the car's own left


def test_a_photo_that_cannot_be_used_harms_no_other(photos, tmp_path) -> None:
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((96, 128, 3), 30, np.uint8)).save(grey)
    broken = [
        replace(photos[0], id=70, image=tmp_path / "gone.png"),
        replace(photos[0], id=71, height=95),
        replace(photos[0], id=72, label_image=tmp_path / "gone.png"),
        replace(photos[0], id=73, image=grey),
    ]
    model = replace(car_model(), threshold=0.2)
    found = learn_labels(model, [*broken, photos[0]], PartsConfig(steps=0), QUICK)
    assert found.voted == (photos[0].id,)
    assert found.skipped == {"E_IO": (70,), "E_SIZE": (71,), "E_PARTS": (72,), "unsure": (73,)}
    with pytest.raises(DatasetError, match=r"E_DATA.*1 E_IO, 1 E_SIZE"):
        learn_labels(model, broken[:2], search=QUICK)
    with pytest.raises(DatasetError, match="E_PARTS"):
        learn_labels(model, [photos[0], replace(photos[1], names=NAMES[::-1])])
    with pytest.raises(DatasetError, match="E_DATA"):
        learn_labels(model, [])


def test_without_the_mirror_a_side_not_seen_has_no_part(photos, learned) -> None:
    seen = _sightings(photos[3:6])
    alone = elect(car_mesh(), seen, NAMES, PartsConfig(mirror=False))
    far = car_mesh().vertices[:, 0] < -0.12
    assert int((alone.hard[far] == 3).sum()) == 0
    both = elect(car_mesh(), seen, NAMES, PartsConfig())
    assert int((both.hard[far] == 3).sum()) > 10


def _sightings(photos):
    from featmesh.learn.parts import look

    return [look(car_model(), photo, PartsConfig(), QUICK) for photo in photos]


def test_a_photo_that_contradicts_the_others_is_dropped() -> None:
    true = surface()[1]
    flipped = mirrored_names(NAMES)[true].astype(np.uint8)
    turned = np.where(true == 1, 0, flipped).astype(np.uint8)
    seen = [whole(k) for k in range(4)] + [whole(9, turned)]
    found = count(car_mesh(), seen, NAMES, PartsConfig(steps=0, agree=0.7))
    assert (found.voted, found.dropped) == ((0, 1, 2, 3), (9,))
    assert agreement(car_mesh(), found.labels, seen[0]) > 0.8
    assert agreement(car_mesh(), found.labels, seen[4]) < 0.7
    kept = count(car_mesh(), seen, NAMES, PartsConfig(steps=0, agree=0.7, passes=1))
    assert kept.dropped == () and len(kept.voted) == 5
    # where all contradict one another, all are kept
    assert len(count(car_mesh(), seen, NAMES, PartsConfig(steps=0, agree=1.1)).voted) == 5


def test_a_part_that_lies_now_here_now_there_is_drawn_where_overlap_is_best() -> None:
    found, true = surface()
    face, bary = points(found)
    where = (car_mesh().corners[torch.from_numpy(face)] * torch.from_numpy(bary)[..., None]).sum(1)
    side = true == 2

    def lamp(k: int):
        at = -0.12 + 0.08 * k
        thin = side & ((where[:, 1].numpy() - at).__abs__() < 0.04)
        return whole(k, np.where(thin, 4, 0).astype(np.uint8))

    seen = [lamp(k) for k in range(4)]
    names, config = ("a", "b", "c", "lamp"), PartsConfig(mirror=False)
    votes = elect(car_mesh(), seen, names, config)
    assert int((votes.hard == 4).sum()) == 0
    better = raise_overlap(car_mesh(), votes, seen, config)
    assert int((better.hard == 4).sum()) > 4
    assert mean_of(better, seen) > mean_of(votes, seen) + 0.15
    assert torch.allclose(better.weights.sum(1), torch.ones(len(better.weights)))
    assert raise_overlap(car_mesh(), votes, seen, PartsConfig(steps=0)) is votes


def mean_of(labels, seen) -> float:
    """IoU of part 4 over sightings."""
    both = [overlap(car_mesh(), labels, s) for s in seen]
    return sum(a[4] for a, _ in both) / sum(b[4] for _, b in both)


def test_votes_reach_what_nobody_saw() -> None:
    mesh = car_mesh()
    y = mesh.vertices[:, 1].numpy()
    total = np.zeros((len(y), 3))
    total[y < -0.1, 1] = 5.0
    total[y > 0.1, 2] = 1.0
    found = smoothed(mesh, total, 0.02)
    assert found.min() >= 0 and np.allclose(found.sum(1), 1)
    assert (found[y < 0.02].argmax(1)[y[y < 0.02] < -0.05] == 1).all()
    assert (found[(y > 0.05)].argmax(1) == 2).all()
    assert found[:, 0].max() < 0.01
    nothing = smoothed(mesh, np.zeros((len(y), 3)), 0.02)
    assert np.allclose(nothing, np.eye(1, 3))


def test_left_and_right_swap_only_as_words() -> None:
    names = ("left_door", "right_door", "upright", "Left-lamp", "back_right_light", "left_ear")
    more = (*names, "back_left_light")
    assert mirrored_names(more).tolist() == [0, 2, 1, 3, 4, 7, 6, 5]


def test_a_place_lies_where_its_points_lie() -> None:
    rng = np.random.default_rng(1)
    grid = np.array([[a, b, SPLIT - a - b] for a in range(SPLIT + 1) for b in range(SPLIT + 1 - a)])
    bary = np.concatenate([rng.dirichlet(np.ones(3), 5000), grid / SPLIT]).astype(np.float32)
    face = rng.integers(0, 700, len(bary))
    found = places(face, bary)
    again, middle = points(found)
    assert np.array_equal(again, face)
    assert middle.min() > 0 and np.allclose(middle.sum(1), 1)
    assert np.abs(middle - bary).max() < 0.7 / SPLIT
    assert len(np.unique(places(np.zeros(5000, int), bary[:5000]))) == SPLIT**2
    assert np.array_equal(places(again, middle.astype(np.float32)), found)
