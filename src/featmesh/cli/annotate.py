"""Label photos of your own on a local page: the model proposes each pose, you accept or correct it.

Click a place on the mesh, then the same place in the photo; from four such pairs the pose is solved
and refined. The views file is whole after each photo; photos in it are not asked again. Needs the
package viser (pip install 'featmesh[viewer]'). Ctrl-C stops it.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from .view import PageArguments, stay


@dataclass(frozen=True)
class Arguments(PageArguments):
    """Options of ``featmesh annotate``."""

    folder: tyro.conf.Positional[Path]
    """Folder of photos (JPEG, PNG, ...), an object in each."""
    out: Path | None = None
    """Views file, in the folder or above it; default: views.json in the folder."""
    order: Literal["name", "doubt"] = "name"
    """By name; or first the photos that the model is least sure of (all are looked at before)."""


def run(arguments: Arguments) -> int:
    """Serve the page until Ctrl-C."""
    from featmesh.apps.annotate import Annotator, first
    from featmesh.apps.annotate_session import Session
    from featmesh.apps.photos import Request, camera_of
    from featmesh.apps.view import viser_module
    from featmesh.model.checkpoint import load

    viser_module()  # before anything takes time
    out = arguments.out or arguments.folder / "views.json"
    request = Request(focal_px=arguments.focal_px)
    config = replace(arguments.search, length=None)  # labels are in object units
    model = load(arguments.model)
    session = Session(model, arguments.folder, out, config, lambda photo: camera_of(request, photo))
    if arguments.order == "doubt":
        session.by_doubt()
    page = Annotator(session, first(session), arguments.host, arguments.port)
    try:
        stay(page.url, browser=not arguments.no_browser)
        left = len(session.left) + session.skipped + (not page.finished)
        sys.stdout.write(f"{out}: {len(session.views)} views, {left} photos left\n")
    finally:
        page.close()
        session.close()
    return 0
