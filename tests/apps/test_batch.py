import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from present.samples import found

import featmesh
from featmesh import files as store_files
from featmesh.apps import batch, batch_crew, batch_engine
from featmesh.apps.batch import BatchSummary, run_batch
from featmesh.apps.batch_config import BatchConfig
from featmesh.apps.batch_engine import PhotoEngine
from featmesh.apps.batch_manifest import read_manifest
from featmesh.apps.batch_parts import Parts
from featmesh.cli.main import execute
from featmesh.config import config_to_dict
from featmesh.errors import DatasetError, FeatmeshError, InputError
from featmesh.store import RunLock

ENGINE = "apps.batch_engines:Engine"
CONFIG = BatchConfig(model="m1", workers=2, part_rows=8)


def photos(folder: Path, *words: str) -> Path:
    """A manifest of as many "photos" as there are words."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, word in enumerate(words):
        (folder / f"{k:02d}.jpg").write_text(word, "utf-8")
    manifest = folder / "photos.txt"
    manifest.write_text("".join(f"{k:02d}.jpg\n" for k in range(len(words))), "utf-8")
    return manifest


def many(folder: Path, *others: str) -> Path:
    """30 photos, 10 % of them broken, one missing; then others."""
    manifest = photos(folder, *["broken" if k % 10 == 3 else "good" for k in range(30)], *others)
    (folder / "07.jpg").unlink()
    return manifest


def files(out: Path) -> dict[str, bytes]:
    """The bytes of every file of a batch."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "parts").iterdir()) for row in lines(path)]


def run(manifest: Path, out: Path, config: BatchConfig = CONFIG) -> BatchSummary:
    return run_batch(manifest, out, config, io.StringIO(), ENGINE)


def test_broken_photos_harm_only_themselves(tmp_path: Path) -> None:
    shown = io.StringIO()
    manifest = many(tmp_path / "in", "fault")
    summary = run_batch(manifest, tmp_path / "out", CONFIG, shown, ENGINE)
    assert summary.status == {"bad_input": 5, "ok": 26} and summary.photos == summary.done == 31
    assert summary.codes == {"E_IMG_FORMAT": 3, "E_INTERNAL": 1, "E_IO": 1}
    assert {*files(tmp_path / "out")} == {
        *("batch.json", "parts.json", "quarantine.jsonl"),
        *(f"parts/part-0000{k}.jsonl" for k in range(4)),
    }
    done = rows(tmp_path / "out")
    assert [row["row"] for row in done] == list(range(31))
    assert done[0] == {
        "row": 0,
        "image": "00.jpg",
        "status": "ok",
        "score": 1 / 3,
        "box": None,
        "heavy": False,
    }
    bad = lines(tmp_path / "out" / "quarantine.jsonl")
    codes = [(row["row"], row["image"], row["code"]) for row in bad]
    assert codes == [
        *((3, "03.jpg", "E_IMG_FORMAT"), (7, "07.jpg", "E_IO"), (13, "13.jpg", "E_IMG_FORMAT")),
        *((23, "23.jpg", "E_IMG_FORMAT"), (30, "30.jpg", "E_INTERNAL")),
    ]
    assert all("expected" in row["message"] and "try: " in row["message"] for row in bad)
    assert str(tmp_path) not in "".join(map(str, done))
    assert "31/31" in shown.getvalue() and "5 in quarantine" in shown.getvalue()


def test_killed_workers_are_replaced_and_change_nothing(tmp_path: Path) -> None:
    calm = run(many(tmp_path / "a", "good", "good"), tmp_path / "calm")
    hurt = run(many(tmp_path / "b", "deadly 1", "deadly 2"), tmp_path / "hurt")
    assert (calm.replaced, hurt.replaced) == (0, 3)
    assert files(tmp_path / "calm") == files(tmp_path / "hurt")


def test_of_300_photos_10_per_cent_broken_10_kills_lose_none(tmp_path: Path, monkeypatch) -> None:
    words = ["broken" if k % 10 == 3 else "good" for k in range(300)]
    manifest = photos(tmp_path / "in", *words)
    config = replace(CONFIG, part_rows=50)
    run(manifest, tmp_path / "calm", config)
    started, killed, begin, add = [], [], batch_crew._started, Parts.add
    monkeypatch.setattr(batch_crew, "_started", lambda: started.append(begin()) or started[-1])
    rng, count = np.random.default_rng(0), iter(range(1, 301))
    moments = {26 * k + int(rng.integers(2, 14)) for k in range(10)}

    def and_kill(self: Parts, row: dict[str, Any]) -> None:
        add(self, row)
        if next(count) in moments:
            killed.append(next(p for p in started if p.poll() is None and p not in killed))
            killed[-1].kill()

    monkeypatch.setattr(Parts, "add", and_kill)
    assert run(manifest, tmp_path / "hurt", config).replaced == 10
    assert files(tmp_path / "calm") == files(tmp_path / "hurt")
    bad = lines(tmp_path / "hurt" / "quarantine.jsonl")
    assert [(row["row"], row["code"]) for row in bad] == [
        (k, "E_IMG_FORMAT") for k in range(3, 300, 10)
    ]


