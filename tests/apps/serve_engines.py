"""An engine of the server that needs no torch: what a "photo" holds says what becomes of it."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featmesh.errors import FeatmeshError, InputError


class Engine:
    """Reads words: ``good``, ``broken``, ``large``, ``fault``, ``deadly``, ``deadly 1``,
    ``wait 0.1``, ``fat``; anything else is good too."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings["model"] == "absent":
            raise FeatmeshError("E_CKPT_NAME", "load: expected a model, got 'absent'; try: car")
        marker = Path(settings["model"])
        if marker.is_absolute() and marker.exists():  # starts once, then never again
            os._exit(3)
        if marker.is_absolute():
            marker.write_text("started", "utf-8")
        names = settings["model"].split(",")
        self.card = {"models": [{"name": name, "hash": "0123"} for name in names]}

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        folder = Path(record["folder"])
        word, _, count = (folder / "photo").read_bytes()[:50].decode("latin-1").partition(" ")
        if word == "broken":
            raise InputError("E_IMG_FORMAT", "read: expected a photo, got words; try: another")
        if word == "large":
            raise InputError("E_IMG_TOO_LARGE", "read: expected 50 px, got 60; try: a smaller one")
        if word == "fault":
            raise RuntimeError("a fault in the network")
        if word == "wait":
            time.sleep(float(count))
        if word == "deadly" and self._deaths(folder) <= int(count or 99):
            os.kill(os.getpid(), signal.SIGKILL)
        if record["format"] == "html":
            (folder / "result.html").write_text("<p>a page", "utf-8")
        if record["format"] == "png":
            (folder / "overlay.png").write_bytes(b"a picture")
        told = {key: value for key, value in record.items() if key != "folder"}
        camera = folder / "camera.json"
        document = {
            "photo": record["name"],
            "objects": [{"status": "ok"}],
            "asked": told | {"camera": camera.read_text("utf-8") if camera.exists() else None},
            "bytes": (folder / "photo").stat().st_size,
            "process": os.getpid(),
            "heavy": "torch" in sys.modules,
        }
        return {"document": document, "bytes": 3_000_000_000 if word == "fat" else 1_000_000}

    def _deaths(self, folder: Path) -> int:
        file = folder / "deaths"
        count = int(file.read_text("utf-8")) + 1 if file.exists() else 1
        file.write_text(str(count), "utf-8")
        return count
