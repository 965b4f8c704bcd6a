"""Claims about filling textures from photos: the painted car's own texture is found again."""

from dataclasses import replace

import pytest
import torch
from fixtures import CHANNELS, car_mesh, car_model, car_views, lift

from featmesh.learn import augment
from featmesh.learn.correspondence import sample_of
from featmesh.learn.fill_texture import (
    VertexFiller,
    fill_texture,
    fit_graph_texture,
    gather,
    graph_painter,
    nearest_anchor,
    surface_error,
    texels_of,
)
from featmesh.model.texture_map import TextureMap


def painted_model():
    """The painted car with a texture that knows nothing, for crops of one object in the photo."""
    model = car_model()
    rows = torch.randn(model.texture.shape, generator=torch.Generator().manual_seed(0))
    return replace(model, texture=torch.nn.functional.normalize(rows, dim=1))


@pytest.fixture(scope="module", autouse=True)
def _same_light():
    """Colours are positions here: no other light."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "_recolour", lambda pixels, _rng: pixels)
        yield


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    views = car_views(tmp_path_factory.mktemp("views"), 12)
    return [sample_of(view, car_mesh()) for view in views]


@pytest.fixture(scope="module")
def bank(samples):
    model = painted_model()
    filler = VertexFiller(model)
    gather(model, samples, [filler])
    return model, filler


def cosine(texture):
    return (texture * lift(car_mesh().vertices.float())).sum(1)


def test_a_vertex_texture_is_found_where_anchors_are_seen(bank):
    model, filler = bank
    texture = filler.texture()
    assert 0.5 < filler.seen.float().mean() < 1  # nobody sees it from below
    torch.testing.assert_close(texture.norm(dim=1), torch.ones(len(texture)))
    # half of the crops are mirrored, the paint is not: near, not equal
    assert cosine(texture)[filler.seen].median() > 0.65
    assert torch.equal(texture[~filler.seen], model.texture[~filler.seen])


def test_one_call_fills_a_vertex_texture(bank, samples):
    model, filler = bank
    assert torch.equal(fill_texture(model, samples, "vertex"), filler.texture())


def test_a_map_is_found_and_filled(bank, samples):
    model, filler = bank
    chart = fill_texture(model, samples, "uv", (64, 96))
    assert isinstance(chart, TextureMap) and chart.texels.shape == (64, 96, CHANNELS)
    assert 0.4 < chart.coverage().vertices < 1
    at = chart.at_vertices()
    assert cosine(at)[filler.seen].median() > 0.65
    assert (at * filler.texture()).sum(1)[filler.seen].median() > 0.9
    assert cosine(at)[~filler.seen].mean() > cosine(filler.texture())[~filler.seen].mean() + 0.1


def test_a_graph_network_learns_a_texture(bank):
    model, _ = bank
    shape = graph_painter(model)
    kept = {k: v.clone() for k, v in shape.state_dict().items() if not k.startswith("paint.")}
    truth = lift(car_mesh().vertices.float())
    reached = fit_graph_texture(shape, truth, steps=60, whole=False)
    assert reached > 0.7
    assert (shape.texture() * truth).sum(1).mean().item() == pytest.approx(reached, abs=0.02)
    after = shape.state_dict()
    assert all(torch.equal(after[k], v) for k, v in kept.items())  # the shape is as it was
    assert not torch.equal(graph_painter(model, 1).entry.weight, shape.entry.weight)


def test_features_are_found_at_their_place():
    mesh = car_mesh()
    vertices = mesh.vertices.float()
    error = surface_error(lift(vertices), vertices, lift(vertices), vertices)
    assert error.max() == 0
    assert torch.equal(nearest_anchor(lift(vertices), lift(vertices)), torch.arange(len(vertices)))
    other = vertices.roll(1, 0)
    moved = surface_error(lift(vertices), other, lift(vertices), vertices)
    torch.testing.assert_close(moved, (vertices - other).norm(dim=1))


def test_texels_are_places_on_the_surface():
    chart = TextureMap.initial(car_mesh(), 8, (64, 96), torch.Generator().manual_seed(0))
    features, places = texels_of(chart)
    assert len(features) == len(places) == int(chart.atlas.used.sum())
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    low, high = car_mesh().vertices.amin(0), car_mesh().vertices.amax(0)
    assert (places >= low - 1e-3).all() and (places <= high + 1e-3).all()
