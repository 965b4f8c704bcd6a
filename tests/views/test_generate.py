"""Rendered views: what the record says is what the photo shows, and the key decides everything."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from featmesh.errors import DatasetError
from featmesh.geometry.pose import Pose
from featmesh.geometry.viewpoint import Viewpoint
from featmesh.views.cad import Cad, CadPart
from featmesh.views.generate import (
    GenerateConfig,
    generate_view,
    read_backgrounds,
    render_views,
)

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) / 2
SQUARES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([t for a, b, c, d in SQUARES for t in ((a, b, c), (a, c, d))])
EASY = GenerateConfig(
    width=(96, 120), share_small=0.0, share_truncated=0.0, share_occluded=0.0, span=(0.4, 0.9)
)


def block(low, high, colour, opacity=1.0, texture=None):
    low, high = np.array(low), np.array(high)
    vertices = (CUBE + 0.5) * (high - low) + low
    uv = None if texture is None else np.zeros((len(FACES), 3, 2)) + 0.5
    return CadPart(vertices, FACES, uv, texture, colour, opacity)


def toy():
    """A body with a cabin of glass and a small front, bright as a lamp, at -y."""
    half = np.array([0.4, 0.86, 0.3]) / np.linalg.norm([0.4, 0.86, 0.3]) / 2
    x, y, z = half
    skin = np.full((2, 2, 3), 128, np.uint8)
    parts = (
        block((-x, -y * 0.6, -z), (x, y, 0.0), (0.5, 0.5, 0.5)),
        block((-x, -y, -z), (x, -y * 0.6, 0.0), (0.9, 0.0, 0.9)),
        block((-x * 0.8, -y * 0.4, 0.0), (x * 0.8, y * 0.8, z), (0.1, 0.1, 0.1), 0.4),
        block((-x * 0.5, -y * 0.3, -z * 0.5), (x * 0.5, y * 0.3, 0.1), (1.0, 1.0, 1.0), 1.0, skin),
    )
    return Cad("toy", parts, "CC0", "made here")


TOY = toy()
PICTURES = [np.full((40, 60, 3), k, np.uint8) for k in (60, 180)]


def numbers(view):
    return (np.array(view.record[k], float) for k in ("K", "R", "t"))


def projected(view):
    """Pixels of the toy's corners by the record alone."""
    K, R, t = numbers(view)
    vertices = np.concatenate([p.vertices for p in TOY.parts]) * view.record["stretch"]
    points = (vertices @ R.T + t) @ K.T
    return points[:, :2] / points[:, 2:]


@pytest.mark.parametrize("index", range(6))
def test_the_mask_fills_the_box_of_the_projected_object(index):
    view = generate_view([TOY], PICTURES, 1, index, EASY)
    pixels = projected(view)
    x0, y0, x1, y1 = view.record["box"]
    np.testing.assert_allclose([x0, y0], pixels.min(0), atol=0.01)
    np.testing.assert_allclose([x1, y1], pixels.max(0), atol=0.01)
    rows, columns = np.nonzero(view.amodal)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(seen, [x0, y0, x1, y1], atol=1.6)
    assert view.record["truncated"] == 0


@pytest.mark.parametrize("index", range(4))
def test_angles_and_distance_are_those_of_the_ray_to_the_centre(index):
    view = generate_view([TOY], PICTURES, 2, index, GenerateConfig(width=(96, 120)))
    _, R, t = numbers(view)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    seen = Viewpoint.from_pose(Pose(torch.from_numpy(R), torch.from_numpy(t)))
    record = view.record
    assert math.degrees(seen.azimuth) == pytest.approx(record["azimuth"], abs=1e-6)
    assert math.degrees(seen.elevation) == pytest.approx(record["elevation"], abs=1e-6)
    assert math.degrees(seen.theta) == pytest.approx(record["theta"], abs=1e-6)
    assert seen.distance == pytest.approx(record["distance"])


def test_seen_from_its_left_the_object_heads_left():
    checked = 0
    for index in range(40):
        view = generate_view([TOY], [], 3, index, EASY)
        side = math.sin(math.radians(view.record["azimuth"]))
        if abs(side) < 0.8:
            continue
        r, g, b = (view.pixels[..., k].astype(float) for k in range(3))
        lamp = ((r + b) / 2 - g) * view.amodal
        if lamp.max() < 40:  # a grey photo
            continue
        front = np.nonzero(lamp > lamp.max() / 2)[1].mean()
        middle = np.nonzero(view.amodal)[1].mean()
        assert (front < middle) == (side > 0)
        checked += 1
    assert checked > 8


def test_the_object_is_seen_where_the_mask_is():
    """Against black, without noise worth naming, the bright object is inside its mask only."""
    black = [np.zeros((50, 50, 3), np.uint8)]
    plain = GenerateConfig(**{**EASY.__dict__, "share_flat_ground": 0.0})
    contrasts = []
    for index in range(12):
        view = generate_view([TOY], black, 4, index, plain)
        inside = view.pixels[view.amodal].mean()
        contrasts.append(inside - view.pixels[~view.amodal].mean())
    assert np.median(contrasts) > 25


