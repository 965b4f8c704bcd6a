import io

import numpy as np
import pytest
from PIL import Image

from featmesh.inference.result import Estimate
from featmesh.present.masks import (
    PART_COLOURS,
    STATE_COLOURS,
    depth_image,
    depth_scale,
    mask_json,
    mask_pictures,
    part_colour,
    parts_overlay,
    state_overlay,
)
from featmesh.present.overlay import overlay
from featmesh.rle import decode

from .samples import HEIGHT, PARTS, WIDTH, found, grey_photo, segmented, shaped

MASKS = ("amodal", "visible", "occluded")


@pytest.fixture
def estimate() -> Estimate:
    photo = grey_photo()
    return segmented(photo, found(photo))


def reread(picture: Image.Image) -> Image.Image:
    """The picture as someone sees it who opens the file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return Image.open(file)


def test_masks_are_255_inside_and_the_hidden_part_is_the_rest(estimate: Estimate) -> None:
    pictures = mask_pictures(estimate, "", dense=False)
    assert list(pictures) == ["amodal.png", "visible.png", "occluded.png", "parts.png"]
    amodal, visible, occluded = (np.asarray(reread(pictures[f"{name}.png"])) for name in MASKS)
    assert amodal.shape == (HEIGHT, WIDTH) and amodal.dtype == np.uint8
    np.testing.assert_array_equal(amodal, 255 * estimate.segmentation.amodal)
    np.testing.assert_array_equal(visible, 255 * estimate.segmentation.visible)
    np.testing.assert_array_equal(amodal, visible | occluded)
    assert not (visible & occluded).any() and visible.any() and occluded.any()


def test_the_part_image_holds_numbers_and_shows_colours(estimate: Estimate) -> None:
    picture = reread(mask_pictures(estimate, "", dense=False)["parts.png"])
    assert picture.mode == "P" and picture.size == (WIDTH, HEIGHT)
    numbers = np.asarray(picture)
    np.testing.assert_array_equal(numbers, estimate.segmentation.parts)
    colours = np.asarray(picture.convert("RGB"))
    for number in (0, 1, 2):
        assert (colours[numbers == number] == part_colour(number)).all()


def test_the_json_says_what_the_files_hold(estimate: Estimate) -> None:
    told, files = mask_json(estimate, "-2", dense=False), mask_pictures(estimate, "-2", dense=False)
    assert {mask["file"] for mask in told["masks"].values()} == set(files)
    for name in MASKS:
        row, inside = told["masks"][name], np.asarray(files[f"{name}-2.png"]) > 0
        assert row["file"] == f"{name}-2.png" and row["pixels"] == inside.sum()
        np.testing.assert_array_equal(decode(row["rle"]), inside)
    assert [part["name"] for part in told["parts"]] == list(PARTS)
    numbers = np.asarray(files["parts-2.png"])
    seen = np.asarray(files["visible-2.png"]) > 0
    for part in told["parts"][:2]:
        of_part = numbers == part["number"]
        assert part["pixels"] == of_part.sum() > 0
        assert part["visible"] == pytest.approx(100 * seen[of_part].mean(), abs=0.051)
        np.testing.assert_array_equal(decode(part["rle"]), of_part)
    mirror = told["parts"][2]
    assert (mirror["number"], mirror["pixels"], mirror["visible"]) == (3, 0, None)


def test_depth_is_read_back_in_the_unit_of_t(estimate: Estimate) -> None:
    row = mask_json(estimate, "", dense=True)["depth"]
    picture = reread(mask_pictures(estimate, "", dense=True)["depth.png"])
    assert picture.mode == "I;16" and row["unit"] == "object" and row["scale"] == 1e-4
    steps, depth = np.asarray(picture), estimate.segmentation.depth
    np.testing.assert_array_equal(steps > 0, np.isfinite(depth))
    drawn = steps > 0
    np.testing.assert_allclose(steps[drawn] * row["scale"], depth[drawn], atol=0.51e-4)


def test_metres_are_told_as_metres() -> None:
    photo = grey_photo()
    row = mask_json(segmented(photo, shaped(found(photo), unit=5.0)), "", dense=True)
    assert row["depth"]["unit"] == "metre" and row["depth"]["scale"] == 1e-3
    assert row["surface"]["size"] > 4


def test_any_depth_fits_in_16_bits() -> None:
    for farthest in (1e-3, 6.5535, 6.5536, 80.0, 65535.0):
        depth = np.array([[farthest, farthest / 1e6, np.inf]], np.float32)
        scale = depth_scale(depth)
        near, far, none = sorted(np.asarray(depth_image(depth, scale))[0].tolist())[::-1]
        assert 6553 <= near <= 65535 and far == 1 and none == 0
    nothing = np.full((2, 2), np.inf, np.float32)
    assert not np.asarray(depth_image(nothing, depth_scale(nothing))).any()


def test_surface_colours_lead_back_onto_the_mesh(estimate: Estimate) -> None:
    row = mask_json(estimate, "", dense=True)["surface"]
    colours = np.asarray(reread(mask_pictures(estimate, "", dense=True)["surface.png"]))
    segmentation, mesh = estimate.segmentation, estimate.mesh
    np.testing.assert_array_equal(colours.any(-1), segmentation.amodal)
    points = row["centre"] + row["size"] * (colours[segmentation.amodal] / 255 - 0.5)
    exact = segmentation.attributes(mesh, mesh.vertices.numpy().astype(np.float32))
    np.testing.assert_allclose(points, exact, atol=0.51 / 255 * row["size"] + 1e-5)


def test_without_labels_there_are_no_parts() -> None:
    photo = grey_photo()
    estimate = segmented(photo, found(photo), parts=False)
    told = mask_json(estimate, "", dense=False)
    assert told["parts"] is None and set(told["masks"]) == set(MASKS)
    assert "parts.png" not in mask_pictures(estimate, "", dense=False)
    assert (parts_overlay(photo, estimate.segmentation) == 128).all()


def test_without_a_segmentation_there_is_nothing() -> None:
    estimate = Estimate("no_object", "car")
    assert mask_json(estimate, "", dense=True) == {"masks": None, "parts": None}
    assert mask_pictures(estimate, "", dense=True) == {}


def test_what_is_seen_is_green_what_is_hidden_is_red(estimate: Estimate) -> None:
    photo, found_ = grey_photo(), estimate.segmentation
    picture = state_overlay(photo, found_).astype(int)
    assert picture.shape == overlay(photo, estimate).shape
    grown = {name: np.kron(getattr(found_, name), np.ones((2, 2), bool)) for name in MASKS}
    assert (picture[~grown["amodal"]] == 128).all()
    red, green = picture[..., 0], picture[..., 1]
    assert np.median((green - red)[grown["visible"]]) > 40
    assert np.median((red - green)[grown["occluded"]]) > 20


def test_each_part_has_its_colour_and_hidden_ones_are_striped(estimate: Estimate) -> None:
    photo, found_ = grey_photo(), estimate.segmentation
    picture = parts_overlay(photo, found_).astype(int)
    parts = np.kron(found_.parts, np.ones((2, 2), np.uint8))
    visible = np.kron(found_.visible, np.ones((2, 2), bool))
    towards = np.median(picture[(parts == 1) & visible], axis=0) - 128
    wanted = np.array(part_colour(1)) - 128
    assert towards @ wanted > 0.9 * np.linalg.norm(towards) * np.linalg.norm(wanted)
    hidden = (parts > 0) & ~visible
    assert picture[hidden].std(0).max() > picture[(parts == 1) & visible].std(0).max()


def test_colours_can_be_told_apart() -> None:
    colours = np.array([part_colour(k) for k in range(255)] + list(STATE_COLOURS.values()))
    assert colours.min() >= 0 and colours.max() <= 255
    assert len({part_colour(k) for k in range(len(PART_COLOURS) * 3)}) == len(PART_COLOURS) * 3
    first = colours[: len(PART_COLOURS) + 1].astype(float)
    apart = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e3 * np.eye(len(first))
    assert apart.min() > 40
