"""The local page of ``featmesh view``: mesh over the photo, sliders, live render-and-compare.

Thin: what a state of the sliders means is told by :mod:`featmesh.apps.view_state`. The world is the
camera of the photo (OpenCV axes, the lens at the origin), so that from the origin the mesh lies on
the photo exactly. One thread works: it shows the latest state, or runs what a button asked for.
"""

import contextlib
import io
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float64

from featmesh.errors import BackendUnavailable
from featmesh.present.overlay import shown as picture_of

from .view_state import Colouring, Shown, Stage, ViewState, backdrop

LATENTS = 6  # sliders of the shape
PAUSE = 0.02  # seconds between two steps of the refinement, so that they are seen
FRAME = 1 / 25  # seconds between two pictures of it
LENS = (0.3, 4.0)  # factors on the focal length
MARGIN = 1.1  # of the photo's size that is in view at first
NEAR = 0.5  # where the lines from the lens to the photo begin, share of their length
AT_LENS = 1e-3  # from the lens, over the unit of the pose: an eye that has not been moved
STAGES = {"adam": "optimiser", "descent": "optimiser", "polish": "polish"}
# label, lowest, highest and step of each slider; degrees, but for the distance
SLIDERS: dict[str, tuple[str, float, float, float]] = {
    "azimuth": ("azimuth °", 0.0, 360.0, 0.5),
    "elevation": ("elevation °", -90.0, 90.0, 0.5),
    "theta": ("in-plane °", -180.0, 180.0, 0.5),
    "distance": ("distance", 0.6, 8.0, 0.01),
    "across": ("right °", -30.0, 30.0, 0.1),
    "down": ("down °", -30.0, 30.0, 0.1),
}
log = logging.getLogger(__name__)


def viser_module() -> ModuleType:
    """Return the package that serves the page.

    Raises:
        BackendUnavailable: E_BACKEND where it is not installed.
    """
    try:
        import viser
    except ImportError as error:
        raise BackendUnavailable(
            "E_BACKEND",
            f"view: expected the package viser, got {error}; try: pip install 'featmesh[viewer]'",
        ) from error
    return viser


