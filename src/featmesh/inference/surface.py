"""Where an object's surface is at a latent code, and how it moves with it (ours).

A field's derivative costs far more than a look at the photo, so codes near one whose derivative is
known share it: the surface is linear within ``NEAR`` standard deviations of such a code.
"""

import numpy as np
import torch
from jaxtyping import Float64

from featmesh.model.category import CategoryModel

from .energy_kernels import Surface

NEAR = 0.75  # standard deviations, Euclidean


class MovingSurface:
    """The surface of a category's objects as a function of their latent codes.

    Args:
        model: template and deformation.
        moves: whether there are latents; no: the mean shape, codes of length 0.
    """

    def __init__(self, model: CategoryModel, moves: bool) -> None:
        self._mean = np.ascontiguousarray(model.template.vertices.double().numpy())
        self._deformation = model.deformation if moves else None
        self._known: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def latents(self) -> int:
        """Length of a code."""
        return 0 if self._deformation is None else self._deformation.latents

    def at(self, latent: Float64[np.ndarray, "n k"]) -> Surface:
        """Return vertices and derivative of each code."""
        if not self.latents:
            return Surface(self._mean[None], np.zeros((1, 0, 1, 3)))
        near = [self._nearest(z) for z in latent]
        basis = np.stack([b for _, _, b in near])
        moved = [v + np.tensordot(z - z0, b, 1) for z, (z0, v, b) in zip(latent, near, strict=True)]
        return Surface(np.stack(moved), basis)

    def exact(self, latent: Float64[np.ndarray, "n k"]) -> Surface:
        """Return the vertices of each code, not linearised, without a derivative."""
        if self._deformation is None:
            return self.at(latent)
        with torch.no_grad():
            moved = self._deformation(torch.from_numpy(latent).float()).double().numpy()
        return Surface(self._mean + moved, np.zeros((1, 0, 1, 3)))

    def _nearest(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the nearest code whose derivative is known, its vertices and that derivative."""
        far = [float(np.linalg.norm(z - known[0])) for known in self._known]
        if far and min(far) <= NEAR:
            return self._known[int(np.argmin(far))]
        code = torch.from_numpy(z).float()
        derivative = self._deformation.jacobian(code).double().numpy()  # type: ignore[union-attr]
        self._known.append((z.copy(), self.exact(z[None]).vertices[0], derivative))
        return self._known[-1]
