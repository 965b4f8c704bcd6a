"""Rows 23 to 36 of docs/reliability.md, checkpoints, training, batch: what no other test claims."""

import ast
import errno
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from fixtures import Pixels, car_mesh, car_views
from reliability.sources import nodes, users
from torch import Tensor, nn
from torch.nn import functional

from featmesh import store
from featmesh.apps.batch_worker import answer
from featmesh.cli.exits import is_disk_full
from featmesh.errors import DatasetError, FeatmeshError
from featmesh.learn import session
from featmesh.learn.config import TrainConfig
from featmesh.learn.data import Batch, TrainData, draw_batch, load_data
from featmesh.learn.trainer import TrainState, run, train_step
from featmesh.model.backbones import Backbone
from featmesh.model.config import ModelConfig
from featmesh.store import Steps

MODEL = ModelConfig(channels=8, crop_height=64, crop_width=96, clutter_centres=4)


class Colours(nn.Module):
    """A head that sees the mean colour of a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(3, MODEL.channels, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return unit features."""
        cells = functional.avg_pool2d(maps[0], 8)
        return functional.normalize(self.out(cells), dim=1, eps=1e-6)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("views")
    car_views(folder, 6)
    return TrainConfig(
        views=(str(folder / "views.json"),),
        out=str(folder / "run"),
        epochs=1,
        samples_per_epoch=12,
        batch=2,
        anchors_per_view=16,
        clutter_queue=16,
        model=MODEL,
    )


@pytest.fixture(scope="module")
def data(config: TrainConfig) -> TrainData:
    return load_data(config, car_mesh())


def begin(config: TrainConfig) -> TrainState:
    """A run of six steps before its first."""
    torch.manual_seed(0)
    return TrainState(config, car_mesh(), Backbone(Pixels(), Colours(), config.model))


def go_on(state: TrainState, data: TrainData, **options: Any) -> bool:
    """Train to the end; the third place of ``run`` is asked after each step."""
    each: Callable[..., None] = options.pop("on_step", lambda report: None)
    return run(state, data, each, lambda epoch, accuracy: None, **options)


@pytest.fixture(scope="module")
def whole(config: TrainConfig, data: TrainData) -> dict[str, Tensor]:
    """The last state of an undisturbed run."""
    state = begin(config)
    assert go_on(state, data)
    return state.tensors()


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]


