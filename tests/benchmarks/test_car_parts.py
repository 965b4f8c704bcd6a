"""What benchmarks/parts.py counts: on label images whose shares are known."""

import importlib
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from featmesh.learn.part_variants import mirrored
from featmesh.learn.part_votes import mirrored_names

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
DOOR, HOOD, WHEEL = "front_left_door", "hood", "wheel"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("car_parts")


def picture(module: ModuleType, **areas: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((20, 20), np.uint8)
    for name, (x0, y0, x1, y1) in areas.items():
        labels[y0:y1, x0:x1] = module.NAMES.index(name) + 1
    return labels


def test_the_annotation_itself_scores_one(parts: ModuleType) -> None:
    truth = picture(parts, hood=(0, 0, 10, 10), wheel=(10, 10, 14, 16))
    found = parts.scores(parts.counts(truth, truth))
    assert found["miou"] == found["accuracy"] == 1.0
    assert found["iou"][HOOD] == found["iou"][WHEEL] == 1.0
    assert math.isnan(found["iou"][DOOR])  # in no picture and never claimed: no share


def test_shares_of_shifted_and_missing_parts(parts: ModuleType) -> None:
    truth = picture(parts, hood=(0, 0, 10, 10), wheel=(10, 10, 14, 16))
    answer = picture(parts, hood=(5, 0, 15, 10))  # half of it is right, half lies on no part
    found = parts.scores(parts.counts(truth, answer))
    assert found["iou"][HOOD] == pytest.approx(50 / 150)
    assert found["iou"][WHEEL] == 0.0
    assert found["miou"] == pytest.approx(50 / 300)
    assert found["accuracy"] == pytest.approx(50 / 124)


def test_pixels_of_all_pictures_count_together(parts: ModuleType) -> None:
    large = picture(parts, hood=(0, 0, 20, 10))
    small = picture(parts, hood=(0, 0, 2, 1))
    total = parts.counts(large, large) + parts.counts(small, 0 * small)
    found = parts.scores(total)
    assert found["iou"][HOOD] == pytest.approx(200 / 202)  # not the mean of 1 and 0
    assert found["accuracy"] == pytest.approx(200 / 202)


def test_a_part_named_on_an_occluder_is_wrong(parts: ModuleType) -> None:
    whole = picture(parts, hood=(0, 0, 10, 10))
    hidden = np.zeros((20, 20), bool)
    hidden[:, :4] = True
    photo = parts.PartPhoto(
        1, np.zeros((20, 20, 3), np.uint8), whole, (0.0, 0.0, 10.0, 10.0), hidden
    )
    seen = parts.scores(parts.counts(photo.visible, whole))
    assert seen["iou"][HOOD] == pytest.approx(0.6) and seen["accuracy"] == 1.0
    assert parts.scores(parts.counts(photo.parts, whole))["miou"] == 1.0


def test_a_mirrored_photo_swaps_left_and_right(parts: ModuleType) -> None:
    whole = picture(parts, front_left_door=(2, 4, 8, 9), hood=(10, 0, 20, 5))
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    photo = parts.PartPhoto(1, pixels, whole, (2.0, 0.0, 20.0, 9.0), whole == 0)
    mirror = mirrored_names(parts.NAMES)
    other = mirrored(photo, mirror)
    right = parts.NAMES.index("front_right_door") + 1
    assert (other.parts[4:9, 12:18] == right).all() and (other.parts[0:5, 0:10] > 0).all()
    assert other.box == (0.0, 0.0, 18.0, 9.0)
    again = mirrored(other, mirror)
    assert (again.parts == whole).all() and (again.pixels == pixels).all()
