"""What benchmarks/fuzz.py found: each input that once made something else than a coded error."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h11
import pytest

from featmesh.apps.serve_protocol import guarded
from featmesh.errors import FeatmeshError
from featmesh.model.category import CategoryModel
from featmesh.model.checkpoint import ModelFiles, find_model, read_model
from featmesh.views.cad import read_cad, read_plain
from featmesh.views.record import read_views, write_views

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


def test_a_face_index_beyond_every_integer(tmp_path: Path) -> None:
    path = tmp_path / "huge.obj"
    path.write_text(f"{TRIANGLE}f 1 2 {10**30}\n")
    for read in (read_plain, read_cad):
        with pytest.raises(FeatmeshError, match=r"expected .* got .*; try:") as caught:
            read(path)
        assert caught.value.code == "E_MESH_INDEX"


def test_a_material_file_whose_name_is_too_long_is_none(tmp_path: Path) -> None:
    path = tmp_path / "long.obj"
    path.write_text(f"mtllib {'x' * 3000}.mtl\n{TRIANGLE}f 1 2 3\n")
    assert len(read_cad(path).parts) == 1


def test_half_a_surrogate_pair_is_not_written(tmp_path: Path) -> None:
    """JSON can spell it, so it can be read."""
    told = '[{"image": "a.png", "width": 64, "height": 48, "category": "car", "note": "\\ud800"}]'
    (tmp_path / "views.json").write_text(told)
    views = read_views(tmp_path / "views.json")
    with pytest.raises(FeatmeshError) as caught:
        write_views(tmp_path / "again.json", views)
    assert caught.value.code == "E_VIEWS"
    assert not (tmp_path / "again.json").exists()


@pytest.fixture(scope="module")
def car() -> ModelFiles:
    return read_model(find_model("car"))


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *(("", "width", 17), ("", "width", -8), ("", "width", 2**62), ("", "channels", 2**31)),
        *(("", "channels", 0), ("", "stride", 0), ("", "texture_width", 2**40)),
        *(("deformation", "width", 2**63), ("deformation", "width", -2)),
        *(("deformation", "latents", 2**31), ("deformation", "layers", 10**6)),
        *(("deformation", "frequencies", 2**31), ("deformation", "frequencies", -1)),
    ],
)
def test_a_model_that_asks_for_absurd_sizes(
    car: ModelFiles, part: str, name: str, value: int
) -> None:
    config: dict[str, Any] = dict(car.config)
    if part:
        config[part] = config[part] | {name: value}
    else:
        config[name] = value
    with pytest.raises(FeatmeshError, match=r"expected .* got .*; try:") as caught:
        CategoryModel.from_files(replace(car, config=config))
    assert caught.value.code == "E_CKPT_CONFIG"


def test_a_client_that_resets_as_it_is_refused_is_no_fault_of_ours() -> None:
    """Shutting down a connection that has just been reset raises; that ended in E_INTERNAL."""
    later: list[Any] = []

    def reset() -> None:
        raise OSError(107, "Transport endpoint is not connected")

    line = guarded(1.0, 5).__new__(guarded(1.0, 5))
    line.transport = SimpleNamespace(
        is_closing=lambda: False, write=lambda data: None, write_eof=reset, close=lambda: None
    )
    line.conn = SimpleNamespace(our_state=h11.IDLE)
    line.loop = SimpleNamespace(call_later=lambda *what: later.append(what))
    line.cycle = None
    line.send_400_response("rubbish")
    assert [what[1] for what in later] == [line.transport.close]