def test_a_full_disk_and_a_second_run_leave_what_is_done(tmp_path: Path, monkeypatch) -> None:
    manifest, out = many(tmp_path / "in"), tmp_path / "out"
    run(manifest, tmp_path / "calm")
    write = store_files.write_synced

    def full(path: Path, data: bytes) -> None:
        if path.parent.name == "parts" and (out / "parts" / "part-00000.jsonl").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(store_files, "write_synced", full)
        with pytest.raises(FeatmeshError) as caught:
            run(manifest, out)
    assert caught.value.code == "E_DISK_FULL"
    assert {path.name for path in (out / "parts").iterdir()} == {"part-00000.jsonl"}
    with RunLock(out), pytest.raises(FeatmeshError) as caught:
        run(manifest, out)
    assert caught.value.code == "E_LOCKED"
    assert 1 <= run(manifest, out).done < 30 - 8
    assert files(out) == files(tmp_path / "calm")


def test_a_photo_that_kills_or_blocks_ends_in_quarantine(tmp_path: Path) -> None:
    config = replace(CONFIG, limit_s=2.0)
    shown = io.StringIO()
    manifest = photos(tmp_path / "in", "good", "deadly", "slow", "good")
    summary = run_batch(manifest, tmp_path / "out", config, shown, ENGINE)
    assert summary.codes == {"E_TIMEOUT": 1, "E_WORKER": 1} and summary.status["ok"] == 2
    dead, late = lines(tmp_path / "out" / "quarantine.jsonl")
    assert (dead["row"], dead["code"]) == (1, "E_WORKER") and "3 processes" in dead["message"]
    assert (late["row"], late["code"]) == (2, "E_TIMEOUT") and "within 2 s" in late["message"]
    told = shown.getvalue()
    assert told.count("it will be tried again") == 2 and told.count("it is given up") == 2


KILLED = """
import io, json, os, signal, sys
from featmesh.apps import batch
from featmesh.apps.batch_config import BatchConfig

def run(manifest, out, dies_at=None):
    count = 0
    class Parts(batch.Parts):
        def add(self, row):
            nonlocal count
            super().add(row)
            count += 1
            if count == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
    if dies_at is None:
        return batch.run_batch(manifest, out, config, io.StringIO(), engine)
    child = os.fork()
    if child == 0:
        batch.Parts = Parts
        batch.run_batch(manifest, out, config, io.StringIO(), engine)
    _, state = os.waitpid(child, 0)
    assert os.WTERMSIG(state) == signal.SIGKILL

engine, manifest, out = sys.argv[1:]
config = BatchConfig(model="m1", workers=2, part_rows=8)
for dies_at in (1, 5, 8, 9):
    run(manifest, out, dies_at)
with open(os.path.join(out, "unfinished.jsonl"), "a") as file:
    file.write('{"row": 29, "status": "o')
print(json.dumps(run(manifest, out).to_json()))
"""


def test_kill_9_at_any_moment_loses_no_row_and_the_bytes_are_equal(tmp_path: Path) -> None:
    manifest, out = many(tmp_path / "in"), tmp_path / "killed"
    run(manifest, tmp_path / "calm", replace(CONFIG, workers=1))
    paths = [str(Path(featmesh.__file__).parents[1]), str(Path(__file__).parents[1])]
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, ENGINE, str(manifest), str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout)
    assert summary["done"] == 30 - 1 - 5 - 8 - 9 and summary["photos"] == 30
    assert files(out) == files(tmp_path / "calm")


def test_ctrl_c_ends_the_run_which_goes_on_later(tmp_path: Path, monkeypatch) -> None:
    manifest, out = many(tmp_path / "in"), tmp_path / "out"
    run(manifest, tmp_path / "calm")
    kept: list[int] = []

    def add(self: Parts, row: dict[str, Any]) -> None:
        Parts.add(self, row)
        kept.append(row["row"])
        if len(kept) == 11:
            os.kill(os.getpid(), signal.SIGINT)

    # where tests run in the background of a shell, SIGINT is ignored from the start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(batch, "Parts", type("Interrupted", (Parts,), {"add": add}))
            with pytest.raises(KeyboardInterrupt):
                run(manifest, out)
    finally:
        signal.signal(signal.SIGINT, before)
    assert threading.active_count() == 1  # every reader of a process has ended with it
    assert run(manifest, out).done == 30 - 11
    assert files(out) == files(tmp_path / "calm")


