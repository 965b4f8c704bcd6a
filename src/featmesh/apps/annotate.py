"""The local page of ``featmesh annotate``: the viewer's, with clicks and a way to the next photo.

A click on the mesh and one on the photo are a pair; from four on the pose is solved after each. The
page of :mod:`featmesh.apps.view` does the rest; :mod:`featmesh.apps.annotate_state` has the logic.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from featmesh.errors import InputError
from featmesh.geometry.pnp import FEWEST
from featmesh.present.overlay import shown as picture_of

from .annotate_session import Session
from .annotate_state import Click, Desk, Marks, pixel_under, spot_under
from .view import PAUSE, Viewer
from .view_state import Shown, ViewState, backdrop

LEAVING = ("save", "absent", "skip")  # what ends the work on a photo
BUTTONS = (
    ("save, next", "save", "green"),
    ("skip", "skip", "gray"),
    ("not in this photo", "absent", "gray"),
)
HUES = ((255, 179, 0), (0, 188, 212), (233, 30, 99), (118, 255, 3), (171, 71, 188), (255, 87, 34))
DOT = 0.008  # radius of a mark, over its distance from the lens
BEFORE = 0.5  # where the photo's marks are, over the distance of the object: the mesh hides none
POOR, DOUBTFUL = 0.05, 0.5  # share of the box that clicks may be off, confidence: else look again


class Annotator(Viewer):
    """A running page that labels one photo after the other.

    Args:
        session: the folder.
        desk: its first photo.
        host: address to listen on.
        port: to listen on; where it is taken the next free one.
        pause: seconds between two steps of the refinement.

    Raises:
        BackendUnavailable: E_BACKEND without viser.
    """

    def __init__(
        self,
        session: Session,
        desk: Desk,
        host: str = "127.0.0.1",
        port: int = 8080,
        pause: float = PAUSE,
    ) -> None:
        self.session, self.desk = session, desk
        self.marks, self.finished = Marks(), False
        self._leaving, self._dots = False, list[Any]()
        super().__init__(desk.stage, host, port, "annotate", pause)
        self.server.scene.on_click()(self._clicked)

    def ask(self, what: str, state: ViewState) -> None:
        """As the viewer's; once a photo is being left, nothing more is asked about it."""
        with self._wake:
            if not self._leaving:
                self._leaving = what in LEAVING
                super().ask(what, state)

    def leave(self, what: str) -> None:
        """Ask for ``save``, ``absent`` or ``skip``, of the pose that is shown last."""
        with self._wake:
            pending = self._asked
            if pending and pending[0] == "show":
                self.state = pending[1]  # a slider's word is not lost
            self.ask(what, self.state)

    def click(
        self, origin: tuple[float, float, float], direction: tuple[float, float, float]
    ) -> None:
        """Take a click's ray (camera axes): a place on the mesh, then its pixel, and so on."""
        with self._wake:
            if self._leaving:
                return
            shown, marks = self.stage.show(self.state), self.marks
            if marks.spot is None:
                spot = spot_under(self.stage, shown, origin, direction)
                if spot is not None:
                    self.marks = Marks(marks.clicks, spot)
            else:
                depth = backdrop(shown).centre[2]
                pixel = pixel_under(shown, depth, origin, direction)
                if pixel is not None:
                    self.marks = Marks((*marks.clicks, Click(marks.spot, pixel)))
            new = len(self.marks.clicks) > len(marks.clicks)
            self.ask("solve" if new and self.marks.enough else "show", self.state)

    def _clicked(self, event: Any) -> None:
        self.click(event.ray_origin, event.ray_direction)

    def _set_marks(self, marks: Marks) -> None:
        with self._wake:
            self.marks = marks
            self.ask("show", self.state)

    # -- the worker ---------------------------------------------------------------------------

    def _run(self, what: str, state: ViewState) -> ViewState:
        if what in LEAVING:
            return self._leave(what)
        if what not in ("solve", "here"):
            return super()._run(what, state)
        found = self.desk.here(state) if what == "here" else self.desk.solved(state, self.marks)
        self.stage = self.desk.stage
        return found

    def _leave(self, what: str) -> ViewState:
        """Save what is to be saved and go on to the next photo."""
        try:
            self._doing.content = "one moment..."
            if what == "save":
                self.session.save(self.desk.label(self.state, self.marks))
            elif what == "absent":
                self.session.save(self.desk.absent())
            else:
                self.session.skipped += 1
            desk = self.session.next()
            if desk is None:
                self.finished = True
                for button in self._leave_buttons:
                    button.disabled = True
            else:
                self._change(desk)
            return self.state
        finally:
            self._leaving = self.finished
            self._doing.content = self._progress()

    def _change(self, desk: Desk) -> None:
        """Clear the page for another photo."""
        self.desk, self.stage, self.state = desk, desk.stage, desk.stage.found
        self.marks, self.curve = Marks(), []
        self._picture = np.asarray(picture_of(desk.photo)[0])
        self._meshes, self._dots = [], []
        with self.server.atomic():
            self.server.gui.reset()
            self.server.scene.reset()
            self.server.gui.main_panel.dock_right()
            self._add_controls("")
            self._add_scene()
        for client in self.server.get_clients().values():
            self._stand_at_lens(client)

    def _put(self, state: ViewState) -> None:
        super()._put(state)
        self._mark(self.stage.show(state))
        self._doing.content = self._progress()

    # -- the page -----------------------------------------------------------------------------

    def _add_controls(self, name: str) -> None:
        gui = self.server.gui
        self._doing = gui.add_markdown(self._progress())
        self._leave_buttons = [gui.add_button(label, color=colour) for label, _, colour in BUTTONS]
        for button, (_, what, _) in zip(self._leave_buttons, BUTTONS, strict=True):
            button.on_click(lambda _, what=what: self.leave(what))
        points: dict[str, Callable[[], None]] = {
            "forget the last click": lambda: self._set_marks(self.marks.undone()),
            "forget all clicks": lambda: self._set_marks(Marks()),
            "look again where the mesh is": lambda: self.ask("here", self.state),
        }
        with gui.add_folder("Points"):
            for label, act in points.items():
                gui.add_button(label, color="gray").on_click(lambda _, act=act: act())
        super()._add_controls(self.desk.path.name)

    def _progress(self) -> str:
        """Return what there is to do."""
        done, left = len(self.session.views), len(self.session.left)
        if self.finished:
            again = self.session.skipped
            later = f", {again} skipped: asked again next time" if again else ""
            return f"**All done**: {done} in {self.session.out.name}{later}. Ctrl-C stops the page."
        told, count = (
            f"{done} in {self.session.out.name} · {left} after this",
            len(self.marks.clicks),
        )
        if self.marks.spot is not None:
            return f"{told}\n\n**Now click the same place in the photo.**"
        more = FEWEST - count
        if count == 0:
            return f"{told}\n\nDoes the mesh fit? **Save.** If not, click a place on the mesh."
        if more > 0:
            return f"{told}\n\n{count} points. **{more} more**: click a place on the mesh."
        return f"{told}\n\n{count} points, pose solved. Click another place, or **save**."

    def _numbers(self, shown: Shown) -> str:
        if self.finished:
            return ""  # nothing can be saved any more
        quality = self.desk.quality(self.state, self.marks)
        told = [f"evidence **{quality.evidence:.3f}**"]
        poor = False
        if quality.confidence is not None:
            told.append(f"sure **{quality.confidence:.0%}**")
            poor = quality.confidence < DOUBTFUL
        if quality.reprojection is not None and quality.share is not None:
            told.append(f"clicks **{quality.reprojection:.1f} px** off ({quality.share:.1%})")
            poor = quality.share > POOR if self.marks.enough else poor
        verdict = "\n\n**Look again** before you save." if poor else ""
        if shown.pose is None:
            verdict = "\n\nThe object is outside the photo."
        return " · ".join(told) + f" · energy {shown.energy:.4f}" + verdict

    def _mark(self, shown: Shown) -> None:
        """Draw each pair: where the mesh has the place, where the photo has it, a line between."""
        for dot in self._dots:
            dot.remove()
        self._dots = []
        spots = [click.spot for click in self.marks.clicks]
        spots += [] if self.marks.spot is None else [self.marks.spot]
        if not spots or shown.pose is None:
            return
        clicks = [*self.marks.clicks, *(Click(spot, (0.0, 0.0)) for spot in spots)][: len(spots)]
        near = BEFORE * float(shown.pose.t.norm())
        places = shown.pose.apply(torch.from_numpy(self.desk.places(shown, clicks))).numpy()
        places = places / np.linalg.norm(places, axis=1, keepdims=True) * near
        for k, place in enumerate(places):
            self._dot(f"/marks/{k}/mesh", place, k)
            if k < len(self.marks.clicks):
                pixel = torch.tensor(clicks[k].pixel, dtype=torch.float64)
                ray = shown.camera.unproject(pixel).numpy()
                seen = ray / math.hypot(*ray.tolist()) * near
                self._dot(f"/marks/{k}/photo", seen, k)
                line = np.array([[place, seen]], dtype=np.float32)
                self._dots.append(
                    self.server.scene.add_line_segments(
                        f"/marks/{k}/line", line, HUES[k % len(HUES)], thickness=0.003 * near
                    )
                )

    def _dot(self, name: str, at: np.ndarray, k: int) -> None:
        radius, where = DOT * float(np.linalg.norm(at)), tuple(at.tolist())
        self._dots.append(
            self.server.scene.add_icosphere(
                name, radius, HUES[k % len(HUES)], position=where, cast_shadow=False
            )
        )


def first(session: Session) -> Desk:
    """Return the first photo of a session.

    Raises:
        InputError: E_IO where every photo is labelled already or cannot be read.
    """
    desk = session.next()
    if desk is None:
        raise InputError(
            "E_IO",
            f"annotate: expected a photo that is not in {session.out.name} yet, got none; "
            "try: take its record out of the file to label it anew",
        )
    return desk
