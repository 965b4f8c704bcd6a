"""Claims about finding the object: at several scales and places, with no box given."""

import numpy as np
import pytest
import torch
from fixtures import aside, background, box_of, car_mesh, car_model, look, photo_of, picture

from featmesh.geometry.camera import Camera
from featmesh.inference.config import LocateConfig
from featmesh.inference.locate import build_slides, locate, spread_vertices
from featmesh.inference.tables import slide_table
from featmesh.photo.photo import Photo

CONFIG = LocateConfig()


def overlap(a, b):
    """Intersection over union."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both)


def found_in(photo, config=CONFIG):
    return locate(photo, car_model(), slide_table(car_model(), config), config)


def camera(height=480, width=640):
    return Camera(700.0, 700.0, width / 2, height / 2, height, width)


@pytest.mark.parametrize(
    ("azimuth", "distance", "at"),
    [
        (70, 1.6, (320, 240)),  # fills the photo
        (120, 2.5, (250, 260)),
        (200, 4.0, (450, 330)),
        (300, 6.0, (120, 100)),
        (80, 9.0, (560, 400)),  # 70 pixels long
    ],
)
def test_the_object_is_found(azimuth, distance, at):
    pose = aside(look(azimuth, 12, 0, distance), camera(), at)
    found = found_in(photo_of(pose, camera()))
    assert overlap(found[0].box, box_of(pose, camera())) > 0.5
    assert found[0].score == max(c.score for c in found) > 0


@pytest.mark.parametrize("size", [(240, 320), (960, 1280), (640, 480), (300, 900)])
def test_in_photos_of_other_sizes(size):
    lens = Camera(float(size[1]), float(size[1]), size[1] / 2, size[0] / 2, *size)
    pose = aside(look(110, 15, 0, 3.5), lens, (0.4 * size[1], 0.55 * size[0]))
    assert overlap(found_in(photo_of(pose, lens))[0].box, box_of(pose, lens)) > 0.5


def test_both_of_two_objects_are_found():
    left = aside(look(60, 10, 0, 4.0), camera(), (160, 200))
    right = aside(look(200, 10, 0, 4.0), camera(), (480, 300))
    both = picture(left, camera())
    both[:, 320:] = picture(right, camera())[:, 320:]
    boxes = [c.box for c in found_in(Photo.from_array(both))]
    for pose in (left, right):
        assert max(overlap(b, box_of(pose, camera())) for b in boxes) > 0.5


def test_candidates_lie_in_the_photo_best_first_and_differ():
    pose = aside(look(30, 10, 0, 3.0), camera(), (40, 240))  # partly outside
    found = found_in(photo_of(pose, camera()))
    assert 1 <= len(found) <= CONFIG.candidates
    scores = [c.score for c in found]
    assert scores == sorted(scores, reverse=True)
    for k, candidate in enumerate(found):
        x0, y0, x1, y1 = candidate.box
        assert 0 <= x0 < x1 <= 640 and 0 <= y0 < y1 <= 480
        assert all(overlap(candidate.box, other.box) < 0.5 for other in found[:k])


def test_a_photo_without_the_object_gains_less():
    pose = look(60, 12, 0, 2.5)
    nothing = Photo.from_array(background((480, 640), 3))
    assert found_in(nothing)[0].score < 0.25 * found_in(photo_of(pose, camera()))[0].score


@pytest.mark.parametrize("size", [(16, 16), (16, 400), (33, 47)])
def test_the_smallest_photos_do_not_fail(size):
    assert found_in(Photo.from_array(background(size, 1)))


def test_slides_are_views_about_their_box_centre():
    table = build_slides(car_mesh(), CONFIG)
    views = CONFIG.azimuths * len(CONFIG.elevations)
    assert len(table.first) == views + 1 and len(table.half) == views
    assert len(table.chosen) == CONFIG.anchors and table.anchor.max() < CONFIG.anchors
    for k in range(views):
        rows = slice(table.first[k], table.first[k + 1])
        for offsets, half in (
            (table.dy[rows], table.half[k, 0]),
            (table.dx[rows], table.half[k, 1]),
        ):
            assert abs(offsets.min() + half) < 1.2  # a cell at most beyond the outline
            assert abs(offsets.max() + 1 - half) < 1.2


def test_spread_vertices_are_spread():
    vertices = car_mesh().vertices.numpy()
    chosen = spread_vertices(vertices, 60)
    assert len(set(chosen.tolist())) == 60
    left_over = np.linalg.norm(vertices[:, None] - vertices[chosen], axis=-1).min(1).max()
    between = torch.pdist(torch.from_numpy(vertices[chosen])).min()
    assert left_over <= float(between) + 1e-12  # the next would not be farther from all
    assert len(spread_vertices(vertices[:5], 60)) == 5
