"""What ``featmesh new-category`` is told: torch-free, saved in ``OUT/run.json``."""

from dataclasses import dataclass, field
from typing import Literal

from featmesh.learn.config import TrainConfig
from featmesh.learn.shape_config import ShapeLearnConfig
from featmesh.model.config import DeformationConfig
from featmesh.views.presets import Look


def _shape() -> ShapeLearnConfig:
    """Return linear directions: with few CADs a network says no more, and they need no steps."""
    kind = DeformationConfig(kind="pca", latents=4)
    return ShapeLearnConfig(cad="", out="", category="", points=10_000, deformation=kind)


def _train() -> TrainConfig:
    """Return a training, trunk and all, that two cores end in twenty-five minutes."""
    return TrainConfig(
        views=(),
        out="",
        category="",
        epochs=20,
        samples_per_epoch=1000,
        small=0.6,
        gist=800,
        freeze_blocks=5,
        validation_models=0,
        validation_views=60,
        background_share=0.5,
    )


@dataclass(frozen=True)
class NewCategoryConfig:
    """Make a model of a category of one's own from CAD files."""

    cad: str
    """folder of CADs of one category (OFF, OBJ with materials, PLY, STL, GLB), 3 or more; a file
    LICENSE there is quoted in the card"""
    out: str = ""
    """folder of the run: cads, shape, views, train, test, model; default: runs/NAME"""
    photos: str = ""
    """views file of labelled photos of the category NAME, drawn as often as the rendered views"""
    backgrounds: str = ""
    """folder of pictures without the category: the first half by name to train, the second to
    test; without it backgrounds are colours, and the model does worse on photos"""
    leave_out: tuple[int, ...] = ()
    """numbers NNNN of background pictures *_NNNN.jpg that show the category"""
    like: str = ""
    """PASCAL3D+ category whose cameras and materials are used; default: NAME where it is one, else
    those of any object"""
    up: Literal["auto", "z", "y"] = "auto"
    """frame of the files: z = up +z, front -y; y = up +y, front +z; auto: looked for (GLB has its
    own)"""
    front: float | None = None
    """degrees from where the front is expected to where it is, counter-clockwise from above;
    default: ask, with a contact sheet"""
    yes: bool = False
    """the contact sheet is right: the fronts are where they are expected"""
    symmetry: int | Literal["any"] = 1
    """how many turns about the upright axis look alike (any: round things); accuracies are then
    also given up to such turns"""
    views: int = 2000
    """rendered views to train on"""
    test_views: int = 200
    """rendered views of held-out CADs to test on, clean and as many behind occluders (L2)"""
    jobs: int = 0
    """processes that render; 0 = one a core"""
    seed: int = 0
    """of every draw"""
    look: Look = field(default_factory=Look)
    """settings of the rendered photos that differ from the category's own"""
    shape: ShapeLearnConfig = field(default_factory=_shape)
    """how the shape space is learned; files and names are set by the command"""
    train: TrainConfig = field(default_factory=_train)
    """how the features are trained; files and names are set by the command"""


# set by the command, from its own options and from stage to stage
OWN = {
    "look": ("category", "weights"),
    "shape": ("cad", "out", "category", "model", "seed"),
    "train": (
        *("views", "out", "exclude", "category", "cad", "shapes", "start", "backgrounds"),
        *("background_exclude", "validation_models", "seed"),
    ),
}


def meddled(config: NewCategoryConfig) -> list[str]:
    """Return the options that the command sets itself and that were given all the same."""
    plain = NewCategoryConfig(cad="")
    return [
        f"--{part}.{name}".replace("_", "-")
        for part, names in OWN.items()
        for name in names
        if getattr(getattr(config, part), name) != getattr(getattr(plain, part), name)
    ]
