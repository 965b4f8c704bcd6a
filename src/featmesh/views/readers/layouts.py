"""How the folders of the known data sets look; nothing is ever downloaded (spec 3).

Knows no torch and opens no file, so that the command's help can list the names.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

from featmesh.errors import DatasetError


@dataclass(frozen=True)
class Layout:
    """What a data set's folder must hold.

    Attributes:
        title: the data set, and who labelled what.
        folder: its usual name; the folder above it may be given too.
        splits: what ``split`` may be, the training photos first; None takes all labelled photos.
        marks: patterns below the folder of which each must be met; ``|`` parts alternatives.
        tree: what to put where, a few lines.
    """

    title: str
    folder: str
    splits: tuple[str, ...]
    marks: tuple[str, ...]
    tree: str


LAYOUTS: dict[str, Layout] = {
    "pascal3d": Layout(
        "PASCAL3D+ release 1.1: pose, 12 categories",
        "PASCAL3D+_release1.1",
        ("train", "val"),
        ("Annotations/*_imagenet|Annotations/*_pascal", "Images/*_imagenet|Images/*_pascal"),
        """PASCAL3D+_release1.1/
  Annotations/car_imagenet/n02814533_10061.mat   (and *_pascal)
  Images/car_imagenet/n02814533_10061.JPEG
  Image_sets/car_imagenet_train.txt, car_imagenet_val.txt   (for --split)""",
    ),
    "pascal3d-prepared": Layout(
        "PASCAL3D+ crops as NeMo and VoGE prepare them: pose, npz",
        "PASCAL3D_train_NeMo",
        ("train", "val"),
        ("*.npz|annotations/*/*.npz|*/annotations/*/*.npz",),
        """FOLDER/
  val/annotations/car/n02814533_10061_00.npz   (val/ and train/, or one of them as FOLDER)
  val/images/car/n02814533_10061_00.JPEG
or FOLDER/NAME.npz with NAME.jpg beside it, and --category""",
    ),
    "occluded-pascal3d": Layout(
        "Occluded PASCAL3D+: pose, mask of the object, occluders, L0 to L3",
        "OccludedPASCAL3D",
        ("L0", "L1", "L2", "L3"),
        ("images/*FGL*_BGL*", "annotations/*FGL*_BGL*"),
        """OccludedPASCAL3D/
  images/carFGL1_BGL1/n02814533_10061.JPEG
  annotations/carFGL1_BGL1/n02814533_10061.npz
  PASCAL3D+_release1.1/Annotations/car_imagenet/n02814533_10061.mat   (here or beside it)""",
    ),
    "ood-cv": Layout(
        "OOD-CV, pose track: pose, nuisances, 10 categories",
        "ood_cv",
        ("iid", "context", "pose", "shape", "texture", "weather", "occlusion"),
        ("images/*", "annotations/*/*.mat", "lists/*_all.txt"),
        """ood_cv/
  images/car/NAME.JPEG
  annotations/car/NAME.mat
  lists/car_all.txt, car_context.txt, car_pose.txt, ...   (lines: NAME OBJECT)""",
    ),
    "objectnet3d": Layout(
        "ObjectNet3D: pose, 100 categories",
        "ObjectNet3D",
        ("train", "val", "test"),
        ("Annotations/*.mat", "Images"),
        """ObjectNet3D/
  Annotations/n00000000_1.mat
  Images/n00000000_1.JPEG
  Image_sets/train.txt, or lists/bed_imagenet_train.txt   (for --split)""",
    ),
    "imagenet3d": Layout(
        "ImageNet3D: pose, 200 categories",
        "imagenet3d_v1",
        ("train", "val"),
        ("images/*", "annotations/*/*.npz"),
        """imagenet3d_v1/
  images/car/NAME.JPEG
  annotations/car/NAME.npz
  lists/car_imagenet_train.txt, car_imagenet_val.txt   (for --split)""",
    ),
    "pix3d": Layout(
        "Pix3D: pose, mask and CAD of furniture",
        "pix3d",
        (),
        ("pix3d.json",),
        """pix3d/
  pix3d.json
  img/chair/0001.png   mask/chair/0001.png
  model/bed/IKEA_BEDDINGE/model.obj   (for t in object units)""",
    ),
    "kitti": Layout(
        "KITTI object detection: metric boxes, camera",
        "kitti",
        (),
        ("training/label_2/*.txt", "training/calib/*.txt", "training/image_2"),
        """kitti/
  training/image_2/000000.png
  training/label_2/000000.txt
  training/calib/000000.txt
  ImageSets/train.txt, val.txt   (for --split: lists of numbers)""",
    ),
    "nuscenes": Layout(
        "nuScenes: metric boxes, six cameras",
        "nuscenes",
        (),
        ("v1.0-*/sample_annotation.json", "samples"),
        """nuscenes/
  v1.0-mini/sample_annotation.json, sample_data.json, calibrated_sensor.json, ego_pose.json, ...
  samples/CAM_FRONT/NAME.jpg
