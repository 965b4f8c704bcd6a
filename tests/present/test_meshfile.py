import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from featmesh.errors import InputError
from featmesh.geometry.mesh import Mesh, read_mesh
from featmesh.present.meshfile import GLTF_FROM_OBJECT, glb, write_glb

from .samples import box_mesh


def read_back(data: bytes) -> Any:
    return trimesh.load(io.BytesIO(data), file_type="glb", force="mesh", process=False)


def document(data: bytes) -> Any:
    size = int.from_bytes(data[12:16], "little")
    return json.loads(data[20 : 20 + size])


def column(data: bytes, k: int) -> np.ndarray:
    """The values of the k-th accessor, one row a vertex, straight from the buffer."""
    told = document(data)
    accessor, view = told["accessors"][k], told["bufferViews"][k]
    binary = data[28 + int.from_bytes(data[12:16], "little") :]
    kind = {5126: "<f4", 5125: "<u4", 5121: "u1"}[accessor["componentType"]]
    values = np.frombuffer(
        binary, kind, view["byteLength"] // np.dtype(kind).itemsize, view["byteOffset"]
    )
    return values.reshape(accessor["count"], -1)


def in_object_frame(vectors: Any) -> np.ndarray:
    return np.asarray(vectors) @ GLTF_FROM_OBJECT


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    mesh = box_mesh()
    write_glb(tmp_path / "a.glb", mesh)
    loaded = read_back((tmp_path / "a.glb").read_bytes())
    np.testing.assert_allclose(in_object_frame(loaded.vertices), mesh.vertices, atol=1e-7)
    assert loaded.faces.tolist() == mesh.faces.tolist()
    assert loaded.is_watertight and loaded.volume == pytest.approx(mesh.volume, rel=1e-6)
    normals = in_object_frame(column((tmp_path / "a.glb").read_bytes(), 1))
    np.testing.assert_allclose(normals, mesh.vertex_normals, atol=1e-6)


def test_featmesh_reads_what_it_writes_in_its_own_frame(tmp_path: Path) -> None:
    write_glb(tmp_path / "a.glb", box_mesh())
    again = read_mesh(tmp_path / "a.glb")
    np.testing.assert_allclose(again.vertices, box_mesh().vertices, atol=1e-7)
    assert torch.equal(again.faces, box_mesh().faces)


def test_glTF_is_y_up_with_the_front_along_z() -> None:
    front, up, left = np.array([0, -1, 0]), np.array([0, 0, 1]), np.array([1, 0, 0])
    assert (GLTF_FROM_OBJECT @ front).tolist() == [0, 0, 1]
    assert (GLTF_FROM_OBJECT @ up).tolist() == [0, 1, 0]
    assert (GLTF_FROM_OBJECT @ left).tolist() == [1, 0, 0]
    assert np.linalg.det(GLTF_FROM_OBJECT) == pytest.approx(1)  # nothing is mirrored
    extent = read_back(glb(box_mesh())).extents
    width, length, height = box_mesh().extent.tolist()
    np.testing.assert_allclose(extent, [width, height, length], rtol=1e-6)


@pytest.mark.parametrize("unit", ["object", "metre"])
def test_the_unit_is_said(unit: Any) -> None:
    assert document(glb(box_mesh(), unit))["asset"]["extras"]["unit"] == unit


def test_colours_go_with_the_vertices_in_linear_light() -> None:
    mesh = box_mesh()
    colours = np.tile(np.array([0, 128, 255], dtype=np.uint8), (len(mesh.vertices), 1))
    colours[0] = 0
    data = glb(mesh, colours=colours)
    told = document(data)["meshes"][0]["primitives"][0]["attributes"]
    stored = column(data, told["COLOR_0"])
    assert (stored[0] == [0, 0, 0, 255]).all()
    assert (np.abs(stored[1:].astype(int) - [0, 56, 255, 255]) <= 1).all()
    assert len(read_back(data).vertices) == len(mesh.vertices)


@given(st.integers(3, 9), st.integers(0, 3))
def test_chunks_and_views_lie_where_they_are_said_to(corners: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = torch.from_numpy(rng.normal(size=(corners, 3)))
    faces = torch.from_numpy(np.array([[k, k + 1, k + 2] for k in range(corners - 2)]))
    colours = rng.integers(0, 256, (corners, 3)).astype(np.uint8)
    data = glb(Mesh(vertices, faces), colours=colours)
    assert data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data)
    assert len(data) % 4 == 0
    told = document(data)
    for accessor, view in zip(told["accessors"], told["bufferViews"], strict=True):
        width = {5126: 4, 5125: 4, 5121: 1}[accessor["componentType"]]
        values = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]] * accessor["count"]
        assert view["byteLength"] == width * values and view["byteOffset"] % 4 == 0
    last = told["bufferViews"][-1]
    assert told["buffers"][0]["byteLength"] == last["byteOffset"] + last["byteLength"]


def test_a_vertex_without_a_surface_has_a_normal_all_the_same() -> None:
    mesh = box_mesh()
    lonely = Mesh(torch.cat([mesh.vertices, torch.zeros(1, 3).double()]), mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(column(glb(lonely), 1), axis=1), 1, atol=1e-6)


def test_what_is_no_mesh_is_refused() -> None:
    mesh = box_mesh()
    broken = mesh.with_vertices(mesh.vertices * float("nan"))
    with pytest.raises(InputError, match="E_MESH_NONFINITE"):
        glb(broken)
    with pytest.raises(InputError, match="E_SHAPE"):
        glb(mesh, colours=np.zeros((1, 3), dtype=np.uint8))
