"""Public CADs: which are only reported on, what is missing is named, licences are quoted."""

import zipfile

import pytest
from views.cad_samples import blocks, chair, obj_text

from featmesh.errors import DatasetError
from featmesh.views import cad_sources
from featmesh.views.cad_sources import (
    FLIGHTGEAR_LICENCE,
    GPL_SOURCES,
    SOURCES,
    Items,
    Model,
    attributions,
    held_out,
    read_reported_cads,
    read_training_cads,
    training_weights,
)


def off_text(cad):
    (part,) = cad.parts
    rows = [" ".join(map(str, v)) for v in part.vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in part.faces.tolist()]
    return "\n".join(["OFF", f"{len(part.vertices)} {len(part.faces)} 0", *rows]) + "\n"


@pytest.fixture
def pascal3d(tmp_path):
    for category, count in (("chair", 7), ("diningtable", 4)):
        folder = tmp_path / "cads" / category
        folder.mkdir(parents=True)
        for k in range(1, count + 1):
            (folder / f"{k:02d}.off").write_text(off_text(chair()))
    return tmp_path / "cads"


@pytest.fixture
def furniture(tmp_path):
    """A catalogue with two chairs and a table that is long along its depth."""
    table = blocks(((0, 0, 0), (2.0, 0.7, 1.0)))  # y is up in the file, so long along x and z
    long = blocks(((0, 0, 0), (1.0, 0.7, 2.0)))
    items = [("Chair", chair()), ("Chair", chair()), ("Table", table), ("Table", long)]
    text = "license=Public domain\n"
    with zipfile.ZipFile(tmp_path / "Test.sh3f", "w") as archive:
        for k, (name, cad) in enumerate(items, 1):
            text += f"name#{k}={name}\nmodel#{k}=/m{k}/m.obj\ncreator#{k}=Somebody\n"
            archive.writestr(f"m{k}/m.obj", obj_text(cad))
        archive.writestr("PluginFurnitureCatalog.properties", text)
    return tmp_path


@pytest.fixture
def flightgear(tmp_path):
    """FlightGear's data with a wedge of 1 x 2 x 4, nose -x and up +y, and a lamp beside it."""
    wedge = "numvert 4\n-2 0 0\n2 0 -0.5\n2 0 0.5\n2 2 0\nnumsurf 2\n"
    for corners in ((0, 1, 2), (1, 2, 3)):
        wedge += "SURF 0x10\nmat 0\nrefs 3\n" + "".join(f"{k} 0 0\n" for k in corners)
    text = 'AC3Db\nMATERIAL "a" rgb 1 0 0 trans 0\nOBJECT world\nkids 2\n'
    text += f'OBJECT poly\nname "hull"\n{wedge}kids 0\n'
    text += f'OBJECT poly\nname "flag"\nloc 9 0 0\n{wedge}kids 0\n'
    (tmp_path / "Models").mkdir()
    (tmp_path / "Models" / "wedge.ac").write_text(text)
    return tmp_path


@pytest.mark.parametrize(("count", "last"), [(4, ("04",)), (5, ("05",)), (6, ("05", "06")),
                                             (10, ("09", "10"))])  # fmt: skip
def test_the_last_ones_are_held_out(count, last):
    names = [f"{k:02d}" for k in range(1, count + 1)]
    assert held_out(names) == last
    assert held_out(names[::-1]) == last


def test_reported_cads_are_never_trained_on(pascal3d, furniture, monkeypatch):
    monkeypatch.setitem(SOURCES, "chair", (Items("Test", "chair", "m2"),))
    train = read_training_cads("chair", pascal3d, furniture)
    reported = read_reported_cads("chair", pascal3d)
    assert [c.name for c in reported] == ["chair/06", "chair/07"]
    assert [c.name for c in train] == ["Chair", *(f"chair/{k:02d}" for k in range(1, 6))]
    assert all(part.material for cad in reported for part in cad.parts)


def test_plain_cads_are_drawn_often_enough(pascal3d, furniture, monkeypatch):
    monkeypatch.setitem(SOURCES, "chair", (Items("Test", "chair"),) * 10)
    cads = read_training_cads("chair", pascal3d, furniture)
    weights = training_weights(cads)
    assert len(weights) == len(cads) == 25
    assert sum(weights[20:]) / sum(weights) == pytest.approx(0.4)
    assert training_weights(cads[:3]) == (1.0, 1.0, 1.0)