(--split is the folder of the tables, v1.0-mini)""",
    ),
    "coco": Layout(
        "COCO instances: masks and boxes, no poses",
        "coco",
        (),
        ("annotations/instances_*.json",),
        """coco/
  annotations/instances_val2017.json
  val2017/000000000139.jpg
(--split is val2017, train2017, ...)""",
    ),
}


def located(name: str, root: Path) -> Path:
    """Return the folder that holds the data set: ``root``, or the one of its usual name below.

    Raises:
        DatasetError: E_DATASET, with the tree that is expected.
    """
    layout = LAYOUTS[name]
    for folder in (root, root / layout.folder):
        if not _lacking(layout, folder):
            return folder
    if not root.is_dir():
        raise misplaced(name, str(root), "no such folder")
    raise misplaced(name, str(root), f"no {_lacking(layout, root)[0].replace('|', ' or ')} in it")


def layout_text(name: str | None = None) -> str:
    """Return what a data set's folder must hold, or all of them, as a person reads it."""
    some = LAYOUTS if name is None else {name: LAYOUTS[name]}
    text = ""
    for key, layout in some.items():
        splits = f"   (--split {', '.join(layout.splits)})" if layout.splits else ""
        text += f"{key}: {layout.title}{splits}\n{layout.tree}\n\n"
    return text


def unknown(name: str) -> str:
    """Return the message about a name that is no data set's."""
    near = difflib.get_close_matches(name, LAYOUTS, 1)
    hint = f"perhaps you meant {near[0]}" if near else "featmesh data layout"
    return f"E_USAGE: data: expected one of {', '.join(LAYOUTS)}, got {name!r}; try: {hint}"


def recognised(root: Path) -> str | None:
    """Return the name of the first data set whose layout a folder has, None if there is none."""
    for name, layout in LAYOUTS.items():
        if any(not _lacking(layout, folder) for folder in (root, root / layout.folder)):
            return name
    return None


def splits_in(name: str, root: Path) -> list[str]:
    """Return the splits of a folder that are to share no photo; none where it has no such.

    Raises:
        DatasetError: E_DATASET.
    """
    folder = located(name, root)
    if name == "kitti":
        return [
            split for split in ("train", "val") if (folder / f"ImageSets/{split}.txt").is_file()
        ]
    if name == "coco":
        files = sorted(folder.glob("annotations/instances_*.json"))
        return [path.stem.removeprefix("instances_") for path in files]
    if name == "nuscenes":  # v1.0-mini is a part of v1.0-trainval
        return sorted(path.parent.name for path in folder.glob("v1.0-*/sample_annotation.json"))[
            -1:
        ]
    return list(LAYOUTS[name].splits) if "train" in LAYOUTS[name].splits else []


def misplaced(name: str, where: str, got: str) -> DatasetError:
    """Return the error that says what is missing and what to put where."""
    return DatasetError(
        "E_DATASET",
        f"data {name}: expected {LAYOUTS[name].title} in {where}, got {got}, try: obtain it from "
        f"its authors (featmesh downloads no data set) and put\n{LAYOUTS[name].tree}",
    )


def _lacking(layout: Layout, folder: Path) -> list[str]:
    def met(mark: str) -> bool:
        return any(next(folder.glob(pattern), None) is not None for pattern in mark.split("|"))

    return [mark for mark in layout.marks if not met(mark)] if folder.is_dir() else ["*"]
