"""The one entry to rasterisation: points in camera space become fragments, on the best backend."""

import functools
from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from featmesh.errors import BackendUnavailable, InputError
from featmesh.geometry.camera import Camera
from featmesh.render.fragments import Fragments
from featmesh.render.reference import coverage_reference
from featmesh.render.shade import barycentric, render_depth

Coverage = Callable[[Tensor, Tensor, int, int, bool], Tensor]


def rasterize(
    points_cam: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    backend: str = "auto",
    cull: bool = True,
) -> Fragments:
    """Return what is visible at each pixel; both backends give the same face ids.

    Faces with a vertex at z <= 0, not finite, or more than 2**20 pixels out are dropped, not
    clipped. Barycentric coordinates and depth are differentiable with respect to the points for
    fixed face ids. Points of half precision are computed with in float32.

    Args:
        points_cam: vertices of a batch of meshes, camera axes.
        faces: vertices counter-clockwise seen from outside, common to the batch.
        camera: the camera, and the size of the picture.
        backend: "auto", or one of ``BACKENDS``; auto takes numba on a CPU where numba can be used.
        cull: leave out faces seen from behind.

    Raises:
        InputError: E_BACKEND (no such backend) or E_MESH_INDEX (a face names no vertex).
        BackendUnavailable: E_BACKEND, the backend cannot be used here.
    """
    cover = _choose(backend, points_cam.device)
    _check_faces(faces, points_cam.shape[1])
    points_cam = points_cam.to(torch.promote_types(points_cam.dtype, torch.float32))
    screen = _project(points_cam, camera)
    face_id = cover(screen, faces, camera.height, camera.width, cull).long()
    bary = barycentric(points_cam, faces, face_id, camera)
    found = Fragments(face_id, bary, torch.zeros_like(bary[..., 0]))
    return Fragments(face_id, bary, render_depth(points_cam, faces, found))


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can be used on this machine."""
    return tuple(name for name in BACKENDS if name != "numba" or not _numba_fault())


@torch.no_grad()
def _project(points_cam: Tensor, camera: Camera) -> Float32[Tensor, "b v 3"]:
    """Project once, here, for every backend: two roundings would be two pictures."""
    pixels, _ = camera.project(points_cam)
    return torch.cat([pixels, 1 / points_cam[..., 2:]], -1).float()


def _coverage_numba(
    points: Tensor, faces: Tensor, height: int, width: int, cull: bool
) -> Int[Tensor, "b h w"]:
    from featmesh.render.kernels import coverage

    indices = faces.detach().to(torch.int32).numpy()
    return torch.from_numpy(coverage(points.numpy(), indices, height, width, cull))


BACKENDS: dict[str, Coverage] = {"numba": _coverage_numba, "torch": coverage_reference}


@functools.cache
def _numba_fault() -> str:
    """Return why the compiled kernels cannot be used, nothing if they can."""
    try:
        import featmesh.render.kernels  # noqa: F401
    except (ImportError, RuntimeError, OSError) as fault:  # also: no folder to cache kernels in
        return f"{type(fault).__name__}: {fault}"
    return ""


def _choose(backend: str, device: torch.device) -> Coverage:
    if backend == "auto":
        return BACKENDS["numba" if device.type == "cpu" and not _numba_fault() else "torch"]
    if backend not in BACKENDS:
        raise InputError(
            "E_BACKEND",
            f"rasterize: expected backend to be one of auto, {', '.join(BACKENDS)}, "
            f"got {backend!r}; try: auto",
        )
    if backend == "numba" and device.type != "cpu":
        raise BackendUnavailable(
            "E_BACKEND",
            f"rasterize: expected points on the cpu for backend 'numba', got {device}; "
            "try: backend='torch'",
        )
    if backend == "numba" and _numba_fault():
        raise BackendUnavailable(
            "E_BACKEND",
            f"rasterize: expected numba to be usable, got {_numba_fault()}; "
            "try: backend='torch', or reinstall numba",
        )
    return BACKENDS[backend]


def _check_faces(faces: Tensor, vertices: int) -> None:
    """Refuse indices that name no vertex: a compiled kernel would read foreign memory."""
    if faces.numel() and (faces.min() < 0 or faces.max() >= vertices):
        wrong = int(((faces < 0) | (faces >= vertices)).any(1).nonzero()[0])
        raise InputError(
            "E_MESH_INDEX",
            f"rasterize: expected face indices within 0 .. {vertices - 1}, got "
            f"{faces[wrong].tolist()} in face {wrong}; try: check the mesh",
        )
