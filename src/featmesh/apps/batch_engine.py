"""What a worker of a batch does with one photo: read it, estimate it, tell it as JSON values."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from featmesh.config import config_from_dict
from featmesh.errors import FeatmeshError, InputError
from featmesh.geometry.camera import Camera
from featmesh.inference.estimator import estimate
from featmesh.inference.result import Estimate, result_json
from featmesh.photo.photo import Photo
from featmesh.photo.read import read_photo

from .batch_config import BatchConfig
from .photos import asked_models

LEFT_OUT = ("schema", "photo", "model", "seconds")  # of result.json: the same for all, or never so


class PhotoEngine:
    """Estimates photos by the settings of a batch; one thread.

    Args:
        settings: a :class:`BatchConfig` as a dict.

    Raises:
        CheckpointError: as :func:`featmesh.load`; E_CKPT_PART where the task is ``shape`` and a
            model has no shape space.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.config = config_from_dict(BatchConfig, settings)
        named = asked_models(self.config.model)
        self.models = [model for _, model in named]
        if self.config.task == "shape":
            for model in self.models:
                model.shape_space("batch")
        self.card = {"models": [{"name": name, "hash": model.hash} for name, model in named]}

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``result.json`` of a photo without its times; errors name no folder.

        Args:
            record: as :class:`featmesh.apps.batch_manifest.Item` has it.

        Raises:
            InputError: what is wrong with the photo, its box or its camera.
        """
        path = record["path"]
        try:
            photo = read_photo(path, allow_truncated=self.config.allow_truncated)
            _check_size(record, photo)
            found = self._estimate(photo, record)
        except FeatmeshError as error:
            raise InputError(error.code, _without_folder(error.args[0], path)) from error
        told = result_json(Path(path).name, photo, "", None, [found])
        kept = {key: value for key, value in told.items() if key not in LEFT_OUT}
        return {"status": found.status, **kept}

    def _estimate(self, photo: Photo, record: Mapping[str, Any]) -> Estimate:
        size, box, K = (photo.height, photo.width), record.get("box"), record.get("K")
        camera = None if K is None else Camera.from_K(torch.tensor(K, dtype=torch.float64), size)
        box = None if box is None else (box[0], box[1], box[2], box[3])
        task, search = self.config.task, self.config.search
        if len(self.models) > 1:
            from featmesh.inference.classify import classify

            return classify(self.models, photo, box, camera, search, task).estimate
        return estimate(self.models[0], photo, box, camera, task, search)


def _check_size(record: Mapping[str, Any], photo: Photo) -> None:
    """Raise E_VIEWS where the photo is not of the size that box and camera were given for."""
    asked = (record.get("width", photo.width), record.get("height", photo.height))
    if asked != (photo.width, photo.height):
        raise InputError(
            "E_VIEWS",
            f"batch: expected a {asked[0]}x{asked[1]} photo, got {photo.width}x{photo.height}; "
            "try: was the photo resized or turned?",
        )


def _without_folder(text: str, path: str) -> str:
    """Return a message that names the photo, not where this machine keeps it."""
    folder = os.path.dirname(path) + os.sep
    return text.replace(repr(folder)[1:-1], "").replace(folder, "")
