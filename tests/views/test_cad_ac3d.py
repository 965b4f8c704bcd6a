"""AC3D files: where objects stand, the frame, bitmaps, what is left out, and every fault's code."""

import numpy as np
import pytest
from PIL import Image

from featmesh.errors import InputError
from featmesh.views import cad_ac3d
from featmesh.views.cad_ac3d import FLIGHTGEAR, read_ac3d

# FlightGear's frame: nose -x, up +y, so the left wing points to +z. A keel of 4 x 2 with its nose
# at -x, the longer edge at its left, a fin at its end, a lamp far away.
AC3D = """AC3Db
MATERIAL "red trans 1" rgb 1 0.5 0  amb 1 1 1  emis 0 0 0  spec 0.5 0.5 0.5  shi 10  trans 0
MATERIAL "glass" rgb 0 0 1  amb 1 1 1  emis 0 0 0  spec 0.5 0.5 0.5  shi 10  trans 0.75

OBJECT world
kids 3
OBJECT poly
name "keel"
data 9
two
lines
texture "C:\\\\someone\\\\skin.png"
texrep 2 1
texoff 0.25 0
numvert 5
-2 0 0
-1 0 1
2 0 1
2 0 -1
0 0 -1
numsurf 2
SURF 0x30
mat 0
refs 5
0 0 0.5
1 0.125 1
2 0.5 1
3 0.5 0
4 0.25 0
SURF 0x2
mat 0
refs 2
0 0 0
2 0 0
kids 0
OBJECT group
name "tail"
loc 2 0 0
rot 0 -1 0 1 0 0 0 0 1
kids 1
OBJECT poly
name "fin"
loc 0 0 0.5
numvert 3
0 0 0
1 0 0
0 1 0
numsurf 1
SURF 0x10
mat 1

refs 3
0 0 0
1 0 0
2 0 0
kids 0
OBJECT group
name "NavLight"
kids 1
OBJECT poly
name "bulb"
numvert 3
90 0 0
91 0 0
90 1 0
numsurf 1
SURF 0x10
mat 1
refs 3
0 0 0
1 0 0
2 0 0
kids 0
"""
DIAGONAL = np.sqrt(2.0**2 + 4.0**2 + 1.0**2)


def skin(path, size=(4, 2)):
    pixels = np.full((size[1], size[0], 4), 255, np.uint8)
    pixels[0] = 200, 100, 50, 255
    pixels[1:] = 40, 80, 120, 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def file(tmp_path):
    skin(tmp_path / "skin.png")
    path = tmp_path / "boat.ac"
    path.write_text(AC3D)
    return path


def corners(part, centre):
    """The corners of a part in the file's own units, from a corner of the keel."""
    return part.vertices * DIAGONAL + centre


def test_the_nose_is_the_front_and_left_stays_left(file):
    assert np.linalg.det(FLIGHTGEAR) == pytest.approx(1)
    cad = read_ac3d(file)
    assert np.linalg.norm(cad.extent) == pytest.approx(1)
    np.testing.assert_allclose(cad.extent * DIAGONAL, [2, 4, 1])
    nose, left, left_end, right_end, right = corners(cad.parts[0], [0, 0, 0.5])
    np.testing.assert_allclose(nose, [0, -2, 0], atol=1e-9)
    np.testing.assert_allclose([left, left_end], [[1, -1, 0], [1, 2, 0]], atol=1e-9)
    np.testing.assert_allclose([right_end, right], [[-1, 2, 0], [-1, 0, 0]], atol=1e-9)


def test_objects_stand_where_their_parents_put_them(file):
    """The fin lies along x and y in its own frame; turned by its group it rises at the end."""
    fin = corners(read_ac3d(file).parts[1], [0, 0, 0.5])
    # turned: (1, 0, 0) becomes (0, 1, 0), (0, 1, 0) becomes (-1, 0, 0); shifted to (2, 0, 0.5)
    expected = {(0.5, 2.0, 0.0), (0.5, 2.0, 1.0), (0.5, 1.0, 0.0)}
    assert {tuple(row) for row in (np.round(fin, 9) + 0.0).tolist()} == expected