def test_a_finished_batch_is_told_again_and_a_damaged_part_is_done_again(tmp_path: Path) -> None:
    manifest, out = many(tmp_path / "in"), tmp_path / "out"
    first = run(manifest, out)
    before = files(out)
    part = out / "parts" / "part-00001.jsonl"
    part.write_bytes(part.read_bytes()[:-30])
    again = run(manifest, out)
    assert again.done == 8 and files(out) == before
    assert (again.status, again.codes) == (first.status, first.codes)


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    manifest, out = photos(tmp_path / "in", "good", "good"), tmp_path / "out"
    run(manifest, out)
    before = files(out)
    for config, named in (
        (replace(CONFIG, model="m2"), "models"),
        (replace(CONFIG, part_rows=9), "part_rows"),
        (replace(CONFIG, limit_s=9.0), "limit_s"),
    ):
        with pytest.raises(InputError, match=f"another {named}; try: another --out") as caught:
            run(manifest, out, config)
        assert caught.value.code == "E_CONFIG"
    manifest.write_text("00.jpg\n", "utf-8")
    with pytest.raises(InputError, match="another manifest"):
        run(manifest, out)
    assert files(out) == before
    (out / "batch.json").unlink()
    with pytest.raises(InputError, match=r"parts without batch\.json"):
        run(manifest, out)


def test_what_makes_no_run_is_told(tmp_path: Path) -> None:
    manifest = photos(tmp_path / "in", "good")
    with pytest.raises(FeatmeshError, match="got 'absent'") as caught:
        run(manifest, tmp_path / "out", replace(CONFIG, model="absent"))
    assert caught.value.code == "E_CKPT_NAME"
    with pytest.raises(FeatmeshError, match="ended before their first photo") as caught:
        run(manifest, tmp_path / "out", replace(CONFIG, model="deadly"))
    assert caught.value.code == "E_WORKER"
    for wrong in ({"workers": -1}, {"limit_s": 0.0}, {"part_rows": 0}):
        with pytest.raises(InputError, match="E_CONFIG"):
            run(manifest, tmp_path / "out", replace(CONFIG, **wrong))
    for name, code in (("none.txt", "E_IO"), ("", "E_IO"), ("empty.txt", "E_DATA")):
        (tmp_path / "in" / "empty.txt").write_bytes(b"\n \n")
        with pytest.raises(DatasetError) as refusal:
            run(tmp_path / "in" / name, tmp_path / "out")
        assert refusal.value.code == code


def test_rows_are_kept_as_they_are_listed(tmp_path: Path) -> None:
    photos(tmp_path, "good", "good")
    records = [
        {"image": "01.jpg", "id": "b", "box": [1, 2, 3, 4]},
        {"image": "00.jpg", "id": 7, "note": "passed over"},
        {"image": "01.jpg", "id": "b"},
        {"image": "00.jpg", "box": [1, 2, 3]},
        {"image": 5},
        ["00.jpg"],
    ]
    text = "\n".join(json.dumps(record) for record in records) + '\n\n{"image": \n'
    manifest = tmp_path / "photos.jsonl"
    manifest.write_text(text, "utf-8")
    summary = run(manifest, tmp_path / "out")
    done = rows(tmp_path / "out")
    assert [row["image"] for row in done[:4]] == ["01.jpg", "00.jpg", "01.jpg", "00.jpg"]
    assert [row.get("id") for row in done] == ["b", 7, "b", None, None, None, None]
    assert done[0]["box"] == [1, 2, 3, 4] and done[2]["box"] is None
    assert summary.codes == {"E_VIEWS": 4} and summary.status["ok"] == 3
    assert "row 3 key 'box': expected four finite numbers" in done[3]["message"]