def test_tables_are_long_along_x(pascal3d, furniture, monkeypatch):
    monkeypatch.setitem(SOURCES, "diningtable", (Items("Test", "table"),))
    for cad in read_training_cads("diningtable", None, furniture):
        assert cad.extent[0] == pytest.approx(2 * cad.extent[1])


def test_attributions_quote_licence_author_and_source(furniture, monkeypatch):
    monkeypatch.setitem(SOURCES, "chair", (Items("Test", "chair", "m2"),))
    lines = attributions(read_training_cads("chair", None, furniture))
    assert lines == ["Chair: Public domain; by Somebody [Test.sh3f:m1/m.obj]"]


def test_every_cad_has_a_name_of_its_own(furniture, monkeypatch):
    monkeypatch.setitem(SOURCES, "chair", (Items("Test", "chair|table"),))
    names = [cad.name for cad in read_training_cads("chair", None, furniture)]
    assert len(set(names)) == len(names) == 4
    assert names[0].startswith("Chair (m)")


def test_cads_under_the_gpl_come_only_when_asked_for(pascal3d, furniture, flightgear, monkeypatch):
    """They stand before PASCAL3D+'s, which are still drawn often enough."""
    monkeypatch.setitem(SOURCES, "chair", (Items("Test", "chair", "m2"),))
    ship = Model("Models/wedge", leave_out="^flag")
    monkeypatch.setitem(GPL_SOURCES, "chair", (ship,) * 9)
    assert len(read_training_cads("chair", pascal3d, furniture)) == 6
    cads = read_training_cads("chair", pascal3d, furniture, flightgear)
    assert len(cads) == 15
    assert [c.licence == FLIGHTGEAR_LICENCE for c in cads] == [False] + [True] * 9 + [False] * 5
    assert len({cad.name for cad in cads[:2]}) == 2
    weights = training_weights(cads)
    assert sum(weights[10:]) / sum(weights) == pytest.approx(0.4)
    assert "GPL-2+" in attributions(cads)[1] and "Models/wedge.ac" in attributions(cads)[1]


def test_models_are_turned_cut_and_coupled(furniture, flightgear, monkeypatch):
    def extent(model):
        monkeypatch.setitem(GPL_SOURCES, "train", (model,))
        (cad,) = read_training_cads("train", None, furniture, flightgear)
        return cad.extent / cad.extent[2]

    assert extent(Model("Models/wedge", leave_out="^flag")) == pytest.approx([0.5, 2, 1])
    assert extent(Model("Models/wedge", turn=90.0, leave_out="^flag")) == pytest.approx([2, 0.5, 1])
    assert extent(Model("Models/wedge")) == pytest.approx([0.5, 6.5, 1])
    coupled = Model("Models/wedge", leave_out="^flag", behind=("Models/wedge",) * 2)
    assert extent(coupled) == pytest.approx([0.5, 6, 1])


def test_missing_flightgear_data_are_named(furniture, flightgear, tmp_path, monkeypatch):
    hint = r"no such file of FlightGear's data; try: apt-get install flightgear-data-ai"
    with pytest.raises(DatasetError, match=hint):
        read_training_cads("train", None, furniture, tmp_path / "nowhere")
    monkeypatch.setitem(GPL_SOURCES, "train", (Model("Models/wedge", skins="Textures/KLM"),))
    with pytest.raises(DatasetError, match="KLM.*" + hint):
        read_training_cads("train", None, furniture, flightgear)


def test_what_is_missing_is_named(pascal3d, furniture, tmp_path):
    with pytest.raises(DatasetError, match=r"try: apt-get install sweethome3d-furniture"):
        read_training_cads("bus", pascal3d, tmp_path)
    with pytest.raises(DatasetError, match=r"01.off, 02.off"):
        read_training_cads("train", tmp_path)
    with pytest.raises(DatasetError, match=r"a category of aeroplane"):
        read_training_cads("teapot", pascal3d)
    with pytest.raises(DatasetError, match=r"the PASCAL3D\+ CADs as well"):
        read_training_cads("train", None)


def test_every_source_is_a_catalogue_of_the_package():
    known = {"BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Scopia"}
    assert {items.catalogue for sources in SOURCES.values() for items in sources} == known
    assert cad_sources.FURNITURE.name == "furniture"
    for category, models in GPL_SOURCES.items():
        assert category in SOURCES
        assert len({model.file for model in models}) == len(models)