def test_a_polygon_of_two_sides_becomes_a_fan_and_a_line_nothing(file):
    keel, fin = read_ac3d(file).parts
    np.testing.assert_array_equal(keel.faces, [[0, 1, 2], [0, 2, 3], [0, 3, 4]])
    assert fin.faces.shape == (1, 3)


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("way", [1, -1])
def test_a_polygon_that_bulges_inwards_is_not_overdrawn(file, first, turn, way):
    """A letter L covers 3 of 4 squares whichever corner its description starts with."""
    letter = np.array([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])[::way]
    rows = np.roll(np.insert(np.roll(letter, first, 0), 2, 0, 1), turn, 1)
    text = "AC3Db\nOBJECT poly\nnumvert 6\n" + "".join(f"{x} {y} {z}\n" for x, y, z in rows)
    text += "numsurf 1\nSURF 0x10\nrefs 6\n" + "".join(f"{k} 0 0\n" for k in range(6))
    file.write_text(text + "kids 0\n")
    (part,) = read_ac3d(file).parts
    a, b, c = part.vertices[part.faces.T] * np.sqrt(8.0)
    area = np.cross(b - a, c - a) / 2
    assert len(area) == 4
    assert np.linalg.norm(area, axis=1).sum() == pytest.approx(3)
    assert np.linalg.norm(area.sum(0)) == pytest.approx(3)


def test_bitmaps_are_found_by_their_last_name_and_tinted(file):
    keel, fin = read_ac3d(file).parts
    u = np.array([0, 0.125, 0.5, 0.5, 0.25]) * 2 + 0.25
    v = np.array([0.5, 1, 1, 0, 0])
    uv = np.stack([u, v], 1)
    np.testing.assert_allclose(keel.uv, uv[[[0, 1, 2], [0, 2, 3], [0, 3, 4]]])
    np.testing.assert_array_equal(keel.texture[0, 0], [200, 50, 0])  # times 1, 0.5, 0; first on top
    np.testing.assert_array_equal(keel.texture[1, 0], [40, 40, 0])
    # its own paint is what most of its faces show, to be recoloured
    assert keel.colour == pytest.approx((40 / 255, 40 / 255, 0))
    assert fin.texture is None and fin.uv is None
    assert (fin.colour, fin.opacity) == ((0, 0, 1), 0.25)


def test_folders_of_liveries_come_first(file, tmp_path):
    (tmp_path / "livery").mkdir()
    skin(tmp_path / "livery" / "skin.png", (1024, 512))
    keel = read_ac3d(file, skins=[tmp_path / "livery"]).parts[0]
    assert keel.texture.shape == (256, 512, 3)  # shrunk
    (tmp_path / "skin.png").unlink()
    plain = read_ac3d(file).parts[0]
    assert plain.texture is None and plain.colour == (1, 0.5, 0)


def test_kids_wear_the_bitmap_of_their_parent(file):
    file.write_text(AC3D.replace('name "tail"', 'name "tail"\ntexture "skin.png"'))
    keel, fin = read_ac3d(file).parts
    assert fin.texture.shape == keel.texture.shape


def test_faces_that_are_seen_through_are_left_out(file, tmp_path):
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[..., 3] = 0
    Image.fromarray(pixels).save(tmp_path / "skin.png")
    (fin,) = read_ac3d(file).parts
    assert fin.colour == (0, 0, 1)


def test_lamps_are_left_out_with_all_inside(file):
    assert read_ac3d(file, leave_out="").extent[1] > 0.99  # the bulb stands far behind
    with pytest.raises(InputError, match="leave out fewer"):
        read_ac3d(file, leave_out="KEEL|tail|light")
    assert not cad_ac3d.re.search(cad_ac3d.NO_BODY, "Flight-deck", cad_ac3d.re.IGNORECASE)


def test_files_stand_one_behind_the_other(file):
    cad = read_ac3d(file, behind=[file])
    np.testing.assert_allclose(cad.extent / cad.extent[0], [1, 4, 0.5])
    first, _, second, _ = cad.parts
    assert second.vertices[:, 1].min() == pytest.approx(first.vertices[:, 1].max())


