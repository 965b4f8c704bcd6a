"""How a category is trained: torch-free, saved beside every checkpoint."""

from dataclasses import dataclass, field
from typing import Literal

from featmesh.model.config import ModelConfig

TemplateKind = Literal["mean", "cuboid"]


@dataclass(frozen=True)
class AugmentConfig:
    """How far a training crop may differ from its photo."""

    fill_low: float = 0.4
    """smallest share of the crop the box spans"""
    fill_high: float = 0.95
    """largest share"""
    shift: float = 0.12
    """how far the box leaves the crop's centre, in box sizes"""
    rotate: float = 0.12
    """in-plane rotation, radians (standard deviation)"""
    aspect: float = 0.08
    """squeeze of width against height (standard deviation of its logarithm)"""
    occlude: float = 0.5
    """share of crops that get occluders"""
    context: float = 0.65
    """share of crops whose outside is filled with another picture instead of grey"""
    coarse: float = 0.45
    """share of crops seen at low resolution"""
    coarsest: float = 20.0
    """height of the object at the lowest resolution, pixels"""


STILL = AugmentConfig(
    fill_low=0.8,
    fill_high=0.8,
    shift=0.0,
    rotate=0.0,
    aspect=0.0,
    occlude=0.0,
    context=0.0,
    coarse=0.0,
)  # crops as at test time, for validation


@dataclass(frozen=True)
class TrainConfig:
    """Train a category from labelled views."""

    views: tuple[str, ...]
    """views files; each is drawn from equally often"""
    out: str
    """run folder: checkpoints, log and, at the end, the model"""
    exclude: tuple[str, ...] = ()
    """photos left out, as the views file names them (wrong labels)"""
    category: str = "car"
    """category whose records are used"""
    cad: str = ""
    """folder of CADs the template is wrapped onto, or of one template.obj that is taken as it is;
    default: the template of the bundled model"""
    template: TemplateKind = "mean"
    """what is made of those CADs: their mean shape, or the cuboid around them (spec 2.4)"""
    shapes: str = ""
    """safetensors file: by model_name, where the template's vertices lie on that object (v, 3),
    diagonal 1; default: the template, stretched to the record's box"""
    start: str = ""
    """model whose network, texture, template and shape space are gone on with; default: none"""
    trunk: str = ""
    """file the trunk starts from: safetensors, or for resnet50 a state in torchvision's names
    (.safetensors, .pth); default: the trunk of the bundled model"""
    backgrounds: str = ""
    """folder of pictures without the object: occluders and context; default: blurred views"""
    background_exclude: tuple[str, ...] = ()
    """pictures of that folder left out (they show the object)"""
    background_share: float = 1.0
    """first share of that folder, by name, that may be used; the rest is kept for tests"""
    epochs: int = 8
    """passes"""
    samples_per_epoch: int = 6000
    """draws per pass, spread evenly over azimuth; 0: as many as there are records"""
    batch: int = 16
    """crops per step"""
    lr_head: float = 1.5e-3
    """peak learning rate of the head"""
    lr_trunk: float = 4e-4
    """peak learning rate of the trunk; 0 freezes it"""
    crops: int = 0
    """where the trunk is frozen (lr_trunk 0): crops that are drawn and put through it once, and
    learnt from in every pass; 0: every draw is new"""
    others: tuple[str, ...] = ()
    """folders of such crops of other categories (RUN/crops): all of them is background"""
    others_share: float = 0.2
    """share of each batch that shows other categories, where there are some"""
    freeze_blocks: int = 3
    """first blocks of the trunk that stay as they are"""
    weight_decay: float = 1e-2
    """of all weights with more than one axis"""
    momentum: float = 0.9
    """share of the old texture kept in each step"""
    temperature: float = 0.07
    """of the contrastive loss"""
    clutter_weight: float = 0.02
    """weight of a clutter vector against an anchor in the denominator (omega)"""
    background_loss: float = 0.3
    """weight of the loss that tells background cells from anchors"""
    near: float = 0.08
    """anchors closer than this are not told apart, object units"""
    anchors_per_view: int = 192
    """visible anchors that enter the loss, per crop"""
    clutter_queue: int = 2048
    """background features remembered"""
    validation_models: int = 20
    """model_names kept out for the inner validation"""
    validation_views: int = 120
    """views of them that are measured after each pass"""
    gist: int = 0
    """crops from which the gist, presence and view, is learnt at the end; 0: none"""
    small: float = 0.0
    """first share of the steps that see crops of two thirds the size, in less time"""
    save_every: int = 100
    """steps between two checkpoints"""
    seed: int = 0
    """of every draw"""
    threads: int = 0
    """of torch; 0: as many as there are cores"""
    model: ModelConfig = field(default_factory=ModelConfig)
    """the network and the texture"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """how crops are varied"""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a pass."""
        return max(1, self.samples_per_epoch // self.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch
