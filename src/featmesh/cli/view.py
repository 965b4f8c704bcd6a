"""Look at a photo's pose on a local page: mesh over the photo, sliders, live render-and-compare.

Through a forwarded port too: ssh -L 8080:localhost:8080 HOST, then http://localhost:8080. Needs the
package viser (pip install 'featmesh[viewer]'). Ctrl-C stops it.
"""

import sys
import threading
import webbrowser
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from featmesh.inference.config import EstimateConfig


@dataclass(frozen=True, kw_only=True)
class PageArguments:
    """Options of every verb that opens a local page."""

    model: str = "car"
    """Name of a bundled model, or a model folder."""
    focal_px: float | None = None
    """Focal length in pixels, of every photo."""
    port: int = 8080
    """Where the page is; the next free one where it is taken."""
    host: str = "127.0.0.1"
    """Address to listen on; any other than this lets others on the network in."""
    no_browser: bool = False
    """Open no browser, print the address only."""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """Settings of the method."""


@dataclass(frozen=True)
class Arguments(PageArguments):
    """Options of ``featmesh view``."""

    photo: tyro.conf.Positional[Path]
    """Photo (JPEG, PNG, ...)."""
    box: tuple[float, float, float, float] | None = None
    """X0 Y0 X1 Y1 of the object, pixels of the displayed photo; default: found."""


def run(arguments: Arguments) -> int:
    """Serve the page until Ctrl-C."""
    from featmesh.apps.sight import sight_of_file
    from featmesh.apps.view import Viewer, viser_module
    from featmesh.apps.view_state import Stage
    from featmesh.model.checkpoint import load

    viser_module()  # before anything takes time
    a = arguments
    sight = sight_of_file(load(a.model), a.photo, a.box, a.focal_px, a.search)
    viewer = Viewer(Stage(sight), a.host, a.port, a.photo.name)
    try:
        stay(viewer.url, browser=not a.no_browser)
        sys.stdout.write("stopped\n")
    finally:
        viewer.close()
    return 0


def stay(url: str, browser: bool) -> None:
    """Tell where a page is, open it where asked, and return at Ctrl-C."""
    sys.stdout.write(f"{url}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    if browser:
        webbrowser.open(url)
    with suppress(KeyboardInterrupt):
        wait_for_ever()


def wait_for_ever() -> None:
    """Wait until a signal comes."""
    threading.Event().wait()
