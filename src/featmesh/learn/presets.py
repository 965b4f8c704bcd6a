"""Whole configurations of a training, by name, and what they leave to be found out: torch-free.

``nemo`` is the published training as far as :mod:`featmesh.learn` goes (spec 2.3-2.9); docs/nemo.md
says what is the same and what is not.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featmesh.errors import DatasetError
from featmesh.model.config import ModelConfig

from .config import STILL, TrainConfig

if TYPE_CHECKING:
    from featmesh.geometry.mesh import Mesh

TrainName = Literal["featmesh", "nemo"]
BENCHMARK = 0  # pixels of a crop's sides: the category's in the benchmark

NEMO_MODEL = ModelConfig(
    backbone="resnet50",
    channels=128,
    crop_height=BENCHMARK,
    crop_width=BENCHMARK,
    clutter_centres=1,
)
# views and out are the caller's
PRESETS: dict[TrainName, TrainConfig] = {
    "featmesh": TrainConfig(views=(), out=""),
    "nemo": TrainConfig(
        views=(),
        out="",
        template="cuboid",
        epochs=800,
        samples_per_epoch=0,
        batch=48,
        lr_head=1e-4,
        lr_trunk=1e-4,
        freeze_blocks=0,
        weight_decay=1e-4,
        momentum=0.96,
        temperature=0.07,
        clutter_weight=0.005,
        background_loss=0.1,
        near=0.1,
        anchors_per_view=2000,
        clutter_queue=2560,
        validation_models=0,
        model=NEMO_MODEL,
        augment=STILL,
    ),
}


def prepared(config: TrainConfig) -> TrainConfig:
    """Return a configuration that :func:`featmesh.learn.session.train` takes as it stands.

    Sides of 0 become those of the category's benchmark, 0 draws per pass the number of records. A
    cuboid and a trunk in its public names are written into the run folder, once.

    Raises:
        DatasetError: E_DATA for a cuboid without CADs, E_VIEWS.
        InputError: E_MESH_EMPTY, E_IO for CADs that are none.
        CheckpointError: for a trunk that is none, see :mod:`featmesh.model.weights`.
    """
    if BENCHMARK in (config.model.crop_height, config.model.crop_width):
        from featmesh.evaluate.protocols import NEMO_SIZES, ONE_SIZE

        height, width = NEMO_SIZES.get(config.category, ONE_SIZE)
        model = replace(config.model, crop_height=height, crop_width=width)
        config = replace(config, model=model)
    if config.template == "cuboid" and not config.start:
        config = replace(config, cad=str(_cuboid(config)))
    if config.samples_per_epoch == 0:
        config = replace(config, samples_per_epoch=_records(config))
    if config.model.backbone == "resnet50" and config.trunk:
        config = replace(config, trunk=str(_trunk(config)))
    return config


def _records(config: TrainConfig) -> int:
    """Return how many records of the category can be trained on."""
    from featmesh.views.record import read_views

    views = [view for file in config.views for view in read_views(file)]
    usable = [v for v in views if v.category == config.category and v.R is not None]
    return max(1, sum(v.image_name not in config.exclude for v in usable))


def _cuboid(config: TrainConfig) -> Path:
    """Return the folder of the run's template, written from the CADs if it is not there."""
    from featmesh.geometry.cuboid_template import cuboid_template
    from featmesh.geometry.mesh import read_mesh
    from featmesh.geometry.mesh_file import MESH_KINDS

    folder = Path(config.out) / "template"
    if (folder / "template.obj").is_file():
        return folder
    cads = Path(config.cad)
    files = sorted(f for f in cads.iterdir() if f.suffix in MESH_KINDS) if cads.is_dir() else []
    if not config.cad or not files:
        raise DatasetError(
            "E_DATA",
            f"train: expected CADs of the category ({', '.join(MESH_KINDS)}) to put a cuboid "
            f"around, got none in {config.cad!r}; try: --cad CAD/{config.category} of PASCAL3D+",
        )
    template = cuboid_template([read_mesh(f) for f in files])
    _write(folder / "template.obj", template)
    return folder


def _write(path: Path, mesh: "Mesh") -> None:
    from featmesh.files import write_bytes_atomic

    rows = [f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.vertices.tolist()]
    rows += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, ("\n".join(rows) + "\n").encode())


def _trunk(config: TrainConfig) -> Path:
    """Return a file of the trunk in our names, written if the one given is not."""
    from featmesh.files import write_tensors_atomic
    from featmesh.model.weights import trunk_weights

    path = Path(config.out) / "trunk.safetensors"
    if not path.is_file():
        weights = trunk_weights(config.model.backbone, config.trunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors_atomic(path, weights)
    return path
