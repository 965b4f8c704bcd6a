"""What the interior gradient does not see: the outline moves, and pixels change hands.

Where two neighbouring pixels lie on either side of a depth jump, the outline between them moves as
the front surface does. Its transport from one centre to the other turns the pixel behind into the
front one, or back; half of both changes is the slope of the loss. Stated in per-pixel costs it is
right for any loss, also for a choice between object and clutter. Source: ours; the linear form is
in Pidhorskyi et al., Rasterized Edge Gradients, 2024.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from featmesh.geometry.camera import Camera
from featmesh.render.fragments import Fragments
from featmesh.render.shade import interpolate

Cost = Callable[[Tensor, Tensor], Tensor]

STEEPEST = 3.0  # pixel widths of depth from a pixel to the next: about 72 degrees


def edge_gradient(
    points_cam: Float[Tensor, "b v 3"],
    faces: Tensor,
    fragments: Fragments,
    camera: Camera,
    cost: Cost,
    jump: float = 0.06,
) -> Float[Tensor, ""]:
    """Return 0, with the gradient of the summed cost that comes from moving outlines.

    Add it to the sum of the per-pixel costs; scale both alike. Depth steps below the threshold are
    folds of one surface, where the interior gradient is right.

    One sample decides for each pixel of outline: good while outlines are off by a few pixels.
    Nearer to the optimum opposite sides nearly cancel: there, use a finer camera, ``scale(4.0)``.

    Args:
        points_cam: vertices, camera axes, with gradient.
        faces: vertices of each face, (f, 3).
        fragments: what :func:`featmesh.render.rasterize.rasterize` found for these points.
        camera: the camera of the pixels.
        cost: ``cost(source, target)``: the cost at pixels ``target`` if they showed what pixels
            ``source`` show (a surface, or nothing); indices (n,) into the flattened (b, h, w).
        jump: a depth step between neighbours is a jump, not a slope, when it exceeds this fraction
            of the mesh's extent (and 3 pixel widths, which a coarse picture needs).
    """
    extent = (points_cam.amax(1) - points_cam.amin(1)).norm(dim=-1).detach()
    push = _outline_push(fragments.depth.detach(), jump * extent, camera, cost)
    moving = push.any(-1)
    # the surface point that is at the centre now, as it moves with the points
    held = Fragments(fragments.face_id, fragments.bary.detach(), fragments.depth)
    surface = interpolate(points_cam, faces, held)[moving]
    pixels, _ = camera.project(surface)
    return ((pixels - pixels.detach()) * push[moving]).sum()


@torch.no_grad()
def _outline_push(
    depth: Float[Tensor, "b h w"], step: Float[Tensor, " b"], camera: Camera, cost: Cost
) -> Float[Tensor, "b h w 2"]:
    """Return the change of cost for each pixel that the front surface at a pixel moves in u, v."""
    push = depth.new_zeros((*depth.shape, 2))
    index = torch.arange(depth.numel(), device=depth.device).reshape(depth.shape)
    for axis, focal in enumerate((camera.fx, camera.fy)):
        z, z_next = _neighbours(depth, axis)
        first, second = _neighbours(index, axis)
        front = torch.minimum(z, z_next)
        slope = torch.maximum(step[:, None, None], STEEPEST * front / focal)
        jump = front.isfinite() & ((z - z_next).abs() > slope)
        owner = torch.where(z < z_next, first, second)[jump]
        p, q = first[jump], second[jump]
        # towards larger u (or v) the first pixel's surface grows over the second, whoever is in
        # front: a front first pixel advances, a front second pixel retreats
        gain = (cost(p, q) - cost(q, q) + cost(p, p) - cost(q, p)) / 2
        push.view(-1, 2)[:, axis].index_add_(0, owner, gain.to(push))
    return push


def _neighbours(image: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return each pixel and its neighbour to the right (axis 0) or below (axis 1)."""
    if axis == 0:
        return image[:, :, :-1], image[:, :, 1:]
    return image[:, :-1], image[:, 1:]
