"""Materials of plain CADs: the right faces get them, and none is lost."""

from dataclasses import replace

import numpy as np
import pytest
from views.cad_samples import blocks, chair, screen

from featmesh.views.materials import RULES, dressed


def faces_of(cad, name):
    """Corners of the faces of a material."""
    found = [p.vertices[p.faces] for p in cad.parts if p.material == name]
    return np.concatenate(found) if found else np.zeros((0, 3, 3))


@pytest.mark.parametrize("category", [*RULES, "teapot"])
def test_no_face_is_lost_and_none_is_moved(category):
    plain = chair()
    cad = dressed(plain, category)
    before = plain.parts[0].vertices[plain.parts[0].faces].reshape(-1, 9)
    after = np.concatenate([p.vertices[p.faces] for p in cad.parts]).reshape(-1, 9)
    np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
    for part in cad.parts:
        assert part.material
        assert part.uv is not None and part.uv.shape == (len(part.faces), 3, 2)
        assert np.isfinite(part.uv).all()


def test_a_chair_has_legs_below_its_seat():
    cad = dressed(chair(), "chair")
    height = np.ptp(chair().parts[0].vertices[:, 2])
    legs = faces_of(cad, "leg")[..., 2] / height + 0.5
    assert len(legs) == 4 * 12
    assert legs.max() < 0.5 / 1.2 + 1e-6
    above = np.concatenate([faces_of(cad, "seat"), faces_of(cad, "trim")])[..., 2] / height + 0.5
    assert above.min() > 0.4


def test_the_picture_of_a_screen_lies_on_its_front():
    (part,) = dressed(screen(), "tvmonitor").parts
    corners = part.vertices[part.faces]
    level = np.ptp(corners[..., 1], axis=1) < 1e-9
    front = level & (corners[..., 1].mean(1) < corners[..., 1].mean())
    panel = front & (np.ptp(corners[..., 0], axis=1) > 0.5)
    uv = part.uv[panel].reshape(-1, 2)
    # region 1: the right upper quarter, filled by the panel and not by the foot
    assert uv[:, 0].min() == pytest.approx(0.505) and uv[:, 0].max() == pytest.approx(0.995)
    assert uv[:, 1].min() < 0.52 and uv[:, 1].max() > 0.98


def test_wheels_are_rubber():
    turn = np.linspace(0, 2 * np.pi, 13)[:-1]
    rim = np.array([[0.0, np.cos(a) * 0.2 + 0.3, np.sin(a) * 0.2 + 0.2] for a in turn])
    body = blocks(((-0.5, -1, 0.15), (0.5, 1, 1.0)))
    part = body.parts[0]
    scale = np.linalg.norm([1, 2, 0.85])
    vertices = part.vertices * scale + (0, 0, 0.575)
    discs = [rim + np.array([x, y, 0.0]) for x in (-0.49, 0.49) for y in (-1, 0.4)]
    starts = [len(vertices) + 12 * n for n in range(4)]
    fans = [(s, s + k, s + k + 1) for s in starts for k in range(1, 11)]
    faces = np.concatenate([part.faces, fans])
    with_wheels = replace(part, vertices=np.concatenate([vertices, *discs]), faces=faces)
    whole = replace(body, parts=(with_wheels,))
    cad = dressed(whole, "bus")
    assert len(faces_of(cad, "rubber")) == 40
    assert len(faces_of(cad, "livery")) == 12


def test_textured_cads_and_cars_stay_as_they_are():
    textured = chair()
    skin = np.zeros((2, 2, 3), np.uint8)
    part = replace(textured.parts[0], texture=skin, uv=np.zeros((72, 3, 2)))
    textured = replace(textured, parts=(part,))
    assert dressed(textured, "chair") is textured
    plain = chair()
    assert dressed(plain, "car") is plain
    once = dressed(plain, "chair")
    assert dressed(once, "chair") is once