def test_shares_of_the_config_are_kept():
    config = GenerateConfig(width=(96, 120), share_truncated=1.0, share_small=0.0)
    for index in range(5):
        assert 0.02 < generate_view([TOY], [], 5, index, config).record["truncated"] < 0.65
    config = GenerateConfig(width=(200, 220), share_small=1.0, share_truncated=0.0)
    for index in range(5):
        box = generate_view([TOY], [], 5, index, config).record["box"]
        assert 12 < box[3] - box[1] < 110
    config = GenerateConfig(width=(96, 120), share_occluded=1.0, share_truncated=0.0)
    for index in range(5):
        view = generate_view([TOY], PICTURES, 5, index, config)
        assert 0.15 < view.record["visible"] < 0.85
        assert not (view.mask & ~view.amodal).any()
        assert view.mask.sum() < view.amodal.sum()


def test_only_the_key_decides():
    first = generate_view([TOY], PICTURES, 7, 3, EASY)
    generate_view([TOY], PICTURES, 8, 1, EASY)
    again = generate_view([toy()], PICTURES, 7, 3, EASY)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.record == again.record
    assert generate_view([TOY], PICTURES, 7, 4, EASY).record != first.record


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_workers_and_resuming_change_nothing(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    render_views([TOY], PICTURES, one, 5, 0, EASY)
    render_views([TOY], PICTURES, other, 2, 0, EASY)
    kept = (other / "photos/000001.jpg").stat().st_mtime_ns
    (other / "records/000000.json").unlink()  # as if it had been interrupted there
    path = render_views([TOY], PICTURES, other, 5, 0, EASY, workers=2)
    assert files(one) == files(other)
    assert (other / "photos/000001.jpg").stat().st_mtime_ns == kept
    views = json.loads(path.read_text())
    assert views["schema"] == 1
    assert [v["image"] for v in views["views"]] == [f"photos/{k:06d}.jpg" for k in range(5)]
    for view in views["views"]:
        with Image.open(other / view["image"]) as photo, Image.open(other / view["mask"]) as mask:
            assert photo.size == mask.size == (view["width"], view["height"])
            assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_a_folder_begun_with_another_seed_is_refused(tmp_path):
    render_views([TOY], PICTURES, tmp_path, 1, 0, EASY)
    with pytest.raises(DatasetError, match=r"E_VIEWS.*same seed.*try: another --out"):
        render_views([TOY], PICTURES, tmp_path, 1, 1, EASY)


def test_no_cads_and_wrong_weights_are_named():
    for cads, config in (([], EASY), ([TOY], GenerateConfig(weights=(1.0, 2.0)))):
        with pytest.raises(DatasetError, match="E_VIEWS: render-views: expected CADs"):
            generate_view(cads, [], 0, 0, config)


def test_an_impossible_config_ends():
    impossible = GenerateConfig(width=(96, 96), focal=(0.6, 0.61), distance=(0.1, 0.11))
    with pytest.raises(DatasetError, match="expected a camera that shows the object"):
        generate_view([TOY], [], 0, 0, impossible)


def test_backgrounds_are_the_first_half_without_those_left_out(tmp_path):
    for k in range(1, 9):
        Image.new("RGB", (16, 16), (k * 20, 0, 0)).save(
            tmp_path / f"image_{k:04d}.jpg", quality=100
        )
    half = read_backgrounds(tmp_path, leave_out=(2,))
    assert [round(int(p[0, 0, 0]) / 20) for p in half] == [1, 3, 4]
    assert len(read_backgrounds(tmp_path, first_half=False)) == 8
    with pytest.raises(DatasetError, match="E_IO"):
        read_backgrounds(tmp_path / "nothing")


def test_the_second_half_is_for_evaluation(tmp_path):
    for k in range(1, 8):
        Image.new("RGB", (16, 16), (k * 20, 0, 0)).save(
            tmp_path / f"image_{k:04d}.jpg", quality=100
        )
    first = read_backgrounds(tmp_path)
    second = read_backgrounds(tmp_path, second_half=True)
    numbers = [[round(int(p[0, 0, 0]) / 20) for p in half] for half in (first, second)]
    assert numbers == [[1, 2, 3], [4, 5, 6, 7]]


def test_occluders_of_a_level_change_nothing_else():
    clean = generate_view([TOY], PICTURES, 9, 0, EASY)
    config = GenerateConfig(**{**EASY.__dict__, "share_occluded": 1.0, "level": "L2"})
    hidden = generate_view([TOY], PICTURES, 9, 0, config)
    np.testing.assert_array_equal(clean.amodal, hidden.amodal)
    assert clean.record["R"] == hidden.record["R"] and clean.record["K"] == hidden.record["K"]
    assert hidden.record["occlusion_level"] == "L2" and 0.35 < hidden.record["visible"] < 0.65


def test_exposure_makes_the_object_brighter():
    def brightness(exposure):
        config = GenerateConfig(**{**EASY.__dict__, "exposure": exposure})
        views = [generate_view([TOY], PICTURES, 10, k, config) for k in range(8)]
        return np.mean([v.pixels[v.amodal].mean() for v in views])

    assert brightness((1.99, 2.0)) > brightness((0.49, 0.5)) + 20


def test_an_interrupted_run_leaves_no_work_behind(tmp_path, monkeypatch):
    from featmesh.views import generate

    def interrupted(items, total, label):
        for k, item in enumerate(items):
            if k == 2:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(generate, "track", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_views([TOY], PICTURES, tmp_path, 40, 0, EASY, workers=2)
    done = len(list((tmp_path / "records").glob("*.json")))
    assert 2 <= done < 20
    assert not (tmp_path / "views.json").exists()
    monkeypatch.undo()
    render_views([TOY], PICTURES, tmp_path, done + 1, 0, EASY)
    assert (tmp_path / "views.json").exists()
