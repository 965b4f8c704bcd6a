"""Predicted poses in other programs' formats: BOP's CSV, COCO's JSON, PASCAL3D+'s MATLAB files.

``featmesh export poses``. R and t are those of ``predictions.jsonl``: ``cam_from_obj`` in the
camera of the whole photo, OpenCV axes, object frame PASCAL3D+ (contracts 1, 3). Pixels are not
shifted: COCO counts them as we do, readers of PASCAL3D+ take them as they are.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

import featmesh
from featmesh import rle
from featmesh.errors import DatasetError, InputError
from featmesh.files import write_bytes_atomic
from featmesh.geometry.pose import Pose
from featmesh.paths import write_whole
from featmesh.views.record import View

from .export_mat import Annotated, write_annotation
from .export_rows import Posed, Poses, read_poses

Format = Literal["bop", "coco", "pascal3d"]
MILLIMETRES = 1000.0
BOP_HEADER = "scene_id,im_id,obj_id,score,R,t,time"


def export_poses(
    predictions: Path, views: Path, to: Format, out: Path, diagonal: float | None = None
) -> dict[str, Any]:
    """Write the poses of a file of predictions and return what there is to say about it.

    Args:
        predictions: ``predictions.jsonl``.
        views: the views file it was made from.
        to: format.
        out: the file; of ``pascal3d`` the folder.
        diagonal: metres of an object unit, where known.

    Raises:
        DatasetError: see :func:`featmesh.apps.export_rows.read_poses`.
        InputError: E_CONFIG for a diagonal that is no length; E_PATH, E_IO.
    """
    if diagonal is not None and not 0 < diagonal < math.inf:
        raise InputError(
            "E_CONFIG",
            f"export poses: expected a diagonal above 0 m, got {diagonal}; try: --diagonal 4.9",
        )
    poses = read_poses(predictions, views)
    without = poses.left_out.total()
    files = WRITERS[to](poses, out, diagonal)
    return {
        "out": str(out),
        "format": to,
        "files": len(files),
        "poses": len(poses.posed) - poses.left_out.total() + without,
        "left_out": dict(poses.left_out),
        "notes": poses.notes,
    }


def write_bop(poses: Poses, path: Path, diagonal: float | None = None) -> list[Path]:
    """Write the results of the BOP benchmark, one line a pose: t in millimetres.

    ``scene_id``, ``im_id`` and ``obj_id`` are those of the views' records where these have them;
    else scene 1, the number of the photo in the views file (from 0) and of the category in
    alphabetical order (from 1). ``time`` is that of all rows of a photo, seconds; -1 if unknown.

    Args:
        poses: what is written.
        path: CSV file.
        diagonal: metres of an object unit; None: a pose in object units is taken as if it were 1,
            and a note says so.

    Returns:
        The file.
    """
    photo_of = _numbered([str(view.image) for view in poses.views], 0)
    kind_of = _numbered(sorted({view.category for view in poses.views}), 1)
    seconds: dict[str, float] = {}
    for one in poses.posed:
        spent, image = one.row.get("seconds"), str(one.view.image)
        seconds[image] = seconds.get(image, 0.0) + (math.nan if spent is None else spent)
    lines, guessed = [BOP_HEADER], 0
    for one in poses.posed:
        image, extras = str(one.view.image), one.view.extras
        scale = MILLIMETRES * (1.0 if one.unit == "metre" else diagonal or 1.0)
        guessed += one.unit == "object" and diagonal is None
        time = seconds[image]
        fields = [
            str(_own(extras, "scene_id", 1)),
            str(_own(extras, "im_id", photo_of[image])),
            str(_own(extras, "obj_id", kind_of[one.view.category])),
            _number(one.row.get("score") or 0.0),
            " ".join(_number(v) for v in one.cam_from_obj.R.reshape(-1).tolist()),
            " ".join(_number(scale * v) for v in one.cam_from_obj.t.tolist()),
            "-1" if math.isnan(time) else _number(round(time, 4)),
        ]
        lines.append(",".join(fields))
    if guessed:
        poses.notes.append(
            f"{guessed} with t in object units: 1 unit (the diagonal of the mean shape's bounding "
            "box) is taken as 1 m; --diagonal tells the true length"
        )
    write_bytes_atomic(path, ("\n".join(lines) + "\n").encode())
    return [path]


def write_coco(poses: Poses, path: Path, diagonal: float | None = None) -> list[Path]:
    """Write COCO's instances: box, category, mask where a row has one; the pose in ``pose``.

    Boxes are cut to the photo. A mask is the visible one, else the amodal. Key points are left out.

    Args:
        poses: what is written.
        path: JSON file.
        diagonal: unused; ``pose`` keeps the unit of t and names it.

    Returns:
        The file.
    """
    photo_of = _numbered([str(view.image) for view in poses.views], 1)
    kind_of = _numbered(sorted({view.category for view in poses.views}), 1)
    sizes = {str(v.image): (v.image_name or v.image.name, v.width, v.height) for v in poses.views}
    annotations: list[dict[str, Any]] = []
    for one in poses.posed:
        box = _clipped(one.row.get("box"), one.view)
        if box is None:
            poses.left_out["box outside the photo"] += 1
            continue
        row = {
            "id": len(annotations) + 1,
            "image_id": photo_of[str(one.view.image)],
            "category_id": kind_of[one.view.category],
            "bbox": box,
            "area": box[2] * box[3],
            "segmentation": [],
            "iscrowd": 0,
            "score": one.row.get("score"),
        }
        kept = ("R", "t", "t_unit", "K", "status", "confidence")
        annotations.append(
            row | _mask(one) | {"pose": {key: one.row.get(key) for key in kept}},
        )
    images = [
        {"id": photo_of[image], "file_name": name, "width": width, "height": height}
        for image, (name, width, height) in sizes.items()
    ]
    document = {
        "info": {"description": f"poses by featmesh {featmesh.__version__}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in kind_of.items()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n")
    return [path]


def write_pascal3d(poses: Poses, folder: Path, diagonal: float | None = None) -> list[Path]:
    """Write PASCAL3D+ annotations, one file a photo and category with all its objects.

    ``FOLDER/Annotations/<category>_imagenet/<photo>.mat``: with the photos in ``Images`` beside it,
    a folder that readers of PASCAL3D+ take. Angles are degrees along the ray to the object's
    centre, which projects to (px, py); distances are object units.

    Args:
        poses: what is written.
        folder: made where it is missing.
        diagonal: metres of an object unit; without it poses in metres are left out.

    Returns:
        The files.

    Raises:
        InputError: E_PATH for a category that is no name of a folder.
    """
    names = _file_names(poses.views)
    groups: dict[tuple[str, str], list[Annotated]] = {}
    for one in poses.posed:
        if one.unit == "metre" and diagonal is None:
            poses.left_out["t in metres: --diagonal tells how long an object unit is"] += 1
            continue
        t = one.cam_from_obj.t / ((diagonal or 1.0) if one.unit == "metre" else 1.0)
        pose = Pose(one.cam_from_obj.R, t)
        box = one.row.get("box") or one.view.box_or_image
        score = one.row.get("score")
        try:
            made = Annotated.of(one.view.category, pose, one.camera, box, score)
        except InputError as error:
            poses.left_out[f"{error.code}: no pinhole of PASCAL3D+"] += 1
            continue
        groups.setdefault((one.view.category, str(one.view.image)), []).append(made)
    size_of = {str(view.image): (view.image, view.height, view.width) for view in poses.views}
    return [
        write_annotation(folder, category, names[image], size_of[image], objects)
        for (category, image), objects in groups.items()
    ]


def _numbered(names: Sequence[str], start: int) -> dict[str, int]:
    """Return a number for each name, in the order of their first appearance."""
    return {name: k for k, name in enumerate(dict.fromkeys(names), start)}


def _own(extras: dict[str, Any], key: str, otherwise: int) -> int:
    value = extras.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _number(value: float) -> str:
    return f"{float(value):.10g}"


def _clipped(box: Any, view: View) -> list[float] | None:
    """Return [x, y, width, height] of the box's part inside the photo; None where none is."""
    if not isinstance(box, list) or len(box) != 4:
        return None
    x0, x1 = (min(max(float(v), 0.0), float(view.width)) for v in (box[0], box[2]))
    y0, y1 = (min(max(float(v), 0.0), float(view.height)) for v in (box[1], box[3]))
    return [x0, y0, x1 - x0, y1 - y0] if x1 > x0 and y1 > y0 else None


