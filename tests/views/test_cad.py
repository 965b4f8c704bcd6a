"""Reading CADs: frame, scale, materials, and every fault by its code."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from featmesh.errors import InputError
from featmesh.views.cad import read_cad, read_plain, read_sweethome3d, turned

# a wedge in the catalogue's frame: y up, front +z; its tip points to the front
OBJ = """mtllib wedge.mtl
v -1 0 -2
v 1 0 -2
v 0 0 2
v 0 1 -2
vt 0 0
vt 1 0
vt 0 1
usemtl paint
f 1/1 2/2 3/3
f 1 2 4
usemtl skin
f -4/1 -2/2 -1/3
usemtl window
f 2 3 4
"""
MTL = """newmtl paint
Kd 1 0 0
newmtl skin
Kd 0 1 0
map_Kd skin.png
newmtl window
Kd 0 0 1
d 0.3
"""
PROPERTIES = """license=Public domain
name#1=Wedge car
model#1=/wedge/wedge.obj
creator#1=Somebody
name#2=Chair
model#2=/wedge/wedge.obj
name#3=Turned wedge
model#3=/wedge/wedge.obj
modelRotation#3=0 0 1 0 1 0 -1 0 0
"""


def png():
    data = io.BytesIO()
    Image.new("RGB", (4, 2), (10, 20, 30)).save(data, "png")
    return data.getvalue()


def catalogue(tmp_path, obj=OBJ, mtl=MTL, properties=PROPERTIES):
    path = tmp_path / "test.sh3f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", properties.encode("latin-1"))
        archive.writestr("wedge/wedge.obj", obj)
        archive.writestr("wedge/wedge.mtl", mtl)
        archive.writestr("wedge/skin.png", png())
        archive.writestr("secret.mtl", "newmtl paint\nKd 0 0 0\n")
    return path


def test_the_frame_is_pascals_and_the_diagonal_is_one(tmp_path):
    (cad,) = read_sweethome3d(catalogue(tmp_path), "car")
    every = np.concatenate([p.vertices for p in cad.parts])
    assert np.linalg.norm(cad.extent) == pytest.approx(1)
    np.testing.assert_allclose(every.max(0) + every.min(0), 0, atol=1e-12)
    tip = every[np.argmin(np.abs(every[:, 1] - every[:, 1].min()))]
    assert cad.extent[1] == max(cad.extent)  # long along y
    assert tip[1] < 0  # the front is -y
    assert tip[2] == pytest.approx(every[:, 2].min())  # and up is +z: the tip lies on the ground


def test_the_frame_keeps_left_and_right(tmp_path):
    flat = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\n"
    (cad,) = read_sweethome3d(catalogue(tmp_path, obj=flat), "car")
    corner, x, y, z = cad.parts[0].vertices
    assert np.linalg.det(np.stack([x - corner, y - corner, z - corner])) > 0


def test_a_rotation_of_the_catalogue_is_applied(tmp_path):
    (cad,) = read_sweethome3d(catalogue(tmp_path), "turned")
    assert cad.extent[0] == max(cad.extent)


def test_materials_come_with_colour_texture_and_opacity(tmp_path):
    (cad,) = read_sweethome3d(catalogue(tmp_path), "car")
    paint, skin, window = cad.parts
    assert paint.colour == (1, 0, 0)
    assert paint.faces.shape == (2, 3)
    assert paint.texture is None
    assert skin.texture.shape == (2, 4, 3)
    np.testing.assert_array_equal(skin.uv, [[[0, 0], [1, 0], [0, 1]]])
    assert window.opacity == 0.3
    assert cad.licence == "Public domain; by Somebody"
    assert cad.source == "test.sh3f:wedge/wedge.obj"


def test_a_polygon_becomes_a_fan(tmp_path):
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n"
    (cad,) = read_sweethome3d(catalogue(tmp_path, obj=square), "car")
    np.testing.assert_array_equal(cad.parts[0].faces, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("name", ["../secret.mtl", "/secret.mtl", "..\\secret.mtl", "C:\\x.mtl"])
def test_no_path_leaves_the_models_folder(tmp_path, name):
    with pytest.raises(InputError) as caught:
        read_sweethome3d(catalogue(tmp_path, obj=f"mtllib {name}\n" + OBJ), "car")
    assert caught.value.code == "E_PATH"


FAULTS = {
    "E_MESH_EMPTY": ["", "v 0 0 0\n", "junk\n", "v 0 0 0\nf a b c\n", "f 1 2 3\n"],
    "E_MESH_INDEX": ["v 0 0 0\nv 1 0 0\nf 1 2 3\n", "v 0 0 0\nf -1 -2 -3\n"],
    "E_MESH_NONFINITE": ["v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"],
}


@pytest.mark.parametrize(("code", "text"), [(c, t) for c, ts in FAULTS.items() for t in ts])
def test_a_broken_mesh_has_its_code_in_both_readers(tmp_path, code, text):
    path = tmp_path / "broken.obj"
    path.write_text(text)
    for read in (lambda: read_plain(path), lambda: read_sweethome3d(catalogue(tmp_path, text), "")):
        with pytest.raises(InputError, match=r"read CAD: expected .* got .* try:") as caught:
            read()
        assert caught.value.code == code


OFFS = {
    "E_MESH_EMPTY": ["", "OFF\n0 0 0\n", "OFF\n1000000000 1000000000 0\n0 0 0\n", "OFF\nx y z\n"],
    "E_MESH_INDEX": ["OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n"],
    "E_MESH_NONFINITE": ["OFF\n3 1 0\n0 0 0\n1 inf 0\n0 1 0\n3 0 1 2\n"],
}


@pytest.mark.parametrize(("code", "text"), [(c, t) for c, ts in OFFS.items() for t in ts])
def test_a_broken_off_has_its_code(tmp_path, code, text):
    path = tmp_path / "broken.off"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_plain(path)
    assert caught.value.code == code


def test_plain_cads_are_one_part_whatever_the_format(tmp_path):
    (tmp_path / "a.off").write_text("OFF # wedge\n3 1 0\n0 0 0\n3 0 0\n0 0 4\n3 0 1 2\n")
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 3 0 0\nv 0 0 4\nusemtl x\nf 1 2 3\n")
    one, other = read_plain(tmp_path / "a.off"), read_plain(tmp_path / "a.obj")
    np.testing.assert_allclose(one.extent, [0.6, 0, 0.8])
    np.testing.assert_array_equal(one.parts[0].vertices, other.parts[0].vertices)
    np.testing.assert_array_equal(one.parts[0].faces, other.parts[0].faces)


def test_other_files_are_refused(tmp_path):
    for read in (read_plain, lambda p: read_sweethome3d(p, "")):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "nothing.txt")
        assert caught.value.code == "E_IO"


def wedge_files(folder, mtl=MTL):
    (folder / "wedge.obj").write_text(OBJ)
    (folder / "wedge.mtl").write_text(mtl)
    (folder / "skin.png").write_bytes(png())
    return folder / "wedge.obj"


def test_an_obj_file_keeps_its_materials(tmp_path):
    cad = read_cad(wedge_files(tmp_path), "CC0", up="y")
    (inside,) = read_sweethome3d(catalogue(tmp_path), "^wedge")
    assert (cad.name, cad.licence, cad.source) == ("wedge.obj", "CC0", "wedge.obj")
    for mine, theirs in zip(cad.parts, inside.parts, strict=True):
        np.testing.assert_allclose(mine.vertices, theirs.vertices)
        assert (mine.colour, mine.opacity) == (theirs.colour, theirs.opacity)
    assert cad.parts[1].texture.shape == (2, 4, 3)


def test_files_in_the_object_frame_are_not_turned(tmp_path):
    path = wedge_files(tmp_path)
    extent = read_cad(path).extent
    np.testing.assert_allclose(extent / extent[0], [1, 0.5, 2])
    np.testing.assert_allclose(read_cad(path, up="y").extent / extent[0], [1, 2, 0.5])


@pytest.mark.parametrize("name", ["../skin.png", "/etc/skin.png", "c:/skin.png"])
def test_bitmaps_elsewhere_are_refused(tmp_path, name):
    path = wedge_files(tmp_path, MTL.replace("skin.png", name))
    with pytest.raises(InputError, match="E_PATH"):
        read_cad(path)


def test_missing_materials_and_bitmaps_are_done_without(tmp_path):
    path = wedge_files(tmp_path)
    (tmp_path / "skin.png").unlink()
    assert all(part.texture is None for part in read_cad(path).parts)
    (tmp_path / "wedge.mtl").unlink()
    assert len(read_cad(path).parts) == 3
    with pytest.raises(InputError, match="E_IO"):
        read_cad(tmp_path / "none.obj")


def test_turned_is_counter_clockwise(tmp_path):
    cad = read_cad(wedge_files(tmp_path), up="y")
    tip = min((v for p in cad.parts for v in p.vertices.tolist()), key=lambda v: v[1])
    after = turned(cad, 90.0)
    right = max((v for p in after.parts for v in p.vertices.tolist()), key=lambda v: v[0])
    assert right[0] == pytest.approx(-tip[1]) and right[2] == pytest.approx(tip[2])


def test_items_can_be_left_out_by_their_path(tmp_path):
    path = catalogue(tmp_path)
    assert len(read_sweethome3d(path, "wedge")) == 2
    assert read_sweethome3d(path, "wedge", "wedge/wedge") == []


def test_faces_that_a_bitmap_cuts_out_are_left_out(tmp_path):
    """One square seen, one transparent: spokes drawn on a disc are no filled disc."""
    skin = np.zeros((8, 16, 4), np.uint8)
    skin[:, :8, 3] = 255
    data = io.BytesIO()
    Image.fromarray(skin).save(data, "png")
    (tmp_path / "skin.png").write_bytes(data.getvalue())
    (tmp_path / "two.mtl").write_text("newmtl skin\nmap_Kd skin.png\nmap_d skin.png\n")
    corners = [(x, 0, z) for x in (0, 1, 2) for z in (0, 1)]
    rows = [f"v {x} {y} {z}" for x, y, z in corners] + ["vt 0 0", "vt .5 0", "vt 1 0"]
    rows += ["vt 0 1", "vt .5 1", "vt 1 1", "mtllib two.mtl", "usemtl skin"]
    rows += ["f 1/1 3/2 4/5 2/4", "f 3/2 5/3 6/6 4/5"]
    (tmp_path / "two.obj").write_text("\n".join(rows))
    (part,) = read_cad(tmp_path / "two.obj").parts
    assert len(part.faces) == len(part.uv) == 2
    assert np.ptp(part.vertices[:, 0]) == pytest.approx(np.ptp(part.vertices[:, 2]))
