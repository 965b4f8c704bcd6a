"""Rows 37 to 48 of docs/reliability.md, answers and surroundings: what no other test claims."""

import json
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fixtures import car_mesh, look
from PIL import Image
from reliability.sources import SOURCE, attributes, users

from featmesh import files, store
from featmesh.apps.photos import folders
from featmesh.errors import FeatmeshError
from featmesh.geometry.camera import Camera
from featmesh.geometry.pose import Pose
from featmesh.progress import Meter
from featmesh.render.rasterize import rasterize
from featmesh.render.shade import interpolate
from featmesh.store import RunLock

DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]
ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"


def poor(**more: str) -> dict[str, str]:
    """An environment with nothing in it but what Python needs."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return {"PATH": os.defpath, "PYTHONPATH": str(SOURCE.parent), "LC_ALL": "C", **threads, **more}


def test_row_42_a_poor_environment_and_a_long_name_in_other_scripts(tmp_path: Path) -> None:
    """No HOME, no terminal, LANG=C, one core, spaces, umlauts, kanji, a path of 300 characters."""
    folder = tmp_path / "größe 写真" / ("n" * 120) / ("m" * 120)
    folder.mkdir(parents=True)
    photo = folder / "Foto für später é 車.png"
    Image.new("RGB", (15, 15)).save(photo)
    assert len(str(photo)) > 300
    words = ["estimate", str(photo), "--model", "car", "--out", str(folder / "aus gabe")]
    code = ONE_CORE + f"from featmesh.cli.main import main\nmain({words!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        env=poor(),
        stdin=subprocess.DEVNULL,
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 1 and "E_IMG_TOO_SMALL" in said, said
    assert "Traceback" not in said
    (result,) = (folder / "aus gabe").rglob("result.json")
    told = json.loads(result.read_text("utf-8"))
    assert told["photo"] == str(photo)
    assert told["objects"][0]["code"] == "E_IMG_TOO_SMALL"


def test_row_42_no_folder_has_the_name_of_a_windows_device() -> None:
    stems = ("con", "NUL", "aux.tar", "com1", "LPT9 ", "console", "com10")
    found = [f.name for f in folders([Path(f"{stem}.jpg") for stem in stems], Path("out"))]
    given = ["photo-con", "photo-NUL", "photo-aux.tar", "photo-com1", "photo-LPT9"]
    assert found == [*given, "console", "com10"]


def test_row_42_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/dev/null/none")
    done = subprocess.run(
        [sys.executable, "-m", "featmesh", "info", "car"],
        check=False,
        capture_output=True,
        text=True,
        env=poor(**homes),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "car" in done.stdout and not list(tmp_path.iterdir())


def test_row_43_durations_are_of_a_clock_that_only_grows() -> None:
    # the log's own column, and the age of files, which is of the wall clock
    assert users("time.time") == {"learn/session.py", "learn/direct.py", "store.py"}
    assert not users("datetime.now") | users("datetime.utcnow")


def test_row_43_a_clock_set_back_takes_no_lock_and_sweeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock.json"
    store.write_json_atomic(lock, {"pid": 1, "host": "another", "born": None, "token": "x"})
    left = tmp_path / f".tmp-{2**22 + 1}@another.host"
    left.touch()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 30 * 86_400)
    with pytest.raises(FeatmeshError) as caught, RunLock(tmp_path):
        pass
    assert caught.value.code == "E_LOCKED"
    store.sweep(tmp_path)
    assert left.exists() and lock.exists()
    meter = Meter("train", 2)
    meter.show(2, "done")


def test_row_43_nothing_is_kept_where_users_share_it() -> None:
    """What is written for later lies in folders the user named."""
    assert str(os.getpid()) in files.temp_name()
    assert not attributes() & {"expanduser", "gettempdir", "mkdtemp"}
    assert not users("Path.home") | users("platformdirs")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_row_44_drawing_is_the_same_on_every_device_in_every_precision(
    device: str, dtype: torch.dtype
) -> None:
    mesh, camera = car_mesh(), Camera(60.0, 60.0, 24.0, 16.0, 32, 48)
    pose = look(40, 12, 0, 2.0)
    points = Pose(pose.R, pose.t).apply(mesh.vertices)[None]
    exact = rasterize(points.float(), mesh.faces, camera, "torch")
    there = points.to(dtype).to(device)
    drawn = rasterize(there, mesh.faces.to(device), camera, "auto")
    assert drawn.face_id.device.type == drawn.bary.device.type == device
    assert drawn.bary.dtype == torch.float32
    same = (drawn.face_id.cpu() >= 0) == (exact.face_id >= 0)
    assert float(same.float().mean()) > (0.999 if dtype == torch.float32 else 0.97)
    colours = interpolate(mesh.vertices.float().to(device), mesh.faces.to(device), drawn)
    assert colours.device.type == device and bool(colours.isfinite().all())


def test_row_44_no_device_is_named_in_the_sources() -> None:
    assert not attributes() & {"cuda", "mps"}


def test_row_45_half_broken_packages_break_no_module(tmp_path: Path) -> None:
    """Every module of featmesh is imported beside packages that raise as a foreign build does."""
    for name in ("torchvision", "transformers", "timm", "torchmetrics", "onnx", "cv2"):
        (tmp_path / name).mkdir()
        text = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
        (tmp_path / name / "__init__.py").write_text(text)
    names = [m.name for m in pkgutil.walk_packages([str(SOURCE)], "featmesh.")]
    names = [name for name in names if not name.endswith("__main__")]
    assert len(names) > 150
    code = (
        f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        "from featmesh.model.checkpoint import load\n"
        "print(load('car').category)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(SOURCE.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["car"]