class Viewer:
    """A running page of one photo.

    Args:
        stage: the photo and all that can be asked about it.
        host: address to listen on.
        port: to listen on; where it is taken the next free one.
        name: of the photo.
        pause: seconds between two steps of the refinement.

    Raises:
        BackendUnavailable: E_BACKEND without viser.
    """

    def __init__(
        self,
        stage: Stage,
        host: str = "127.0.0.1",
        port: int = 8080,
        name: str = "",
        pause: float = PAUSE,
    ) -> None:
        self.stage, self.pause = stage, pause
        self.state = stage.found
        self.curve: list[float] = []
        self._picture = np.asarray(picture_of(stage.sight.photo)[0])
        self._wake, self._idle = threading.Condition(), threading.Event()
        self._asked: tuple[str, ViewState] | None = None
        self._closing, self._meshes = False, []  # type: ignore[var-annotated]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its address in its own way
            self.server = viser_module().ViserServer(
                host=host, port=port, label=f"featmesh {name}".strip(), verbose=False
            )
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.server.gui.main_panel.dock_right()
        self.server.scene.set_up_direction("-y")
        self._add_controls(name)
        self._add_scene()
        self._standing, self._sizes = threading.Lock(), dict[int, tuple[int, int]]()
        self.server.on_client_connect(self._welcome)
        self._worker = threading.Thread(target=self._work, name="featmesh-view", daemon=True)
        self._worker.start()
        self.ask("show", self.state)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def ask(self, what: str, state: ViewState) -> None:
        """Ask for a state to be shown, ``refine`` or ``fit`` to run from it; the last counts."""
        with self._wake:
            self._asked = (what, state)
            self._idle.clear()
            self._wake.notify()

    def wait(self, seconds: float) -> bool:
        """Return whether all that was asked for was done within a time."""
        return self._idle.wait(seconds)

    def close(self) -> None:
        """Stop the page."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._worker.join(10.0)
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    # -- the worker ---------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                if self._asked is None:
                    self._idle.set()
                    self._wake.wait_for(lambda: self._asked is not None or self._closing)
                if self._closing or self._asked is None:
                    return
                (what, state), self._asked = self._asked, None
            try:
                if what != "show":
                    state = self._run(what, state)
                self._put(state)
            except (RuntimeError, ValueError, ArithmeticError) as error:  # the page lives on
                log.warning("view: %s", error, exc_info=True)
                self._told.content = f"**{type(error).__name__}**: {error}"

    def _run(self, what: str, state: ViewState) -> ViewState:
        """Run ``refine`` or ``fit`` before the reader's eyes; return where it came to."""
        self.curve, seen = [], 0.0
        self._plot.visible = True

        def told(now: ViewState, energy: float, stage: str) -> None:
            nonlocal seen
            self.curve.append(energy)
            if self._closing:
                return
            if time.monotonic() - seen > FRAME:
                self._place(self.stage.show(now))
                self._plot.data = _curve(self.curve)
                kind = STAGES.get(stage.removeprefix("shape-"), stage)
                self._told.content = f"step {len(self.curve)}, {kind}: energy **{energy:.4f}**"
                seen = time.monotonic()
            time.sleep(self.pause)

        steps: dict[str, Callable[..., ViewState]] = {
            "refine": self.stage.refine,
            "fit": self.stage.fit,
        }
        state = steps[what](state, told)
        self._plot.data = _curve(self.curve)
        return state

    def _put(self, state: ViewState) -> None:
        """Show a state and set the sliders to it."""
        self.state = state
        shown = self.stage.show(state)
        self._place(shown)
        self._colour(shown)
        self._told.content = self._numbers(shown)
        for name, slider in self._sliders.items():
            slider.value = _rounded(_slider_value(state, name), slider.min, slider.max, slider.step)

    # -- the scene ----------------------------------------------------------------------------

    def _add_scene(self) -> None:
        scene = self.server.scene
        self._object = scene.add_frame("/object", axes_length=0.38, axes_radius=0.004)
        self._photo = scene.add_image(
            "/photo", self._picture, 1.0, 1.0, cast_shadow=False, receive_shadow=False
        )
        self._frustum = scene.add_line_segments(
            "/frustum", np.zeros((8, 2, 3), np.float32), (120, 130, 145), thickness=0.003
        )

    def _place(self, shown: Shown) -> None:
        """Move the mesh, and the photo behind it."""
        self._object.visible = shown.pose is not None
        if shown.pose is not None:
            self._object.wxyz = quaternion(shown.pose.R.numpy())
            self._object.position = tuple(shown.pose.t.tolist())
        for handle, used in self._meshes:
            handle.vertices = shown.vertices[used]
        behind = backdrop(shown)
        self._photo.position = behind.centre
        self._photo.render_width, self._photo.render_height = behind.width, behind.height
        ends = behind.corners
        # not from the lens itself: an eye there would see lines across its picture
        edges = [(NEAR * end, end) for end in ends]
        edges += list(zip(ends, np.roll(ends, -1, 0), strict=True))
        self._frustum.points = np.array(edges, dtype=np.float32)
        # an assumed lens goes with the object: the photo, not the mesh, would leave its place
        for client in self.server.get_clients().values():
            if _at_lens(client):
                self._stand_at_lens(client, shown)

    def _colour(self, shown: Shown) -> None:
        """Paint the mesh: a piece for each colour."""
        colouring: Colouring = self._colouring.value
        pieces = self.stage.groups(shown, colouring)
        for handle, _ in self._meshes[len(pieces) :]:
            handle.remove()
        self._meshes = [
            (
                self.server.scene.add_mesh_simple(
                    f"/object/mesh{k}",
                    shown.vertices[piece.vertices],
                    piece.faces,
                    color=piece.colour,
                    opacity=self._opacity.value,
                    side="double",
                ),
                piece.vertices,
            )
            for k, piece in enumerate(pieces)
        ]

    def _welcome(self, client: Any) -> None:
        client.camera.on_update(lambda _: self._resized(client))  # first: no word is missed
        self._stand_at_lens(client)

    def _resized(self, client: Any) -> None:
        """Keep the whole photo in view: the controls take their room after the first look."""
        if _size(client) != self._sizes.get(client.client_id) and _at_lens(client):
            self._stand_at_lens(client)

    def _stand_at_lens(self, client: Any, shown: Shown | None = None) -> None:
        """Move a reader's eye to the photo's lens; the whole photo is in view."""
        shown = shown or self.stage.show(self.state)
        behind = backdrop(shown)
        centre = np.array(behind.centre)
        near = 0.0 if shown.pose is None else float(shown.pose.t[2])
        with self._standing, client.atomic():
            wide, high = self._sizes[client.client_id] = _size(client)
            tall = max(behind.height, behind.width * high / wide) / 2 * MARGIN
            client.camera.fov = 2 * math.atan(tall / behind.centre[2])
            client.camera.up_direction = (0.0, -1.0, 0.0)
            client.camera.position = (0.0, 0.0, 0.0)
            client.camera.look_at = tuple(centre * (near or centre[2]) / centre[2])

    # -- the controls -------------------------------------------------------------------------

    def _add_controls(self, name: str) -> None:
        gui = self.server.gui
        gui.add_markdown(f"**{name}** · {self.stage.sight.model.category}")
        self._told = gui.add_markdown("...")
        gui.add_button("render-and-compare").on_click(lambda _: self.ask("refine", self.state))
        if self.stage.latents:
            gui.add_button("fit the shape").on_click(lambda _: self.ask("fit", self.state))
        gui.add_button("back to the pose found").on_click(
            lambda _: self.ask("show", self.stage.found)
        )
        gui.add_button("through the lens").on_click(self._back_to_lens)
        self._plot = gui.add_uplot(
            _curve([]),
            ({"label": "step"}, {"label": "energy", "stroke": "#2f7df6", "width": 2}),
            scales={"x": {"time": False}},
            aspect=1.8,
            visible=False,
        )
        with gui.add_folder("Looks"):
            self._colouring = gui.add_dropdown("colours", self.stage.colourings)
            self._opacity = gui.add_slider("opacity", 0.05, 1.0, 0.05, 0.7)
            photo = gui.add_checkbox("photo", True)
        self._colouring.on_update(lambda _: self.ask("show", self.state))
        self._opacity.on_update(lambda _: self._fade())
        photo.on_update(lambda _: setattr(self._photo, "visible", photo.value))
        self._add_sliders()

    def _back_to_lens(self, event: Any) -> None:
        if event.client is not None:
            self._stand_at_lens(event.client)

    def _fade(self) -> None:
        for handle, _ in self._meshes:
            handle.opacity = self._opacity.value

    def _add_sliders(self) -> None:
        gui, sliders = self.server.gui, {}
        with gui.add_folder("Pose"):
            for name, (label, low, most, step) in SLIDERS.items():
                high = max(most, 3 * self.state.distance) if name == "distance" else most
                at = _rounded(_slider_value(self.state, name), low, high, step)
                sliders[name] = gui.add_slider(label, low, high, step, at)
            if not self.stage.sight.lens.known:
                at = _rounded(_slider_value(self.state, "lens"), *LENS, 0.01)
                sliders["lens"] = gui.add_slider("lens factor", *LENS, 0.01, at)
        if self.stage.latents:
            with gui.add_folder("Shape", expand_by_default=False):
                for k in range(min(LATENTS, self.stage.latents)):
                    sliders[f"latent {k + 1}"] = gui.add_slider(
                        f"latent {k + 1}", -3.0, 3.0, 0.05, 0.0
                    )
        self._sliders = sliders
        for name, slider in sliders.items():
            slider.on_update(lambda event, name=name: self._slid(event, name))

    def _slid(self, event: Any, name: str) -> None:
        """Take over a slider that a reader moved; those we set ourselves say nothing new."""
        if event.client is None:
            return
        with self._wake:
            pending = self._asked
            base = pending[1] if pending and pending[0] == "show" else self.state
        self.ask("show", moved(base, name, float(event.target.value)))

    def _numbers(self, shown: Shown) -> str:
        """Return what is said about a state."""
        found = self.stage.sight.trial.refined.energy[0]
        sure = "" if shown.confidence is None else f" · sure {shown.confidence:.0%}"
        where = "" if shown.pose is not None else "\n\nThe object is outside the photo."
        return (
            f"energy **{shown.energy:.4f}** (found: {found:.4f}; lower is better)\n\n"
            f"score {shown.score:.3f} · visible {shown.visible:.0%}{sure}{where}"
        )


