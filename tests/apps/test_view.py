"""The page is served by a real viser server and spoken to as a browser speaks to it."""

import math
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import viser
import zstandard
from scipy.spatial.transform import Rotation
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from featmesh.apps.view import MARGIN, SLIDERS, Viewer, moved, quaternion, viser_module
from featmesh.apps.view_state import ViewState, backdrop
from featmesh.errors import BackendUnavailable

from .test_view_state import CONFIG, stage_of

CAMERA_MESSAGE = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (0.0, 0.0, 3.0),
    "fov": 1.3,
    "near": 0.01,
    "far": 1000.0,
    "image_height": 700,
    "image_width": 1000,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 0.0, 1.0),
}
AT_LENS_MESSAGE = CAMERA_MESSAGE | {
    "position": (0.0, 0.0, 0.0),
    "look_at": (0.0, 0.0, 2.0),
    "up_direction": (0.0, -1.0, 0.0),
}


class Browser:
    """What a browser's page does with the socket: it hears messages and sends its own."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.heard = socket, list[dict[str, Any]]()

    def send(self, message: dict[str, Any]) -> None:
        self.socket.send(msgspec.msgpack.encode(message))

    def listen(self, until: str, seconds: float = 20.0) -> dict[str, Any]:
        """Return the first new message whose type and contents hold a word."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data = self.socket.recv(timeout=seconds)
            assert isinstance(data, bytes)
            length = int.from_bytes(data[8:16], "little")
            inner = zstandard.ZstdDecompressor().decompress(data[16 : 16 + length])
            messages = msgspec.msgpack.decode(inner)["messages"]
            self.heard += messages
            for message in messages:
                if until in str(message):
                    return message
        raise AssertionError(f"nothing with {until!r} in {len(self.heard)} messages")

    def control(self, label: str) -> str:
        """Return the identifier of a control."""
        named = [m for m in self.heard if m.get("props", {}).get("label") == label]
        return named[0]["uuid"]

    def set(self, label: str, value: Any) -> None:
        uuid = self.control(label)
        self.send({"type": "GuiUpdateMessage", "uuid": uuid, "updates": {"value": value}})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    viewer = Viewer(stage_of(False), port=free_port(), name="car.jpg", pause=0.0)
    yield viewer
    viewer.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(viewer.url, timeout=2)


@pytest.fixture
def browser(viewer: Viewer) -> Iterator[Browser]:
    viewer.ask("show", viewer.stage.found)
    assert viewer.wait(20.0)
    address = viewer.url.replace("http", "ws")
    spoken = [Subprotocol(f"viser-v{viser.__version__}")]
    with connect(address, subprotocols=spoken, max_size=None, max_queue=None) as socket:
        browser = Browser(socket)
        browser.send(CAMERA_MESSAGE)
        browser.listen("ReplayDone")
        yield browser


def test_the_page_comes_from_one_address(viewer: Viewer) -> None:
    assert viewer.url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(viewer.url, timeout=10) as answer:
        assert answer.status == 200 and b"<html" in answer.read()[:500].lower()


def test_a_browser_is_told_scene_and_controls(viewer: Viewer, browser: Browser) -> None:
    names = {m["name"] for m in browser.heard if "name" in m}
    assert {"/object", "/object/mesh0", "/photo", "/frustum"} <= names
    labels = {m.get("props", {}).get("label") for m in browser.heard}
    wanted = {"render-and-compare", "fit the shape", "colours", "latent 1", "lens factor"}
    assert wanted | {label for label, *_ in SLIDERS.values()} <= labels
    assert "http" not in str([m.get("props", {}).get("_markdown") for m in browser.heard])


def test_the_eye_is_put_at_the_lens(viewer: Viewer, browser: Browser) -> None:
    if not any("SetCameraPosition" in m["type"] for m in browser.heard):
        browser.listen("SetCameraPosition")
    eye = [m for m in browser.heard if m["type"] == "SetCameraPositionMessage"][-1]
    assert tuple(eye["position"]) == (0.0, 0.0, 0.0)


def see_all(viewer: Viewer, browser: Browser, wide: int) -> None:
    """Stand at the lens with a screen of a width; wait until the whole photo is in view."""
    high, behind = CAMERA_MESSAGE["image_height"], backdrop(viewer.stage.show(viewer.state))
    browser.send(AT_LENS_MESSAGE | {"image_width": wide})
    filled = 0.0
    while filled != pytest.approx(1 / MARGIN, abs=1e-6):  # listen fails where it never is
        tall = 2 * behind.centre[2] * math.tan(browser.listen("SetCameraFov")["fov"] / 2)
        filled = max(behind.height / tall, behind.width / (tall * wide / high))


