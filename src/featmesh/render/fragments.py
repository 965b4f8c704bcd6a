"""What a rasteriser finds at each pixel: the visible face, where on it, and how far away."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

GUARD_BAND = 2**20  # pixels; keeps the integer edge functions inside 64 bits


@dataclass(frozen=True)
class Fragments:
    """The visible surface of a batch of meshes, one fragment a pixel.

    Attributes:
        face_id: row of the visible face, -1 where nothing; int64, no gradient.
        bary: perspective-correct barycentric coordinates of the pixel centre, 0 where nothing.
        depth: z of the surface point in the unit of the vertices, inf where nothing.
    """

    face_id: Int[Tensor, "b h w"]
    bary: Float[Tensor, "b h w 3"]
    depth: Float[Tensor, "b h w"]

    @property
    def covered(self) -> Bool[Tensor, "b h w"]:
        """Where a face is visible."""
        return self.face_id >= 0
