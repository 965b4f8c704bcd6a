"""Meshes written for other programs are the model's, in the frame they say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from fixtures import car_model, shaped_model

from featmesh.apps.export_mesh import shape_of, write_mesh
from featmesh.errors import CheckpointError, InputError
from featmesh.geometry.mesh import Mesh, read_mesh
from featmesh.present.meshfile import GLTF_FROM_OBJECT

# two triangles that share an edge, which is a seam: vertex 2 has two places on the map
UV = [[[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]], [[0.4, 0.0], [0.9, 0.7], [0.5, 0.6]]]


def seamed() -> Mesh:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.5]], dtype=torch.float64)
    return Mesh(points, torch.tensor([[0, 1, 2], [1, 3, 2]]), torch.tensor(UV).double())


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
def test_a_written_mesh_comes_back_in_the_object_frame(kind: str, tmp_path: Path) -> None:
    mesh = shape_of(shaped_model(), (1.0, -0.5, 0.25))
    told = write_mesh(tmp_path / f"car.{kind}", mesh, "car")
    again = read_mesh(tmp_path / f"car.{kind}")
    assert (told["vertices"], told["watertight"]) == (len(mesh.vertices), True)
    assert torch.allclose(again.corners, mesh.corners, atol=1e-6)
    assert ("front +z" if kind == "glb" else "front -y") in told["frame"]


def test_obj_and_ply_say_their_frame_in_the_file(tmp_path: Path) -> None:
    for kind in ("obj", "ply"):
        write_mesh(tmp_path / f"car.{kind}", seamed(), "a\ncar")
        head = (tmp_path / f"car.{kind}").read_bytes()[:400].decode("latin-1")
        assert "front -y, up +z" in head and "a car" in head and "diagonal" in head


def test_obj_keeps_the_texture_coordinates_of_corners(tmp_path: Path) -> None:
    write_mesh(tmp_path / "m.obj", seamed(), "m")
    lines = [line.split() for line in (tmp_path / "m.obj").read_text().splitlines()]
    map_ = [(float(u), 1 - float(v)) for key, u, v in (x for x in lines if x[0] == "vt")]
    faces = [[tuple(map(int, corner.split("/"))) for corner in x[1:]] for x in lines if x[0] == "f"]
    assert [[v - 1 for v, _ in face] for face in faces] == seamed().faces.tolist()
    found = [[map_[t - 1] for _, t in face] for face in faces]
    assert np.allclose(found, UV) and len(map_) == 5


@pytest.mark.parametrize("kind", ["glb", "ply"])
def test_another_program_reads_the_texture_coordinates(kind: str, tmp_path: Path) -> None:
    write_mesh(tmp_path / f"m.{kind}", seamed(), "m")
    read = trimesh.load(tmp_path / f"m.{kind}", force="mesh", process=False)
    found = np.asarray(read.visual.uv)[np.asarray(read.faces)]
    turned = seamed().corners.numpy() @ (GLTF_FROM_OBJECT.T if kind == "glb" else np.eye(3))
    assert np.allclose(np.asarray(read.vertices)[np.asarray(read.faces)], turned)
    assert np.allclose(found, np.stack([np.array(UV)[..., 0], 1 - np.array(UV)[..., 1]], -1))


def test_glb_repeats_vertices_on_seams_and_keeps_their_normals(tmp_path: Path) -> None:
    write_mesh(tmp_path / "m.glb", seamed(), "m")
    data = (tmp_path / "m.glb").read_bytes()
    assert int.from_bytes(data[8:12], "little") == len(data)
    size = int.from_bytes(data[12:16], "little")
    tree = json.loads(data[20 : 20 + size])
    buffer = data[28 + size :]

    def column(k: int, width: int) -> np.ndarray:
        view = tree["bufferViews"][tree["accessors"][k]["bufferView"]]
        start = view["byteOffset"]
        return np.frombuffer(buffer[start : start + view["byteLength"]], "<f4").reshape(-1, width)

    part = tree["meshes"][0]["primitives"][0]["attributes"]
    anchor = column(part["_ANCHOR"], 1)[:, 0].astype(int)
    assert anchor.tolist() == [0, 1, 2, 2, 3]
    normals = seamed().vertex_normals.numpy()[anchor] @ GLTF_FROM_OBJECT.T
    assert np.allclose(column(part["NORMAL"], 3), normals, atol=1e-6)
    points = column(part["POSITION"], 3)
    accessor = tree["accessors"][part["POSITION"]]
    assert accessor["count"] == 5 and accessor["min"] == points.min(0).tolist()


def test_codes_that_do_not_fit_are_refused() -> None:
    for code, name in (((1.0,), "E_SHAPE"), ((0.0, 0.0, float("nan")), "E_NONFINITE")):
        with pytest.raises(InputError) as caught:
            shape_of(shaped_model(), code)
        assert caught.value.code == name
    with pytest.raises(CheckpointError, match="E_CKPT_PART"):
        shape_of(car_model(), (1.0,))
    assert shape_of(shaped_model()) is shaped_model().template


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ending in \.glb \.obj \.ply"):
        write_mesh(tmp_path / "car.fbx", seamed(), "car")
