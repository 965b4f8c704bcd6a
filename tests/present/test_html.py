import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featmesh.errors import InputError
from featmesh.inference.result import Estimate, result_json
from featmesh.model.labels import Labels
from featmesh.present.figures import score_picture
from featmesh.present.fill import fill
from featmesh.present.html import write_html
from featmesh.present.masks import part_colour

from .samples import PARTS, found, grey_photo, labels_of, seen, segmented, shaped

HOSTILE = '<script>alert("&")</script>{{rows}}'


class Page(HTMLParser):
    """Collects tags, sources, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)


def written(
    tmp_path: Path, *estimates: Estimate, name: str = "car.jpg", labels: Labels | None = None
) -> str:
    photo = grey_photo()
    path = tmp_path / "result.html"
    result = result_json(name, photo, "car", "0123456789", estimates)
    write_html(path, photo, estimates, result, labels)
    return path.read_text("utf-8")


def scenes(page: str) -> Any:
    return json.loads(Page(page).scripts[0])


def scene(page: str) -> Any:
    (only,) = scenes(page)
    return only


def test_the_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    page = written(tmp_path, found(grey_photo()))
    links = Page(page).links
    assert len(links) == 5 and all(link.startswith("data:image/") for link in links)
    assert not re.search(r"https?:|url\(|@import|//[a-z]+\.", page)
    assert "default-src 'none'" in page


def test_the_page_shows_pictures_numbers_and_warnings(tmp_path: Path) -> None:
    page = written(tmp_path, found(grey_photo()))
    for name in ("Photo", "Overlay", "Crop", "Features", "Score"):
        assert f"alt='{name}'" in page
    for shown in ("34.4°", "11.5°", "3.00 object units", "0.250", "0.500", "138.0 px (assumed)"):
        assert shown in page
    assert "<li>the focal length is assumed</li>" in page
    assert "car 01234567" in page
    assert "{{" not in page


def test_the_viewer_starts_in_the_estimated_view(tmp_path: Path) -> None:
    estimate = found(grey_photo())
    told = scene(written(tmp_path, estimate))
    np.testing.assert_allclose(told["poses"][0]["R"], estimate.cam_from_obj.R.numpy())
    np.testing.assert_allclose(told["poses"][0]["t"], estimate.cam_from_obj.t.numpy())
    assert [pose["name"] for pose in told["poses"]] == ["best", "2"]
    (only,) = told["shapes"]
    assert np.array(told["faces"]).max() == len(only["vertices"]) - 1
    assert np.array(told["front"])[:, 1].max() < np.array(only["vertices"])[:, 1].min()


def test_a_fitted_shape_is_shown_before_and_after(tmp_path: Path) -> None:
    estimate = shaped(found(grey_photo()))
    page = written(tmp_path, estimate)
    before, fitted = scene(page)["shapes"]
    assert (before["name"], fitted["name"]) == ("before", "fitted")
    ratio = np.ptp(fitted["vertices"], axis=0) / np.ptp(before["vertices"], axis=0)
    np.testing.assert_allclose(ratio, [1, 1.1, 0.8], atol=1e-3)
    for name in ("Photo", "Before", "Fitted shape", "Crop", "Features", "Score"):
        assert f"alt='{name}'" in page
    assert "alt='Overlay'" not in page
    pictures = re.findall(r"alt='(?:Before|Fitted shape)' src='([^']+)'", page)
    assert len(set(pictures)) == 2
    for shown in ("0.959 object units", "before 0.871", "1.00", "3 numbers", "kept"):
        assert shown in page
    assert all(link.startswith("data:image/") for link in Page(page).links)


def test_a_shape_in_metres_says_so(tmp_path: Path) -> None:
    page = written(tmp_path, shaped(found(grey_photo()), unit=5.0))
    assert "4.79 m" in page and "before 4.36" in page and "object units" not in page


def test_a_shape_that_was_not_kept_is_told_and_not_drawn(tmp_path: Path) -> None:
    page = written(tmp_path, shaped(found(grey_photo()), accepted=False))
    assert "not kept" in page and "alt='Overlay'" in page and "alt='Before'" not in page
    assert len(scene(page)["shapes"]) == 1


def test_without_a_shape_nothing_is_said_of_it(tmp_path: Path) -> None:
    page = written(tmp_path, found(grey_photo()))
    assert "Latent norm" not in page and '<dl class="card shape" hidden></dl>' in page


def test_without_a_pose_there_is_no_viewer(tmp_path: Path) -> None:
    page = written(tmp_path, Estimate("no_object", "car"))
    assert scene(page) is None
    assert "no object found" in page and len(Page(page).links) == 1


def test_a_refused_pose_is_not_shown_but_its_score_is(tmp_path: Path) -> None:
    page = written(tmp_path, replace(found(grey_photo()), status="no_object"))
    assert scene(page) is None and "alt='Overlay'" not in page and "Azimuth" not in page
    assert "0.250" in page and "alt='Score'" in page


def test_a_refused_photo_shows_why(tmp_path: Path) -> None:
    error = InputError("E_BOX", "box: expected <inside>, got outside; try: again")
    page = written(tmp_path, Estimate.refused("car", error))
    assert "E_BOX" in page and html.escape("expected <inside>") in page


def test_text_from_outside_stays_text(tmp_path: Path) -> None:
    estimate = Estimate("uncertain", HOSTILE, warnings=(HOSTILE,), message=HOSTILE)
    page = written(tmp_path, estimate, name=HOSTILE)
    assert Page(page).tags.count("script") == 2
    assert html.escape(HOSTILE) in page


def test_names_of_parts_stay_text(tmp_path: Path) -> None:
    photo = grey_photo()
    estimate = segmented(photo, found(photo))
    hostile = replace(estimate.segmentation, names=(HOSTILE, "b", "c"), shares={HOSTILE: 1.0})
    labels = Labels((HOSTILE, "b", "c"), labels_of(estimate.mesh).weights)
    page = written(tmp_path, replace(estimate, segmentation=hostile), labels=labels)
    assert Page(page).tags.count("script") == 2
    assert html.escape(HOSTILE) in page


def test_masks_are_shown_with_their_legend(tmp_path: Path) -> None:
    photo = grey_photo()
    page = written(tmp_path, segmented(photo, found(photo)))
    assert "alt='Visible and occluded'" in page and "alt='Parts'" in page
    assert len(Page(page).links) == 7
    seen_ = int(re.search(r"visible (\d+) %", page)[1])
    assert f"occluded {100 - seen_} %" in page and f"{seen_} % of its pixels" in page
    assert 20 < seen_ < 80
    for number, name in enumerate(PARTS, 1):
        colour = f"background:rgb{part_colour(number)}"
        assert f"<i style='{colour}'></i><b>{number}</b><span>{name.replace('_', ' ')}" in page
    assert page.count("not in view") == 1  # the mirror


def test_without_labels_only_the_masks_are_shown(tmp_path: Path) -> None:
    photo = grey_photo()
    page = written(tmp_path, segmented(photo, found(photo), parts=False))
    assert "alt='Visible and occluded'" in page and "alt='Parts'" not in page
    assert '<div class="card" hidden>\n  <h3>Parts' in page
    assert [way["name"] for way in scene(page)["colourings"]] == ["plain", "visibility"]


def test_the_mesh_is_coloured_by_state_and_by_part(tmp_path: Path) -> None:
    photo = grey_photo()
    estimate = segmented(photo, found(photo))
    told = scene(written(tmp_path, estimate, labels=labels_of(estimate.mesh)))
    plain, states, parts = told["colourings"]
    assert plain["of"] is None and len(plain["palette"]) == 1
    assert states["of"] == estimate.segmentation.states.tolist()
    assert states["key"] == ["invisible", "visible", "occluded"]
    grey, green, red = states["palette"]
    assert green[1] > max(green[0], green[2]) and red[0] > max(red[1], red[2])
    assert max(grey) - min(grey) < 30
    assert parts["key"] == ["", *(name.replace("_", " ") for name in PARTS)]
    assert parts["palette"][1:] == [list(part_colour(k)) for k in (1, 2, 3)]
    middles = estimate.mesh.vertices[estimate.mesh.faces].mean(1)[:, 1].numpy()
    of = np.array(parts["of"])
    assert len(of) == len(told["faces"]) and set(of.tolist()) <= {0, 1, 2}
    assert middles[of == 1].max() < middles[of == 2].min()


def test_two_objects_have_a_section_each(tmp_path: Path) -> None:
    photo = grey_photo()
    one = segmented(photo, found(photo))
    two = segmented(photo, found(photo, seen(azimuth=2.0, distance=4.0)))
    page = written(tmp_path, one, two)
    assert page.count('<section class="object">') == 2
    assert "<p>2 objects</p>" in page and "Object 1" in page and "Object 2" in page
    assert page.count("alt='Photo'") == 1 and page.count("alt='Overlay'") == 2
    assert [len(told["poses"]) for told in scenes(page)] == [2, 2]
    assert page.count("Focal length") == 1 and page.count("<th scope='row'>Azimuth") == 2
    assert page.count("<li>the focal length is assumed</li>") == 1


def test_an_object_without_a_pose_beside_one_with(tmp_path: Path) -> None:
    photo = grey_photo()
    page = written(tmp_path, Estimate("no_object", "car"), segmented(photo, found(photo)))
    assert [told is None for told in scenes(page)] == [True, False]
    assert page.count("alt='Photo'") == 1  # the viewer of the second shows it


def test_placeholders_in_values_are_not_filled() -> None:
    assert fill("{{a}} {{b}}", {"a": "{{b}}", "b": "x"}) == "{{b}} x"
    with pytest.raises(KeyError):
        fill("{{misspelt}}", {})


def test_the_score_lies_over_the_grey_crop() -> None:
    maps = found(grey_photo()).maps
    picture = score_picture(maps)
    assert picture.shape == maps.pixels.shape
    assert (picture[0] == 90).all() and (picture[-1] != 90).any()
