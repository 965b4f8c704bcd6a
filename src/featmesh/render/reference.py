"""Visibility in plain torch: the oracle of the compiled kernels, and the way of every other device.

Every pixel of every face's bounding box is one candidate; those inside the face compete for their
pixel with a 64-bit key (1/z, face) and the smallest key wins. The same fixed-point coverage and the
same float32 arithmetic as :mod:`featmesh.render.kernels`, so the face ids are equal, bit for bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int
from torch import Tensor

from featmesh.render.fragments import GUARD_BAND

_BLOCK = 2**22  # candidates tested at once: bounds the memory when faces are large
_EMPTY = torch.iinfo(torch.int64).max
_LARGEST = 2**31 - 1  # positive float32 numbers order like their bits, all below this
_LOW = 2**32 - 1


@dataclass(frozen=True)
class _Faces:
    """Faces that may cover pixels, as integers in 1/256 pixel; n of them, from the whole batch."""

    item: Int[Tensor, " n"]  # which picture of the batch
    face: Int[Tensor, " n"]
    box: Int[Tensor, "n 3"]  # left, top and width of the bounding box, in pixels
    edges: Int[Tensor, "n 3 3"]  # step in x, step in y, value at the first pixel; a row per corner
    inverse_z: Float32[Tensor, "n 3"]
    scale: Float32[Tensor, " n"]  # 1 / area
    count: Int[Tensor, " n"]  # pixels of the bounding box

    def __getitem__(self, keep: Tensor | slice) -> "_Faces":
        return _Faces(*(part[keep] for part in self.__dict__.values()))


@torch.no_grad()
def coverage_reference(
    points: Float32[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    height: int,
    width: int,
    cull: bool = True,
) -> Int[Tensor, "b h w"]:
    """Return the visible face of each pixel, -1 where nothing.

    A pixel is covered where its centre lies in or on a face, tested with integer edge functions at
    1/256 pixel. The larger 1/z wins, then the smaller face id. Faces with a vertex at z <= 0 or
    farther out than the guard band are dropped, not clipped.

    Args:
        points: projected vertices: pixels u, v and 1/z; on any device.
        faces: vertices counter-clockwise seen from outside.
        height: rows of the picture, pixels.
        width: columns of the picture, pixels.
        cull: leave out faces seen from behind.
    """
    batch = len(points)
    best = torch.full((batch * height * width,), _EMPTY, dtype=torch.int64, device=points.device)
    for block in _blocks(_candidate_faces(points, faces.long(), height, width, cull)):
        item, x, y, key = _covered(block)
        best.scatter_reduce_(0, (item * height + y) * width + x, key, "amin")
    face_id = torch.where(best == _EMPTY, -1, best & _LOW)
    return face_id.reshape(batch, height, width).int()


def _candidate_faces(points: Tensor, faces: Tensor, height: int, width: int, cull: bool) -> _Faces:
    usable = (points[..., :2].abs() <= GUARD_BAND).all(-1)
    usable &= (points[..., 2] > 0) & points[..., 2].isfinite()
    item, face = usable[:, faces].all(-1).nonzero(as_tuple=True)
    corners = points[item[:, None], faces[face]]
    snapped = torch.floor(corners[..., :2] * 256 + 0.5).long()
    x, y = snapped.unbind(-1)
    # y points down: the area of a face seen from outside is negative
    area = _cross(x[:, 1] - x[:, 0], y[:, 1] - y[:, 0], x[:, 2] - x[:, 0], y[:, 2] - y[:, 0])
    sign = area.sign()[:, None]
    # the edge function of a vertex belongs to the opposite edge, from its next to its last corner
    x1, y1, x2, y2 = x.roll(-1, 1), y.roll(-1, 1), x.roll(-2, 1), y.roll(-2, 1)
    step_x, step_y = sign * (y1 - y2), sign * (x2 - x1)
    left = ((x.amin(1) + 127) >> 8).clamp_min(0)
    right = ((x.amax(1) - 128) >> 8).clamp_max(width - 1)
    top = ((y.amin(1) + 127) >> 8).clamp_min(0)
    bottom = ((y.amax(1) - 128) >> 8).clamp_max(height - 1)
    first = step_x * (left[:, None] * 256 + 128 - x1) + step_y * (top[:, None] * 256 + 128 - y1)
    columns, rows = (right - left + 1).clamp_min(0), (bottom - top + 1).clamp_min(0)
    found = _Faces(
        item,
        face,
        torch.stack([left, top, columns], 1),
        torch.stack([step_x * 256, step_y * 256, first], 2),
        corners[..., 2],
        1 / area.abs().float(),
        columns * rows,
    )
    front = area < 0 if cull else area != 0
    return found[front & (found.count > 0)]


def _cross(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    return ax * by - bx * ay


def _blocks(faces: _Faces) -> Iterator[_Faces]:
    """Cut the faces into runs of about ``_BLOCK`` candidates."""
    run = (faces.count.cumsum(0) - 1) // _BLOCK
    start = 0
    for size in run.unique_consecutive(return_counts=True)[1].tolist():
        yield faces[start : start + size]
        start += size


def _covered(faces: _Faces) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return picture, column, row and key of the candidates that lie inside their face."""
    total = int(faces.count.sum())
    row = torch.arange(len(faces.count), device=faces.count.device)
    row = row.repeat_interleave(faces.count, output_size=total)
    offset = (faces.count.cumsum(0) - faces.count)[row]
    inside_box = torch.arange(total, device=row.device) - offset
    columns = faces.box[row, 2]
    dy = inside_box.div(columns, rounding_mode="floor")
    dx = inside_box - dy * columns
    edges = faces.edges[row]
    w = edges[..., 0] * dx[:, None] + edges[..., 1] * dy[:, None] + edges[..., 2]
    inside = (w >= 0).all(1)
    row, dx, dy, w = row[inside], dx[inside], dy[inside], w[inside].float()
    z = faces.inverse_z[row]
    # the order of these operations is that of the kernel
    near = (w[:, 0] * z[:, 0] + w[:, 1] * z[:, 1] + w[:, 2] * z[:, 2]) * faces.scale[row]
    key = ((_LARGEST - near.view(torch.int32).long()) << 32) | faces.face[row]
    return faces.item[row], faces.box[row, 0] + dx, faces.box[row, 1] + dy, key