def test_the_whole_photo_is_in_view_on_any_screen(viewer: Viewer, browser: Browser) -> None:
    for wide in (400, 1600):
        see_all(viewer, browser, wide)


def test_an_eye_at_the_lens_keeps_the_photo_where_it_is(viewer: Viewer, browser: Browser) -> None:
    def centre_after(degrees: float) -> np.ndarray:
        """Move the mesh to the right; return the direction of the photo's centre then."""
        after = moved(viewer.state, "across", degrees)
        browser.set("right °", degrees)
        browser.listen(f"energy **{viewer.stage.show(after).energy:.4f}**")
        assert viewer.wait(20.0)
        return direction(backdrop(viewer.stage.show(after)).centre)

    def direction(place: Any) -> np.ndarray:
        return np.array(place) / np.linalg.norm(place)

    see_all(viewer, browser, 900)
    before = direction(backdrop(viewer.stage.show(viewer.state)).centre)
    centre = centre_after(8.0)
    assert np.abs(centre - before).max() > 0.05
    client = max(viewer.server.get_clients().values(), key=lambda c: c.client_id)  # the last
    assert direction(client.camera.look_at) == pytest.approx(centre, abs=1e-6)
    browser.send(AT_LENS_MESSAGE | {"image_width": 900, "position": (1.0, 0.0, 0.0)})
    assert np.abs(centre_after(-8.0) - centre).max() > 0.05
    # who looks from the side is left there
    assert client.camera.look_at == pytest.approx(AT_LENS_MESSAGE["look_at"])
    assert client.camera.position == pytest.approx((1.0, 0.0, 0.0))


def test_a_slider_turns_the_object_and_tells_its_energy(viewer: Viewer, browser: Browser) -> None:
    before = viewer.state
    browser.set("azimuth °", 110.0)
    browser.listen("energy **")
    assert viewer.wait(20.0)
    assert np.degrees(viewer.state.azimuth) == pytest.approx(110)
    assert viewer.state.distance == before.distance  # what the sliders round is not lost
    shown = viewer.stage.show(viewer.state)
    assert f"energy **{shown.energy:.4f}**" in viewer._told.content
    assert shown.pose is not None
    assert viewer._object.wxyz == pytest.approx(quaternion(shown.pose.R.numpy()))


def test_colours_are_a_piece_of_mesh_each(viewer: Viewer, browser: Browser) -> None:
    browser.set("colours", "parts")
    browser.listen("/object/mesh3")
    assert viewer.wait(20.0)
    browser.set("colours", "plain")
    browser.listen("RemoveSceneNode")
    assert viewer.wait(20.0) and len(viewer._meshes) == 1


def test_render_and_compare_runs_live_with_its_curve(viewer: Viewer, browser: Browser) -> None:
    browser.set("elevation °", 35.0)
    browser.listen("energy **")
    assert viewer.wait(20.0)
    far = viewer.stage.show(viewer.state).energy
    browser.set("render-and-compare", True)
    browser.listen("step ")
    assert viewer.wait(20.0)
    assert len(viewer.curve) == CONFIG.refine.steps + 1 + CONFIG.refine.polish + 1
    assert viewer.curve[-1] < far and viewer._plot.data[1].tolist() == viewer.curve
    assert viewer.stage.show(viewer.state).energy == pytest.approx(min(viewer.curve))


def test_the_shape_is_fitted_and_taken_back(viewer: Viewer, browser: Browser) -> None:
    browser.set("fit the shape", True)
    browser.listen("step ")
    assert viewer.wait(20.0)
    browser.set("back to the pose found", True)
    # the energy of the fitted shape may be told last: wait for the state itself
    end = time.monotonic() + 20.0
    while viewer.state != viewer.stage.found and time.monotonic() < end:
        time.sleep(0.05)
    assert viewer.state == viewer.stage.found


def test_sliders_move_what_they_say() -> None:
    state = ViewState(0.0, 0.0, 0.0, 2.0, latent=(0.0, 0.0))
    assert moved(state, "theta", 90.0).theta == pytest.approx(np.pi / 2)
    assert moved(state, "latent 2", 1.5).latent == (0.0, 1.5)
    assert moved(state, "lens", 2.0).distance == pytest.approx(4.0)


def test_quaternions_are_scipys() -> None:
    R = Rotation.from_euler("xyz", [0.3, -2.0, 1.1]).as_matrix()
    w, x, y, z = quaternion(R)
    assert np.allclose(Rotation.from_quat([x, y, z, w]).as_matrix(), R) and w >= 0


def test_without_viser_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    with pytest.raises(BackendUnavailable, match=r"E_BACKEND.*featmesh\[viewer\]"):
        viser_module()
