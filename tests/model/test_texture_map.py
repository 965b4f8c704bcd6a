"""Claims about texture maps: they remember what is seen, fill what is not, and show no seams."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from fixtures import CHANNELS, car_mesh, lift
from torch.nn import functional

from featmesh.draws import generator
from featmesh.model.texture_map import TextureMap

SIZE = (64, 96)
MESH = car_mesh()


def empty(size: tuple[int, int] = SIZE) -> TextureMap:
    return TextureMap.initial(MESH, CHANNELS, size, torch.Generator().manual_seed(0))


def points(count: int, faces: torch.Tensor | None = None, seed: int = 0):
    """Points drawn over some faces: face, weights, positions."""
    rng = generator(seed, "texture map tests")
    chosen = torch.arange(len(MESH.faces)) if faces is None else faces
    face = chosen[torch.from_numpy(rng.integers(0, len(chosen), count))]
    bary = torch.from_numpy(rng.dirichlet(np.ones(3), count)).float()
    return face, bary, (MESH.corners.float()[face] * bary[..., None]).sum(1)


@lru_cache
def painted(from_above: bool = False, size: tuple[int, int] = SIZE) -> TextureMap:
    """A map that has seen the whole surface, or what does not look down."""
    face, bary, where = points(40_000, upper() if from_above else None)
    return empty(size).updated(lift(where), face, bary, 1.0)


def upper() -> torch.Tensor:
    """Faces that do not look down."""
    normals = functional.normalize(MESH.face_normals, dim=1)
    return (normals[:, 2] > -0.5).nonzero()[:, 0]


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(1)


@pytest.mark.parametrize("size", [SIZE, (96, 144)])
def test_every_surface_point_gets_its_own_feature_back(size: tuple[int, int]) -> None:
    chart = painted(size=size)
    face, bary, where = points(3000, seed=1)
    told = chart.sample(face, bary)
    torch.testing.assert_close(told.norm(dim=1), torch.ones(3000))
    assert cosine(told, lift(where)).min() > 0.97
    assert cosine(chart.at_vertices(), lift(MESH.vertices.float())).min() > 0.97


def test_both_sides_of_a_seam_agree() -> None:
    chart = painted()
    seam = torch.bincount(chart.atlas.corner_vertex) > 1
    corner = MESH.faces.reshape(-1)
    face = torch.arange(len(MESH.faces)).repeat_interleave(3)
    told = chart.sample(face, torch.eye(3).repeat(len(MESH.faces), 1))
    here = chart.at_vertices()[corner]
    assert cosine(told, here)[seam[corner]].min() > 0.97


def test_what_was_not_seen_is_filled_across_seams() -> None:
    chart = painted(True)
    filled = chart.filled()
    unseen = torch.ones(len(MESH.vertices), dtype=torch.bool)
    unseen[MESH.faces[upper()].unique()] = False
    assert unseen.sum() > 50
    truth = lift(MESH.vertices.float())[unseen]
    before = cosine(chart.at_vertices()[unseen], truth).mean()
    after = cosine(filled.at_vertices()[unseen], truth).mean()
    assert before < 0.2 and after > 0.5
    assert torch.equal(filled.weight, chart.weight)
    seen = chart.weight > 0
    assert torch.equal(filled.texels[seen], chart.texels[seen])


def test_a_constant_texture_is_filled_with_the_constant() -> None:
    face, bary, _ = points(20_000, upper())
    constant = functional.normalize(torch.ones(CHANNELS), dim=0)
    filled = empty().updated(constant.expand(len(face), -1), face, bary, 1.0).filled()
    used = filled.atlas.used
    torch.testing.assert_close(
        filled.texels[used], constant.expand(int(used.sum()), -1), atol=1e-5, rtol=0
    )


def test_coverage_counts_what_was_seen() -> None:
    nothing = empty().coverage()
    assert (nothing.texels, nothing.area, nothing.vertices) == (0, 0, 0)
    everything = painted().coverage()
    assert everything.texels > 0.99 and everything.area > 0.999 and everything.vertices == 1
    faces = upper()
    part = painted(True).coverage()
    area = MESH.face_normals.norm(dim=1)
    assert part.area == pytest.approx(float(area[faces].sum() / area.sum()), abs=0.03)
    vertices = len(MESH.faces[faces].unique()) / len(MESH.vertices)
    assert part.vertices == pytest.approx(vertices, abs=0.01)


def at_one_texel() -> tuple[TextureMap, torch.Tensor, torch.Tensor, int]:
    """A map with one feature seen once, the point it was seen at, and its heaviest texel."""
    chart = empty()
    face, bary = torch.tensor([7]), torch.tensor([[0.3, 0.3, 0.4]])
    index, share = chart.atlas.locate(face, bary)
    return chart, face, bary, int(index[0, share.argmax()])


def test_the_first_feature_seen_replaces_what_was_drawn() -> None:
    chart, face, bary, _ = at_one_texel()
    feature = lift(torch.tensor([[0.1, 0.2, 0.1]]))
    for momentum in (0.9, 1.0):
        told = chart.updated(feature, face, bary, momentum).sample(face, bary)
        torch.testing.assert_close(told, feature)


def test_momentum_1_is_the_mean_and_0_forgets() -> None:
    chart, face, bary, texel = at_one_texel()
    one, two = lift(torch.tensor([[0.1, 0.2, 0.1], [-0.1, 0.3, 0.0]])).split(1)
    kept = chart.updated(one, face, bary, 1.0).updated(two, face, bary, 1.0)
    torch.testing.assert_close(kept.texels.flatten(0, 1)[texel], ((one + two) / 2)[0])
    together = chart.updated(torch.cat([one, two]), face.repeat(2), bary.repeat(2, 1), 1.0)
    torch.testing.assert_close(together.texels, kept.texels)
    torch.testing.assert_close(together.weight, kept.weight)
    often = torch.cat([two] * 9)  # so that the texel receives more than a whole feature
    fresh = chart.updated(one, face, bary, 0.0).updated(
        often, face.repeat(9), bary.repeat(9, 1), 0.0
    )
    torch.testing.assert_close(fresh.texels.flatten(0, 1)[texel], two[0])


def test_seldom_seen_texels_forget_slowly() -> None:
    """A texel that gets a tenth of a feature keeps momentum ** .1 of what it knew."""
    chart, face, bary, texel = at_one_texel()
    index, share = chart.atlas.locate(face, bary)
    w = float(share[0][index[0] == texel].sum())
    one, two = lift(torch.tensor([[0.1, 0.2, 0.1], [-0.1, 0.3, 0.0]])).split(1)
    moved = chart.updated(one, face, bary, 0.5).updated(two, face, bary, 0.5)
    old = 0.5**w * w
    expected = (old * one + w * two)[0] / (old + w)
    torch.testing.assert_close(moved.texels.flatten(0, 1)[texel], expected)
    assert float(moved.weight.reshape(-1)[texel]) == pytest.approx(old + w)


def test_an_update_touches_only_the_texels_of_its_points() -> None:
    chart, face, bary, _ = at_one_texel()
    moved = chart.updated(lift(torch.zeros(1, 3)), face, bary, 0.5)
    index, _ = chart.atlas.locate(face, bary)
    changed = (moved.texels != chart.texels).any(-1).reshape(-1).nonzero()[:, 0]
    assert set(changed.tolist()) <= set(index[0].tolist())
    assert not chart.weight.any()  # the map it came from is as it was


def test_nothing_seen_changes_nothing_and_cannot_be_filled() -> None:
    chart = empty()
    none = torch.zeros(0, dtype=torch.long), torch.zeros(0, 3)
    same = chart.updated(torch.zeros(0, CHANNELS), *none, 0.5)
    assert torch.equal(same.texels, chart.texels) and not same.weight.any()
    assert chart.filled() is chart


def test_the_map_does_not_depend_on_where_the_vertices_are() -> None:
    """A deformation carries the texture along: same face, same weights, same feature."""
    chart = painted()
    bent = MESH.with_vertices(MESH.vertices * torch.tensor([1.3, 0.8, 1.1]))
    other = TextureMap.initial(bent, CHANNELS, SIZE, torch.Generator().manual_seed(0))
    face, bary, where = points(40_000)
    other = other.updated(lift(where), face, bary, 1.0)
    torch.testing.assert_close(other.at_vertices(), chart.at_vertices())
