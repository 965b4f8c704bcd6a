"""Look at a photo's pose on a local page: mesh over the photo, sliders, live render-and-compare.

Through a forwarded port too: ssh -L 8080:localhost:8080 HOST, then http://localhost:8080. Needs the
package viser (pip install 'featmesh[viewer]'). Ctrl-C stops it.
"""

import sys
import threading
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from featmesh.inference.config import EstimateConfig


@dataclass(frozen=True)
class Arguments:
    """Options of ``featmesh view``."""

    photo: tyro.conf.Positional[Path]
    """Photo (JPEG, PNG, ...)."""
    model: str = "car"
    """Name of a bundled model, or a model folder."""
    box: tuple[float, float, float, float] | None = None
    """X0 Y0 X1 Y1 of the object, pixels of the displayed photo; default: found."""
    focal_px: float | None = None
    """Focal length in pixels."""
    port: int = 8080
    """Where the page is; the next free one where it is taken."""
    host: str = "127.0.0.1"
    """Address to listen on; any other than this lets others on the network in."""
    no_browser: bool = False
    """Open no browser, print the address only."""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """Settings of the method."""


def run(arguments: Arguments) -> int:
    """Serve the page until Ctrl-C."""
    from featmesh.apps.photos import Request, camera_of
    from featmesh.apps.sight import look_closely
    from featmesh.apps.view import Viewer, viser_module
    from featmesh.apps.view_state import Stage
    from featmesh.model.checkpoint import load
    from featmesh.photo.read import read_photo

    viser_module()  # before anything takes time
    photo = read_photo(arguments.photo)
    camera = camera_of(Request(focal_px=arguments.focal_px), photo)
    sight = look_closely(load(arguments.model), photo, arguments.box, camera, arguments.search)
    viewer = Viewer(Stage(sight), arguments.host, arguments.port, arguments.photo.name)
    sys.stdout.write(f"{viewer.url}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    if not arguments.no_browser:
        webbrowser.open(viewer.url)
    try:
        wait_for_ever()
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")
    finally:
        viewer.close()
    return 0


def wait_for_ever() -> None:
    """Wait until a signal comes."""
    threading.Event().wait()