def test_a_manifest_is_text_or_a_views_file(tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xe9t\xe9.jpg")  # a name of another encoding
    text = b"\xef\xbb\xbfa b.jpg\r\n\n../x.jpg\n" + os.fsencode(odd) + b"\n/y/z.jpg"
    (tmp_path / "list").write_bytes(text)
    items = read_manifest(tmp_path / "list").items
    assert [item.told["image"] for item in items] == ["a b.jpg", "../x.jpg", odd, "/y/z.jpg"]
    assert items[0].record == {"path": str(tmp_path / "a b.jpg")}
    assert items[3].record == {"path": "/y/z.jpg"} and json.loads(json.dumps(odd)) == odd
    views = [{"image": "a.jpg", "width": 9, "height": 8, "box": [0, 0, 1, 1]}, {"image": "../b"}]
    (tmp_path / "views.json").write_text(json.dumps({"schema": 1, "views": views}), "utf-8")
    inside, outside = read_manifest(tmp_path / "views.json").items
    assert inside.record == {"path": str(tmp_path / "a.jpg"), **{k: views[0][k] for k in SIZED}}
    assert outside.fault is not None and outside.fault.code == "E_PATH"
    assert str(tmp_path) not in str(outside.fault)


SIZED = ("box", "width", "height")


@dataclass(frozen=True)
class Model:
    category: str = "car"
    hash: str = "0123"

    def shape_space(self, who: str) -> None:
        """It has shapes."""


def engine(monkeypatch, models: int = 1, **settings: Any) -> tuple[PhotoEngine, list[Any]]:
    """The engine of ``featmesh batch`` on models that find an object in every photo."""
    asked: list[Any] = []

    def estimate(model, photo, box, camera, task, search):
        asked.append((model, box, camera, task))
        return found(photo, maps=False)

    def opened(name: str) -> list[tuple[str, Model]]:
        return [(f"{name}{k}", Model()) for k in range(models)]

    monkeypatch.setattr(batch_engine, "asked_models", opened)
    monkeypatch.setattr(batch_engine, "estimate", estimate)
    return PhotoEngine(config_to_dict(BatchConfig(**settings))), asked


def test_the_engine_tells_what_result_json_tells_without_times(tmp_path: Path, monkeypatch) -> None:
    Image.fromarray(np.full((90, 120, 3), 100, np.uint8)).save(tmp_path / "a.png")
    worker, asked = engine(monkeypatch, task="shape")
    assert worker.card == {"models": [{"name": "car0", "hash": "0123"}]}
    K = [[150.0, 0, 60], [0, 150, 45], [0, 0, 1]]
    told = worker({"path": str(tmp_path / "a.png"), "box": [1, 2, 30, 40], "K": K, "width": 120})
    assert set(told) == {*("status", "width", "height", "camera", "warnings", "objects")}
    assert told["status"] == told["objects"][0]["status"] == "ok" and json.dumps(told)
    ((_, box, camera, task),) = asked
    assert (box, camera.fx, task) == ((1, 2, 30, 40), 150, "shape")


def test_of_several_models_the_best_tells(tmp_path: Path, monkeypatch, fake_module) -> None:
    def classify(models, photo, box, camera, search, task):
        return SimpleNamespace(estimate=replace(found(photo, maps=False), category="bus"))

    fake_module("featmesh.inference.classify", classify=classify)
    Image.fromarray(np.full((90, 120, 3), 100, np.uint8)).save(tmp_path / "a.png")
    worker, asked = engine(monkeypatch, models=2)
    told = worker({"path": str(tmp_path / "a.png")})
    assert told["objects"][0]["category"] == "bus" and not asked


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"path": "none.png"}, "E_IO"),
        ({"path": "text.png"}, "E_IMG_FORMAT"),
        ({"path": "a.png", "height": 91}, "E_VIEWS"),
        ({"path": "a.png", "K": [[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]]}, "E_CAMERA"),
    ],
)
def test_errors_of_the_engine_name_no_folder(tmp_path, monkeypatch, record, code) -> None:
    folder = tmp_path / "it's"
    folder.mkdir()
    Image.fromarray(np.full((90, 120, 3), 100, np.uint8)).save(folder / "a.png")
    (folder / "text.png").write_text("<html>", "utf-8")
    worker, _ = engine(monkeypatch)
    with pytest.raises(InputError) as caught:
        worker(record | {"path": str(folder / record["path"])})
    assert caught.value.code == code and "try: " in str(caught.value)
    assert tmp_path.name not in str(caught.value) and not str(caught.value).startswith(code * 2)


def test_the_verb_tells_a_summary(tmp_path: Path, monkeypatch, capsys) -> None:
    asked: list[Any] = []
    codes = {"E_IO": 1}

    def fake(manifest, out, config):
        asked.append((manifest, out, config))
        return BatchSummary(out, 2, {"bad_input": 1, "ok": 1}, codes, 2, 0, 4.0)

    monkeypatch.setattr(batch, "run_batch", fake)
    words = ["batch", "photos.txt", "--out", "o", "--model", "bus", "--workers", "3"]
    assert execute([*words, "--limit-s", "9", "--search.refine.steps", "7"]) == 0
    ((manifest, out, config),) = asked
    assert (manifest, out, config.model, config.workers) == (
        Path("photos.txt"),
        Path("o"),
        "bus",
        3,
    )
    assert (config.limit_s, config.search.refine.steps) == (9, 7)
    told = capsys.readouterr().out
    assert "2 photos: 1 bad_input, 1 ok" in told and "0.50 photos/s" in told and "1 E_IO" in told
    codes["E_IO"] = 2
    assert execute([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["photos_per_second"] == 0.5
