"""An engine that needs no torch: what a "photo" holds says what becomes of it."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featmesh.errors import FeatmeshError, InputError


class Engine:
    """Reads words: ``good``, ``broken``, ``fault``, ``deadly``, ``deadly 2``, ``slow``."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings["model"] == "absent":
            raise FeatmeshError("E_CKPT_NAME", "load: expected a model, got 'absent'; try: car")
        if settings["model"] == "deadly":
            os._exit(3)
        os.write(1, b"a library prints\n")
        self.card = {"models": [{"name": "words", "hash": settings["model"]}]}

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        path = Path(record["path"])
        if not path.is_file():
            raise InputError("E_IO", "read: expected a photo, got none; try: another")
        word, _, count = path.read_text("utf-8").partition(" ")
        if word == "broken":
            raise InputError("E_IMG_FORMAT", "read: expected a photo, got words; try: another")
        if word == "fault":
            raise RuntimeError("a fault in the network")
        if word == "slow":
            time.sleep(60)
        if word == "deadly" and self._deaths(path) <= int(count or 99):
            os.kill(os.getpid(), signal.SIGKILL)
        heavy = "torch" in sys.modules
        return {"status": "ok", "score": 1 / 3, "box": record.get("box"), "heavy": heavy}

    def _deaths(self, path: Path) -> int:
        file = path.with_suffix(".deaths")
        count = int(file.read_text("utf-8")) + 1 if file.exists() else 1
        file.write_text(str(count), "utf-8")
        return count
