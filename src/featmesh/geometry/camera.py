"""Pinhole intrinsics and how they change when pixels are scaled or cropped (contracts 1)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featmesh.errors import InputError

ASSUMED_FOCAL = 1.15  # focal length over the longer side, where nothing is known (contracts 1)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, OpenCV axes; pixel (0, 0) is the corner of the top-left pixel.

    Attributes:
        fx, fy: focal lengths, pixels.
        cx, cy: principal point, pixels.
        height, width: size of the picture, pixels.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int

    @classmethod
    def from_K(cls, K: Float[Tensor, "3 3"], size: tuple[int, int]) -> "Camera":
        """Return the camera of an intrinsic matrix.

        Args:
            K: ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]``, pixels.
            size: (height, width) of the picture K belongs to.

        Raises:
            InputError: E_CAMERA, naming the entry that no lens has.
        """
        names = (("fx", "skew", "cx"), ("K[1,0]", "fy", "cy"), ("K[2,0]", "K[2,1]", "K[2,2]"))
        for i in range(3):
            for j in range(3):
                if not math.isfinite(float(K[i, j])):
                    raise _bad(f"a finite {names[i][j]}", f"{float(K[i, j])}", "check K")
        if (
            abs(float(K[0, 1])) + abs(float(K[1, 0])) + abs(float(K[2, 0])) + abs(float(K[2, 1]))
            > 1e-6
        ):
            raise _bad(
                "K without skew, last row 0 0 1", f"{K.tolist()}", "undistort the photo first"
            )
        if abs(float(K[2, 2]) - 1) > 1e-6:
            raise _bad("K[2,2] = 1", f"{float(K[2, 2])}", "divide K by its last entry")
        fx, fy, cx, cy = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
        return cls(fx, fy, cx, cy, *size).checked()

    @classmethod
    def from_fov(cls, horizontal: float, size: tuple[int, int]) -> "Camera":
        """Return the centred camera whose picture spans ``horizontal`` radians sideways."""
        if not 0 < horizontal < math.pi:
            raise _bad(
                "a horizontal field of view inside (0, 180) degrees",
                f"{math.degrees(horizontal):g}",
                "give degrees on the command line",
            )
        f = size[1] / 2 / math.tan(horizontal / 2)
        return cls(f, f, size[1] / 2, size[0] / 2, *size).checked()

    @classmethod
    def assumed(cls, height: int, width: int) -> "Camera":
        """Return the camera taken where none is known: f = 1.15 max(W, H), centred."""
        f = ASSUMED_FOCAL * max(height, width)
        return cls(f, f, width / 2, height / 2, height, width)

    def checked(self) -> "Camera":
        """Return this camera, or raise E_CAMERA naming the entry that cannot be."""
        longest = max(self.height, self.width)
        for name in ("fx", "fy", "cx", "cy"):
            if not math.isfinite(getattr(self, name)):
                raise _bad(f"a finite {name}", f"{getattr(self, name)}", "check K")
        for name, f in (("fx", self.fx), ("fy", self.fy)):
            if not 0.05 * longest <= f <= 200 * longest:
                raise _bad(
                    f"{name} between 0.05 and 200 times the longer side ({longest} px)",
                    f"{f:g}",
                    "give the focal length in pixels, not millimetres",
                )
        for name, c, side in (("cx", self.cx, self.width), ("cy", self.cy, self.height)):
            if not -side <= c <= 2 * side:
                raise _bad(
                    f"{name} within one picture of the picture (side {side} px)",
                    f"{c:g}",
                    "give the principal point in pixels of this photo",
                )
        return self

    @property
    def K(self) -> Float[Tensor, "3 3"]:
        """The intrinsic matrix, float64."""
        rows = [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]]
        return torch.tensor(rows, dtype=torch.float64)

    def project(
        self, points_cam: Float[Tensor, "*batch 3"]
    ) -> tuple[Float[Tensor, "*batch 2"], Tensor]:
        """Return pixels of camera-space points, and whether each lies in front (z > 0).

        Points behind the camera get pixels too; they mean nothing, use the flag.
        """
        z = points_cam[..., 2]
        safe = torch.where(z.abs() < 1e-9, torch.full_like(z, 1e-9), z)
        x = points_cam[..., 0] / safe * self.fx + self.cx
        y = points_cam[..., 1] / safe * self.fy + self.cy
        return torch.stack([x, y], -1), z > 0

    def unproject(self, points_pix: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 3"]:
        """Return the rays of pixels, z = 1, camera axes."""
        x = (points_pix[..., 0] - self.cx) / self.fx
        y = (points_pix[..., 1] - self.cy) / self.fy
        return torch.stack([x, y, torch.ones_like(x)], -1)

    def scale(self, factor: float) -> "Camera":
        """Return the camera of the picture resized by ``factor`` (1/8: a stride-8 feature map)."""
        return Camera(
            self.fx * factor,
            self.fy * factor,
            self.cx * factor,
            self.cy * factor,
            round(self.height * factor),
            round(self.width * factor),
        )

    def crop(self, x0: float, y0: float, height: int, width: int) -> "Camera":
        """Return the camera of the sub-picture that begins at (x0, y0)."""
        return Camera(self.fx, self.fy, self.cx - x0, self.cy - y0, height, width)

    def zoom(self, factor: float) -> "Camera":
        """Return the camera with the focal length multiplied, same picture and principal point."""
        return Camera(self.fx * factor, self.fy * factor, self.cx, self.cy, self.height, self.width)

    def shift(self, x: float, y: float) -> "Camera":
        """Return the camera with the principal point moved by (x, y) pixels, same picture."""
        return Camera(self.fx, self.fy, self.cx + x, self.cy + y, self.height, self.width)


def _bad(expected: str, got: str, hint: str) -> InputError:
    return InputError("E_CAMERA", f"camera: expected {expected}, got {got}; try: {hint}")