def moved(state: ViewState, name: str, value: float) -> ViewState:
    """Return a state with one slider's value taken over.

    Args:
        state: before.
        name: of :data:`SLIDERS`, ``lens`` (factor on the focal length) or ``latent 1``, ...
        value: degrees, object units, factor or standard deviations.
    """
    if name.startswith("latent "):
        k = int(name.split()[1]) - 1
        return replace(state, latent=(*state.latent[:k], value, *state.latent[k + 1 :]))
    if name == "lens":  # the camera goes back with it: the object keeps its size
        zoom = math.log(value)
        distance = state.distance * math.exp(zoom - state.log_zoom)
        return replace(state, log_zoom=zoom, distance=distance)
    fields = {name: value if name == "distance" else math.radians(value)}
    return replace(state, **fields)  # type: ignore[arg-type]


def _slider_value(state: ViewState, name: str) -> float:
    """Return what a slider shows of a state: degrees, object units, standard deviations."""
    if name.startswith("latent "):
        return state.latent[int(name.split()[1]) - 1]
    if name == "lens":
        return math.exp(state.log_zoom)
    value = float(getattr(state, name))
    return value if name == "distance" else math.degrees(value)


def _rounded(value: float, low: float, high: float, step: float) -> float:
    """Return what a slider can show of a value; the state itself is not rounded."""
    return min(max(round(round(value / step) * step, 6), low), high)


def _size(client: Any) -> tuple[int, int]:
    """Return width and height of the scene on a reader's screen."""
    return max(client.camera.image_width, 1), max(client.camera.image_height, 1)


def _at_lens(client: Any) -> bool:
    """Return whether a reader has not moved the eye from the lens."""
    return bool(np.linalg.norm(client.camera.position) < AT_LENS)


def quaternion(R: Float64[np.ndarray, "3 3"]) -> tuple[float, float, float, float]:
    """Return the unit quaternion (w, x, y, z) of a rotation, w not negative."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(R).as_quat(canonical=True).tolist()
    return w, x, y, z


def _curve(energies: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and energies as the plot wants them; a plot is never empty."""
    values = energies or [0.0]
    return np.arange(len(values), dtype=np.float64), np.array(values, dtype=np.float64)
