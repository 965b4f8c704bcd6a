"""What render-views does: finds CADs, writes views, sheet and attributions."""

import json

import numpy as np
import pytest
from PIL import Image
from views.cad_samples import chair, obj_text

from featmesh.apps.render_views import Source, pictures_of, read_source, render
from featmesh.errors import InputError
from featmesh.views.generate_config import GenerateConfig
from featmesh.views.record import read_views

EASY = GenerateConfig(category="chair", width=(96, 120), share_small=0.0)


@pytest.fixture
def folder(tmp_path):
    cads = tmp_path / "cads"
    cads.mkdir()
    groups = ["leg", "leg", "leg", "leg", "seat", "back"]
    (cads / "a.obj").write_text(obj_text(chair(), groups.__getitem__))
    (cads / "b.off").write_text("OFF\n")
    return cads


def test_a_folder_becomes_labelled_views(folder, tmp_path):
    cads, weights, refused = read_source(Source(str(folder), parts="g"), "chair")
    assert weights == () and len(refused) == 1 and refused[0].startswith("b.off: E_MESH_EMPTY")
    out = tmp_path / "out"
    told = render(cads, (), out, (3, 0, 1), EASY)
    assert told["parts"] == ["leg", "seat", "back"] and told["count"] == 3
    assert json.loads((out / "views.json").read_text())["part_names"] == told["parts"]
    for view in read_views(out / "views.json"):
        assert view.category == "chair"
        with Image.open(view.parts) as parts, Image.open(view.mask) as mask:
            assert not np.asarray(parts)[np.asarray(mask) == 0].any()
    assert (out / "ATTRIBUTION.txt").read_text() == "a.obj: not stated [a.obj]\n"
    with Image.open(told["sheet"]) as sheet:
        assert sheet.size == (8 * 160, 4 * 160)


def test_what_is_no_source_is_named():
    with pytest.raises(InputError, match="expected a folder of CADs or a category"):
        read_source(Source("no/such/teapots"), "teapot")


def test_halves_of_the_pictures(tmp_path):
    for k in range(1, 5):
        pixels = np.full((16, 16, 3), 50 * k, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p_{k:04d}.png")
    values = {half: [int(p[0, 0, 0]) // 50 for p in pictures_of(tmp_path, half, ())]
              for half in ("first", "second", "all")}  # fmt: skip
    assert values == {"first": [1, 2], "second": [3, 4], "all": [1, 2, 3, 4]}
    assert len(pictures_of(tmp_path, "all", (2, 3))) == 2
    assert pictures_of(None, "all", ()) == ()
