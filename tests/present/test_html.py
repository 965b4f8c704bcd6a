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
from featmesh.inference.describe import Estimate, result_json
from featmesh.present.html import fill, score_picture, write_html

from .samples import found, grey_photo, shaped

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


def written(tmp_path: Path, estimate: Estimate, name: str = "car.jpg") -> str:
    photo = grey_photo()
    path = tmp_path / "result.html"
    write_html(path, photo, estimate, result_json(name, photo, "car", "0123456789", [estimate]))
    return path.read_text("utf-8")


def scene(page: str) -> Any:
    return json.loads(Page(page).scripts[0])


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
    page = written(tmp_path, estimate, HOSTILE)
    assert Page(page).tags.count("script") == 2
    assert html.escape(HOSTILE) in page


def test_placeholders_in_values_are_not_filled() -> None:
    assert fill("{{a}} {{b}}", {"a": "{{b}}", "b": "x"}) == "{{b}} x"
    with pytest.raises(KeyError):
        fill("{{misspelt}}", {})


def test_the_score_lies_over_the_grey_crop() -> None:
    maps = found(grey_photo()).maps
    picture = score_picture(maps)
    assert picture.shape == maps.pixels.shape
    assert (picture[0] == 90).all() and (picture[-1] != 90).any()
