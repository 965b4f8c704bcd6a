"""The page labels a folder, spoken to as a browser speaks to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import viser
from fixtures import car_model, picture
from PIL import Image
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from featmesh.apps.annotate import Annotator, first
from featmesh.apps.annotate_session import Session
from featmesh.apps.sight import look_closely
from featmesh.apps.view_state import backdrop
from featmesh.errors import DatasetError, InputError
from featmesh.views.record import read_views

from .test_annotate_state import CAMERA, CONFIG, POSE, clicks_of
from .test_view import CAMERA_MESSAGE, Browser, free_port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of the painted car."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a.png", "b.png"):
        Image.fromarray(picture(POSE, CAMERA)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Annotator]:
    session = Session(car_model(), folder, folder / "views.json", CONFIG, lambda photo: CAMERA)
    page = Annotator(session, first(session), port=free_port(), pause=0.0)
    yield page
    page.close()
    session.close()


def test_two_photos_are_labelled_by_a_browser(page: Annotator, folder: Path) -> None:
    out = folder / "views.json"
    spoken = [Subprotocol(f"viser-v{viser.__version__}")]
    address = page.url.replace("http", "ws")
    with connect(address, subprotocols=spoken, max_size=None, max_queue=None) as socket:
        browser = Browser(socket)
        browser.send(CAMERA_MESSAGE)
        browser.listen("ReplayDone")
        assert page.wait(60.0)
        labels = {m.get("props", {}).get("label") for m in browser.heard}
        assert {"save, next", "skip", "not in this photo", "forget the last click"} <= labels
        assert "Does the mesh fit?" in page._doing.content and "sure" not in page._told.content

        browser.set("azimuth °", 95.0)
        browser.listen("evidence **")
        assert page.wait(60.0)
        _click_pairs(page, browser)
        assert len(page.marks.clicks) == 4 and "pose solved" in page._doing.content
        assert "clicks **" in page._told.content
        names = {m["name"] for m in browser.heard if "name" in m}
        assert {"/marks/3/mesh", "/marks/3/photo", "/marks/3/line"} <= names
        browser.set("forget the last click", True)
        browser.listen("1 more")
        assert page.wait(60.0) and len(page.marks.clicks) == 3 and len(page._dots) == 9

        browser.set("save, next", True)
        browser.listen("b.png", 120.0)
        assert page.wait(120.0)
        (view,) = read_views(out)
        assert view.image_name == "a.png" and page.desk.path.name == "b.png"
        assert len(view.extras["annotation"]["clicks"]) == 3 and not page.marks.clicks
        assert page.state == page.stage.found

        browser.heard.clear()  # the second photo's controls are new
        page.leave("absent")
        assert page.wait(60.0) and page.finished and "All done" in page._doing.content
    assert [view.no_object for view in read_views(out)] == [False, True]
    page.leave("save")  # nothing is asked of a page that is done
    assert page.wait(5.0) and len(read_views(out)) == 2


def _click_pairs(page: Annotator, browser: Browser) -> None:
    """Click places of the mesh as it is shown, and where the true pose has them."""
    for k, click in enumerate(clicks_of(POSE, count=4)):
        shown = page.stage.show(page.state)
        assert shown.pose is not None
        places = page.desk.places(shown, [click])
        # from behind the place, outwards: the ray meets the mesh there and nowhere nearer
        x, y, z = (shown.pose.R.numpy() @ places[0] * 0.98 + shown.pose.t.numpy()).tolist()
        way = shown.pose.R.numpy() @ places[0]
        _send(browser, (x, y, z), tuple(way.tolist()))
        browser.listen("Now click the same place")
        assert page.wait(60.0)
        ray = CAMERA.unproject(page.desk.stage.sight.trial.crop.Q.new_tensor(click.pixel))
        _send(browser, (0.0, 0.0, 0.0), tuple(ray.tolist()))
        browser.listen("pose solved" if k == 3 else "more**", 120.0)
        assert page.wait(120.0)
    assert backdrop(page.stage.show(page.state)).centre[2] > 1


def _send(browser: Browser, origin: tuple[float, ...], direction: tuple[float, ...]) -> None:
    browser.send(
        {
            "type": "ScenePointerMessage",
            "event_type": "click",
            "ray_origin": origin,
            "ray_direction": direction,
            "screen_pos": ((0.5, 0.5),),
            "modifier": None,
        }
    )


def test_a_skipped_photo_is_not_said_to_be_done(folder: Path) -> None:
    session = Session(car_model(), folder, folder / "later.json", CONFIG, lambda photo: CAMERA)
    session.left = session.left[:1]
    page = Annotator(session, first(session), port=free_port(), pause=0.0)
    page.leave("skip")
    assert page.wait(60.0) and page.finished
    assert "0 in later.json, 1 skipped" in page._doing.content
    assert session.skipped == 1 and not session.out.exists()
    assert all(button.disabled for button in page._leave_buttons) and not page._told.content
    page.close()
    session.close()


def test_a_full_disk_keeps_photo_and_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    other = folder.parent / "fresh.json"
    session = Session(car_model(), folder, other, CONFIG, lambda photo: CAMERA)
    desk = first(session)
    monkeypatch.setattr("featmesh.views.record.write_whole", full)
    with pytest.raises(DatasetError, match=r"E_IO.*No space left"):
        session.save(desk.absent())
    assert not session.views and not other.exists()
    session.close()


def test_what_cannot_be_labelled_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"E_IO.*got none"):
        Session(car_model(), tmp_path, tmp_path / "views.json")
    with pytest.raises(DatasetError, match=r"E_IO.*no such folder"):
        Session(car_model(), tmp_path / "nowhere", tmp_path / "views.json")
    with pytest.raises(DatasetError, match=r"E_VIEWS.*or above it"):
        Session(car_model(), folder, tmp_path / "views.json")
    session = Session(car_model(), folder, folder.parent / "all.json", CONFIG)
    session.left = []
    with pytest.raises(InputError, match=r"E_IO.*not in all.json yet"):
        first(session)


def test_the_least_sure_photo_comes_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dim = picture(POSE, CAMERA) // 2
    for name, pixels in (("a.png", picture(POSE, CAMERA)), ("b.png", dim)):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no photo")

    def quick(model: object, photo: object, box: object, camera: object, config: object) -> object:
        return look_closely(model, photo, (63.0, 61.0, 239.0, 180.0), camera, config)

    monkeypatch.setattr("featmesh.apps.annotate_session.look_closely", quick)
    session = Session(car_model(), tmp_path, tmp_path / "views.json", CONFIG)
    session.by_doubt()
    assert [path.name for path in session.left] == ["b.png", "a.png", "c.png"]