def test_row_23_pickles_reach_only_two_readers_that_build_plain_data() -> None:
    assert users("torch.load") == {"model/foreign.py"}
    assert users("pickle") == {"model/foreign.py", "views/readers/imagenet3d.py"}
    for other in ("dill", "joblib", "cloudpickle", "shelve", "marshal"):
        assert not users(other)
    calls = [
        ast.unparse(node)
        for node in nodes()["model/foreign.py"]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert len(calls) == 1 and "weights_only=True" in calls[0]


def test_row_26_nothing_reads_yaml() -> None:
    assert not users("yaml") and users("json")


def test_row_27_a_disk_that_fills_up_ends_a_training_that_goes_on_later(
    config: TrainConfig, data: TrainData, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, write = Steps(tmp_path), store.write_synced

    def save(report: Any) -> None:
        session.save(state, steps)

    def full(path: Path, content: bytes) -> None:
        if state.step == 4:
            write(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    state = begin(config)
    with monkeypatch.context() as patch, pytest.raises(FeatmeshError) as caught:
        patch.setattr(store, "write_synced", full)
        go_on(state, data, on_step=save)
    assert caught.value.code == "E_DISK_FULL" and is_disk_full(caught.value)  # exit code 75
    assert str(tmp_path / "step-000004") in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000002", "step-000003"]
    state = begin(config)
    session.resume(state, Steps(tmp_path))
    assert state.step == 3
    assert go_on(state, data, on_step=save)
    assert_same(state.tensors(), whole)


def test_row_27_a_training_waits_for_room_and_tells_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    told: list[str] = []
    tries, write = [0], store.write_synced

    def full(path: Path, content: bytes) -> None:
        tries[0] += 1
        if tries[0] < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(store, "write_synced", full)
    monkeypatch.setattr(store.time, "sleep", slept.append)
    steps = Steps(tmp_path, told.append, waits=store.WAITS)
    steps.save(1, {"w": torch.ones(3)}, {})
    assert slept == [5, 30] and len(told) == 2
    assert "E_DISK_FULL" in told[1] and "tried again in 30 s" in told[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000001"]
    tries[0] = -100
    with pytest.raises(FeatmeshError, match="E_DISK_FULL"):
        steps.save(2, {"w": torch.ones(3)}, {})
    assert slept == [5, 30, 5, 30, 120]
    assert steps.latest()[0] == 1


def test_row_27_every_training_waits() -> None:
    made = [
        ast.unparse(node)
        for path, found in nodes().items()
        if path.startswith("learn/")
        for node in found
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Steps"
    ]
    assert len(made) == 3 and all("waits=WAITS" in call for call in made)


def test_row_30_a_second_ctrl_c_acts_at_once() -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = signal.getsignal(number)
        with session.stoppable() as stopped:
            signal.raise_signal(number)
            assert stopped == [code]  # the first is a wish, for the end of the step
            with pytest.raises(SystemExit) as caught:
                signal.raise_signal(number)
        assert caught.value.code == code
        assert signal.getsignal(number) is before


def test_row_31_a_photo_that_needs_too_much_memory_stops_no_batch() -> None:
    class Engine:
        card: ClassVar[dict[str, Any]] = {}

        def __call__(self, record: Any) -> dict[str, Any]:
            if record["large"]:
                raise MemoryError("cannot allocate 9 GB")
            return {"status": "ok"}

    told = [answer(Engine(), {"large": large}) for large in (True, False)]
    assert (told[0]["status"], told[0]["code"]) == ("bad_input", "E_INTERNAL")
    assert "MemoryError" in told[0]["message"]
    assert told[1] == {"status": "ok"}


def test_row_32_a_run_whose_batch_failed_goes_on_with_the_same_batch(
    config: TrainConfig, data: TrainData, whole
) -> None:
    def broken(data: TrainData, config: TrainConfig, step: int) -> Batch:
        if step == 3:
            raise DatasetError("E_DATA", "train: expected a picture that can be read, got x.png")
        return draw_batch(data, config, step)

    state = begin(config)
    with pytest.raises(DatasetError, match=r"x\.png"):
        go_on(state, data, draw=broken)
    assert state.step == 3
    assert go_on(state, data)
    assert_same(state.tensors(), whole)


def views_of(config: TrainConfig, repeats: int, **changes: str) -> Path:
    """The views file again, each record many times; some photos have other names."""
    source = Path(config.views[0])
    rows = json.loads(source.read_text("utf-8"))["views"] * repeats
    rows = [dict(row) for row in rows]
    for k, name in changes.items():
        rows[int(k.strip("_"))]["image"] = name
    path = source.with_name(f"{repeats}.json")
    path.write_text(json.dumps({"schema": 1, "views": rows}), "utf-8")
    return path


def test_row_33_few_photos_that_are_missing_or_none_are_left_out_and_told(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(config.views[0]).parent / "page.png").write_text("<html>")
    found = load_data(of_views(config, views_of(config, 17, _7="page.png")), car_mesh())
    assert sum(map(len, found.groups)) + len(found.held_out) == 101
    assert "1 of 102 left out, no photo: page.png" in capsys.readouterr().err
    path = views_of(config, 17, _7="page.png", _100="gone.png")
    with pytest.raises(DatasetError, match=r"got 2 of 102 missing or unreadable") as caught:
        load_data(of_views(config, path), car_mesh())
    assert caught.value.code == "E_DATA"


def of_views(config: TrainConfig, path: Path) -> TrainConfig:
    """The configuration with another views file."""
    return replace(config, views=(str(path),))


def test_row_33_a_photo_that_is_cut_short_is_named(config: TrainConfig, tmp_path: Path) -> None:
    car_views(tmp_path, 1)
    whole = (tmp_path / "000.png").read_bytes()
    data = load_data(of_views(config, tmp_path / "views.json"), car_mesh())
    (tmp_path / "000.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"expected a picture .* got .*000\.png") as caught:
        draw_batch(data, config, 0)
    assert caught.value.code == "E_DATA"


def test_row_36_a_gradient_that_is_not_finite_changes_no_weight(
    config: TrainConfig, data: TrainData
) -> None:
    state = begin(config)
    train_step(state, data, draw_batch(data, config, 0))
    before = {name: t.clone() for name, t in state.tensors().items()}
    weight = state.backbone.head.out.weight
    hook = weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(FeatmeshError, match="finite gradient, got inf at step 1") as caught:
        train_step(state, data, draw_batch(data, config, 1))
    assert caught.value.code == "E_NONFINITE"
    assert state.step == 1
    assert_same(state.tensors(), before)
    hook.remove()
    train_step(state, data, draw_batch(data, config, 1))
    assert state.step == 2 and bool(weight.isfinite().all())
