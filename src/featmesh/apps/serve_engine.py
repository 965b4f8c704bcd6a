"""What a process of the server does with one photo: ``result.json``, its page or its overlay."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from featmesh.config import config_from_dict
from featmesh.errors import FeatmeshError, InputError
from featmesh.inference.estimator import estimate
from featmesh.inference.result import result_json
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo
from featmesh.present.html import write_html
from featmesh.present.overlay import overlay

from .photos import Request, asked_models, camera_of, look_for
from .result_files import Found, with_files
from .serve_config import ServeConfig
from .serve_metrics import resident_bytes
from .serve_options import CAMERA, PAGE, PHOTO, PICTURE


class PhotoEngine:
    """Estimates the photos of requests; one thread.

    Args:
        settings: a :class:`ServeConfig` as a dict.

    Raises:
        CheckpointError: as :func:`featmesh.load`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.config = config_from_dict(ServeConfig, settings)
        self.models = asked_models(self.config.model)
        told = [{"name": name, "hash": model.hash} for name, model in self.models]
        self.card = {"models": told}
        grey = Photo(np.full((224, 336, 3), 128, dtype=np.uint8))
        with suppress(FeatmeshError):  # kernels are compiled before the first client waits
            estimate(self.models[0][1], grey, (20.0, 20.0, 316.0, 204.0), None, "pose")

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``document`` of a photo, and the resident ``bytes``; write what is asked.

        Args:
            record: ``folder`` with the photo, ``name`` the client calls it by, and the options of
                :class:`featmesh.apps.serve_options.Options`.

        Raises:
            InputError: what is wrong with the photo, its box or its camera.
        """
        try:
            document = self._answered(record)
        except FeatmeshError as error:
            text = _unfoldered(error.args[0], record)
            raise InputError(error.code, text) from error
        return {"document": document, "bytes": resident_bytes()}

    def _answered(self, record: Mapping[str, Any]) -> dict[str, Any]:
        folder = Path(record["folder"])
        request = self._request(record)
        chosen = [pair for pair in self.models if record["model"] in (None, pair[0])]
        photo = read_photo(folder / PHOTO, int(self.config.megapixels * 1e6))
        models = [model for _, model in chosen]
        estimates, number = look_for(models, photo, camera_of(request, photo), request)
        name, model = chosen[number]
        found = Found(photo, estimates, model.labels, request.task == "segment")
        told = result_json(record["name"], photo, name, model.hash, estimates)
        document = with_files(told, found)
        if record["format"] == "html":
            write_html(folder / PAGE, photo, estimates, document, model.labels)
        elif record["format"] == "png":
            Image.fromarray(overlay(photo, *estimates)).save(folder / PICTURE)
        return document

    def _request(self, record: Mapping[str, Any]) -> Request:
        box = record["box"]
        camera = Path(record["folder"]) / CAMERA
        return Request(
            box=None if box is None else (box[0], box[1], box[2], box[3]),
            focal_px=record["focal_px"],
            fov=record["fov"],
            camera_file=camera if camera.is_file() else None,
            task=record["task"],
            search=self.config.search,
            every=record["all"],
        )


def _unfoldered(text: str, record: Mapping[str, Any]) -> str:
    """Return a message that names the photo as the client does."""
    folder = Path(record["folder"])
    return text.replace(str(folder / PHOTO), record["name"]).replace(f"{folder}/", "")
