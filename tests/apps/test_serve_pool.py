import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featmesh.apps.serve_pool import Pool, PoolLimits
from featmesh.errors import FeatmeshError

from .serving import ENGINE


def pool(model: str = "car", **limits: float) -> Pool:
    told = {"count": 1, "limit_s": 20.0, "recycle_after": 100, "memory_bytes": 2e9} | limits
    return Pool(ENGINE, {"model": model}, PoolLimits(**told))


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., dict]:
    """Return a function that makes a request's record."""
    count = iter(range(1000))

    def record(word: str) -> dict:
        folder = tmp_path / f"{next(count)}"
        folder.mkdir()
        (folder / "photo").write_text(word, "utf-8")
        return {"folder": str(folder), "name": word, "format": "json"}

    return record


def process(result: dict) -> int:
    return result["document"]["process"]


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_is_replaced_after_so_many_photos(ask) -> None:
    with pool(recycle_after=3) as crew:
        ids = []
        for _ in range(8):
            ids.append(process(crew.submit(ask("wait 0.05")).result(10)))
        until(lambda: crew.replaced["recycled"] >= 1 and crew.ready == 1)
        assert len(set(ids[:3])) == 1
        assert process(crew.submit(ask("good")).result(10)) != ids[0]
        assert crew.replaced["died"] == crew.replaced["late"] == 0


def test_a_process_that_grew_is_replaced_at_once(ask) -> None:
    with pool() as crew:
        fat = process(crew.submit(ask("fat")).result(10))
        assert process(crew.submit(ask("good")).result(10)) != fat
        assert crew.replaced == {"died": 0, "late": 0, "recycled": 0, "memory": 1}
        assert crew.bytes == 1_000_000


def test_what_waits_can_be_taken_back(ask) -> None:
    with pool() as crew:
        first, second = crew.submit(ask("wait 0.5")), crew.submit(ask("wait 60"))
        until(lambda: crew.waiting == 1)
        assert second.cancel()
        third = crew.submit(ask("good"))
        assert first.result(10) and third.result(10)
        assert crew.waiting == 0


def test_several_work_at_a_time(ask) -> None:
    with pool(count=2) as crew:
        until(lambda: crew.ready == 2)
        results = [crew.submit(ask("wait 0.3")) for _ in range(2)]
        assert len({process(result.result(10)) for result in results}) == 2


def test_the_end_leaves_nobody_waiting(ask) -> None:
    with pool() as crew:
        results = [crew.submit(ask("wait 60")) for _ in range(3)]
        until(lambda: crew.waiting == 2)
    for result in results:
        error = result.exception(0)
        assert isinstance(error, FeatmeshError) and error.code == "E_STOPPED"
    assert not [t for t in threading.enumerate() if t.name == "pool"]


def test_where_no_process_starts_any_more(ask, tmp_path: Path) -> None:
    with pool(str(tmp_path / "started")) as crew:
        result = crew.submit(ask("deadly")).exception(20)
        assert isinstance(result, FeatmeshError) and result.code == "E_WORKER"
        assert crew.ready == 0


def test_a_first_process_that_never_starts(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    marker.write_text("", "utf-8")
    with pytest.raises(FeatmeshError, match="processes that start") as caught, pool(str(marker)):
        pass
    assert caught.value.code == "E_WORKER"
