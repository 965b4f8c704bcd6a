"""The neural textured mesh of one category: template, texture, clutter and the network (spec 1).

:meth:`CategoryModel.mesh` is the one place where a latent code moves the template's vertices. The
texture belongs to the anchors and rides along.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from featmesh.config import config_from_dict
from featmesh.errors import CheckpointError, FeatmeshError, InputError
from featmesh.geometry.camera import Camera
from featmesh.geometry.mesh import Mesh
from featmesh.geometry.pose import Pose
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate

from .atlas import Atlas
from .backbones import Backbone, build_backbone
from .calibration import Calibration
from .checkpoint import ModelFiles, save_model
from .clutter import clutter_score
from .config import DeformationConfig, ModelConfig
from .deformation import Deformation, build_deformation
from .gist import Gist, GistHead, gist_of, write_gist
from .labels import Labels
from .norm import Window
from .part_evidence import EVIDENCE, PartEvidence
from .texture_map import TextureMap

# pixels uint8 (h, w, 3), which of them are the photo's, the picture's camera
Picture = tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"], Camera]


@dataclass(frozen=True)
class FeatureMap:
    """What the network sees in a picture, cell by cell.

    Attributes:
        features: unit vectors.
        clutter: cosine of the best clutter centre.
        valid: whether the cell's centre lies inside the photo.
        camera: camera of the cells (the picture's, scaled by 1 / stride).
        trunk: the trunk's maps that the features were read off, for other heads; nothing where
            several pictures were looked at in one pass.
        gist: what the whole picture says at one look; None of a model that cannot tell.
    """

    features: Float[Tensor, "h w c"]
    clutter: Float[Tensor, "h w"]
    valid: Bool[Tensor, "h w"]
    camera: Camera
    trunk: tuple[Tensor, ...] = ()
    gist: Gist | None = None


def finer(cells: FeatureMap, factor: int) -> FeatureMap:
    """Return the map sampled ``factor`` times finer along each axis, bilinear: outlines need it."""
    if factor == 1:
        return cells
    joined = torch.cat([cells.features, cells.clutter[..., None]], -1).permute(2, 0, 1)[None]
    grown = functional.interpolate(
        joined, scale_factor=factor, mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    features = functional.normalize(grown[..., :-1], dim=-1, eps=1e-6)
    valid = cells.valid.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    camera = cells.camera.scale(float(factor))
    return FeatureMap(features.contiguous(), grown[..., -1].contiguous(), valid, camera)


@dataclass
class CategoryModel:
    """One category: a mesh whose surface carries a neural texture, and the network.

    Attributes:
        category: PASCAL3D+ name, e.g. ``car``.
        config: network and sizes.
        template: mean mesh; its vertices are the anchors of the texture.
        texture: unit vector of each anchor.
        clutter: unit centres of the background's features.
        backbone: the network.
        threshold: score below which the answer is ``no_object``; None where not fixed yet.
        hash: of the files it was loaded from; empty for a model in training.
        extra: what else the files say (metrics, data, licence notes).
        deformation: shape space, None for a model of the mean shape only.
        texture_map: the UV map that ``texture`` was sampled from, where the model has one.
        labels: parts of the surface, where the model has any.
        calibration: what its confidence is made of; None for a model that cannot say how sure it is
            and refuses by ``threshold``.
        gist: tells presence and view at one look, where the model has learnt to.
    """

    category: str
    config: ModelConfig
    template: Mesh
    texture: Float[Tensor, "v c"]
    clutter: Float[Tensor, "k c"]
    backbone: Backbone
    threshold: float | None = None
    hash: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    deformation: Deformation | None = None
    texture_map: TextureMap | None = None
    labels: Labels | None = None
    calibration: Calibration | None = None
    gist: GistHead | None = None

    def extract(
        self,
        pixels: UInt8[np.ndarray, "h w 3"],
        valid: Bool[np.ndarray, "h w"],
        camera: Camera,
        window: Window | None = None,
    ) -> FeatureMap:
        """Return the feature map of a picture.

        Args:
            pixels: picture; its sides are multiples of 32.
            valid: which pixels lie inside the photo.
            camera: camera of the picture.
            window: for a picture larger than a crop: height and width, pixels, of what a cell is
                seen against (:mod:`featmesh.model.norm`).

        Raises:
            InputError: E_NONFINITE where the network's output is not finite.
        """
        return self.extract_all([(pixels, valid, camera)], window)[0]

    @torch.no_grad()
    def extract_all(
        self, pictures: Sequence[Picture], window: Window | None = None
    ) -> list[FeatureMap]:
        """Return the feature maps of pictures of one size, see :meth:`extract`."""
        x = torch.from_numpy(np.stack([pixels for pixels, _, _ in pictures]))
        if self.backbone.training:
            self.backbone.eval()
        trunk = self.backbone.maps(x.permute(0, 3, 1, 2).float())
        maps = self.backbone.read(trunk, (x.shape[1], x.shape[2]), window).permute(0, 2, 3, 1)
        kept = tuple(trunk) if len(pictures) == 1 else ()
        if not bool(maps.isfinite().all()):
            raise InputError(
                "E_NONFINITE",
                "extract(): expected finite features, got NaN or infinity from the "
                f"{self.config.backbone} network; try: featmesh doctor",
            )
        # the gist is of crops; nothing reads that of a larger picture
        known = self.gist if window is None else None
        looks = [None] * len(pictures) if known is None else known.look(trunk)
        stride, found = self.config.stride, []
        rows = zip(maps.contiguous(), pictures, looks, strict=True)
        for features, (_, valid, camera), look in rows:
            inside = torch.from_numpy(valid[stride // 2 :: stride, stride // 2 :: stride].copy())
            seen = clutter_score(features, self.clutter)
            found.append(FeatureMap(features, seen, inside, camera.scale(1 / stride), kept, look))
        return found

    @torch.no_grad()
    def presence(self, pixels: UInt8[np.ndarray, "h w 3"]) -> float | None:
        """Return how probable the category is in a crop by its gist alone; None without a gist."""
        if self.gist is None:
            return None
        self.backbone.eval()
        x = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).float()
        logit = self.gist.look(self.backbone.maps(x))[0].presence
        return 1 / (1 + math.exp(-logit))

    def mesh(self, latent: Float[Tensor, " d"] | None = None) -> Mesh:
        """Return the category's mesh, object units; ``latent`` None is the mean shape.

        Raises:
            CheckpointError: E_CKPT_PART for a latent where the model has no shape space.
        """
        if latent is None:
            return self.template
        moved = self.shape_space("mesh()")(latent[None].float())[0]
        vertices = self.template.vertices
        return self.template.with_vertices(vertices + moved.to(vertices.dtype))

    def shape_space(self, who: str) -> Deformation:
        """Return the deformation, or raise E_CKPT_PART where the model has the mean shape only."""
        if self.deformation is None:
            raise CheckpointError(
                "E_CKPT_PART",
                f"{who}: expected a model with a shape space, got {self.category!r} which has the "
                "mean shape only; try: featmesh learn-shape, or the pose alone",
            )
        return self.deformation

    def render(
        self, cam_from_obj: Pose, camera: Camera, latent: Tensor | None = None
    ) -> tuple[Float[Tensor, "h w c"], Bool[Tensor, "h w"]]:
        """Return the rendered feature map (zero where nothing is hit) and the silhouette.

        Args:
            cam_from_obj: one pose, object units.
            camera: camera of the map to render, in cells.
            latent: shape code, None for the mean shape.
        """
        mesh = self.mesh(latent)
        vertices = mesh.vertices.to(cam_from_obj.R.dtype)
        fragments = rasterize(cam_from_obj.apply(vertices)[None], mesh.faces, camera)
        texture = self.texture.to(vertices.dtype)
        return interpolate(texture, mesh.faces, fragments)[0], fragments.face_id[0] >= 0

    def save(self, folder: str) -> None:
        """Write the model folder (contracts 5); the trunk goes to ``backbones/`` beside it."""
        state = self.backbone.state_dict()
        keep = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        trunk = {k[6:]: v for k, v in keep.items() if k.startswith("trunk.")}
        tensors = {k: v for k, v in keep.items() if k.startswith("head.")}
        tensors |= {
            "template.vertices": self.template.vertices.float(),
            "template.faces": self.template.faces.int(),
            "texture": self.texture,
            "clutter": self.clutter,
        }
        if self.deformation is not None:
            shape = self.deformation.state_dict()
            tensors |= {f"deformation.{k}": v for k, v in shape.items()}
        if self.texture_map is not None:
            tensors["texture_map.texels"] = self.texture_map.texels.half()
            tensors["texture_map.weight"] = self.texture_map.weight
        extra = {**self.extra, "threshold": self.threshold}
        if self.calibration is not None:
            extra["calibration"] = asdict(self.calibration)
        if self.labels is not None:
            tensors["labels.weights"] = self.labels.weights.half()
            extra["labels"] = list(self.labels.names)
        extra.pop("evidence", None)
        if self.labels is not None and self.labels.evidence is not None:
            extra["evidence"] = self.labels.evidence.write(Path(folder) / EVIDENCE)
        extra.pop("gist", None)
        if self.gist is not None:
            extra["gist"] = write_gist(self.gist, folder)
        if self.template.uv is not None:
            tensors["template.uv"] = self.template.uv.float()
        save_model(
            folder,
            self.category,
            asdict(self.config),
            trunk,
            self.config.backbone,
            tensors,
            extra,
        )

    @classmethod
    def from_files(cls, files: ModelFiles) -> "CategoryModel":
        """Return the model of a checked model folder."""
        config = config_from_dict(ModelConfig, files.config).checked()
        backbone = _filled_network(config, files)
        t = files.tensors
        missing = [k for k in PARTS if k not in t]
        if missing:
            raise _unfit(f"no {', '.join(missing)}")
        vertices, faces = t["template.vertices"].double(), t["template.faces"].long()
        template = Mesh(vertices, faces, t.get("template.uv")).checked("load(): template")
        texture, clutter = t["texture"].float(), t["clutter"].float()
        if texture.shape != (len(vertices), config.channels) or clutter.shape[1] != config.channels:
            raise _unfit(f"texture {tuple(texture.shape)} for {len(vertices)} vertices")
        deformation = None
        if config.deformation is not None:
            deformation = _filled_deformation(config, template, t)
        chart = _filled_map(config, template, t) if config.texture == "uv" else None
        threshold = files.extra.get("threshold")
        return cls(
            files.category,
            config,
            template,
            texture,
            clutter,
            backbone.eval(),
            threshold,
            files.hash,
            dict(files.extra),
            deformation,
            chart,
            _filled_labels(template, files),
            _filled_calibration(files),
            gist_of(t, files.folder, files.extra.get("gist")),
        )


PARTS = ("template.vertices", "template.faces", "texture", "clutter")


def _filled_network(config: ModelConfig, files: ModelFiles) -> Backbone:
    """Return the network with its weights, all of them and no others."""
    try:
        backbone = build_backbone(config)
    except FeatmeshError:
        raise
    except ValueError as error:  # a width that norms cannot divide
        raise _unfit(str(error)) from error
    state = {f"trunk.{k}": v for k, v in files.trunk.items()}
    state |= {k: v for k, v in files.tensors.items() if k.startswith("head.")}
    try:
        missing, unknown = backbone.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes that do not fit
        raise _unfit(str(error).splitlines()[-1].strip()) from error
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or unknown:
        raise _unfit(f"missing {missing[:3]}, unknown {unknown[:3]}")
    return backbone


def _filled_deformation(
    config: ModelConfig, template: Mesh, tensors: dict[str, Tensor]
) -> Deformation:
    """Return the shape space with its weights, ready to be asked."""
    paints = any(name.startswith("deformation.paint.") for name in tensors)
    own = config.deformation or DeformationConfig()
    deformation = build_deformation(own, template, config.channels if paints else None)
    state = {k[12:]: v for k, v in tensors.items() if k.startswith("deformation.")}
    try:
        deformation.load_state_dict(state)
    except RuntimeError as error:  # parts or shapes that do not fit
        raise _unfit(str(error).splitlines()[-1].strip()) from error
    return deformation.requires_grad_(False).eval()


def _filled_map(config: ModelConfig, template: Mesh, tensors: dict[str, Tensor]) -> TextureMap:
    """Return the UV map of a model that has one."""
    size = (config.texture_height, config.texture_width)
    texels, weight = (tensors.get(f"texture_map.{k}") for k in ("texels", "weight"))
    if texels is None or weight is None or template.uv is None:
        raise _unfit("no UV map")
    if tuple(texels.shape) != (*size, config.channels) or tuple(weight.shape) != size:
        raise _unfit(f"a UV map of {tuple(texels.shape)}")
    return TextureMap(Atlas.of(template, size), texels.float(), weight.float())


def _filled_labels(template: Mesh, files: ModelFiles) -> Labels | None:
    """Return the parts of the surface of a model that has any."""
    weights, names = files.tensors.get("labels.weights"), files.extra.get("labels")
    if weights is None and names is None:
        return None
    if weights is None or not isinstance(names, list):
        raise _unfit("labels without names, or names without labels")
    total = weights.float().sum(1, keepdim=True).clamp_min(1e-6)
    evidence = PartEvidence.stated(files.folder, files.extra.get("evidence"))
    labels = Labels(tuple(str(name) for name in names), weights.float() / total, evidence)
    return labels.checked(template, "load()")


def _filled_calibration(files: ModelFiles) -> Calibration | None:
    """Return what the model's confidence is made of."""
    stated = files.extra.get("calibration")
    return None if stated is None else config_from_dict(Calibration, stated).checked()


def _unfit(got: str) -> CheckpointError:
    return CheckpointError(
        "E_CKPT_CONFIG",
        f"load(): expected tensors that fit the configuration, got {got}; "
        "try: fetch the model folder again",
    )
