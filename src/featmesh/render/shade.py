"""Deferred shading: given the visible face of each pixel, everything else is differentiable torch.

The gradients are exact for fixed face ids and blind to the outline, which has its own term in
:mod:`featmesh.render.edges`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featmesh.geometry.camera import Camera
from featmesh.render.fragments import Fragments


def pixel_rays(camera: Camera, like: Float[Tensor, "..."]) -> Float[Tensor, "h w 2"]:
    """Return x and y of the rays (z = 1) through the pixel centres, camera axes."""
    x = torch.arange(camera.width, dtype=like.dtype, device=like.device) + 0.5
    y = torch.arange(camera.height, dtype=like.dtype, device=like.device) + 0.5
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return camera.unproject(torch.stack([columns, rows], -1))[..., :2]


def barycentric(
    points_cam: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    face_id: Int[Tensor, "b h w"],
    camera: Camera,
) -> Float[Tensor, "b h w 3"]:
    """Return where in its face each pixel centre lies, perspective-correct, 0 where nothing.

    From homogeneous edge functions ``w_i = d . (v_j x v_k)``, d the ray of the pixel: no division
    by depth, no clipping. A centre that lies outside by the rounding of the coverage (1/256 pixel)
    is taken to an edge, so the coordinates are within 0 .. 1 and finite for every face.
    Differentiable with respect to the points. Source: ours, after Olano and Greer 1997.

    Args:
        points_cam: vertices, camera axes.
        faces: vertices of each face.
        face_id: visible face, -1 where nothing.
        camera: the camera of the pixels.
    """
    item, row, column = (face_id >= 0).nonzero(as_tuple=True)
    triangles = points_cam[item[:, None], faces[face_id[item, row, column].long()]]
    found = _weights(triangles, pixel_rays(camera, points_cam)[row, column])
    empty = points_cam.new_zeros((*face_id.shape, 3))
    return empty.index_put((item, row, column), found)


def _weights(triangles: Float[Tensor, "n 3 3"], rays: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    # det(d, v_j, v_k) stays the same when multiples of d are taken off v_j and v_k: what is left of
    # it is flat, and nothing large cancels (far objects with tiny faces, float32)
    flat = triangles[..., :2] - triangles[..., 2:] * rays[:, None]
    x, y = flat.unbind(-1)
    w = x.roll(-1, 1) * y.roll(-2, 1) - y.roll(-1, 1) * x.roll(-2, 1)
    facing = torch.where(w.sum(1, keepdim=True) < 0, -1.0, 1.0).to(w)
    w = (w * facing).clamp_min(0)
    total = w.sum(1, keepdim=True)
    # a face without any area as seen from here: its middle, with no gradient
    shrunk = total <= torch.finfo(w.dtype).tiny ** 0.5
    return torch.where(shrunk, 1 / 3, w / torch.where(shrunk, 1, total))


def interpolate(
    attributes: Float[Tensor, "*b v c"], faces: Int[Tensor, "f 3"], fragments: Fragments
) -> Float[Tensor, "b h w c"]:
    """Return the attributes of the vertices at each pixel, 0 where nothing; not normalised again.

    Differentiable with respect to the attributes and, through the fragments, to the points.

    Args:
        attributes: one row a vertex, common to the batch or one table for each picture.
        faces: vertices of each face.
        fragments: what the rasteriser found.
    """
    item, row, column = fragments.covered.nonzero(as_tuple=True)
    vertices = faces[fragments.face_id[item, row, column]]
    if attributes.ndim == 3:
        vertices = vertices + (item * attributes.shape[1])[:, None]
    dtype = torch.promote_types(attributes.dtype, fragments.bary.dtype)
    # gather and weighted sum in one pass: no (n, 3, c) in between
    found = torch.nn.functional.embedding_bag(
        vertices,
        attributes.flatten(0, -2).to(dtype),
        per_sample_weights=fragments.bary[item, row, column].to(dtype),
        mode="sum",
    )
    empty = found.new_zeros((*fragments.face_id.shape, attributes.shape[-1]))
    return empty.index_put((item, row, column), found)


def render_features(
    features: Float[Tensor, "*b v c"],
    faces: Int[Tensor, "f 3"],
    fragments: Fragments,
    background: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "b h w c"]:
    """Return the feature map of the surface, with ``background`` (default 0) where nothing is."""
    image = interpolate(features, faces, fragments)
    if background is None:
        return image
    return torch.where(fragments.covered[..., None], image, background.to(image))


def render_depth(
    points_cam: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], fragments: Fragments
) -> Float[Tensor, "b h w"]:
    """Return z of the visible surface in the unit of the points, inf where nothing."""
    z = interpolate(points_cam[..., 2:], faces, fragments)[..., 0]
    return z.masked_fill(~fragments.covered, torch.inf)


def render_mask(fragments: Fragments) -> Bool[Tensor, "b h w"]:
    """Return where the object is visible."""
    return fragments.covered


def render_labels(
    labels: Int[Tensor, " v"], faces: Int[Tensor, "f 3"], fragments: Fragments
) -> Int[Tensor, "b h w"]:
    """Return the label of the surface at each pixel, -1 where nothing.

    Args:
        labels: one a vertex; within a face the vertex with the largest weight decides.
        faces: vertices of each face.
        fragments: what the rasteriser found.
    """
    nearest = fragments.bary.argmax(-1, keepdim=True)
    vertex = faces[fragments.face_id.clamp_min(0)].gather(-1, nearest)[..., 0]
    return torch.where(fragments.covered, labels[vertex], -1)
