"""Claims about the sheets of pictures."""

import numpy as np
from PIL import Image

from featmesh.apps.new_category_cads import off_text, whole_mesh
from featmesh.apps.new_category_pictures import TILE, write_contact_sheet, write_tiles
from featmesh.geometry.mesh import read_mesh

from .nose_cads import SIZES, nosed

YELLOW = np.array([255, 196, 40])


def test_the_contact_sheet_shows_every_cad_with_its_front(tmp_path):
    cads = [(f"{k}.obj", whole_mesh(nosed(*size))) for k, size in enumerate(SIZES)]
    write_contact_sheet(tmp_path / "a" / "contact.png", cads, ["left out: x.off: E_MESH_EMPTY"])
    with Image.open(tmp_path / "a" / "contact.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] == 4 * TILE[1]
    for k in range(4):
        tile = pixels[22 : 22 + TILE[0], k * TILE[1] : (k + 1) * TILE[1]]
        yellow = np.argwhere(np.abs(tile - YELLOW).max(2) < 60)
        assert len(yellow) > 100
        assert yellow[:, 1].mean() < TILE[1] / 2  # the front points to the left of the picture
    assert pixels[-22:].min() < 100  # the line that says what was left out


def test_captions_in_any_script_do_no_harm(tmp_path):
    grey = np.full((50, 80, 3), 100, np.uint8)
    write_tiles(tmp_path / "t.png", [("茶壺.obj", grey)] * 5, "two rows")
    with Image.open(tmp_path / "t.png") as image:
        assert image.height > 2 * TILE[0]


def test_an_off_file_reads_back_to_the_same_bits(tmp_path):
    mesh = whole_mesh(nosed(*SIZES[1]))
    (tmp_path / "m.off").write_text(off_text(mesh))
    again = read_mesh(tmp_path / "m.off")
    assert np.array_equal(again.vertices.numpy(), mesh.vertices.numpy())
    assert np.array_equal(again.faces.numpy(), mesh.faces.numpy())