def test_strips_of_torcs_are_read(file):
    """Kind 4: every corner from the third on makes a triangle with the two before it."""
    file.write_text(AC3D.replace("SURF 0x30", "SURF 0x4"))
    keel = read_ac3d(file).parts[0]
    np.testing.assert_array_equal(keel.faces, [[0, 1, 2], [1, 2, 3], [2, 3, 4]])


def test_promised_kids_may_be_missing_at_the_end(file):
    """FlightGear's c172p promises one object more than it holds."""
    file.write_text(AC3D.replace("kids 3", "kids 4"))
    assert len(read_ac3d(file).parts) == 2


def test_licence_and_name(file):
    cad = read_ac3d(file, licence="GPL-2+")
    assert (cad.name, cad.licence, cad.source) == ("boat.ac", "GPL-2+", "boat.ac")


BROKEN = [
    ("E_MESH_EMPTY", "AC3Db", "solid"),
    ("E_MESH_EMPTY", "numvert 5", "numvert 4000000000"),
    ("E_MESH_EMPTY", "numvert 5", "numvert -5"),
    ("E_MESH_INDEX", "numvert 5", "numvert 4"),
    ("E_MESH_EMPTY", "numvert 5", "numvert"),
    ("E_MESH_EMPTY", "-2 0 0", "-2 0"),
    ("E_MESH_EMPTY", "-2 0 0", "-2 x 0"),
    ("E_MESH_EMPTY", "numsurf 2", "numsurf 99999999999999"),
    ("E_MESH_EMPTY", "SURF 0x30", "SURF green"),
    ("E_MESH_EMPTY", "refs 5", "refs 500000000000"),
    ("E_MESH_EMPTY", "refs 5", "refs"),
    ("E_MESH_EMPTY", "data 9", "data 9000000000"),
    ("E_MESH_EMPTY", "rgb 1 0.5 0", "rgb 1 0.5"),
    ("E_MESH_EMPTY", "rot 0 -1 0 1", "rot 0 -1 0"),
    ("E_MESH_EMPTY", "loc 2 0 0", "loc 2"),
    ("E_MESH_EMPTY", 'texture "C:', "texture\n#"),
    ("E_MESH_INDEX", "4 0.25 0", "5 0.25 0"),
    ("E_MESH_INDEX", "4 0.25 0", "-1 0.25 0"),
    ("E_MESH_EMPTY", "4 0.25 0", "1e400 0.25 0"),
    ("E_MESH_EMPTY", "4 0.25 0", "99999999999999999999 0.25 0"),
    ("E_MESH_NONFINITE", "-2 0 0", "nan 0 0"),
]


@pytest.mark.parametrize(("code", "good", "wrong"), BROKEN)
def test_a_broken_file_has_its_code(file, code, good, wrong):
    assert good in AC3D
    file.write_text(AC3D.replace(good, wrong, 1))
    with pytest.raises(InputError, match=r"read CAD: expected .* got .* try:") as caught:
        read_ac3d(file)
    assert caught.value.code == code


def test_a_file_broken_off_anywhere_is_read_or_refused(file):
    for end in range(0, len(AC3D), 7):
        file.write_text(AC3D[:end])
        try:
            read_ac3d(file)
        except InputError as error:
            assert error.code in ("E_MESH_EMPTY", "E_MESH_INDEX")


def test_deep_nesting_is_no_fault(file):
    deep = "OBJECT group\nkids 1\n" * 5000
    file.write_text(AC3D.replace("kids 3\n", "kids 4\n" + deep + "OBJECT poly\nkids 0\n"))
    assert len(read_ac3d(file).parts) == 2


def test_unreadable_bitmaps_and_files_have_their_code(file, tmp_path, monkeypatch):
    (tmp_path / "skin.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"E_IO.*convert it to PNG"):
        read_ac3d(file)
    skin(tmp_path / "skin.png", (5000, 4000))
    with pytest.raises(InputError, match="E_IMG_TOO_LARGE"):
        read_ac3d(file)
    with pytest.raises(InputError, match="E_IO"):
        read_ac3d(tmp_path / "none.ac")
    monkeypatch.setattr(cad_ac3d, "TEXT_LIMIT", 10)
    with pytest.raises(InputError, match="E_IO"):
        read_ac3d(file)
