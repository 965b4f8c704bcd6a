"""What a client may ask for beside its photo: the fields of the query and of the form."""

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from featmesh.errors import InputError

# files of a request's folder; their names never come from outside
PHOTO, CAMERA, PAGE, PICTURE = "photo", "camera.json", "result.html", "overlay.png"
TASKS = ("pose", "shape", "segment")
FORMATS = {"json": "application/json", "html": "text/html", "png": "image/png"}
FIELDS = {
    "model": "one of the server's models; without it, the one that explains the photo best",
    "box": "x0,y0,x1,y1 of the object in pixels of the displayed photo; without it, it is searched",
    "task": f"what to estimate: {', '.join(TASKS)}",
    "all": "true: every object of the category; goes with one model and without a box",
    "focal_px": "focal length in pixels",
    "fov": "horizontal field of view in degrees",
    "camera": '{"K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "width": , "height": } as JSON',
    "format": "json: result.json; html: a page to look at; png: the overlay",
}


@dataclass(frozen=True)
class Options:
    """What is asked of a photo; see ``FIELDS``."""

    model: str | None = None
    box: tuple[float, ...] | None = None
    task: str = "pose"
    all: bool = False
    focal_px: float | None = None
    fov: float | None = None
    camera: str | None = None
    format: str = "json"

    def record(self, folder: str, name: str) -> dict[str, Any]:
        """Return what a process is told."""
        told = {key: value for key, value in asdict(self).items() if key != "camera"}
        return told | {"folder": folder, "name": name}


def read_options(fields: Mapping[str, str], models: Sequence[str]) -> Options:
    """Return the options of a request.

    Args:
        fields: of the query and of the form; an empty text is none.
        models: names a client may choose from.

    Raises:
        InputError: E_REQUEST, E_MODEL, E_BOX, E_CAMERA; names the field, and what was expected.
    """
    given = {name: text.strip() for name, text in fields.items() if text.strip()}
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, 1)
            hint = f"perhaps {near[0]}" if near else "GET /docs"
            raise bad("E_REQUEST", f"fields {', '.join(FIELDS)}", f"{name!r:.60}", hint)
    _check_choices(given, models)
    return Options(
        model=given.get("model"),
        box=_box(given["box"]) if "box" in given else None,
        task=given.get("task", "pose"),
        all=given.get("all", "false") == "true",
        focal_px=_number(given, "focal_px"),
        fov=_number(given, "fov"),
        camera=_camera(given["camera"]) if "camera" in given else None,
        format=given.get("format", "json"),
    )


def bad(code: str, expected: str, got: str, hint: str) -> InputError:
    """Return the error that says what a request lacks."""
    return InputError(code, f"serve: expected {expected}, got {got}; try: {hint}")


def _check_choices(given: Mapping[str, str], models: Sequence[str]) -> None:
    """Raise where a field is none of its choices, or two do not go together."""
    choices = {"model": models, "task": TASKS, "format": FORMATS, "all": ("true", "false")}
    for name, allowed in choices.items():
        if name in given and given[name] not in allowed:
            code = "E_MODEL" if name == "model" else "E_REQUEST"
            expected = f"{name} to be one of {', '.join(allowed)}"
            raise bad(code, expected, f"{given[name]!r:.60}", "one of these")
    cameras = [name for name in ("focal_px", "fov", "camera") if name in given]
    if len(cameras) > 1:
        raise bad("E_CAMERA", "one camera", " and ".join(cameras), "the one you trust most")
    if given.get("all") == "true":
        if "box" in given:
            raise bad("E_BOX", "one of box and all", "both", "box for one object, all to find them")
        if len(models) > 1 and "model" not in given:
            raise bad("E_MODEL", "one model with all", "several", f"model={models[0]}")


def _box(text: str) -> tuple[float, ...]:
    numbers = [_float(part) for part in re.split(r"[,\s]+", text.strip("[]() "))]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise bad("E_BOX", "box as x0,y0,x1,y1 in pixels", f"{text!r:.60}", "box=20,30,200,150")
    return tuple(numbers)


def _number(given: Mapping[str, str], name: str) -> float | None:
    if name not in given:
        return None
    number = _float(given[name])
    if not 0 < number < math.inf:
        raise bad("E_CAMERA", f"{name} as a number above 0", f"{given[name]!r:.60}", "leave it out")
    return number


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _camera(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise bad("E_CAMERA", FIELDS["camera"], f"{text!r:.60}", "the text of a K.json") from None
    return text
