"""Points between the anchors: where on a crop a point of the surface is seen (spec 2.11).

A vertex texture learns at the anchors; a texture map wants features from the whole surface. What a
feature map says at points is read here for both.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class SurfacePoints:
    """Visible points of the surface in one crop.

    Attributes:
        face: face of each.
        bary: where in its face.
        pixels: where on the crop.
    """

    face: Int[Tensor, " n"]
    bary: Float[Tensor, "n 3"]
    pixels: Float[Tensor, "n 2"]

    def nearest_vertex(self, faces: Int[Tensor, "f 3"]) -> Int[Tensor, " n"]:
        """Return the corner of its face each point lies nearest to, by weight."""
        return faces[self.face].gather(1, self.bary.argmax(1, keepdim=True))[:, 0]


def surface_points(
    anchors: Float32[np.ndarray, "v 2"],
    visible: Bool[np.ndarray, " v"],
    faces: Int[np.ndarray, "f 3"],
    count: int,
    rng: np.random.Generator,
) -> SurfacePoints:
    """Return points drawn evenly over the faces whose three corners are seen.

    Within a face they are placed linearly: a face spans few pixels, perspective bends it by less.

    Args:
        anchors: the vertices on the crop, pixels.
        visible: which of them are seen.
        faces: of the template.
        count: how many to draw; none where no face is seen.
        rng: draws them.
    """
    seen = np.flatnonzero(visible[faces].all(1))
    chosen = seen[rng.integers(len(seen), size=count)] if len(seen) else seen
    bary = rng.dirichlet(np.ones(3), len(chosen)).astype(np.float32)
    pixels = (anchors[faces[chosen]] * bary[..., None]).sum(1)
    return SurfacePoints(torch.from_numpy(chosen), torch.from_numpy(bary), torch.from_numpy(pixels))


def read_map(features: Float[Tensor, "c h w"], where: Float[Tensor, "n 2"]) -> Float[Tensor, "n c"]:
    """Return a feature map at points in [-1, 1] of its crop, x then y; bilinear, not unit vectors.

    Beyond the centres of its outermost cells the map goes on as it ends.
    """
    found = functional.grid_sample(
        features[None], where[None, None], align_corners=False, padding_mode="border"
    )
    return found[0, :, 0].T
