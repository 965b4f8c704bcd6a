"""Annotations as PASCAL3D+ has them: the MATLAB struct ``record`` of a photo (spec 3.1).

The other direction of :mod:`featmesh.views.readers.pascal_record`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featmesh.files import write_bytes_atomic
from featmesh.geometry.camera import Camera
from featmesh.geometry.conventions import Pascal3D, to_pascal3d
from featmesh.geometry.crop import Box
from featmesh.geometry.pose import Pose
from featmesh.paths import safe_join

TITLE = 116  # bytes of free text that a MATLAB file begins with: scipy puts the date there
FLAGS = ("truncated", "occluded", "difficult")


@dataclass(frozen=True)
class Annotated:
    """One object of an annotation.

    Attributes:
        category: its class.
        label: the viewpoint; degrees, pixels, object units.
        box: (x0, y0, x1, y1), pixels.
        score: of the prediction, or None.
    """

    category: str
    label: Pascal3D
    box: Box
    score: float | None = None

    @classmethod
    def of(
        cls, category: str, cam_from_obj: Pose, camera: Camera, box: Sequence[float], score: Any
    ) -> "Annotated":
        """Return the object of a pose in object units.

        Raises:
            InputError: E_CAMERA where pixels are not square or the object is not in front.
        """
        x0, y0, x1, y1 = (float(v) for v in box)
        return cls(category, to_pascal3d(cam_from_obj, camera), (x0, y0, x1, y1), score)


def write_annotation(
    folder: Path,
    category: str,
    name: str,
    photo: tuple[Path, int, int],
    objects: Sequence[Annotated],
) -> Path:
    """Write the annotation of a photo and return its path; the same objects give the same bytes.

    Args:
        folder: the data set's.
        category: the file lies in ``Annotations/<category>_imagenet``.
        name: of the file, without ending.
        photo: its path, height and width.
        objects: what it shows.

    Raises:
        InputError: E_PATH where category or name leave the folder, E_IO.
    """
    from scipy.io import savemat

    image, height, width = photo
    path = safe_join(folder, f"Annotations/{category}_imagenet/{name}.mat")
    rows = [_fields(one) for one in objects]
    held = np.zeros((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for k, row in enumerate(rows):
        for key, value in row.items():
            held[0, k][key] = value
    size = np.array([[float(width), float(height), 3.0]])
    record = {"filename": image.name, "imgsize": size, "objects": held}
    buffer = io.BytesIO()
    savemat(buffer, {"record": record})
    title = b"MATLAB 5.0 MAT-file, written by featmesh".ljust(TITLE)
    write_bytes_atomic(path, title + buffer.getvalue()[TITLE:])
    return path


def _fields(one: Annotated) -> dict[str, Any]:
    """Return the struct of an object; numbers of a viewpoint have the names of the file."""
    viewpoint = {key: float(value) for key, value in vars(one.label).items()}
    return {
        "class": one.category,
        "bbox": np.array([one.box]),
        "viewpoint": viewpoint,
        **dict.fromkeys(FLAGS, 0.0),
        "score": np.zeros((0, 0)) if one.score is None else float(one.score),
    }
