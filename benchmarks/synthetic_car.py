"""The mesh of the synthetic cases: closed, car-like, with concave wheel arches."""

from functools import lru_cache

import torch

from featmesh.geometry.mesh import Mesh


@lru_cache(maxsize=4)
def car_mesh(side: int = 20) -> Mesh:
    """Return a closed car-like surface of 12 side^2 faces: body, cabin, arches; diagonal 1."""
    line = torch.linspace(-1, 1, side + 1, dtype=torch.float64)
    a, b = torch.meshgrid(line, line, indexing="ij")
    one = torch.ones_like(a)
    sheets = [(one, a, b), (-one, b, a), (b, one, a), (a, -one, b), (a, b, one), (b, a, -one)]
    cube = torch.cat([torch.stack(sheet, -1).reshape(-1, 3) for sheet in sheets])
    first = (torch.arange(side)[:, None] * (side + 1) + torch.arange(side)).reshape(-1)
    first = (torch.arange(6)[:, None] * (side + 1) ** 2 + first).reshape(-1)
    quad = (first, first + side + 1, first + side + 2, first + 1)
    faces = torch.cat([torch.stack([quad[i] for i in half], 1) for half in ((0, 1, 2), (0, 2, 3))])
    cube, welded = (cube * 2**20).round().unique(dim=0, return_inverse=True)
    cube, faces = cube / 2**20, welded[faces]
    x, y, z = (0.55 * cube + 0.56 * cube / cube.norm(dim=1, keepdim=True)).unbind(1)
    cabin = torch.sigmoid((0.55 - (y - 0.08).abs()) / 0.06)
    above = z.clamp_min(0)
    arch = torch.exp(-(((y.abs() - 0.62) / 0.17) ** 2)) * (-cube[:, 2]).clamp_min(0)
    wide = x * (0.42 - 0.08 * cabin * above.clamp_max(1))
    high = 0.35 * z + 0.75 * above * cabin + 0.12 * arch
    return Mesh(torch.stack([wide, y, high], 1), faces).normalised()
