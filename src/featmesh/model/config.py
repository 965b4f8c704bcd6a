"""What a category model is made of: torch-free, saved in ``model.json``."""

from dataclasses import dataclass
from typing import Any, Literal

from featmesh.errors import CheckpointError

BackboneName = Literal["efficientnet_lite0", "dinov2_vits14", "resnet50", "hf"]
DeformationKind = Literal["field", "gcn", "pca"]
TextureKind = Literal["vertex", "uv", "gcn"]
SPANS = {  # far beyond what is of use: what a file asks for is held against it before it is made
    "stride": (1, 64),
    "channels": (1, 1024),
    "width": (1, 1024),
    "crop_height": (1, 8192),
    "crop_width": (1, 8192),
    "clutter_centres": (1, 65536),
    "texture_height": (1, 4096),
    "texture_width": (1, 4096),
}
SHAPE_SPANS = {"latents": (1, 256), "width": (1, 1024), "layers": (1, 16), "frequencies": (0, 16)}


@dataclass(frozen=True)
class DeformationConfig:
    """How a latent code moves the template's surface."""

    kind: DeformationKind = "field"
    """neural field over the surface, graph convolutions on it, or linear directions"""
    latents: int = 16
    """length of the latent code"""
    width: int = 128
    """channels of the hidden layers (field, gcn)"""
    layers: int = 4
    """hidden layers (field, gcn)"""
    frequencies: int = 6
    """octaves of the positions' Fourier features (field, gcn)"""
    symmetric: bool = True
    """whether left and right move as mirror images"""


@dataclass(frozen=True)
class ModelConfig:
    """The network and the texture of a category."""

    backbone: BackboneName = "efficientnet_lite0"
    """trunk: efficientnet_lite0 (fine-tuned), dinov2_vits14 (frozen), resnet50; hf by adapter"""
    stride: int = 8
    """photo pixels per feature cell, along each axis"""
    channels: int = 64
    """length of a feature vector"""
    width: int = 128
    """channels inside the decoder"""
    crop_height: int = 224
    """pixels of the crop the network sees, a multiple of the trunk's own"""
    crop_width: int = 336
    """pixels"""
    clutter_centres: int = 16
    """cluster centres that stand for everything that is not the object"""
    texture: TextureKind = "vertex"
    """a feature per vertex, a UV map of features, or the graph network's second output"""
    texture_height: int = 96
    """texels of a UV map"""
    texture_width: int = 144
    """texels"""
    stretch_prior: tuple[float, float, float] = (0.06, 0.03, 0.13)
    """how objects of the category differ in width, length and height: standard deviations of the
    logarithms over the mean shape's; the default is the cars'"""
    deformation: DeformationConfig | None = None
    """shape space; none: the mean shape only"""

    def checked(self) -> "ModelConfig":
        """Return this configuration, or raise E_CKPT_CONFIG for a size that no network has."""
        asked: list[tuple[str, Any, dict[str, tuple[int, int]]]] = [("", self, SPANS)]
        if self.deformation is not None:
            asked.append(("deformation.", self.deformation, SHAPE_SPANS))
        for where, config, spans in asked:
            for name, (low, high) in spans.items():
                value = getattr(config, name)
                if not low <= value <= high:
                    raise CheckpointError(
                        "E_CKPT_CONFIG",
                        f"model: expected {where}{name} from {low} to {high}, got {value}; "
                        "try: fetch the model folder again",
                    )
        return self