def _mask(one: Posed) -> dict[str, Any]:
    """Return ``segmentation`` and ``area`` of a row with masks as ``result.json`` has them."""
    masks = one.row.get("masks") or {}
    told = masks.get("visible") or masks.get("amodal")
    if not told:
        return {}
    runs = told.get("rle", told)
    mask = rle.decode(runs)
    if mask.shape != (one.view.height, one.view.width):
        raise DatasetError(
            "E_DATA",
            f"export poses: expected a mask of {one.view.height} x {one.view.width} in record "
            f"{one.view.index}, got {mask.shape[0]} x {mask.shape[1]}; try: the same photos",
        )
    size = list(mask.shape)
    return {
        "segmentation": {"size": size, "counts": runs["counts"]},
        "area": int(np.count_nonzero(mask)),
    }


def _file_names(views: Sequence[View]) -> dict[str, str]:
    """Return each photo's name without ending; of those with the same name, their whole path."""
    told = {str(view.image): view.image_name or view.image.name for view in views}
    stems = Counter(Path(name).stem for name in told.values())
    return {
        image: Path(name).stem
        if stems[Path(name).stem] == 1
        else name.replace("\\", "/").strip("/").replace("/", "_").rpartition(".")[0] or name
        for image, name in told.items()
    }


WRITERS: dict[Format, Callable[[Poses, Path, float | None], list[Path]]] = {
    "bop": write_bop,
    "coco": write_coco,
    "pascal3d": write_pascal3d,
}
