"""Part labels of CADs: groups, vertices, and the label images of rendered photos."""

import json

import numpy as np
import pytest
from views.cad_samples import chair, obj_text

from featmesh.errors import DatasetError, InputError
from featmesh.views.cad import read_cad
from featmesh.views.cad_labels import joined, with_group_labels, with_vertex_labels
from featmesh.views.generate import GenerateConfig, generate_view, part_names
from featmesh.views.materials import dressed

EASY = GenerateConfig(width=(96, 120), share_small=0.0, share_truncated=0.0, share_occluded=0.0)
GROUPS = ["leg", "leg", "leg", "leg", "seat", "back"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "chair.obj"
    path.write_text(obj_text(chair(), GROUPS.__getitem__))
    return path


@pytest.mark.parametrize("up", ["z", "y"])
def test_groups_name_the_faces_in_any_frame(file, up):
    cad = with_group_labels(read_cad(file, up=up), file, "g")
    assert cad.part_names == ("leg", "seat", "back")
    np.testing.assert_array_equal(cad.parts[0].labels, np.repeat([1, 1, 1, 1, 2, 3], 12))


def test_labels_of_vertices_go_to_the_faces(file, tmp_path):
    labels = tmp_path / "labels.json"
    of_vertex = [int(k >= 32) + int(k >= 40) for k in range(48)]
    labels.write_text(json.dumps({"names": ["seat", "back"], "vertices": of_vertex}))
    cad = with_vertex_labels(read_cad(file), file, labels)
    np.testing.assert_array_equal(cad.parts[0].labels, np.repeat([0, 0, 0, 0, 1, 2], 12))


def test_labels_stay_with_their_faces_when_materials_come(file):
    cad = dressed(with_group_labels(read_cad(file), file, "g"), "chair")
    legs = [p for p in cad.parts if p.material == "leg"]
    assert all((p.labels == 1).all() for p in legs) and len(legs) == 1
    others = np.concatenate([p.labels for p in cad.parts if p.material != "leg"])
    assert sorted(np.unique(others)) == [2, 3]


@pytest.mark.parametrize("index", range(4))
def test_label_images_show_the_parts(file, index):
    cad = with_group_labels(read_cad(file), file, "g")
    view = generate_view([cad], [], 0, index, EASY)
    assert view.parts.dtype == np.uint8 and view.parts.shape == view.mask.shape
    assert not view.parts[~view.mask].any()
    assert (view.parts[view.mask] > 0).all()  # every face of this one has a name
    rows = {k: np.nonzero(view.parts == k)[0].mean() for k in (1, 3) if (view.parts == k).any()}
    if len(rows) == 2 and abs(view.record["elevation"]) < 30:
        assert rows[3] < rows[1]  # the back is above the legs


def test_occluders_hide_parts(file):
    cad = with_group_labels(read_cad(file), file, "g")
    config = GenerateConfig(width=(96, 120), share_small=0.0, share_occluded=1.0, level="L2")
    view = generate_view([cad], [], 0, 0, config)
    assert view.record["occlusion_level"] == "L2"
    assert not view.parts[~view.mask].any() and view.parts.any()


def test_unlabelled_cads_have_no_label_image():
    assert generate_view([chair()], [], 0, 0, EASY).parts is None


def test_lists_of_names_are_made_one(file, tmp_path):
    other = tmp_path / "other.obj"
    other.write_text(obj_text(chair(), ["back", "arm", "arm", "arm", "arm", "leg"].__getitem__))
    cads = [with_group_labels(read_cad(f), f, "g") for f in (file, other)] + [chair()]
    with pytest.raises(DatasetError, match=r"E_VIEWS.*joined"):
        part_names(cads)
    one, two, plain = joined(cads)
    assert part_names([one, two, plain]) == ["leg", "seat", "back", "arm"]
    assert np.unique(two.parts[0].labels).tolist() == [1, 3, 4]
    assert plain.part_names == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "JSON"),
        ('{"names": ["a"]}', "vertices"),
        ('{"names": ["a"], "vertices": [1]}', "48 vertices, got 1"),
        (json.dumps({"names": ["a"], "vertices": [2] * 48}), "numbers 0 to 1, got 2"),
        (json.dumps({"names": [], "vertices": [0] * 48}), "1 to 254 part names, got 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(file, tmp_path, text, told):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(InputError, match="E_LABELS") as caught:
        with_vertex_labels(read_cad(file), file, tmp_path / "labels.json")
    assert told in str(caught.value)


def test_labels_of_another_mesh_are_refused(file):
    stretched = chair()
    stretched.parts[0].vertices[:, 2] *= 1.5
    with pytest.raises(InputError, match=r"E_LABELS.*another mesh"):
        with_group_labels(stretched, file, "g")
    with pytest.raises(InputError, match="E_IO"):
        with_vertex_labels(chair(), file, file.with_name("nothing.json"))
